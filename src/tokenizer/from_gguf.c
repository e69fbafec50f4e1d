/* tokenizer/from_gguf.c: from the metadata of a GGUF file to a Tokenizer.
 *
 * Source  the keys under tokenizer.ggml of the GGUF specification.
 *
 * May include: common, formats. */
#include <stdio.h>

#include "common/text.h"
#include "formats/gguf.h"
#include "tokenizer/builder.h"

#define KEY_MODEL "tokenizer.ggml.model"
#define KEY_PRE "tokenizer.ggml.pre"
#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_TYPES "tokenizer.ggml.token_type"
#define KEY_MERGES "tokenizer.ggml.merges"
#define KEY_BOS "tokenizer.ggml.bos_token_id"
#define KEY_EOS "tokenizer.ggml.eos_token_id"

enum { MESSAGE_NAME_BYTES = 100 };

typedef struct {
    const char *path;
    GgufArray tokens, types, merges;
    bool has_types; /* without them only <|endoftext|> is special */
    int end_of_text;
} Metadata;

static bool is_text(GgufText t, const char *name)
{
    return t.n == strlen(name) && memcmp(t.text, name, t.n) == 0;
}

static int shown(GgufText t)
{
    return t.n < MESSAGE_NAME_BYTES ? (int)t.n : MESSAGE_NAME_BYTES;
}

/* Refuses every kind of tokenizer that would cut or merge text differently from GPT-2's. */
static ErrCode check_kind(const Gguf *g, const char *path, Err *err)
{
    GgufText model, pre;
    bool found;
    ErrCode code = gguf_string(g, KEY_MODEL, &model, NULL, err);

    if (code != ERR_OK)
        return code;
    if (!is_text(model, "gpt2")) {
        return err_set(err, ERR_UNSUPPORTED, "%s: " KEY_MODEL " is \"%.*s\", expected \"gpt2\"",
                       path, shown(model), model.text);
    }
    code = gguf_string(g, KEY_PRE, &pre, &found, err);
    if (code == ERR_OK && found && !is_text(pre, "gpt-2") && !is_text(pre, "default")) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: " KEY_PRE " is \"%.*s\", expected \"gpt-2\" or \"default\"", path,
                       shown(pre), pre.text);
    }
    return code;
}

static ErrCode read_arrays(Metadata *m, const Gguf *g, Err *err)
{
    ErrCode code = gguf_array(g, KEY_TOKENS, GGUF_META_STRING, &m->tokens, NULL, err);

    if (code == ERR_OK)
        code = gguf_array(g, KEY_MERGES, GGUF_META_STRING, &m->merges, NULL, err);
    if (code == ERR_OK)
        code = gguf_array(g, KEY_TYPES, GGUF_META_I32, &m->types, &m->has_types, err);
    if (code != ERR_OK)
        return code;
    if (m->tokens.n == 0)
        return err_set(err, ERR_FORMAT, "%s: " KEY_TOKENS ": the vocabulary is empty", m->path);
    if (m->merges.n == 0)
        return err_set(err, ERR_FORMAT, "%s: " KEY_MERGES ": no merges", m->path);
    if (m->has_types && m->types.n != m->tokens.n) {
        return err_set(err, ERR_FORMAT,
                       "%s: " KEY_TYPES ": %zu elements, expected one for each of %zu tokens",
                       m->path, m->types.n, m->tokens.n);
    }
    return ERR_OK;
}

/* The end-of-text id, or -1 when the file names none. The other one is not used, but must be one.
 */
static ErrCode read_special_ids(Metadata *m, const Gguf *g, Err *err)
{
    const int64_t last = (int64_t)m->tokens.n - 1;
    int64_t bos, eos = -1;
    bool found;
    ErrCode code = gguf_integer(g, KEY_EOS, 0, last, &eos, &found, err);

    if (code == ERR_OK)
        code = gguf_integer(g, KEY_BOS, 0, last, &bos, &found, err);
    if (code == ERR_OK)
        m->end_of_text = (int)eos;
    return code;
}

/* "[PAD50257]", as converters name the row of that id when the table is longer than the vocabulary.
 */
static bool is_padding(GgufText text, int32_t type, size_t id)
{
    char name[32];

    (void)snprintf(name, sizeof name, "[PAD%zu]", id);
    return type == TOKEN_UNUSED && is_text(text, name);
}

