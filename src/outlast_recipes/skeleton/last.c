// A block of LAST on a CPU: the passes between its norms, each over bodies that lie one behind the other.
//
// Tensors are rows of channels: body, frame, joint, channel. A pass reads and writes each number of its large tensors
// once, in chunks that stay in the cache of a core; norms, GELUs, shifts and routings are computed again where they are
// needed, which takes less time than reading them from memory. Sums are added up in one order, so that a pass gives the
// same bits whatever thread computes it. Channels are multiples of 16.

#include <string.h>

#include "vectors.h"

#define CHUNK 96 // rows that are worked on while they are in the cache

enum { KEY = 8, TIME_HEADS = 4 }; // numbers of a key, of routes as of attention over time
enum { JOINED, WIDENED, IN_TIME, NARROWED, AROUND, NORMS };

struct norm {
    const float *scale, *shift;           // the norm is x * scale + shift
    const float *mean, *inverse;          // of the batch, for the way back
    const float *level, *slope;           // its input's gradient is level + x * slope + gradient * scale
    float *means, *variances;             // of each piece, (pieces, channels)
    float *of_weight, *of_bias;           // gradients of each piece, (pieces, channels)
};

struct block {
    long frames, after, stride, joints, channels, out_channels, heads; // "after" are the frames behind the stride
    const float *x, *place, *routes, *taps; // routes (N, heads, V, V) or NULL, taps (9, C) or NULL
    const float *along;                     // (5, 2 C)
    const float *joined, *widen, *narrow, *down;    // 1x1 convolutions as panels of their transposes; down or NULL
    const float *joined_back, *widen_back, *narrow_back, *down_back; // as panels of themselves
    const float *kept_joints, *kept_time;           // what a body's branch is multiplied by, (N) or NULL
    struct norm norms[NORMS];
    float *first, *second, *third, *fourth, *side, *out; // before the norms; and the end
    float *over_frames, *over_joints;                    // the end's means, (N, V, D) and (N, frames, D), or NULL
    const float *gradient, *of_frames, *of_joints;       // of the end, and of its means or NULL
    float *given;                                        // all of the end's gradient
    float *before_third, *before_second, *before_first, *through, *towards; // gradients behind norms; of x
    float *of_joined, *of_widen, *of_narrow, *of_down, *of_along, *of_taps, *of_place; // each piece's, zeros at first
    float *of_routes; // (N, heads, V, V)
    // Of inference. Joints: what all bodies are routed by (heads, V, V) or NULL; what it depends on the body by, or NULL.
    const float *matrices, *strength;      // (heads)
    const float *pooled;                   // x's mean over frames, (N, V, C)
    const float *queries, *queries_shift;  // panels (C, 2 heads KEY), queries first; (V, 2 heads KEY)
    // Attention over time, or NULL. Its layer norm's weight and bias are in `inside`, its scale is in `outside`.
    const float *inside, *inside_shift;    // panels (D, 3 TIME_HEADS KEY); (3 TIME_HEADS KEY)
    const float *apart;                    // (TIME_HEADS, frames, whole(frames)), far below zero behind the frames
    const float *outside, *outside_shift;  // panels (TIME_HEADS KEY, D); (D)
    const float *eps;                      // of the layer norm, one number
};

// The normal distribution and its density without 1 / sqrt(2 pi). What is above |x| is density times a polynomial in
// 1 / (1 + 0.24 |x|), as in Abramowitz and Stegun 7.1.26, with two more terms: fitted to 3e-10, so floats decide.
INSIDE vec normal(vec x, vec *bell) {
    vec size = smaller(size_of(x), all(13.0f));
    *bell = power_of_two(size * size, -0.72134752f);
    vec t = inverse(size * 0.24f + 1.0f);
    vec tail = t * -0.125085964f + 0.554575115f;
    tail = tail * t - 0.646073092f;
    tail = tail * t + 0.625592919f;
    tail = tail * t - 0.154050455f;
    tail = tail * t + 0.155514113f;
    tail = tail * t + 0.0895273632f;
    return with_sign_of(0.5f - tail * t * *bell, x) + 0.5f;
}

INSIDE vec gelu(vec x) {
    vec bell;
    return x * normal(x, &bell);
}

// Products of matrices. A factor on the right lies in panels: PANEL * LANES columns of all rows, then the next ones.

long panel(void) { return PANEL * LANES; }

// Memory that is read next. It is asked for while a product is computed, which leaves the way to the memory idle.
struct ahead {
    const float *at[4];
    long left[4]; // numbers
};

// Numbers for one tile to ask for, 16 at a step; past the last ones nothing is harmed.
INSIDE const float *asked_for(struct ahead *ahead, long depth) {
    for (int k = 0; ahead && k < 4; k++) {
        if (ahead->left[k] <= 0) continue;
        const float *found = ahead->at[k];
        ahead->at[k] += 16 * depth, ahead->left[k] -= 16 * depth;
        return found;
    }
    return 0;
}

INSIDE void tile(int rows, int vectors, long depth, const float *a, long row, long step, const float *b, float *out,
                 long width, int add, struct ahead *ahead) {
    const float *next = asked_for(ahead, depth);
    long further = next ? 16 : 0;
    if (!next) next = b;
    vec sums[TILE][PANEL];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < depth; k++, a += step, b += vectors * LANES) {
        vec right[PANEL];
        __builtin_prefetch(next, 0, 2);
        next += further;
        UNROLL for (int j = 0; j < vectors; j++) right[j] = load(b + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            vec left = all(a[i * row]);
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] += left * right[j];
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) {
        float *to = out + i * width + j * LANES;
        store(to, add ? load(to) + sums[i][j] : sums[i][j]);
    }
}

