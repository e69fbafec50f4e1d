/* tokenizer/packed.c: the ready form of a tokenizer: its arrays as they lie in memory, out to and
 * in from a packed file.
 *
 * Reading copies nothing and still trusts nothing: a file that passes the checks cannot lead a
 * search out of its arrays, nor make it endless or slow.
 *
 * May include: common, formats. */
#include <inttypes.h>
#include <stdio.h>

#include "common/json.h"
#include "tokenizer/pre_split.h"
#include "tokenizer/tokenizer_internal.h"

/* Of the structs, the hash functions and their seeds, and the text. */
enum { LAYOUT_VERSION = 1 };

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written as they lie");

/* The bytes come last: their number is the only one that is no multiple of 4. */
enum { PART_TOKENS, PART_TOKEN_BUCKETS, PART_MERGES, PART_MERGE_BUCKETS, PART_BYTES };

static const struct {
    const char *name, *dtype;
    size_t item_bytes;    /* of what our arrays consist of */
    size_t element_bytes; /* of dtype; also the alignment */
} kinds[TOKENIZER_N_PARTS] = {
    [PART_TOKENS] = {"tokenizer.tokens", "I32", sizeof(VocabularyToken), 4},
    [PART_TOKEN_BUCKETS] = {"tokenizer.token_buckets", "I32", sizeof(int32_t), 4},
    [PART_MERGES] = {"tokenizer.merges", "I32", sizeof(Merge), 4},
    [PART_MERGE_BUCKETS] = {"tokenizer.merge_buckets", "I32", sizeof(int32_t), 4},
    [PART_BYTES] = {"tokenizer.bytes", "U8", 1, 1},
};

static void set_part(TokenizerPart *part, int kind, const void *data, size_t n_items)
{
    const size_t n_bytes = n_items * kinds[kind].item_bytes;

    *part = (TokenizerPart){.name = kinds[kind].name,
                            .dtype = kinds[kind].dtype,
                            .n = n_bytes / kinds[kind].element_bytes,
                            .data = data,
                            .n_bytes = n_bytes};
}

void tokenizer_parts(const Tokenizer *t, TokenizerPart parts[TOKENIZER_N_PARTS],
                     char text[TOKENIZER_TEXT_BYTES])
{
    const Vocabulary *v = &t->vocabulary;
    const MergeTable *m = &t->merges;

    set_part(&parts[PART_TOKENS], PART_TOKENS, v->token, (size_t)v->n_tokens);
    set_part(&parts[PART_TOKEN_BUCKETS], PART_TOKEN_BUCKETS, v->bucket, (size_t)1 << v->bits);
    set_part(&parts[PART_MERGES], PART_MERGES, m->merge, (size_t)m->n_merges);
    set_part(&parts[PART_MERGE_BUCKETS], PART_MERGE_BUCKETS, m->bucket, (size_t)1 << m->bits);
    set_part(&parts[PART_BYTES], PART_BYTES, v->bytes, v->n_bytes);
    (void)snprintf(text, TOKENIZER_TEXT_BYTES,
                   "{\"version\":%d,\"kind\":\"%s\",\"unicode\":\"%s\",\"end_of_text\":%d,"
                   "\"token_seed\":%d,\"merge_seed\":%d}",
                   (int)LAYOUT_VERSION, t->kind, pre_split_unicode_version(), t->end_of_text,
                   v->seed_number, m->seed_number);
}

static ErrCode integer_of(const json_t *root, const char *key, json_int_t min, json_int_t max,
                          int *out, Err *err)
{
    const json_t *value = json_object_get(root, key);

    if (!json_is_integer(value))
        return err_set(err, ERR_FORMAT, "\"%s\" is not an integer", key);

    const json_int_t i = json_integer_value(value);

    if (i < min || i > max) {
        return err_set(err, ERR_FORMAT,
                       "\"%s\" is %" JSON_INTEGER_FORMAT ", expected %" JSON_INTEGER_FORMAT
                       " to %" JSON_INTEGER_FORMAT,
                       key, i, min, max);
    }
    *out = (int)i;
    return ERR_OK;
}

static const char *text_of(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) == json_string_length(value) ? text : "";
}

/* Another version of the Unicode tables would cut some texts differently than the program that
 * packed the file did, so it is refused as well. */
