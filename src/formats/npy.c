/* formats/npy.c: the header is a Python literal; a small strict scanner reads the one dictionary it
 * may be.
 *
 * May include: common. */
#include "formats/npy.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/mapped_file.h"
#include "common/new_file.h"

enum { NPY_MAGIC_BYTES = 6, NPY_DATA_ALIGN = 64 };

static const unsigned char npy_magic[NPY_MAGIC_BYTES] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

typedef enum { NPY_F4, NPY_F8 } NpyType;

/* A position in the header text. Each scan_* either moves at behind what it read, or fails and
 * fills err. */
typedef struct {
    const char *at, *end;
    const char *start, *what;
    Err *err;
} Scan;

/* What the header says; each key exactly once. */
typedef struct {
    NpyType type;
    size_t n;
    int n_dims;
    size_t dims[NPY_MAX_DIMS];
    bool has_descr, has_order, has_shape;
} Header;

static bool scan_fail(const Scan *s, const char *expected)
{
    err_set(s->err, ERR_FORMAT, "%s: header, character %zu: expected %s", s->what,
            (size_t)(s->at - s->start), expected);
    return false;
}

static void scan_blanks(Scan *s)
{
    while (s->at < s->end && *s->at == ' ')
        s->at++;
}

/* Whether the next character, after blanks, is c; if so it is consumed. */
static bool scan_maybe(Scan *s, char c)
{
    scan_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* A string without escapes, in either kind of quotes, with at most size - 1 characters. */
static bool scan_string(Scan *s, char *out, size_t size)
{
    size_t n = 0;

    scan_blanks(s);
    if (s->at == s->end || (*s->at != '\'' && *s->at != '"'))
        return scan_fail(s, "a string");
    const char quote = *s->at++;
    while (s->at < s->end && *s->at != quote) {
        if (*s->at == '\\' || (unsigned char)*s->at < 0x20 || n + 1 >= size)
            return scan_fail(s, "a short string without escapes");
        out[n++] = *s->at++;
    }
    if (s->at == s->end)
        return scan_fail(s, "a closing quote");
    s->at++;
    out[n] = '\0';
    return true;
}

static bool scan_word(Scan *s, const char *word)
{
    const size_t n = strlen(word);

    scan_blanks(s);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

static bool scan_number(Scan *s, size_t *out)
{
    const char *start = s->at;
    size_t v = 0;

    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (__builtin_mul_overflow(v, (size_t)10, &v) ||
            __builtin_add_overflow(v, (size_t)(*s->at - '0'), &v))
            return scan_fail(s, "a dimension that fits 64 bits");
    if (s->at == start || (*start == '0' && s->at - start > 1))
        return scan_fail(s, "a dimension");
    *out = v;
    return true;
}

/* A tuple of dimensions: (), (3,), (3, 4) or (3, 4,). A single number needs its comma, as in
 * Python. */
static bool scan_shape(Scan *s, Header *h)
{
    bool comma = true;

    if (!scan_maybe(s, '('))
        return scan_fail(s, "a tuple");
    h->n = 1;
    while (!scan_maybe(s, ')')) {
        if (!comma)
            return scan_fail(s, "a comma");
        if (h->n_dims == NPY_MAX_DIMS)
            return scan_fail(s, "at most 8 dimensions");
        if (!scan_number(s, &h->dims[h->n_dims]))
            return false;
        if (!size_mul(h->n, h->dims[h->n_dims++], &h->n))
            return scan_fail(s, "a shape whose product fits 64 bits");
        comma = scan_maybe(s, ',');
    }
    if (h->n_dims == 1 && !comma)
        return scan_fail(s, "a tuple, which needs a comma");
    return true;
}

static bool scan_descr(Scan *s, Header *h)
{
    char descr[16];

    if (!scan_string(s, descr, sizeof descr))
        return false;
    if (strcmp(descr, "<f4") != 0 && strcmp(descr, "<f8") != 0) {
        err_set(s->err, ERR_UNSUPPORTED, "%s: descr is '%s', expected '<f4' or '<f8'", s->what,
                descr);
        return false;
    }
    h->type = descr[2] == '4' ? NPY_F4 : NPY_F8;
    return true;
}

static bool scan_order(Scan *s)
{
    if (scan_word(s, "False"))
        return true;
    if (!scan_word(s, "True"))
        return scan_fail(s, "True or False");
    err_set(s->err, ERR_UNSUPPORTED, "%s: fortran_order is True, expected False", s->what);
    return false;
}

/* One "key: value" of the dictionary. */
static bool scan_pair(Scan *s, Header *h)
{
    char key[16];

    if (!scan_string(s, key, sizeof key))
        return false;
    bool *seen = strcmp(key, "descr") == 0           ? &h->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &h->has_order
                 : strcmp(key, "shape") == 0         ? &h->has_shape
                                                     : NULL;
    if (seen == NULL || *seen)
        return scan_fail(s, "descr, fortran_order and shape, each once");
    *seen = true;
    if (!scan_maybe(s, ':'))
        return scan_fail(s, "a colon");
    scan_blanks(s);
    if (seen == &h->has_descr)
        return scan_descr(s, h);
    return seen == &h->has_order ? scan_order(s) : scan_shape(s, h);
}

static bool scan_header(Scan *s, Header *h)
{
    bool comma = true;

    if (!scan_maybe(s, '{'))
        return scan_fail(s, "'{'");
    while (!scan_maybe(s, '}')) {
        if (!comma)
            return scan_fail(s, "a comma");
        if (!scan_pair(s, h))
            return false;
        comma = scan_maybe(s, ',');
    }
    if (!h->has_descr || !h->has_order || !h->has_shape)
        return scan_fail(s, "descr, fortran_order and shape, each once");
    scan_blanks(s);
    if (s->end - s->at != 1 || *s->at != '\n')
        return scan_fail(s, "spaces and a final line feed");
    return true;
}

/* Finds the header text: *n bytes from data + *at on. */
static ErrCode find_header(const unsigned char *data, size_t size, const char *what, size_t *at,
                           size_t *n, Err *err)
{
    if (size < NPY_MAGIC_BYTES || memcmp(data, npy_magic, NPY_MAGIC_BYTES) != 0) {
        const char *kind = mapped_file_kind(data, size);

        if (kind == NULL)
            return err_set(err, ERR_FORMAT, "%s: not a NumPy .npy file", what);
        return err_set(err, ERR_FORMAT, "%s: this is %s, expected a NumPy .npy file", what, kind);
    }
    if (size < 8)
        return err_set(err, ERR_FORMAT, "%s: ends inside the version", what);
    const unsigned major = data[6], minor = data[7];
    if (major < 1 || major > 3 || minor != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: version %u.%u, expected 1.0, 2.0 or 3.0", what,
                       major, minor);
    *at = major == 1 ? 10 : 12;
    if (size < *at)
        return err_set(err, ERR_FORMAT, "%s: ends inside the header length", what);
    *n = (size_t)data[8] | (size_t)data[9] << 8;
    if (major > 1)
        *n |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (*n > NPY_MAX_HEADER_BYTES)
        return err_set(err, ERR_LIMIT, "%s: header of %zu bytes, expected at most %d", what, *n,
                       (int)NPY_MAX_HEADER_BYTES);
    if (*n > size - *at)
        return err_set(err, ERR_FORMAT, "%s: header of %zu bytes, but only %zu bytes follow", what,
                       *n, size - *at);
    return ERR_OK;
}

static uint64_t load_le(const unsigned char *p, int n)
{
    uint64_t v = 0;

    for (int i = n - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void convert(float *out, const unsigned char *data, size_t n, NpyType type)
{
    for (size_t i = 0; i < n; i++) {
        if (type == NPY_F4) {
            const uint32_t bits = (uint32_t)load_le(data + 4 * i, 4);

            memcpy(out + i, &bits, sizeof bits);
        } else {
            const uint64_t bits = load_le(data + 8 * i, 8);
            double wide;

            memcpy(&wide, &bits, sizeof bits);
            out[i] = (float)wide;
        }
    }
}

ErrCode npy_parse(Npy *npy, const unsigned char *data, size_t size, const char *what, Err *err)
{
    Header h = {.n_dims = 0};
    size_t at = 0, n = 0, n_bytes = 0;
    Err own = {ERR_OK, ""};

    if (err == NULL)
        err = &own;
    if (find_header(data, size, what, &at, &n, err) != ERR_OK)
        return err->code;
    const char *text = (const char *)data + at;
    Scan s = {text, text + n, text, what, err};
    if (!scan_header(&s, &h))
        return err->code;

    const size_t n_present = size - at - n;
    if (!size_mul(h.n, h.type == NPY_F4 ? 4 : 8, &n_bytes) || n_bytes != n_present)
        return err_set(err, ERR_FORMAT,
                       "%s: %zu bytes of data for a shape of %zu values of %d bytes", what,
                       n_present, h.n, h.type == NPY_F4 ? 4 : 8);
    Npy made = {.n = h.n, .n_dims = h.n_dims, .rounded = h.type == NPY_F8};
    memcpy(made.dims, h.dims, sizeof made.dims);
    /* h.n * 4 cannot overflow: that many bytes are there. */
    if (arena_init(&made.memory, h.n * sizeof(float), what, err) != ERR_OK)
        return err->code;
    made.data = h.n > 0 ? arena_alloc(&made.memory, h.n, sizeof(float)) : NULL;
    convert(made.data, data + at + n, h.n, h.type);
    *npy = made;
    return ERR_OK;
}

ErrCode npy_open(Npy *npy, const char *path, Err *err)
{
    MappedFile f;

    const ErrCode opened = mapped_file_open(&f, path, 0, err);
    if (opened != ERR_OK)
        return opened;
    const ErrCode code = npy_parse(npy, f.data, f.size, path, err);
    mapped_file_close(&f);
    return code;
}

void npy_close(Npy *npy)
{
    arena_free(&npy->memory);
    *npy = (Npy){.data = NULL};
}

/* Makes the whole prefix of a version 1.0 file; returns its length, a multiple of NPY_DATA_ALIGN.
 */
static size_t make_prefix(char *out, size_t size, int n_dims, const size_t *dims)
{
    int n = snprintf(out + 10, size - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (");

    for (int i = 0; i < n_dims; i++)
        n += snprintf(out + 10 + n, size - 10 - (size_t)n, i == 0 ? "%zu" : ", %zu", dims[i]);
    n += snprintf(out + 10 + n, size - 10 - (size_t)n, n_dims == 1 ? ",), }" : "), }");

    const size_t used = 10 + (size_t)n;
    const size_t total = (used + 1 + NPY_DATA_ALIGN - 1) / NPY_DATA_ALIGN * NPY_DATA_ALIGN;
    memset(out + used, ' ', total - used - 1);
    out[total - 1] = '\n';
    memcpy(out, npy_magic, NPY_MAGIC_BYTES);
    out[6] = 1;
    out[7] = 0;
    out[8] = (char)((total - 10) & 255);
    out[9] = (char)((total - 10) >> 8);
    return total;
}

/* Little-endian bytes of the floats, through a small buffer, so that the file is the same from
 * every machine. */
static bool write_floats(NewFile *f, const float *data, size_t n)
{
    unsigned char block[4096];

    assert(n == 0 || data != NULL);
    while (n > 0) {
        const size_t k = n < sizeof block / 4 ? n : sizeof block / 4;

        for (size_t i = 0; i < k; i++) {
            uint32_t bits;

            memcpy(&bits, data + i, sizeof bits);
            for (int b = 0; b < 4; b++)
                block[4 * i + (size_t)b] = (unsigned char)(bits >> (8 * b));
        }
        if (!new_file_write(f, block, 4 * k))
            return false;
        data += k;
        n -= k;
    }
    return true;
}

/* What npy_write and npy_write_rows put behind the prefix: rows of n_cols values each. */
typedef struct {
    size_t n_rows, n_cols;
    const float *data; /* NULL: row fills room */
    NpyRow row;
    void *ctx;
    float *room;
} Body;

static void write_body(NewFile *f, const Body *b)
{
    for (size_t i = 0; i < b->n_rows; i++) {
        if (b->row != NULL)
            b->row(b->ctx, i, b->room);
        if (!write_floats(f, b->row != NULL ? b->room : b->data + i * b->n_cols, b->n_cols))
            return;
    }
}

static ErrCode write_file(const char *path, const Body *body, int n_dims, const size_t *dims,
                          Err *err)
{
    char prefix[512];
    NewFile f;
    const ErrCode code = new_file_open(&f, path, err);

    if (code != ERR_OK)
        return code;
    if (new_file_write(&f, prefix, make_prefix(prefix, sizeof prefix, n_dims, dims)))
        write_body(&f, body);
    return new_file_commit(&f, err);
}

ErrCode npy_write(const char *path, const float *data, int n_dims, const size_t *dims, Err *err)
{
    size_t n = 1;

    if (n_dims < 0 || n_dims > NPY_MAX_DIMS)
        return err_set(err, ERR_INTERNAL, "%s: %d dimensions, expected at most %d", path, n_dims,
                       (int)NPY_MAX_DIMS);
    for (int i = 0; i < n_dims; i++)
        if (!size_mul(n, dims[i], &n))
            return err_set(err, ERR_INTERNAL, "%s: the product of the shape overflows", path);
    const Body body = {.n_rows = 1, .n_cols = n, .data = data};
    return write_file(path, &body, n_dims, dims, err);
}

ErrCode npy_write_rows(const char *path, size_t n_rows, size_t n_cols, NpyRow row, void *ctx,
                       float *room, Err *err)
{
    const Body body = {.n_rows = n_rows, .n_cols = n_cols, .row = row, .ctx = ctx, .room = room};

    return write_file(path, &body, 2, (const size_t[]){n_rows, n_cols}, err);
}
