/* tests/test_utf8_stream.c: whole characters from tokens that end anywhere (contract 6.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/text.h"
#include "tokenizer/utf8_stream.h"

#define BAD "\xef\xbf\xbd"

enum { MAX_TEXT = 64, MAX_OUT = 3 * (MAX_TEXT + 3) };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void assert_push(Utf8Stream *u, const char *bytes, const char *want)
{
    char out[MAX_OUT];
    const size_t n = utf8_stream_push(u, bytes, strlen(bytes), out);

    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
}

static void assert_flush(Utf8Stream *u, const char *want)
{
    char out[3];
    const size_t n = utf8_stream_flush(u, out);

    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
}

static void contract_example(void **state)
{
    Utf8Stream u = {0};

    (void)state;
    assert_push(&u, "Hello ", "Hello ");
    assert_push(&u, "\xf0\x9f", "");
    assert_push(&u, "\x91\x8b", "\xf0\x9f\x91\x8b");
    assert_flush(&u, "");
}

static void one_byte_at_a_time(void **state)
{
    Utf8Stream u = {0};

    (void)state;
    assert_push(&u, "\xc3", "");
    assert_push(&u, "\xb1", "\xc3\xb1");
    assert_push(&u, "\xe4", "");
    assert_push(&u, "\xb8", "");
    assert_push(&u, "\x96", "\xe4\xb8\x96");
    assert_push(&u, "\xf0", "");
    assert_push(&u, "\x9f", "");
    assert_push(&u, "\x8c", "");
    assert_push(&u, "", "");
    assert_push(&u, "\x8d", "\xf0\x9f\x8c\x8d");
    assert_flush(&u, "");
}

/* What cannot become a character is replaced when that is known, not at the end. */
static void replaces_at_once(void **state)
{
    Utf8Stream u = {0};

    (void)state;
    assert_push(&u, "\xe2\x82", "");
    assert_push(&u, "A", BAD "A");
    assert_push(&u, "\xe2\x82", "");
    assert_push(&u, "\xe2", BAD); /* the new byte may begin a character */
    assert_push(&u, "\x82\xac!", "\xe2\x82\xac!");
    assert_push(&u, "\xff", BAD);
    assert_push(&u, "\x80", BAD);
    assert_push(&u, "\xf0", "");
    assert_push(&u, "\xf0", BAD);
    assert_push(&u, "\xf0", BAD);
    assert_flush(&u, BAD);
    assert_flush(&u, "");
    assert_push(&u, "next", "next");
}

static void unfinished_tail_is_one_replacement(void **state)
{
    static const char *const tails[] = {"\xc3", "\xe2",     "\xe2\x82",
                                        "\xf0", "\xf0\x9f", "\xf0\x9f\x91"};

    (void)state;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        Utf8Stream u = {0};

        assert_push(&u, "x", "x");
        assert_push(&u, tails[i], "");
        assert_flush(&u, BAD);
        assert_flush(&u, "");
    }
}

/* Each maximal invalid part is one U+FFFD: Unicode standard, tables 3-8 to 3-11. */
static const struct {
    const char *bytes, *want;
} invalid[] = {
    {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A"},
    {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A"},
    {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", BAD BAD BAD BAD BAD "A" BAD BAD "B"},
    {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", BAD BAD BAD BAD "A"},
    {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
     "a" BAD BAD BAD "b" BAD "c" BAD BAD "d"},
    {"\xf5\x80\x80\x80", BAD BAD BAD BAD},
};

static void maximal_invalid_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        Utf8Stream u = {0};

        assert_push(&u, invalid[i].bytes, invalid[i].want);
        assert_flush(&u, "");
    }
}

/* The same, cut in two at every place. */
static void cuts_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        const size_t n = strlen(invalid[i].bytes);

        for (size_t cut = 0; cut <= n; cut++) {
            Utf8Stream u = {0};
            char out[MAX_OUT];
            size_t got = utf8_stream_push(&u, invalid[i].bytes, cut, out);

            got += utf8_stream_push(&u, invalid[i].bytes + cut, n - cut, out + got);
            got += utf8_stream_flush(&u, out + got);
            assert_int_equal(got, strlen(invalid[i].want));
            assert_memory_equal(out, invalid[i].want, got);
        }
    }
}

static void random_bytes_become_valid(void **state)
{
    static const unsigned char leads[] = {0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xe0,
                                          0xe2, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xff, 0x00};
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[MAX_TEXT], whole[MAX_OUT], parts[MAX_OUT];
        const size_t n = next_random(&seed) % MAX_TEXT;
        Utf8Stream a = {0}, b = {0};
        size_t n_parts = 0, step;

        for (size_t i = 0; i < n; i++)
            text[i] = (char)leads[next_random(&seed) % sizeof leads];

        size_t n_whole = utf8_stream_push(&a, text, n, whole);

        n_whole += utf8_stream_flush(&a, whole + n_whole);
        for (size_t i = 0; i < n; i += step) {
            step = 1 + next_random(&seed) % 5;
            step = step < n - i ? step : n - i;
            n_parts += utf8_stream_push(&b, text + i, step, parts + n_parts);
            assert_true(text_utf8_valid(parts, n_parts));
        }
        n_parts += utf8_stream_flush(&b, parts + n_parts);
        assert_true(text_utf8_valid(whole, n_whole));
        assert_int_equal(n_parts, n_whole);
        assert_memory_equal(parts, whole, n_whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contract_example),
        cmocka_unit_test(one_byte_at_a_time),
        cmocka_unit_test(replaces_at_once),
        cmocka_unit_test(unfinished_tail_is_one_replacement),
        cmocka_unit_test(maximal_invalid_parts),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(random_bytes_become_valid),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("utf8_stream", tests, NULL, NULL);
}
