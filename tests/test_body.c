/* tests/test_body.c: request bodies, where the long parts do not pass through the JSON library:
 * whatever the body, the outcome must be the library's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parser_rig.h"
#include "quick.h"
#include "random.h"

#include "common/body.h"
#include "common/clock.h"
#include "common/json.h"

enum { TEXT_BYTES = 1 << 16, BIG_BYTES = 2 << 20 };

static const char *const known[] = {"job_id", "prompt",      "max_tokens", "stop",
                                    "seed",   "min_p",       "top_k",      "repetition_penalty",
                                    "top_p",  "temperature", NULL};

/* What body_parse should give: the library's tree without the members that no request has. */
static json_t *expected(const char *text, size_t n)
{
    Err err = {.code = ERR_OK};
    json_t *all = json_parse(text, n, "body", &err), *wanted;

    if (!json_is_object(all))
        return all;
    wanted = json_object();
    for (size_t i = 0; known[i] != NULL; i++)
        if (json_object_get(all, known[i]) != NULL)
            json_object_set(wanted, known[i], json_object_get(all, known[i]));
    json_decref(all);
    return wanted;
}

/* Objects below the top are asked for nothing, and their long keys are not kept. */
static bool same(const json_t *a, const json_t *b)
{
    if (json_is_object(a) && json_is_object(b))
        return json_object_size(a) == json_object_size(b);
    if (!json_is_array(a) || !json_is_array(b))
        return json_equal(a, b);
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!same(json_array_get(a, i), json_array_get(b, i)))
            return false;
    return json_array_size(a) == json_array_size(b);
}

static bool same_bodies(const json_t *want, json_t *got)
{
    const char *key;
    json_t *value;

    if (!json_is_object(want) || !json_is_object(got))
        return same(want, got);
    json_object_foreach(got, key, value) if (!same(json_object_get(want, key), value)) return false;
    return json_object_size(want) == json_object_size(got);
}

/* The value with every list that was taken aside as an array again. A new reference. */
static json_t *with_arrays(const Body *b, json_t *value)
{
    json_t *array = json_array(), *element;
    size_t i, n;

    if (body_is_list(value)) {
        const int32_t *ids = body_list(b, value, &n);

        assert_true(n > 0);
        for (i = 0; i < n; i++)
            json_array_append_new(array, json_integer(ids[i]));
        return array;
    }
    if (!json_is_array(value)) {
        json_decref(array);
        return json_incref(value);
    }
    json_array_foreach(value, i, element) json_array_append_new(array, with_arrays(b, element));
    return array;
}

/* The members of an object, or the value itself; what is deeper in objects is asked for nothing. */
static json_t *arrays_of(const Body *b)
{
    json_t *object, *value;
    const char *key;

    if (!json_is_object(b->root))
        return b->root != NULL ? with_arrays(b, b->root) : NULL;
    object = json_object();
    json_object_foreach(b->root, key, value)
        json_object_set_new(object, key, with_arrays(b, value));
    return object;
}

static void assert_parsed_like(const json_t *want, const char *text, size_t n, bool take_lists)
{
    const BodyRules rules = {.known = known, .take_lists = take_lists};
    Err err = {.code = ERR_OK};
    Body b;
    const ErrCode code = body_parse(&b, (const char *)guarded(text, n), n, &rules, &err);
    json_t *got = arrays_of(&b);

    assert_int_equal(code, err.code);
    assert_true((code == ERR_OK) == (b.root != NULL));
    if ((want == NULL) != (got == NULL) || (want != NULL && !same_bodies(want, got)))
        fail_msg("%s, the library %s: %.*s", got != NULL ? "taken" : err.msg,
                 want != NULL ? "takes it" : "refuses it", (int)n, text);
    if (got == NULL)
        assert_true(err.code == ERR_FORMAT || err.code == ERR_LIMIT);
    json_decref(got);
    body_free(&b);
}

