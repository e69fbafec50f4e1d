/* tests/test_metrics.c: what the worker counts (worker/metrics.h), histograms against a recount of
 * their own, the text format against a strict reader of its own, /proc against the system calls
 * that say the same. The whole page of a running worker: tests/http/test_metrics.py. */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/exposition.h"
#include "common/process_stats.h"
#include "quick.h"
#include "random.h"
#include "worker/metrics.h"

#define MS UINT64_C(1000000)
#define SEC (1000 * MS)

/* ---- Histograms ---- */

static const uint64_t bounds[] = {10, 20, 20 * MS, SEC};

static void a_bound_belongs_to_its_own_bucket(void **state)
{
    static const uint64_t values[] = {0,       10,          11,  20,      21,
                                      20 * MS, 20 * MS + 1, SEC, SEC + 1, UINT64_C(1) << 50};
    static const uint64_t want[] = {2, 2, 2, 2, 2};
    Histogram h;
    uint64_t sum = 0;

    (void)state;
    histogram_init(&h, bounds, 4);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        histogram_observe(&h, values[i]);
        sum += values[i];
    }
    assert_memory_equal(h.counts, want, sizeof want);
    assert_true(h.sum_ns == sum);
}

/* Random durations of all sizes, bounds themselves and their neighbours among them. */
static uint64_t random_duration(uint64_t *random, const Histogram *h)
{
    const uint64_t bits = ((uint64_t)next_random(random) << 31) ^ next_random(random);

    if (next_random(random) % 4 != 0)
        return bits >> (next_random(random) % 50 + 12);
    return h->bounds_ns[next_random(random) % (uint32_t)h->n_bounds] + next_random(random) % 3 - 1;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Sorted durations are cut at each bound with a search of their own; what a bucket's line says is
 * how many are at most its bound. */
static void check_recount(const Histogram *h, uint64_t *sorted, size_t n)
{
    JsonBuf out = {0};
    const char *at;
    char line[128];
    uint64_t sum = 0;

    qsort(sorted, n, sizeof *sorted, by_size);
    exposition_histogram(&out, "x_seconds", "Help.", h);
    assert_false(out.oom);
    at = strchr(strchr(out.data, '\n') + 1, '\n') + 1;
    for (int i = 0; i <= h->n_bounds; i++) {
        size_t low = 0, high = n;

        while (low < high) {
            const size_t middle = (low + high) / 2;

            if (i == h->n_bounds || sorted[middle] <= h->bounds_ns[i])
                low = middle + 1;
            else
                high = middle;
        }
        const char *end = strchr(at, '\n'), *quote = strstr(at, "le=\"") + 4;
        if (i < h->n_bounds)
            assert_true((uint64_t)(strtod(quote, NULL) * 1e9 + 0.5) == h->bounds_ns[i]);
        else
            assert_memory_equal(quote, "+Inf\"", 5);
        snprintf(line, sizeof line, "} %zu", low);
        assert_memory_equal(strchr(at, '}'), line, strlen(line));
        assert_ptr_equal(strchr(at, '}') + strlen(line), end);
        at = end + 1;
    }
    for (size_t i = 0; i < n; i++)
        sum += sorted[i];
    assert_true(sum == h->sum_ns);
    snprintf(line, sizeof line, "\nx_seconds_count %zu\n", n);
    assert_string_equal(strstr(out.data, "\nx_seconds_count"), line);
    json_buf_free(&out);
}

static void histograms_are_what_an_independent_recount_says(void **state)
{
    enum { N = 4000 };
    static uint64_t values[5][N];
    uint64_t random = 1;
    Metrics m;
    Histogram *const all[] = {&m.first_token, &m.inter_token, &m.queue, &m.prefill, &m.request};

    (void)state;
    metrics_init(&m);
    for (size_t k = 0; k < 5; k++) {
        for (size_t i = 0; i < N; i++) {
            values[k][i] = random_duration(&random, all[k]);
            histogram_observe(all[k], values[k][i]);
        }
        check_recount(all[k], values[k], N);
    }
}

static void bounds_ascend_and_fit(void **state)
{
    Metrics m;
    const Histogram *const all[] = {&m.first_token, &m.inter_token, &m.queue, &m.prefill,
                                    &m.request};

    (void)state;
    metrics_init(&m);
    for (size_t k = 0; k < 5; k++) {
        assert_in_range(all[k]->n_bounds, 10, HISTOGRAM_MAX_BOUNDS);
        for (int i = 1; i < all[k]->n_bounds; i++)
            assert_true(all[k]->bounds_ns[i] > all[k]->bounds_ns[i - 1]);
    }
}

/* ---- The text format ---- */

static void a_text_is_as_the_format_says(void **state)
{
    static const char want[] = "# HELP a_total Some help.\n"
                               "# TYPE a_total counter\n"
                               "a_total 0\n"
                               "a_total{x=\"1\"} 18446744073709551615\n"
                               "a_total{y=\"\",z=\"3\"} 7\n"
                               "b_seconds 0.000000001\n"
                               "b_seconds{x=\"y\"} 3\n"
                               "b_seconds 0.25\n"
                               "b_seconds 0\n"
                               "b_seconds 10\n"
                               "b_seconds 18446744073.709551615\n";
    JsonBuf out = {0};

    (void)state;
    exposition_family(&out, "a_total", "counter", "Some help.");
    exposition_count(&out, "a_total", 0, NULL);
    exposition_count(&out, "a_total", UINT64_MAX, "x", "1", NULL);
    exposition_count(&out, "a_total", 7, "x", NULL, "y", "", "z", "3", NULL);
    exposition_nano(&out, "b_seconds", 1, NULL);
    exposition_nano(&out, "b_seconds", 3 * SEC, "x", "y", NULL);
    exposition_nano(&out, "b_seconds", SEC / 4, NULL);
    exposition_nano(&out, "b_seconds", 0, NULL);
    exposition_nano(&out, "b_seconds", 10 * SEC, NULL);
    exposition_nano(&out, "b_seconds", UINT64_MAX, NULL);
    assert_string_equal(out.data, want);
    json_buf_free(&out);
}

static void a_histogram_is_cumulative_and_ends_with_infinity(void **state)
{
    static const char want[] = "# HELP h_seconds Help.\n"
                               "# TYPE h_seconds histogram\n"
                               "h_seconds_bucket{le=\"0.00000001\"} 1\n"
                               "h_seconds_bucket{le=\"0.00000002\"} 1\n"
                               "h_seconds_bucket{le=\"0.02\"} 3\n"
                               "h_seconds_bucket{le=\"1\"} 3\n"
                               "h_seconds_bucket{le=\"+Inf\"} 4\n"
                               "h_seconds_sum 2.030000005\n"
                               "h_seconds_count 4\n";
    static const uint64_t values[] = {5, 10 * MS, 20 * MS, 2 * SEC};
    JsonBuf out = {0};
    Histogram h;

    (void)state;
    histogram_init(&h, bounds, 4);
    for (size_t i = 0; i < 4; i++)
        histogram_observe(&h, values[i]);
    exposition_histogram(&out, "h_seconds", "Help.", &h);
    assert_string_equal(out.data, want);
    json_buf_free(&out);
}

/* What stands between the quotes behind x=, unescaped as the format says; the line must end right
 * behind it. */
static size_t read_label(const char *line, char *value)
{
    const char *at = strstr(line, "{x=\"") + 4;
    size_t n = 0;

    for (; *at != '"'; at++) {
        assert_true(*at != '\0' && *at != '\n');
        if (*at == '\\') {
            at++;
            assert_non_null(strchr("n\\\"", *at));
            value[n++] = *at == 'n' ? '\n' : *at;
        } else {
            value[n++] = *at;
        }
    }
    assert_string_equal(at, "\"} 1\n");
    value[n] = '\0';
    return n;
}

static void check_label(const char *value, const char *want)
{
    JsonBuf out = {0};
    char got[512];

    exposition_count(&out, "a", 1, "x", value, NULL);
    assert_false(out.oom);
    read_label(out.data, got);
    assert_string_equal(got, want);
    json_buf_free(&out);
}

static void every_label_value_comes_back_as_it_was(void **state)
{
    char text[256], pair[3] = "";

    (void)state;
    for (int i = 1; i < 128; i++)
        text[i - 1] = (char)i;
    text[127] = '\0';
    check_label(text, text);
    check_label("", "");
    check_label("a \"name\" of \\some\\\nmodel, \xe2\x82\xac{}=\\n",
                "a \"name\" of \\some\\\nmodel, "
                "\xe2\x82\xac{}=\\n");
    for (int i = 1; i < 128; i++)
        for (int k = 1; k < 128; k++) {
            pair[0] = (char)i;
            pair[1] = (char)k;
            check_label(pair, pair);
        }
}

static void what_is_no_utf_8_becomes_a_replacement_character(void **state)
{
    (void)state;
    check_label("a\xff"
                "b",
                "a\xef\xbf\xbd"
                "b");
    check_label("\xc3", "\xef\xbf\xbd");
    check_label("\xe2\x82", "\xef\xbf\xbd");
    check_label("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    check_label("\xc3\"", "\xef\xbf\xbd\"");
}

/* ---- The process ---- */

static void numbers_are_found_behind_any_program_name(void **state)
{
    static const char *const names[] = {"llorch-cpud", "a b", ")", ") R 1 2 3", "(((", "", "x\ny"};
    char text[512];
    ProcessStats p;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(text, sizeof text,
                 "1234 (%s) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 123456789 1000 "
                 "18446744073709551615 26 27\n",
                 names[i]);
        p = (ProcessStats){.cpu_ns = 5};
        assert_true(process_stats_parse(&p, text, 4096));
        assert_int_equal(p.n_threads, 3);
        assert_int_equal(p.virtual_bytes, 123456789);
        assert_int_equal(p.resident_bytes, 4096000);
        assert_int_equal(p.cpu_ns, 5);
    }
}

