/* tokenizer/from_json.c: from vocab.json and merges.txt, or tokenizer.json, to a Tokenizer.
 *
 * May include: common, formats. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mapped_file.h"
#include "common/text.h"
#include "tokenizer/builder.h"

/* A tokenizer of a million tokens has an entry for each and, in the longer spelling, three values
 * for each merge. */
enum {
    MAX_FILE_BYTES = 256 * 1024 * 1024,
    MAX_VALUES = 5 * TOKENIZER_MAX_VOCAB,
    MESSAGE_PIECE_BYTES = 100
};

/* What was found in the files, before it is checked. */
typedef struct {
    char vocab_path[PATH_MAX];  /* vocab.json, or tokenizer.json */
    char merges_path[PATH_MAX]; /* merges.txt, or tokenizer.json */
    json_t *root;               /* parsed vocab_path, owned */
    json_t *vocab;              /* object: text of a token to its id */
    json_t *added;              /* array of added tokens, or NULL */
    MappedFile merges_file;
    MergeReader merges;
} Sources;

static bool path_join(char out[PATH_MAX], const char *dir, const char *name)
{
    const int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

    return n >= 0 && n < PATH_MAX;
}

/* A path that is too long is not there. */
static bool is_there(char path[PATH_MAX], const char *dir, const char *name)
{
    return path_join(path, dir, name) && mapped_file_is_there(path);
}

/* Sets the paths to vocab.json and merges.txt, or both to tokenizer.json. */
static bool find_in(Sources *s, const char *dir)
{
    if (is_there(s->vocab_path, dir, "vocab.json") && is_there(s->merges_path, dir, "merges.txt"))
        return true;
    if (is_there(s->vocab_path, dir, "tokenizer.json")) {
        memcpy(s->merges_path, s->vocab_path, sizeof s->merges_path);
        return true;
    }
    return false;
}

static ErrCode find_files(Sources *s, const char *model_dir, Err *err)
{
    char parent[PATH_MAX], other[PATH_MAX];

    if (!path_join(parent, model_dir, ".."))
        return err_set(err, ERR_IO, "%s: %s", model_dir, strerror(ENAMETOOLONG));

    if (find_in(s, model_dir))
        return ERR_OK;
    if (is_there(other, model_dir, "spiece.model") ||
        is_there(other, model_dir, "tokenizer.model")) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: SentencePiece tokenizer, expected byte-level BPE (vocab.json and "
                       "merges.txt, or tokenizer.json)",
                       other);
    }
    if (find_in(s, ".") || find_in(s, parent))
        return ERR_OK;
    return err_set(err, ERR_IO,
                   "no tokenizer: neither vocab.json with merges.txt nor tokenizer.json in %s, "
                   "in the current directory, or in %s",
                   model_dir, parent);
}

/* NULL and absent count as "not set" everywhere in tokenizer.json. */
static json_t *setting(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

static bool is_type(const json_t *object, const char *name)
{
    const json_t *type = setting(object, "type");

    return json_is_string(type) && json_string_length(type) == strlen(name) &&
           memcmp(json_string_value(type), name, strlen(name)) == 0;
}

/* A setting that must be off: absent, null, false, 0 or an empty string. */
static bool is_off(const json_t *object, const char *key)
{
    const json_t *value = setting(object, key);

    return value == NULL || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && !(json_number_value(value) != 0.0));
}

/* Refuses every setting under which tokenizer.json would encode differently from GPT-2. */
static ErrCode check_settings(const json_t *root, const json_t *model, Err *err)
{
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                      "ignore_merges"};
    const json_t *pre = setting(root, "pre_tokenizer");

    /* Early files leave the type of the model out. */
    if (setting(model, "type") != NULL && !is_type(model, "BPE"))
        return err_set(err, ERR_UNSUPPORTED, "model.type is not \"BPE\"");
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (!is_off(model, off[i]))
            return err_set(err, ERR_UNSUPPORTED, "model.%s is set, expected none", off[i]);
    if (setting(root, "normalizer") != NULL)
        return err_set(err, ERR_UNSUPPORTED, "a normalizer is set, expected none");
    if (!is_type(pre, "ByteLevel") || !is_off(pre, "add_prefix_space") ||
        json_is_false(setting(pre, "use_regex"))) {
        return err_set(err, ERR_UNSUPPORTED,
                       "pre_tokenizer is not GPT-2's, expected ByteLevel without prefix space and "
                       "with its pattern");
    }
    return ERR_OK;
}

