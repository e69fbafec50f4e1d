/* model/weight_source.h: the tensors of a model file under one set of names, whether it is
 * safetensors or GGUF.
 *
 * May include: common, formats, kernels. */
#ifndef LLORCH_MODEL_WEIGHT_SOURCE_H
#define LLORCH_MODEL_WEIGHT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "kernels/pack.h"

typedef struct {
    const char *file, *name, *type_name; /* for messages, as in the file */
    int n_dims;
    size_t dims[2]; /* as listed in the file; 1 where there is no second */
    const unsigned char *data;
    bool known; /* type is what the data is ... */
    KernType type;
    uint32_t gguf_type; /* ... else gguf_widen reads it */
    KernOrder order;    /* of a projection */
} SourceTensor;

/* Exactly one of the two is open. */
typedef struct {
    Safetensors *st;
    Gguf *gguf;
    bool prefixed;    /* names begin with "transformer." */
    const char *path; /* borrowed */
} WeightSource;

/* What path leads to: a .gguf file by its first bytes, else safetensors_open. Memory:
 * weight_source_close. Errors: those of the two. */
ErrCode weight_source_open(WeightSource *s, const char *path, Err *err) ERR_CHECK;
void weight_source_close(WeightSource *s); /* a zeroed one is allowed */

/* What GGUF calls the weight name. */
void weight_source_gguf_name(char *out, size_t size, const char *name);

/* The tensor called name (weights.h) here, with n outputs of k inputs (k 0: a vector) whose types
 * can be read. projection: stored [in, out] in safetensors.
 * Errors: ERR_FORMAT (missing, shape), ERR_UNSUPPORTED (type), with file, tensor, found, expected.
 */
ErrCode weight_source_require(const WeightSource *s, const char *name, size_t n, size_t k,
                              bool projection, SourceTensor *out, Err *err) ERR_CHECK;

/* Whether there is a tensor called name, of any shape. */
bool weight_source_has(const WeightSource *s, const char *name);

/* Bytes of one row of k weights; rows of every type begin at a byte. */
size_t source_row_bytes(const SourceTensor *t, size_t k);

/* n weights from index on as float32; both whole blocks. */
void source_widen(float *dst, const SourceTensor *t, size_t index, size_t n);

/* Element index as float32. */
float source_element(const SourceTensor *t, size_t index);

/* Lets go of the file's pages behind a tensor that has been packed. */
void weight_source_drop(const WeightSource *s, const char *name);

#endif
