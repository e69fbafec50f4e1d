/* worker/execute_api.c: see execute_api.h. The order of contract 6.3 is kept here.
 *
 * May include: common, http, backend. */
#include "worker/execute_api.h"

#include "backend/backend.h"
#include "common/clock.h"
#include "worker/answer.h"
#include "worker/events.h"
#include "worker/intake.h"
#include "worker/job_api.h"
#include "worker/job_stream.h"
#include "worker/request.h"

#define NS_PER_SEC UINT64_C(1000000000)

/* The name in `started`: no job runs before the model is there. */
static const char *model_name(const Worker *w)
{
    return w->backend->ops->info(w->backend)->model_name;
}

/* Headers and `started` are out after this. */
static void ensure_started(Worker *w, Job *job)
{
    job_stream_begin(job);
    if (job->started_sent)
        return;
    job->started_sent = true;
    if (job->started_ns == 0)
        clock_iso_utc(job->started_at);
    events_started(&w->scratch, job->request.job_id, model_name(w), job->started_at,
                   job->request.run.sampling.seed, job->correlation_id);
    job_stream_flush(w, job);
}

static void say_accepted(Worker *w, Job *job)
{
    if (!w->options->defer_headers)
        job_stream_begin(job);
}

static void say_started(Worker *w, Job *job)
{
    if (!w->options->defer_headers)
        ensure_started(w, job);
}

static void say_token(Worker *w, Job *job, const BackendStep *step)
{
    ensure_started(w, job);
    events_token(&w->scratch, step->text, step->n_text, job->tokens_out);
    job_stream_flush(w, job);
}

static void say_metrics(Worker *w, Job *job)
{
    const uint64_t last_sent_ns = job->last_sent_ns;

    ensure_started(w, job);
    events_metrics(&w->scratch, job_tokens_per_sec(job),
                   w->backend->ops->info(w->backend)->memory_bytes, job->tokens_out,
                   job->cached_tokens);
    job->last_metrics_ns = clock_now_ns();
    job_stream_flush(w, job);
    job->last_sent_ns =
        last_sent_ns; /* clients wait for tokens: silence is measured without metrics */
}

static void say_end(Worker *w, Job *job, const BackendStep *step)
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
        .tokens_per_sec = job_tokens_per_sec(job),
    };

    if (now - job->started_ns >= NS_PER_SEC)
        say_metrics(w, job);
    ensure_started(w, job);
    events_end(&w->scratch, &end);
    job_stream_finish(w, job);
}

/* With deferred headers nothing may have been said yet. Then a shutdown is no end of the job: the
 * client, or the balancer that waits for these headers, can still ask another worker. */
static bool refused_late(Job *job, const JobFailure *f)
{
    const ApiError e = {.status = 503, .message = "the worker is shutting down"};

    if (f->kind != FAIL_SHUTDOWN || job->conn == NULL || http_stream_begun(job->conn))
        return false;
    answer_error(job_stream_take(job), "/execute", &e, "Retry-After: 1\r\n", false);
    return true;
}

static void say_error(Worker *w, Job *job, const JobFailure *f)
{
    if (refused_late(job, f))
        return;
    ensure_started(w, job);
    events_error(&w->scratch, job_failure_name(f->kind), f->message, f->retriable, job->tokens_out);
    job_stream_finish(w, job);
}

static const JobApi execute_api = {.accepted = say_accepted,
                                   .started = say_started,
                                   .token = say_token,
                                   .metrics = say_metrics,
                                   .end = say_end,
                                   .error = say_error};

void execute_post(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    Request parsed;
    Job *job;
    const int status = request_parse(&parsed, request->body, request->n_body, w->backend, &answer);

    if (status != 200) {
        answer_json(conn, request->path, status, NULL, &answer);
        return;
    }
    json_buf_free(&answer);
    if (intake_refused(w, conn, request, 0)) {
        request_free(&parsed);
        return;
    }
    job = intake_push(w, conn, request, &execute_api, &parsed, 0);
    job->api->accepted(w, job);
}
