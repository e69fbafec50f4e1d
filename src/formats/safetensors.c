/* formats/safetensors.c: headers are checked whole before a tensor is shown: the ranges of a file
 * must tile its data exactly, so that no byte is unclaimed, claimed twice or outside.
 *
 * May include: common. */
#include "formats/safetensors.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/arena.h"
#include "common/json.h"
#include "common/mapped_file.h"

enum {
    ST_LENGTH_BYTES = 8,
    ST_INDEX_BYTES = 256 * 1024 * 1024,
    /* An entry has eight values and as many as it has dimensions: 50,000 tensors, three times what
     * the largest model of this program has. */
    ST_MAX_VALUES = 500000
};

/* A string of __metadata__. */
typedef struct {
    const char *key, *text;
    size_t n;
} StText;

/* One file and its own tensors, sorted by name. */
typedef struct {
    MappedFile file; /* owned; empty for safetensors_parse */
    Arena memory;    /* path, tensors, names, metadata */
    const char *path;
    StTensor *tensors;
    size_t n_tensors;
    StText *texts; /* sorted by key */
    size_t n_texts;
    size_t size;
} Shard;

struct Safetensors {
    Arena memory; /* this struct, path, shards; with an index also tensors */
    const char *path;
    Shard *shards;
    size_t n_shards;
    StTensor *tensors; /* of the only shard, or gathered after the index */
    size_t n_tensors;
    const StText *texts; /* of the only shard; none with an index */
    size_t n_texts;
};

/* A tensor's place in the data part of its file. */
typedef struct {
    size_t begin, end;
    const StTensor *tensor;
} Range;

/* Every element type of the format (the safetensors crate, enum Dtype); only the first three are
 * computed with, the others are needed to check their sizes. */
typedef struct {
    const char *name;
    unsigned bits;
    StDtype dtype;
} DtypeRow;

static const DtypeRow dtypes[] = {
    {"F32", 32, ST_F32},      {"F16", 16, ST_F16},      {"BF16", 16, ST_BF16},
    {"F64", 64, ST_OTHER},    {"I64", 64, ST_OTHER},    {"U64", 64, ST_OTHER},
    {"C64", 64, ST_OTHER},    {"I32", 32, ST_OTHER},    {"U32", 32, ST_OTHER},
    {"I16", 16, ST_OTHER},    {"U16", 16, ST_OTHER},    {"I8", 8, ST_OTHER},
    {"U8", 8, ST_OTHER},      {"BOOL", 8, ST_OTHER},    {"F8_E4M3", 8, ST_OTHER},
    {"F8_E5M2", 8, ST_OTHER}, {"F8_E8M0", 8, ST_OTHER}, {"F6_E2M3", 6, ST_OTHER},
    {"F6_E3M2", 6, ST_OTHER}, {"F4", 4, ST_OTHER},
};

