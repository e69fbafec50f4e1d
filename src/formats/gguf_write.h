/* formats/gguf_write.h: writes a GGUF file, version 3, little endian, from front to back: metadata,
 * then the list of tensors, then their data.
 *
 * Same calls, same bytes. Failures and misuse (a value that does not fit its type, a length that
 * was promised and not kept) are remembered: gguf_writer_finish reports the first one.
 *
 * May include: common. */
#ifndef LLORCH_FORMATS_GGUF_WRITE_H
#define LLORCH_FORMATS_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "common/new_file.h"
#include "formats/gguf.h"

typedef struct {
    NewFile file;
    Err error;             /* the first failure */
    JsonBuf keys, tensors; /* their bytes in the file */
    JsonBuf sizes;         /* uint64_t bytes of data of each tensor */
    uint64_t n_keys, n_tensors;
    uint64_t n_strings_left; /* of the array that was begun last */
    uint64_t data_end;       /* where the next tensor starts, in the data part */
    size_t alignment;
    bool in_data;       /* keys and tensors are written */
    uint64_t n_written; /* tensors whose data is complete */
    uint64_t n_left;    /* bytes that the next one still needs */
} GgufWriter;

/* Starts path under a temporary name. alignment: of tensors, a power of two, at most
 * GGUF_MAX_ALIGNMENT; the key general.alignment is written when it is not GGUF_DEFAULT_ALIGNMENT.
 * Errors: ERR_IO, ERR_USAGE; w then needs no other call. */
ErrCode gguf_writer_open(GgufWriter *w, const char *path, size_t alignment, Err *err) ERR_CHECK;

/* Metadata, in the order of the calls; each key once. */

/* type: one of the integer types; value is sign-extended for the signed ones: (uint64_t)-1. */
void gguf_writer_integer(GgufWriter *w, const char *key, GgufMeta type, uint64_t value);
void gguf_writer_f32(GgufWriter *w, const char *key, float value);
void gguf_writer_f64(GgufWriter *w, const char *key, double value);
void gguf_writer_bool(GgufWriter *w, const char *key, bool value);
void gguf_writer_string(GgufWriter *w, const char *key, const char *text, size_t n);
void gguf_writer_i32s(GgufWriter *w, const char *key, const int32_t *values, size_t n);
void gguf_writer_f32s(GgufWriter *w, const char *key, const float *values, size_t n);

/* An array of n strings; exactly n calls of gguf_writer_add have to follow. */
void gguf_writer_strings(GgufWriter *w, const char *key, size_t n);
void gguf_writer_add(GgufWriter *w, const char *text, size_t n);

/* Adds a tensor to the list; type from gguf_types.h, n_dims 1 to 4, dims[0] the length of a row. */
void gguf_writer_tensor(GgufWriter *w, const char *name, uint32_t type, int n_dims,
                        const size_t *dims);

/* Appends data[0..n) to the data of the tensors, which comes in the order of the list, each tensor
 * in any number of pieces; padding is added here. No key or tensor can be added after the first
 * call. False after a failure, which gguf_writer_finish reports: the rest need not be computed. */
bool gguf_writer_data(GgufWriter *w, const void *data, size_t n);

/* Completes the file under its name; on any failure nothing stays and path is what it was before.
 * w is closed in any case. Errors: ERR_IO, ERR_MEMORY, ERR_INTERNAL (misuse). */
ErrCode gguf_writer_finish(GgufWriter *w, Err *err) ERR_CHECK;

/* Instead of gguf_writer_finish: nothing stays. */
void gguf_writer_discard(GgufWriter *w);

#endif
