/* checkpoint/verify.h: runs a model against its reference tensors and against itself: checkpoints 1
 * to 12, row by row.
 *
 * Knows nothing of HTTP; the tensors come from capture.h, the reference from reference.h.
 *
 * May include: common, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_VERIFY_H
#define LLORCH_CHECKPOINT_VERIFY_H

#include "checkpoint/verdict.h"
#include "common/error.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* What a reference folder is asked about when it does not name a prompt: the canonical one. */
#define VERIFY_PROMPT "Hello."

typedef struct {
    const char *reference; /* folder; NULL: the model's own (reference.h) */
    const char *expect;    /* NULL, or a name that expect.h knows */
} VerifyOptions;

/* Fills *t, rows in the order of the checkpoints, settled (verdict_settle). tokenizer may be NULL:
 * rows that need text are then not validated. progress may be NULL; it hears of each finished part.
 *
 * Memory  verdict_free.
 * Errors  those of reference_open, capture_run and expect_run. A reference tensor that is damaged
 *         or a value that is wrong is no error but a row that fails. */
ErrCode verify_run(VerdictTable *t, const Gpt2 *m, const Tokenizer *tokenizer, const Kernels *k,
                   const VerifyOptions *options, const Gpt2Progress *progress, Err *err) ERR_CHECK;

#endif
