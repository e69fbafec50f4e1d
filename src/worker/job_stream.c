/* worker/job_stream.c: see job_stream.h.
 *
 * May include: common, http. */
#include "worker/job_stream.h"

#include "common/clock.h"
#include "http/sse.h"

#define METRICS_NS UINT64_C(1000000000)

void job_stream_begin(Job *job)
{
    if (job->conn != NULL && !http_stream_begun(job->conn))
        http_stream_begin(job->conn);
}

void job_stream_flush(Worker *w, Job *job)
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

HttpConn *job_stream_take(Job *job)
{
    HttpConn *conn = job->conn;

    job->conn = NULL;
    if (conn != NULL)
        http_conn_set_data(conn, NULL);
    return conn;
}

void job_stream_finish(Worker *w, Job *job)
{
    HttpConn *conn;

    job_stream_flush(w, job);
    conn = job_stream_take(job);
    if (conn != NULL)
        http_stream_end(conn);
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
    job_stream_flush(w, job);
}

bool job_stream_blocked(const Job *job)
{
    return job->conn != NULL && http_stream_begun(job->conn) && http_stream_blocked(job->conn);
}
