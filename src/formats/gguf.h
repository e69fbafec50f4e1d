/* formats/gguf.h: a read-only view of one GGUF file: metadata and tensors.
 *
 * May include: common. */
#ifndef LLORCH_FORMATS_GGUF_H
#define LLORCH_FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/gguf_types.h"

enum {
    GGUF_MAX_DIMS = 4,
    GGUF_MAX_NAME_BYTES = 65535, /* of a key, as the format says, and of a tensor's name */
    GGUF_MAX_NESTING = 4,        /* arrays in arrays */
    /* A file can be long without having blocks on the disk, so its length alone bounds no work.
     * Models have some dozens of keys, twelve tensors a layer and some megabytes of tokens. */
    GGUF_MAX_KEYS = 65536,
    GGUF_MAX_TENSORS = 65536,
    GGUF_MAX_HEADER_BYTES = 256 * 1024 * 1024,
    GGUF_MAX_ALIGNMENT = 65536,
    GGUF_DEFAULT_ALIGNMENT = 32
};

/* Types of metadata values, as files have them. */
typedef enum {
    GGUF_META_U8 = 0,
    GGUF_META_I8 = 1,
    GGUF_META_U16 = 2,
    GGUF_META_I16 = 3,
    GGUF_META_U32 = 4,
    GGUF_META_I32 = 5,
    GGUF_META_F32 = 6,
    GGUF_META_BOOL = 7,
    GGUF_META_STRING = 8,
    GGUF_META_ARRAY = 9,
    GGUF_META_U64 = 10,
    GGUF_META_I64 = 11,
    GGUF_META_F64 = 12,
    GGUF_META_COUNT
} GgufMeta;

typedef struct {
    const char *name;
    const char *file;      /* path of the file, for messages */
    uint32_t type;         /* gguf_types.h; known, but gguf_widen may not support it */
    const char *type_name; /* static text */
    int n_dims;
    size_t dims[GGUF_MAX_DIMS]; /* as listed: dims[0] is the length of a row; 1 beyond n_dims */
    size_t n_elements;
    uint64_t offset;           /* in the data part of the file, as listed */
    const unsigned char *data; /* into the mapping; any alignment */
    size_t n_bytes;            /* > 0 */
    bool mapped; /* data lies in a mapped file, not in memory of gguf_parse's caller */
} GgufTensor;

typedef struct {
    const char *text; /* not NUL-terminated, any bytes */
    size_t n;
} GgufText;

/* Elements of an array of the metadata; lives as long as its Gguf. */
typedef struct {
    const unsigned char *at;  /* the next one; any alignment */
    size_t n;                 /* still to come */
    const unsigned char *end; /* of the file */
} GgufArray;

typedef struct Gguf Gguf;

/* Whether a file that begins with these bytes means to be GGUF, in whatever byte order. */
bool gguf_begins(const void *data, size_t n);

/* Opens a file of version 2 or 3, little endian. Every count, length, type and offset is checked
 * here; tensors of types that nothing here computes with are shown all the same, as long as their
 * size is known. Memory: *out is the caller's, gguf_close; all that is borrowed from it lives as
 * long as it. Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED (version, byte order, split files, types
 * of unknown size), ERR_LIMIT, ERR_MEMORY; messages "<path>: <problem>" with key or tensor, byte,
 * found and expected. */
ErrCode gguf_open(Gguf **out, const char *path, Err *err) ERR_CHECK;

/* The same for a file in memory; what names it in messages. data stays the caller's and must
 * outlive *out. */
ErrCode gguf_parse(Gguf **out, const unsigned char *data, size_t size, const char *what,
                   Err *err) ERR_CHECK;

/* NULL is allowed. */
void gguf_close(Gguf *g);

/* All tensors, sorted by name (bytewise). */
const GgufTensor *gguf_tensors(const Gguf *g, size_t *n);

/* By exact name; NULL when absent. O(log n). */
const GgufTensor *gguf_find(const Gguf *g, const char *name);

/* Whether gguf_widen takes t. Errors: ERR_UNSUPPORTED, naming tensor and type. */
ErrCode gguf_check_type(const GgufTensor *t, Err *err) ERR_CHECK;

/* Bytes of the file. */
size_t gguf_file_bytes(const Gguf *g);

/* Gives the pages of a tensor back to the page cache once it has been packed. */
void gguf_drop(const GgufTensor *t);

/* The metadata by key, O(log n). *out is only written when the key is there and its value fits;
 * *found says whether it is there. With found == NULL the key has to be there. Errors: ERR_FORMAT,
 * naming the key: absent although found is NULL, of another type than documented, out of range. */

/* Any integer type; min <= *out <= max. */
ErrCode gguf_integer(const Gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                     bool *found, Err *err) ERR_CHECK;

ErrCode gguf_f32(const Gguf *g, const char *key, float *out, bool *found, Err *err) ERR_CHECK;
ErrCode gguf_bool(const Gguf *g, const char *key, bool *out, bool *found, Err *err) ERR_CHECK;
ErrCode gguf_string(const Gguf *g, const char *key, GgufText *out, bool *found, Err *err) ERR_CHECK;

/* An array whose elements have exactly this type. */
ErrCode gguf_array(const Gguf *g, const char *key, GgufMeta element, GgufArray *out, bool *found,
                   Err *err) ERR_CHECK;

/* Takes the next element of an array of strings, I32, U32 or F32; false when none is left (or when
 * the file was changed under us and a string would lead out of it). Nothing is copied: a string
 * lies in the file. */
bool gguf_next_string(GgufArray *a, GgufText *out);
bool gguf_next_i32(GgufArray *a, int32_t *out);
bool gguf_next_u32(GgufArray *a, uint32_t *out);
bool gguf_next_f32(GgufArray *a, float *out);

#endif