#define ROWS_OF(n, vectors) case n: tile(n, vectors, depth, a, row, step, b, out, width, add, ahead); break;
#define TILES_OF(vectors) \
    static void tiles_##vectors(long rows, long depth, const float *a, long row, long step, const float *b, \
                                float *out, long width, int add, struct ahead *ahead) { \
        for (; rows >= TILE; rows -= TILE, a += TILE * row, out += TILE * width) \
            tile(TILE, vectors, depth, a, row, step, b, out, width, add, ahead); \
        switch (rows) { \
            ROWS_OF(1, vectors) ROWS_OF(2, vectors) ROWS_OF(3, vectors) ROWS_OF(4, vectors) ROWS_OF(5, vectors) \
        } \
    }
TILES_OF(1)
TILES_OF(2)
#if PANEL == 4
TILES_OF(3)
TILES_OF(4)
#endif

// out (rows, width) = a (rows, depth) b (depth, width), or that is added to it. a's rows are `row` apart, its columns
// `step`.
static void product(long rows, long width, long depth, const float *a, long row, long step, const float *b, float *out,
                    int add, struct ahead *ahead) {
    for (long left = 0; left < width; left += PANEL * LANES) {
        long vectors = (width - left) / LANES < PANEL ? (width - left) / LANES : PANEL;
        const float *own = b + left * depth;
        switch (vectors) {
        case 1: tiles_1(rows, depth, a, row, step, own, out + left, width, add, ahead); break;
        case 2: tiles_2(rows, depth, a, row, step, own, out + left, width, add, ahead); break;
#if PANEL == 4
        case 3: tiles_3(rows, depth, a, row, step, own, out + left, width, add, ahead); break;
        case 4: tiles_4(rows, depth, a, row, step, own, out + left, width, add, ahead); break;
#endif
        }
    }
}

static void in_panels(long rows, long width, const float *from, float *to) {
    for (long left = 0; left < width; left += PANEL * LANES) {
        long own = width - left < PANEL * LANES ? width - left : PANEL * LANES;
        for (long i = 0; i < rows; i++)
            for (long c = 0; c < own; c += LANES, to += LANES) store(to, load(from + i * width + left + c));
    }
}

// of_weight (out, in) += gradient^T (out, rows) x (rows, in)
static void of_weight(long rows, long out, long in, const float *gradient, const float *x, float *found, float *work,
                      struct ahead *ahead) {
    for (long at = 0; at < rows; at += CHUNK) {
        long count = rows - at < CHUNK ? rows - at : CHUNK;
        in_panels(count, in, x + at * in, work);
        product(out, in, count, gradient + at * out, 1, out, work, found, 1, ahead);
    }
}

// Norms. What is summed over a piece: floats in a chunk, doubles from chunk to chunk.

struct moments {
    long count, width;
    double *sums, *squares; // of what a channel's numbers are above its first one
    float *pivot;
};

static struct moments moments(long width, float *work) {
    struct moments found = {0, width, (double *)work, (double *)work + width, work + 4 * width};
    memset(work, 0, 4 * width * sizeof(float));
    return found;
}

static void look(struct moments *now, const float *x, long rows) {
    long width = now->width;
    if (!now->count) memcpy(now->pivot, x, width * sizeof(float));
    now->count += rows;
    for (long at = 0; at < rows; at += CHUNK) {
        long end = at + CHUNK < rows ? at + CHUNK : rows;
        for (long c = 0; c < width; c += LANES) {
            vec pivot = load(now->pivot + c), sum = {0}, square = {0};
            for (long i = at; i < end; i++) {
                vec above = load(x + i * width + c) - pivot;
                sum += above;
                square += above * above;
            }
            for (int l = 0; l < LANES; l++) now->sums[c + l] += sum[l], now->squares[c + l] += square[l];
        }
    }
}

static void write_moments(const struct moments *now, const struct norm *norm, long piece) {
    for (long c = 0; c < now->width; c++) {
        double above = now->sums[c] / now->count, variance = now->squares[c] / now->count - above * above;
        norm->means[piece * now->width + c] = now->pivot[c] + above;
        norm->variances[piece * now->width + c] = variance > 0 ? variance : 0;
    }
}

// Sums for the gradients of a norm's weight and bias.
static void slope(struct moments *now, const struct norm *norm, const float *gradient, const float *x, float kept,
                  long rows) {
    long width = now->width;
    now->count += rows;
    for (long at = 0; at < rows; at += CHUNK) {
        long end = at + CHUNK < rows ? at + CHUNK : rows;
        for (long c = 0; c < width; c += LANES) {
            vec mean = load(norm->mean + c), sum = {0}, along = {0};
            for (long i = at; i < end; i++) {
                vec own = load(gradient + i * width + c);
                sum += own;
                along += own * (load(x + i * width + c) - mean);
            }
            sum *= kept, along *= load(norm->inverse + c) * kept;
            for (int l = 0; l < LANES; l++) now->sums[c + l] += sum[l], now->squares[c + l] += along[l];
        }
    }
}

static void write_slope(const struct moments *now, const struct norm *norm, long piece) {
    for (long c = 0; c < now->width; c++) {
        norm->of_bias[piece * now->width + c] = now->sums[c];
        norm->of_weight[piece * now->width + c] = now->squares[c];
    }
}

// The norm and its GELU of rows; where `steep` is given the GELU's slope, too.
static void active(const struct norm *norm, long width, long rows, const float *x, float *out, float *steep) {
    for (long i = 0; i < rows * width; i += width)
        for (long c = 0; c < width; c += LANES) {
            vec normed = load(x + i + c) * load(norm->scale + c) + load(norm->shift + c), bell;
            vec below = normal(normed, &bell);
            store(out + i + c, normed * below);
            if (steep) store(steep + i + c, below + normed * bell * 0.39894228f);
        }
}

// The gradient of a norm's input from that of its output.
static void before_norm(const struct norm *norm, long width, long rows, const float *gradient, const float *x,
                        float kept, float *out) {
    for (long i = 0; i < rows * width; i += width)
        for (long c = 0; c < width; c += LANES) {
            vec own = load(gradient + i + c) * kept * load(norm->scale + c) + load(norm->level + c);
            store(out + i + c, load(x + i + c) * load(norm->slope + c) + own);
        }
}

static void multiply(float *x, const float *by, long numbers) {
    for (long i = 0; i < numbers; i += LANES) store(x + i, load(x + i) * load(by + i));
}

