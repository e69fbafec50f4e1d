/* tokenizer/utf8_stream.h: bytes of tokens in, whole characters out (worker contract 6.4).
 *
 * May include: nothing. */
#ifndef LLORCH_TOKENIZER_UTF8_STREAM_H
#define LLORCH_TOKENIZER_UTF8_STREAM_H

#include <stddef.h>

/* Holds the start of an unfinished character: at most three bytes. Zero-initialised is empty. */
typedef struct {
    unsigned char held[4];
    size_t n_held;
} Utf8Stream;

/* Appends bytes[0..n) and writes what is complete to out (room for 3 * (n + 3) bytes); returns the
 * bytes written. Each maximal invalid part becomes one U+FFFD; an unfinished but possible character
 * is held. */
size_t utf8_stream_push(Utf8Stream *u, const char *bytes, size_t n, char *out);

/* End of the text: an unfinished tail becomes one U+FFFD (3 bytes); returns 0 or 3. */
size_t utf8_stream_flush(Utf8Stream *u, char *out);

#endif
