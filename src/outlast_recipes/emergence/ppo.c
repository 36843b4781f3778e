// The gradient of PPO's loss on a CPU, as `loss_of` in ppo.py: of the slot-steps of a minibatch that have a share, in
// blocks whose numbers stay in the cache of a core. Observations and genomes are read where they lie. Sums are added up
// in one order, by one thread. Hidden units are a multiple of 16; the genome is none or an action head.

#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#include "vectors.h"

#define BLOCK 96  // slot-steps whose numbers are in the cache
#define CHOICES 16 // columns for the logits of all heads and the value behind them

INSIDE float sum_of(vec x) {
    typedef float four __attribute__((vector_size(16)));
    union { vec whole; four parts[LANES / 4]; } own = {x};
    for (int k = 1; k < LANES / 4; k++) own.parts[0] += own.parts[k];
    return (own.parts[0][0] + own.parts[0][2]) + (own.parts[0][1] + own.parts[0][3]);
}

INSIDE vec exponential(vec x) { return power_of_two(smaller(larger(x, all(-80)), all(80)), 1.44269504f); }

// Of normal numbers: x is 2^n m with m from 0.75 to 1.5, and log m = 2 artanh((m - 1) / (m + 1)).
INSIDE vec logarithm(vec x) {
    ints exponent = ((ints)x - 0x3f400000) >> 23;
    vec m = (vec)((ints)x - (exponent << 23)), z = (m - 1.0f) / (m + 1.0f), square = z * z;
    vec series = square * (1.0f / 11) + 1.0f / 9;
    series = series * square + 1.0f / 7;
    series = series * square + 1.0f / 5;
    series = series * square + 1.0f / 3;
    series = series * square + 1.0f;
    return __builtin_convertvector(exponent, vec) * 0.69314718f + 2.0f * z * series;
}

INSIDE vec tangent(vec x) {
    vec small = exponential(size_of(x) * -2.0f);
    return with_sign_of((1.0f - small) * inverse(1.0f + small), x);
}

// A factor of a product: its columns are `step` apart, its rows `row`.
struct left {
    const float *at;
    long row, step;
};

INSIDE void tile(int rows, int vectors, long depth, struct left a, const float *b, long width, float *out, long pitch,
                 int add) {
    vec sums[TILE][PANEL];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < depth; k++, a.at += a.step, b += width) {
        vec right[PANEL];
        UNROLL for (int j = 0; j < vectors; j++) right[j] = load(b + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            vec left = all(a.at[i * a.row]);
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] += left * right[j];
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) {
        float *to = out + i * pitch + j * LANES;
        store(to, add ? load(to) + sums[i][j] : sums[i][j]);
    }
}

INSIDE void tiles(int vectors, long rows, long depth, struct left a, const float *b, long width, float *out, long pitch,
                  int add) {
    for (; rows >= TILE; rows -= TILE, a.at += TILE * a.row, out += TILE * pitch)
        tile(TILE, vectors, depth, a, b, width, out, pitch, add);
    switch (rows) {
    case 1: tile(1, vectors, depth, a, b, width, out, pitch, add); break;
    case 2: tile(2, vectors, depth, a, b, width, out, pitch, add); break;
    case 3: tile(3, vectors, depth, a, b, width, out, pitch, add); break;
    case 4: tile(4, vectors, depth, a, b, width, out, pitch, add); break;
    case 5: tile(5, vectors, depth, a, b, width, out, pitch, add); break;
    }
}

// out (rows, width) = a (rows, depth) b (depth, width), or that is added to it; out's rows are `pitch` apart.
static void product(long rows, long width, long depth, struct left a, const float *b, float *out, long pitch, int add) {
    long from = 0;
    for (; width - from >= PANEL * LANES; from += PANEL * LANES)
        tiles(PANEL, rows, depth, a, b + from, width, out + from, pitch, add);
    for (; from < width; from += LANES) tiles(1, rows, depth, a, b + from, width, out + from, pitch, add);
}

static void transpose(long rows, long width, const float *from, float *to) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < width; j++) to[j * rows + i] = from[i * width + j];
}

enum { LOGP, ADVANTAGE, RETURN, SHARE, ROW = 5, ACTION }; // of a packed slot-step
enum { CLIP, VALUE_WEIGHT, ENTROPY, HEADS };              // of the values; the sizes of all heads follow
enum { OF_POLICY, OF_VALUE, OF_ENTROPY, OF_KL, OF_CLIPPED, METRICS };

