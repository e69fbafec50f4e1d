/* cli/convert.h: what quantize and pack share: their arguments, the model they load, the line they
 * end with.
 *
 * May include: common, kernels, model, tokenizer. */
#ifndef LLORCH_CLI_CONVERT_H
#define LLORCH_CLI_CONVERT_H

#include <stdbool.h>

#include "cli/cli.h"
#include "common/error.h"
#include "kernels/matrix.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    const char *model, *out; /* as given */
    bool has_type, has_table_type;
    KernType type, table_type;
    bool help; /* asked for: everything else was not looked at */
} ConvertArgs;

typedef struct {
    Gpt2 model;
    Tokenizer *tokenizer; /* has at most as many tokens as the model has rows */
    CliProgress progress; /* of whatever runs at the moment */
} Conversion;

/* --model, --type, --embedding-type, --out. Errors: ERR_USAGE; --out missing, too. */
ErrCode convert_parse(ConvertArgs *a, int argc, char **argv, Err *err) ERR_CHECK;

/* Loads the model in the types that a asks for, and its tokenizer, which becomes part of the new
 * file. a->out is looked at first, so that no long work ends at a place that cannot be written.
 * Errors: ERR_USAGE (--out), ERR_CANCELLED, those of cli_model_path, gpt2_load and tokenizer_load.
 * Memory: convert_free, also after an error. */
ErrCode convert_load(Conversion *c, const ConvertArgs *a, Err *err) ERR_CHECK;
void convert_free(Conversion *c); /* a zeroed one is allowed */

/* Shows progress on the terminal; false after Ctrl-C. ctx: a Conversion. */
bool convert_progress(void *ctx, double fraction);

/* Prints one line about the new file at path: bytes, types, share of the weights in float32. */
ErrCode convert_print_summary(const Gpt2 *m, const char *path, Err *err) ERR_CHECK;

/* The exit status for code; prints the error line. */
int convert_status(ErrCode code, const Err *err);

#endif
