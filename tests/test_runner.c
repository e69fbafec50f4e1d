/* tests/test_runner.c: a job of several runs that is told to stop, for every reason and at every
 * place between its start and its end: its client hears of it once, as that reason, nothing more is
 * computed, and the job is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "worker/job_api.h"
#include "worker/runner.h"
#include "worker/worker_internal.h"

enum { N_RUNS = 3, N_TOKENS = 2, MAX_TURNS = 100 };

/* Where the reason to stop arrives. In LOOK it comes while the sockets are looked at between two
 * steps, in YIELD within one. */
typedef enum {
    NOWHERE,
    AT_START,       /* the look before the first run */
    AT_START_PLAIN, /* the same where nothing has to be prepared */
    PREPARE,
    TOKEN, /* a token of run `when` is told */
    NEXT,  /* its end is told */
    LOOK,  /* run `when` has begun, and no step of it is computed */
    YIELD  /* a step of it */
} Place;

static struct {
    Place place;
    JobStop why;
    int when; /* a run, from 0 */

    Worker worker;
    Job *job;
    int run;           /* the one that is computed or comes next */
    int n_done;        /* steps of it */
    bool has_stopped;  /* the reason has arrived: nothing may be computed from here on */
    bool failed_start; /* of run `when` */
    int n_starts, n_cancels, n_tokens, n_ends, n_errors;
    JobFailureKind kind;
    char message[128];
} t;

/* What comes after the first reason changes nothing. */
static void arrive(Place place)
{
    if (t.place != place || (place >= TOKEN && t.run != t.when) || t.has_stopped)
        return;
    t.has_stopped = true;
    job_stop(t.job, t.why);
    job_stop(t.job, t.why == JOB_CANCELLED ? JOB_TIMED_OUT : JOB_CANCELLED);
}

/* --- what the runner calls in worker.c --- */

bool worker_service_due(const Worker *w, uint64_t min_gap_ns)
{
    (void)w;
    (void)min_gap_ns;
    return true;
}

bool worker_service(Worker *w)
{
    (void)w;
    if (t.n_starts == 0)
        arrive(t.place == AT_START_PLAIN ? AT_START_PLAIN : AT_START);
    else
        arrive(YIELD);
    return true;
}

/* --- the backend: runs of two tokens --- */

static const BackendInfo *info(const Backend *b)
{
    static const BackendInfo some = {.model_name = "m", .n_ctx = 8};

    (void)b;
    return &some;
}

static ErrCode start(Backend *b, const BackendRequest *request, Err *err)
{
    (void)b;
    (void)request;
    assert_false(t.has_stopped);
    t.n_starts++;
    t.n_done = 0;
    if (t.failed_start && t.run == t.when)
        return err_set(err, ERR_LIMIT, "too long");
    return ERR_OK;
}

static ErrCode step(Backend *b, const Tap *tap, BackendStep *out, Err *err)
{
    (void)b;
    assert_false(t.has_stopped);
    *out = (BackendStep){.kind = STEP_TOKEN, .text = "x", .n_text = 1};
    if (t.n_done++ < N_TOKENS) {
        const bool goes_on = tap_yield(tap);

        assert_int_equal(goes_on, !t.has_stopped);
        return goes_on ? ERR_OK : err_set(err, ERR_CANCELLED, "stopped");
    }
    *out = (BackendStep){.kind = STEP_END, .id = -1, .reason = STOP_MAX_TOKENS};
    return ERR_OK;
}

static void cancel(Backend *b)
{
    (void)b;
    t.n_cancels++;
}

static int five(const Backend *b)
{
    (void)b;
    return 5;
}

static const BackendOps ops = {.info = info,
                               .start = start,
                               .step = step,
                               .cancel = cancel,
                               .n_prompt_tokens = five,
                               .n_cached_tokens = five};

/* --- the API --- */

static void started(Worker *w, Job *job)
{
    (void)w;
    (void)job;
}

static bool prepare(Worker *w, Job *job)
{
    (void)w;
    (void)job;
    assert_false(t.has_stopped);
    arrive(PREPARE);
    return false;
}