static const char *json_kind(const json_t *v)
{
    switch (v == NULL ? (json_type)-1 : json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "missing";
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

static int compare_text_keys(const void *a, const void *b)
{
    return strcmp(((const StText *)a)->key, ((const StText *)b)->key);
}

/* An empty range sorts before the one that starts at the same byte, so that each end meets the next
 * begin. */
static int compare_ranges(const void *a, const void *b)
{
    const Range *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* For errors that mean "this is no safetensors file": says which other file it is, if that can be
 * seen. */
static ErrCode not_safetensors(const unsigned char *data, size_t size, const char *what, Err *err)
{
    const char *kind = mapped_file_kind(data, size);

    if (kind == NULL && size > 0 && data[0] == '{')
        kind = "a JSON file";
    if (kind == NULL || strcmp(kind, "a safetensors model") == 0)
        return err->code;
    return err_set(err, ERR_FORMAT, "%s: this is %s, expected a safetensors model", what, kind);
}

/* Finds the header: *n bytes from data + ST_LENGTH_BYTES on. */
static ErrCode check_length(const unsigned char *data, size_t size, const char *what, size_t *n,
                            Err *err)
{
    uint64_t length = 0;

    if (size < ST_LENGTH_BYTES)
        return err_set(err, ERR_FORMAT, "%s: %zu bytes, expected at least %d", what, size,
                       (int)ST_LENGTH_BYTES);
    for (int i = ST_LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | data[i];
    if (length > ST_MAX_HEADER_BYTES)
        return err_set(err, ERR_FORMAT, "%s: header of %ju bytes, expected at most %d", what,
                       (uintmax_t)length, (int)ST_MAX_HEADER_BYTES);
    if (length > size - ST_LENGTH_BYTES)
        return err_set(err, ERR_FORMAT, "%s: header of %ju bytes, but only %zu bytes follow", what,
                       (uintmax_t)length, size - ST_LENGTH_BYTES);
    *n = (size_t)length;
    return ERR_OK;
}

/* Parses the header text: one JSON object, padded at its end with spaces only. NULL and err on
 * failure. */
static json_t *parse_header(const char *text, size_t n, const char *what, Err *err)
{
    size_t end = n;
    char name[PATH_MAX + 16];

    if (n == 0 || text[0] != '{') {
        err_set(err, ERR_FORMAT, "%s: the header does not start with '{'", what);
        return NULL;
    }
    while (text[end - 1] == ' ')
        end--;
    if (text[end - 1] != '}') {
        err_set(err, ERR_FORMAT, "%s: the header does not end with '}' and spaces", what);
        return NULL;
    }
    (void)snprintf(name, sizeof name, "%s: header", what);
    return json_parse_bounded(text, end, ST_MAX_VALUES, name, err);
}

/* Reads "shape" into t and stores the product in *n_elements. */
static ErrCode read_shape(StTensor *t, const json_t *shape, size_t *n_elements, Err *err)
{
    size_t product = 1;

    if (!json_is_array(shape))
        return err_set(err, ERR_FORMAT, "%s: tensor %s: shape is %s, expected a list", t->file,
                       t->name, json_kind(shape));
    if (json_array_size(shape) > ST_MAX_DIMS)
        return err_set(err, ERR_FORMAT, "%s: tensor %s: %zu dimensions, expected at most %d",
                       t->file, t->name, json_array_size(shape), (int)ST_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);

        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s: dimension %d is %s, expected a non-negative integer",
                           t->file, t->name, i, json_is_integer(dim) ? "negative" : json_kind(dim));
        t->dims[i] = (size_t)json_integer_value(dim);
        if (!size_mul(product, t->dims[i], &product))
            return err_set(err, ERR_FORMAT, "%s: tensor %s: the product of the shape overflows",
                           t->file, t->name);
    }
    *n_elements = product;
    return ERR_OK;
}

/* The row of dtypes called name; NULL when there is none. */
static const DtypeRow *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(name, dtypes[i].name) == 0)
            return &dtypes[i];
    return NULL;
}

bool safetensors_dtype_bits(const char *dtype, unsigned *bits)
{
    const DtypeRow *row = find_dtype(dtype);

    if (row != NULL)
        *bits = row->bits;
    return row != NULL;
}

static ErrCode read_dtype(StTensor *t, const json_t *dtype, unsigned *bits, Err *err)
{
    const char *name = json_string_value(dtype);

    if (name == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor %s: dtype is %s, expected a string", t->file,
                       t->name, json_kind(dtype));
    const DtypeRow *row = strlen(name) == json_string_length(dtype) ? find_dtype(name) : NULL;
    if (row == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor %s: unknown dtype \"%s\"", t->file, t->name,
                       name);
    t->dtype = row->dtype;
    t->dtype_name = row->name;
    *bits = row->bits;
    return ERR_OK;
}

