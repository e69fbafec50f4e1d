/* tests/test_baseline.c: baselines of bench: what counts as slower, which files are believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/bench_baseline.h"
#include "common/json_field.h"

static char file[] = "/tmp/llorch-baseline-XXXXXX";

static int make_file(void **state)
{
    const int fd = mkstemp(file);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

static void write_text(const char *text, size_t n)
{
    FILE *f = fopen(file, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* ---- Speed ---- */

static const BenchMachine machine = {.cpu_name = "cpu",
                                     .isa = "x",
                                     .compiler = "c",
                                     .flags = "-O",
                                     .version = "v",
                                     .shape = "s",
                                     .model = "m",
                                     .config = "0123456789abcdef",
                                     .kv_type = "F32",
                                     .rounds = 3};

/* Three rounds of each case, whose median share is share. */
static void add_case(BenchReport *r, const char *name, double share)
{
    bench_report_add(r, "F16", name, "tokens/s", "best read", 1.0, share);
    bench_report_add(r, "F16", name, "tokens/s", "best read", 1.0, share * 3.0);
    bench_report_add(r, "F16", name, "tokens/s", "best read", 1.0, share * 0.5);
    assert_false(r->oom);
}

static void save(BenchReport *r)
{
    JsonBuf out = {0};

    bench_report_json(&out, r, &machine);
    assert_false(out.oom);
    write_text(out.data, out.len);
    json_buf_free(&out);
}

