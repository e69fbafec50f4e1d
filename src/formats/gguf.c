/* formats/gguf.c: the file is walked twice: once to check it and to count what has to be kept, then
 * to keep it. No number of the file sizes anything before it was compared with the bytes that are
 * there.
 *
 * May include: common. */
#include "formats/gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/mapped_file.h"

/* The smallest that a key with its value and a tensor's entry can be; an array's element, for
 * strings and arrays, is at least its length. */
enum {
    KEY_MIN_BYTES = 8 + 4 + 1,
    TENSOR_MIN_BYTES = 8 + 4 + 8 + 4 + 8,
    STRING_MIN_BYTES = 8,
    ARRAY_MIN_BYTES = 4 + 8
};

/* One key and its value, both where the file has them. */
typedef struct {
    GgufText key;
    uint32_t type;              /* a GgufMeta */
    uint32_t element;           /* of an array */
    size_t n;                   /* elements of an array */
    const unsigned char *value; /* of a string: its length; of an array: its first element */
} Entry;

struct Gguf {
    Arena memory;    /* this struct, path, entries, tensors, names */
    MappedFile file; /* owned; empty for gguf_parse */
    size_t size;
    const unsigned char *end; /* of the file's bytes */
    const char *path;
    Entry *entries; /* sorted by key */
    size_t n_entries;
    GgufTensor *tensors; /* sorted by name */
    size_t n_tensors;
};

/* A position in the file. Each read_* moves it behind what was read, or fails and fills err. */
typedef struct {
    const unsigned char *data;
    size_t size, at;  /* size: of what may belong to the header */
    bool cut;         /* the file goes on behind size */
    const char *part; /* "key", "tensor" or NULL: what name belongs to */
    GgufText name;
    const char *what;
    Err *err;
} Cursor;

static const struct {
    const char *name;
    unsigned bytes; /* smallest, for strings and arrays */
} meta_types[GGUF_META_COUNT] = {
    [GGUF_META_U8] = {"U8", 1},
    [GGUF_META_I8] = {"I8", 1},
    [GGUF_META_U16] = {"U16", 2},
    [GGUF_META_I16] = {"I16", 2},
    [GGUF_META_U32] = {"U32", 4},
    [GGUF_META_I32] = {"I32", 4},
    [GGUF_META_F32] = {"F32", 4},
    [GGUF_META_BOOL] = {"bool", 1},
    [GGUF_META_U64] = {"U64", 8},
    [GGUF_META_I64] = {"I64", 8},
    [GGUF_META_F64] = {"F64", 8},
    [GGUF_META_STRING] = {"string", STRING_MIN_BYTES},
    [GGUF_META_ARRAY] = {"array", ARRAY_MIN_BYTES},
};