static void add(float *x, const float *by, long numbers) {
    for (long i = 0; i < numbers; i += LANES) store(x + i, load(x + i) + load(by + i));
}

// Convolutions over frames, each channel by itself: sums of frames times taps.

struct terms {
    int count, tap[9];
    const float *frame[9];
};

INSIDE void summed(int count, const struct terms *terms, const float *taps, long numbers, long width, float *out,
                   int add) {
    for (long i = 0; i < numbers; i += width)
        for (long c = 0; c < width; c += LANES) {
            vec sum = add ? load(out + i + c) : (vec){0};
            UNROLL for (int k = 0; k < count; k++)
                sum += load(taps + terms->tap[k] * width + c) * load(terms->frame[k] + i + c);
            store(out + i + c, sum);
        }
}

static void sum_terms(const struct terms *terms, const float *taps, long numbers, long width, float *out, int add) {
    switch (terms->count) {
    case 0: summed(0, terms, taps, numbers, width, out, add); break;
    case 1: summed(1, terms, taps, numbers, width, out, add); break;
    case 2: summed(2, terms, taps, numbers, width, out, add); break;
    case 3: summed(3, terms, taps, numbers, width, out, add); break;
    case 4: summed(4, terms, taps, numbers, width, out, add); break;
    case 5: summed(5, terms, taps, numbers, width, out, add); break;
    case 6: summed(6, terms, taps, numbers, width, out, add); break;
    case 7: summed(7, terms, taps, numbers, width, out, add); break;
    case 8: summed(8, terms, taps, numbers, width, out, add); break;
    case 9: summed(9, terms, taps, numbers, width, out, add); break;
    }
}

struct convolution {
    long frames, after, stride, reach, joints, width;
    int ends; // whether the ends are repeated; zeros otherwise
    const float *taps;
};

// The frame that a tap of a frame reads; -1 for a zero.
INSIDE long read_by(const struct convolution *own, long frame, long tap) {
    long at = frame * own->stride + tap - own->reach;
    if (at < 0) return own->ends ? 0 : -1;
    if (at >= own->frames) return own->ends ? own->frames - 1 : -1;
    return at;
}

// Numbers of a few joints behind this one: few enough that all frames that a tap reads stay in the fastest cache.
INSIDE long few_joints(const struct convolution *own, long from) {
    long numbers = 5 * own->width, left = own->joints * own->width - from;
    return numbers < left ? numbers : left;
}

static void convolve(const struct convolution *own, const float *x, float *out) {
    long frame = own->joints * own->width;
    for (long from = 0, numbers; from < frame; from += numbers) {
        numbers = few_joints(own, from);
        for (long t = 0; t < own->after; t++) {
            struct terms terms = {0};
            for (long k = 0; k <= 2 * own->reach; k++) {
                long at = read_by(own, t, k);
                if (at < 0) continue;
                terms.tap[terms.count] = k;
                terms.frame[terms.count++] = x + at * frame + from;
            }
            sum_terms(&terms, own->taps, numbers, own->width, out + t * frame + from, 0);
        }
    }
}

static void convolve_back(const struct convolution *own, const float *gradient, float *out) {
    long frame = own->joints * own->width;
    for (long from = 0, numbers; from < frame; from += numbers) {
        numbers = few_joints(own, from);
        for (long s = 0; s < own->frames; s++) {
            struct terms terms = {0};
            float *to = out + s * frame + from;
            int more = 0;
            long first = s - own->reach + own->stride - 1 < 0 ? 0 : (s - own->reach + own->stride - 1) / own->stride;
            for (long t = first; t < own->after && t * own->stride <= s + own->reach; t++)
                for (long k = 0; k <= 2 * own->reach; k++) {
                    if (read_by(own, t, k) != s) continue;
                    if (terms.count == 9) { // an end that is repeated is read by more
                        sum_terms(&terms, own->taps, numbers, own->width, to, more);
                        terms.count = 0, more = 1;
                    }
                    terms.tap[terms.count] = k;
                    terms.frame[terms.count++] = gradient + t * frame + from;
                }
            if (terms.count || !more) sum_terms(&terms, own->taps, numbers, own->width, to, more);
        }
    }
}

INSIDE void of_taps(const struct convolution *own, int count, const float *gradient, const float *x, float *found) {
    long frame = own->joints * own->width, width = own->width;
    for (long from = 0, numbers; from < frame; from += numbers) {
        numbers = few_joints(own, from);
        for (long t = 0; t < own->after; t++) {
            const float *given = gradient + t * frame + from, *frames[9];
            int all_there = 1;
            for (int k = 0; k < count; k++) {
                long at = read_by(own, t, k);
                frames[k] = at < 0 ? 0 : x + at * frame + from;
                all_there &= at >= 0;
            }
            for (long c = 0; c < width; c += LANES) {
                vec sums[9];
                UNROLL for (int k = 0; k < count; k++) sums[k] = load(found + k * width + c);
                if (all_there) {
                    for (long i = c; i < numbers; i += width) {
                        vec now = load(given + i);
                        UNROLL for (int k = 0; k < count; k++) sums[k] += now * load(frames[k] + i);
                    }
                } else {
                    UNROLL for (int k = 0; k < count; k++)
                        for (long i = c; frames[k] && i < numbers; i += width)
                            sums[k] += load(given + i) * load(frames[k] + i);
                }
                UNROLL for (int k = 0; k < count; k++) store(found + k * width + c, sums[k]);
            }
        }
    }
}

// Routing: every head mixes joints by its matrix.

// The matrices (heads, V, V) for each channel: (C / LANES, from, to, LANES).
static void spread(const struct block *own, const float *routes, int back, float *out) {
    long joints = own->joints, each = own->channels / own->heads;
    for (long c = 0; c < own->channels; c += LANES) {
        long first = c / each, count = (c + LANES - 1) / each - first; // heads behind the first one of these channels
        ints of_head[LANES];
        for (long h = 0; h < count; h++)
            for (long l = 0; l < LANES; l++) of_head[h][l] = (c + l) / each == first + h + 1 ? -1 : 0;
        for (long from = 0; from < joints; from++)
            for (long to = 0; to < joints; to++, out += LANES) {
                const float *route = routes + first * joints * joints + (back ? from * joints + to : to * joints + from);
                vec found = all(*route);
                for (long h = 0; h < count; h++)
                    found = either(of_head[h], all(route[(h + 1) * joints * joints]), found);
                store(out, found);
            }
    }
}

