/* worker/intake.c: see intake.h.
 *
 * May include: common, http. */
#include "worker/intake.h"

#include <stdio.h>

#include "common/clock.h"
#include "worker/answer.h"

/* Why a valid job is refused now, or NULL. */
static const char *reason(const Worker *w, size_t n_body, char *text, size_t size)
{
    if (w->phase == WORKER_STARTING)
        return "the model is still loading";
    if (w->phase == WORKER_DRAINING)
        return "the worker is shutting down";
    if (!job_queue_has_memory(&w->jobs, n_body))
        return "the requests that wait are too large together";
    if (job_queue_has_room(&w->jobs))
        return NULL;
    snprintf(text, size, "the queue is full (%d waiting, limit %d)", w->jobs.n_waiting,
             w->options->queue_limit);
    return text;
}

bool intake_refused(Worker *w, HttpConn *conn, const HttpRequest *http, size_t n_body)
{
    char text[96];
    const char *message = reason(w, n_body, text, sizeof text);
    const ApiError e = {.status = 503, .message = message};

    if (message == NULL)
        return false;
    answer_error(conn, http->path, &e, "Retry-After: 1\r\n", w->phase != WORKER_DRAINING);
    return true;
}

Job *intake_push(Worker *w, HttpConn *conn, const HttpRequest *http, const JobApi *api,
                 const Request *request, size_t n_body)
{
    Job *job = job_queue_push(&w->jobs, api, request, n_body);

    job->conn = conn;
    snprintf(job->correlation_id, sizeof job->correlation_id, "%s", http->correlation_id);
    http_conn_set_data(conn, job);
    job->accepted_ns = job->last_sent_ns = clock_now_ns();
    worker_arm_tick(w);
    return job;
}