/* Little endian, n <= 8 bytes. */
static uint64_t load(const unsigned char *p, size_t n)
{
    uint64_t v = 0;

    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

static float load_f32(const unsigned char *p)
{
    const uint32_t bits = (uint32_t)load(p, 4);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static bool cursor_fail(const Cursor *c, ErrCode code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The message gets file, key or tensor, and place in front. */
static bool cursor_fail(const Cursor *c, ErrCode code, const char *format, ...)
{
    char problem[ERR_MSG_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    if (c->part == NULL)
        err_set(c->err, code, "%s: byte %zu: %s", c->what, c->at, problem);
    else
        err_set(c->err, code, "%s: %s %.*s: byte %zu: %s", c->what, c->part, (int)c->name.n,
                c->name.text, c->at, problem);
    return false;
}

static size_t cursor_left(const Cursor *c)
{
    return c->size - c->at;
}

/* The header does not end where the file does, or where it has to. */
static bool too_short(const Cursor *c, const char *item, const char *of, uint64_t n,
                      const char *unit)
{
    if (c->cut)
        return cursor_fail(c, ERR_LIMIT,
                           "%s%s %" PRIu64
                           "%s leads beyond the first %d bytes, where the header must end",
                           item, of, n, unit, (int)GGUF_MAX_HEADER_BYTES);
    return cursor_fail(c, ERR_FORMAT, "%s%s %" PRIu64 "%s, but only %zu bytes follow", item, of, n,
                       unit, cursor_left(c));
}

/* The next n bytes; NULL on failure. */
static const unsigned char *read_bytes(Cursor *c, uint64_t n, const char *item)
{
    const unsigned char *p = c->data + c->at;

    if (n > cursor_left(c)) {
        (void)too_short(c, item, " of", n, " bytes");
        return NULL;
    }
    c->at += (size_t)n;
    return p;
}

static bool read_number(Cursor *c, size_t n, const char *item, uint64_t *out)
{
    const unsigned char *p = read_bytes(c, n, item);

    if (p == NULL)
        return false;
    *out = load(p, n);
    return true;
}

/* A count of things of at least min_bytes each. */
static bool read_count(Cursor *c, size_t min_bytes, const char *item, size_t *out)
{
    uint64_t n;

    if (!read_number(c, 8, item, &n))
        return false;
    if (n > cursor_left(c) / min_bytes)
        return too_short(c, item, "", n, "");
    *out = (size_t)n;
    return true;
}

static bool read_string(Cursor *c, const char *item, GgufText *out)
{
    uint64_t n;

    if (!read_number(c, 8, item, &n))
        return false;
    const unsigned char *p = read_bytes(c, n, item);
    if (p == NULL)
        return false;
    *out = (GgufText){(const char *)p, (size_t)n};
    return true;
}

/* The name of a key or a tensor; messages of what follows carry it. */
static bool read_name(Cursor *c, const char *part, GgufText *out)
{
    c->part = NULL;
    if (!read_string(c, part, out))
        return false;
    if (out->n > GGUF_MAX_NAME_BYTES)
        return cursor_fail(c, ERR_LIMIT, "%s of %zu bytes, expected at most %d", part, out->n,
                           (int)GGUF_MAX_NAME_BYTES);
    /* Names are used as C strings. */
    if (memchr(out->text, '\0', out->n) != NULL)
        return cursor_fail(c, ERR_FORMAT, "a NUL byte in the name of a %s", part);
    c->part = part;
    c->name = *out;
    return true;
}

static bool read_meta_type(Cursor *c, const char *item, uint32_t *out)
{
    uint64_t type;

    if (!read_number(c, 4, item, &type))
        return false;
    if (type >= GGUF_META_COUNT)
        return cursor_fail(c, ERR_FORMAT, "%s %" PRIu64 ", expected 0 to %d", item, type,
                           GGUF_META_COUNT - 1);
    *out = (uint32_t)type;
    return true;
}

static bool check_bools(const Cursor *c, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1)
            return cursor_fail(c, ERR_FORMAT, "a boolean is %d, expected 0 or 1", p[i]);
    return true;
}

static bool read_array(Cursor *c, int depth, uint32_t *element, size_t *n);

static bool skip_strings(Cursor *c, size_t n)
{
    GgufText text;

    for (size_t i = 0; i < n; i++)
        if (!read_string(c, "string", &text))
            return false;
    return true;
}

/* Moves over n values of one type, which lie in depth arrays. */
static bool skip_values(Cursor *c, uint32_t type, size_t n, int depth)
{
    uint32_t element = 0;
    size_t count = 0;

    if (type == GGUF_META_STRING)
        return skip_strings(c, n);
    if (type == GGUF_META_ARRAY) {
        for (size_t i = 0; i < n; i++)
            if (!read_array(c, depth + 1, &element, &count) ||
                !skip_values(c, element, count, depth + 1))
                return false;
        return true;
    }
    /* No overflow: n values of this size were seen to fit the file, or n is 1. */
    const unsigned char *p = read_bytes(c, n * meta_types[type].bytes, "value");
    return p != NULL && (type != GGUF_META_BOOL || check_bools(c, p, n));
}

/* The head of an array, which itself lies in depth - 1 others. */
static bool read_array(Cursor *c, int depth, uint32_t *element, size_t *n)
{
    if (depth > GGUF_MAX_NESTING)
        return cursor_fail(c, ERR_FORMAT, "arrays nested deeper than %d", (int)GGUF_MAX_NESTING);
    return read_meta_type(c, "type of array elements", element) &&
           read_count(c, meta_types[*element].bytes, "array length", n);
}

static bool read_entry(Cursor *c, Entry *e)
{
    if (!read_name(c, "key", &e->key) || !read_meta_type(c, "type", &e->type))
        return false;
    if (e->type == GGUF_META_ARRAY && !read_array(c, 1, &e->element, &e->n))
        return false;
    e->value = c->data + c->at;
    return e->type == GGUF_META_ARRAY ? skip_values(c, e->element, e->n, 1)
                                      : skip_values(c, e->type, 1, 0);
}

/* n_dims and dims of t, and the number of elements. */
static bool read_dims(Cursor *c, GgufTensor *t)
{
    uint64_t n_dims;

    if (!read_number(c, 4, "number of dimensions", &n_dims))
        return false;
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return cursor_fail(c, ERR_FORMAT, "%" PRIu64 " dimensions, expected 1 to %d", n_dims,
                           (int)GGUF_MAX_DIMS);
    t->n_dims = (int)n_dims;
    t->n_elements = 1;
    for (int i = 0; i < GGUF_MAX_DIMS; i++) {
        uint64_t dim = 1;

        if (i < t->n_dims && !read_number(c, 8, "dimension", &dim))
            return false;
        if (dim == 0)
            return cursor_fail(c, ERR_FORMAT, "dimension %d is 0", i);
        if (__builtin_mul_overflow(t->n_elements, dim, &t->n_elements))
            return cursor_fail(c, ERR_FORMAT, "the product of the dimensions overflows");
        t->dims[i] = (size_t)dim;
    }
    return true;
}

/* The type of t, and from it the bytes. */
static bool read_type(Cursor *c, GgufTensor *t)
{
    uint64_t id;

    if (!read_number(c, 4, "type", &id))
        return false;
    const GgufType *type = gguf_type((uint32_t)id);
    if (type == NULL)
        return cursor_fail(c, ERR_UNSUPPORTED, "type %" PRIu64 " is unknown", id);
    if (type->block == 0)
        return cursor_fail(c, ERR_UNSUPPORTED, "type %s is not supported", type->name);
    if (t->dims[0] % type->block != 0)
        return cursor_fail(c, ERR_FORMAT, "rows of %zu elements, expected a multiple of %u for %s",
                           t->dims[0], type->block, type->name);
    if (!size_mul(t->n_elements / type->block, type->block_bytes, &t->n_bytes))
        return cursor_fail(c, ERR_FORMAT, "the size overflows");
    t->type = (uint32_t)id;
    t->type_name = type->name;
    return true;
}

/* *name is where the file has it; t->name is left to the caller. */
static bool read_tensor(Cursor *c, GgufTensor *t, GgufText *name)
{
    return read_name(c, "tensor", name) && read_dims(c, t) && read_type(c, t) &&
           read_number(c, 8, "offset", &t->offset);
}

/* For files that are something else: says what, if that can be seen. */
static ErrCode not_gguf(const unsigned char *data, size_t size, const char *what, Err *err)
{
    const char *kind = mapped_file_kind(data, size);

    if (kind != NULL && strcmp(kind, "a GGUF model") != 0)
        return err_set(err, ERR_FORMAT, "%s: this is %s, expected a GGUF model", what, kind);
    return err_set(err, ERR_FORMAT, "%s: the file does not start with \"GGUF\"", what);
}

/* Magic, version and counts. */
static ErrCode read_header(Cursor *c, size_t *n_tensors, size_t *n_keys)
{
    uint64_t version;

    if (c->size >= 4 && memcmp(c->data, "FUGG", 4) == 0)
        return err_set(c->err, ERR_UNSUPPORTED, "%s: big endian, expected little endian", c->what);
    if (c->size < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return not_gguf(c->data, c->size, c->what, c->err);
    c->at = 4;
    if (!read_number(c, 4, "version", &version))
        return c->err->code;
    /* Swapped, a small version has its bytes at the upper end. */
    if (version != 0 && (version & 0xffff) == 0)
        return err_set(c->err, ERR_UNSUPPORTED, "%s: big endian, expected little endian", c->what);
    if (version != 2 && version != 3)
        return err_set(c->err, ERR_UNSUPPORTED, "%s: version %" PRIu64 ", expected 2 or 3", c->what,
                       version);
    if (!read_count(c, TENSOR_MIN_BYTES, "number of tensors", n_tensors) ||
        !read_count(c, KEY_MIN_BYTES, "number of keys", n_keys))
        return c->err->code;
    if (*n_tensors > GGUF_MAX_TENSORS || *n_keys > GGUF_MAX_KEYS)
        return err_set(c->err, ERR_LIMIT,
                       "%s: %zu tensors and %zu keys, expected at most %d and %d", c->what,
                       *n_tensors, *n_keys, (int)GGUF_MAX_TENSORS, (int)GGUF_MAX_KEYS);
    return ERR_OK;
}

/* Walks the whole header without keeping anything; adds up the bytes of the tensors' names. */
static ErrCode measure(Cursor *c, size_t n_tensors, size_t n_keys, size_t *name_bytes)
{
    Entry e;
    GgufTensor t;
    GgufText name;

    for (size_t i = 0; i < n_keys; i++)
        if (!read_entry(c, &e))
            return c->err->code;
    for (size_t i = 0; i < n_tensors; i++) {
        if (!read_tensor(c, &t, &name))
            return c->err->code;
        *name_bytes += name.n + 1;
    }
    return ERR_OK;
}

/* An object with room for what was measured. */
static Gguf *gguf_new(size_t n_tensors, size_t n_keys, size_t name_bytes, const char *what,
                      char **names, Err *err)
{
    const size_t n_path = strlen(what) + 1;
    Arena memory;
    size_t total = 0;

    if (!arena_plan(&total, 1, sizeof(Gguf)) || !arena_plan(&total, n_path, 1) ||
        !arena_plan(&total, n_keys, sizeof(Entry)) ||
        !arena_plan(&total, n_tensors, sizeof(GgufTensor)) || !arena_plan(&total, name_bytes, 1)) {
        err_set(err, ERR_MEMORY, "%s: too many keys and tensors", what);
        return NULL;
    }
    if (arena_init(&memory, total, what, err) != ERR_OK)
        return NULL;
    Gguf *g = arena_alloc(&memory, 1, sizeof *g);
    char *path = arena_alloc(&memory, n_path, 1);
    Entry *entries = arena_alloc(&memory, n_keys, sizeof *entries);
    GgufTensor *tensors = arena_alloc(&memory, n_tensors, sizeof *tensors);
    *names = arena_alloc(&memory, name_bytes, 1);
    if (g == NULL || path == NULL || entries == NULL || tensors == NULL || *names == NULL) {
        arena_free(&memory);
        err_set(err, ERR_INTERNAL, "%s: planned too small", what);
        return NULL;
    }
    *g = (Gguf){.memory = memory,
                .path = memcpy(path, what, n_path),
                .entries = entries,
                .tensors = tensors};
    return g;
}

static int compare_texts(const char *a, size_t n_a, const char *b, size_t n_b)
{
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);

    return order != 0 ? order : (n_a > n_b) - (n_a < n_b);
}

static int compare_entries(const void *a, const void *b)
{
    const Entry *x = a, *y = b;

    return compare_texts(x->key.text, x->key.n, y->key.text, y->key.n);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const GgufTensor *)a)->name, ((const GgufTensor *)b)->name);
}

