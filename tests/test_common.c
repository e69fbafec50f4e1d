/* tests/test_common.c: errors, texts, log lines, arena, clock, mapped files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "common/mapped_file.h"
#include "common/new_file.h"
#include "common/text.h"

static void error_escapes_control_characters(void **state)
{
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(err_set(&err, ERR_IO, "a\nb\x1b[31m\x7f%s", "\xc2\x9b"), ERR_IO);
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.msg, "a\\nb\\x1b[31m\\x7f\\xc2\\x9b");
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

static void arena_hands_out_aligned_zeroed_parts(void **state)
{
    size_t total = 0;
    Arena a;
    Err err;

    (void)state;
    assert_true(arena_plan(&total, 3, 5));
    assert_int_equal(total, 64);
    assert_true(arena_plan(&total, 1000, 4096));
    assert_true(arena_plan(&total, 1, 1));
    assert_int_equal(arena_init(&a, total, "test", &err), ERR_OK);
    unsigned char *p = arena_alloc(&a, 3, 5), *q = arena_alloc(&a, 1000, 4096),
                  *r = arena_alloc(&a, 1, 1);
    assert_true(p != NULL && q != NULL && r != NULL);
    assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
    assert_int_equal(q - p, 64);
    assert_int_equal(r - q, 1000 * 4096);
    for (size_t i = 0; i < total; i++)
        assert_int_equal(p[i], 0);
    memset(p, 1, total);
    assert_null(arena_alloc(&a, 5000, 1));
    assert_null(arena_alloc(&a, SIZE_MAX, 2));
    assert_null(arena_alloc(&a, SIZE_MAX, 1));
    arena_free(&a);
    assert_null(a.base);
    assert_null(arena_alloc(&a, 1, 1));
    arena_free(&a);
}

static void arena_plan_refuses_overflow(void **state)
{
    size_t total = 128, product = 7;

    (void)state;
    assert_false(arena_plan(&total, SIZE_MAX, 2));
    assert_false(arena_plan(&total, SIZE_MAX, 1));
    assert_false(arena_plan(&total, SIZE_MAX - 100, 1));
    assert_int_equal(total, 128);
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &product));
    assert_int_equal(product, 7);
    assert_true(size_mul(SIZE_MAX, 0, &product));
    assert_int_equal(product, 0);
}

static void arena_says_when_memory_is_out(void **state)
{
    Arena a = {NULL, 0, 0};
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(arena_init(&a, SIZE_MAX, "weights", &err), ERR_MEMORY);
    assert_int_equal(arena_init(&a, SIZE_MAX / 4, "weights", &err), ERR_MEMORY);
    assert_true(strncmp(err.msg, "weights: cannot allocate ", 25) == 0);
    assert_null(a.base);
    assert_int_equal(arena_init(&a, 0, "nothing", &err), ERR_OK);
    assert_null(a.base);
}

static void clocks_run(void **state)
{
    char text[CLOCK_ISO_BYTES];
    const uint64_t before = clock_now_ns();

    (void)state;
    clock_iso_utc(text);
    assert_int_equal(strlen(text), 20);
    assert_true(strspn(text, "0123456789-T:Z") == 20 && text[10] == 'T' && text[19] == 'Z');
    assert_true(clock_now_ns() >= before);
    assert_true(clock_now_ms() >= before / 1000000);
}

static void clock_formats_every_second(void **state)
{
    static const int64_t no_text[] = {-1, INT64_MIN, 253402300800, INT64_MAX};
    static const int64_t edges[] = {0, 951782399, 951782400, 4107542400, 253402300799};
    char text[CLOCK_ISO_BYTES], expected[CLOCK_ISO_BYTES];
    uint64_t random = 1;

    (void)state;
    for (size_t i = 0; i < 20000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const time_t t = i < 5 ? edges[i] : (time_t)((random >> 11) % UINT64_C(253402300800));
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &tm), 20);
        clock_format_utc(text, t);
        assert_string_equal(text, expected);
    }
    for (size_t i = 0; i < sizeof no_text / sizeof no_text[0]; i++) {
        clock_format_utc(text, no_text[i]);
        assert_string_equal(text, "0000-00-00T00:00:00Z");
    }
}

/* Runs write_lines with standard error going to fd. */
static void with_stderr(int fd, void (*write_lines)(void))
{
    const int saved = dup(STDERR_FILENO);

    assert_true(saved >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    write_lines();
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
}

static size_t captured(char *out, size_t size, void (*write_lines)(void))
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    with_stderr(fds[1], write_lines);
    close(fds[1]);
    const ssize_t n = read(fds[0], out, size - 1);
    close(fds[0]);
    assert_true(n >= 0);
    out[n] = '\0';
    return (size_t)n;
}

