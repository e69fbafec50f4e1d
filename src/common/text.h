/* common/text.h: UTF-8, base64 and number texts: the helpers that several parts need to speak with
 * the outside.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_TEXT_H
#define LLORCH_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

enum {
    TEXT_FLOAT_BYTES = 64,    /* the longest is -0.<37 zeros><9 digits>: 49 bytes and the NUL */
    TEXT_JSON_UNIT_BYTES = 8, /* one character inside a JSON string: \u00XX or up to 4 bytes */
    TEXT_UTF8_INVALID = -1,   /* text_utf8_next: these bytes cannot become a character */
    TEXT_UTF8_INCOMPLETE =
        -2 /* text_utf8_next: the bytes end inside a character that could still become valid */
};

/* Decodes the character at s[0..n), n > 0. Returns its scalar value and stores its length in *used;
 * or TEXT_UTF8_INVALID with *used = length of the maximal invalid part (1..3, Unicode 15 table
 * 3-7); or TEXT_UTF8_INCOMPLETE with *used = n. */
int text_utf8_next(const char *s, size_t n, size_t *used);

/* Whether s[0..n) is valid UTF-8 (no surrogates, no overlong forms). NUL is a character like
 * others. */
bool text_utf8_valid(const char *s, size_t n);

/* Unicode scalar values in valid UTF-8. */
size_t text_utf8_count(const char *s, size_t n);

/* Writes s[0..n) to out (size bytes, NUL-terminated) with control characters, what ends or
 * turns a line in Unicode, and invalid bytes escaped as \n, \t, \r or \xHH. What does not fit is
 * cut in the middle ("..."), never inside a character. Returns the length. */
size_t text_escape(char *out, size_t size, const char *s, size_t n);

/* Writes the character at s[0..n), n > 0, as it stands inside a JSON string (no NUL at the end) and
 * returns the length; *used is the number of bytes read. Control characters are escaped, invalid
 * bytes become U+FFFD. */
size_t text_json_unit(char out[TEXT_JSON_UNIT_BYTES], const char *s, size_t n, size_t *used);

/* Shortest decimal that reads back as the same float: no exponent, no trailing ".0" (3, 2.1, -0.5,
 * -0, inf, -inf, nan). */
void text_float(char out[TEXT_FLOAT_BYTES], float value);

/* Base64 (RFC 4648, with padding). Encoded size is 4 * ceil(n / 3) + 1. Decoding is strict; returns
 * false on any other byte or wrong padding. out must hold 3 * (n / 4) bytes. */
void text_base64_encode(char *out, const void *data, size_t n);
bool text_base64_decode(void *out, size_t *out_n, const char *s, size_t n);

#endif
