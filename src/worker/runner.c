/* worker/runner.c: between two yields of the model the sockets are served, and every reason to stop
 * only marks the job. Ending it is left to the main loop, so nothing is freed under a computing
 * step.
 *
 * May include: common, backend. */
#include "worker/runner.h"

#include <stdio.h>

#include "backend/backend.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/events.h"
#include "worker/job_log.h"
#include "worker/job_stream.h"
#include "worker/metrics.h"

#define NS_PER_SEC UINT64_C(1000000000)

/* How a job that must stop ends on the wire. */
typedef struct {
    const char *code;
    const char *message;
    bool retriable;
} Failure;

static const char cancelled_text[] = "Request cancelled by client";

static Failure failure_of_stop(const Worker *w, JobStop why, char *text, size_t size)
{
    switch (why) {
    case JOB_TIMED_OUT:
        snprintf(text, size, "inference exceeded its time limit of %d s",
                 w->options->inference_timeout_sec);
        return (Failure){"TIMEOUT", text, true};
    case JOB_SHUTDOWN:
        return (Failure){"CANCELLED", "worker is shutting down", false};
    case JOB_NO_MEMORY:
        return (Failure){"INFERENCE_FAILED", "out of memory", true};
    default:
        return (Failure){"CANCELLED", cancelled_text, false};
    }
}

static Failure failure_of_error(const Err *err)
{
    if (err->code == ERR_LIMIT)
        return (Failure){"INVALID_REQUEST", err->msg, false};
    return (Failure){"INFERENCE_FAILED", err->code == ERR_MEMORY ? "out of memory" : err->msg,
                     true};
}

/* The speed of decoding: tokens after the first, whose time is the prompt's. */
static double tokens_per_sec(const Job *job)
{
    const uint64_t ns = job->last_token_ns - job->first_token_ns;

    return ns == 0 ? 0 : (double)(job->tokens_out - 1) * (double)NS_PER_SEC / (double)ns;
}

/* The last of a job: counted, then gone. */
static void remove_job(Worker *w, Job *job, MetricOutcome outcome)
{
    metrics_ended(&w->metrics, &job->meter, outcome, clock_now_ns());
    job_queue_remove(&w->jobs, job);
}

static MetricOutcome outcome_of_stop(JobStop why)
{
    switch (why) {
    case JOB_CANCELLED:
        return METRIC_CANCELLED;
    case JOB_CLIENT_GONE:
        return METRIC_DISCONNECTED;
    case JOB_TIMED_OUT:
        return METRIC_TIMEOUT;
    case JOB_SHUTDOWN:
        return METRIC_SHUTDOWN;
    default:
        return METRIC_FAILED;
    }
}

static void fail_running(Worker *w, const Failure *f)
{
    Job *job = w->jobs.running;

    w->backend->ops->cancel(w->backend);
    job_stream_error(w, job, f->code, f->message, f->retriable);
    job_log_finished(job, f->code,
                     job->stop == JOB_CLIENT_GONE ? "Client disconnected" : f->message);
    remove_job(w, job, outcome_of_stop(job->stop));
}

static void stop_running(Worker *w)
{
    char text[96];
    const Failure f = failure_of_stop(w, w->jobs.running->stop, text, sizeof text);

    fail_running(w, &f);
}

void runner_drop_waiting(Worker *w, Job *job, JobStop why)
{
    char text[96];
    const Failure f = failure_of_stop(w, why, text, sizeof text);

    job_stop(job, why);
    job_stream_error(w, job, f.code, f.message, f.retriable);
    job_log_finished(job, f.code, why == JOB_CLIENT_GONE ? "Client disconnected" : f.message);
    remove_job(w, job, outcome_of_stop(why));
}

void runner_start(Worker *w)
{
    Job *job = job_queue_start(&w->jobs);
    Err err = {.code = ERR_OK};

    job_stream_started(w, job);
    metrics_started(&w->metrics, &job->meter, job->started_ns);
    job_log_started(job);
    worker_service(w);          /* `started` leaves before the first long chunk of the prompt */
    if (job->stop != JOB_GO_ON) /* the next step ends it */
        return;
    if (w->backend->ops->start(w->backend, &job->request.run, &err) != ERR_OK) {
        const Failure f = failure_of_error(&err);

        fail_running(w, &f);
        return;
    }
    job->prompt_tokens = w->backend->ops->n_prompt_tokens(w->backend);
    job->cached_tokens = w->backend->ops->n_cached_tokens(w->backend);
    metrics_prompt(&w->metrics, &job->meter, job->prompt_tokens, job->cached_tokens);
    job->first_step_ns = clock_now_ns();
}