/* Reads "data_offsets" into r and checks them against the size of the data part. */
static ErrCode read_offsets(const StTensor *t, const json_t *offsets, size_t data_size, Range *r,
                            Err *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);

    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end) || json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor %s: data_offsets is %s, expected two non-negative integers",
                       t->file, t->name,
                       json_is_array(offsets) ? "another list" : json_kind(offsets));
    r->begin = (size_t)json_integer_value(begin);
    r->end = (size_t)json_integer_value(end);
    if (r->begin > r->end)
        return err_set(err, ERR_FORMAT, "%s: tensor %s: data_offsets [%zu, %zu] run backwards",
                       t->file, t->name, r->begin, r->end);
    if (r->end > data_size)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor %s: data_offsets end at %zu, but the file has %zu bytes of data",
                       t->file, t->name, r->end, data_size);
    return ERR_OK;
}

/* Reads one entry of the header. t has name and file already. */
static ErrCode read_entry(StTensor *t, const json_t *entry, const unsigned char *data,
                          size_t data_size, Range *r, Err *err)
{
    size_t n_elements = 0, n_bits = 0;
    unsigned bits = 0;

    if (!json_is_object(entry))
        return err_set(err, ERR_FORMAT, "%s: tensor %s: the entry is %s, expected an object",
                       t->file, t->name, json_kind(entry));
    if (read_dtype(t, json_object_get(entry, "dtype"), &bits, err) != ERR_OK ||
        read_shape(t, json_object_get(entry, "shape"), &n_elements, err) != ERR_OK ||
        read_offsets(t, json_object_get(entry, "data_offsets"), data_size, r, err) != ERR_OK)
        return err->code;
    if (!size_mul(n_elements, bits, &n_bits))
        return err_set(err, ERR_FORMAT, "%s: tensor %s: the size overflows", t->file, t->name);
    if (n_bits % 8 != 0 || r->end - r->begin != n_bits / 8)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor %s: %zu bytes, expected %zu for %zu elements of %s", t->file,
                       t->name, r->end - r->begin, n_bits / 8, n_elements, t->dtype_name);
    t->data = data + r->begin;
    t->n_bytes = r->end - r->begin;
    r->tensor = t;
    return ERR_OK;
}

/* The ranges, in order of their place, must follow each other without hole or overlap, from the
 * first byte to the last. */
static ErrCode check_tiling(Range *ranges, size_t n, size_t data_size, const char *what, Err *err)
{
    size_t at = 0;

    qsort(ranges, n, sizeof *ranges, compare_ranges);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].begin != at)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s: starts at byte %zu of the data, expected %zu (%s)", what,
                           ranges[i].tensor->name, ranges[i].begin, at,
                           ranges[i].begin < at ? "overlap" : "hole");
        at = ranges[i].end;
    }
    if (at != data_size)
        return err_set(err, ERR_FORMAT, "%s: %zu bytes of data, but the tensors end at %zu", what,
                       data_size, at);
    return ERR_OK;
}

/* text[0..n) and a NUL. */
static const char *keep_text(Arena *memory, const char *text, size_t n)
{
    char *copy = arena_alloc(memory, n + 1, 1);

    return copy == NULL ? NULL : memcpy(copy, text, n + 1);
}

/* What read_metadata keeps; an object without strings keeps nothing. */
static bool plan_metadata(size_t *total, json_t *metadata)
{
    const char *key;
    json_t *value;
    bool fits = arena_plan(total, json_object_size(metadata), sizeof(StText));

    json_object_foreach(metadata, key, value)
    {
        fits = fits && arena_plan(total, strlen(key) + 1, 1) &&
               arena_plan(total, json_string_length(value) + 1, 1);
    }
    return fits;
}

/* Sizes the shard's memory from the parsed header: no count is taken from the file, all are
 * counted. */