static void assert_like_the_library(const char *text, size_t n)
{
    json_t *want = expected(text, n);

    assert_parsed_like(want, text, n, false);
    assert_parsed_like(want, text, n, true);
    json_decref(want);
}

/* --- bodies made of parts --- */

typedef struct {
    char text[TEXT_BYTES];
    size_t n;
    uint64_t random;
} Maker;

static uint32_t below(Maker *m, uint32_t n)
{
    return next_random(&m->random) % n;
}

static void put(Maker *m, const char *text)
{
    const size_t n = strlen(text);

    assert_true(m->n + n < sizeof m->text);
    memcpy(m->text + m->n, text, n);
    m->n += n;
}

/* Characters in every spelling; some are not valid. */
static void put_characters(Maker *m, uint32_t n, bool may_be_wrong)
{
    static const char *const good[] = {"a",
                                       "Z",
                                       " ",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\\n",
                                       "\\\"",
                                       "\\\\",
                                       "\\u0041",
                                       "\\u00e9",
                                       "\\u0000",
                                       "\\/",
                                       "\\b",
                                       "\xf0\x9f\x98\x80",
                                       "\\ud83d\\ude00",
                                       "\x7f",
                                       "\\u001f",
                                       ":",
                                       "{",
                                       ","};
    static const char *const wrong[] = {"\t",
                                        "\x1f",
                                        "\xff",
                                        "\xc0\x80",
                                        "\xed\xa0\x80",
                                        "\\x",
                                        "\\u12",
                                        "\\ud83d",
                                        "\\ude00",
                                        "\\ud83d\\u0041",
                                        "\\u00g0",
                                        "\xe2\x82",
                                        "\xf5\x80\x80\x80",
                                        "\\ud83dx"};

    for (uint32_t i = 0; i < n; i++)
        put(m, good[below(m, sizeof good / sizeof *good)]);
    if (may_be_wrong && below(m, 8) == 0)
        put(m, wrong[below(m, sizeof wrong / sizeof *wrong)]);
}

static void put_string(Maker *m)
{
    put(m, "\"");
    if (below(m, 8) == 0)
        put(m, "\\u0000");
    put_characters(m, below(m, 2) == 0 ? below(m, 8) : below(m, 60), true);
    put(m, "\"");
}

static void put_blanks(Maker *m)
{
    for (uint32_t n = below(m, 8) == 0 ? below(m, 40) : 0; n > 0; n--)
        put(m, &" \0\t\0\n\0\r"[2 * below(m, 4)]);
}

/* Integers at the borders of 32 bits, and what looks like one. */
static void put_integers(Maker *m)
{
    static const char *const numbers[] = {
        "0",           "-0",  "7",   "50256", "-1", "2147483647", "-2147483648", "2147483648",
        "-2147483649", "1.0", "1e2", "[3]",   "00", "-",          "\"4\""};
    const uint32_t n = 1 + below(m, 5), kinds = below(m, 4) == 0 ? 15 : 7;

    put(m, "[");
    for (uint32_t i = 0; i < n; i++) {
        put(m, i > 0 ? "," : "");
        put_blanks(m);
        put(m, numbers[below(m, below(m, 4) == 0 ? kinds : 7)]);
        put_blanks(m);
    }
    put(m, "]");
}

static void put_value(Maker *m, int depth)
{
    static const char *const plain[] = {"1",  "-2.5e3", "true",  "null", "0",
                                        "[]", "{}",     "1e400", "01"};
    const uint32_t kind = below(m, depth > 2 ? 4 : 6);

    put_blanks(m);
    if (kind < 3) {
        put_string(m);
    } else if (kind == 3 && below(m, 2) == 0) {
        put_integers(m);
    } else if (kind == 3) {
        put(m, plain[below(m, 7 + (below(m, 10) == 0 ? 2 : 0))]);
    } else {
        put(m, kind == 4 ? "[" : "{\"k\":");
        put_value(m, depth + 1);
        put(m, kind == 4 ? "," : ",\"another key\":");
        put_value(m, depth + 1);
        put(m, kind == 4 ? "]" : "}");
    }
    put_blanks(m);
}