struct network {
    long seen, hidden, pitch, choices, heads; // a row of hidden units has `pitch` numbers, a 1 behind the units
    const float *values;
    float *first, *second, *action;                  // with the bias as last row; of the action, CHOICES columns
    float *second_across, *action_across;            // transposed
    float *of_first, *of_second, *of_action;         // gradients
    float *x, *one, *two, *slope, *before, *logits;  // of a block
    float facts[ACTION + CHOICES][BLOCK];
    const float *own[BLOCK]; // genomes
    double metrics[METRICS];
};

// The losses of LANES slot-steps: the gradients of their logits and values take the places of these.
static void judge(struct network *net, long from) {
    const long choices = net->choices, heads = net->heads;
    vec logits[CHOICES], logs[CHOICES], chances[CHOICES], entropies[CHOICES], logp = {0}, entropy = {0};
    for (long o = 0; o <= choices; o++)
        for (int l = 0; l < LANES; l++) logits[o][l] = net->logits[(from + l) * CHOICES + o];
    const float(*facts)[BLOCK] = (const float(*)[BLOCK])net->facts;
    vec share = load(facts[SHARE] + from), gain = load(facts[ADVANTAGE] + from);
    for (long h = 0, o = 0; h < heads; h++) {
        long end = o + (long)net->values[HEADS + h];
        vec top = logits[o], sum = {0}, own = {0}, chosen = load(facts[ACTION + h] + from);
        for (long k = o + 1; k < end; k++) top = larger(top, logits[k]);
        for (long k = o; k < end; k++) chances[k] = exponential(logits[k] - top), sum += chances[k];
        vec log_sum = logarithm(sum) + top, by = 1.0f / sum;
        for (long k = o; k < end; k++) {
            logs[k] = logits[k] - log_sum, chances[k] *= by;
            own -= chances[k] * logs[k];
            logp += either(chosen == all((float)(k - o)), logs[k], all(0));
        }
        entropy += entropies[h] = own;
        o = end;
    }
    vec change = logp - load(facts[LOGP] + from), ratio = exponential(change), clip = all(net->values[CLIP]);
    vec clipped = smaller(larger(ratio, 1.0f - clip), 1.0f + clip);
    vec free = ratio * gain, held = clipped * gain;
    vec of_logp = -either(free <= held, free, all(0)) * share, of_entropy = share * net->values[ENTROPY];
    for (long h = 0, o = 0; h < heads; h++) {
        vec chosen = load(facts[ACTION + h] + from);
        for (long end = o + (long)net->values[HEADS + h], k = 0; o < end; o++, k++)
            logits[o] = of_logp * (either(chosen == all((float)k), all(1), all(0)) - chances[o])
                        + of_entropy * chances[o] * (logs[o] + entropies[h]);
    }
    vec error = logits[choices] - load(facts[RETURN] + from);
    logits[choices] = error * share * (2.0f * net->values[VALUE_WEIGHT]);
    for (long o = 0; o <= choices; o++)
        for (int l = 0; l < LANES; l++) net->logits[(from + l) * CHOICES + o] = logits[o][l];
    vec away = ratio - 1.0f;
    ints outside = size_of(away) > clip;
    net->metrics[OF_POLICY] -= sum_of(either(free < held, free, held) * share);
    net->metrics[OF_VALUE] += sum_of(error * error * share);
    net->metrics[OF_ENTROPY] += sum_of(entropy * share);
    net->metrics[OF_KL] += sum_of((away - change) * share);
    net->metrics[OF_CLIPPED] += sum_of(either(outside, share, all(0)));
}

// before = gradient of a layer's output times the slope of its tanh
static void before_tanh(struct network *net, long rows, const float *tanhs, const float *gradient) {
    for (long i = 0; i < rows; i++)
        for (long c = 0; c < net->hidden; c += LANES) {
            vec own = load(tanhs + i * net->pitch + c);
            store(net->before + i * net->hidden + c, load(gradient + i * net->hidden + c) * (1.0f - own * own));
        }
}

static void hidden_layer(struct network *net, long rows, struct left from, long depth, const float *layer, float *to) {
    product(rows, net->hidden, depth, from, layer, to, net->pitch, 0);
    for (long i = 0; i < rows; i++)
        for (long c = 0; c < net->hidden; c += LANES) {
            float *at = to + i * net->pitch + c;
            store(at, tangent(load(at)));
        }
}