static int compare_offsets(const void *a, const void *b)
{
    const GgufTensor *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* A mapped file shows what others write to it: what was checked may be something else now. */
static ErrCode changed(const Cursor *c)
{
    (void)cursor_fail(c, ERR_FORMAT, "the file changed while it was read");
    return ERR_FORMAT;
}

/* The second walk; names: room for as many bytes as the first walk counted. */
static ErrCode keep_all(Gguf *g, Cursor *c, size_t n_tensors, size_t n_keys, char *names,
                        size_t name_bytes, bool mapped)
{
    GgufText name;

    for (; g->n_entries < n_keys; g->n_entries++)
        if (!read_entry(c, &g->entries[g->n_entries]))
            return c->err->code;
    for (; g->n_tensors < n_tensors; g->n_tensors++) {
        GgufTensor *t = &g->tensors[g->n_tensors];

        if (!read_tensor(c, t, &name))
            return c->err->code;
        if (name.n >= name_bytes)
            return changed(c);
        memcpy(names, name.text, name.n);
        name_bytes -= name.n + 1;
        t->name = names;
        t->file = g->path;
        t->mapped = mapped;
        names += name.n + 1; /* the arena is zeroed */
    }
    return ERR_OK;
}

static ErrCode sort_entries(Gguf *g, Err *err)
{
    qsort(g->entries, g->n_entries, sizeof *g->entries, compare_entries);
    for (size_t i = 1; i < g->n_entries; i++)
        if (compare_entries(&g->entries[i - 1], &g->entries[i]) == 0)
            return err_set(err, ERR_FORMAT, "%s: key %.*s: there twice", g->path,
                           (int)g->entries[i].key.n, g->entries[i].key.text);
    return ERR_OK;
}

static const Entry *find_entry(const Gguf *g, const char *key)
{
    const Entry wanted = {.key = {key, strlen(key)}};

    return g->n_entries == 0
               ? NULL
               : bsearch(&wanted, g->entries, g->n_entries, sizeof wanted, compare_entries);
}

/* The parts of a split file refer to each other; only the first has all metadata. */
static ErrCode check_split(const Gguf *g, Err *err)
{
    int64_t count = 1, part = 0;
    bool found;

    if (gguf_integer(g, "split.count", 0, 65535, &count, &found, err) != ERR_OK)
        return err->code;
    if (count <= 1)
        return ERR_OK;
    if (gguf_integer(g, "split.no", 0, 65535, &part, &found, err) != ERR_OK)
        return err->code;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: part %jd of a model split into %jd files, expected one file (merge them)",
                   g->path, (intmax_t)part + 1, (intmax_t)count);
}