/* The same key now and then, also in another spelling. */
static void put_key(Maker *m)
{
    static const char *const keys[] = {"\"job_id\"",
                                       "\"prompt\"",
                                       "\"stop\"",
                                       "\"seed\"",
                                       "\"\\u0070\\u0072\\u006f\\u006d\\u0070\\u0074\"",
                                       "\"repetition_penalt\\u0079\"",
                                       "\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"",
                                       "\"\\u00e9\\u00e9\\u00e9\\u00e9\"",
                                       "\"a key with more than forty-one characters \"",
                                       "\"a key with more than forty-one characters\\u0020\"",
                                       "\"a key of 5 bytes\"",
                                       "\"\\n\"",
                                       "\"\\u000a\"",
                                       "\"\\u0000\"",
                                       "\"x\\u0000y\"",
                                       "\"\""};

    if (below(m, 3) > 0) {
        put(m, keys[below(m, sizeof keys / sizeof *keys)]);
    } else {
        put(m, "\"");
        put_characters(m, below(m, 30), false);
        put(m, "\"");
    }
}

static void make_body(Maker *m)
{
    const uint32_t n = below(m, 6);

    m->n = 0;
    put_blanks(m);
    put(m, "{");
    for (uint32_t i = 0; i < n; i++) {
        put(m, i > 0 ? "," : "");
        put_blanks(m);
        put_key(m);
        put_blanks(m);
        put(m, ":");
        put_value(m, 0);
    }
    put(m, "}");
    put_blanks(m);
}

static void any_body_is_taken_like_the_library_takes_it(void **state)
{
    static Maker m = {.random = 7};

    (void)state;
    for (int i = quick() ? 500 : 5000; i > 0; i--) {
        make_body(&m);
        assert_like_the_library(m.text, m.n);
        m.text[below(&m, (uint32_t)m.n)] = "\"\\{}[]:,u\0 "[below(&m, 11)];
        assert_like_the_library(m.text, m.n);
        assert_like_the_library(m.text, below(&m, (uint32_t)m.n));
    }
}

/* --- what is decided here --- */

static json_t *parse(const char *text, size_t n, Err *err)
{
    static const BodyRules rules = {.known = known, .take_lists = true};
    Body b;

    *err = (Err){.code = ERR_OK};
    (void)!body_parse(&b, text, n, &rules, err);
    json_buf_free(&b.lists);
    return b.root;
}

static void long_numbers_are_refused(void **state)
{
    char text[300];
    Err err;
    json_t *root;

    (void)state;
    for (int n = 126; n <= 131; n++) { /* "0." and n - 2 digits */
        const int length = snprintf(text, sizeof text, "{\"min_p\":0.%0*d}", n - 2, 1);

        root = parse(text, (size_t)length, &err);
        assert_int_equal(root != NULL, n <= 128);
        if (root == NULL) {
            assert_int_equal(err.code, ERR_LIMIT);
            assert_string_equal(err.msg, "body: byte 9: a number of more than 128 characters");
        }
        json_decref(root);
    }
}

static void says_where_a_long_string_is_wrong(void **state)
{
    static const char bad[] = "{\"job_id\": \"0123456789012345678901234567890123456789\\x\"}",
                      open[] = "{\"job_id\": \"0123456789012345678901234567890123456789",
                      later[] = "{\"job_id\": \"0123456789012345678901234567890123456789\" x}";
    Err err;

    (void)state;
    assert_null(parse(bad, sizeof bad - 1, &err));
    assert_string_equal(err.msg, "body: byte 11: a string that is not valid JSON");
    assert_null(parse(open, sizeof open - 1, &err));
    assert_string_equal(err.msg, "body: byte 11: a string without an end");
    assert_null(parse(later, sizeof later - 1, &err));
    assert_non_null(strstr(err.msg, "(long texts are not counted)"));
}