static ErrCode plan_shard(Shard *s, json_t *root, const char *what, Err *err)
{
    const char *key;
    json_t *value, *metadata = json_object_get(root, "__metadata__");
    size_t total = 0, n = 0;
    bool fits = arena_plan(&total, strlen(what) + 1, 1) && plan_metadata(&total, metadata);

    json_object_foreach(root, key, value)
    {
        n++;
        fits = fits && arena_plan(&total, strlen(key) + 1, 1);
    }
    if (!fits || !arena_plan(&total, n, sizeof(StTensor)) || !arena_plan(&total, n, sizeof(Range)))
        return err_set(err, ERR_MEMORY, "%s: too many tensors", what);
    const ErrCode code = arena_init(&s->memory, total, what, err);
    if (code != ERR_OK)
        return code;
    s->path = keep_text(&s->memory, what, strlen(what));
    s->tensors = arena_alloc(&s->memory, n, sizeof(StTensor));
    s->texts = arena_alloc(&s->memory, json_object_size(metadata), sizeof(StText));
    if (s->path == NULL || s->tensors == NULL || s->texts == NULL)
        return err_set(err, ERR_INTERNAL, "%s: planned too small", what);
    return ERR_OK;
}

static ErrCode read_metadata(Shard *s, json_t *metadata, Err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return err_set(err, ERR_FORMAT, "%s: __metadata__ is %s, expected an object", s->path,
                       json_kind(metadata));
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return err_set(err, ERR_FORMAT, "%s: __metadata__: %s is %s, expected a string",
                           s->path, key, json_kind(value));
        StText *t = &s->texts[s->n_texts++];
        t->key = keep_text(&s->memory, key, strlen(key));
        t->n = json_string_length(value);
        t->text = keep_text(&s->memory, json_string_value(value), t->n);
        if (t->key == NULL || t->text == NULL)
            return err_set(err, ERR_INTERNAL, "%s: planned too small", s->path);
    }
    qsort(s->texts, s->n_texts, sizeof *s->texts, compare_text_keys);
    return ERR_OK;
}

static ErrCode read_entries(Shard *s, json_t *root, const unsigned char *data, size_t data_size,
                            bool mapped, Err *err)
{
    const char *key;
    json_t *value;
    Range *ranges = arena_alloc(&s->memory, json_object_size(root), sizeof *ranges);
    ErrCode code = ERR_OK;

    if (ranges == NULL)
        return err_set(err, ERR_INTERNAL, "%s: planned too small", s->path);
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) {
            code = read_metadata(s, value, err);
        } else {
            StTensor *t = &s->tensors[s->n_tensors];

            t->name = keep_text(&s->memory, key, strlen(key));
            t->file = s->path;
            t->mapped = mapped;
            if (t->name == NULL)
                return err_set(err, ERR_INTERNAL, "%s: planned too small", s->path);
            code = read_entry(t, value, data, data_size, &ranges[s->n_tensors], err);
            s->n_tensors++;
        }
        if (code != ERR_OK)
            return code;
    }
    code = check_tiling(ranges, s->n_tensors, data_size, s->path, err);
    if (code == ERR_OK)
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, compare_tensors);
    return code;
}

/* Fills an empty shard from the bytes of a file. What was allocated on failure is freed by
 * shard_close. */
static ErrCode shard_parse(Shard *s, const unsigned char *data, size_t size, const char *what,
                           bool mapped, Err *err)
{
    size_t n = 0;

    if (check_length(data, size, what, &n, err) != ERR_OK)
        return not_safetensors(data, size, what, err);
    const char *text = (const char *)data + ST_LENGTH_BYTES;
    json_t *root = parse_header(text, n, what, err);
    if (root == NULL)
        return n > 0 && text[0] == '{' ? err->code : not_safetensors(data, size, what, err);

    s->size = size;
    ErrCode code = plan_shard(s, root, what, err);
    if (code == ERR_OK)
        code = read_entries(s, root, data + ST_LENGTH_BYTES + n, size - ST_LENGTH_BYTES - n, mapped,
                            err);
    json_decref(root);
    return code;
}

static ErrCode shard_open(Shard *s, const char *path, Err *err)
{
    if (mapped_file_open(&s->file, path, 0, err) != ERR_OK)
        return err->code;
    return shard_parse(s, s->file.data, s->file.size, path, true, err);
}

static void shard_close(Shard *s)
{
    arena_free(&s->memory);
    mapped_file_close(&s->file);
}

/* An object with room for n_shards shards and n_tensors gathered tensors (0: those of the only
 * shard are shown). */