static void a_text_that_is_no_stat_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "1",
        "1 (x)",
        "1 (x) ",
        "1 (x)S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 1 2 3\n",
        "1 (x S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 1 2 3\n",
        "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 -3 21 22 1 2 3\n",
        "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 y 2 3\n",
        "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 1 18446744073709551615 3\n",
        "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 1 99999999999999999999 3\n"};
    static const char good[] = "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 22 1 2";
    char text[sizeof good];
    ProcessStats p;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(process_stats_parse(&p, bad[i], 4096));
    for (size_t n = 0; n < sizeof good; n++) {
        snprintf(text, sizeof text, "%.*s", (int)n, good);
        assert_int_equal(process_stats_parse(&p, text, 4096), n == sizeof good - 1);
    }
}

static void the_process_is_what_the_system_says(void **state)
{
    ProcessStats p, again;
    int fds[3];

    (void)state;
    process_stats_read(&p);
    if (!p.has_memory || !p.has_fds || p.virtual_bytes == 0) {
        print_message("# no /proc of the system's own (an emulator shows zeros)\n");
        skip();
    }
    assert_int_equal(p.n_threads, 1);
    assert_in_range(p.resident_bytes, 100 * 1024, p.virtual_bytes);
    assert_int_equal(p.max_fds, (uint64_t)sysconf(_SC_OPEN_MAX));
    for (int i = 0; i < 3; i++)
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    process_stats_read(&again);
    assert_int_equal(again.n_fds, p.n_fds + 3);
    assert_true(again.cpu_ns > p.cpu_ns);
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
}