INSIDE void mix_tile(int frames, int to, long joints, long width, const float *routes, const float *x, float *out) {
    vec sums[4][5];
    UNROLL for (int t = 0; t < frames; t++) UNROLL for (int j = 0; j < to; j++) sums[t][j] = (vec){0};
    for (long from = 0; from < joints; from++, routes += joints * LANES, x += width) {
        vec own[4];
        UNROLL for (int t = 0; t < frames; t++) own[t] = load(x + t * joints * width);
        UNROLL for (int j = 0; j < to; j++) {
            vec route = load(routes + j * LANES);
            UNROLL for (int t = 0; t < frames; t++) sums[t][j] += route * own[t];
        }
    }
    UNROLL for (int t = 0; t < frames; t++)
        UNROLL for (int j = 0; j < to; j++) store(out + (t * joints + j) * width, sums[t][j]);
}

static void mix(const struct block *own, const float *routes, const float *x, float *out) {
    long joints = own->joints, width = own->channels, frame = joints * width;
    for (long c = 0; c < width; c += LANES, routes += joints * joints * LANES)
        for (long t = 0; t < own->frames;) {
            int frames = own->frames - t >= 4 ? 4 : 1;
            const float *from = x + t * frame + c;
            for (long j = 0; j < joints;) {
                int to = joints - j >= 5 ? 5 : 1;
                float *end = out + t * frame + j * width + c;
                const float *these = routes + j * LANES;
                if (frames == 4 && to == 5) mix_tile(4, 5, joints, width, these, from, end);
                else if (frames == 4) mix_tile(4, 1, joints, width, these, from, end);
                else if (to == 5) mix_tile(1, 5, joints, width, these, from, end);
                else mix_tile(1, 1, joints, width, these, from, end);
                j += to;
            }
            t += frames;
        }
}

INSIDE void route_tile(int to, int from, const struct block *own, const float *gradient, const float *x, long channel,
                       float *found) {
    long joints = own->joints, width = own->channels, each = width / own->heads;
    vec sums[5][5];
    UNROLL for (int i = 0; i < to; i++) UNROLL for (int j = 0; j < from; j++) sums[i][j] = (vec){0};
    for (long t = 0; t < own->frames; t++, gradient += joints * width, x += joints * width) {
        vec right[5];
        UNROLL for (int j = 0; j < from; j++) right[j] = load(x + j * width);
        UNROLL for (int i = 0; i < to; i++) {
            vec left = load(gradient + i * width);
            UNROLL for (int j = 0; j < from; j++) sums[i][j] += left * right[j];
        }
    }
    float apart[5][5][LANES];
    for (int i = 0; i < to; i++)
        for (int j = 0; j < from; j++) store(apart[i][j], sums[i][j]);
    for (int l = 0; l < LANES; l++) {
        float *head = found + (channel + l) / each * joints * joints;
        for (int i = 0; i < to; i++)
            for (int j = 0; j < from; j++) head[i * joints + j] += apart[i][j][l];
    }
}

static void of_routes(const struct block *own, const float *gradient, const float *x, float *found) {
    long joints = own->joints, width = own->channels;
    memset(found, 0, own->heads * joints * joints * sizeof(float));
    for (long c = 0; c < width; c += LANES)
        for (long i = 0; i < joints;) {
            int to = joints - i >= 5 ? 5 : 1;
            for (long j = 0; j < joints;) {
                int from = joints - j >= 5 ? 5 : 1;
                const float *left = gradient + i * width + c, *right = x + j * width + c;
                float *end = found + i * joints + j;
                if (to == 5 && from == 5) route_tile(5, 5, own, left, right, c, end);
                else if (to == 5) route_tile(5, 1, own, left, right, c, end);
                else if (from == 5) route_tile(1, 5, own, left, right, c, end);
                else route_tile(1, 1, own, left, right, c, end);
                j += from;
            }
            i += to;
        }
}

// The passes. Each is given bodies from `begin` to `end`, which are the piece of this number, and memory to work in.

struct sizes {
    long in_rows, out_rows, wide, in, middle, out; // rows of a body; numbers of a body, before the stride and behind it
};

static struct sizes sizes(const struct block *own) {
    long rows = own->frames * own->joints, after = own->after * own->joints, wide = 2 * own->channels;
    return (struct sizes){rows, after, wide, rows * own->channels, rows * wide, after * own->out_channels};
}

// As many as n, or more: whole vectors of any processor.
INSIDE long whole(long n) { return (n + 15) / 16 * 16; }

// Numbers of the memory that `routes_of` and `attend` work in.
static long attention_numbers(const struct block *own) {
    long joints = own->joints, inner = TIME_HEADS * KEY;
    long routes = own->heads * joints * (joints + 2 * KEY) + (KEY + 2) * whole(joints);
    long time = own->after * (2 * own->out_channels + 4 * inner) + (2 * KEY + 1) * whole(own->after);
    return routes > time ? routes : time;
}

long work_numbers(const struct block *own) {
    struct sizes of = sizes(own);
    long widest = of.wide > own->out_channels ? of.wide : own->out_channels;
    long routes = own->joints * own->joints * own->channels;
    return 3 * of.middle + 3 * of.in + of.out + routes + (4 * CHUNK + 10) * widest + attention_numbers(own);
}

INSIDE float kept(const float *by, long body) { return by ? by[body] : 1.0f; }

static struct convolution shift_of(const struct block *own) {
    return (struct convolution){own->frames, own->frames, 1, 4, own->joints, own->channels, 1, own->taps};
}

