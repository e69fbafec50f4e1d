/* compat/tokenize.c: see tokenize.h.
 *
 * May include: common, backend. */
#include "compat/tokenize.h"

#include "common/body.h"
#include "common/text.h"
#include "compat/field_reader.h"

enum { PIECE_BATCH = 32 }; /* bytes of a piece that are written at once */

/* The first that is wrong becomes the answer. */
static int finish(FieldReader *reader, Body *body, JsonBuf *answer)
{
    if (reader->status != 0) {
        const ApiError e = field_error(reader);

        answer->len = 0;
        api_error_llama(answer, &e);
    }
    body_free(body);
    return reader->status != 0 ? reader->status : 200;
}

static void parse(FieldReader *reader, Body *body, const char *text, size_t n,
                  const BodyRules *rules)
{
    Err err = {.code = ERR_OK};

    if (body_parse(body, text, n, rules, &err) == ERR_MEMORY)
        field_fail(reader, 500, NULL, NULL, "out of memory");
    else if (err.code != ERR_OK)
        field_fail(reader, 400, NULL, NULL, "%s", err.msg);
    else if (!json_is_object(body->root))
        field_fail(reader, 400, NULL, NULL, "body: expected an object");
}

/* The digits of a byte, or of a byte and a comma, at out. Returns their number. */
static size_t put_byte(char *out, unsigned char byte, bool comma)
{
    size_t n = 0;

    if (comma)
        out[n++] = ',';
    if (byte >= 100)
        out[n++] = (char)('0' + byte / 100);
    if (byte >= 10)
        out[n++] = (char)('0' + byte / 10 % 10);
    out[n++] = (char)('0' + byte % 10);
    return n;
}

/* Bytes in brackets: for what is no whole characters. */
static void write_bytes(JsonBuf *out, const char *bytes, size_t n)
{
    char text[4 * PIECE_BATCH + 1];
    size_t at = 1;

    text[0] = '[';
    for (size_t i = 0; i < n; i++) {
        at += put_byte(text + at, (unsigned char)bytes[i], i > 0);
        if (at > sizeof text - 5) {
            json_buf_add(out, text, at);
            at = 0;
        }
    }
    text[at++] = ']';
    json_buf_add(out, text, at);
}

/* A text, or its bytes when it is no whole characters. */
static void write_piece(JsonBuf *out, const Backend *b, int id)
{
    size_t n = 0;
    const char *bytes = b->ops->token_text(b, id, &n, NULL);

    json_buf_add(out, "{\"id\":", 6);
    json_buf_int(out, id);
    json_buf_add(out, ",\"piece\":", 9);
    if (text_utf8_valid(bytes, n))
        json_buf_string(out, bytes, n);
    else
        write_bytes(out, bytes, n);
    json_buf_add(out, "}", 1);
}

static void write_tokens(JsonBuf *out, const Backend *b, const int32_t *ids, size_t n,
                         bool with_pieces)
{
    json_buf_add(out, "{\"tokens\":[", 11);
    for (size_t i = 0; i < n; i++) {
        json_buf_add(out, ",", i == 0 ? 0 : 1);
        if (with_pieces)
            write_piece(out, b, ids[i]);
        else
            json_buf_int(out, ids[i]);
    }
    json_buf_add(out, "]}", 2);
}

static void check_content(FieldReader *reader, const json_t *content)
{
    size_t n_chars;

    if (reader->status != 0)
        return;
    if (content == NULL) {
        field_fail(reader, 400, "content", NULL, "content is missing, expected a string");
        return;
    }
    n_chars = text_utf8_count(json_string_value(content), json_string_length(content));
    if (n_chars > BACKEND_MAX_PROMPT_CHARS)
        field_fail(reader, 400, "content", NULL, "content must be at most %d characters (got %zu)",
                   (int)BACKEND_MAX_PROMPT_CHARS, n_chars);
}

int tokenize_answer(const char *body, size_t n, Backend *backend, JsonBuf *answer)
{
    static const char *const known[] = {"content", "add_special", "parse_special", "with_pieces",
                                        NULL};
    static const BodyRules rules = {.known = known};
    bool add_special = false, parse_special = true, with_pieces = false;
    Body parsed;
    FieldReader reader = {.body = &parsed};
    const json_t *content;
    const int32_t *ids;
    size_t n_ids = 0;

    answer->len = 0;
    parse(&reader, &parsed, body, n, &rules);
    content = field_text(&reader, "content");
    check_content(&reader, content);
    /* GPT-2's tokenizer puts nothing before or behind a text, so there is nothing to add. */
    field_bool(&reader, "add_special", &add_special);
    field_bool(&reader, "parse_special", &parse_special);
    field_bool(&reader, "with_pieces", &with_pieces);
    if (reader.status == 0) {
        ids = backend->ops->tokenize(backend,
                                     (BackendText){.text = json_string_value(content),
                                                   .n_bytes = json_string_length(content)},
                                     parse_special, &n_ids);
        if (with_pieces && n_ids > TOKENIZE_MAX_PIECES)
            field_fail(&reader, 400, "with_pieces", NULL,
                       "content must be at most %d tokens with their pieces (got %zu)",
                       (int)TOKENIZE_MAX_PIECES, n_ids);
        else
            write_tokens(answer, backend, ids, n_ids, with_pieces);
    }
    return finish(&reader, &parsed, answer);
}

/* The bytes of all tokens, special ones spelled out. */
static void join(FieldReader *reader, const Backend *b, const int32_t *ids, size_t n, JsonBuf *out)
{
    if (n > DETOKENIZE_MAX_IDS)
        field_fail(reader, 400, "tokens", NULL, "tokens must be at most %d (got %zu)",
                   (int)DETOKENIZE_MAX_IDS, n);
    for (size_t i = 0; i < n && reader->status == 0; i++) {
        size_t n_bytes = 0;
        const char *bytes = b->ops->token_text(b, ids[i], &n_bytes, NULL);

        if (bytes == NULL)
            field_fail(reader, 400, "tokens", NULL,
                       "tokens: id %d is outside the vocabulary (0 to %d)", (int)ids[i],
                       b->ops->info(b)->vocab_size - 1);
        else
            json_buf_add(out, bytes, n_bytes);
    }
}

int detokenize_answer(const char *body, size_t n, Backend *backend, JsonBuf *answer)
{
    static const char *const known[] = {"tokens", NULL};
    static const BodyRules rules = {.known = known, .take_lists = true};
    Body parsed;
    FieldReader reader = {.body = &parsed};
    JsonBuf text = {.data = NULL};
    const json_t *tokens;
    const int32_t *ids;
    size_t n_ids;

    answer->len = 0;
    parse(&reader, &parsed, body, n, &rules);
    tokens = field_get(&reader, "tokens");
    if (body_is_list(tokens)) {
        ids = body_list(&parsed, tokens, &n_ids);
        join(&reader, backend, ids, n_ids, &text);
    } else if (!json_is_array(tokens) || json_array_size(tokens) > 0) {
        field_fail(&reader, 400, "tokens", NULL, "tokens: expected an array of token ids");
    }
    json_buf_printf(answer, "{\"content\":");
    json_buf_string(answer, text.data, text.len); /* what is no UTF-8 becomes U+FFFD */
    json_buf_printf(answer, "}");
    answer->oom |= text.oom;
    json_buf_free(&text);
    return finish(&reader, &parsed, answer);
}