/* ---- Jobs ---- */

static uint64_t observations(const Histogram *h)
{
    uint64_t n = 0;

    for (int i = 0; i <= h->n_bounds; i++)
        n += h->counts[i];
    return n;
}

static void check_histogram(const Histogram *h, uint64_t n, uint64_t sum_ns)
{
    assert_int_equal(observations(h), n);
    assert_int_equal(h->sum_ns, sum_ns);
}

static void waiting_and_prompt_add_up_to_the_first_token(void **state)
{
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    metrics_accepted(&job, METRIC_EXECUTE, 1000 * MS);
    metrics_started(&m, &job, 1500 * MS);
    check_histogram(&m.queue, 1, 500 * MS);
    metrics_prompt(&m, &job, 30, 10);
    metrics_prompt_done(&job, 30);
    check_histogram(&m.first_token, 0, 0);
    metrics_token(&m, &job, 1700 * MS);
    metrics_token(&m, &job, 1720 * MS);
    metrics_token(&m, &job, 1745 * MS);
    metrics_ended(&m, &job, METRIC_LENGTH, 1750 * MS);
    check_histogram(&m.queue, 1, 500 * MS);
    check_histogram(&m.prefill, 1, 200 * MS);
    check_histogram(&m.first_token, 1, 700 * MS);
    check_histogram(&m.inter_token, 2, 45 * MS);
    check_histogram(&m.request, 1, 750 * MS);
    assert_int_equal(m.prompt_tokens, 30);
    assert_int_equal(m.cached_tokens, 10);
    assert_int_equal(m.generated_tokens, 3);
}