static void of_block(struct network *net, long rows) {
    const long seen = net->seen, hidden = net->hidden, pitch = net->pitch, choices = net->choices;
    hidden_layer(net, rows, (struct left){net->x, seen + 1, 1}, seen + 1, net->first, net->one);
    hidden_layer(net, rows, (struct left){net->one, pitch, 1}, hidden + 1, net->second, net->two);
    product(rows, CHOICES, hidden + 1, (struct left){net->two, pitch, 1}, net->action, net->logits, CHOICES, 0);
    for (long i = 0; i < rows && net->own[i]; i++)
        for (long o = 0; o < choices; o++) {
            const float *gene = net->own[i] + o * (hidden + 1), *two = net->two + i * pitch;
            vec sum = {0};
            for (long c = 0; c < hidden; c += LANES) sum += load(gene + c) * load(two + c);
            net->logits[i * CHOICES + o] += sum_of(sum) + gene[hidden];
        }
    for (long at = 0; at < rows; at += LANES) judge(net, at);
    product(hidden + 1, CHOICES, rows, (struct left){net->two, 1, pitch}, net->logits, net->of_action, CHOICES, 1);
    product(rows, hidden, choices + 1, (struct left){net->logits, CHOICES, 1}, net->action_across, net->slope, hidden,
            0);
    for (long i = 0; i < rows && net->own[i]; i++)
        for (long c = 0; c < hidden; c += LANES) {
            vec sum = load(net->slope + i * hidden + c);
            for (long o = 0; o < choices; o++)
                sum += load(net->own[i] + o * (hidden + 1) + c) * net->logits[i * CHOICES + o];
            store(net->slope + i * hidden + c, sum);
        }
    before_tanh(net, rows, net->two, net->slope);
    product(hidden + 1, hidden, rows, (struct left){net->one, 1, pitch}, net->before, net->of_second, hidden, 1);
    product(rows, hidden, hidden, (struct left){net->before, hidden, 1}, net->second_across, net->slope, hidden, 0);
    before_tanh(net, rows, net->one, net->slope);
    product(seen + 1, hidden, rows, (struct left){net->x, 1, seen + 1}, net->before, net->of_first, hidden, 1);
}

// Arguments and results, in this order.
enum { OBS, AT, PACKED, BANK, VALUES, FIRST, FIRST_BIAS, SECOND, SECOND_BIAS, HEAD, HEAD_BIAS, WORTH, WORTH_BIAS };
enum { LOSSES = WORTH_BIAS + 1 - FIRST };

static XLA_FFI_Buffer *given(XLA_FFI_CallFrame *frame, int which) { return frame->args.args[which]; }
static const float *numbers(XLA_FFI_CallFrame *frame, int which) { return given(frame, which)->data; }
static float *result(XLA_FFI_CallFrame *frame, int which) {
    return ((XLA_FFI_Buffer *)frame->rets.rets[which - FIRST])->data;
}

