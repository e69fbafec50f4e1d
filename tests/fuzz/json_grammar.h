/* tests/fuzz/json_grammar.h: the grammar of RFC 8259, rule by rule, as a second opinion on what is
 * JSON. Says nothing of duplicate keys, nor of numbers that no type holds. */
#ifndef LLORCH_TESTS_JSON_GRAMMAR_H
#define LLORCH_TESTS_JSON_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/text.h"

enum { GRAMMAR_MAX_DEPTH = 32 };

typedef struct {
    const char *at, *end;
    int depth;
} Grammar;

static inline bool grammar_value(Grammar *g);

static inline bool grammar_char(Grammar *g, char c)
{
    if (g->at == g->end || *g->at != c)
        return false;
    g->at++;
    return true;
}

static inline void grammar_blanks(Grammar *g)
{
    while (g->at < g->end && *g->at != '\0' && strchr(" \t\r\n", *g->at) != NULL)
        g->at++;
}

static inline bool grammar_word(Grammar *g, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(g->end - g->at) < n || memcmp(g->at, word, n) != 0)
        return false;
    g->at += n;
    return true;
}

/* The number of digits that were there. */
static inline size_t grammar_digits(Grammar *g)
{
    const char *start = g->at;

    while (g->at < g->end && *g->at >= '0' && *g->at <= '9')
        g->at++;
    return (size_t)(g->at - start);
}

static inline bool grammar_number(Grammar *g)
{
    (void)grammar_char(g, '-');
    if (!grammar_char(g, '0') && grammar_digits(g) == 0)
        return false;
    if (grammar_char(g, '.') && grammar_digits(g) == 0)
        return false;
    if (!grammar_char(g, 'e') && !grammar_char(g, 'E'))
        return true;
    if (!grammar_char(g, '+'))
        (void)grammar_char(g, '-');
    return grammar_digits(g) > 0;
}

/* The four digits of \u; -1 when these are none. */
static inline int grammar_hex(Grammar *g)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    int value = 0;

    for (int i = 0; i < 4; i++, g->at++) {
        const char *digit = g->at < g->end ? memchr(digits, *g->at, sizeof digits - 1) : NULL;

        if (digit == NULL)
            return -1;
        value = value << 4 | (int)((digit - digits) & 15);
    }
    return value;
}

/* What follows a backslash. Half a surrogate pair is no text. */
static inline bool grammar_escape(Grammar *g)
{
    if (!grammar_char(g, 'u')) {
        if (g->at == g->end || *g->at == '\0' || strchr("\"\\/bfnrt", *g->at) == NULL)
            return false;
        g->at++;
        return true;
    }

    const int high = grammar_hex(g);

    if (high < 0xd800 || high > 0xdfff)
        return high >= 0;
    if (high > 0xdbff || !grammar_word(g, "\\u"))
        return false;

    const int low = grammar_hex(g);

    return low >= 0xdc00 && low <= 0xdfff;
}

static inline bool grammar_string(Grammar *g)
{
    size_t used;

    if (!grammar_char(g, '"'))
        return false;
    while (g->at < g->end && *g->at != '"') {
        if (grammar_char(g, '\\')) {
            if (!grammar_escape(g))
                return false;
            continue;
        }
        if (text_utf8_next(g->at, (size_t)(g->end - g->at), &used) < 0x20)
            return false;
        g->at += used;
    }
    return grammar_char(g, '"');
}

static inline bool grammar_member(Grammar *g)
{
    grammar_blanks(g);
    if (!grammar_string(g))
        return false;
    grammar_blanks(g);
    return grammar_char(g, ':') && grammar_value(g);
}

/* An array or an object behind its first bracket. */
static inline bool grammar_items(Grammar *g, char close, bool (*item)(Grammar *g))
{
    if (++g->depth > GRAMMAR_MAX_DEPTH)
        return false;
    grammar_blanks(g);
    if (!grammar_char(g, close)) {
        do
            if (!item(g))
                return false;
        while (grammar_char(g, ','));
        if (!grammar_char(g, close))
            return false;
    }
    g->depth--;
    return true;
}

static inline bool grammar_bare_value(Grammar *g)
{
    if (g->at == g->end)
        return false;
    if (*g->at == '"')
        return grammar_string(g);
    if (grammar_char(g, '['))
        return grammar_items(g, ']', grammar_value);
    if (grammar_char(g, '{'))
        return grammar_items(g, '}', grammar_member);
    return grammar_word(g, "true") || grammar_word(g, "false") || grammar_word(g, "null") ||
           grammar_number(g);
}

/* A value with the white space around it. */
static inline bool grammar_value(Grammar *g)
{
    grammar_blanks(g);
    if (!grammar_bare_value(g))
        return false;
    grammar_blanks(g);
    return true;
}

/* Whether text[0..n) is one JSON text of at most 32 levels. */
static inline bool is_json(const char *text, size_t n)
{
    Grammar g = {.at = text, .end = text + n};

    return grammar_value(&g) && g.at == g.end;
}

#endif