static struct convolution along_of(const struct block *own) {
    long wide = 2 * own->channels;
    return (struct convolution){own->frames, own->after, own->stride, 2, own->joints, wide, 0, own->along};
}

static void placed(const struct block *own, const float *x, float *out) {
    long frame = own->joints * own->channels;
    for (long t = 0; t < own->frames; t++)
        for (long i = 0; i < frame; i += LANES)
            store(out + t * frame + i, load(x + t * frame + i) + load(own->place + i));
}

// A body's routes in training, or NULL.
static const float *given_routes(const struct block *own, long body) {
    return own->routes ? own->routes + body * own->heads * own->joints * own->joints : 0;
}

// x + E, mixed by routes or not; `work` for x + E and the routes.
static const float *mixed(const struct block *own, const float *routes, const float *x, float *out, float *work) {
    long numbers = own->frames * own->joints * own->channels;
    if (!routes) {
        placed(own, x, out);
        return out;
    }
    placed(own, x, work);
    spread(own, routes, 0, work + numbers);
    mix(own, work + numbers, work, out);
    return out;
}

// x + GELU(norm(first)) of a body; `steep` or NULL for the GELU's slope.
static void middle(const struct block *own, long body, float *out, float *steep) {
    struct sizes of = sizes(own);
    const float *x = own->x + body * of.in, *first = own->first + body * of.in;
    float by = kept(own->kept_joints, body);
    for (long at = 0; at < of.in_rows; at += CHUNK) {
        long rows = of.in_rows - at < CHUNK ? of.in_rows - at : CHUNK, from = at * own->channels;
        active(&own->norms[JOINED], own->channels, rows, first + from, out + from, steep ? steep + from : 0);
        for (long i = from; i < from + rows * own->channels; i += LANES)
            store(out + i, load(x + i) + by * load(out + i));
    }
}

// Every frame that the stride leaves.
static const float *strided(const struct block *own, const float *x, float *out) {
    long frame = own->joints * own->channels;
    for (long t = 0; t < own->after; t++) memcpy(out + t * frame, x + t * own->stride * frame, frame * sizeof(float));
    return out;
}

// The means of a body's end.
static void means(const struct block *own, long body) {
    struct sizes of = sizes(own);
    long width = own->out_channels, frame = own->joints * width;
    const float *out = own->out + body * of.out;
    float *over_frames = own->over_frames + body * frame, *over_joints = own->over_joints + body * own->after * width;
    float by_frames = 1.0f / own->after, by_joints = 1.0f / own->joints;
    if (own->over_frames) {
        memset(over_frames, 0, frame * sizeof(float));
        for (long t = 0; t < own->after; t++) add(over_frames, out + t * frame, frame);
        for (long i = 0; i < frame; i += LANES) store(over_frames + i, load(over_frames + i) * by_frames);
    }
    if (own->over_joints)
        for (long t = 0; t < own->after; t++)
            for (long c = 0; c < width; c += LANES) {
                vec sum = {0};
                for (long i = t * frame + c; i < (t + 1) * frame; i += width) sum += load(out + i);
                store(over_joints + t * width + c, sum * by_joints);
            }
}

void to_the_joints(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    struct moments found = moments(own->channels, work);
    work += 5 * own->channels;
    for (long body = begin; body < end; body++) {
        const float *x = mixed(own, given_routes(own, body), own->x + body * of.in, work, work + of.in);
        float *first = own->first + body * of.in;
        struct ahead ahead = {{own->x + (body + 1) * of.in, first + of.in}, {of.in, of.in}};
        product(of.in_rows, own->channels, own->channels, x, own->channels, 1, own->joined, first, 0, &ahead);
        look(&found, first, of.in_rows);
    }
    write_moments(&found, &own->norms[JOINED], piece);
}

void to_the_widening(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    struct moments found = moments(of.wide, work), around = moments(own->out_channels, work + 5 * of.wide);
    struct convolution shift = shift_of(own);
    work += 5 * (of.wide + own->out_channels);
    float *moved = work + of.in;
    for (long body = begin; body < end; body++) {
        float *second = own->second + body * of.middle;
        middle(own, body, work, 0);
        if (own->taps) convolve(&shift, work, moved);
        for (long at = 0; at < of.in_rows; at += CHUNK) {
            long rows = of.in_rows - at < CHUNK ? of.in_rows - at : CHUNK;
            long next = (body + 1) * of.in + at * own->channels;
            struct ahead ahead = {{second + (at + CHUNK) * of.wide, own->first + next, own->x + next},
                                  {rows * of.wide, rows * own->channels, rows * own->channels}};
            product(rows, of.wide, own->channels, (own->taps ? moved : work) + at * own->channels, own->channels, 1,
                    own->widen, second + at * of.wide, 0, &ahead);
            look(&found, second + at * of.wide, rows);
        }
        if (!own->down) continue;
        product(of.out_rows, own->out_channels, own->channels, strided(own, work, moved), own->channels, 1, own->down,
                own->side + body * of.out, 0, 0);
        look(&around, own->side + body * of.out, of.out_rows);
    }
    write_moments(&found, &own->norms[WIDENED], piece);
    if (own->down) write_moments(&around, &own->norms[AROUND], piece);
}

void in_time(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    struct moments found = moments(of.wide, work);
    struct convolution along = along_of(own);
    work += 5 * of.wide;
    for (long body = begin; body < end; body++) {
        float *third = own->third + body * of.out_rows * of.wide;
        active(&own->norms[WIDENED], of.wide, of.in_rows, own->second + body * of.middle, work, 0);
        convolve(&along, work, third);
        look(&found, third, of.out_rows);
    }
    write_moments(&found, &own->norms[IN_TIME], piece);
}

