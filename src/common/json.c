/* common/json.c: what jansson leaves open is decided here: depth, byte order mark, NUL in a key,
 * numbers above 2^63 - 1.
 *
 * May include: nothing. */
#include "common/json.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_memory.h"
#include "common/mapped_file.h"
#include "common/text.h"

/* The end of the string literal that starts at text[i] (a quote): the index behind its closing
 * quote, or n. */
static size_t skip_string(const char *text, size_t n, size_t i)
{
    for (i++; i < n && text[i] != '"'; i++)
        if (text[i] == '\\')
            i++;
    return i < n ? i + 1 : n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_structural(char c)
{
    return c == '[' || c == ']' || c == '{' || c == '}' || c == ',' || c == ':';
}

static size_t skip_blanks(const char *text, size_t n, size_t i)
{
    while (i < n && is_blank(text[i]))
        i++;
    return i;
}

/* jansson's own limit of depth is 2048 and fixed, and it has none for the number of values.
 * Brackets and commas in strings do not count; damaged text is left to jansson. *longest becomes at
 * least the length of the longest string, number or word. */
static ErrCode check_shape(const char *text, size_t n, size_t max_values, size_t *longest,
                           const char *what, Err *err)
{
    size_t n_values = 1, token = 0;
    int depth = 0;

    *longest = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t begin = i;
        const char c = text[i];

        if (c == '"')
            i = skip_string(text, n, i) - 1;
        token = is_blank(c) || is_structural(c) ? 0 : token + i - begin + 1;
        *longest = token > *longest ? token : *longest;
        if (c == '"')
            continue;
        if (c == ']' || c == '}')
            depth--;
        else if ((c == '[' || c == '{') && ++depth > JSON_MAX_DEPTH)
            return err_set(err, ERR_FORMAT, "%s: byte %zu: nested deeper than %d levels", what, i,
                           (int)JSON_MAX_DEPTH);
        /* Each value but the first of its array or object follows a comma, each first a bracket. */
        n_values += c == ',' || c == '[' || c == '{';
        if (n_values > max_values)
            return err_set(err, ERR_LIMIT, "%s: byte %zu: more than %zu values", what, i,
                           max_values);
    }
    return ERR_OK;
}

static json_t *load(const char *text, size_t n, size_t longest, json_error_t *error,
                    bool *out_of_memory)
{
    /* No bytes may have no place; jansson takes that for a fault of ours. */
    return json_memory_load(n > 0 ? text : "", n, longest,
                            JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, error,
                            out_of_memory);
}

/* jansson refuses NUL in a key, RFC 8259 allows it. No key that anything here looks for has one, so
 * such a key only has to stay different from those: \u0000 becomes \uFFFF, which is no character
 * either. Called after jansson has accepted the text up to such a key; what is wrong behind it is
 * found by the second run. */
static json_t *load_with_nul_keys(const char *text, size_t n, size_t longest, json_error_t *error,
                                  bool *out_of_memory)
{
    char *copy = malloc(n + 1);
    size_t end;

    *out_of_memory = copy == NULL;
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, n);
    for (size_t i = 0; i < n; i++) {
        if (copy[i] != '"')
            continue;
        end = skip_string(copy, n, i);
        const size_t next = skip_blanks(copy, n, end);
        const bool is_key = next < n && copy[next] == ':';
        for (size_t j = i + 1; is_key && j + 6 < end; j++) {
            if (copy[j] != '\\')
                continue;
            if (memcmp(copy + j, "\\u0000", 6) == 0)
                memcpy(copy + j, "\\uFFFF", 6);
            j++;
        }
        i = end - 1;
    }
    json_t *root = load(copy, n, longest, error, out_of_memory);
    free(copy);
    return root;
}

json_t *json_parse(const char *text, size_t n, const char *what, Err *err)
{
    return json_parse_bounded(text, n, JSON_MAX_VALUES, what, err);
}

