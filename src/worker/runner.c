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
#include "worker/job_api.h"
#include "worker/job_log.h"
#include "worker/job_stream.h"
#include "worker/metrics.h"

#define NS_PER_SEC UINT64_C(1000000000)

static const char cancelled_text[] = "Request cancelled by client";

const char *job_failure_name(JobFailureKind kind)
{
    switch (kind) {
    case FAIL_TIMEOUT:
        return "TIMEOUT";
    case FAIL_INVALID:
        return "INVALID_REQUEST";
    case FAIL_COMPUTING:
        return "INFERENCE_FAILED";
    default:
        return "CANCELLED";
    }
}

static JobFailure failure_of_stop(const Worker *w, JobStop why, char *text, size_t size)
{
    switch (why) {
    case JOB_TIMED_OUT:
        snprintf(text, size, "inference exceeded its time limit of %d s",
                 w->options->inference_timeout_sec);
        return (JobFailure){FAIL_TIMEOUT, text, true};
    case JOB_SHUTDOWN:
        return (JobFailure){FAIL_SHUTDOWN, "worker is shutting down", false};
    case JOB_NO_MEMORY:
        return (JobFailure){FAIL_COMPUTING, "out of memory", true};
    case JOB_TOO_LONG:
        snprintf(text, size, "a prompt is longer than the context of %d tokens",
                 w->backend->ops->info(w->backend)->n_ctx);
        return (JobFailure){FAIL_INVALID, text, false};
    case JOB_TOO_LARGE:
        return (JobFailure){FAIL_INVALID,
                            "the answer is too large: ask for fewer prompts, choices or logprobs",
                            false};
    default:
        return (JobFailure){FAIL_CANCELLED, cancelled_text, false};
    }
}

static JobFailure failure_of_error(const Err *err)
{
    if (err->code == ERR_LIMIT)
        return (JobFailure){FAIL_INVALID, err->msg, false};
    return (JobFailure){FAIL_COMPUTING, err->code == ERR_MEMORY ? "out of memory" : err->msg, true};
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
    case JOB_TOO_LONG:
    case JOB_TOO_LARGE:
        return METRIC_REFUSED;
    default:
        return METRIC_FAILED;
    }
}

/* Tells the client and the log, and the job is gone. */
static void fail_job(Worker *w, Job *job, const JobFailure *f)
{
    job->api->error(w, job, f);
    job_log_finished(job, job_failure_name(f->kind),
                     job->stop == JOB_CLIENT_GONE ? "Client disconnected" : f->message);
    remove_job(w, job, outcome_of_stop(job->stop));
}

static void fail_running(Worker *w, const JobFailure *f)
{
    w->backend->ops->cancel(w->backend);
    fail_job(w, w->jobs.running, f);
}

static void stop_running(Worker *w)
{
    char text[96];
    const JobFailure f = failure_of_stop(w, w->jobs.running->stop, text, sizeof text);

    fail_running(w, &f);
}

void runner_drop_waiting(Worker *w, Job *job, JobStop why)
{
    char text[96];
    const JobFailure f = failure_of_stop(w, why, text, sizeof text);

    job_stop(job, why);
    fail_job(w, job, &f);
}

/* job->request.run begins. */
static void start_run(Worker *w, Job *job)
{
    Err err = {.code = ERR_OK};

    if (w->backend->ops->start(w->backend, &job->request.run, &err) != ERR_OK) {
        const JobFailure f = failure_of_error(&err);

        fail_running(w, &f);
        return;
    }
    job->prompt_tokens += w->backend->ops->n_prompt_tokens(w->backend);
    job->cached_tokens += w->backend->ops->n_cached_tokens(w->backend);
    metrics_prompt(&w->metrics, &job->meter, w->backend->ops->n_prompt_tokens(w->backend),
                   w->backend->ops->n_cached_tokens(w->backend));
    job->run_tokens = 0;
    if (job->first_step_ns == 0)
        job->first_step_ns = clock_now_ns();
}

void runner_start(Worker *w)
{
    Job *job = job_queue_start(&w->jobs);

    job->started_ns = job->last_metrics_ns = clock_now_ns();
    metrics_started(&w->metrics, &job->meter, job->started_ns);
    clock_iso_utc(job->started_at);
    job->api->started(w, job);
    job_log_started(job);
    worker_service(w); /* `started` leaves before the first long chunk of the prompt */
    job->preparing = job->api->prepare != NULL;
    if (job->stop == JOB_GO_ON && !job->preparing) /* else the next step does it, or ends the job */
        start_run(w, job);
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
    if (job->run_tokens++ > 0) {
        job->decode_ns += now - job->last_token_ns;
        job->n_decoded++;
    }
    job->last_token_ns = now;
    metrics_token(&w->metrics, &job->meter, now);
    job->api->token(w, job, step);
    job->tokens_out++;
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

/* The run is over: the next one of the job begins, or the job ends. */
static void end_run(Worker *w, Job *job, const BackendStep *step)
{
    char detail[BACKEND_MAX_STOP_CHARS * 4 + 32];

    const bool more = job->api->next_run != NULL && job->api->next_run(w, job, step);

    if (job->stop != JOB_GO_ON) { /* what it had to say found no room */
        stop_running(w);
        return;
    }
    if (more) {
        start_run(w, job);
        return;
    }
    job->api->end(w, job, step);
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

    if (job->stop == JOB_GO_ON && job->preparing) {
        job->preparing = job->api->prepare(w, job);
        if (job->stop == JOB_GO_ON && !job->preparing)
            start_run(w, job);
        return;
    }
    if (job->stop == JOB_GO_ON)
        code = w->backend->ops->step(w->backend, &tap, &step, &err);
    if (w->exit_now)
        return;
    if (job->stop != JOB_GO_ON) {
        stop_running(w);
    } else if (code != ERR_OK) {
        const JobFailure f = failure_of_error(&err);

        fail_running(w, &f);
    } else if (step.kind == STEP_TOKEN) {
        on_token(w, job, &step);
    } else if (step.kind == STEP_PROMPT_TOKEN) {
        metrics_prompt_done(&job->meter, step.n_prompt_done);
        job->api->token(w, job, &step);
    } else if (step.kind == STEP_PROMPT) {
        metrics_prompt_done(&job->meter, step.n_prompt_done);
    } else if (step.kind == STEP_END) {
        end_run(w, job, &step);
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
    if (running->api->metrics != NULL && job_stream_metrics_due(running, now))
        running->api->metrics(w, running);
    job_stream_keep_alive(w, running, now);
    if (running->started_ns != 0 && now > running->started_ns &&
        now - running->started_ns >= limit_ns)
        job_stop(running, JOB_TIMED_OUT);
}
