/* formats/safetensors.h: a read-only view of one .safetensors file or of all shards of an index.
 *
 * May include: common. */
#ifndef LLORCH_FORMATS_SAFETENSORS_H
#define LLORCH_FORMATS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

enum {
    ST_MAX_DIMS = 8,
    ST_MAX_HEADER_BYTES = 100000000, /* the format's own limit */
    ST_MAX_SHARDS = 1000
};

typedef enum { ST_F32, ST_F16, ST_BF16, ST_OTHER } StDtype;

typedef struct {
    const char *name; /* as in the file */
    const char *file; /* path of its file, for messages */
    StDtype dtype;
    const char *dtype_name; /* static text, as in the file: "F32", "I64" */
    int n_dims;
    size_t dims[ST_MAX_DIMS];
    const unsigned char *data; /* into the mapping; any alignment */
    size_t n_bytes;
    bool mapped; /* data lies in a mapped file, not in memory of the caller of safetensors_parse */
} StTensor;

typedef struct Safetensors Safetensors;

/* path: a .safetensors file, a *.index.json, or a directory that has model.safetensors or
 * model.safetensors.index.json. Header, shapes and offsets (no hole, no overlap) are checked here,
 * before anything else is read; shards are looked for in the index's directory only, and of their
 * tensors those that the index names are shown. Memory: *out is the caller's, safetensors_close;
 * tensors live as long as it. Errors: ERR_IO, ERR_FORMAT, ERR_LIMIT, ERR_MEMORY; messages "<path>:
 * <problem>" with tensor, found and expected. */
ErrCode safetensors_open(Safetensors **out, const char *path, Err *err) ERR_CHECK;

/* The same for one file in memory; what names it in messages. data stays the caller's and must
 * outlive *out. */
ErrCode safetensors_parse(Safetensors **out, const unsigned char *data, size_t size,
                          const char *what, Err *err) ERR_CHECK;

/* Hands the name of each file that the index at path lists to take, in order and once; false from
 * it ends that. They are plain names, and none is opened. Errors: those of safetensors_open for an
 * index. */
ErrCode safetensors_each_shard(const char *path, bool (*take)(void *ctx, const char *file),
                               void *ctx, Err *err) ERR_CHECK;

/* NULL is allowed. */
void safetensors_close(Safetensors *st);

/* All tensors, sorted by name (bytewise). */
const StTensor *safetensors_tensors(const Safetensors *st, size_t *n);

/* By exact name; NULL when absent. O(log n). */
const StTensor *safetensors_find(const Safetensors *st, const char *name);

/* The text of a key of __metadata__, *n bytes and a NUL (it may contain NULs); NULL when absent,
 * and for the shards of an index. Lives as long as st. O(log n). */
const char *safetensors_metadata(const Safetensors *st, const char *key, size_t *n);

/* The size of an element type of the format; false when it has none of this name. */
bool safetensors_dtype_bits(const char *dtype, unsigned *bits) ERR_CHECK;

/* The file that was opened, or the index of the shards; for messages about what is in none of them.
 * Lives as long as st. */
const char *safetensors_path(const Safetensors *st);

/* Total bytes of the mapped files. */
size_t safetensors_file_bytes(const Safetensors *st);

/* Gives the pages of a tensor back to the page cache once it has been packed. */
void safetensors_drop(const StTensor *t);

#endif
