/* tests/test_stop_matcher.c: the stop matcher against the definition: random texts, all short ones,
 * whole characters, the longest strings, lists that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/stop_matcher.h"
#include "random.h"
#include "stop_rig.h"

enum { MAX_TEXT = 1000 };

/* Pushes text in pieces and compares with the definition after each. */
static void check_split(const char *text, size_t n, const BackendText *stops, int n_stops,
                        uint64_t *seed, int one_in)
{
    static char out[MAX_TEXT];
    char piece[STOP_MAX_BYTES + MAX_TEXT];
    StopMatcher m;
    Err err = {0};
    size_t n_out = 0, done = 0;

    assert_int_equal(stop_matcher_init(&m, stops, n_stops, &err), ERR_OK);
    while (done < n && m.matched < 0) {
        size_t len = 1;

        while (done + len < n && next_random(seed) % (uint32_t)one_in != 0)
            len++;
        const size_t got = stop_matcher_push(&m, text + done, len, piece);
        assert_true(got <= STOP_MAX_BYTES + len);
        memcpy(out + n_out, piece, got);
        n_out += got;
        done += len;

        const Cut want = naive_cut(text, done, stops, n_stops);
        assert_int_equal(m.matched, want.matched);
        const size_t held = want.matched < 0 ? naive_held(text, done, stops, n_stops) : 0;
        assert_int_equal(n_out, want.n_out - held);
        assert_memory_equal(out, text, n_out);
    }
    const Cut want = naive_cut(text, n, stops, n_stops);
    const size_t rest = stop_matcher_flush(&m, piece);
    memcpy(out + n_out, piece, rest);
    assert_int_equal(n_out + rest, want.n_out);
    assert_int_equal(m.matched, want.matched);
    assert_memory_equal(out, text, want.n_out);
    assert_int_equal(stop_matcher_push(&m, "x", want.matched >= 0, piece), 0);
}

static void random_text(char *text, size_t n, uint32_t letters, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + next_random(seed) % letters);
}

static void matcher_equals_the_definition(void **state)
{
    uint64_t seed = 99;
    char text[120], store[BACKEND_MAX_STOPS][12];
    BackendText stops[BACKEND_MAX_STOPS];

    (void)state;
    for (int round = 0; round < 30000; round++) {
        const uint32_t letters = 1 + next_random(&seed) % 3;
        const size_t n = next_random(&seed) % sizeof text;
        /* One string alone in half of the rounds: otherwise the shortest mostly ends the text
         * early. */
        const int n_stops = round % 2 == 0 ? 1 : (int)(next_random(&seed) % 5);

        random_text(text, n, letters, &seed);
        for (int i = 0; i < n_stops; i++) {
            const size_t len = 1 + next_random(&seed) % sizeof store[i];

            random_text(store[i], len, letters, &seed);
            stops[i] = (BackendText){store[i], len};
        }
        check_split(text, n, stops, n_stops, &seed, 1 + (int)(next_random(&seed) % 5));
    }
}

/* Every text of up to 9 letters a, b, in every way to cut it in two, against overlapping strings.
 */
static void matcher_is_exhaustive_on_short_texts(void **state)
{
    static const char *const lists[][2] = {{"ab", "aab"},  {"aab", "ab"}, {"aba", "b"},
                                           {"bb", "abab"}, {"aaa", "aa"}, {"babb", "abba"}};

    (void)state;
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        const BackendText stops[] = {{lists[l][0], strlen(lists[l][0])},
                                     {lists[l][1], strlen(lists[l][1])}};

        for (size_t n = 1; n <= 9; n++)
            for (unsigned bits = 0; bits < 1u << n; bits++)
                for (size_t cut = 0; cut <= n; cut++) {
                    char text[9], out[STOP_MAX_BYTES + 9];
                    StopMatcher m;
                    Err err = {0};

                    for (size_t i = 0; i < n; i++)
                        text[i] = bits >> i & 1 ? 'b' : 'a';
                    assert_int_equal(stop_matcher_init(&m, stops, 2, &err), ERR_OK);
                    size_t got = stop_matcher_push(&m, text, cut, out);
                    got += stop_matcher_push(&m, text + cut, n - cut, out + got);
                    got += stop_matcher_flush(&m, out + got);

                    const Cut want = naive_cut(text, n, stops, 2);
                    assert_int_equal(got, want.n_out);
                    assert_int_equal(m.matched, want.matched);
                    assert_memory_equal(out, text, got);
                }
    }
}

static void matcher_holds_whole_characters(void **state)
{
    /* The stop string begins with é; ê has the same first byte. */
    const BackendText stops[] = {{"\xc3\xa9\xe2\x82\xac", 5}};
    char out[STOP_MAX_BYTES + 8];
    StopMatcher m;
    Err err = {0};

    (void)state;
    assert_int_equal(stop_matcher_init(&m, stops, 1, &err), ERR_OK);
    assert_int_equal(stop_matcher_push(&m, "x\xc3\xaa", 3, out), 3);
    assert_int_equal(stop_matcher_push(&m, "y\xc3\xa9", 3, out), 1);
    assert_int_equal(stop_matcher_push(&m, "z", 1, out), 3);
    assert_memory_equal(out, "\xc3\xa9z", 3);
    assert_int_equal(stop_matcher_push(&m, "\xc3\xa9", 2, out), 0);
    assert_int_equal(stop_matcher_push(&m, "\xe2\x82\xac", 3, out), 0);
    assert_int_equal(m.matched, 0);
}

static void matcher_refuses_bad_lists(void **state)
{
    static char longest[4 * 101];
    StopMatcher m;
    Err err = {0};
    const BackendText five[5] = {{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}, {"e", 1}};
    const BackendText empty = {"", 0}, invalid = {"\xff", 1};

    (void)state;
    for (int i = 0; i < 101; i++)
        memcpy(longest + 4 * i, "\xf0\x9f\x91\x8b", 4);
    const BackendText too_long = {longest, sizeof longest}, just_right = {longest, 400};

    assert_int_equal(stop_matcher_init(&m, five, 5, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "stop must have at most 4 sequences (got 5)");
    assert_int_equal(stop_matcher_init(&m, &empty, 1, &err), ERR_LIMIT);
    assert_int_equal(stop_matcher_init(&m, &invalid, 1, &err), ERR_FORMAT);
    assert_int_equal(stop_matcher_init(&m, &too_long, 1, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "stop sequence 0 must be at most 100 characters (got 101)");
    assert_int_equal(stop_matcher_init(&m, five, -1, &err), ERR_LIMIT);
    assert_int_equal(stop_matcher_init(&m, &just_right, 1, &err), ERR_OK);
}

static void matcher_with_the_longest_strings(void **state)
{
    static char text[1000], stop[100];
    uint64_t seed = 4;

    (void)state;
    memset(text, 'a', sizeof text);
    memset(stop, 'a', sizeof stop);
    stop[99] = 'b';
    const BackendText stops[] = {{stop, 100}};
    check_split(text, 1000, stops, 1, &seed, 3);
    text[990] = 'b';
    check_split(text, 1000, stops, 1, &seed, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matcher_equals_the_definition),
        cmocka_unit_test(matcher_is_exhaustive_on_short_texts),
        cmocka_unit_test(matcher_holds_whole_characters),
        cmocka_unit_test(matcher_refuses_bad_lists),
        cmocka_unit_test(matcher_with_the_longest_strings),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