static ErrCode check_version(const json_t *root, Err *err)
{
    const char *unicode = pre_split_unicode_version();
    int version = 0;
    const ErrCode code = integer_of(root, "version", 1, INT32_MAX, &version, err);

    if (code != ERR_OK)
        return code;
    if (version != LAYOUT_VERSION) {
        return err_set(err, ERR_UNSUPPORTED, "\"version\" is %d, expected %d: pack the model again",
                       version, (int)LAYOUT_VERSION);
    }
    if (strcmp(text_of(root, "unicode"), unicode) != 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "\"unicode\" is \"%.20s\", expected \"%s\": pack the model again",
                       text_of(root, "unicode"), unicode);
    }
    return ERR_OK;
}

static ErrCode read_kind(Tokenizer *t, const json_t *root, Err *err)
{
    static const char *const known[] = {TOKENIZER_KIND_JSON, TOKENIZER_KIND_GGUF};
    const char *kind = text_of(root, "kind");

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(kind, known[i]) == 0)
            t->kind = known[i];
    if (t->kind == NULL) {
        return err_set(err, ERR_FORMAT, "\"kind\" is \"%.20s\", expected \"%s\" or \"%s\"", kind,
                       known[0], known[1]);
    }
    return ERR_OK;
}

static ErrCode read_text(Tokenizer *t, const json_t *root, Err *err)
{
    Vocabulary *v = &t->vocabulary;
    MergeTable *m = &t->merges;
    ErrCode code = check_version(root, err);

    if (code == ERR_OK)
        code = read_kind(t, root, err);
    if (code == ERR_OK)
        code = integer_of(root, "end_of_text", -1, v->n_tokens - 1, &t->end_of_text, err);
    if (code == ERR_OK)
        code = integer_of(root, "token_seed", 0, HASH_N_SEEDS - 1, &v->seed_number, err);
    if (code == ERR_OK)
        code = integer_of(root, "merge_seed", 0, HASH_N_SEEDS - 1, &m->seed_number, err);
    if (code == ERR_OK) {
        v->seed = hash_seed_fixed(v->seed_number);
        m->seed = hash_seed_fixed(m->seed_number);
    }
    return code;
}

/* The items of one part, which must be max_items at most and, unless want_items is 0, just as many
 * as that. */
static ErrCode find_part(const Safetensors *file, int kind, size_t max_items, size_t want_items,
                         const void **data, size_t *n_items, Err *err)
{
    const StTensor *tensor = safetensors_find(file, kinds[kind].name);
    const size_t item = kinds[kind].item_bytes;

    if (tensor == NULL)
        return err_set(err, ERR_FORMAT, "tensor %s is missing", kinds[kind].name);
    if (strcmp(tensor->dtype_name, kinds[kind].dtype) != 0) {
        return err_set(err, ERR_FORMAT, "tensor %s is %s, expected %s", kinds[kind].name,
                       tensor->dtype_name, kinds[kind].dtype);
    }
    if ((uintptr_t)tensor->data % kinds[kind].element_bytes != 0) {
        return err_set(err, ERR_FORMAT, "tensor %s does not lie at a multiple of %zu bytes",
                       kinds[kind].name, kinds[kind].element_bytes);
    }
    if (tensor->n_bytes == 0 || tensor->n_bytes % item != 0 || tensor->n_bytes / item > max_items) {
        return err_set(err, ERR_FORMAT, "tensor %s: %zu bytes, expected 1 to %zu items of %zu",
                       kinds[kind].name, tensor->n_bytes, max_items, item);
    }
    if (want_items != 0 && tensor->n_bytes / item != want_items) {
        return err_set(err, ERR_FORMAT, "tensor %s: %zu items, expected %zu", kinds[kind].name,
                       tensor->n_bytes / item, want_items);
    }
    *data = tensor->data;
    *n_items = tensor->n_bytes / item;
    return ERR_OK;
}

