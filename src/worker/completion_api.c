/* worker/completion_api.c: see completion_api.h. compat/completion.h knows what is said, this when
 * and where to.
 *
 * May include: common, http, backend, compat. */
#include "worker/completion_api.h"

#include <string.h>

#include "backend/backend.h"
#include "compat/completion.h"
#include "compat/completion_request.h"
#include "worker/answer.h"
#include "worker/intake.h"
#include "worker/job_api.h"
#include "worker/job_stream.h"

static const char path[] = "/v1/completions";

static bool is_stream(const Job *job)
{
    return job->completion.request.stream;
}

/* "data: ...", around what the caller writes to the scratch buffer; no JSON here has a line break.
 */
static void begin_data(Worker *w)
{
    json_buf_add(&w->scratch, "data: ", 6);
}

static void end_data(Worker *w)
{
    json_buf_add(&w->scratch, "\n\n", 2);
}

static void send_chunk(Worker *w, Job *job)
{
    job_stream_begin(job);
    begin_data(w);
    completion_chunk(&job->completion, w->backend, &w->scratch);
    end_data(w);
    job_stream_flush(w, job);
}

static void say_accepted(Worker *w, Job *job)
{
    if (is_stream(job) && !w->options->defer_headers)
        job_stream_begin(job);
}

/* OpenAI has no word for it. */
static void say_started(Worker *w, Job *job)
{
    (void)w;
    (void)job;
}

static bool prepare(Worker *w, Job *job)
{
    bool too_long;
    const bool more = completion_request_check(&job->completion.request, w->backend, &too_long);

    if (too_long)
        job_stop(job, JOB_TOO_LONG);
    return more;
}

/* What can grow has grown: it must not do so without end. */
static void check_size(Job *job)
{
    if (completion_oom(&job->completion))
        job_stop(job, JOB_NO_MEMORY);
    else if (completion_too_large(&job->completion))
        job_stop(job, JOB_TOO_LARGE);
}

static void say_token(Worker *w, Job *job, const BackendStep *step)
{
    completion_add(&job->completion, w->backend, step);
    if (is_stream(job) && completion_has_chunk(&job->completion, step))
        send_chunk(w, job);
    check_size(job);
}

static bool next_run(Worker *w, Job *job, const BackendStep *end)
{
    Completion *c = &job->completion;

    completion_end_run(c, w->backend, end);
    if (is_stream(job))
        send_chunk(w, job); /* the one with the reason */
    check_size(job);
    if (!completion_next(c))
        return false;
    completion_run(c, &job->request.run);
    return true;
}

static void end_stream(Worker *w, Job *job)
{
    if (job->completion.request.include_usage) {
        begin_data(w);
        completion_usage_chunk(&job->completion, w->backend, &w->scratch);
        end_data(w);
    }
    begin_data(w);
    json_buf_add(&w->scratch, "[DONE]", 6);
    end_data(w);
    job_stream_finish(w, job);
}

static void say_end(Worker *w, Job *job, const BackendStep *end)
{
    JsonBuf *answer = &job->completion.answer;
    HttpConn *conn;

    (void)end;
    if (is_stream(job)) {
        end_stream(w, job);
        return;
    }
    completion_finish(&job->completion);
    conn = job_stream_take(job);
    if (conn == NULL)
        return;
    if (answer->oom) {
        answer_json(conn, path, 500, NULL, answer);
        return;
    }
    http_respond_with(conn, 200, "application/json", answer->data, answer->len);
    *answer = (JsonBuf){.data = NULL}; /* it is the connection's now */
}

/* 499 is what proxies say of clients that went away, and nobody tries again after it, unlike 408,
 * 409 and all of 5xx. What took too long once would do so again. */
static int status_of(JobFailureKind kind)
{
    switch (kind) {
    case FAIL_CANCELLED:
        return 499;
    case FAIL_SHUTDOWN:
        return 503;
    case FAIL_TIMEOUT:
        return 408;
    case FAIL_INVALID:
        return 400;
    default:
        return 500;
    }
}

static const char *code_of(const Job *job, JobFailureKind kind)
{
    if (kind == FAIL_CANCELLED)
        return "cancelled";
    if (kind == FAIL_INVALID)
        return job->stop == JOB_TOO_LARGE ? "answer_too_large" : "context_length_exceeded";
    return kind == FAIL_TIMEOUT ? "timeout" : NULL;
}

static const char *headers_of(JobFailureKind kind)
{
    if (kind == FAIL_SHUTDOWN)
        return "Retry-After: 1\r\n";
    return kind == FAIL_TIMEOUT ? "X-Should-Retry: false\r\n" : NULL;
}

/* In a stream that has begun it is too late for a status: the error is the last chunk, and no
 * [DONE] follows. */
static void say_error(Worker *w, Job *job, const JobFailure *f)
{
    const ApiError e = {
        .status = status_of(f->kind), .message = f->message, .code = code_of(job, f->kind)};
    HttpConn *conn;

    if (job->conn != NULL && http_stream_begun(job->conn)) {
        json_buf_free(&w->scratch); /* it may have been this that there was no memory for */
        begin_data(w);
        answer_error_body(&w->scratch, path, &e, f->retriable);
        end_data(w);
        job_stream_finish(w, job);
        return;
    }
    conn = job_stream_take(job);
    if (conn != NULL)
        answer_error(conn, path, &e, headers_of(f->kind), f->retriable);
}

static const JobApi completion_api = {.metric = METRIC_COMPLETIONS,
                                      .accepted = say_accepted,
                                      .started = say_started,
                                      .prepare = prepare,
                                      .token = say_token,
                                      .next_run = next_run,
                                      .end = say_end,
                                      .error = say_error};

void completion_post(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    CompletionRequest parsed;
    Request first = {.root = NULL};
    Job *job;
    const int status =
        completion_request_parse(&parsed, request->body, request->n_body, w->backend, &answer);

    if (status != 200) {
        metrics_rejected(&w->metrics, status == 500 ? METRIC_NO_MEMORY : METRIC_INVALID);
        answer_json(conn, request->path, status, NULL, &answer);
        return;
    }
    json_buf_free(&answer);
    if (intake_refused(w, conn, request, request->n_body)) {
        completion_request_free(&parsed);
        return;
    }
    job = intake_push(w, conn, request, &completion_api, &first, request->n_body);
    completion_begin(&job->completion, &parsed, job->correlation_id);
    completion_run(&job->completion, &job->request.run);
    job->request.job_id =
        (BackendText){.text = job->completion.id, .n_bytes = strlen(job->completion.id)};
    job->api->accepted(w, job);
}