static Safetensors *st_new(size_t n_shards, size_t n_tensors, const char *what, Err *err)
{
    Arena memory;
    size_t total = 0;

    if (!arena_plan(&total, 1, sizeof(Safetensors)) || !arena_plan(&total, strlen(what) + 1, 1) ||
        !arena_plan(&total, n_shards, sizeof(Shard)) ||
        !arena_plan(&total, n_tensors, sizeof(StTensor))) {
        err_set(err, ERR_MEMORY, "%s: too many tensors", what);
        return NULL;
    }
    if (arena_init(&memory, total, what, err) != ERR_OK)
        return NULL;
    Safetensors *st = arena_alloc(&memory, 1, sizeof *st);
    const char *path = keep_text(&memory, what, strlen(what));
    Shard *shards = arena_alloc(&memory, n_shards, sizeof *shards);
    StTensor *tensors = arena_alloc(&memory, n_tensors, sizeof *tensors);
    if (st == NULL || path == NULL || shards == NULL || tensors == NULL) {
        arena_free(&memory);
        err_set(err, ERR_INTERNAL, "%s: planned too small", what);
        return NULL;
    }
    *st = (Safetensors){
        .memory = memory, .path = path, .shards = shards, .n_shards = n_shards, .tensors = tensors};
    return st;
}

void safetensors_close(Safetensors *st)
{
    if (st == NULL)
        return;
    for (size_t i = 0; i < st->n_shards; i++)
        shard_close(&st->shards[i]);
    Arena memory = st->memory; /* st lies in it */
    arena_free(&memory);
}

/* Shows the tensors of the only shard, or gives everything back when reading it failed. */
static ErrCode finish_single(Safetensors *st, ErrCode code, Safetensors **out)
{
    if (code != ERR_OK) {
        safetensors_close(st);
        return code;
    }
    st->tensors = st->shards[0].tensors;
    st->n_tensors = st->shards[0].n_tensors;
    st->texts = st->shards[0].texts;
    st->n_texts = st->shards[0].n_texts;
    *out = st;
    return ERR_OK;
}

static ErrCode open_single(Safetensors **out, const char *path, Err *err)
{
    Safetensors *st = st_new(1, 0, path, err);
    if (st == NULL)
        return err->code;
    return finish_single(st, shard_open(&st->shards[0], path, err), out);
}

ErrCode safetensors_parse(Safetensors **out, const unsigned char *data, size_t size,
                          const char *what, Err *err)
{
    Err own = {ERR_OK, ""};

    if (err == NULL)
        err = &own;
    Safetensors *st = st_new(1, 0, what, err);
    if (st == NULL)
        return err->code;
    return finish_single(st, shard_parse(&st->shards[0], data, size, what, false, err), out);
}

/* Writes directory-of(path)/name to out. */
static ErrCode sibling_path(char out[PATH_MAX], const char *path, const char *name, Err *err)
{
    const char *slash = strrchr(path, '/');
    const size_t n_dir = slash == NULL ? 0 : (size_t)(slash - path) + 1;

    if (n_dir + strlen(name) >= PATH_MAX)
        return err_set(err, ERR_IO, "%s: %s", name, strerror(ENAMETOOLONG));
    memcpy(out, path, n_dir);
    memcpy(out + n_dir, name, strlen(name) + 1);
    return ERR_OK;
}

/* One line of the index: a tensor and the file it should be in. Both texts belong to the parsed
 * index. */
typedef struct {
    const char *tensor, *file;
} IndexRow;

static int compare_rows(const void *a, const void *b)
{
    const IndexRow *x = a, *y = b;
    const int by_file = strcmp(x->file, y->file);

    return by_file != 0 ? by_file : strcmp(x->tensor, y->tensor);
}

