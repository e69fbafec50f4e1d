/* formats/safetensors_write.c: see safetensors_write.h.
 *
 * May include: common. */
#include "formats/safetensors_write.h"

#include <inttypes.h>
#include <string.h>

#include "common/json.h"
#include "common/text.h"

enum { LENGTH_BYTES = 8 };

/* ,"text": with the comma left out at the start of an object. */
static ErrCode add_name(JsonBuf *b, const char *text, const char *path, Err *err)
{
    if (!text_utf8_valid(text, strlen(text)))
        return err_set(err, ERR_INTERNAL, "%s: \"%s\" is not valid UTF-8", path, text);
    if (b->len > 0 && b->data[b->len - 1] != '{')
        json_buf_add(b, ",", 1);
    json_buf_string(b, text, strlen(text));
    json_buf_add(b, ":", 1);
    return ERR_OK;
}

static ErrCode add_texts(JsonBuf *b, const StNewText *texts, size_t n, const char *path, Err *err)
{
    if (add_name(b, "__metadata__", path, err) != ERR_OK)
        return err->code;
    json_buf_add(b, "{", 1);
    for (size_t i = 0; i < n; i++) {
        if (add_name(b, texts[i].key, path, err) != ERR_OK)
            return err->code;
        if (b->len > ST_MAX_HEADER_BYTES || texts[i].n > ST_MAX_HEADER_BYTES - b->len)
            return err_set(err, ERR_LIMIT, "%s: header of more than %d bytes", path,
                           (int)ST_MAX_HEADER_BYTES);
        /* json_buf_string would replace what is invalid. */
        if (!text_utf8_valid(texts[i].text, texts[i].n))
            return err_set(err, ERR_INTERNAL, "%s: __metadata__: %s is not valid UTF-8", path,
                           texts[i].key);
        json_buf_string(b, texts[i].text, texts[i].n);
    }
    json_buf_add(b, "}", 1);
    return ERR_OK;
}

/* Adds the tensor that starts at *at in the data and moves *at to its end. */
static ErrCode add_tensor(JsonBuf *b, const StNewTensor *t, uint64_t *at, const char *path,
                          Err *err)
{
    uint64_t n_bits;
    unsigned bits;

    if (!safetensors_dtype_bits(t->dtype, &bits) || t->n_dims < 0 || t->n_dims > ST_MAX_DIMS)
        return err_set(err, ERR_INTERNAL, "%s: tensor %s: type %s with %d dimensions", path,
                       t->name, t->dtype, t->n_dims);
    if (add_name(b, t->name, path, err) != ERR_OK)
        return err->code;
    json_buf_printf(b, "{\"dtype\":\"%s\",\"shape\":[", t->dtype);
    n_bits = bits;
    bool fits = true;
    for (int i = 0; i < t->n_dims; i++) {
        fits = fits && !__builtin_mul_overflow(n_bits, t->dims[i], &n_bits);
        json_buf_printf(b, "%s%zu", i > 0 ? "," : "", t->dims[i]);
    }
    const uint64_t start = *at;
    if (!fits || n_bits % 8 != 0 || __builtin_add_overflow(start, n_bits / 8, at))
        return err_set(err, ERR_INTERNAL, "%s: tensor %s: the size is no number of bytes", path,
                       t->name);
    json_buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", start, *at);
    return ERR_OK;
}

/* The header text, blanks at its end included; *n_data becomes the size of the data. */
static ErrCode make_header(JsonBuf *b, const StNewText *texts, size_t n_texts,
                           const StNewTensor *tensors, size_t n_tensors, uint64_t *n_data,
                           const char *path, Err *err)
{
    *n_data = 0;
    json_buf_add(b, "{", 1);
    if (n_texts > 0 && add_texts(b, texts, n_texts, path, err) != ERR_OK)
        return err->code;
    for (size_t i = 0; i < n_tensors; i++)
        if (add_tensor(b, &tensors[i], n_data, path, err) != ERR_OK)
            return err->code;
    json_buf_add(b, "}", 1);
    while (!b->oom && (LENGTH_BYTES + b->len) % ST_DATA_ALIGN != 0)
        json_buf_add(b, " ", 1);
    if (b->oom)
        return err_set(err, ERR_MEMORY, "%s: out of memory", path);
    if (b->len > ST_MAX_HEADER_BYTES)
        return err_set(err, ERR_LIMIT, "%s: header of %zu bytes, expected at most %d", path, b->len,
                       (int)ST_MAX_HEADER_BYTES);
    return ERR_OK;
}

ErrCode safetensors_writer_open(StWriter *w, const char *path, const StNewText *texts,
                                size_t n_texts, const StNewTensor *tensors, size_t n_tensors,
                                Err *err)
{
    JsonBuf header = {NULL, 0, 0, 0};
    Err own = {ERR_OK, ""};
    unsigned char length[LENGTH_BYTES];

    if (err == NULL)
        err = &own;
    *w = (StWriter){.too_much = false};
    ErrCode code = make_header(&header, texts, n_texts, tensors, n_tensors, &w->n_left, path, err);
    if (code == ERR_OK)
        code = new_file_open(&w->file, path, err);
    if (code == ERR_OK) {
        for (size_t i = 0; i < sizeof length; i++)
            length[i] = (unsigned char)((uint64_t)header.len >> (8 * i));
        (void)new_file_write(&w->file, length, sizeof length);
        (void)new_file_write(&w->file, header.data, header.len);
    }
    json_buf_free(&header);
    return code;
}

bool safetensors_writer_data(StWriter *w, const void *data, size_t n)
{
    w->too_much = w->too_much || n > w->n_left;
    if (w->too_much)
        return false;
    w->n_left -= n;
    return new_file_write(&w->file, data, n);
}

ErrCode safetensors_writer_finish(StWriter *w, Err *err)
{
    if (!w->too_much && (w->n_left == 0 || w->file.failure != 0))
        return new_file_commit(&w->file, err);
    safetensors_writer_discard(w);
    return err_set(err, ERR_INTERNAL, "%s: %s data than the tensors have", w->file.path,
                   w->too_much ? "more" : "less");
}

void safetensors_writer_discard(StWriter *w)
{
    new_file_discard(&w->file);
}
