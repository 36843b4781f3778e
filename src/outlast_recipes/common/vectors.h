// Vectors of floats as wide as the processor's, for the C sources of this package (see native.py). A source is compiled
// with what a processor has beyond these, as operations on types of GCC and clang.

#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define PANEL 4 // vectors of a tile of a product: with 6 rows 24 of 32 registers
#elif defined(__AVX2__)
#define LANES 8
#define PANEL 2
#else
#define LANES 4
#define PANEL 4
#endif
#define TILE 6 // rows of a tile of a product
#define INSIDE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); // anywhere in memory

INSIDE vec load(const float *from) { return *(const loose *)from; }
INSIDE void store(float *to, vec value) { *(loose *)to = value; }
INSIDE vec all(float value) { return value - (vec){0}; }
INSIDE vec size_of(vec x) { return (vec)((ints)x & 0x7fffffff); }
INSIDE vec with_sign_of(vec size, vec x) { return (vec)((ints)size | ((ints)x & (int)0x80000000)); }

INSIDE vec inverse(vec x) {
#if defined(__AVX512F__)
    vec guess = (vec)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

INSIDE vec either(ints where, vec a, vec b) { return (vec)((where & (ints)a) | (~where & (ints)b)); }

// Where x is not a number, it stays so.
INSIDE vec smaller(vec x, vec than) {
#if defined(__AVX512F__)
    return (vec)_mm512_min_ps((__m512)than, (__m512)x);
#else
    return either(x > than, than, x);
#endif
}

INSIDE vec larger(vec x, vec than) { return -smaller(-x, -than); }

// 2 to the power of x times `by`, from -126 to 127.
INSIDE vec power_of_two(vec x, float by) {
    vec whole = x * by + 12582912.0f; // the whole number of the exponent is in the last bits
    vec rest = x * by - (whole - 12582912.0f);
    vec power = rest * 1.5403530e-4f + 1.3333558e-3f; // ln(2)^n / n!
    power = power * rest + 9.6181291e-3f;
    power = power * rest + 5.5504109e-2f;
    power = power * rest + 2.4022651e-1f;
    power = power * rest + 6.9314718e-1f;
    power = power * rest + 1.0f;
    return (vec)((ints)power + ((ints)whole << 23));
}
