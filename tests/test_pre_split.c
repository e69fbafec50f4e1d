/* tests/test_pre_split.c: the scanner against a slow, literal reading of GPT-2's pattern. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/text.h"
#include "tokenizer/pre_split.h"
#include "tokenizer/unicode_classes.h"

enum { MAX_TEXT = 256, NO_CHARACTER = -1 };

/* The text as characters, with the byte at which each begins; a byte that is part of none is
 * NO_CHARACTER. */
typedef struct {
    int c[MAX_TEXT];
    size_t at[MAX_TEXT + 1];
    size_t n;
} Characters;

static void read_characters(Characters *s, const char *text, size_t n)
{
    s->n = 0;
    for (size_t i = 0, used; i < n; i += used) {
        const int c = text_utf8_next(text + i, n - i, &used);

        s->at[s->n] = i;
        s->c[s->n++] = c < 0 ? NO_CHARACTER : c;
        used = c < 0 ? 1 : used;
    }
    s->at[s->n] = n;
}

static bool is_space(int c)
{
    static const int white_space[] = {0x09,   0x0a,   0x0b,   0x0c,   0x0d,   0x20,   0x85,
                                      0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                      0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028,
                                      0x2029, 0x202f, 0x205f, 0x3000};

    for (size_t i = 0; i < sizeof white_space / sizeof white_space[0]; i++)
        if (c == white_space[i])
            return true;
    return false;
}

static bool is_letter(int c)
{
    return c >= 0 && unicode_class((uint32_t)c) == UNICODE_LETTER;
}

static bool is_number(int c)
{
    return c >= 0 && unicode_class((uint32_t)c) == UNICODE_NUMBER;
}

static bool is_other(int c)
{
    return !is_space(c) && !is_letter(c) && !is_number(c);
}

/* The functions below return how many characters match at i; 0 is no match. */
static size_t plus(const Characters *s, size_t i, bool (*in_class)(int))
{
    size_t n = 0;

    while (i + n < s->n && in_class(s->c[i + n]))
        n++;
    return n;
}

static size_t literal(const Characters *s, size_t i, const char *want)
{
    const size_t n = strlen(want);

    for (size_t k = 0; k < n; k++)
        if (i + k >= s->n || s->c[i + k] != want[k])
            return 0;
    return n;
}

/* " ?X+": with the blank first, then without. */
static size_t blank_then_plus(const Characters *s, size_t i, bool (*in_class)(int))
{
    if (i < s->n && s->c[i] == ' ') {
        const size_t n = plus(s, i + 1, in_class);

        if (n > 0)
            return 1 + n;
    }
    return plus(s, i, in_class);
}

/* "\s+(?!\S)": the longest run that is not followed by something else than white space. */
static size_t space_with_look_ahead(const Characters *s, size_t i)
{
    for (size_t n = plus(s, i, is_space); n > 0; n--)
        if (i + n == s->n || is_space(s->c[i + n]))
            return n;
    return 0;
}

static size_t slow_match(const Characters *s, size_t i)
{
    static const char *const forms[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    size_t n;

    for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++)
        if ((n = literal(s, i, forms[k])) > 0)
            return n;
    if ((n = blank_then_plus(s, i, is_letter)) > 0 || (n = blank_then_plus(s, i, is_number)) > 0 ||
        (n = blank_then_plus(s, i, is_other)) > 0 || (n = space_with_look_ahead(s, i)) > 0)
        return n;
    return plus(s, i, is_space);
}

static void print_text(const char *text, size_t n)
{
    char shown[4 * MAX_TEXT + 1];

    (void)text_escape(shown, sizeof shown, text, n);
    printf("# text: %s\n", shown);
}

static void assert_same_pieces(const char *text, size_t n)
{
    Characters s;
    size_t i = 0, pos = 0;

    read_characters(&s, text, n);
    while (i < s.n) {
        const size_t n_slow = slow_match(&s, i);
        const size_t n_fast = pre_split_next(text + pos, n - pos);

        i += n_slow;
        pos += n_fast;
        if (n_slow == 0 || pos != s.at[i])
            print_text(text, n);
        assert_true(n_slow > 0);
        assert_int_equal(pos, s.at[i]);
    }
    assert_int_equal(pos, n);
}

/* The pieces of text, joined by '|'. */
static void split(const char *text, char *out)
{
    size_t n = strlen(text), n_out = 0;

    for (size_t pos = 0; pos < n;) {
        const size_t piece = pre_split_next(text + pos, n - pos);

        if (pos > 0)
            out[n_out++] = '|';
        memcpy(out + n_out, text + pos, piece);
        n_out += piece;
        pos += piece;
    }
    out[n_out] = '\0';
}

