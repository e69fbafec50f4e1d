/* common/json.h: strict JSON in (RFC 8259, duplicates refused, depth 32), escaped JSON out. A thin
 * layer over jansson.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_JSON_H
#define LLORCH_COMMON_JSON_H

#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>

#include "common/error.h"

/* A parsed value takes up to 250 bytes, an empty object in the text only three: more values than
 * these are refused before anything is built, where nobody knows a better bound. */
enum { JSON_MAX_DEPTH = 32, JSON_MAX_VALUES = 2000000 };

/* Parses text[0..n). RFC 8259 to the letter; refuses bytes after the value, duplicate keys, depth
 * above 32, bad UTF-8, NaN, more than JSON_MAX_VALUES values. what names the source in messages
 * ("config.json"). "\u0000" in a string is accepted (length kept). Returns a new reference, or NULL
 * with err set (ERR_FORMAT; the message has line and column). */
json_t *json_parse(const char *text, size_t n, const char *what, Err *err) ERR_CHECK;

/* The same with another bound: more than max_values values (commas and opening brackets are
 * counted) are refused with ERR_LIMIT, so that a small text cannot cost much time or memory. */
json_t *json_parse_bounded(const char *text, size_t n, size_t max_values, const char *what,
                           Err *err) ERR_CHECK;

/* Maps and parses a file of at most max_bytes and JSON_MAX_VALUES values, or of at most
 * max_values. Messages carry the path. */
json_t *json_parse_file(const char *path, size_t max_bytes, Err *err) ERR_CHECK;
json_t *json_parse_file_bounded(const char *path, size_t max_bytes, size_t max_values,
                                Err *err) ERR_CHECK;

/* A growing text buffer for JSON output; failed allocations are remembered in oom and checked once
 * at the end. */
typedef struct {
    char *data; /* NUL-terminated, owned; NULL while empty */
    size_t len, cap;
    int oom;
} JsonBuf;

void json_buf_free(JsonBuf *b);
void json_buf_add(JsonBuf *b, const char *text, size_t n);
void json_buf_printf(JsonBuf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void json_buf_vprintf(JsonBuf *b, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Numbers, without the cost of a format. A double, which must be finite, in the shortest form that
 * reads back as the same one. */
void json_buf_int(JsonBuf *b, long long value);
void json_buf_double(JsonBuf *b, double value);
/* Adds a JSON string with quotes; non-ASCII stays raw UTF-8, invalid bytes become U+FFFD. */
void json_buf_string(JsonBuf *b, const char *s, size_t n);

#endif
