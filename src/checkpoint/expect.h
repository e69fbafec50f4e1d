/* checkpoint/expect.h: what published GPT-2 models are known to compute: the recorded values R1 to
 * R18 (gpt2) and the end-to-end texts (gpt2 and gpt2-medium). `verify --expect` runs them.
 *
 * May include: common, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_EXPECT_H
#define LLORCH_CHECKPOINT_EXPECT_H

#include <stdbool.h>

#include "checkpoint/verdict.h"
#include "common/error.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* Rows that expect_run adds at most. */
enum { EXPECT_MAX_ROWS = 48 };

/* Whether values are recorded under that name. */
bool expect_known(const char *name);

/* Whether values are recorded under that name and the model can be the one they belong to.
 * Errors: ERR_USAGE (unknown name), ERR_FORMAT (another shape), ERR_UNSUPPORTED (tokenizer NULL, or
 * of another size). */
ErrCode expect_check(const char *name, const Gpt2Config *config, const Tokenizer *tokenizer,
                     Err *err) ERR_CHECK;

/* Adds one row a value. expect_check must have agreed. Errors: ERR_MEMORY and those of a forward
 * pass. */
ErrCode expect_run(VerdictTable *t, const char *name, const Gpt2 *m, const Tokenizer *tokenizer,
                   const Kernels *k, Err *err) ERR_CHECK;

#endif