static void token(Worker *w, Job *job, const BackendStep *s)
{
    (void)w;
    (void)job;
    (void)s;
    assert_int_equal(t.n_errors + t.n_ends, 0);
    t.n_tokens++;
    arrive(TOKEN);
}

static bool next_run(Worker *w, Job *job, const BackendStep *end)
{
    (void)w;
    (void)job;
    assert_int_equal(end->reason, STOP_MAX_TOKENS);
    arrive(NEXT);
    return ++t.run < N_RUNS;
}

static void end(Worker *w, Job *job, const BackendStep *s)
{
    (void)w;
    (void)job;
    (void)s;
    t.n_ends++;
}

static void error(Worker *w, Job *job, const JobFailure *f)
{
    (void)w;
    (void)job;
    t.n_errors++;
    t.kind = f->kind;
    snprintf(t.message, sizeof t.message, "%s", f->message);
}

static const JobApi api = {.metric = METRIC_COMPLETIONS,
                           .started = started,
                           .prepare = prepare,
                           .token = token,
                           .next_run = next_run,
                           .end = end,
                           .error = error};

/* As of /execute: it has nothing to prepare. */
static const JobApi plain_api = {.metric = METRIC_COMPLETIONS,
                                 .started = started,
                                 .token = token,
                                 .next_run = next_run,
                                 .end = end,
                                 .error = error};

/* --- cases --- */

/* The loop of worker.c: a step, a look. */
static void turn_until_it_is_over(void)
{
    runner_start(&t.worker);
    for (int n = 0; t.worker.jobs.running != NULL; n++) {
        assert_true(n < MAX_TURNS);
        runner_step(&t.worker);
        if (t.worker.jobs.running != NULL && t.n_done == 0)
            arrive(LOOK);
    }
    assert_int_equal(t.n_ends + t.n_errors, 1);
    assert_int_equal(t.worker.jobs.n_jobs, 0);
}

static void run_job(Place place, int when, JobStop why, bool failed_start)
{
    static const WorkerOptions options = {.inference_timeout_sec = 7};
    static const Backend backend = {.ops = &ops};
    const Request request = {.root = NULL};
    size_t total = 0;
    Err err;

    memset(&t, 0, sizeof t);
    t.place = place;
    t.when = when;
    t.why = why;
    t.failed_start = failed_start;
    t.worker.options = &options;
    t.worker.backend = (Backend *)(uintptr_t)&backend;
    metrics_init(&t.worker.metrics);
    assert_true(job_queue_plan(&total, 1));
    assert_int_equal(arena_init(&t.worker.arena, total, "jobs", &err), ERR_OK);
    assert_true(job_queue_init(&t.worker.jobs, &t.worker.arena, 1));
    t.job =
        job_queue_push(&t.worker.jobs, place == AT_START_PLAIN ? &plain_api : &api, &request, 0);
    t.job->request.job_id = (BackendText){"id", 2};
    metrics_accepted(&t.job->meter, api.metric, 1);
    turn_until_it_is_over();
    arena_free(&t.worker.arena);
}

static const struct {
    JobStop why;
    JobFailureKind kind;
    MetricOutcome outcome;
    const char *message;
} reasons[] = {
    {JOB_CANCELLED, FAIL_CANCELLED, METRIC_CANCELLED, "Request cancelled by client"},
    {JOB_CLIENT_GONE, FAIL_CANCELLED, METRIC_DISCONNECTED, "Request cancelled by client"},
    {JOB_TIMED_OUT, FAIL_TIMEOUT, METRIC_TIMEOUT, "inference exceeded its time limit of 7 s"},
    {JOB_SHUTDOWN, FAIL_SHUTDOWN, METRIC_SHUTDOWN, "worker is shutting down"},
    {JOB_NO_MEMORY, FAIL_COMPUTING, METRIC_FAILED, "out of memory"},
    {JOB_TOO_LONG, FAIL_INVALID, METRIC_REFUSED, "a prompt is longer than the context of 8 tokens"},
    {JOB_TOO_LARGE, FAIL_INVALID, METRIC_REFUSED,
     "the answer is too large: ask for fewer prompts, choices or logprobs"},
};

