/* http/sse.c: see sse.h.
 *
 * May include: nothing. */
#include "http/sse.h"

#include <string.h>

static void add_text(JsonBuf *out, const char *text)
{
    json_buf_add(out, text, strlen(text));
}

/* Adds s[0..n) as part of one line. */
static void add_line_text(JsonBuf *out, const char *s, size_t n)
{
    size_t start = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\n' && s[i] != '\r' && s[i] != '\0')
            continue;
        json_buf_add(out, s + start, i - start);
        json_buf_add(out, " ", 1);
        start = i + 1;
    }
    json_buf_add(out, s + start, n - start);
}

void sse_event(JsonBuf *out, const char *name, const char *json, size_t n_json)
{
    add_text(out, "event: ");
    add_line_text(out, name, strlen(name));
    add_text(out, "\ndata: ");
    add_line_text(out, json, n_json);
    add_text(out, "\n\n");
}

void sse_comment(JsonBuf *out, const char *text)
{
    add_text(out, ": ");
    add_line_text(out, text, strlen(text));
    add_text(out, "\n\n");
}