static void work(XLA_FFI_CallFrame *frame, struct network *net) {
    const int64_t *obs = given(frame, OBS)->dims, *at = given(frame, AT)->dims, *bank = given(frame, BANK)->dims;
    const long worlds = obs[1], slots = obs[2], seen = net->seen, hidden = net->hidden, choices = net->choices;
    const long size = at[1], wide = given(frame, PACKED)->dims[2];
    const int *order = given(frame, AT)->data;
    memcpy(net->first, numbers(frame, FIRST), seen * hidden * sizeof(float));
    memcpy(net->first + seen * hidden, numbers(frame, FIRST_BIAS), hidden * sizeof(float));
    memcpy(net->second, numbers(frame, SECOND), hidden * hidden * sizeof(float));
    memcpy(net->second + hidden * hidden, numbers(frame, SECOND_BIAS), hidden * sizeof(float));
    for (long i = 0; i <= hidden; i++) {
        const float *row = i < hidden ? numbers(frame, HEAD) + i * choices : numbers(frame, HEAD_BIAS);
        memcpy(net->action + i * CHOICES, row, choices * sizeof(float));
        net->action[i * CHOICES + choices] = i < hidden ? numbers(frame, WORTH)[i] : numbers(frame, WORTH_BIAS)[0];
    }
    transpose(hidden, hidden, net->second, net->second_across);
    transpose(hidden, CHOICES, net->action, net->action_across);
    for (long i = 0; i < BLOCK; i++)
        net->x[i * (seen + 1) + seen] = net->one[i * net->pitch + hidden] = net->two[i * net->pitch + hidden] = 1;
    long rows = 0;
    for (long world = 0; world < worlds; world++)
        for (long i = 0; i < size; i++) {
            const float *packed = numbers(frame, PACKED) + (world * size + i) * wide;
            if (packed[SHARE] == 0) continue;
            const long now = order[world * size + i], place = (now / slots * worlds + world) * slots + now % slots;
            memcpy(net->x + rows * (seen + 1), numbers(frame, OBS) + place * seen, seen * sizeof(float));
            net->own[rows] = bank[2] ? numbers(frame, BANK) + (world * bank[1] + (long)packed[ROW]) * bank[2] : 0;
            for (long k = 0; k < wide; k++) net->facts[k][rows] = packed[k];
            if (++rows < BLOCK) continue;
            of_block(net, rows);
            rows = 0;
            memset(net->facts[SHARE], 0, sizeof(net->facts[SHARE])); // of what fills the last block's last vector
        }
    of_block(net, rows);
    memcpy(result(frame, FIRST), net->of_first, seen * hidden * sizeof(float));
    memcpy(result(frame, FIRST_BIAS), net->of_first + seen * hidden, hidden * sizeof(float));
    memcpy(result(frame, SECOND), net->of_second, hidden * hidden * sizeof(float));
    memcpy(result(frame, SECOND_BIAS), net->of_second + hidden * hidden, hidden * sizeof(float));
    for (long i = 0; i <= hidden; i++) {
        float *row = i < hidden ? result(frame, HEAD) + i * choices : result(frame, HEAD_BIAS);
        memcpy(row, net->of_action + i * CHOICES, choices * sizeof(float));
        *(i < hidden ? result(frame, WORTH) + i : result(frame, WORTH_BIAS)) = net->of_action[i * CHOICES + choices];
    }
    for (int k = 0; k < METRICS; k++) result(frame, FIRST + LOSSES)[k] = net->metrics[k];
}

static XLA_FFI_Error *failed(XLA_FFI_CallFrame *frame, const char *message) {
    XLA_FFI_Error_Create_Args args = {
        .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message,
        .errc = XLA_FFI_Error_Code_RESOURCE_EXHAUSTED,
    };
    return frame->api->XLA_FFI_Error_Create(&args);
}

XLA_FFI_Error *gradient(XLA_FFI_CallFrame *frame) {
    XLA_FFI_Extension_Base *asked = frame->extension_start;
    if (asked && asked->type == XLA_FFI_Extension_Metadata) {
        XLA_FFI_Metadata *told = ((XLA_FFI_Metadata_Extension *)asked)->metadata;
        told->api_version.major_version = XLA_FFI_API_MAJOR;
        told->api_version.minor_version = XLA_FFI_API_MINOR;
        return NULL;
    }
    const long seen = given(frame, OBS)->dims[3], hidden = given(frame, SECOND)->dims[2], pitch = hidden + 16;
    const long sizes[] = {
        (seen + 1) * hidden, (hidden + 1) * hidden, (hidden + 1) * CHOICES, hidden * hidden, hidden * CHOICES,
        (seen + 1) * hidden, (hidden + 1) * hidden, (hidden + 1) * CHOICES, BLOCK * (seen + 1), BLOCK * pitch,
        BLOCK * pitch, BLOCK * hidden, BLOCK * hidden, BLOCK * CHOICES,
    };
    enum { COUNT = sizeof(sizes) / sizeof(*sizes) };
    long total = 0;
    for (int k = 0; k < COUNT; k++) total += sizes[k];
    float *next = aligned_alloc(64, total * sizeof(float)), *all_of_them = next;
    if (!next) return failed(frame, "no memory for the gradient of a minibatch");
    memset(next, 0, total * sizeof(float));
    struct network own = {0}, *net = &own;
    float **parts[COUNT] = {
        &net->first, &net->second, &net->action, &net->second_across, &net->action_across, &net->of_first,
        &net->of_second, &net->of_action, &net->x, &net->one, &net->two, &net->slope, &net->before, &net->logits,
    };
    for (int k = 0; k < COUNT; next += sizes[k++]) *parts[k] = next;
    net->seen = seen, net->hidden = hidden, net->pitch = pitch, net->choices = given(frame, HEAD)->dims[2];
    net->values = numbers(frame, VALUES), net->heads = given(frame, VALUES)->dims[0] - HEADS;
    work(frame, net);
    free(all_of_them);
    return NULL;
}