static ErrCode read_tokenizer_json(Sources *s, Err *err)
{
    const json_t *model = setting(s->root, "model");
    const json_t *merges = setting(model, "merges");

    if (!json_is_object(model))
        return err_set(err, ERR_FORMAT, "no object \"model\"");

    const ErrCode code = check_settings(s->root, model, err);

    if (code != ERR_OK)
        return code;
    s->vocab = setting(model, "vocab");
    s->added = setting(s->root, "added_tokens");
    if (!json_is_object(s->vocab))
        return err_set(err, ERR_FORMAT, "no object \"model.vocab\"");
    if (!json_is_array(merges))
        return err_set(err, ERR_FORMAT, "no array \"model.merges\"");
    if (s->added != NULL && !json_is_array(s->added))
        return err_set(err, ERR_FORMAT, "\"added_tokens\" is not an array");
    merge_reader_json(&s->merges, merges);
    return ERR_OK;
}

static ErrCode open_sources(Sources *s, Err *err)
{
    s->root = json_parse_file_bounded(s->vocab_path, MAX_FILE_BYTES, MAX_VALUES, err);
    if (s->root == NULL)
        return err != NULL ? err->code : ERR_FORMAT;
    if (!json_is_object(s->root))
        return err_set(err, ERR_FORMAT, "%s: not a JSON object", s->vocab_path);
    if (strcmp(s->vocab_path, s->merges_path) == 0) {
        const ErrCode code = read_tokenizer_json(s, err);

        if (code != ERR_OK)
            err_prefix(err, "%s", s->vocab_path);
        return code;
    }

    const ErrCode code = mapped_file_open(&s->merges_file, s->merges_path, MAX_FILE_BYTES, err);

    if (code != ERR_OK)
        return code;

    const char *kind = mapped_file_kind(s->merges_file.data, s->merges_file.size);

    if (kind != NULL)
        return err_set(err, ERR_FORMAT, "%s: this is %s, expected merges", s->merges_path, kind);
    s->vocab = s->root;
    merge_reader_text(&s->merges, (const char *)s->merges_file.data, s->merges_file.size);
    return ERR_OK;
}

static void close_sources(Sources *s)
{
    mapped_file_close(&s->merges_file);
    json_decref(s->root);
}

/* A key with U+0000 in it has U+FFFF there (common/json.c), so it would be another token. */
static bool has_nul(const char *key, size_t n)
{
    return memmem(key, n, "\xef\xbf\xbf", 3) != NULL;
}

/* Checks all entries as far as they can be checked one by one, and counts the tokens and the bytes
 * of their texts. */
static ErrCode measure(const Sources *s, size_t *n_tokens, size_t *n_bytes, Err *err)
{
    size_t n = 0, bytes = 0, n_key, i;
    const char *key;
    json_t *value;

    json_object_keylen_foreach(s->vocab, key, n_key, value)
    {
        if (!json_is_integer(value)) {
            return err_set(err, ERR_FORMAT, "token \"%.*s\": id is not an integer",
                           MESSAGE_PIECE_BYTES, key);
        }
        if (has_nul(key, n_key)) {
            return err_set(err, ERR_FORMAT, "token \"%.*s\": U+0000 or U+FFFF in it",
                           MESSAGE_PIECE_BYTES, key);
        }
        n++;
        bytes += n_key;
    }
    json_array_foreach(s->added, i, value)
    {
        const json_t *content = json_object_get(value, "content");

        if (!json_is_string(content) || !json_is_integer(json_object_get(value, "id"))) {
            return err_set(err, ERR_FORMAT,
                           "added_tokens[%zu]: expected a string \"content\" and an integer \"id\"",
                           i);
        }
        n += json_object_getn(s->vocab, json_string_value(content), json_string_length(content)) ==
             NULL;
        bytes += json_string_length(content);
    }
    *n_tokens = n;
    *n_bytes = bytes;
    return ERR_OK;
}