static ErrCode read_alignment(const Gguf *g, size_t *out, Err *err)
{
    const Entry *e = find_entry(g, "general.alignment");

    *out = GGUF_DEFAULT_ALIGNMENT;
    if (e == NULL)
        return ERR_OK;
    if (e->type != GGUF_META_U32)
        return err_set(err, ERR_FORMAT, "%s: key general.alignment: type %s, expected U32", g->path,
                       meta_types[e->type].name);
    const uint64_t alignment = load(e->value, 4);
    if (alignment == 0 || alignment > GGUF_MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return err_set(err, ERR_FORMAT,
                       "%s: key general.alignment: %" PRIu64
                       ", expected a power of two, at most %d",
                       g->path, alignment, (int)GGUF_MAX_ALIGNMENT);
    *out = (size_t)alignment;
    return ERR_OK;
}

/* Checks the places of all tensors and fills data; leaves the tensors sorted by name. data: size
 * bytes behind the padding of the header. */
static ErrCode place_tensors(Gguf *g, const unsigned char *data, size_t size, size_t alignment,
                             Err *err)
{
    uint64_t end = 0;

    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, compare_offsets);
    for (size_t i = 0; i < g->n_tensors; i++) {
        GgufTensor *t = &g->tensors[i];

        if (t->offset % alignment != 0)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s: offset %" PRIu64 ", expected a multiple of %zu", g->path,
                           t->name, t->offset, alignment);
        if (t->offset > size || t->n_bytes > size - t->offset)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s: %zu bytes at offset %" PRIu64
                           ", but the file has %zu bytes of data",
                           g->path, t->name, t->n_bytes, t->offset, size);
        if (t->offset < end)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s: offset %" PRIu64 " lies in tensor %s, which ends at %ju",
                           g->path, t->name, t->offset, g->tensors[i - 1].name, (uintmax_t)end);
        t->data = data + t->offset;
        end = t->offset + t->n_bytes;
    }
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, compare_names);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (compare_names(&g->tensors[i - 1], &g->tensors[i]) == 0)
            return err_set(err, ERR_FORMAT, "%s: tensor %s: there twice", g->path,
                           g->tensors[i].name);
    return ERR_OK;
}