enum { N_REASONS = sizeof reasons / sizeof *reasons };

static void assert_stops(Place place, int when)
{
    for (int i = 0; i < N_REASONS; i++) {
        const Metrics *m = &t.worker.metrics;

        run_job(place, when, reasons[i].why, false);
        assert_true(t.has_stopped);
        assert_int_equal(t.n_errors * 10 + t.n_ends, 10);
        assert_int_equal(t.kind, reasons[i].kind);
        assert_string_equal(t.message, reasons[i].message);
        assert_int_equal(t.n_cancels, 1);
        for (int k = 0; k < METRIC_N_OUTCOMES; k++)
            assert_int_equal(m->ended[METRIC_COMPLETIONS][k], k == (int)reasons[i].outcome);
    }
}

static void all_runs_are_one_job(void **state)
{
    (void)state;
    run_job(NOWHERE, 0, JOB_GO_ON, false);
    assert_int_equal(t.n_ends, 1);
    assert_int_equal(t.n_starts, N_RUNS);
    assert_int_equal(t.n_tokens, N_RUNS * N_TOKENS);
    assert_int_equal(t.n_cancels, 0);
    assert_int_equal(t.worker.metrics.ended[METRIC_COMPLETIONS][METRIC_LENGTH], 1);
    assert_int_equal(t.worker.metrics.prompt_tokens, 5 * N_RUNS);
    assert_int_equal(t.worker.metrics.generated_tokens, N_RUNS * N_TOKENS);
}

static void a_stop_before_the_first_run_is_heeded(void **state)
{
    (void)state;
    assert_stops(AT_START, 0);
    assert_int_equal(t.n_starts, 0);
    assert_stops(AT_START_PLAIN, 0);
    assert_int_equal(t.n_starts, 0);
    assert_stops(PREPARE, 0);
    assert_int_equal(t.n_starts, 0);
}

/* An answer that became too large, no memory for a chunk: by the last run, too, whose answer would
 * be sent else. */
static void a_stop_while_the_end_of_a_run_is_told_is_heeded(void **state)
{
    (void)state;
    for (int run = 0; run < N_RUNS; run++) {
        assert_stops(NEXT, run);
        assert_int_equal(t.n_starts, run + 1);
        assert_int_equal(t.n_tokens, (run + 1) * N_TOKENS);
    }
}

/* The next run has begun, and no step of it is computed. */
static void a_stop_between_two_runs_is_heeded(void **state)
{
    (void)state;
    for (int run = 0; run < N_RUNS; run++) {
        assert_stops(LOOK, run);
        assert_int_equal(t.n_starts, run + 1);
        assert_int_equal(t.n_tokens, run * N_TOKENS);
    }
}

static void a_stop_within_a_run_is_heeded(void **state)
{
    (void)state;
    for (int run = 0; run < N_RUNS; run++) {
        assert_stops(YIELD, run);
        assert_int_equal(t.n_tokens, run * N_TOKENS);
        assert_stops(TOKEN, run);
        assert_int_equal(t.n_tokens, run * N_TOKENS + 1);
    }
}

static void a_run_that_cannot_begin_ends_the_job(void **state)
{
    (void)state;
    for (int run = 0; run < N_RUNS; run++) {
        run_job(NOWHERE, run, JOB_GO_ON, true);
        assert_int_equal(t.n_errors, 1);
        assert_int_equal(t.kind, FAIL_INVALID);
        assert_string_equal(t.message, "too long");
        assert_int_equal(t.n_starts, run + 1);
        assert_int_equal(t.n_tokens, run * N_TOKENS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_runs_are_one_job),
        cmocka_unit_test(a_stop_before_the_first_run_is_heeded),
        cmocka_unit_test(a_stop_while_the_end_of_a_run_is_told_is_heeded),
        cmocka_unit_test(a_stop_between_two_runs_is_heeded),
        cmocka_unit_test(a_stop_within_a_run_is_heeded),
        cmocka_unit_test(a_run_that_cannot_begin_ends_the_job),
    };

    log_init(LOG_ERROR, "w"); /* each job has two lines */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
