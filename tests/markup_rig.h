/* tests/markup_rig.h: what the tests of pages and charts share: a strict reader of markup, and
 * looks at single attributes.
 *
 * The reader accepts less than HTML does: every attribute quoted or without a value, every element
 * but meta closed, nothing escaped but the five characters that must be. */
#ifndef LLORCH_TESTS_MARKUP_RIG_H
#define LLORCH_TESTS_MARKUP_RIG_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/text.h"

/* Includes cmocka.h's assertions: include this behind it. */

enum { MARKUP_MAX_DEPTH = 64, MARKUP_NAME_BYTES = 32 };

typedef struct {
    char open[MARKUP_MAX_DEPTH][MARKUP_NAME_BYTES];
    int depth;
} Markup;

static size_t markup_reference(const char *p)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(p, known[i], strlen(known[i])) == 0)
            return strlen(known[i]);
    fail_msg("a bare & at: %.40s", p);
    return 1;
}

/* Coordinates hold digits and commands: no "nan", no "inf", no exponent. */
static void markup_coordinates(const char *name, const char *value, size_t n)
{
    static const char *const plain[] = {"x",  "y", "x1",    "x2",     "y1",
                                        "y2", "d", "width", "height", "viewBox"};

    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(name, plain[i]) == 0 && strspn(value, "0123456789.- MLhHvVazlm") < n)
            fail_msg("%s=\"%.*s\"", name, (int)n, value);
}

static const char *markup_attributes(const char *p)
{
    char name[MARKUP_NAME_BYTES];

    while (*p == ' ') {
        const size_t n = strspn(++p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-12");

        assert_in_range(n, 1, sizeof name - 1);
        (void)snprintf(name, sizeof name, "%.*s", (int)n, p);
        p += n;
        if (*p != '=')
            continue;
        assert_int_equal(p[1], '"');
        p += 2;
        const char *value = p;
        for (; *p != '"'; p += *p == '&' ? markup_reference(p) : 1)
            if (*p == '\0' || *p == '<')
                fail_msg("%s is not closed: %.40s", name, value);
        markup_coordinates(name, value, (size_t)(p - value));
        p++;
    }
    return p;
}

static const char *markup_tag(Markup *m, const char *p)
{
    const bool closing = p[1] == '/';
    const char *name = p + 1 + closing;
    const size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");

    assert_in_range(n, 1, MARKUP_NAME_BYTES - 1);
    if (closing) {
        assert_true(m->depth > 0);
        m->depth--;
        if (strlen(m->open[m->depth]) != n || memcmp(m->open[m->depth], name, n) != 0)
            fail_msg("<%s> is closed by %.40s", m->open[m->depth], p);
        assert_int_equal(name[n], '>');
        return name + n + 1;
    }
    const char *end = markup_attributes(name + n);
    if (end[0] == '/' && end[1] == '>')
        return end + 2;
    if (*end != '>')
        fail_msg("a tag without an end: %.60s", p);
    if (n == 4 && memcmp(name, "meta", 4) == 0)
        return end + 1;
    assert_true(m->depth < MARKUP_MAX_DEPTH);
    (void)snprintf(m->open[m->depth++], MARKUP_NAME_BYTES, "%.*s", (int)n, name);
    /* The text of these two is no markup. */
    if (strcmp(m->open[m->depth - 1], "script") == 0)
        return strstr(end, "</script>");
    if (strcmp(m->open[m->depth - 1], "style") == 0)
        return strstr(end, "</style>");
    return end + 1;
}

static void assert_well_formed(const JsonBuf *html)
{
    Markup m = {.depth = 0};
    const char *p = html->data;

    assert_int_equal(html->oom, 0);
    assert_non_null(p);
    assert_int_equal(strlen(p), html->len);
    assert_true(text_utf8_valid(p, html->len));
    if (strncmp(p, "<!DOCTYPE html>", 15) == 0)
        p += 15;
    while (*p != '\0') {
        if (*p == '<')
            p = markup_tag(&m, p);
        else
            p += *p == '&' ? markup_reference(p) : 1;
        assert_non_null(p);
    }
    if (m.depth != 0)
        fail_msg("<%s> is not closed", m.open[m.depth - 1]);
}

static inline int count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part))
        n++;
    return n;
}

/* The number behind part, the first time that part occurs. */
static inline double number_after(const char *text, const char *part)
{
    const char *p = strstr(text, part);

    if (p == NULL)
        fail_msg("no %s", part);
    return strtod(p + strlen(part), NULL);
}

#endif