/* What can only be said once all is read. c stands at the end of the header. */
static ErrCode finish(Gguf *g, Cursor *c)
{
    size_t alignment;

    c->size =
        g->size; /* from here on offsets are looked at, which lead beyond the header's bound */

    if (sort_entries(g, c->err) != ERR_OK || check_split(g, c->err) != ERR_OK ||
        read_alignment(g, &alignment, c->err) != ERR_OK)
        return c->err->code;
    const size_t padding = (alignment - c->at % alignment) % alignment;
    if (g->n_tensors == 0) /* then nothing has to follow */
        return ERR_OK;
    c->part = NULL;
    if (padding > cursor_left(c)) {
        cursor_fail(c, ERR_FORMAT, "padding of %zu bytes, but only %zu bytes follow", padding,
                    cursor_left(c));
        return c->err->code;
    }
    const size_t start = c->at + padding;
    return place_tensors(g, c->data + start, c->size - start, alignment, c->err);
}

/* *file: what data is mapped from, NULL for memory of the caller; owned by *out on success. */
static ErrCode parse(Gguf **out, const unsigned char *data, size_t size, const MappedFile *file,
                     const char *what, Err *err)
{
    const bool cut = size > GGUF_MAX_HEADER_BYTES;
    Cursor c = {.data = data,
                .size = cut ? GGUF_MAX_HEADER_BYTES : size,
                .cut = cut,
                .what = what,
                .err = err};
    size_t n_tensors, n_keys, name_bytes = 0;
    char *names;

    if (read_header(&c, &n_tensors, &n_keys) != ERR_OK)
        return err->code;
    const size_t start = c.at;
    if (measure(&c, n_tensors, n_keys, &name_bytes) != ERR_OK)
        return err->code;
    Gguf *g = gguf_new(n_tensors, n_keys, name_bytes, what, &names, err);
    if (g == NULL)
        return err->code;
    g->size = size;
    g->end = data + size;
    c.at = start;
    if (keep_all(g, &c, n_tensors, n_keys, names, name_bytes, file != NULL) != ERR_OK ||
        finish(g, &c) != ERR_OK) {
        gguf_close(g);
        return err->code;
    }
    if (file != NULL)
        g->file = *file;
    *out = g;
    return ERR_OK;
}