/* Text of two megabytes, which is decoded, thrown away or refused. */
static double seconds_for(const char *begin, const char *unit, const char *end, bool good)
{
    static char text[BIG_BYTES];
    const size_t n_unit = strlen(unit), n_end = strlen(end);
    size_t n = strlen(begin);
    double best = 1e9;

    memcpy(text, begin, n);
    for (; n + n_unit + n_end <= sizeof text; n += n_unit)
        memcpy(text + n, unit, n_unit);
    memcpy(text + n, end, n_end);
    n += n_end;
    for (int i = 0; i < 5; i++) {
        const uint64_t from = clock_cpu_ns();
        Err err;
        json_t *root = parse(text, n, &err);
        const double seconds = (double)(clock_cpu_ns() - from) / 1e9;

        assert_int_equal(root != NULL, good);
        json_decref(root);
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* Measured in times of what looking at each byte of it takes, so that a slow machine does not
 * matter. The library alone needs 40 to 200 times as long. */
static void two_megabytes_cost_little(void **state)
{
    const double blanks = seconds_for("{", " ", "}", true);
    char lists[2 * BODY_MAX_VALUES + 1] = "";

    (void)state;
    if (quick())
        return;
    for (int i = 0; i < BODY_MAX_VALUES; i++)
        memcpy(lists + 2 * i, "[x", 3);
    assert_true(seconds_for("", " ", lists, false) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":\"", "x", "\"}", true) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":\"", "\\u0041", "\"}", true) < 8 * blanks);
    assert_true(seconds_for("{\"", "key", "\":1}", true) < 8 * blanks);
    assert_true(seconds_for("{\"n\":", "1", "}", false) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":\"", "x", "", false) < 8 * blanks);
    /* So many integers are never kept; a list that is no such list is not read again and again. */
    assert_true(seconds_for("{\"prompt\":[", "1,", "1]}", false) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":[", "50256,", "1]}", false) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":[", "[1],", "[1]]}", false) < 8 * blanks);
    assert_true(seconds_for("{\"prompt\":", "[1,", "", false) < 8 * blanks);
    assert_true(seconds_for("{\"seed\":12345678901234567890,\"x\":\"", "\\u0041", "\"}", true) <
                8 * blanks);
}

/* A list of n ids, with this in its place n - 1. */
static bool takes_list_of(int n, const char *last)
{
    static char text[BIG_BYTES];
    static const BodyRules rules = {.take_lists = true};
    size_t at = (size_t)snprintf(text, sizeof text, "[");
    Err err = {.code = ERR_OK};
    Body b;
    bool taken;

    for (int i = 0; i < n - 1; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%d,", i % 10);
    at += (size_t)snprintf(text + at, sizeof text - at, "%s]", last);
    taken = body_parse(&b, text, at, &rules, &err) == ERR_OK;
    if (taken) {
        size_t found;
        const int32_t *ids = body_list(&b, b.root, &found);

        assert_int_equal(found, n);
        for (int i = 0; i < n - 1; i++)
            assert_int_equal(ids[i], i % 10);
    } else {
        assert_int_equal(err.code, ERR_LIMIT);
    }
    body_free(&b);
    return taken;
}

static void lists_have_a_limit(void **state)
{
    (void)state;
    assert_true(takes_list_of(BODY_MAX_VALUES * 2, "7"));
    assert_false(takes_list_of(BODY_MAX_VALUES * 2, "7.5"));
    assert_true(takes_list_of(BODY_MAX_INTEGERS, "7"));
    assert_false(takes_list_of(BODY_MAX_INTEGERS + 1, "7"));
    assert_false(takes_list_of(BODY_MAX_INTEGERS + 300, "7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_body_is_taken_like_the_library_takes_it),
        cmocka_unit_test(long_numbers_are_refused),
        cmocka_unit_test(says_where_a_long_string_is_wrong),
        cmocka_unit_test(lists_have_a_limit),
        cmocka_unit_test(two_megabytes_cost_little),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