/* Padding at the end goes: as in the other forms of a tokenizer, these ids are no candidates. */
static void drop_padding(Metadata *m)
{
    GgufArray tokens = m->tokens, types = m->types;
    GgufText text;
    int32_t type;
    size_t n = 0;

    for (size_t id = 0; gguf_next_string(&tokens, &text) && gguf_next_i32(&types, &type); id++)
        if (!is_padding(text, type, id) || (long long)id == m->end_of_text)
            n = id + 1;
    if (m->has_types && n > 0)
        m->tokens.n = m->types.n = n;
}

static size_t count_text(GgufArray tokens)
{
    size_t n_bytes = 0;

    for (GgufText text; gguf_next_string(&tokens, &text);)
        n_bytes += text.n;
    return n_bytes;
}

static ErrCode check_type(int32_t type, Err *err)
{
    switch (type) {
    case TOKEN_NORMAL:
    case TOKEN_CONTROL:
    case TOKEN_USER_DEFINED:
    case TOKEN_UNUSED:
        return ERR_OK;
    case 6:
        return err_set(err, ERR_UNSUPPORTED,
                       "type 6 (byte), but bytes are normal tokens in GPT-2's byte alphabet");
    default:
        return err_set(err, ERR_UNSUPPORTED,
                       "type %d, expected 1 (normal), 3 (control), 4 (user defined) or 5 (unused)",
                       (int)type);
    }
}

/* The same rules as for JSON: <|endoftext|> is special whatever the file says, and a byte that
 * somebody declared special, for instance for padding, stays a byte. */
static TokenType effective_type(GgufText text, int32_t type)
{
    char byte[4];
    size_t n;

    if (type == TOKEN_NORMAL && tokenizer_is_end_of_text(text.text, text.n))
        return TOKEN_CONTROL;
    if ((type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) && text.n <= sizeof byte &&
        text_utf8_count(text.text, text.n) == 1 && vocabulary_spelled(text.text, text.n, byte, &n))
        return TOKEN_NORMAL;
    return (TokenType)type;
}

static ErrCode fill_vocabulary(VocabularyBuilder *b, const Metadata *m, Err *err)
{
    GgufArray tokens = m->tokens, types = m->types;
    GgufText text;

    for (long long id = 0; gguf_next_string(&tokens, &text); id++) {
        int32_t type = TOKEN_NORMAL;

        if (m->has_types && !gguf_next_i32(&types, &type))
            break; /* there are as many: read_arrays */

        ErrCode code = check_type(type, err);

        if (code != ERR_OK) {
            err_prefix(err, "%s: " KEY_TYPES "[%lld]", m->path, id);
            return code;
        }
        if (!text_utf8_valid(text.text, text.n))
            code = err_set(err, ERR_FORMAT, "token is not valid UTF-8");
        else
            code = vocabulary_add(b, id, text.text, text.n, effective_type(text, type), err);
        if (code != ERR_OK) {
            err_prefix(err, "%s: " KEY_TOKENS "[%lld]", m->path, id);
            return code;
        }
    }

    const ErrCode code = vocabulary_finish(b, err);

    if (code != ERR_OK)
        err_prefix(err, "%s: " KEY_TOKENS, m->path);
    return code;
}

static ErrCode build(Tokenizer **out, Metadata *m, Err *err)
{
    TokenizerBuilder b;
    MergeReader merges;
    ErrCode code = builder_init(&b, m->tokens.n, count_text(m->tokens), m->merges.n, err);

    if (code != ERR_OK) {
        err_prefix(err, "%s: " KEY_TOKENS, m->path);
        return code;
    }
    merge_reader_gguf(&merges, m->merges, KEY_MERGES);
    code = fill_vocabulary(&b.vocabulary, m, err);
    if (code == ERR_OK && (code = builder_add_merges(&b, &merges, err)) != ERR_OK)
        err_prefix(err, "%s", m->path);
    if (code != ERR_OK) {
        builder_cancel(&b);
        return code;
    }
    if (m->end_of_text < 0)
        m->end_of_text = tokenizer_find_end_of_text(&b.t->vocabulary);
    *out = builder_finish(&b, TOKENIZER_KIND_GGUF, m->end_of_text);
    return ERR_OK;
}

ErrCode tokenizer_from_gguf(Tokenizer **out, const char *path, Err *err)
{
    Metadata m = {.path = path};
    Gguf *g = NULL;
    ErrCode code = gguf_open(&g, path, err);

    if (code == ERR_OK)
        code = check_kind(g, path, err);
    if (code == ERR_OK)
        code = read_arrays(&m, g, err);
    if (code == ERR_OK)
        code = read_special_ids(&m, g, err);
    if (code == ERR_OK) {
        drop_padding(&m);
        code = build(out, &m, err);
    }
    gguf_close(g);
    return code;
}