ErrCode gguf_parse(Gguf **out, const unsigned char *data, size_t size, const char *what, Err *err)
{
    Err own = {ERR_OK, ""};

    /* The code here decides by err->code, so there has to be one. */
    return parse(out, data, size, NULL, what, err == NULL ? &own : err);
}

bool gguf_begins(const void *data, size_t n)
{
    return n >= 4 && (memcmp(data, "GGUF", 4) == 0 || memcmp(data, "FUGG", 4) == 0);
}

ErrCode gguf_open(Gguf **out, const char *path, Err *err)
{
    Err own = {ERR_OK, ""};
    MappedFile file;

    if (err == NULL)
        err = &own;
    if (mapped_file_open(&file, path, 0, err) != ERR_OK)
        return err->code;
    const ErrCode code = parse(out, file.data, file.size, &file, path, err);
    if (code != ERR_OK)
        mapped_file_close(&file);
    return code;
}

void gguf_close(Gguf *g)
{
    if (g == NULL)
        return;
    mapped_file_close(&g->file);
    Arena memory = g->memory; /* g lies in it */
    arena_free(&memory);
}

const GgufTensor *gguf_tensors(const Gguf *g, size_t *n)
{
    *n = g->n_tensors;
    return g->tensors;
}

const GgufTensor *gguf_find(const Gguf *g, const char *name)
{
    const GgufTensor wanted = {.name = name};

    return g->n_tensors == 0
               ? NULL
               : bsearch(&wanted, g->tensors, g->n_tensors, sizeof wanted, compare_names);
}

ErrCode gguf_check_type(const GgufTensor *t, Err *err)
{
    if (gguf_type(t->type)->widen != NULL)
        return ERR_OK;
    return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s: type %s is not supported", t->file,
                   t->name, t->type_name);
}

size_t gguf_file_bytes(const Gguf *g)
{
    return g->size;
}

void gguf_drop(const GgufTensor *t)
{
    if (t->mapped)
        mapped_file_drop(t->data, t->n_bytes);
}

/* Looks key up; *e becomes NULL when it is absent and may be. */
static ErrCode look_up(const Gguf *g, const char *key, const Entry **e, bool *found, Err *err)
{
    *e = find_entry(g, key);
    if (found != NULL)
        *found = *e != NULL;
    if (*e == NULL && found == NULL)
        return err_set(err, ERR_FORMAT, "%s: key %s is missing", g->path, key);
    return ERR_OK;
}

static ErrCode wrong_type(const Gguf *g, const Entry *e, const char *expected, Err *err)
{
    const bool array = e->type == GGUF_META_ARRAY;

    return err_set(err, ERR_FORMAT, "%s: key %.*s: type %s%s, expected %s", g->path, (int)e->key.n,
                   e->key.text, array ? "array of " : "",
                   meta_types[array ? e->element : e->type].name, expected);
}

/* A value of a scalar type; e becomes NULL as in look_up. */
static ErrCode scalar(const Gguf *g, const char *key, GgufMeta type, const Entry **e, bool *found,
                      Err *err)
{
    const ErrCode code = look_up(g, key, e, found, err);

    if (code != ERR_OK || *e == NULL || (*e)->type == (uint32_t)type)
        return code;
    return wrong_type(g, *e, meta_types[type].name, err);
}

static bool is_integer(uint32_t type)
{
    return type <= GGUF_META_I32 || type == GGUF_META_U64 || type == GGUF_META_I64;
}

static bool is_signed(uint32_t type)
{
    return type == GGUF_META_I8 || type == GGUF_META_I16 || type == GGUF_META_I32 ||
           type == GGUF_META_I64;
}

