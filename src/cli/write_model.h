/* cli/write_model.h: a loaded model becomes a file, tokenizer included: GGUF, or packed.
 *
 * May include: common, kernels, model, tokenizer. */
#ifndef LLORCH_CLI_WRITE_MODEL_H
#define LLORCH_CLI_WRITE_MODEL_H

#include "common/error.h"
#include "kernels/matrix.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* Whether GGUF's architecture gpt2 can express the model. Errors: ERR_UNSUPPORTED. */
ErrCode write_model_gguf_check(const Gpt2 *m, Err *err) ERR_CHECK;

/* A GGUF file of the types that m has in memory; type: what the file says of itself. The model must
 * have passed write_model_gguf_check; it is not changed. t may be NULL: a file without a tokenizer.
 * progress may be NULL. The file is there as a whole or not at all.
 * Errors: ERR_IO, ERR_MEMORY, ERR_CANCELLED. */
ErrCode write_model_gguf(Gpt2 *m, const Tokenizer *t, KernType type, const char *path,
                         const Gpt2Progress *progress, Err *err) ERR_CHECK;

/* The same as a packed file (model/gpt2_pack.h). Errors: those of gpt2_pack_write. */
ErrCode write_model_packed(Gpt2 *m, const Tokenizer *t, const char *path,
                           const Gpt2Progress *progress, Err *err) ERR_CHECK;

#endif
