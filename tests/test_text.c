/* tests/test_text.c: texts of errors, what is escaped and shortened in them, UTF-8, base64, floats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/text.h"

static void error_escapes_control_characters(void **state)
{
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(err_set(&err, ERR_IO, "a\nb\x1b[31m\x7f%s", "\xc2\x9b"), ERR_IO);
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.msg, "a\\nb\\x1b[31m\\x7f\\xc2\\x9b");
}

/* A file name of some tensor must not end the line for a reader that knows U+2028, nor turn the
 * rest of it around on a terminal. */
static void error_escapes_what_ends_or_turns_a_line(void **state)
{
    Err err;

    (void)state;
    assert_int_equal(err_set(&err, ERR_IO, "%s",
                             "a\xe2\x80\xa8"
                             "b\xe2\x80\xa9"
                             "c\xe2\x80\xae"
                             "d\xe2\x81\xa6"),
                     ERR_IO);
    assert_string_equal(err.msg, "a\\xe2\\x80\\xa8"
                                 "b\\xe2\\x80\\xa9"
                                 "c\\xe2\\x80\\xae"
                                 "d\\xe2\\x81\\xa6");
    /* Their neighbours are characters like others. */
    assert_int_equal(
        err_set(&err, ERR_IO, "%s", "\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa"), ERR_IO);
    assert_string_equal(err.msg, "\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa");
}

static void error_escapes_invalid_utf8(void **state)
{
    Err err;

    (void)state;
    err_set(&err, ERR_FORMAT, "%s", "ok \xc3\xa9 bad \xff\xc3(");
    assert_string_equal(err.msg, "ok \xc3\xa9 bad \\xff\\xc3(");
}

/* Start and end of a long message both survive, the cut never falls inside a character, and the
 * room is used. */
static void check_long_message(size_t n, const char *unit)
{
    char *name = malloc(n * strlen(unit) + 1);
    Err err;

    assert_non_null(name);
    name[0] = '\0';
    for (size_t i = 0; i < n; i++)
        memcpy(name + i * strlen(unit), unit, strlen(unit) + 1);
    err_set(&err, ERR_IO, "start %s end", name);
    free(name);
    assert_true(strlen(err.msg) < ERR_MSG_BYTES);
    assert_true(strlen(err.msg) > ERR_MSG_BYTES - 20);
    assert_true(strncmp(err.msg, "start ", 6) == 0);
    assert_non_null(strstr(err.msg, "..."));
    assert_string_equal(err.msg + strlen(err.msg) - 4, " end");
    assert_true(text_utf8_valid(err.msg, strlen(err.msg)));
}

static void error_shortens_in_the_middle(void **state)
{
    (void)state;
    check_long_message(600, "x");
    check_long_message(100000, "x");
    check_long_message(3000, "\xe2\x82\xac");
    check_long_message(3001, "\xf0\x9f\x98\x80");
    check_long_message(5000, "\x01");
}

static void error_prefix_goes_in_front(void **state)
{
    Err err;

    (void)state;
    err_set(&err, ERR_LIMIT, "too %s\n", "long");
    assert_int_equal(err_prefix(&err, "file %d\n", 7), ERR_LIMIT);
    assert_string_equal(err.msg, "file 7\\n: too long\\n");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody reads this"), ERR_IO);
}

static void error_texts_are_no_formats(void **state)
{
    Err err;

    (void)state;
    err_set(&err, ERR_IO, "%s", "%n%s%d");
    assert_string_equal(err.msg, "%n%s%d");
    err_prefix(&err, "%s", "%s");
    assert_string_equal(err.msg, "%s: %n%s%d");
}

static void escape_respects_every_size(void **state)
{
    static const char text[] = "ab\n\xe2\x82\xac\xff\xf0\x9f\x98\x80 tail \x1b";
    char out[64];

    (void)state;
    for (size_t size = 0; size < sizeof out; size++) {
        memset(out, 'G', sizeof out);
        const size_t n = text_escape(out, size, text, sizeof text - 1);

        if (size == 0) {
            assert_int_equal(n, 0);
            assert_int_equal(out[0], 'G');
            continue;
        }
        assert_true(n < size);
        assert_int_equal(out[n], '\0');
        assert_int_equal(strlen(out), n);
        assert_true(text_utf8_valid(out, n));
        if (size < sizeof out)
            assert_int_equal(out[size], 'G');
    }
    assert_string_equal(out, "ab\\n\xe2\x82\xac\\xff\xf0\x9f\x98\x80 tail \\x1b");
}