static void known_pieces(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"Hello, world!", "Hello|,| world|!"},
        {"I'm don't we'll they've he'd you're it's",
         "I|'m| don|'t| we|'ll| they|'ve| he|'d| you|'re| it|'s"},
        {"I'M DON'T 'S", "I|'|M| DON|'|T| '|S"}, /* case counts */
        {"'super 'tis 'remote 'l 'r 'v '", "'s|uper| '|tis| '|remote| '|l| '|r| '|v| '"},
        {"'llama", "'ll|ama"},
        {"!'s", "!'|s"},
        {"don't 123abc", "don|'t| 123|abc"},
        {"  two  spaces", " | two| | spaces"},
        {"   leading", "  | leading"},
        {"trailing   ", "trailing|   "},
        {"a\n\nb", "a|\n|\n|b"},
        {"\n\n", "\n\n"},
        {"a \nb", "a| |\n|b"},
        {"a\n b", "a|\n| b"},
        {"a\t b", "a|\t| b"},
        {"a \tb", "a| |\t|b"},
        {"x\xc2\xa0y", "x|\xc2\xa0|y"}, /* no-break space: white space, but not the blank */
        {"x \xe3\x80\x80y", "x| |\xe3\x80\x80|y"}, /* U+3000 */
        {"x\xc2\x85y", "x|\xc2\x85|y"},            /* U+0085 */
        {"x\xe1\xa0\x8ey", "x|\xe1\xa0\x8e|y"},    /* U+180E is no white space */
        {"x \x1cy", "x| \x1c|y"},                  /* nor is U+001C */
        {"nai\xcc\x88ve", "nai|\xcc\x88|ve"},      /* a combining mark is no letter */
        {"\xc2\xb2\xe2\x85\xa7\xd9\xa3", "\xc2\xb2\xe2\x85\xa7\xd9\xa3"}, /* No, Nl, Nd */
        {"a\xff\xfe!b", "a|\xff\xfe!|b"}, /* bytes that are no character */
        {" \xff", " \xff"},
        {"a  \xff", "a| | \xff"},
        {"a\xe2\x80", "a|\xe2\x80"}, /* an unfinished U+2028 */
        {"x<endoftext>", "x|<|endoftext|>"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char got[MAX_TEXT];

        split(cases[i].text, got);
        assert_string_equal(got, cases[i].want);
        assert_same_pieces(cases[i].text, strlen(cases[i].text));
    }
}

static void class_table_is_unicode_15(void **state)
{
    int count[4] = {0};

    (void)state;
    assert_string_equal(pre_split_unicode_version(), "15.0.0");
    for (uint32_t c = 0; c < 0x110000; c++) {
        count[unicode_class(c)]++;
        if (is_space((int)c) != (unicode_class(c) == UNICODE_SPACE))
            fail_msg("U+%04X", (unsigned)c);
    }
    assert_int_equal(count[UNICODE_LETTER], 136104);
    assert_int_equal(count[UNICODE_SPACE], 25);
}

static void classes_of_known_characters(void **state)
{
    static const struct {
        uint32_t c;
        UnicodeClass want;
    } cases[] = {
        {'a', UNICODE_LETTER},     {'Z', UNICODE_LETTER},     {'0', UNICODE_NUMBER},
        {'_', UNICODE_OTHER},      {0xaa, UNICODE_LETTER},    {0xb2, UNICODE_NUMBER},
        {0xd7, UNICODE_OTHER},     {0x1c5, UNICODE_LETTER},   {0x2b0, UNICODE_LETTER},
        {0x300, UNICODE_OTHER},    {0x5d0, UNICODE_LETTER},   {0x660, UNICODE_NUMBER},
        {0x903, UNICODE_OTHER},    {0x2160, UNICODE_NUMBER},  {0x200b, UNICODE_OTHER},
        {0x3007, UNICODE_NUMBER},  {0x4e00, UNICODE_LETTER},  {0x9fff, UNICODE_LETTER},
        {0xd7a3, UNICODE_LETTER},  {0xe000, UNICODE_OTHER},   {0xfeff, UNICODE_OTHER},
        {0xff11, UNICODE_NUMBER},  {0x1f44b, UNICODE_OTHER},  {0x20000, UNICODE_LETTER},
        {0x31350, UNICODE_LETTER}, {0x10fffd, UNICODE_OTHER}, {0x10ffff, UNICODE_OTHER},
        {0x2ebf0, UNICODE_OTHER}, /* a letter since Unicode 15.1 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(unicode_class(cases[i].c), cases[i].want);
}

static const char *const bits[] = {
    " ",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\xc2\xa0",
    "\xc2\x85",
    "\xe3\x80\x80",
    "\xe2\x80\xa8",
    "\xe1\xa0\x8e",
    "\x1c",
    "a",
    "B",
    "\xc3\xa9",
    "\xe4\xb8\x96",
    "\xf0\xa0\x80\x80",
    "7",
    "\xd9\xa3",
    "\xe2\x85\xa7",
    "!",
    "_",
    "'",
    "'",
    "s",
    "t",
    "'re",
    "'ve",
    "m",
    "'ll",
    "d",
    "'S",
    "\xcc\x88",
    "\xf0\x9f\x91\x8b",
    "\xff",
    "\x80",
    "\xe2\x80",
    "\xf0\x9f",
    "\xed\xa0\x80",
    "<|endoftext|>",
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void random_mixed_strings(void **state)
{
    uint32_t seed = 20;

    (void)state;
    for (int round = 0; round < 50000; round++) {
        char text[MAX_TEXT];
        size_t n = 0;

        for (uint32_t k = next_random(&seed) % 16; k > 0; k--) {
            const char *bit = bits[next_random(&seed) % (sizeof bits / sizeof bits[0])];

            memcpy(text + n, bit, strlen(bit));
            n += strlen(bit);
        }
        assert_same_pieces(text, n);
    }
}

static void random_bytes(void **state)
{
    uint32_t seed = 77;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[48];
        const size_t n = next_random(&seed) % sizeof text;

        for (size_t i = 0; i < n; i++)
            text[i] = (char)next_random(&seed);
        assert_same_pieces(text, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_pieces),
        cmocka_unit_test(class_table_is_unicode_15),
        cmocka_unit_test(classes_of_known_characters),
        cmocka_unit_test(random_mixed_strings),
        cmocka_unit_test(random_bytes),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("pre_split", tests, NULL, NULL);
}
