/* worker/job_stream.c: see job_stream.h.
 *
 * May include: common, http. */
#include "worker/job_stream.h"

#include "common/clock.h"
#include "http/sse.h"

#define METRICS_NS UINT64_C(1000000000)

/* Sends what stands in the scratch buffer. */
static void flush(Worker *w, Job *job)
{
    if (w->scratch.oom) {
        job_stop(job, JOB_NO_MEMORY);
        json_buf_free(&w->scratch);
        return;
    }
    if (job->conn != NULL)
        http_stream_write(job->conn, w->scratch.data, w->scratch.len);
    w->scratch.len = 0;
    job->last_sent_ns = clock_now_ns();
}

/* The name in `started`: no job runs before the model is there. */
static const char *model_name(const Worker *w)
{
    return w->backend->ops->info(w->backend)->model_name;
}

/* Headers and `started` are out after this. */
static void ensure_started(Worker *w, Job *job)
{
    if (job->conn != NULL && !http_stream_begun(job->conn))
        http_stream_begin(job->conn);
    if (job->started_sent)
        return;
    job->started_sent = true;
    if (job->started_ns == 0)
        clock_iso_utc(job->started_at);
    events_started(&w->scratch, job->request.job_id, model_name(w), job->started_at,
                   job->request.run.sampling.seed, job->correlation_id);
    flush(w, job);
}

void job_stream_open(Worker *w, Job *job)
{
    job->accepted_ns = job->last_sent_ns = clock_now_ns();
    if (!w->options->defer_headers)
        http_stream_begin(job->conn);
}

void job_stream_started(Worker *w, Job *job)
{
    job->started_ns = job->last_metrics_ns = clock_now_ns();
    clock_iso_utc(job->started_at);
    if (!w->options->defer_headers)
        ensure_started(w, job);
}

void job_stream_token(Worker *w, Job *job, const char *text, size_t n_text)
{
    ensure_started(w, job);
    events_token(&w->scratch, text, n_text, job->tokens_out++);
    flush(w, job);
}

void job_stream_metrics(Worker *w, Job *job, double tokens_per_sec)
{
    const uint64_t last_sent_ns = job->last_sent_ns;

    ensure_started(w, job);
    events_metrics(&w->scratch, tokens_per_sec, w->backend->ops->info(w->backend)->memory_bytes,
                   job->tokens_out, job->cached_tokens);
    job->last_metrics_ns = clock_now_ns();
    flush(w, job);
    job->last_sent_ns =
        last_sent_ns; /* clients wait for tokens: silence is measured without metrics */
}

/* Whether something may be sent that is not a token: not before deferred headers, not to a client
 * that does not read. */
static bool takes_extras(const Job *job)
{
    return job->conn != NULL && http_stream_begun(job->conn) && !http_stream_blocked(job->conn);
}

bool job_stream_metrics_due(const Job *job, uint64_t now_ns)
{
    return takes_extras(job) && job->started_ns != 0 && now_ns > job->last_metrics_ns &&
           now_ns - job->last_metrics_ns >= METRICS_NS;
}

void job_stream_keep_alive(Worker *w, Job *job, uint64_t now_ns)
{
    const uint64_t limit_ns = (uint64_t)w->options->keep_alive_ms * 1000000;

    if (!takes_extras(job) || now_ns < job->last_sent_ns || now_ns - job->last_sent_ns < limit_ns)
        return;
    sse_comment(&w->scratch, "keep-alive");
    flush(w, job);
}

/* After the terminal event the connection is no longer the job's. */
static void let_go(Worker *w, Job *job)
{
    HttpConn *conn = job->conn;

    flush(w, job);
    job->conn = NULL;
    if (conn == NULL)
        return;
    http_conn_set_data(conn, NULL);
    http_stream_end(conn);
}

void job_stream_end(Worker *w, Job *job, const EventEnd *end)
{
    ensure_started(w, job);
    events_end(&w->scratch, end);
    let_go(w, job);
}

void job_stream_error(Worker *w, Job *job, const char *code, const char *message, bool retriable)
{
    ensure_started(w, job);
    events_error(&w->scratch, code, message, retriable, job->tokens_out);
    let_go(w, job);
}

bool job_stream_blocked(const Job *job)
{
    return job->conn != NULL && http_stream_begun(job->conn) && http_stream_blocked(job->conn);
}