/* A plain name in the same directory: nothing that could lead elsewhere. */
static bool is_plain_name(const json_t *v)
{
    const char *s = json_string_value(v);

    return s != NULL && s[0] != '\0' && strlen(s) == json_string_length(v) &&
           strchr(s, '/') == NULL && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

/* Lists the weight_map by file, and counts the files. */
static ErrCode read_weight_map(json_t *map, const char *path, IndexRow *rows, size_t *n_files,
                               Err *err)
{
    const char *key;
    json_t *value;
    size_t n = 0;

    json_object_foreach(map, key, value)
    {
        if (!json_is_string(value))
            return err_set(err, ERR_FORMAT, "%s: weight_map: %s is %s, expected a file name", path,
                           key, json_kind(value));
        if (!is_plain_name(value))
            return err_set(err, ERR_FORMAT, "%s: weight_map: %s: \"%s\" is not a plain file name",
                           path, key, json_string_value(value));
        rows[n++] = (IndexRow){key, json_string_value(value)};
    }
    qsort(rows, n, sizeof *rows, compare_rows);
    *n_files = 0;
    for (size_t i = 0; i < n; i++)
        *n_files += i == 0 || strcmp(rows[i].file, rows[i - 1].file) != 0;
    if (*n_files > ST_MAX_SHARDS)
        return err_set(err, ERR_LIMIT, "%s: %zu shards, expected at most %d", path, *n_files,
                       (int)ST_MAX_SHARDS);
    return ERR_OK;
}

static const StTensor *find_in(const StTensor *tensors, size_t n, const char *name)
{
    const StTensor key = {.name = name};

    return n == 0 ? NULL : bsearch(&key, tensors, n, sizeof key, compare_tensors);
}

/* Opens each shard and takes from it the tensors that the index promises. */
static ErrCode open_shards(Safetensors *st, const char *path, const IndexRow *rows, size_t n_rows,
                           Err *err)
{
    char file[PATH_MAX];
    Shard *next = st->shards, *shard = NULL;

    for (size_t i = 0; i < n_rows; i++) {
        if (shard == NULL || strcmp(rows[i].file, rows[i - 1].file) != 0) {
            shard = next++;
            if (sibling_path(file, path, rows[i].file, err) != ERR_OK ||
                shard_open(shard, file, err) != ERR_OK)
                return err->code;
        }
        const StTensor *t = find_in(shard->tensors, shard->n_tensors, rows[i].tensor);
        if (t == NULL)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor %s is not in %s, where the index says it is", path,
                           rows[i].tensor, rows[i].file);
        st->tensors[st->n_tensors++] = *t;
    }
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, compare_tensors);
    return ERR_OK;
}

/* Lists a parsed index by file; the list lies in scratch. */
static ErrCode list_rows(IndexRow **rows, size_t *n_files, json_t *map, const char *path,
                         Arena *scratch, Err *err)
{
    const size_t n = json_object_size(map);
    size_t total = 0;

    if (!arena_plan(&total, n, sizeof(IndexRow)) || arena_init(scratch, total, path, err) != ERR_OK)
        return err_set(err, ERR_MEMORY, "%s: out of memory", path);
    *rows = arena_alloc(scratch, n, sizeof **rows);
    if (*rows == NULL)
        return err_set(err, ERR_INTERNAL, "%s: planned too small", path);
    return read_weight_map(map, path, *rows, n_files, err);
}

/* Reads the shards of a parsed index; scratch is for the list of its rows. */
static ErrCode open_map(Safetensors **out, json_t *map, const char *path, Arena *scratch, Err *err)
{
    const size_t n = json_object_size(map);
    size_t n_files = 0;
    IndexRow *rows = NULL;
    ErrCode code = list_rows(&rows, &n_files, map, path, scratch, err);

    if (code != ERR_OK)
        return code;
    Safetensors *st = st_new(n_files, n, path, err);
    if (st == NULL)
        return err->code;
    code = open_shards(st, path, rows, n, err);
    if (code == ERR_OK)
        *out = st;
    else
        safetensors_close(st);
    return code;
}

