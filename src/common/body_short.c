/* common/body_short.c: see body_short.h. A mark is a string that begins with NUL; strings of the
 * body that do so themselves are taken aside too, so none can be mistaken for a mark.
 *
 * May include: common. */
#include "common/body_short.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/body.h"
#include "common/text.h"

enum {
    SHORT_VALUE = 32,  /* bytes with quotes */
    SHORT_KEY = 40,    /* bytes decoded; longer than what is asked for, or is worth naming */
    SHORT_BLANKS = 16, /* ordinary indentation stays as it is, for the columns in messages */
    MARK_BYTES = 32,
    LIST_BATCH = 256 /* integers that are appended at once */
};

static const char nul_escape[] = "\\u0000";

typedef struct {
    ShortBody *out;
    const char *text;
    size_t n;
    size_t kept; /* text[0..kept) has been copied or replaced */
    bool take_lists;
    int n_lists; /* looked at */
    Err *err;
} Scan;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_number_part(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Copies what stands before begin and jumps to end. */
static void cut(Scan *s, size_t begin, size_t end)
{
    json_buf_add(&s->out->text, s->text + s->kept, begin - s->kept);
    s->out->n_cut += end - begin;
    s->kept = end;
}

/* The value of four hex digits at p, or -1. */
static int hex4(const char *p, size_t n)
{
    int value = 0;

    if (n < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];

        if (c >= '0' && c <= '9')
            value = value * 16 + c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            value = value * 16 + (c | 0x20) - 'a' + 10;
        else
            return -1;
    }
    return value;
}