ErrCode gguf_integer(const Gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                     bool *found, Err *err)
{
    const Entry *e;
    const ErrCode code = look_up(g, key, &e, found, err);

    if (code != ERR_OK || e == NULL)
        return code;
    if (!is_integer(e->type))
        return wrong_type(g, e, "an integer", err);
    const unsigned bits = 8 * meta_types[e->type].bytes;
    uint64_t value = load(e->value, bits / 8);
    const bool negative = is_signed(e->type) && value >> (bits - 1) != 0;
    if (negative && bits < 64)
        value |= UINT64_MAX << bits;
    const bool fits = negative || value <= INT64_MAX;
    if (!fits || (int64_t)value < min || (int64_t)value > max)
        return err_set(err, ERR_FORMAT, "%s: key %s: %s%" PRIu64 ", expected %jd to %jd", g->path,
                       key, negative ? "-" : "", negative ? -value : value, (intmax_t)min,
                       (intmax_t)max);
    *out = (int64_t)value;
    return ERR_OK;
}

ErrCode gguf_f32(const Gguf *g, const char *key, float *out, bool *found, Err *err)
{
    const Entry *e;
    const ErrCode code = scalar(g, key, GGUF_META_F32, &e, found, err);

    if (code == ERR_OK && e != NULL)
        *out = load_f32(e->value);
    return code;
}

ErrCode gguf_bool(const Gguf *g, const char *key, bool *out, bool *found, Err *err)
{
    const Entry *e;
    const ErrCode code = scalar(g, key, GGUF_META_BOOL, &e, found, err);

    if (code == ERR_OK && e != NULL)
        *out = *e->value != 0;
    return code;
}

/* The string whose length is at p, which is read anew: false when it has come to lead past end. */
static bool string_at(const unsigned char *p, const unsigned char *end, GgufText *out)
{
    const uint64_t n = load(p, 8);

    if (n > (size_t)(end - p) - 8)
        return false;
    *out = (GgufText){(const char *)p + 8, (size_t)n};
    return true;
}

ErrCode gguf_string(const Gguf *g, const char *key, GgufText *out, bool *found, Err *err)
{
    const Entry *e;
    const ErrCode code = scalar(g, key, GGUF_META_STRING, &e, found, err);

    if (code != ERR_OK || e == NULL)
        return code;
    return string_at(e->value, g->end, out)
               ? ERR_OK
               : err_set(err, ERR_FORMAT, "%s: key %s: changed while it was read", g->path, key);
}

ErrCode gguf_array(const Gguf *g, const char *key, GgufMeta element, GgufArray *out, bool *found,
                   Err *err)
{
    const Entry *e;
    const ErrCode code = look_up(g, key, &e, found, err);
    char expected[32];

    if (code != ERR_OK || e == NULL)
        return code;
    if (e->type != GGUF_META_ARRAY || e->element != (uint32_t)element) {
        (void)snprintf(expected, sizeof expected, "array of %s", meta_types[element].name);
        return wrong_type(g, e, expected, err);
    }
    *out = (GgufArray){e->value, e->n, g->end};
    return ERR_OK;
}

/* The next element, of n bytes; NULL when none is left. */
static const unsigned char *next(GgufArray *a, size_t n)
{
    const unsigned char *p = a->at;

    if (a->n == 0)
        return NULL;
    a->n--;
    a->at += n;
    return p;
}

bool gguf_next_string(GgufArray *a, GgufText *out)
{
    /* A string before this one may have grown over it. */
    if (a->n == 0 || a->end - a->at < STRING_MIN_BYTES || !string_at(a->at, a->end, out))
        return false;
    a->n--;
    a->at += STRING_MIN_BYTES + out->n;
    return true;
}

bool gguf_next_i32(GgufArray *a, int32_t *out)
{
    uint32_t bits;

    if (!gguf_next_u32(a, &bits))
        return false;
    memcpy(out, &bits, sizeof *out);
    return true;
}

bool gguf_next_u32(GgufArray *a, uint32_t *out)
{
    const unsigned char *p = next(a, 4);

    if (p != NULL)
        *out = (uint32_t)load(p, 4);
    return p != NULL;
}

bool gguf_next_f32(GgufArray *a, float *out)
{
    const unsigned char *p = next(a, 4);

    if (p != NULL)
        *out = load_f32(p);
    return p != NULL;
}
