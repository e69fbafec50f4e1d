/* cli/bench_step.h: one decode step with a clock between its parts: what of it is weight products,
 * what is reads of the cache, and what is the rest.
 *
 * May include: common, model, sampling. */
#ifndef LLORCH_CLI_BENCH_STEP_H
#define LLORCH_CLI_BENCH_STEP_H

#include "common/error.h"
#include "model/gpt2.h"
#include "sampling/sampler.h"

/* Seconds, added up over steps. */
typedef struct {
    double products; /* linear, all matrices */
    double cache;    /* scores and values: all that is read from the cache */
    double rest; /* everything else: embedding, norms, the input form of linear, writing keys and
                    values, softmax, activation, residuals, the choice of a token */
} BenchParts;

/* The same step as gpt2_forward of one token with logits, bit for bit, and sampler_next after it.
 * No yields. Errors: ERR_LIMIT (context full), ERR_NUMERIC. */
ErrCode bench_step(Gpt2Run *run, int32_t id, Sampler *sampler, BenchParts *parts, int *chosen,
                   Err *err) ERR_CHECK;

#endif