static ErrCode find_vocabulary(Vocabulary *v, const Safetensors *file, Err *err)
{
    const void *token = NULL, *bucket = NULL, *bytes = NULL;
    size_t n = 0, n_buckets;
    ErrCode code = find_part(file, PART_TOKENS, TOKENIZER_MAX_VOCAB, 0, &token, &n, err);

    v->n_tokens = (int)n;
    v->bits = hash_bits(n);
    if (code == ERR_OK)
        code = find_part(file, PART_TOKEN_BUCKETS, SIZE_MAX, (size_t)1 << v->bits, &bucket,
                         &n_buckets, err);
    if (code == ERR_OK)
        code = find_part(file, PART_BYTES, TOKENIZER_MAX_TEXT, 0, &bytes, &v->n_bytes, err);
    v->token = token;
    v->bucket = bucket;
    v->bytes = bytes;
    return code;
}

static ErrCode find_merges(MergeTable *m, const Safetensors *file, Err *err)
{
    const void *merge = NULL, *bucket = NULL;
    size_t n = 0, n_buckets;
    ErrCode code = find_part(file, PART_MERGES, TOKENIZER_MAX_TEXT, 0, &merge, &n, err);

    m->n_merges = (int)n;
    m->bits = merge_table_bits(m->n_merges);
    if (code == ERR_OK)
        code = find_part(file, PART_MERGE_BUCKETS, SIZE_MAX, (size_t)1 << m->bits, &bucket,
                         &n_buckets, err);
    m->merge = merge;
    m->bucket = bucket;
    return code;
}

static ErrCode read_metadata(Tokenizer *t, const Safetensors *file, Err *err)
{
    size_t n;
    const char *text = safetensors_metadata(file, TOKENIZER_TEXT_KEY, &n);

    if (text == NULL)
        return err_set(err, ERR_FORMAT, "no \"%s\" in the metadata", TOKENIZER_TEXT_KEY);

    json_t *root = json_parse_bounded(text, n, TOKENIZER_TEXT_BYTES,
                                      "metadata \"" TOKENIZER_TEXT_KEY "\"", err);

    if (root == NULL)
        return err != NULL ? err->code : ERR_FORMAT;

    const ErrCode code = read_text(t, root, err);

    if (code != ERR_OK)
        err_prefix(err, "metadata \"%s\"", TOKENIZER_TEXT_KEY);
    json_decref(root);
    return code;
}

static ErrCode check_tables(Tokenizer *t, Err *err)
{
    const int bits = t->merges.bits > t->vocabulary.bits ? t->merges.bits : t->vocabulary.bits;
    Arena arena = {0};
    size_t total = 0;

    if (!arena_plan(&total, (size_t)1 << bits, sizeof(int32_t)))
        return err_set(err, ERR_MEMORY, "the tables are too large");

    ErrCode code = arena_init(&arena, total, "tokenizer", err);
    int32_t *scratch =
        code == ERR_OK ? arena_alloc(&arena, (size_t)1 << bits, sizeof *scratch) : NULL;

    if (scratch == NULL)
        code = code != ERR_OK ? code : err_set(err, ERR_MEMORY, "no room to check the tables");
    else if ((code = vocabulary_adopt(&t->vocabulary, scratch, err)) == ERR_OK)
        code = merge_table_adopt(&t->merges, &t->vocabulary, scratch, err);
    arena_free(&arena);
    return code;
}

/* Fills the zeroed t from the file. */
static ErrCode adopt(Tokenizer *t, const Safetensors *file, Err *err)
{
    ErrCode code = find_vocabulary(&t->vocabulary, file, err);

    if (code == ERR_OK)
        code = find_merges(&t->merges, file, err);
    if (code == ERR_OK)
        code = read_metadata(t, file, err);
    return code == ERR_OK ? check_tables(t, err) : code;
}

ErrCode tokenizer_from_packed(Tokenizer **out, Safetensors *file, const char *path, Err *err)
{
    Arena arena = {0};
    size_t total = 0;

    if (!arena_plan(&total, 1, sizeof(Tokenizer)))
        return err_set(err, ERR_MEMORY, "%s: no room for the tokenizer", path);

    ErrCode code = arena_init(&arena, total, "tokenizer", err);

    if (code != ERR_OK)
        return code;

    Tokenizer *t = arena_alloc(&arena, 1, sizeof *t);

    code = t != NULL ? adopt(t, file, err) : err_set(err, ERR_MEMORY, "no room for the tokenizer");
    if (code != ERR_OK) {
        err_prefix(err, "%s: packed tokenizer", path);
        arena_free(&arena);
        return code;
    }
    t->arena = arena;
    t->file = file;
    *out = t;
    return ERR_OK;
}
