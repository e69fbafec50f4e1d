/* common/body.c: what is long is taken aside first (body_short.h). jansson's integers are signed
 * 64-bit, a seed is unsigned: when a body does not parse, its integers of 19 and more digits are
 * rewritten in one pass and it is parsed once more.
 *
 * May include: common. */
#include "common/body.h"

#include <string.h>

#include "common/body_short.h"
#include "common/json.h"

enum { BIG_DIGITS = 19 }; /* 2^63 - 1 has 19 digits: shorter integers always fit */

typedef struct {
    const char *text;
    size_t n;
    size_t i;
    int depth;
    bool in_seed; /* at depth 1, between the key "seed" and the next comma */
    int n_big;
    BodySeed seed;
    JsonBuf out;
} Scan;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Copies the string that begins at i; an unterminated one is copied to the end, the parser will
 * refuse it. */
static void scan_string(Scan *s)
{
    static const char key[] = "\"seed\""; /* its one spelling: see put_key in body_short.c */
    const size_t begin = s->i++;

    while (s->i < s->n && s->text[s->i] != '"')
        s->i += s->text[s->i] == '\\' ? 2 : 1;
    s->i = s->i < s->n ? s->i + 1 : s->n;
    if (s->depth == 1)
        s->in_seed =
            s->i - begin == sizeof key - 1 && memcmp(s->text + begin, key, sizeof key - 1) == 0;
    json_buf_add(&s->out, s->text + begin, s->i - begin);
}

static bool to_u64(const char *digits, size_t n, uint64_t *value)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(digits[i] - '0'), &v))
            return false;
    *value = v;
    return true;
}

/* A number begins at i. Only what JSON calls an integer is touched: a leading zero stays an error.
 */
static void scan_number(Scan *s)
{
    const size_t begin = s->i;
    const bool negative = s->text[begin] == '-';
    const size_t digits = begin + (negative ? 1 : 0);
    bool integer;

    s->i = digits;
    while (s->i < s->n && is_digit(s->text[s->i]))
        s->i++;
    integer = s->i == s->n || strchr(".eE", s->text[s->i]) == NULL;
    if (!integer || s->i - digits < BIG_DIGITS || s->text[digits] == '0') {
        while (s->i < s->n && (is_digit(s->text[s->i]) || strchr(".eE+-", s->text[s->i]) != NULL))
            s->i++;
        json_buf_add(&s->out, s->text + begin, s->i - begin);
        return;
    }
    s->n_big++;
    if (s->depth == 1 && s->in_seed && !negative &&
        to_u64(s->text + digits, s->i - digits, &s->seed.value)) {
        s->seed.present = true;
        json_buf_add(&s->out, "0", 1);
        return;
    }
    json_buf_add(&s->out, s->text + begin, s->i - begin);
    json_buf_add(&s->out, ".0", 2);
}

static void scan_all(Scan *s)
{
    while (s->i < s->n) {
        const char c = s->text[s->i];

        if (c == '"') {
            scan_string(s);
            continue;
        }
        if (is_digit(c) || c == '-') {
            scan_number(s);
            continue;
        }
        if (c == '{' || c == '[')
            s->depth++;
        else if (c == '}' || c == ']')
            s->depth--;
        else if (c == ',')
            s->in_seed = false;
        json_buf_add(&s->out, &s->text[s->i++], 1);
    }
}

/* Parses text; where that fails, once more with the integers that the library cannot hold
 * rewritten. */
static json_t *parse_short(const char *text, size_t n, BodySeed *seed, Err *err)
{
    Scan s = {.text = text, .n = n};
    json_t *root = json_parse_bounded(text, n, BODY_MAX_VALUES, "body", err);

    if (root != NULL || err->code != ERR_FORMAT)
        return root;
    scan_all(&s);
    if (s.out.oom) {
        err_set(err, ERR_MEMORY, "body: out of memory");
    } else if (s.n_big > 0) {
        *err = (Err){.code = ERR_OK};
        root = json_parse_bounded(s.out.data, s.out.len, BODY_MAX_VALUES, "body", err);
        if (root != NULL)
            *seed = s.seed;
    }
    json_buf_free(&s.out);
    return root;
}

/* Unknown members that are ignored go before their texts are brought back: a waiting job must not
 * keep two megabytes of them. */
static void drop_unknown(json_t *root, const char *const *known)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(root, next, key, value)
    {
        bool keep = false;

        for (const char *const *k = known; *k != NULL; k++)
            keep |= strcmp(key, *k) == 0;
        if (!keep)
            (void)json_object_del(root, key);
    }
}

/* Parses what is left of the body, and puts the rest back. */
static json_t *parse_tree(ShortBody *s, BodySeed *seed, const BodyRules *rules, Err *err)
{
    json_t *root = parse_short(s->text.data != NULL ? s->text.data : "", s->text.len, seed, err);

    if (root == NULL && err->code == ERR_FORMAT && s->n_cut > 0) {
        const Err inner = *err;

        err_set(err, ERR_FORMAT, "%s (long texts are not counted)", inner.msg);
    }
    if (root != NULL && rules->known != NULL)
        drop_unknown(root, rules->known); /* nothing, unless it is an object */
    if (root != NULL && !body_restore(s, root)) {
        json_decref(root);
        root = NULL;
        err_set(err, ERR_MEMORY, "body: out of memory");
    }
    return root;
}

ErrCode body_parse(Body *b, const char *text, size_t n, const BodyRules *rules, Err *err)
{
    ShortBody s;
    ErrCode code = body_shorten(&s, text, n, rules->take_lists, err);

    *b = (Body){.root = NULL};
    if (code == ERR_OK) {
        b->root = parse_tree(&s, &b->seed, rules, err);
        code = err->code;
    }
    if (b->root != NULL) {
        b->lists = s.lists;
        s.lists = (JsonBuf){.data = NULL};
    }
    body_short_free(&s);
    return code;
}

void body_free(Body *b)
{
    json_decref(b->root);
    json_buf_free(&b->lists);
    *b = (Body){.root = NULL};
}

bool body_is_list(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) == sizeof(BodyListMark) &&
           json_string_value(value)[0] == BODY_LIST_MARK;
}

const int32_t *body_list(const Body *b, const json_t *value, size_t *n)
{
    BodyListMark list;

    memcpy(&list, json_string_value(value), sizeof list);
    *n = list.n;
    return (const int32_t *)(const void *)b->lists.data + list.at;
}