void to_the_narrowing(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    struct moments found = moments(own->out_channels, work);
    work += 5 * own->out_channels;
    for (long at = begin * of.out_rows; at < end * of.out_rows; at += CHUNK) {
        long rows = end * of.out_rows - at < CHUNK ? end * of.out_rows - at : CHUNK;
        float *fourth = own->fourth + at * own->out_channels;
        active(&own->norms[IN_TIME], of.wide, rows, own->third + at * of.wide, work, 0);
        struct ahead ahead = {{own->third + (at + CHUNK) * of.wide, fourth + CHUNK * own->out_channels},
                              {CHUNK * of.wide, CHUNK * own->out_channels}};
        product(rows, own->out_channels, of.wide, work, of.wide, 1, own->narrow, fourth, 0, &ahead);
        look(&found, fourth, rows);
    }
    write_moments(&found, &own->norms[NARROWED], piece);
}

void to_the_end(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    const struct norm *norm = &own->norms[NARROWED], *around = &own->norms[AROUND];
    (void)piece;
    for (long body = begin; body < end; body++) {
        const float *fourth = own->fourth + body * of.out, *side = own->side + body * of.out;
        float *out = own->out + body * of.out, by = kept(own->kept_time, body);
        if (!own->down) middle(own, body, work, 0);
        for (long i = 0; i < of.out; i += own->out_channels)
            for (long c = 0; c < own->out_channels; c += LANES) {
                vec branch = (load(fourth + i + c) * load(norm->scale + c) + load(norm->shift + c)) * by;
                vec straight = own->down ? load(side + i + c) * load(around->scale + c) + load(around->shift + c)
                                         : load(work + i + c);
                store(out + i + c, straight + branch);
            }
        means(own, body);
    }
}

// The way back.

// The gradient of a body's end, with those that come by its means.
static void all_given(const struct block *own, long body, float *given) {
    long width = own->out_channels, frame = own->joints * width, numbers = own->after * frame;
    const float *gradient = own->gradient + body * numbers, *of_frames = own->of_frames + body * frame;
    const float *of_joints = own->of_joints + body * own->after * width;
    float by_frames = 1.0f / own->after, by_joints = 1.0f / own->joints;
    for (long t = 0; t < own->after; t++)
        for (long i = 0; i < frame; i += width)
            for (long c = 0; c < width; c += LANES) {
                vec sum = load(gradient + t * frame + i + c);
                if (own->of_frames) sum += load(of_frames + i + c) * by_frames;
                if (own->of_joints) sum += load(of_joints + t * width + c) * by_joints;
                store(given + t * frame + i + c, sum);
            }
}

void norms_at_the_end(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long out = own->out_channels;
    struct moments found = moments(out, work), around = moments(out, work + 5 * out);
    for (long body = begin; body < end; body++) {
        float *given = own->given + body * of.out;
        all_given(own, body, given);
        float by = kept(own->kept_time, body);
        slope(&found, &own->norms[NARROWED], given, own->fourth + body * of.out, by, of.out_rows);
        if (own->down) slope(&around, &own->norms[AROUND], given, own->side + body * of.out, 1.0f, of.out_rows);
    }
    write_slope(&found, &own->norms[NARROWED], piece);
    if (own->down) write_slope(&around, &own->norms[AROUND], piece);
}

void back_to_time(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long wide = of.wide, out = own->out_channels;
    struct moments found = moments(wide, work);
    float *towards = work + 5 * wide, *own_active = towards + CHUNK * out, *steep = own_active + CHUNK * wide;
    float *panels = steep + CHUNK * wide, *of_narrow = own->of_narrow + piece * out * wide;
    for (long body = begin; body < end; body++)
        for (long at = 0; at < of.out_rows; at += CHUNK) {
            long rows = of.out_rows - at < CHUNK ? of.out_rows - at : CHUNK, from = body * of.out_rows + at;
            const float *third = own->third + from * wide;
            float *before = own->before_third + from * wide;
            const float *given = own->given + from * out, *fourth = own->fourth + from * out;
            before_norm(&own->norms[NARROWED], out, rows, given, fourth, kept(own->kept_time, body), towards);
            active(&own->norms[IN_TIME], wide, rows, third, own_active, steep);
            struct ahead ahead = {{before, third + CHUNK * wide, given + CHUNK * out, fourth + CHUNK * out},
                                  {rows * wide, CHUNK * wide, CHUNK * out, CHUNK * out}};
            of_weight(rows, out, wide, towards, own_active, of_narrow, panels, &ahead);
            product(rows, wide, out, towards, out, 1, own->narrow_back, before, 0, &ahead);
            multiply(before, steep, rows * wide);
            slope(&found, &own->norms[IN_TIME], before, third, 1.0f, rows);
        }
    write_slope(&found, &own->norms[IN_TIME], piece);
}

void back_through_time(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long wide = of.wide;
    struct moments found = moments(wide, work);
    struct convolution along = along_of(own);
    float *towards = work + 5 * wide, *own_active = towards + of.out_rows * wide, *steep = own_active + of.middle;
    for (long body = begin; body < end; body++) {
        long after = body * of.out_rows * wide;
        const float *second = own->second + body * of.middle;
        float *before = own->before_second + body * of.middle;
        before_norm(&own->norms[IN_TIME], wide, of.out_rows, own->before_third + after, own->third + after, 1.0f,
                    towards);
        active(&own->norms[WIDENED], wide, of.in_rows, second, own_active, steep);
        of_taps(&along, 5, towards, own_active, own->of_along + piece * 5 * wide);
        convolve_back(&along, towards, before);
        multiply(before, steep, of.middle);
        slope(&found, &own->norms[WIDENED], before, second, 1.0f, of.in_rows);
    }
    write_slope(&found, &own->norms[WIDENED], piece);
}