/* Two answers in one job: between them lies a prompt, which is no pause between tokens. */
static void the_time_between_two_texts_of_a_job_is_none_between_tokens(void **state)
{
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    metrics_accepted(&job, METRIC_COMPLETIONS, 0);
    metrics_started(&m, &job, MS);
    for (uint64_t i = 0; i < 2; i++) {
        metrics_prompt(&m, &job, 5, i > 0 ? 4 : 0);
        metrics_prompt_done(&job, 5);
        metrics_token(&m, &job, (100 + 1000 * i) * MS);
        metrics_token(&m, &job, (107 + 1000 * i) * MS);
    }
    metrics_ended(&m, &job, METRIC_STOP, 2000 * MS);
    check_histogram(&m.inter_token, 2, 14 * MS);
    check_histogram(&m.first_token, 1, 100 * MS);
    check_histogram(&m.prefill, 1, 99 * MS);
    assert_int_equal(m.prompt_tokens, 10);
    assert_int_equal(m.cached_tokens, 4);
    assert_int_equal(m.generated_tokens, 4);
    assert_int_equal(m.ended[METRIC_COMPLETIONS][METRIC_STOP], 1);
}

static void the_cache_fills_with_chunks_and_with_all_tokens_but_the_last(void **state)
{
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    metrics_accepted(&job, METRIC_EXECUTE, 0);
    assert_int_equal(job.n_kept, 0);
    metrics_started(&m, &job, 1);
    metrics_prompt(&m, &job, 100, 7);
    assert_int_equal(job.n_kept, 7);
    metrics_prompt_done(&job, 71);
    assert_int_equal(job.n_kept, 71);
    metrics_prompt_done(&job, 100);
    assert_int_equal(job.n_kept, 100);
    for (int i = 0; i < 5; i++) {
        metrics_token(&m, &job, (uint64_t)i + 2);
        assert_int_equal(job.n_kept, 100 + i);
    }
}