/* One element of added_tokens. A text of one character that the vocabulary holds too is a byte
 * somebody declared special, for instance for padding; it stays a byte. */
static ErrCode add_added_token(VocabularyBuilder *b, const Sources *s, const json_t *item, Err *err)
{
    const json_t *content = json_object_get(item, "content");
    const char *text = json_string_value(content);
    const size_t n = json_string_length(content);
    const long long id = json_integer_value(json_object_get(item, "id"));
    const json_t *same = json_object_getn(s->vocab, text, n);
    const int shown = n < MESSAGE_PIECE_BYTES ? (int)n : MESSAGE_PIECE_BYTES;

    if (same != NULL && json_integer_value(same) != id) {
        return err_set(err, ERR_FORMAT, "added token \"%.*s\": id %lld, but %lld in the vocabulary",
                       shown, text, id, (long long)json_integer_value(same));
    }
    if (same != NULL && text_utf8_count(text, n) == 1)
        return ERR_OK;
    if (!json_is_true(json_object_get(item, "special")) && !tokenizer_is_end_of_text(text, n)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "added token \"%.*s\" is not special: added words are not supported", shown,
                       text);
    }
    return vocabulary_add(b, id, text, n, TOKEN_CONTROL, err);
}

static ErrCode fill_vocabulary(VocabularyBuilder *b, const Sources *s, Err *err)
{
    size_t n_key, i;
    const char *key;
    json_t *value;

    json_array_foreach(s->added, i, value)
    {
        const ErrCode code = add_added_token(b, s, value, err);

        if (code != ERR_OK)
            return code;
    }
    json_object_keylen_foreach(s->vocab, key, n_key, value)
    {
        const bool special = tokenizer_is_end_of_text(key, n_key);

        if (s->added != NULL && vocabulary_find(b->v, key, n_key, true) >= 0)
            continue; /* an added token, there already with this id */

        const ErrCode code = vocabulary_add(b, json_integer_value(value), key, n_key,
                                            special ? TOKEN_CONTROL : TOKEN_NORMAL, err);

        if (code != ERR_OK)
            return code;
    }
    return vocabulary_finish(b, err);
}

static ErrCode build_vocabulary(TokenizerBuilder *b, const Sources *s, size_t merge_bound, Err *err)
{
    size_t n_tokens = 0, text_bytes = 0;
    ErrCode code = measure(s, &n_tokens, &text_bytes, err);

    if (code == ERR_OK)
        code = builder_init(b, n_tokens, text_bytes, merge_bound, err);
    if (code == ERR_OK)
        code = fill_vocabulary(&b->vocabulary, s, err);
    if (code != ERR_OK)
        err_prefix(err, "%s", s->vocab_path);
    return code;
}

static ErrCode build(Tokenizer **out, Sources *s, Err *err)
{
    const size_t bound = merge_reader_bound(&s->merges);
    TokenizerBuilder b = {.t = NULL};

    if (bound == 0)
        return err_set(err, ERR_FORMAT, "%s: no merges", s->merges_path);

    ErrCode code = build_vocabulary(&b, s, bound, err);

    if (code == ERR_OK && (code = builder_add_merges(&b, &s->merges, err)) != ERR_OK)
        err_prefix(err, "%s", s->merges_path);
    if (code != ERR_OK) {
        builder_cancel(&b);
        return code;
    }
    *out = builder_finish(&b, TOKENIZER_KIND_JSON, tokenizer_find_end_of_text(&b.t->vocabulary));
    return ERR_OK;
}

ErrCode tokenizer_from_json(Tokenizer **out, const char *dir, Err *err)
{
    Sources s = {0};
    ErrCode code = find_files(&s, dir, err);

    if (code == ERR_OK)
        code = open_sources(&s, err);
    if (code == ERR_OK)
        code = build(out, &s, err);
    close_sources(&s);
    return code;
}
