/* tests/test_log.c: lines of the log, whatever is in them and whoever reads them or does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

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

static void write_plain_and_huge(void)
{
    static char big[5000];

    memset(big, 'x', sizeof big - 1);
    log_line(LOG_WARN, "m", "s:file", "a\nb", "i:id", 600LL, "b:yes", 1, "f:ratio", 0.5, "s:none",
             (const char *)NULL, NULL);
    log_line(LOG_WARN, "m", "s:a", big, "s:b", big, "s:c", big, "s:d", big, "s:e", big, NULL);
    log_line(LOG_WARN, big, "s:a", "b", NULL);
}

/* Before log_init, which other cases call: also a line that is too long is one line. */
static void plain_log_lines_end(void **state)
{
    char text[16384];
    const char *line = text;

    (void)state;
    assert_true(captured(text, sizeof text, write_plain_and_huge) > 0);
    assert_ptr_equal(
        strstr(text, "llorch-cpud: warn: m (file a\\nb, id 600, yes true, ratio 0.5)\n"), text);
    for (int i = 0; i < 3; i++) {
        const char *end = strchr(line, '\n');

        assert_non_null(end);
        assert_true(end - line < 4096);
        assert_int_equal(strncmp(line, "llorch-cpud: warn: ", 19), 0);
        line = end + 1;
    }
    assert_int_equal(*line, '\0');
}

/* A message after which the worker's name does not fit any more. */
static void write_long_message(void)
{
    char message[700], id[200];

    memset(id, '\"', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    log_init(LOG_INFO, id);
    for (size_t n = 500; n < sizeof message; n += 2) {
        memset(message, '\x01', n);
        message[n] = '\0';
        log_line(LOG_INFO, message, "i:n", (long long)n, NULL);
    }
    log_init(LOG_INFO, NULL);
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

/* Each line is a JSON object; how many there are, and how many of them were shortened. */
static size_t count_json_lines(const char *text, size_t *n_truncated)
{
    size_t n_lines = 0;

    *n_truncated = 0;
    for (const char *line = text; *line != '\0'; n_lines++) {
        const char *end = strchr(line, '\n');

        assert_non_null(end);
        assert_true(end - line < 4096);
        json_t *root = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (root == NULL)
            fail_msg("not JSON: ...%.60s", end > line + 60 ? end - 60 : line);
        *n_truncated += json_is_true(json_object_get(root, "truncated"));
        json_decref(root);
        line = end + 1;
    }
    return n_lines;
}

static void log_lines_stay_json_when_shortened(void **state)
{
    static char text[512 * 1024];
    size_t n_truncated;
    FILE *f = tmpfile();

    (void)state;
    captured(text, sizeof text, write_huge);
    assert_int_equal(count_json_lines(text, &n_truncated), 2);
    assert_int_equal(n_truncated, 1);
    assert_non_null(f);
    with_stderr(fileno(f), write_long_message);
    const ssize_t n = pread(fileno(f), text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_int_equal(count_json_lines(text, &n_truncated), 100);
    assert_true(n_truncated > 0 && n_truncated < 100);
    fclose(f);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_log_lines_end),
        cmocka_unit_test(log_line_is_one_json_object),
        cmocka_unit_test(log_lines_stay_json_when_shortened),
        cmocka_unit_test(log_never_waits_for_a_full_pipe),
        cmocka_unit_test(log_counts_lines_to_a_closed_reader),
        cmocka_unit_test(log_ends_what_was_cut),
        cmocka_unit_test(log_levels_have_names),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