static void every_end_counts_once_under_its_own_name(void **state)
{
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    for (int api = 0; api < METRIC_N_APIS; api++)
        for (int i = 0; i < METRIC_N_OUTCOMES; i++) {
            metrics_accepted(&job, (MetricApi)api, 0);
            for (int n = 0; n <= i; n++)
                metrics_ended(&m, &job, (MetricOutcome)i, MS);
            for (int other = 0; other < METRIC_N_OUTCOMES; other++)
                assert_int_equal(m.ended[api][other], other <= i ? other + 1 : 0);
        }
    for (int i = 0; i < METRIC_N_REASONS; i++) {
        metrics_rejected(&m, (MetricReason)i);
        for (int other = 0; other < METRIC_N_REASONS; other++)
            assert_int_equal(m.rejected[other], other <= i);
    }
    for (int i = 0; i < METRIC_N_OUTCOMES; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(metrics_outcome_name((MetricOutcome)i),
                                    metrics_outcome_name((MetricOutcome)k));
    assert_int_equal(metrics_outcome_of(STOP_MAX_TOKENS), METRIC_LENGTH);
    assert_int_equal(metrics_outcome_of(STOP_EOS), METRIC_STOP);
    assert_int_equal(metrics_outcome_of(STOP_SEQUENCE), METRIC_STOP);
}

static void a_clock_that_steps_back_adds_nothing(void **state)
{
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    metrics_accepted(&job, METRIC_EXECUTE, 10 * SEC);
    metrics_started(&m, &job, 9 * SEC);
    metrics_prompt(&m, &job, 1, 0);
    metrics_token(&m, &job, 8 * SEC);
    metrics_token(&m, &job, 7 * SEC);
    metrics_ended(&m, &job, METRIC_STOP, 6 * SEC);
    check_histogram(&m.queue, 1, 0);
    check_histogram(&m.first_token, 1, 0);
    check_histogram(&m.inter_token, 1, 0);
    check_histogram(&m.request, 1, 0);
}

static void run_job(Metrics *m, uint64_t begin_ns, uint64_t token_ns, int n_tokens)
{
    JobMeter job;

    metrics_accepted(&job, METRIC_EXECUTE, begin_ns);
    metrics_started(m, &job, begin_ns);
    metrics_prompt(m, &job, 1, 0);
    for (int i = 0; i < n_tokens; i++)
        metrics_token(m, &job, begin_ns + token_ns * (uint64_t)i + SEC);
    metrics_ended(m, &job, METRIC_STOP, begin_ns + 2 * SEC);
}

static void the_speed_is_that_of_the_last_job_that_had_one(void **state)
{
    Metrics m;
    double speed = -1;

    (void)state;
    metrics_init(&m);
    assert_false(metrics_speed(&m, &speed));
    run_job(&m, SEC, 10 * MS, 1);
    assert_false(metrics_speed(&m, &speed));
    assert_true(speed == -1);
    run_job(&m, 10 * SEC, 10 * MS, 6);
    assert_true(metrics_speed(&m, &speed));
    assert_true(speed > 99.999 && speed < 100.001);
    run_job(&m, 20 * SEC, 1, 1);
    assert_true(metrics_speed(&m, &speed));
    assert_true(speed > 99.999 && speed < 100.001);
    run_job(&m, 30 * SEC, 20 * MS, 2);
    assert_true(metrics_speed(&m, &speed));
    assert_true(speed > 49.999 && speed < 50.001);
}

/* What a token costs: the worst bucket is the last one. Printed, and bounded with room for
 * sanitizers and emulators. */
static void counting_a_token_costs_nanoseconds(void **state)
{
    const int n = quick() ? 100000 : 2000000;
    const uint64_t steps[] = {MS, 35 * MS, 10 * SEC};
    Metrics m;
    JobMeter job;

    (void)state;
    metrics_init(&m);
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        uint64_t now = SEC;

        metrics_accepted(&job, METRIC_EXECUTE, 0);
        metrics_started(&m, &job, 0);
        metrics_prompt(&m, &job, 1, 0);
        const uint64_t begin = clock_cpu_ns();
        for (int i = 0; i < n; i++)
            metrics_token(&m, &job, now += steps[k]);
        const double each = (double)(clock_cpu_ns() - begin) / n;
        print_message("# a token every %" PRIu64 " ms: counted in %.1f ns\n", steps[k] / MS, each);
        assert_true(each < 2000);
    }
    assert_int_equal(m.generated_tokens, 3 * n);
    assert_int_equal(observations(&m.inter_token), 3 * (n - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_belongs_to_its_own_bucket),
        cmocka_unit_test(histograms_are_what_an_independent_recount_says),
        cmocka_unit_test(bounds_ascend_and_fit),
        cmocka_unit_test(a_text_is_as_the_format_says),
        cmocka_unit_test(a_histogram_is_cumulative_and_ends_with_infinity),
        cmocka_unit_test(every_label_value_comes_back_as_it_was),
        cmocka_unit_test(what_is_no_utf_8_becomes_a_replacement_character),
        cmocka_unit_test(numbers_are_found_behind_any_program_name),
        cmocka_unit_test(a_text_that_is_no_stat_is_refused),
        cmocka_unit_test(the_process_is_what_the_system_says),
        cmocka_unit_test(waiting_and_prompt_add_up_to_the_first_token),
        cmocka_unit_test(the_time_between_two_texts_of_a_job_is_none_between_tokens),
        cmocka_unit_test(the_cache_fills_with_chunks_and_with_all_tokens_but_the_last),
        cmocka_unit_test(every_end_counts_once_under_its_own_name),
        cmocka_unit_test(a_clock_that_steps_back_adds_nothing),
        cmocka_unit_test(the_speed_is_that_of_the_last_job_that_had_one),
        cmocka_unit_test(counting_a_token_costs_nanoseconds),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
