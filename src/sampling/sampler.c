/* sampling/sampler.c: the filters in the contract's order, each on the survivors of the one before.
 *
 * Survivors are kept as two arrays in index order, ids and values. Neither top-k nor top-p sorts:
 * both ask for "the largest values, equal ones by index, until their weight reaches a target", and
 * since weights are integers, that is found by counting in three passes over the bits of the
 * values, whatever the distribution.
 *
 * May include: common, kernels. */
#include "sampling/sampler.h"

#include <assert.h>
#include <string.h>

#include "sampling/argmax.h"
#include "sampling/rng.h"
#include "sampling/softmax.h"

enum {
    SAMPLER_MAX_VOCAB = 1000000, /* 2^20 weights of at most 2^52 fit 64 bits with room to spare */
    CUT_BUCKETS = 2048           /* 11 bits of a value's order at a time: 11 + 11 + 10 */
};

/* Below this temperature the largest logit is taken (checkpoint 10). */
static const float sampler_greedy_below = 1e-6f;

/* Scaled logits are kept within +-2^126: the difference of two of them is then finite. */
static const float sampler_largest = 0x1p126f;

struct Sampler {
    const Kernels *k; /* borrowed */
    SamplingParams params;
    int vocab_size;
    uint64_t n_draws;
    float *values; /* [vocab_size] scaled logits of the survivors */
    float *probs;  /* [vocab_size] their probabilities */
    int32_t *ids;  /* [vocab_size] their ids, increasing */
    int n_survivors;
    int last_id;        /* what was chosen last */
    int32_t *counts;    /* [vocab_size] how often each was generated before */
    int32_t *history;   /* [vocab_size] distinct generated ids */
    SamplingBias *bias; /* [SAMPLING_MAX_BIAS]: what params.bias points to */
    int n_history;
    uint64_t *buckets; /* [CUT_BUCKETS] */
};

SamplingParams sampling_defaults(void)
{
    return (SamplingParams){.temperature = 1.0f,
                            .top_p = 1.0f,
                            .top_k = 0,
                            .repetition_penalty = 1.0f,
                            .min_p = 0.0f,
                            .seed = 42};
}

ErrCode sampler_plan(size_t *total_bytes, int vocab_size, Err *err)
{
    const size_t n = (size_t)vocab_size;
    size_t total = *total_bytes;

    if (vocab_size < 1 || vocab_size > SAMPLER_MAX_VOCAB)
        return err_set(err, ERR_LIMIT, "sampler: vocabulary of %d, expected 1 to %d", vocab_size,
                       SAMPLER_MAX_VOCAB);
    if (!arena_plan(&total, 1, sizeof(Sampler)) || !arena_plan(&total, n, sizeof(float)) ||
        !arena_plan(&total, n, sizeof(float)) || !arena_plan(&total, n, sizeof(int32_t)) ||
        !arena_plan(&total, n, sizeof(int32_t)) || !arena_plan(&total, n, sizeof(int32_t)) ||
        !arena_plan(&total, SAMPLING_MAX_BIAS, sizeof(SamplingBias)) ||
        !arena_plan(&total, CUT_BUCKETS, sizeof(uint64_t)))
        return err_set(err, ERR_LIMIT, "sampler: the size of a vocabulary of %d overflows",
                       vocab_size);
    *total_bytes = total;
    return ERR_OK;
}