static void write_typical(void)
{
    log_init(LOG_INFO, "worker-\"7\"\n");
    log_line(LOG_DEBUG, "not shown", NULL);
    log_line(LOG_INFO, "ready\n{\"level\":\"error\"}\x1b[2J\xff", "s:model", "g\"p\\t\n2", "s:none",
             (const char *)NULL, "i:port", 8080LL, "i:least", LLONG_MIN, "f:seconds", 0.25, "f:bad",
             (double)NAN, "b:yes", 1, "b:no", 0, NULL);
    log_init(LOG_INFO, NULL);
}

static void log_line_is_one_json_object(void **state)
{
    char text[4096];
    json_error_t error;

    (void)state;
    const size_t n = captured(text, sizeof text, write_typical);
    assert_true(n > 0 && text[n - 1] == '\n');
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_null(strchr(text, '\x1b'));
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(root, "message")),
                        "ready\n{\"level\":\"error\"}\x1b[2J\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(root, "model")), "g\"p\\t\n2");
    assert_string_equal(json_string_value(json_object_get(root, "worker_id")), "worker-\"7\"\\n");
    assert_null(json_object_get(root, "none"));
    assert_int_equal(json_integer_value(json_object_get(root, "port")), 8080);
    assert_true(json_integer_value(json_object_get(root, "least")) == LLONG_MIN);
    assert_true(json_real_value(json_object_get(root, "seconds")) == 0.25);
    assert_true(json_is_null(json_object_get(root, "bad")));
    assert_true(json_is_true(json_object_get(root, "yes")));
    assert_true(json_is_false(json_object_get(root, "no")));
    assert_int_equal(strlen(json_string_value(json_object_get(root, "time"))), 20);
    json_decref(root);
}

static void write_huge(void)
{
    static char big[100000];

    memset(big, '\x01', sizeof big - 1);
    log_line(LOG_ERROR, big, "s:a", big, "s:b", big, "i:c", 5LL, NULL);
    memset(big, 'x', sizeof big - 1);
    log_line(LOG_ERROR, "m", "s:a", big, "s:b", big, "s:c", big, "s:d", big, "s:e", big, "i:f", 5LL,
             NULL);
}

static void log_lines_stay_json_when_shortened(void **state)
{
    char text[16384];

    (void)state;
    size_t n_lines = 0, n_truncated = 0;

    captured(text, sizeof text, write_huge);
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');

        assert_non_null(end);
        assert_true(end - line < 4096);
        json_t *root = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(root);
        n_lines++;
        n_truncated += json_is_true(json_object_get(root, "truncated"));
        json_decref(root);
        line = end + 1;
    }
    assert_int_equal(n_lines, 2);
    assert_int_equal(n_truncated, 1);
}

static void write_many(void)
{
    for (int i = 0; i < 2000; i++)
        log_line(LOG_INFO, "a line of some length that fills the pipe sooner or later", NULL);
}

/* The reader never reads: the writer must come back, the rest is dropped and counted, and what was
 * written is whole. */
static void log_never_waits_for_a_full_pipe(void **state)
{
    int fds[2];
    static char text[1 << 20];
    const unsigned long long before = log_dropped();
    size_t n = 0, lines = 0;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    alarm(20);
    with_stderr(fds[1], write_many);
    alarm(0);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[1]);
    for (ssize_t k; (k = read(fds[0], text + n, sizeof text - n)) > 0;)
        n += (size_t)k;
    close(fds[0]);
    assert_int_equal(text[n - 1], '\n');
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    assert_true(lines > 0 && lines < 2000);
    assert_int_equal(log_dropped() - before, 2000 - lines);
}

static void log_counts_lines_to_a_closed_reader(void **state)
{
    int fds[2];
    const unsigned long long before = log_dropped();

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    with_stderr(fds[1], write_many);
    close(fds[1]);
    assert_int_equal(log_dropped() - before, 2000);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    alarm(20);
    with_stderr(fds[1], write_many);
    alarm(0);
    close(fds[0]);
    close(fds[1]);
    assert_true(log_dropped() - before > 2000 && log_dropped() - before < 4000);
}

/* What can be read right now. */
static size_t read_now(int fd, char *out, size_t size)
{
    size_t n = 0;

    for (ssize_t k; n < size && (k = read(fd, out + n, size - n)) > 0;)
        n += (size_t)k;
    return n;
}

/* A terminal whose reader stopped takes a line in part: the next one begins on a line of its own,
 * behind the count of what is missing. */