static size_t put_utf8(char *out, int c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Decodes \uXXXX, or a pair of them, at p[0..n) behind its \u. Returns the bytes read, 0 when it is
 * no character. */
static size_t take_unicode(const char *p, size_t n, char **out)
{
    const int first = hex4(p, n);
    int second;

    if (first < 0 || (first >= 0xdc00 && first <= 0xdfff))
        return 0;
    if (first < 0xd800 || first > 0xdbff) {
        *out += put_utf8(*out, first);
        return 4;
    }
    if (n < 10 || p[4] != '\\' || p[5] != 'u')
        return 0;
    second = hex4(p + 6, n - 6);
    if (second < 0xdc00 || second > 0xdfff)
        return 0;
    *out += put_utf8(*out, 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
    return 10;
}

/* Decodes the escape at p[0..n), which begins with a backslash. Returns the bytes read, or 0. */
static size_t take_escape(const char *p, size_t n, char **out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *known;

    if (n < 2)
        return 0;
    if (p[1] == 'u') {
        const size_t used = take_unicode(p + 2, n - 2, out);

        return used == 0 ? 0 : used + 2;
    }
    known = p[1] == '\0' ? NULL : strchr(names, p[1]);
    if (known == NULL)
        return 0;
    *(*out)++ = values[known - names];
    return 2;
}

/* ASCII at the front that stands for itself. */
static size_t plain_run(const char *text, size_t n)
{
    size_t i = 0;

    while (i < n && (signed char)text[i] >= ' ' && text[i] != '\\')
        i++;
    return i;
}

/* Decodes the inside of a string in place: it only becomes shorter. Returns its length, or SIZE_MAX
 * when it is not valid. */
static size_t decode(char *text, size_t n)
{
    char *out = text;

    for (size_t i = 0, used; i < n; i += used) {
        used = plain_run(text + i, n - i);
        if (used > 0) {
            memmove(out, text + i, used);
            out += used;
        } else if (text[i] == '\\') {
            used = take_escape(text + i, n - i, &out);
        } else {
            if (text_utf8_next(text + i, n - i, &used) < ' ')
                used = 0; /* no character, or a control character */
            memmove(out, text + i, used);
            out += used;
        }
        if (used == 0)
            return SIZE_MAX;
    }
    return (size_t)(out - text);
}

/* FNV-1a. Who makes two keys collide has a body refused, his own. */
static uint64_t hash(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* The key in its one spelling, so that the library still sees who is there twice. What is replaced
 * is longer than SHORT_KEY, or cannot be spelled without a backslash. */
static void put_key(Scan *s, const char *key, size_t n)
{
    bool plain = n <= SHORT_KEY;

    for (size_t i = 0; plain && i < n; i++)
        plain = (unsigned char)key[i] >= 0x20 && key[i] != '"' && key[i] != '\\';
    if (plain)
        json_buf_printf(&s->out->text, "\"%.*s\"", (int)n, key);
    else
        json_buf_printf(&s->out->text, "\"a key of %zu bytes %016llx\"", n,
                        (unsigned long long)hash(key, n));
}

/* Takes the string text[begin..end), quotes included, out of the text. */
static ErrCode take_string(Scan *s, size_t begin, size_t end, bool is_key)
{
    JsonBuf *texts = &s->out->texts;
    const size_t at = texts->len;
    size_t length = 0;

    cut(s, begin, end);
    json_buf_add(texts, (const char *)&length, sizeof length);
    json_buf_add(texts, s->text + begin + 1, end - begin - 2);
    if (texts->oom)
        return err_set(s->err, ERR_MEMORY, "body: out of memory");
    length = decode(texts->data + at + sizeof length, end - begin - 2);
    if (length == SIZE_MAX)
        return err_set(s->err, ERR_FORMAT, "body: byte %zu: a string that is not valid JSON",
                       begin);
    if (is_key) {
        put_key(s, texts->data + at + sizeof length, length);
        texts->len = at;
        return ERR_OK;
    }
    memcpy(texts->data + at, &length, sizeof length);
    texts->len = at + sizeof length + length;
    json_buf_printf(&s->out->text, "\"%s%zx\"", nul_escape, at);
    return ERR_OK;
}

/* The index of the quote that ends the string whose inside begins at i; n when there is none. */
static size_t find_end(const char *text, size_t n, size_t i, bool *has_escape)
{
    *has_escape = false;
    while (i < n) {
        const char *quote = memchr(text + i, '"', n - i);
        const size_t end = quote != NULL ? (size_t)(quote - text) : n;
        const char *escape;

        while (i < end && (escape = memchr(text + i, '\\', end - i)) != NULL) {
            *has_escape = true;
            i = (size_t)(escape - text) + 2;
        }
        if (i <= end)
            return end;
    }
    return n;
}

/* What a mark begins with, and so no string of the body may. */
static bool begins_with_nul(const char *inside, size_t n)
{
    return n >= sizeof nul_escape - 1 && memcmp(inside, nul_escape, sizeof nul_escape - 1) == 0;
}

static size_t run_of(const Scan *s, size_t i, bool (*belongs)(char))
{
    while (i < s->n && belongs(s->text[i]))
        i++;
    return i;
}

/* The string that begins at i. *end: behind it. */
static ErrCode scan_string(Scan *s, size_t i, size_t *end)
{
    bool has_escape, is_key;
    size_t next;

    *end = find_end(s->text, s->n, i + 1, &has_escape) + 1;
    if (*end > s->n)
        return err_set(s->err, ERR_FORMAT, "body: byte %zu: a string without an end", i);
    next = run_of(s, *end, is_blank);
    is_key = next < s->n && s->text[next] == ':';
    if (is_key ? !has_escape && *end - i <= SHORT_KEY + 2
               : *end - i <= SHORT_VALUE && !begins_with_nul(s->text + i + 1, *end - i - 2))
        return ERR_OK;
    return take_string(s, i, *end, is_key);
}

/* The integer at text[i], as JSON spells those of 32 bits. False: something else is there. */
static bool take_integer(const Scan *s, size_t *i, int32_t *value)
{
    const bool negative = *i < s->n && s->text[*i] == '-';
    const size_t digits = *i + (negative ? 1 : 0);
    int64_t v = 0;
    size_t end = digits;

    for (; end < s->n && end - digits < 11 && s->text[end] >= '0' && s->text[end] <= '9'; end++)
        v = v * 10 + (s->text[end] - '0');
    if (end == digits || (s->text[digits] == '0' && end > digits + 1))
        return false;
    v = negative ? -v : v;
    if (v < INT32_MIN || v > INT32_MAX || (end < s->n && is_number_part(s->text[end])))
        return false;
    *value = (int32_t)v;
    *i = end;
    return true;
}

/* Appends the integers of the list that begins at i. Returns the index behind its bracket; 0: it
 * holds something else, or more than there may be. */
static size_t take_integers(Scan *s, size_t i)
{
    JsonBuf *lists = &s->out->lists;
    int32_t batch[LIST_BATCH];
    int n = 0;

    do {
        i = run_of(s, i + 1, is_blank);
        if (n == LIST_BATCH) {
            json_buf_add(lists, (const char *)batch, sizeof batch);
            n = 0;
            if (lists->len > BODY_MAX_INTEGERS * sizeof *batch)
                return 0;
        }
        if (!take_integer(s, &i, &batch[n++]))
            return 0;
        i = run_of(s, i, is_blank);
    } while (i < s->n && s->text[i] == ',');
    json_buf_add(lists, (const char *)batch, (size_t)n * sizeof *batch);
    return i < s->n && s->text[i] == ']' ? i + 1 : 0;
}

/* The list that begins at i, when it holds integers and nothing else; else it is left as it is. No
 * byte is looked at twice for this: a list within it ends the try. *end: behind it. */
static ErrCode take_list(Scan *s, size_t begin, size_t *end)
{
    JsonBuf *lists = &s->out->lists;
    const size_t before = lists->len, width = sizeof(int32_t);
    const size_t behind = take_integers(s, begin);

    if (lists->oom)
        return err_set(s->err, ERR_MEMORY, "body: out of memory");
    if (++s->n_lists > BODY_MAX_VALUES)
        return err_set(s->err, ERR_LIMIT, "body: byte %zu: more than %d lists", begin,
                       (int)BODY_MAX_VALUES);
    if (lists->len > BODY_MAX_INTEGERS * width)
        return err_set(s->err, ERR_LIMIT, "body: byte %zu: more than %d integers in lists", begin,
                       (int)BODY_MAX_INTEGERS);
    /* A string could stand before a colon, a list cannot. */
    const size_t next = behind > 0 ? run_of(s, behind, is_blank) : s->n;
    if (behind == 0 || (next < s->n && s->text[next] == ':')) {
        lists->len = before;
        return ERR_OK;
    }
    *end = behind;
    cut(s, begin, *end);
    json_buf_printf(&s->out->text, "\"%s#%zx:%zx\"", nul_escape, before / width,
                    (lists->len - before) / width);
    return ERR_OK;
}

ErrCode body_shorten(ShortBody *out, const char *text, size_t n, bool take_lists, Err *err)
{
    Scan s = {.out = out, .text = text, .n = n, .err = err, .take_lists = take_lists};
    size_t end;

    *out = (ShortBody){.n_cut = 0};
    for (size_t i = 0; i < n; i = end) {
        end = i + 1;
        if (text[i] == '"') {
            if (scan_string(&s, i, &end) != ERR_OK)
                return err->code;
        } else if (text[i] == '[' && s.take_lists) {
            if (take_list(&s, i, &end) != ERR_OK)
                return err->code;
        } else if (is_blank(text[i])) {
            end = run_of(&s, i, is_blank);
            if (end - i > SHORT_BLANKS)
                cut(&s, i + 1, end);
        } else if (is_number_part(text[i])) {
            end = run_of(&s, i, is_number_part);
            if (end - i > BODY_MAX_NUMBER)
                return err_set(err, ERR_LIMIT,
                               "body: byte %zu: a number of more than %d characters", i,
                               (int)BODY_MAX_NUMBER);
        }
    }
    cut(&s, n, n);
    if (out->text.oom)
        return err_set(err, ERR_MEMORY, "body: out of memory");
    if (out->text.len > BODY_MAX_SHORT)
        return err_set(err, ERR_LIMIT, "body: more than %d bytes beside its texts",
                       (int)BODY_MAX_SHORT);
    return ERR_OK;
}

/* The list that a mark stands for. */
static bool restore_list(const char *numbers, json_t *value)
{
    BodyListMark list = {.mark = BODY_LIST_MARK};
    char *colon;

    list.at = (size_t)strtoull(numbers, &colon, 16);
    list.n = (size_t)strtoull(colon + 1, NULL, 16);
    return json_string_setn_nocheck(value, (const char *)&list, sizeof list) == 0;
}

/* The string that a mark stands for. */
static bool restore_string(const ShortBody *s, json_t *value)
{
    const char *mark = json_string_value(value);
    size_t at, length;

    if (json_string_length(value) == 0 || mark[0] != '\0')
        return true;
    if (mark[1] == '#')
        return restore_list(mark + 2, value);
    at = (size_t)strtoull(mark + 1, NULL, 16);
    memcpy(&length, s->texts.data + at, sizeof length);
    return json_string_setn_nocheck(value, s->texts.data + at + sizeof length, length) == 0;
}

bool body_restore(const ShortBody *s, json_t *root)
{
    const char *key;
    json_t *value;
    size_t i;

    if (s->texts.len == 0 && s->lists.len == 0)
        return true;
    if (json_is_string(root))
        return restore_string(s, root);
    if (json_is_array(root)) {
        /* No deeper than JSON_MAX_DEPTH. */
        json_array_foreach(root, i, value)
        {
            if (!body_restore(s, value))
                return false;
        }
    } else if (json_is_object(root)) {
        json_object_foreach(root, key, value)
        {
            if (!body_restore(s, value))
                return false;
        }
    }
    return true;
}

void body_short_free(ShortBody *s)
{
    json_buf_free(&s->text);
    json_buf_free(&s->texts);
    json_buf_free(&s->lists);
}