static void read_back(BenchBaseline *b)
{
    Err err = {0};

    if (bench_baseline_read(b, file, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void compare(BenchComparison *c, const BenchBaseline *b, const BenchReport *r, double max)
{
    Err err = {0};

    if (bench_compare(c, b, r, max, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void slower_begins_behind_the_threshold(void **state)
{
    /* Shares of reading and multiplying shrink, shares of a step and times of one row grow. */
    static const char *const names[] = {"decode@16", "prompt@128", "batch@1",         "pack",
                                        "batch@4",   "rest@16",    "rest-sampled@16", "memory"};
    static const bool lower[] = {false, false, false, false, true, true, true, true};

    (void)state;
    for (int i = 0; i < 8; i++) {
        BenchReport then = {.results = NULL};
        BenchBaseline b = {.n = 0};

        add_case(&then, names[i], 0.5);
        save(&then);
        read_back(&b);
        for (int percent = -50; percent <= 50; percent += 1) {
            const double factor = 1.0 + percent / 100.0;
            BenchReport now = {.results = NULL};
            BenchComparison c;

            if (percent == 10 || percent == -10) /* on the line: rounding decides */
                continue;
            add_case(&now, names[i], lower[i] ? 0.5 * factor : 0.5 / factor);
            compare(&c, &b, &now, 10.0);
            assert_int_equal(c.n, 1);
            assert_int_equal(c.n_slower, percent > 10);
            assert_int_equal(c.n_faster, percent < -10);
            assert_true(c.changes[0].slower > percent - 0.01 &&
                        c.changes[0].slower < percent + 0.01);
            bench_comparison_free(&c);
            bench_report_free(&now);
        }
        bench_baseline_free(&b);
        bench_report_free(&then);
    }
}

static void the_worst_comes_first_and_the_rest_is_named(void **state)
{
    BenchReport then = {.results = NULL}, now = {.results = NULL};
    BenchBaseline b = {.n = 0};
    BenchComparison c;
    JsonBuf out = {0};

    (void)state;
    add_case(&then, "decode@16", 0.9);
    add_case(&then, "prompt@16", 0.8);
    add_case(&then, "cache@64", 0.7);
    add_case(&then, "batch@1", 0.5);
    save(&then);
    read_back(&b);
    bench_report_probe(&now, "read_best", "GB/s", 3.0); /* no case */
    add_case(&now, "pack", 0.1);
    add_case(&now, "decode@16", 0.9 / 1.2);
    add_case(&now, "cache@64", 1.4);
    add_case(&now, "prompt@16", 0.8 / 1.5);
    compare(&c, &b, &now, 10.0);
    assert_int_equal(c.n, 3);
    assert_string_equal(c.changes[0].name, "prompt@16");
    assert_string_equal(c.changes[1].name, "decode@16");
    assert_string_equal(c.changes[2].name, "cache@64");
    assert_int_equal(c.n_slower, 2);
    assert_int_equal(c.n_faster, 1);
    bench_comparison_format(&out, &c, &machine, false);
    assert_has(out.data, "+50.0 %  SLOWER");
    assert_has(out.data, "+20.0 %  SLOWER");
    assert_has(out.data, "-50.0 %  faster");
    assert_has(out.data, "\nnot measured now: F16 batch@1\n");
    assert_has(out.data, "\nnot in the baseline: F16 pack\n");
    assert_has(out.data, "\n2 of 3 cases are more than 10 % slower, 1 is faster\n");
    assert_null(strstr(out.data, "note:"));
    json_buf_free(&out);
    bench_comparison_free(&c);
    compare(&c, &b, &now, 21.0);
    assert_int_equal(c.n_slower, 1);
    bench_comparison_free(&c);
    bench_baseline_free(&b);
    bench_report_free(&then);
    bench_report_free(&now);
}

static void medians_are_compared_not_single_rounds(void **state)
{
    BenchReport then = {.results = NULL}, now = {.results = NULL};
    BenchBaseline b = {.n = 0};
    BenchComparison c;

    (void)state;
    for (int i = 0; i < 5; i++) {
        bench_report_add(&then, "F16", "decode@16", "tokens/s", "best read", 1.0, 0.8);
        bench_report_add(&now, "F16", "decode@16", "tokens/s", "best read", 1.0,
                         i < 2 ? 0.1 : 0.79);
    }
    save(&then);
    read_back(&b);
    compare(&c, &b, &now, 10.0);
    assert_int_equal(c.n_slower, 0);
    bench_comparison_free(&c);
    bench_baseline_free(&b);
    bench_report_free(&then);
    bench_report_free(&now);
}

static void notes_say_what_weakens_a_comparison(void **state)
{
    BenchMachine other = machine;
    BenchReport then = {.results = NULL};
    BenchBaseline b = {.n = 0};
    BenchComparison c;
    JsonBuf out = {0};

    (void)state;
    bench_report_add(&then, "F16", "decode@16", "tokens/s", "best read", 1.0, 0.8);
    save(&then);
    read_back(&b);
    other.cpu_name = "another";
    compare(&c, &b, &then, 10.0);
    bench_comparison_format(&out, &c, &other, false);
    assert_has(out.data, "note: fewer than 3 rounds on one side");
    assert_has(out.data, "note: the baseline is of another processor, cpu:");
    json_buf_free(&out);
    bench_comparison_free(&c);
    bench_baseline_free(&b);
    bench_report_free(&then);
}

static void baselines_of_something_else_are_refused(void **state)
{
    const struct {
        BenchMachine now;
        const char *type, *part;
    } cases[] = {
        {{.isa = "x", .kv_type = "F32", .config = "1", .model = "n"},
         "F16",
         "another model: m (configuration 0123456789abcdef), now n (1)"},
        {{.isa = "y", .kv_type = "F32", .config = machine.config},
         "F16",
         "other kernels: x, now y"},
        {{.isa = "x", .kv_type = "F16", .config = machine.config}, "F16", "KV cache: F32, now F16"},
        {{.isa = "x", .kv_type = "F32", .config = machine.config}, "F32", "weights: F16, now F32"},
    };
    BenchReport then = {.results = NULL};
    BenchBaseline b = {.n = 0};
    Err err = {0};

    (void)state;
    add_case(&then, "decode@16", 0.5);
    save(&then);
    read_back(&b);
    assert_int_equal(bench_baseline_check(&b, &machine, "F16", &err), ERR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(bench_baseline_check(&b, &cases[i].now, cases[i].type, &err),
                         ERR_UNSUPPORTED);
        assert_has(err.msg, cases[i].part);
        assert_has(err.msg, file);
    }
    bench_baseline_free(&b);
    bench_report_free(&then);
}

/* Every prefix of a file, and every member of another type or missing. */
static void damaged_files_are_refused(void **state)
{
    static const char *const keys[] = {"format",    "machine", "cpu_name", "isa",    "compiler",
                                       "flags",     "version", "model",    "config", "kv_type",
                                       "results",   "type",    "case",     "share",  "share_min",
                                       "share_max", "n"};
    BenchReport then = {.results = NULL};
    BenchBaseline b = {.n = 0};
    JsonBuf out = {0};
    Err err = {0};

    (void)state;
    add_case(&then, "decode@16", 0.5);
    bench_report_json(&out, &then, &machine);
    for (size_t n = 0; n + 1 < out.len; n++) { /* the last byte is the end of the line */
        write_text(out.data, n);
        assert_int_equal(bench_baseline_read(&b, file, &err), ERR_FORMAT);
        assert_null(b.root);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[32];
        char *copy = strdup(out.data);

        assert_non_null(copy);
        (void)snprintf(key, sizeof key, "\"%s\":", keys[i]);
        char *at = strstr(copy, key);
        assert_non_null(at);
        at[1] = '?';
        write_text(copy, out.len);
        assert_int_equal(bench_baseline_read(&b, file, &err), ERR_FORMAT);
        assert_has(err.msg, file);
        free(copy);
    }
    json_buf_free(&out);
    bench_report_free(&then);
}

static void impossible_shares_are_refused(void **state)
{
    static const char *const results[] = {
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":0,\"share_min\":0,\"share_max\":1,\"n\":1}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":-1,\"share_min\":-1,\"share_max\":1,\"n\":1}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":1,\"share_min\":2,\"share_max\":3,\"n\":1}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":0}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":1.5}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":1e999,\"share_min\":1,\"share_max\":1,\"n\":1}",
        "{\"type\":\"F16\",\"case\":\"x\",\"share\":\"1\",\"share_min\":1,\"share_max\":1,\"n\":1}",
        "{\"type\":1,\"case\":\"x\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":1}",
        "{\"type\":\"F\\u0000\",\"case\":\"x\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":"
        "1}",
        "{\"type\":\"F16\",\"case\":"
        "\"0123456789012345678901234567890123456789012345678901234567890123\","
        "\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":1}",
        "{\"type\":\"F16\",\"case\":\"a\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":1},"
        "{\"type\":\"F16\",\"case\":\"a\",\"share\":1,\"share_min\":1,\"share_max\":1,\"n\":1}",
        "3",
    };
    BenchBaseline b = {.n = 0};
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        char text[1024];
        const int n = snprintf(
            text, sizeof text,
            "{\"format\":\"llorch-cpud bench 1\",\"machine\":{\"cpu_name\":\"\",\"isa\":\"\","
            "\"compiler\":\"\",\"flags\":\"\",\"version\":\"\",\"model\":\"\",\"config\":\"\","
            "\"kv_type\":\"\"},\"results\":[%s]}",
            results[i]);

        assert_true(n > 0 && (size_t)n < sizeof text);
        write_text(text, (size_t)n);
        assert_int_equal(bench_baseline_read(&b, file, &err), ERR_FORMAT);
        assert_has(err.msg, file);
        assert_null(strchr(err.msg, '\n'));
    }
}

/* What a file says must not steer the terminal. */
static void texts_of_a_file_are_shown_escaped(void **state)
{
    BenchMachine evil = machine;
    BenchReport then = {.results = NULL};
    BenchBaseline b = {.n = 0};
    BenchComparison c;
    JsonBuf out = {0};
    Err err = {0};

    (void)state;
    evil.cpu_name = evil.compiler = evil.flags = evil.version = evil.isa = "\x1b[31m\nx";
    add_case(&then, "decode@16", 0.5);
    bench_report_add(&then, "F\x1b[2J", "c\x1b[2J", "u", "best read", 1.0, 1.0);
    bench_report_json(&out, &then, &evil);
    write_text(out.data, out.len);
    json_buf_free(&out);
    read_back(&b);
    assert_int_equal(bench_baseline_check(&b, &machine, "F16", &err), ERR_UNSUPPORTED);
    assert_null(strchr(err.msg, '\x1b'));
    then.n = 1;
    compare(&c, &b, &then, 10.0);
    assert_int_equal(c.n_missing, 1);
    bench_comparison_format(&out, &c, &machine, false);
    assert_null(strchr(out.data, '\x1b'));
    json_buf_free(&out);
    bench_comparison_free(&c);
    bench_baseline_free(&b);
    then.n = 2;
    bench_report_free(&then);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slower_begins_behind_the_threshold),
        cmocka_unit_test(the_worst_comes_first_and_the_rest_is_named),
        cmocka_unit_test(medians_are_compared_not_single_rounds),
        cmocka_unit_test(notes_say_what_weakens_a_comparison),
        cmocka_unit_test(baselines_of_something_else_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(impossible_shares_are_refused),
        cmocka_unit_test(texts_of_a_file_are_shown_escaped),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("baseline", tests, make_file, remove_file);
}
