/* compat/choice.c: see choice.h.
 *
 * A token that is no whole characters is written as OpenAI does, "bytes:\xe2\x80"; text_offset
 * counts the characters before it, those of the prompt included; of one that it goes on with it
 * counts nothing yet.
 *
 * May include: common, backend. */
#include "compat/choice.h"

#include <math.h>
#include <string.h>

#include "common/text.h"

/* What can no longer become a character is one U+FFFD for each maximal part, as in the text. */
static void count_bytes(Choice *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t used;

        c->held[c->n_held++] = bytes[i];
        while (c->n_held > 0 && text_utf8_next(c->held, c->n_held, &used) != TEXT_UTF8_INCOMPLETE) {
            c->n_chars++;
            c->n_held -= used;
            memmove(c->held, c->held + used, c->n_held);
        }
    }
}

/* The text ends here: what is held becomes one U+FFFD. */
static void count_end(Choice *c)
{
    c->n_chars += c->n_held > 0;
    c->n_held = 0;
}

/* So it does where a token comes that cannot go on with it: the token begins behind the U+FFFD. */
static void count_broken(Choice *c, const char *bytes, size_t n)
{
    char text[sizeof c->held];
    size_t used;

    if (c->n_held == 0 || n == 0)
        return;
    memcpy(text, c->held, c->n_held);
    text[c->n_held] = bytes[0];
    if (text_utf8_next(text, c->n_held + 1, &used) == TEXT_UTF8_INVALID)
        count_end(c);
}

void choice_count_text(Choice *c, BackendText text)
{
    c->n_chars += text_utf8_count(text.text, text.n_bytes);
}

void choice_count_ids(Choice *c, const Backend *b, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes = 0;
        const char *bytes = b->ops->token_text(b, ids[i], &n_bytes, NULL);

        count_bytes(c, bytes, n_bytes);
    }
    count_end(c);
}

static void add_bytes(JsonBuf *out, const char *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";

    json_buf_add(out, "\"bytes:", 7);
    for (size_t i = 0; i < n; i++) {
        const unsigned char b = (unsigned char)bytes[i];

        json_buf_add(out, (const char[]){'\\', '\\', 'x', hex[b >> 4], hex[b & 15]}, 5);
    }
    json_buf_add(out, "\"", 1);
}

static void add_token(JsonBuf *out, const Backend *b, int id)
{
    size_t n = 0;
    const char *bytes = b->ops->token_text(b, id, &n, NULL);

    if (text_utf8_valid(bytes, n))
        json_buf_string(out, bytes, n);
    else
        add_bytes(out, bytes, n);
}

static void add_comma(JsonBuf *out, bool first)
{
    json_buf_add(out, ",", first ? 0 : 1);
}

static void add_pair(JsonBuf *out, const Backend *b, int id, double logprob)
{
    add_token(out, b, id);
    json_buf_add(out, ":", 1);
    json_buf_double(out, logprob);
}

/* The most likely tokens, and the one that it was. */
static void add_best(JsonBuf *out, const Backend *b, int id, const BackendScores *scores)
{
    bool has_own = false;

    if (scores == NULL) {
        json_buf_add(out, "null", 4);
        return;
    }
    json_buf_add(out, "{", 1);
    for (int i = 0; i < scores->n_best; i++) {
        add_comma(out, i == 0);
        add_pair(out, b, scores->best[i].id, scores->best[i].logprob);
        has_own |= scores->best[i].id == id;
    }
    if (!has_own) {
        add_comma(out, scores->n_best == 0);
        add_pair(out, b, id, scores->logprob);
    }
    json_buf_add(out, "}", 1);
}

static void list_token(Choice *c, const Backend *b, const BackendStep *step)
{
    const bool first = c->n_listed++ == 0;

    add_comma(&c->tokens, first);
    add_token(&c->tokens, b, step->id);
    add_comma(&c->token_logprobs, first);
    if (step->scores != NULL)
        json_buf_double(&c->token_logprobs, step->scores->logprob);
    else
        json_buf_add(&c->token_logprobs, "null", 4);
    add_comma(&c->top_logprobs, first);
    add_best(&c->top_logprobs, b, step->id, step->scores);
    add_comma(&c->text_offset, first);
    json_buf_int(&c->text_offset, (long long)c->n_chars);
}

void choice_add(Choice *c, const Backend *b, const BackendStep *step, bool with_logprobs)
{
    const bool generated = step->kind != STEP_PROMPT_TOKEN;
    bool special = false;
    size_t n = 0;

    json_buf_add(&c->text, step->text, step->n_text);
    if (step->id < 0) /* held text, which an end of text released */
        return;
    if ((generated && !c->has_generated) || step->kind == STEP_END)
        count_end(c);
    c->has_generated = generated;
    c->n_generated += generated;
    if (generated && step->scores != NULL)
        c->logprob += step->scores->logprob;
    if (!with_logprobs)
        return;
    const char *bytes = b->ops->token_text(b, step->id, &n, &special);
    if (generated && special) /* has no text in what is generated */
        n = 0;
    count_broken(c, bytes, n);
    list_token(c, b, step);
    count_bytes(c, bytes, n);
}

double choice_mean_logprob(const Choice *c)
{
    /* One without tokens has none that could be likely: it comes last. */
    return c->n_generated > 0 ? c->logprob / c->n_generated : -HUGE_VAL;
}

size_t choice_size(const Choice *c)
{
    return c->text.len + c->tokens.len + c->token_logprobs.len + c->top_logprobs.len +
           c->text_offset.len;
}

bool choice_oom(const Choice *c)
{
    return c->text.oom || c->tokens.oom || c->token_logprobs.oom || c->top_logprobs.oom ||
           c->text_offset.oom;
}

static void add_list(JsonBuf *out, const char *key, JsonBuf *elements)
{
    json_buf_printf(out, "\"%s\":[", key);
    json_buf_add(out, elements->data, elements->len);
    json_buf_add(out, "]", 1);
    elements->len = 0;
}

void choice_write(Choice *c, int index, bool with_logprobs, JsonBuf *out)
{
    static const char *const reasons[] = {[STOP_NONE] = "null",
                                          [STOP_MAX_TOKENS] = "\"length\"",
                                          [STOP_EOS] = "\"stop\"",
                                          [STOP_SEQUENCE] = "\"stop\""};

    json_buf_printf(out, "{\"text\":");
    json_buf_string(out, c->text.data, c->text.len);
    json_buf_printf(out, ",\"index\":%d,\"logprobs\":", index);
    /* A part of a stream without a token, its end, has none. */
    if (with_logprobs && (c->n_listed > 0 || !c->has_been_written)) {
        json_buf_add(out, "{", 1);
        add_list(out, "tokens", &c->tokens);
        json_buf_add(out, ",", 1);
        add_list(out, "token_logprobs", &c->token_logprobs);
        json_buf_add(out, ",", 1);
        add_list(out, "top_logprobs", &c->top_logprobs);
        json_buf_add(out, ",", 1);
        add_list(out, "text_offset", &c->text_offset);
        json_buf_add(out, "}", 1);
    } else {
        json_buf_add(out, "null", 4);
    }
    json_buf_printf(out, ",\"finish_reason\":%s}", reasons[c->reason]);
    c->text.len = 0;
    c->n_listed = 0;
    c->has_been_written = true;
}

void choice_free(Choice *c)
{
    json_buf_free(&c->text);
    json_buf_free(&c->tokens);
    json_buf_free(&c->token_logprobs);
    json_buf_free(&c->top_logprobs);
    json_buf_free(&c->text_offset);
    *c = (Choice){.n_chars = 0};
}
