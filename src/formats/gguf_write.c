/* formats/gguf_write.c: keys and the list of tensors are collected in memory, because the header in
 * front of them has their number; data goes straight to the file.
 *
 * May include: common. */
#include "formats/gguf_write.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { GGUF_WRITE_VERSION = 3 };

static void fail(GgufWriter *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Only the first failure is kept: the others follow from it. */
static void fail(GgufWriter *w, const char *format, ...)
{
    char problem[ERR_MSG_BYTES];
    va_list args;

    if (w->error.code != ERR_OK)
        return;
    va_start(args, format);
    (void)vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    err_set(&w->error, ERR_INTERNAL, "%s: %s", w->file.path, problem);
}

static void put(JsonBuf *b, uint64_t value, size_t n_bytes)
{
    char bytes[8];

    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (char)(unsigned char)(value >> (8 * i));
    json_buf_add(b, bytes, n_bytes);
}

static void put_string(JsonBuf *b, const char *text, size_t n)
{
    put(b, n, 8);
    json_buf_add(b, text, n);
}

static void put_f32(JsonBuf *b, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    put(b, bits, 4);
}

ErrCode gguf_writer_open(GgufWriter *w, const char *path, size_t alignment, Err *err)
{
    if (alignment == 0 || alignment > GGUF_MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return err_set(err, ERR_USAGE, "%s: alignment %zu, expected a power of two, at most %d",
                       path, alignment, (int)GGUF_MAX_ALIGNMENT);
    memset(w, 0, sizeof *w);
    const ErrCode code = new_file_open(&w->file, path, err);
    if (code != ERR_OK)
        return code;
    w->alignment = alignment;
    if (alignment != GGUF_DEFAULT_ALIGNMENT)
        gguf_writer_integer(w, "general.alignment", GGUF_META_U32, alignment);
    return ERR_OK;
}

/* The key and the type of its value. */
static void begin_key(GgufWriter *w, const char *key, GgufMeta type)
{
    if (w->in_data)
        fail(w, "key %s comes after the first data", key);
    if (w->n_strings_left != 0)
        fail(w, "key %s: %" PRIu64 " strings are missing in the array before it", key,
             w->n_strings_left);
    if (strlen(key) > GGUF_MAX_NAME_BYTES)
        fail(w, "key of %zu bytes, expected at most %d", strlen(key), (int)GGUF_MAX_NAME_BYTES);
    w->n_keys++;
    put_string(&w->keys, key, strlen(key));
    put(&w->keys, type, 4);
}

static void begin_array(GgufWriter *w, const char *key, GgufMeta element, size_t n)
{
    begin_key(w, key, GGUF_META_ARRAY);
    put(&w->keys, element, 4);
    put(&w->keys, n, 8);
}

void gguf_writer_integer(GgufWriter *w, const char *key, GgufMeta type, uint64_t value)
{
    static const struct {
        uint8_t bytes, is_signed;
    } integers[GGUF_META_COUNT] = {
        [GGUF_META_U8] = {1, 0},  [GGUF_META_I8] = {1, 1},  [GGUF_META_U16] = {2, 0},
        [GGUF_META_I16] = {2, 1}, [GGUF_META_U32] = {4, 0}, [GGUF_META_I32] = {4, 1},
        [GGUF_META_U64] = {8, 0}, [GGUF_META_I64] = {8, 1},
    };
    const unsigned bytes = (unsigned)type < GGUF_META_COUNT ? integers[type].bytes : 0;

    begin_key(w, key, type);
    if (bytes == 0) {
        fail(w, "key %s: type %d is no integer type", key, (int)type);
        return;
    }
    /* What lies above the type's bits is all zeros, or repeats the sign. */
    const unsigned value_bits = 8 * bytes - integers[type].is_signed;
    const uint64_t above = value_bits < 64 ? value >> value_bits : 0;
    if (above != 0 && !(integers[type].is_signed && above == UINT64_MAX >> value_bits))
        fail(w, "key %s: %" PRIu64 " does not fit %u bytes", key, value, bytes);
    put(&w->keys, value, bytes);
}

void gguf_writer_f32(GgufWriter *w, const char *key, float value)
{
    begin_key(w, key, GGUF_META_F32);
    put_f32(&w->keys, value);
}

void gguf_writer_f64(GgufWriter *w, const char *key, double value)
{
    uint64_t bits;

    begin_key(w, key, GGUF_META_F64);
    memcpy(&bits, &value, sizeof bits);
    put(&w->keys, bits, 8);
}

void gguf_writer_bool(GgufWriter *w, const char *key, bool value)
{
    begin_key(w, key, GGUF_META_BOOL);
    put(&w->keys, value, 1);
}

void gguf_writer_string(GgufWriter *w, const char *key, const char *text, size_t n)
{
    begin_key(w, key, GGUF_META_STRING);
    put_string(&w->keys, text, n);
}

void gguf_writer_i32s(GgufWriter *w, const char *key, const int32_t *values, size_t n)
{
    begin_array(w, key, GGUF_META_I32, n);
    for (size_t i = 0; i < n; i++)
        put(&w->keys, (uint32_t)values[i], 4);
}

void gguf_writer_f32s(GgufWriter *w, const char *key, const float *values, size_t n)
{
    begin_array(w, key, GGUF_META_F32, n);
    for (size_t i = 0; i < n; i++)
        put_f32(&w->keys, values[i]);
}

void gguf_writer_strings(GgufWriter *w, const char *key, size_t n)
{
    begin_array(w, key, GGUF_META_STRING, n);
    w->n_strings_left = n;
}

void gguf_writer_add(GgufWriter *w, const char *text, size_t n)
{
    if (w->n_strings_left == 0) {
        fail(w, "more strings than the array was said to have");
        return;
    }
    w->n_strings_left--;
    put_string(&w->keys, text, n);
}

/* Bytes of a tensor; 0, and a failure, when there is none like it. */
static uint64_t tensor_bytes(GgufWriter *w, const char *name, uint32_t type, int n_dims,
                             const size_t *dims)
{
    const GgufType *t = gguf_type(type);
    size_t n = 1;

    if (t == NULL || t->block == 0 || n_dims < 1 || n_dims > GGUF_MAX_DIMS) {
        fail(w, "tensor %s: type %" PRIu32 " with %d dimensions cannot be written", name, type,
             n_dims);
        return 0;
    }
    if (dims[0] % t->block != 0) {
        fail(w, "tensor %s: rows of %zu elements, expected a multiple of %u for %s", name, dims[0],
             t->block, t->name);
        return 0;
    }
    for (int i = 0; i < n_dims; i++)
        if (dims[i] == 0 || __builtin_mul_overflow(n, dims[i], &n)) {
            fail(w, "tensor %s: dimension %d is %zu, and the product is 0 or overflows", name, i,
                 dims[i]);
            return 0;
        }
    if (__builtin_mul_overflow(n / t->block, (size_t)t->block_bytes, &n)) {
        fail(w, "tensor %s: the size overflows", name);
        return 0;
    }
    return n;
}

static size_t padding(const GgufWriter *w, uint64_t at)
{
    return (size_t)(-at & (w->alignment - 1));
}

void gguf_writer_tensor(GgufWriter *w, const char *name, uint32_t type, int n_dims,
                        const size_t *dims)
{
    const uint64_t n = tensor_bytes(w, name, type, n_dims, dims);
    uint64_t end;

    if (w->in_data)
        fail(w, "tensor %s comes after the first data", name);
    if (strlen(name) > GGUF_MAX_NAME_BYTES)
        fail(w, "tensor name of %zu bytes, expected at most %d", strlen(name),
             (int)GGUF_MAX_NAME_BYTES);
    if (__builtin_add_overflow(w->data_end, n, &end) ||
        __builtin_add_overflow(end, padding(w, end), &end))
        fail(w, "tensor %s: the size overflows", name);
    if (w->error.code != ERR_OK)
        return;
    put_string(&w->tensors, name, strlen(name));
    put(&w->tensors, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++)
        put(&w->tensors, dims[i], 8);
    put(&w->tensors, type, 4);
    put(&w->tensors, w->data_end, 8);
    json_buf_add(&w->sizes, (const char *)&n, sizeof n);
    w->data_end = end;
    w->n_tensors++;
}

static void write_zeros(GgufWriter *w, size_t n)
{
    static const unsigned char zeros[4096];

    for (size_t i = 0; i < n; i += sizeof zeros)
        (void)new_file_write(&w->file, zeros, n - i < sizeof zeros ? n - i : sizeof zeros);
}

/* Bytes of tensor i. */
static uint64_t tensor_size(const GgufWriter *w, uint64_t i)
{
    uint64_t n;

    memcpy(&n, w->sizes.data + i * sizeof n, sizeof n);
    return n;
}

/* Writes all that comes before the data. */
static void write_header(GgufWriter *w)
{
    JsonBuf head = {NULL, 0, 0, 0};

    w->in_data = true;
    if (w->n_strings_left != 0)
        fail(w, "%" PRIu64 " strings are missing in the last array", w->n_strings_left);
    json_buf_add(&head, "GGUF", 4);
    put(&head, GGUF_WRITE_VERSION, 4);
    put(&head, w->n_tensors, 8);
    put(&head, w->n_keys, 8);
    if ((head.oom || w->keys.oom || w->tensors.oom || w->sizes.oom) && w->error.code == ERR_OK)
        err_set(&w->error, ERR_MEMORY, "%s: out of memory", w->file.path);
    if (w->error.code == ERR_OK) {
        (void)new_file_write(&w->file, head.data, head.len);
        (void)new_file_write(&w->file, w->keys.data, w->keys.len);
        (void)new_file_write(&w->file, w->tensors.data, w->tensors.len);
        write_zeros(w, padding(w, head.len + w->keys.len + w->tensors.len));
        w->n_left = w->n_tensors > 0 ? tensor_size(w, 0) : 0;
    }
    json_buf_free(&head);
}

bool gguf_writer_data(GgufWriter *w, const void *data, size_t n)
{
    const unsigned char *p = data;

    if (!w->in_data)
        write_header(w);
    while (n > 0 && w->error.code == ERR_OK) {
        const size_t now = n < w->n_left ? n : (size_t)w->n_left;

        if (w->n_left == 0) {
            fail(w, "%zu bytes of data more than the tensors have", n);
            break;
        }
        (void)new_file_write(&w->file, p, now);
        p += now;
        n -= now;
        w->n_left -= now;
        if (w->n_left > 0)
            break;
        write_zeros(w, padding(w, tensor_size(w, w->n_written)));
        w->n_written++;
        w->n_left = w->n_written < w->n_tensors ? tensor_size(w, w->n_written) : 0;
    }
    return w->error.code == ERR_OK && w->file.failure == 0;
}

static void free_buffers(GgufWriter *w)
{
    json_buf_free(&w->keys);
    json_buf_free(&w->tensors);
    json_buf_free(&w->sizes);
}

ErrCode gguf_writer_finish(GgufWriter *w, Err *err)
{
    if (!w->in_data)
        write_header(w);
    if (w->n_written < w->n_tensors && w->file.failure == 0)
        fail(w, "data of %" PRIu64 " of %" PRIu64 " tensors is missing",
             w->n_tensors - w->n_written, w->n_tensors);
    if (w->error.code != ERR_OK) {
        gguf_writer_discard(w);
        return err_set(err, w->error.code, "%s", w->error.msg);
    }
    free_buffers(w);
    return new_file_commit(&w->file, err);
}

void gguf_writer_discard(GgufWriter *w)
{
    free_buffers(w);
    new_file_discard(&w->file);
}