static void log_ends_what_was_cut(void **state)
{
    static const char begin[] = "{\"level\":";
    static char text[1 << 20];
    const int ours = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);

    (void)state;
    if (ours < 0 || grantpt(ours) != 0 || unlockpt(ours) != 0)
        skip();
    const int theirs = open(ptsname(ours), O_RDWR | O_NOCTTY);
    const int saved = dup(STDERR_FILENO);
    assert_true(theirs >= 0 && saved >= 0);
    assert_int_equal(dup2(theirs, STDERR_FILENO), STDERR_FILENO);
    alarm(20);
    log_init(LOG_INFO, NULL);
    write_many();
    size_t n = read_now(ours, text, sizeof text - 1);
    log_line(LOG_INFO, "the last one", NULL);
    alarm(0);
    n += read_now(ours, text + n, sizeof text - 1 - n);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
    close(theirs);
    close(ours);
    text[n] = '\0';
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        const char *again = strstr(line + 1, begin);

        assert_int_equal(strncmp(line, begin, strlen(begin)), 0);
        assert_non_null(strchr(line, '\n'));
        assert_true(again == NULL || again > strchr(line, '\n'));
    }
    assert_non_null(strstr(text, "Log lines were lost"));
    assert_non_null(strstr(text, "the last one"));
}

static void log_levels_have_names(void **state)
{
    (void)state;
    assert_int_equal(log_level_parse("debug"), LOG_DEBUG);
    assert_int_equal(log_level_parse("warn"), LOG_WARN);
    assert_int_equal(log_level_parse("off"), LOG_OFF);
    assert_int_equal(log_level_parse("INFO"), -1);
    assert_int_equal(log_level_parse(""), -1);
}

static char dir[] = "/tmp/llorch-common-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void mapped_file_shows_the_bytes(void **state)
{
    MappedFile f;
    Err err;

    (void)state;
    put_file("plain", "hello");
    assert_int_equal(symlink("plain", path_of("link")), 0);
    assert_int_equal(mapped_file_open(&f, path_of("link"), 5, &err), ERR_OK);
    assert_int_equal(f.size, 5);
    assert_memory_equal(f.data, "hello", 5);
    mapped_file_close(&f);
    assert_null(f.data);
    mapped_file_close(&f);
    assert_int_equal(mapped_file_open(&f, path_of("plain"), 4, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "/plain: 5 bytes, expected at most 4"));
}

static void mapped_file_refuses_what_is_no_regular_file(void **state)
{
    char long_path[5000];
    MappedFile f = {NULL, 0};
    Err err;

    (void)state;
    put_file("empty", "");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    assert_int_equal(symlink("loop", path_of("loop")), 0);
    alarm(10); /* a FIFO must not be waited for */
    assert_int_equal(mapped_file_open(&f, path_of("fifo"), 0, &err), ERR_IO);
    alarm(0);
    assert_non_null(strstr(err.msg, "/fifo: not a regular file"));
    assert_int_equal(mapped_file_open(&f, dir, 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, ": is a directory"));
    assert_int_equal(mapped_file_open(&f, "/dev/zero", 0, &err), ERR_IO);
    assert_int_equal(mapped_file_open(&f, path_of("empty"), 0, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "/empty: the file is empty"));
    assert_int_equal(mapped_file_open(&f, path_of("dangling"), 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ENOENT)));
    assert_int_equal(mapped_file_open(&f, path_of("loop"), 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ELOOP)));
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(mapped_file_open(&f, long_path, 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ENAMETOOLONG)));
    assert_null(f.data);
}

/* A child maps a file, the file is cut, the child reads: one line with the name, exit 1, no signal.
 */