/* Every scalar value encodes to bytes that decode to it, and every surrogate is refused. */
static void utf8_knows_every_scalar_value(void **state)
{
    (void)state;
    for (int c = 0; c <= 0x10ffff; c++) {
        char s[4];
        size_t n = 0, used;

        if (c < 0x80) {
            s[n++] = (char)c;
        } else if (c < 0x800) {
            s[n++] = (char)(0xc0 | c >> 6);
            s[n++] = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            s[n++] = (char)(0xe0 | c >> 12);
            s[n++] = (char)(0x80 | (c >> 6 & 63));
            s[n++] = (char)(0x80 | (c & 63));
        } else {
            s[n++] = (char)(0xf0 | c >> 18);
            s[n++] = (char)(0x80 | (c >> 12 & 63));
            s[n++] = (char)(0x80 | (c >> 6 & 63));
            s[n++] = (char)(0x80 | (c & 63));
        }
        const int got = text_utf8_next(s, n, &used);
        if (c >= 0xd800 && c <= 0xdfff) {
            assert_int_equal(got, TEXT_UTF8_INVALID);
            assert_int_equal(used, 1);
            continue;
        }
        assert_int_equal(got, c);
        assert_int_equal(used, n);
        for (size_t k = 1; k < n; k++) {
            assert_int_equal(text_utf8_next(s, k, &used), TEXT_UTF8_INCOMPLETE);
            assert_int_equal(used, k);
        }
    }
}

