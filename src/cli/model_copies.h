/* cli/model_copies.h: copies of a model whose weights have the same values: in other types, in
 * other files.
 *
 * May include: common, checkpoint, model, tokenizer. */
#ifndef LLORCH_CLI_MODEL_COPIES_H
#define LLORCH_CLI_MODEL_COPIES_H

#include "checkpoint/determinism.h"
#include "cli/cli.h"
#include "common/error.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    Gpt2 *model;                /* borrowed, not changed */
    const Tokenizer *tokenizer; /* borrowed; may be NULL */
    Gpt2Progress progress;
    char folder[CLI_PATH_BYTES]; /* made for the files, below TMPDIR or /tmp; empty: none */
} ModelCopies;

/* Lists the copies of c->model that there can be, in o; c must live as long as o is used. Weights
 * of 16 bits are widened exactly, so a copy in f32 counts; Q8_0 and Q4_0 round what they are
 * multiplied with, so they come in the same type only. A file is written when the copy is opened
 * and has no name any more once it is open.
 * Errors: ERR_IO (no folder can be made), ERR_USAGE (its name is too long). */
ErrCode model_copies_list(ModelCopies *c, DeterminismOptions *o, Err *err) ERR_CHECK;

/* Removes the folder; a zeroed one is allowed. */
void model_copies_free(ModelCopies *c);

#endif