void back_to_the_joints(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long wide = of.wide, in = own->channels, out = own->out_channels;
    struct moments found = moments(in, work);
    struct convolution shift = shift_of(own);
    float *here = work + 5 * in, *steep = here + of.in, *moved = steep + of.in, *towards = moved + of.in;
    float *panels = towards + CHUNK * wide, *other = panels + CHUNK * (wide > out ? wide : out);
    for (long body = begin; body < end; body++) {
        const float *given = own->given + body * of.out;
        float *through = own->through + body * of.in, *before = own->before_first + body * of.in;
        float *straight = own->taps ? other : through;
        middle(own, body, here, steep);
        if (own->taps) convolve(&shift, here, moved);
        for (long at = 0; at < of.in_rows; at += CHUNK) {
            long rows = of.in_rows - at < CHUNK ? of.in_rows - at : CHUNK, from = (body * of.in_rows + at) * wide;
            before_norm(&own->norms[WIDENED], wide, rows, own->before_second + from, own->second + from, 1.0f,
                        towards);
            long behind = from + rows * wide, next = (body + 1) * of.in + at * in;
            struct ahead ahead = {{own->before_second + behind, own->second + behind, own->x + next, own->first + next},
                                  {CHUNK * wide, CHUNK * wide, rows * in, rows * in}};
            of_weight(rows, wide, in, towards, (own->taps ? moved : here) + at * in,
                      own->of_widen + piece * wide * in, panels, &ahead);
            product(rows, in, wide, towards, wide, 1, own->widen_back, straight + at * in, 0, &ahead);
        }
        if (own->taps) {
            of_taps(&shift, 9, other, here, own->of_taps + piece * 9 * in);
            convolve_back(&shift, other, through);
        }
        if (!own->down) {
            add(through, given, of.in);
        } else {
            const float *kept_frames = strided(own, here, moved);
            before_norm(&own->norms[AROUND], out, of.out_rows, given, own->side + body * of.out, 1.0f, other);
            of_weight(of.out_rows, out, in, other, kept_frames, own->of_down + piece * out * in, panels, 0);
            product(of.out_rows, in, out, other, out, 1, own->down_back, moved, 0, 0);
            for (long t = 0; t < own->after; t++)
                add(through + t * own->stride * own->joints * in, moved + t * own->joints * in, own->joints * in);
        }
        float by = kept(own->kept_joints, body);
        for (long i = 0; i < of.in; i += LANES) store(before + i, load(through + i) * load(steep + i) * by);
        slope(&found, &own->norms[JOINED], before, own->first + body * of.in, 1.0f, of.in_rows);
    }
    write_slope(&found, &own->norms[JOINED], piece);
}

void back_through_the_joints(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long in = own->channels, square = own->joints * own->joints, frame = own->joints * in;
    float *here = work, *side = here + of.in, *routes = side + of.in, *towards = routes + square * in;
    float *panels = towards + of.in, *of_place = own->of_place + piece * frame;
    for (long body = begin; body < end; body++) {
        const float *x = own->x + body * of.in, *through = own->through + body * of.in;
        float *found = own->towards + body * of.in;
        mixed(own, given_routes(own, body), x, here, side); // leaves x + E in `side`
        before_norm(&own->norms[JOINED], in, of.in_rows, own->before_first + body * of.in, own->first + body * of.in,
                    1.0f, towards);
        long next = (body + 1) * of.in;
        struct ahead ahead = {{through, own->x + next, own->first + next, own->before_first + next},
                              {of.in, of.in, of.in, of.in}};
        of_weight(of.in_rows, in, in, towards, here, own->of_joined + piece * in * in, panels, &ahead);
        product(of.in_rows, in, in, towards, in, 1, own->joined_back, here, 0, &ahead);
        if (own->routes) {
            of_routes(own, here, side, own->of_routes + body * own->heads * square);
            spread(own, given_routes(own, body), 1, routes);
            mix(own, routes, here, towards);
        }
        const float *end_of = own->routes ? towards : here;
        for (long t = 0; t < own->frames; t++) {
            add(of_place, end_of + t * frame, frame);
            for (long i = t * frame; i < (t + 1) * frame; i += LANES)
                store(found + i, load(end_of + i) + load(through + i));
        }
    }
}

// Inference: the norms are in the convolutions and in the shifts of `norms`.

static void with_shift(const float *shift, long width, long rows, const float *more, float *x, int bent) {
    for (long i = 0; i < rows * width; i += width)
        for (long c = 0; c < width; c += LANES) {
            vec now = load(x + i + c) + load(shift + c);
            if (bent) now = gelu(now);
            store(x + i + c, more ? now + load(more + i + c) : now);
        }
}

static float total(vec of) {
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += of[l];
    return sum;
}

// Rows of KEY numbers, `apart` numbers from one to the next, as columns: (KEY, whole(count)), zeros behind the last row.
static void columns(const float *from, long count, long apart, float *to) {
    long width = whole(count);
    memset(to, 0, KEY * width * sizeof(float));
    for (long i = 0; i < count; i++)
        for (long d = 0; d < KEY; d++) to[d * width + i] = from[i * apart + d];
}

// softmax(query keys + more), of `width` numbers in whole vectors.
static void shares(const float *query, const float *keys, const float *more, long width, float *out) {
    vec highest = all(-1e30f), sum = {0};
    for (long i = 0; i < width; i += LANES) {
        vec score = load(more + i);
        for (long d = 0; d < KEY; d++) score += query[d] * load(keys + d * width + i);
        store(out + i, score);
        highest = larger(score, highest);
    }
    float top = highest[0];
    for (int l = 1; l < LANES; l++) top = highest[l] > top ? highest[l] : top;
    for (long i = 0; i < width; i += LANES) {
        vec power = power_of_two(larger(load(out + i) - top, all(-87.0f)), 1.44269504f);
        store(out + i, power);
        sum += power;
    }
    float by = 1.0f / total(sum);
    for (long i = 0; i < width; i += LANES) store(out + i, load(out + i) * by);
}

// Each row of out becomes these numbers.
static void repeat(const float *numbers, long width, long rows, float *out) {
    for (long i = 0; i < rows; i++) memcpy(out + i * width, numbers, width * sizeof(float));
}

