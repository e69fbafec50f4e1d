/* checkpoint/model_hash.h: whether two models are the same one: FNV-1a over what they are.
 *
 * May include: common, model. */
#ifndef LLORCH_CHECKPOINT_MODEL_HASH_H
#define LLORCH_CHECKPOINT_MODEL_HASH_H

#include <stdint.h>

#include "common/error.h"
#include "model/gpt2.h"

/* Of the configuration: what speed depends on. Errors: ERR_MEMORY. */
ErrCode model_hash_config(const Gpt2 *m, uint64_t *hash, Err *err) ERR_CHECK;

/* Of the configuration and every weight by name, in the form that files of its type have: from
 * whatever kind of file it came, the same weights have the same hash. m is not changed. Errors:
 * ERR_MEMORY. */
ErrCode model_hash_weights(Gpt2 *m, uint64_t *hash, Err *err) ERR_CHECK;

#endif