/* Handed to the model. A job is never begun or ended in here. */
static bool on_yield(void *ctx)
{
    Worker *w = ctx;

    if (worker_service_due(w, WORKER_PUMP_GAP_NS))
        worker_service(w);
    return !w->exit_now && w->jobs.running->stop == JOB_GO_ON;
}

static void on_token(Worker *w, Job *job, const BackendStep *step)
{
    const uint64_t now = clock_now_ns();

    if (job->tokens_out == 0)
        job->first_token_ns = now;
    job->last_token_ns = now;
    metrics_token(&w->metrics, &job->meter, now);
    job_stream_token(w, job, step->text, step->n_text);
}

static void describe_end(char *out, size_t size, const BackendStep *step)
{
    if (step->reason == STOP_SEQUENCE)
        snprintf(out, size, "Matched stop sequence: \"%.*s\"", (int)step->n_matched, step->matched);
    else
        snprintf(out, size, "%s",
                 step->reason == STOP_EOS ? "End of sequence token generated"
                                          : "Reached max_tokens limit");
}

static void end_running(Worker *w, Job *job, const BackendStep *step)
{
    const uint64_t now = clock_now_ns();
    const uint64_t last = job->tokens_out > 0 ? job->last_token_ns : now;
    const EventEnd end = {
        .tokens_out = job->tokens_out,
        .decode_time_ms = (last - job->first_step_ns) / 1000000,
        .reason = step->reason,
        .matched = {.text = step->matched, .n_bytes = step->n_matched},
        .seed = job->request.run.sampling.seed,
        .prompt_tokens = job->prompt_tokens,
        .cached_tokens = job->cached_tokens,
        .time_to_first_token_ms =
            job->tokens_out > 0 ? (job->first_token_ns - job->started_ns) / 1000000 : 0,
        .tokens_per_sec = tokens_per_sec(job),
    };
    char detail[BACKEND_MAX_STOP_CHARS * 4 + 32];

    if (now - job->started_ns >= NS_PER_SEC)
        job_stream_metrics(w, job, end.tokens_per_sec);
    job_stream_end(w, job, &end);
    describe_end(detail, sizeof detail, step);
    job_log_finished(job, events_reason_name(step->reason), detail);
    remove_job(w, job, metrics_outcome_of(step->reason));
}

void runner_step(Worker *w)
{
    const Tap tap = {.ctx = w, .yield = on_yield};
    Job *job = w->jobs.running;
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {.code = ERR_OK};
    ErrCode code = ERR_OK;

    if (job->stop == JOB_GO_ON)
        code = w->backend->ops->step(w->backend, &tap, &step, &err);
    if (w->exit_now)
        return;
    if (job->stop != JOB_GO_ON) {
        stop_running(w);
    } else if (code != ERR_OK) {
        const Failure f = failure_of_error(&err);

        fail_running(w, &f);
    } else if (step.kind == STEP_TOKEN) {
        on_token(w, job, &step);
    } else if (step.kind == STEP_PROMPT) {
        metrics_prompt_done(&job->meter, step.n_prompt_done);
    } else if (step.kind == STEP_END) {
        end_running(w, job, &step);
    }
}

bool runner_paused(const Worker *w)
{
    const Job *job = w->jobs.running;

    return job->stop == JOB_GO_ON && job_stream_blocked(job);
}

void runner_tick(Worker *w)
{
    const uint64_t now = clock_now_ns();
    const uint64_t limit_ns = (uint64_t)w->options->inference_timeout_sec * NS_PER_SEC;
    Job *running = w->jobs.running;

    for (Job *job = w->jobs.first; job != NULL; job = job->next)
        job_stream_keep_alive(w, job, now);
    if (running == NULL)
        return;
    if (job_stream_metrics_due(running, now))
        job_stream_metrics(w, running, tokens_per_sec(running));
    job_stream_keep_alive(w, running, now);
    if (running->started_ns != 0 && now > running->started_ns &&
        now - running->started_ns >= limit_ns)
        job_stop(running, JOB_TIMED_OUT);
}
