/* model/gpt2_random.h: a model of any shape with random weights, made in memory: for measuring
 * speed and memory, which do not depend on what a model has learnt.
 *
 * May include: common, kernels. */
#ifndef LLORCH_MODEL_GPT2_RANDOM_H
#define LLORCH_MODEL_GPT2_RANDOM_H

#include <stdint.h>

#include "common/error.h"
#include "kernels/matrix.h"
#include "model/config.h"
#include "model/gpt2.h"

/* "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" or "LAYERS,HEADS,DIM,CONTEXT,VOCABULARY", with
 * everything else as GPT-2 has it. Errors: ERR_USAGE, the message begins with the text. */
ErrCode gpt2_shape_parse(Gpt2Config *c, const char *text, Err *err) ERR_CHECK;

/* Weights are normal with standard deviation 0.02, the gains of norms around 1, no value is zero
 * before it is rounded to type; every weight has its own random numbers, by seed and name. The
 * projections become type, the tables what gpt2_table_type says, as after gpt2_load. progress may
 * be NULL.
 *
 * Errors  ERR_LIMIT (more than this machine's memory), ERR_MEMORY, ERR_CANCELLED; nothing stays
 * allocated. Memory  gpt2_free. */
ErrCode gpt2_random(Gpt2 *m, const Gpt2Config *c, KernType type, uint64_t seed,
                    const Gpt2Progress *progress, Err *err) ERR_CHECK;

#endif
