/* tokenizer/utf8_stream.c: a token may end inside a character; its bytes wait here for the rest.
 *
 * May include: common. */
#include "tokenizer/utf8_stream.h"

#include <string.h>

#include "common/text.h"

enum { REPLACEMENT_BYTES = 3 };

static size_t put_replacement(char *out)
{
    memcpy(out, "\xef\xbf\xbd", REPLACEMENT_BYTES); /* U+FFFD */
    return REPLACEMENT_BYTES;
}

/* Completes the held character with bytes[0..n), or finds that it cannot be one. Sets *taken to the
 * bytes that are dealt with: the byte that makes a character impossible is not part of it and is
 * looked at again. */
static size_t finish_held(Utf8Stream *u, const char *bytes, size_t n, size_t *taken, char *out)
{
    size_t i = 0, written = 0;

    while (u->n_held > 0 && i < n) {
        size_t used;

        u->held[u->n_held++] = (unsigned char)bytes[i++];

        const int c = text_utf8_next((const char *)u->held, u->n_held, &used);

        if (c == TEXT_UTF8_INCOMPLETE)
            continue;
        if (c == TEXT_UTF8_INVALID) {
            written = put_replacement(out);
            i -= u->n_held - used;
        } else {
            memcpy(out, u->held, used);
            written = used;
        }
        u->n_held = 0;
    }
    *taken = i;
    return written;
}

size_t utf8_stream_push(Utf8Stream *u, const char *bytes, size_t n, char *out)
{
    size_t i = 0, used;
    size_t written = finish_held(u, bytes, n, &i, out);

    for (; i < n; i += used) {
        const int c = text_utf8_next(bytes + i, n - i, &used);

        if (c == TEXT_UTF8_INCOMPLETE) {
            memcpy(u->held, bytes + i, used);
            u->n_held = used;
        } else if (c == TEXT_UTF8_INVALID) {
            written += put_replacement(out + written);
        } else {
            memcpy(out + written, bytes + i, used);
            written += used;
        }
    }
    return written;
}

size_t utf8_stream_flush(Utf8Stream *u, char *out)
{
    if (u->n_held == 0)
        return 0;
    u->n_held = 0;
    return put_replacement(out);
}