/* The weight_map of the index at path, which belongs to *root. */
static ErrCode read_index(json_t **root, json_t **map, const char *path, Err *err)
{
    *root = json_parse_file_bounded(path, ST_INDEX_BYTES, ST_MAX_VALUES, err);
    if (*root == NULL)
        return err->code;
    *map = json_object_get(*root, "weight_map");
    if (!json_is_object(*map))
        return err_set(err, ERR_FORMAT, "%s: weight_map is %s, expected an object", path,
                       json_kind(*map));
    if (json_object_size(*map) == 0)
        return err_set(err, ERR_FORMAT, "%s: weight_map is empty", path);
    return ERR_OK;
}

static ErrCode open_index(Safetensors **out, const char *path, Err *err)
{
    Arena scratch = {NULL, 0, 0};
    json_t *root = NULL, *map = NULL;
    ErrCode code = read_index(&root, &map, path, err);

    if (code == ERR_OK)
        code = open_map(out, map, path, &scratch, err);
    arena_free(&scratch);
    json_decref(root);
    return code;
}

ErrCode safetensors_each_shard(const char *path, bool (*take)(void *ctx, const char *file),
                               void *ctx, Err *err)
{
    Arena scratch = {NULL, 0, 0};
    json_t *root = NULL, *map = NULL;
    IndexRow *rows = NULL;
    size_t n_files = 0;
    ErrCode code = read_index(&root, &map, path, err);

    if (code == ERR_OK)
        code = list_rows(&rows, &n_files, map, path, &scratch, err);
    for (size_t i = 0; code == ERR_OK && i < json_object_size(map); i++)
        if ((i == 0 || strcmp(rows[i].file, rows[i - 1].file) != 0) && !take(ctx, rows[i].file))
            break;
    arena_free(&scratch);
    json_decref(root);
    return code;
}

static bool exists_in(const char *dir, const char *name, char out[PATH_MAX])
{
    const int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

    return n > 0 && n < PATH_MAX && mapped_file_is_there(out);
}

static ErrCode open_directory(Safetensors **out, const char *dir, Err *err)
{
    char path[PATH_MAX];

    if (exists_in(dir, "model.safetensors", path))
        return open_single(out, path, err);
    if (exists_in(dir, "model.safetensors.index.json", path))
        return open_index(out, path, err);
    const bool pickle = exists_in(dir, "pytorch_model.bin", path);
    return err_set(err, ERR_IO,
                   "%s: has neither model.safetensors nor model.safetensors.index.json%s", dir,
                   pickle ? " (pytorch_model.bin is not read: convert it to safetensors)" : "");
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), n_end = strlen(end);

    return n >= n_end && strcmp(s + n - n_end, end) == 0;
}

ErrCode safetensors_open(Safetensors **out, const char *path, Err *err)
{
    struct stat st;
    Err own = {ERR_OK, ""};

    /* The code below decides by err->code, so there has to be one. */
    if (err == NULL)
        err = &own;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return open_directory(out, path, err);
    return ends_with(path, ".index.json") ? open_index(out, path, err)
                                          : open_single(out, path, err);
}

const StTensor *safetensors_tensors(const Safetensors *st, size_t *n)
{
    *n = st->n_tensors;
    return st->tensors;
}

const StTensor *safetensors_find(const Safetensors *st, const char *name)
{
    return find_in(st->tensors, st->n_tensors, name);
}

const char *safetensors_metadata(const Safetensors *st, const char *key, size_t *n)
{
    const StText wanted = {.key = key};
    const StText *t = st->n_texts == 0 ? NULL
                                       : bsearch(&wanted, st->texts, st->n_texts, sizeof wanted,
                                                 compare_text_keys);

    if (t == NULL)
        return NULL;
    *n = t->n;
    return t->text;
}

const char *safetensors_path(const Safetensors *st)
{
    return st->path;
}

size_t safetensors_file_bytes(const Safetensors *st)
{
    size_t total = 0;

    for (size_t i = 0; i < st->n_shards; i++)
        total += st->shards[i].size;
    return total;
}

void safetensors_drop(const StTensor *t)
{
    if (t->mapped)
        mapped_file_drop(t->data, t->n_bytes);
}
