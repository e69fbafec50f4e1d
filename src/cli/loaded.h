/* cli/loaded.h: a model, its tokenizer and the kernels, for sub-commands that look at numbers:
 * capture, verify, explain and eval.
 *
 * May include: common, kernels, model, tokenizer. */
#ifndef LLORCH_CLI_LOADED_H
#define LLORCH_CLI_LOADED_H

#include "cli/cli.h"
#include "common/error.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    Gpt2 model;
    Tokenizer *tokenizer; /* NULL when the model has none */
    const Kernels *k;
    CliProgress progress; /* of whatever runs at the moment */
} CliLoaded;

/* given, isa: what --model and --isa said, or NULL. A model without a tokenizer is fine here, with
 * a line on standard error; a damaged one is not. Errors: those of cli_model_path, kernels_select,
 * gpt2_load and tokenizer_load; nothing stays allocated. */
ErrCode cli_load(CliLoaded *l, const char *given, const char *isa, Err *err) ERR_CHECK;

/* The same for sub-commands that work on text: the model must have a tokenizer, with no more tokens
 * than the model has rows; type: of the weights, NULL for as in the file. Ctrl-C, once caught, ends
 * loading: ERR_CANCELLED. */
ErrCode cli_load_text(CliLoaded *l, const char *given, const char *isa, const KernType *type,
                      Err *err) ERR_CHECK;

void cli_unload(CliLoaded *l); /* a zeroed one is allowed */

/* Shows progress on the terminal; ctx: a CliLoaded. */
bool cli_loaded_progress(void *ctx, double fraction);

#endif