static void mapped_file_guard_names_the_file(void **state)
{
    char text[512] = "";
    int fds[2], status = 0;

    (void)state;
    put_file("shrinks", "hello");
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        MappedFile f;
        Err err;

        dup2(fds[1], STDERR_FILENO);
        mapped_file_guard();
        if (mapped_file_open(&f, path_of("shrinks"), 0, &err) != ERR_OK ||
            truncate(path_of("shrinks"), 0) != 0)
            _exit(2);
        _exit(*(const volatile unsigned char *)f.data == 0 ? 3 : 4);
    }
    close(fds[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    const ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    assert_true(n > 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(text, "/shrinks: the file became shorter while it was in use"));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

static void usual_wrong_files_are_recognised(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS"},
        {"\x1f\x8b\x08", 3, "gzip"},
        {"PK\x03\x04", 4, "zip"},
        {"\x80\x02}q", 4, "pickle"},
        {"  \n<!DOCTYPE html>", 18, "HTML"},
        {"<html>", 6, "HTML"},
        {"GGUF\x03", 5, "GGUF"},
        {"\x80\x02\0\0\0\0\0\0{\"", 10, "safetensors"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *kind = mapped_file_kind((const unsigned char *)cases[i].bytes, cases[i].n);

        assert_non_null(kind);
        assert_non_null(strstr(kind, cases[i].part));
    }
    assert_null(mapped_file_kind((const unsigned char *)"{}", 2));
    assert_null(mapped_file_kind((const unsigned char *)"", 0));
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"plain",    "link", "empty",  "fifo",
                                        "dangling", "loop", "shrinks"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlink(path_of(names[i]));
    return rmdir(dir);
}

static void touching_an_arena_backs_it_and_changes_nothing(void **state)
{
    enum { N_PAGES = 64, PAGE = 4096 };
    unsigned char resident[N_PAGES];
    Err err = {0};
    Arena a;

    (void)state;
    assert_int_equal(arena_init(&a, N_PAGES * PAGE, "test", &err), ERR_OK);
    a.base[5 * PAGE] = 7;
    arena_touch(&a, 4 * PAGE, SIZE_MAX); /* what lies behind the end is left out */
    assert_int_equal(mincore(a.base, N_PAGES * PAGE, resident), 0);
    for (int i = 4; i < N_PAGES; i++)
        assert_true(resident[i] & 1);
    assert_int_equal(a.base[5 * PAGE], 7);
    assert_int_equal(a.base[6 * PAGE], 0);
    arena_free(&a);
}

/* In a container every run has the process number 1. */
static void what_a_killed_run_left_is_in_nobodys_way(void **state)
{
    char stale[256], left[64];
    NewFile f;
    Err err;

    (void)state;
    snprintf(left, sizeof left, "rerun.%ld.0.tmp", (long)getpid());
    put_file(left, "half of it");
    snprintf(stale, sizeof stale, "%s", path_of(left));
    assert_int_equal(new_file_open(&f, path_of("rerun"), &err), ERR_OK);
    assert_true(new_file_write(&f, "all of it", 9));
    assert_int_equal(new_file_commit(&f, &err), ERR_OK);
    assert_int_equal(access(stale, F_OK), 0); /* it may be another container's, in use */
    assert_int_equal(unlink(stale), 0);
    assert_int_equal(unlink(path_of("rerun")), 0);
}

static void a_new_file_is_there_as_a_whole_or_not_at_all(void **state)
{
    char folder[] = "/tmp/llorch-common-XXXXXX", path[64], text[8] = "";
    Err err = {0};
    NewFile f;
    FILE *in;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/file", folder);
    for (int round = 0; round < 2; round++) { /* the second replaces the first */
        assert_int_equal(new_file_open(&f, path, &err), ERR_OK);
        assert_true(new_file_write(&f, round == 0 ? "old" : "new", 3));
        assert_int_equal(access(path, F_OK), round == 0 ? -1 : 0);
        assert_int_equal(new_file_commit(&f, &err), ERR_OK);
    }
    /* A write that fails: the old file stays, the temporary one goes. */
    assert_int_equal(new_file_open(&f, path, &err), ERR_OK);
    assert_true(new_file_write(&f, "half", 4));
    (void)close(f.fd);
    assert_false(new_file_write(&f, "more", 4));
    assert_int_equal(new_file_commit(&f, &err), ERR_IO);
    assert_int_equal(access(f.temporary, F_OK), -1);
    in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fread(text, 1, sizeof text, in), 3);
    assert_string_equal(text, "new");
    (void)fclose(in);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(new_file_open(&f, path, &err), ERR_IO); /* no such folder */
    assert_non_null(strstr(err.msg, "No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_is_there_as_a_whole_or_not_at_all),
        cmocka_unit_test(what_a_killed_run_left_is_in_nobodys_way),
        cmocka_unit_test(touching_an_arena_backs_it_and_changes_nothing),
        cmocka_unit_test(error_escapes_control_characters),
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
        cmocka_unit_test(arena_hands_out_aligned_zeroed_parts),
        cmocka_unit_test(arena_plan_refuses_overflow),
        cmocka_unit_test(arena_says_when_memory_is_out),
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(clock_formats_every_second),
        cmocka_unit_test(log_line_is_one_json_object),
        cmocka_unit_test(log_lines_stay_json_when_shortened),
        cmocka_unit_test(log_never_waits_for_a_full_pipe),
        cmocka_unit_test(log_counts_lines_to_a_closed_reader),
        cmocka_unit_test(log_ends_what_was_cut),
        cmocka_unit_test(log_levels_have_names),
        cmocka_unit_test(mapped_file_shows_the_bytes),
        cmocka_unit_test(mapped_file_refuses_what_is_no_regular_file),
        cmocka_unit_test(mapped_file_guard_names_the_file),
        cmocka_unit_test(usual_wrong_files_are_recognised),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