static void utf8_refuses_what_is_no_character(void **state)
{
    static const struct {
        const char *s;
        size_t used; /* length of the maximal invalid part */
        int result;
    } cases[] = {
        {"\x80", 1, TEXT_UTF8_INVALID},
        {"\xbf"
         "a",
         1, TEXT_UTF8_INVALID},
        {"\xc0\x80", 1, TEXT_UTF8_INVALID},
        {"\xc1\xbf", 1, TEXT_UTF8_INVALID},
        {"\xe0\x80\x80", 1, TEXT_UTF8_INVALID},
        {"\xe0\x9f\xbf", 1, TEXT_UTF8_INVALID},
        {"\xf0\x8f\xbf\xbf", 1, TEXT_UTF8_INVALID},
        {"\xf4\x90\x80\x80", 1, TEXT_UTF8_INVALID},
        {"\xf5\x80\x80\x80", 1, TEXT_UTF8_INVALID},
        {"\xff", 1, TEXT_UTF8_INVALID},
        {"\xed\xa0\x80", 1, TEXT_UTF8_INVALID},
        {"\xe2\x82(", 2, TEXT_UTF8_INVALID},
        {"\xf0\x9f\x98(", 3, TEXT_UTF8_INVALID},
        {"\xf0\x9f(", 2, TEXT_UTF8_INVALID},
        {"\xc3(", 1, TEXT_UTF8_INVALID},
        {"\xe2\x82", 2, TEXT_UTF8_INCOMPLETE},
        {"\xf0\x9f\x98", 3, TEXT_UTF8_INCOMPLETE},
        {"\xe0", 1, TEXT_UTF8_INCOMPLETE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t used = 99;

        assert_int_equal(text_utf8_next(cases[i].s, strlen(cases[i].s), &used), cases[i].result);
        assert_int_equal(used, cases[i].used);
        assert_false(text_utf8_valid(cases[i].s, strlen(cases[i].s)));
    }
    assert_true(text_utf8_valid("a\0b", 3));
    assert_int_equal(text_utf8_count("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10), 4);
}

static void base64_matches_rfc_4648(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    char text[16], back[16];
    size_t n = 99;

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        text_base64_encode(text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(text, pairs[i][1]);
        assert_true(text_base64_decode(back, &n, text, strlen(text)));
        assert_int_equal(n, strlen(pairs[i][0]));
        assert_memory_equal(back, pairs[i][0], n);
    }
}

static void base64_brings_all_bytes_back(void **state)
{
    unsigned char data[256], back[258];
    char text[4 * 86 + 1];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof data; len++) {
        text_base64_encode(text, data, len);
        assert_int_equal(strlen(text), 4 * ((len + 2) / 3));
        assert_true(text_base64_decode(back, &n, text, strlen(text)));
        assert_int_equal(n, len);
        assert_memory_equal(back, data, len);
    }
}

static void base64_refuses_other_texts(void **state)
{
    static const char *const bad[] = {
        "Z",    "Zg",   "Zg=",  "Zg==Zg==", "=",    "====", "Z===",  "Zm9v\n",    "Zm 9",
        "Zm9-", "Zm9_", "Zh==", "Zm9=",     "=Zm9", "Zg=v", "Zm9vZ", "\xc3\xa9Zm"};
    char out[16];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (text_base64_decode(out, &n, bad[i], strlen(bad[i])))
            fail_msg("accepted \"%s\"", bad[i]);
}

static void floats_have_their_shortest_text(void **state)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = {
        {0.0f, "0"},
        {-0.0f, "-0"},
        {1.0f, "1"},
        {3.0f, "3"},
        {2.1f, "2.1"},
        {-0.5f, "-0.5"},
        {0.1f, "0.1"},
        {1.0f / 3.0f, "0.33333334"},
        {16777216.0f, "16777216"},
        {1e10f, "10000000000"},
        {1e-5f, "0.00001"},
        {123456.79f, "123456.79"},
        {100.0f, "100"},
        {0.7f, "0.7"},
        {FLT_MAX, "340282350000000000000000000000000000000"},
        {-FLT_MAX, "-340282350000000000000000000000000000000"},
        {FLT_MIN, "0.000000000000000000000000000000000000011754944"},
        {1.17549421e-38f, "0.000000000000000000000000000000000000011754942"},
        {FLT_TRUE_MIN, "0.000000000000000000000000000000000000000000001"},
        {0x1p-96f, "0.000000000000000000000000000012621775"},
        {0x1p87f, "154742510000000000000000000"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
    };
    char text[TEXT_FLOAT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text_float(text, cases[i].value);
        assert_string_equal(text, cases[i].text);
    }
    text_float(text, NAN);
    assert_string_equal(text, "nan");
}

/* A sample of all floats, every power of two among them: the text reads back, has no exponent, and
 * fits. */
static void floats_read_back(void **state)
{
    char text[TEXT_FLOAT_BYTES];
    size_t longest = 0;

    (void)state;
    for (uint64_t i = 0; i < 0x80000000u; i += (i & 0x7fffff) == 0 ? 1 : 10007) {
        const uint32_t bits = (uint32_t)i | ((i & 1) != 0 ? 0x80000000u : 0);
        float value, again;

        memcpy(&value, &bits, sizeof bits);
        if (isnan(value))
            break;
        text_float(text, value);
        again = strtof(text, NULL);
        assert_memory_equal(&again, &value, sizeof value);
        if (isfinite(value))
            assert_int_equal(strspn(text, "-0123456789."), strlen(text));
        longest = strlen(text) > longest ? strlen(text) : longest;
        /* Back onto the powers of two, which have the uneven neighbours. */
        if ((i & 0x7fffff) + 10007 > 0x7fffff && (i & 0x7fffff) != 0)
            i = (i | 0x7fffff) + 1 - 10007;
    }
    assert_true(longest < TEXT_FLOAT_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_escapes_control_characters),
        cmocka_unit_test(error_escapes_what_ends_or_turns_a_line),
        cmocka_unit_test(error_escapes_invalid_utf8),
        cmocka_unit_test(error_shortens_in_the_middle),
        cmocka_unit_test(error_prefix_goes_in_front),
        cmocka_unit_test(error_texts_are_no_formats),
        cmocka_unit_test(escape_respects_every_size),
        cmocka_unit_test(utf8_knows_every_scalar_value),
        cmocka_unit_test(utf8_refuses_what_is_no_character),
        cmocka_unit_test(base64_matches_rfc_4648),
        cmocka_unit_test(base64_brings_all_bytes_back),
        cmocka_unit_test(base64_refuses_other_texts),
        cmocka_unit_test(floats_have_their_shortest_text),
        cmocka_unit_test(floats_read_back),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