Sampler *sampler_new(Arena *arena, const Kernels *k, int vocab_size)
{
    const size_t n = (size_t)vocab_size;
    Sampler *s = arena_alloc(arena, 1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->k = k;
    s->vocab_size = vocab_size;
    s->params = sampling_defaults();
    s->values = arena_alloc(arena, n, sizeof *s->values);
    s->probs = arena_alloc(arena, n, sizeof *s->probs);
    s->ids = arena_alloc(arena, n, sizeof *s->ids);
    s->counts = arena_alloc(arena, n, sizeof *s->counts);
    s->history = arena_alloc(arena, n, sizeof *s->history);
    s->bias = arena_alloc(arena, SAMPLING_MAX_BIAS, sizeof *s->bias);
    s->buckets = arena_alloc(arena, CUT_BUCKETS, sizeof *s->buckets);
    if (s->values == NULL || s->probs == NULL || s->ids == NULL || s->counts == NULL ||
        s->history == NULL || s->bias == NULL || s->buckets == NULL)
        return NULL;
    return s;
}

void sampler_reset(Sampler *s, const SamplingParams *params)
{
    for (int i = 0; i < s->n_history; i++)
        s->counts[s->history[i]] = 0;
    s->n_history = 0;
    s->n_draws = 0;
    s->params = *params;
    assert(params->n_bias >= 0 && params->n_bias <= SAMPLING_MAX_BIAS);
    if (params->n_bias > 0)
        memcpy(s->bias, params->bias, (size_t)params->n_bias * sizeof *s->bias);
    s->params.bias = s->bias;
}

static float within_range(float x)
{
    return x > sampler_largest ? sampler_largest : x < -sampler_largest ? -sampler_largest : x;
}

static bool has_count_penalty(const SamplingParams *p)
{
    return p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
}

static bool has_edits(const SamplingParams *p)
{
    return p->n_bias > 0 || has_count_penalty(p);
}

/* The penalties in double: count times frequency is exact there, so that it makes no difference
 * whether a compiler fuses it with the addition. */
static void apply_count_penalty(Sampler *s)
{
    const double presence = (double)s->params.presence_penalty;
    const double frequency = (double)s->params.frequency_penalty;

    for (int i = 0; i < s->n_history; i++) {
        const int32_t id = s->history[i];
        const double penalty = presence + (double)s->counts[id] * frequency;

        s->values[id] = within_range((float)((double)s->values[id] - penalty));
    }
}

/* The logits to choose from: the model's own, or what the request makes of them, in values. */
static const float *edit_logits(Sampler *s, const float *logits)
{
    const SamplingParams *p = &s->params;

    if (!has_edits(p))
        return logits;
    memcpy(s->values, logits, (size_t)s->vocab_size * sizeof *logits);
    for (int i = 0; i < p->n_bias; i++) {
        float *v = &s->values[p->bias[i].id];

        *v = within_range(*v + p->bias[i].add);
    }
    if (has_count_penalty(p))
        apply_count_penalty(s);
    return s->values;
}

static bool has_penalty(const SamplingParams *p)
{
    return p->repetition_penalty != 1.0f && p->repetition_penalty != 0.0f;
}

/* Makes tokens that were generated before less likely (or, below 1, more). */
static void apply_penalty(Sampler *s)
{
    const float p = s->params.repetition_penalty;

    if (!has_penalty(&s->params))
        return;
    for (int i = 0; i < s->n_history; i++) {
        float *v = &s->values[s->history[i]];

        *v = within_range(*v > 0.0f ? *v / p : *v * p);
    }
}

static ErrCode choose_greedy(Sampler *s, const float *logits, int *id, Err *err)
{
    if (!has_edits(&s->params) && !has_penalty(&s->params))
        return sampling_argmax(id, logits, s->vocab_size, err);

    /* Checked before they are changed, which would hide an infinity. */
    const ErrCode code = sampling_check_finite(logits, s->vocab_size, err);
    if (code != ERR_OK)
        return code;
    if (edit_logits(s, logits) != s->values)
        memcpy(s->values, logits, (size_t)s->vocab_size * sizeof *logits);
    apply_penalty(s);
    return sampling_argmax(id, s->values, s->vocab_size, err);
}

/* Every id becomes a survivor, with its logit divided by the temperature. logits may be values. */
static void scale_logits(Sampler *s, const float *logits)
{
    const float t = s->params.temperature;

    for (int i = 0; i < s->vocab_size; i++) {
        s->values[i] = within_range(t != 1.0f ? logits[i] / t : logits[i]);
        s->ids[i] = i;
    }
    s->n_survivors = s->vocab_size;
}

/* An unsigned number in the order of the float; -0 and +0 are one. */
static uint32_t order_of(float x)
{
    const float no_minus_zero = x + 0.0f;
    uint32_t bits;

    memcpy(&bits, &no_minus_zero, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* A probability in units of 2^-52, cut off. Sums of these are exact: no order of addition, no
 * rounding. */
static uint64_t mass_of(float probability)
{
    return (uint64_t)((double)probability * 0x1p52);
}

/* Where "the largest first, equal ones by index" ends. */
typedef struct {
    uint32_t order;   /* values of this order are the smallest that are kept */
    uint64_t n_equal; /* how many of them, counted from the lowest index */
} Cut;

/* What value i counts towards the target: 1 for top-k, its mass for top-p. */
static uint64_t weight_of(const float *x, int i, bool by_mass)
{
    return by_mass ? mass_of(x[i]) : 1;
}

/* The shortest such row of values whose weight reaches target >= 1; every value when all together
 * do not. */
static Cut find_cut(Sampler *s, const float *x, bool by_mass, uint64_t target)
{
    static const struct {
        uint32_t shift, width;
    } digits[] = {{21, 11}, {10, 11}, {0, 10}};
    uint32_t prefix = 0; /* the digits found so far, in place */
    uint32_t known = 0;  /* mask of those digits */

    for (size_t d = 0; d < sizeof digits / sizeof *digits; d++) {
        const uint32_t shift = digits[d].shift;
        const uint32_t mask = (1u << digits[d].width) - 1;

        memset(s->buckets, 0, CUT_BUCKETS * sizeof *s->buckets);
        for (int i = 0; i < s->n_survivors; i++) {
            const uint32_t order = order_of(x[i]);

            if ((order & known) == prefix)
                s->buckets[order >> shift & mask] += weight_of(x, i, by_mass);
        }
        uint32_t b = mask;
        while (s->buckets[b] < target) {
            if (b == 0) /* only on the first digit: the rest of the target is known to be there */
                return (Cut){0, UINT64_MAX};
            target -= s->buckets[b--];
        }
        prefix |= b << shift;
        known |= mask << shift;
    }
    /* Values of equal order have equal weight: as many as the rest of the target takes, rounded up.
     */
    uint64_t weight = 1;
    if (by_mass) {
        const uint32_t bits = prefix & 0x7fffffffu; /* probabilities are not negative */
        float value;

        memcpy(&value, &bits, sizeof value);
        weight = mass_of(value);
    }
    return (Cut){prefix, (target + weight - 1) / weight};
}

/* Drops the survivors beyond the cut through x; x is values or probs. */
static void keep_cut(Sampler *s, const float *x, Cut cut)
{
    int n = 0;

    for (int i = 0; i < s->n_survivors; i++) {
        const uint32_t order = order_of(x[i]);

        if (order < cut.order || (order == cut.order && cut.n_equal == 0))
            continue;
        if (order == cut.order)
            cut.n_equal--;
        s->values[n] = s->values[i];
        s->probs[n] = s->probs[i];
        s->ids[n] = s->ids[i];
        n++;
    }
    s->n_survivors = n;
}

static void filter_top_k(Sampler *s)
{
    const int64_t k = s->params.top_k;

    if (k > 0 && k < s->n_survivors)
        keep_cut(s, s->values, find_cut(s, s->values, false, (uint64_t)k));
}

static void filter_top_p(Sampler *s)
{
    const uint64_t target = mass_of(s->params.top_p);

    keep_cut(s, s->probs, find_cut(s, s->probs, true, target > 0 ? target : 1));
}

static void filter_min_p(Sampler *s)
{
    float largest = 0.0f;
    int n = 0;

    for (int i = 0; i < s->n_survivors; i++)
        largest = s->probs[i] > largest ? s->probs[i] : largest;
    const float least = s->params.min_p * largest;
    for (int i = 0; i < s->n_survivors; i++) {
        if (s->probs[i] < least)
            continue;
        s->values[n] = s->values[i];
        s->ids[n] = s->ids[i];
        n++;
    }
    s->n_survivors = n;
}

/* Walks the cumulative sum in index order. What is too unlikely to have any mass is never taken. */
static int draw(const Sampler *s, double uniform)
{
    const uint64_t goal = (uint64_t)(uniform * 0x1p53);
    uint64_t sum = 0;
    int last = s->ids[0];

    for (int i = 0; i < s->n_survivors; i++) {
        const uint64_t mass = mass_of(s->probs[i]);

        sum += mass;
        if (mass > 0)
            last = s->ids[i];
        if (goal < 2 * sum)
            return last;
    }
    return last; /* rounding left a gap below 1 */
}

static int choose_random(Sampler *s, const float *logits)
{
    const bool top_p = s->params.top_p < 1.0f;
    const bool min_p = s->params.min_p > 0.0f;

    scale_logits(s, edit_logits(s, logits));
    apply_penalty(s);
    filter_top_k(s);
    sampling_softmax(s->k, s->probs, s->values, s->n_survivors, 1.0f);
    if (top_p)
        filter_top_p(s);
    if (min_p)
        filter_min_p(s);
    if (top_p || min_p)
        sampling_softmax(s->k, s->probs, s->values, s->n_survivors, 1.0f);
    return draw(s, rng_uniform(s->params.seed, s->n_draws++));
}

ErrCode sampler_next(Sampler *s, const float *logits, int *id, Err *err)
{
    int chosen = 0;

    if (s->params.temperature < sampler_greedy_below) {
        const ErrCode code = choose_greedy(s, logits, &chosen, err);
        if (code != ERR_OK)
            return code;
    } else {
        const ErrCode code = sampling_check_finite(logits, s->vocab_size, err);
        if (code != ERR_OK)
            return code;
        chosen = choose_random(s, logits);
    }
    if (s->counts[chosen]++ == 0)
        s->history[s->n_history++] = (int32_t)chosen;
    s->last_id = chosen;
    *id = chosen;
    return ERR_OK;
}

float sampler_probability(const Sampler *s, int id)
{
    if (s->params.temperature < sampler_greedy_below)
        return id == s->last_id ? 1.0f : 0.0f;
    for (int i = 0; i < s->n_survivors; i++)
        if (s->ids[i] == id)
            return s->probs[i];
    return 0.0f;
}
