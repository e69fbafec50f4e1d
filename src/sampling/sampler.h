/* sampling/sampler.h: from logits to one token id: temperature, repetition penalty, top-k, top-p,
 * min-p, draw.
 *
 * Every operation is defined (docs/numerics.md, sampling): the same logits and request give the
 * same token on every machine. Sums of probabilities are exact, in units of 2^-52, so no order of
 * summation enters.
 *
 * May include: common, kernels. */
#ifndef LLORCH_SAMPLING_SAMPLER_H
#define LLORCH_SAMPLING_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "kernels/kernels.h"

enum { SAMPLING_MAX_BIAS = 1024 };

/* What is added to the logit of a token: -100 bans it, +100 makes it certain, unless logits differ
 * by as much. */
typedef struct {
    int32_t id;
    float add; /* -100 .. 100 */
} SamplingBias;

/* Zero in the last four fields switches each of them off. */
typedef struct {
    float temperature;        /* < 1e-6: greedy */
    float top_p;              /* >= 1: off */
    int64_t top_k;            /* 0 or >= vocabulary: off */
    float repetition_penalty; /* 1 or 0: off */
    float min_p;              /* 0: off */
    uint64_t seed;
    /* -2 .. 2, 0: off. Of a token that this job has generated n > 0 times before,
     * presence_penalty + n * frequency_penalty is taken from the logit; the prompt does not count.
     */
    float presence_penalty;
    float frequency_penalty;
    const SamplingBias *bias; /* [n_bias], copied by sampler_reset; may be NULL when n_bias is 0 */
    int n_bias; /* 0 .. SAMPLING_MAX_BIAS; ids within the vocabulary. An id that comes twice gets
                   both, in this order */
} SamplingParams;

/* The request defaults of the worker contract: 1.0, 1.0, 0, 1.0, 0.0, 42. */
SamplingParams sampling_defaults(void);

typedef struct Sampler Sampler;

/* Adds the bytes a sampler for ids 0..vocab_size - 1 needs to *total_bytes. Errors: ERR_LIMIT
 * (vocab_size not in 1..1000000, or an overflow). */
ErrCode sampler_plan(size_t *total_bytes, int vocab_size, Err *err) ERR_CHECK;

/* A sampler out of arena, which must have been made from sampler_plan's figure; NULL when it does
 * not fit. k is borrowed. Nothing is allocated afterwards. */
Sampler *sampler_new(Arena *arena, const Kernels *k, int vocab_size);

/* Starts a job: history empty, draw counter 0. The params must lie in the contract's ranges. */
void sampler_reset(Sampler *s, const SamplingParams *params);

/* Chooses the next token from logits[vocab_size] (not modified), adds it to the history and stores
 * it in *id. Errors: ERR_NUMERIC when a logit is NaN or infinite; no token is chosen then. */
ErrCode sampler_next(Sampler *s, const float *logits, int *id, Err *err) ERR_CHECK;

/* How likely the last successful sampler_next was to give id, after temperature, penalty and
 * filters; greedy: 1 for what it gave, else 0. */
float sampler_probability(const Sampler *s, int id);

#endif
