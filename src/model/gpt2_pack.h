/* model/gpt2_pack.h: the packed form of a model in a file: a standard .safetensors file whose
 * tensors are the panels (kernels/matrix.h), so that serving maps it and computes.
 *
 * Tensors: every weight under its name (weights.h). Matrices as their panels, F32 / F16 / BF16
 * [n / 8, k, 8], Q8_0 as I8 [n / 8, k / 32, 16, 8, 2], Q4_0 as U8 [n / 8, k / 32, 4, 8, 4], with
 * "<name>.scales" F16 [n / 8, k / 32, 8]; vectors and positions as F32 in file order. "padding.N"
 * keeps each tensor at a multiple of 64 bytes. __metadata__: "format" "llorch-packed", "version",
 * "config" (as config.json has it), "file_types", "structure" (a checksum over names, types, shapes
 * and texts), "weights_hash" (fingerprint.h; earlier versions did not write it), and what the
 * caller adds: the tokenizer.
 *
 * May include: common, formats. */
#ifndef LLORCH_MODEL_GPT2_PACK_H
#define LLORCH_MODEL_GPT2_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "formats/safetensors.h"
#include "model/gpt2.h"

enum { GPT2_PACK_MAX_PARTS = 8 };

/* An array of the caller's that goes into the file as a tensor of one dimension. */
typedef struct {
    const char *name, *dtype;
    size_t n; /* elements */
    const void *data;
    size_t n_bytes;
} Gpt2PackPart;

typedef struct {
    Gpt2PackPart parts[GPT2_PACK_MAX_PARTS];
    size_t n_parts;
    const char *text_key, *text; /* one more entry of __metadata__; NULL for none */
} Gpt2PackExtra;

/* Writes m to path, whole or not at all. m is not changed, but for its weights_hash when it has
 * none yet; it may itself be mapped from a packed file. Errors: ERR_IO, ERR_MEMORY, ERR_LIMIT,
 * ERR_CANCELLED. */
ErrCode gpt2_pack_write(Gpt2 *m, const char *path, const Gpt2PackExtra *extra,
                        const Gpt2Progress *progress, Err *err) ERR_CHECK;

/* Whether this is such a file, of any version. */
bool gpt2_is_packed(const Safetensors *st);

/* Fills m, whose path and packed are set, from m->packed: checks version, checksum, types, shapes
 * and alignment, and points into the mapping. Values were checked when the file was written.
 * Errors: ERR_FORMAT, ERR_UNSUPPORTED (another version), ERR_USAGE (o asks for another type),
 * ERR_MEMORY; each names the file and what to do. */
ErrCode gpt2_load_packed(Gpt2 *m, const Gpt2LoadOptions *o, Err *err) ERR_CHECK;

#endif