// The matrices that a body's joints are mixed by: those of all bodies, and attention from its mean over frames.
static const float *routes_of(const struct block *own, long body, float *work) {
    long joints = own->joints, channels = own->channels, both = 2 * own->heads * KEY, width = whole(joints);
    if (!own->queries) return own->matrices;
    float *routes = work, *found = routes + own->heads * joints * joints, *keys = found + joints * both;
    float *more = keys + KEY * width, *row = more + width;
    memcpy(found, own->queries_shift, joints * both * sizeof(float));
    product(joints, both, channels, own->pooled + body * joints * channels, channels, 1, own->queries, found, 1, 0);
    for (long i = 0; i < width; i++) more[i] = i < joints ? 0.0f : -1e30f;
    for (long h = 0, at = 0; h < own->heads; h++) {
        columns(found + (own->heads + h) * KEY, joints, both, keys);
        for (long i = 0; i < joints; i++) {
            shares(found + i * both + h * KEY, keys, more, width, row);
            for (long j = 0; j < joints; j++, at++) routes[at] = own->matrices[at] + own->strength[h] * row[j];
        }
    }
    return routes;
}

// Attention over time: what every frame's mean over joints adds to all its joints, and to the mean over frames.
static void attend(const struct block *own, long body, float *work) {
    long frames = own->after, channels = own->out_channels, frame = own->joints * channels, inner = TIME_HEADS * KEY;
    long width = whole(frames);
    const float *pooled = own->over_joints + body * frames * channels;
    float *tokens = work, *three = tokens + frames * channels, *keys = three + frames * 3 * inner;
    float *values = keys + KEY * width, *row = values + KEY * width, *found = row + width;
    float *more = found + frames * inner, *out = own->out + body * frames * frame;
    for (long t = 0; t < frames; t++) {
        vec sum = {0}, square = {0};
        for (long c = 0; c < channels; c += LANES) sum += load(pooled + t * channels + c);
        float mean = total(sum) / channels;
        for (long c = 0; c < channels; c += LANES) {
            vec above = load(pooled + t * channels + c) - mean;
            square += above * above;
            store(tokens + t * channels + c, above);
        }
        float by = 1.0f / __builtin_sqrtf(total(square) / channels + *own->eps);
        for (long c = t * channels; c < (t + 1) * channels; c += LANES) store(tokens + c, load(tokens + c) * by);
    }
    repeat(own->inside_shift, 3 * inner, frames, three);
    product(frames, 3 * inner, channels, tokens, channels, 1, own->inside, three, 1, 0);
    for (long h = 0; h < TIME_HEADS; h++) {
        columns(three + inner + h * KEY, frames, 3 * inner, keys);
        columns(three + 2 * inner + h * KEY, frames, 3 * inner, values);
        for (long t = 0; t < frames; t++) {
            shares(three + t * 3 * inner + h * KEY, keys, own->apart + (h * frames + t) * width, width, row);
            for (long d = 0; d < KEY; d++) {
                vec sum = {0};
                for (long i = 0; i < width; i += LANES) sum += load(row + i) * load(values + d * width + i);
                found[t * inner + h * KEY + d] = total(sum);
            }
        }
    }
    repeat(own->outside_shift, channels, frames, more);
    product(frames, channels, inner, found, inner, 1, own->outside, more, 1, 0);
    for (long c = 0; c < channels; c += LANES) {
        vec sum = {0};
        for (long t = 0; t < frames; t++) {
            vec now = load(more + t * channels + c);
            sum += now;
            for (long i = t * frame + c; i < (t + 1) * frame; i += channels) store(out + i, load(out + i) + now);
        }
        sum *= 1.0f / frames;
        float *mean = own->over_frames + body * frame + c;
        for (long i = 0; i < frame; i += channels) store(mean + i, load(mean + i) + sum);
    }
}

void inferred(const struct block *own, long begin, long end, long piece, float *work) {
    struct sizes of = sizes(own);
    long wide = of.wide, in = own->channels, out = own->out_channels;
    struct convolution shift = shift_of(own), along = along_of(own);
    float *here = work + attention_numbers(own), *moved = here + of.in, *large = moved + of.in;
    float *larger = large + of.middle;
    (void)piece;
    for (long body = begin; body < end; body++) {
        const float *x = own->x + body * of.in;
        float *found = own->out + body * of.out;
        mixed(own, own->matrices ? routes_of(own, body, work) : 0, x, moved, large);
        for (long at = 0; at < of.in_rows; at += CHUNK) {
            long rows = of.in_rows - at < CHUNK ? of.in_rows - at : CHUNK, from = at * in;
            product(rows, in, in, moved + from, in, 1, own->joined, here + from, 0, 0);
            with_shift(own->norms[JOINED].shift, in, rows, x + from, here + from, 1);
        }
        if (own->taps) convolve(&shift, here, moved);
        for (long at = 0; at < of.in_rows; at += CHUNK) {
            long rows = of.in_rows - at < CHUNK ? of.in_rows - at : CHUNK, from = at * wide;
            product(rows, wide, in, (own->taps ? moved : here) + at * in, in, 1, own->widen, large + from, 0, 0);
            with_shift(own->norms[WIDENED].shift, wide, rows, 0, large + from, 1);
        }
        convolve(&along, large, larger);
        const float *straight = here;
        if (own->down) {
            product(of.out_rows, out, in, strided(own, here, moved), in, 1, own->down, large, 0, 0);
            with_shift(own->norms[AROUND].shift, out, of.out_rows, 0, large, 0);
            straight = large;
        }
        for (long at = 0; at < of.out_rows; at += CHUNK) {
            long rows = of.out_rows - at < CHUNK ? of.out_rows - at : CHUNK, from = at * out;
            with_shift(own->norms[IN_TIME].shift, wide, rows, 0, larger + at * wide, 1);
            product(rows, out, wide, larger + at * wide, wide, 1, own->narrow, found + from, 0, 0);
            with_shift(own->norms[NARROWED].shift, out, rows, straight + from, found + from, 0);
        }
        means(own, body);
        if (own->inside) attend(own, body, work);
    }
}

// GELU(x (rows, depth) weights + shift): the network's first convolution.
void bent(long rows, long depth, long width, const float *x, const float *weights, const float *shift, float *out) {
    for (long at = 0; at < rows; at += CHUNK) {
        long count = rows - at < CHUNK ? rows - at : CHUNK;
        product(count, width, depth, x + at * depth, depth, 1, weights, out + at * width, 0, 0);
        with_shift(shift, width, count, 0, out + at * width, 1);
    }
}