json_t *json_parse_bounded(const char *text, size_t n, size_t max_values, const char *what,
                           Err *err)
{
    json_error_t error = {.line = 0};
    bool out_of_memory = false;
    size_t longest;

    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        err_set(err, ERR_FORMAT, "%s: starts with a byte order mark, expected JSON", what);
        return NULL;
    }
    /* jansson 2.14 overlooks a NUL byte that follows a number or a word; it is nowhere allowed in
     * the text. */
    const char *nul = n > 0 ? memchr(text, '\0', n) : NULL;
    if (nul != NULL) {
        err_set(err, ERR_FORMAT, "%s: byte %zu: a NUL byte, expected JSON", what,
                (size_t)(nul - text));
        return NULL;
    }
    if (check_shape(text, n, max_values, &longest, what, err) != ERR_OK)
        return NULL;
    json_t *root = load(text, n, longest, &error, &out_of_memory);
    if (root == NULL && !out_of_memory && json_error_code(&error) == json_error_null_byte_in_key)
        root = load_with_nul_keys(text, n, longest, &error, &out_of_memory);
    if (root == NULL && out_of_memory)
        err_set(err, ERR_MEMORY, "%s: out of memory", what);
    else if (root == NULL)
        err_set(err, ERR_FORMAT, "%s: line %d, column %d: %s", what, error.line, error.column,
                error.text);
    return root;
}

json_t *json_parse_file(const char *path, size_t max_bytes, Err *err)
{
    return json_parse_file_bounded(path, max_bytes, JSON_MAX_VALUES, err);
}

json_t *json_parse_file_bounded(const char *path, size_t max_bytes, size_t max_values, Err *err)
{
    MappedFile f;
    json_t *root = NULL;

    if (mapped_file_open(&f, path, max_bytes, err) != ERR_OK)
        return NULL;
    const char *kind = mapped_file_kind(f.data, f.size);
    if (kind != NULL)
        err_set(err, ERR_FORMAT, "%s: this is %s, expected JSON", path, kind);
    else
        root = json_parse_bounded((const char *)f.data, f.size, max_values, path, err);
    mapped_file_close(&f);
    return root;
}

void json_buf_free(JsonBuf *b)
{
    free(b->data);
    *b = (JsonBuf){NULL, 0, 0, 0};
}

/* Makes room for n more bytes and a NUL; false (and oom set) when there is none. */
static bool reserve(JsonBuf *b, size_t n)
{
    if (b->oom)
        return false;
    if (b->data != NULL && n < b->cap - b->len)
        return true;
    size_t cap = b->cap < 256 ? 256 : b->cap;
    while (cap - b->len <= n) {
        if (cap > SIZE_MAX / 2) {
            b->oom = 1;
            return false;
        }
        cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (data == NULL) {
        b->oom = 1;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void json_buf_add(JsonBuf *b, const char *text, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n > 0)
        memcpy(b->data + b->len, text, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void json_buf_vprintf(JsonBuf *b, const char *format, va_list args)
{
    va_list again;

    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && reserve(b, (size_t)n)) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void json_buf_printf(JsonBuf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    json_buf_vprintf(b, format, args);
    va_end(args);
}

void json_buf_int(JsonBuf *b, long long value)
{
    char digits[24];
    size_t at = sizeof digits;
    unsigned long long rest = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;

    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        digits[--at] = '-';
    json_buf_add(b, digits + at, sizeof digits - at);
}

void json_buf_double(JsonBuf *b, double value)
{
    char text[32];
    int precision = 15;
    int n = snprintf(text, sizeof text, "%.*g", precision, value);

    while (precision < 17 && strtod(text, NULL) != value)
        n = snprintf(text, sizeof text, "%.*g", ++precision, value);
    json_buf_add(b, text, (size_t)n);
}

/* Bytes at the front that stand for themselves: most texts are nothing else, and may be long. */
static size_t plain_length(const char *s, size_t n)
{
    size_t i = 0;

    while (i < n && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\')
        i++;
    return i;
}

void json_buf_string(JsonBuf *b, const char *s, size_t n)
{
    char unit[TEXT_JSON_UNIT_BYTES];

    json_buf_add(b, "\"", 1);
    for (size_t i = 0, used; i < n; i += used) {
        used = plain_length(s + i, n - i);
        if (used > 0) {
            json_buf_add(b, s + i, used);
            continue;
        }
        const size_t k = text_json_unit(unit, s + i, n - i, &used);

        json_buf_add(b, unit, k);
    }
    json_buf_add(b, "\"", 1);
}
