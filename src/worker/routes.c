/* worker/routes.c: one function per path. Order of checks: 401, 404 and 405, 415, then the body,
 * then the room for a job.
 *
 * May include: common, http. */
#include "worker/routes.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/exposition.h"
#include "common/text.h"
#include "worker/access.h"
#include "worker/health.h"
#include "worker/job.h"
#include "worker/job_stream.h"
#include "worker/metrics.h"
#include "worker/metrics_page.h"
#include "worker/request.h"
#include "worker/runner.h"
#include "worker/shutdown.h"

static const char content_type_json[] = "application/json";

/* Sends answer and empties it. */
static void respond(HttpConn *conn, int status, const char *headers, JsonBuf *answer)
{
    static const char no_memory[] =
        "{\"code\":\"INTERNAL\",\"message\":\"Internal error: out of memory\",\"retriable\":true}";

    if (answer->oom)
        http_respond(conn, 500, content_type_json, NULL, no_memory, sizeof no_memory - 1);
    else
        http_respond(conn, status, content_type_json, headers, answer->data, answer->len);
    json_buf_free(answer);
}

static void respond_error(HttpConn *conn, int status, const char *headers, const char *code,
                          const char *message, bool retriable)
{
    JsonBuf answer = {0};

    request_error_body(&answer, code, message, retriable);
    respond(conn, status, headers, &answer);
}

/* Parameters such as charset may follow. */
static bool is_json_type(const char *type)
{
    const size_t n = sizeof content_type_json - 1;

    if (type == NULL || strncasecmp(type, content_type_json, n) != 0)
        return false;
    type += n;
    type += strspn(type, " \t");
    return *type == '\0' || *type == ';';
}

/* False after an answer of 415. */
static bool check_content(HttpConn *conn, const HttpRequest *request)
{
    if (request->content_encoding != NULL)
        respond_error(conn, 415, NULL, "INVALID_REQUEST", "Content-Encoding is not supported",
                      false);
    else if (!is_json_type(request->content_type))
        respond_error(conn, 415, NULL, "INVALID_REQUEST", "Content-Type must be application/json",
                      false);
    else
        return true;
    return false;
}

static void get_health(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    (void)request;
    health_body(w, &answer);
    respond(conn, 200, NULL, &answer);
}

static void get_live(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    (void)w;
    (void)request;
    json_buf_printf(&answer, "{\"status\":\"alive\"}");
    respond(conn, 200, NULL, &answer);
}

static void get_ready(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    const int status = health_ready(w, &answer);

    (void)request;
    respond(conn, status, NULL, &answer);
}

static void get_metrics(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    (void)request;
    metrics_page(w, &answer);
    if (answer.oom)
        respond(conn, 500, NULL, &answer);
    else
        http_respond(conn, 200, EXPOSITION_TYPE, NULL, answer.data, answer.len);
    json_buf_free(&answer);
}

/* Why a valid job is refused now, or NULL. */
static const char *refusal(Worker *w, char *text, size_t size, bool *retriable)
{
    *retriable = w->phase != WORKER_DRAINING;
    if (w->phase == WORKER_STARTING) {
        metrics_rejected(&w->metrics, METRIC_STARTING);
        return "the model is still loading";
    }
    if (w->phase == WORKER_DRAINING) {
        metrics_rejected(&w->metrics, METRIC_DRAINING);
        return "the worker is shutting down";
    }
    if (job_queue_has_room(&w->jobs))
        return NULL;
    metrics_rejected(&w->metrics, METRIC_QUEUE_FULL);
    snprintf(text, size, "the queue is full (%d waiting, limit %d)", w->jobs.n_waiting,
             w->options->queue_limit);
    return text;
}

static void post_execute(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    Request parsed;
    char text[96];
    bool retriable;
    const char *refused;
    Job *job;
    const int status = request_parse(&parsed, request->body, request->n_body, w->backend, &answer);

    if (status != 200) {
        metrics_rejected(&w->metrics, status == 500 ? METRIC_NO_MEMORY : METRIC_INVALID);
        respond(conn, status, NULL, &answer);
        return;
    }
    json_buf_free(&answer);
    refused = refusal(w, text, sizeof text, &retriable);
    if (refused != NULL) {
        request_free(&parsed);
        respond_error(conn, 503, "Retry-After: 1\r\n", "WORKER_UNHEALTHY", refused, retriable);
        return;
    }
    job = job_queue_push(&w->jobs, &parsed);
    job->conn = conn;
    snprintf(job->correlation_id, sizeof job->correlation_id, "%s", request->correlation_id);
    http_conn_set_data(conn, job);
    job_stream_open(w, job);
    metrics_accepted(&job->meter, METRIC_EXECUTE, job->accepted_ns);
    worker_arm_tick(w);
}

/* Every match stops: ids need not be unique. The running job is only marked. */
static void cancel_jobs(Worker *w, BackendText id)
{
    Job *next;

    if (w->jobs.running != NULL && job_has_id(w->jobs.running, id))
        job_stop(w->jobs.running, JOB_CANCELLED);
    for (Job *job = w->jobs.first; job != NULL; job = next) {
        next = job->next;
        if (job_has_id(job, id))
            runner_drop_waiting(w, job, JOB_CANCELLED);
    }
}

static void post_cancel(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    Request parsed;
    const int status = request_parse_cancel(&parsed, request->body, request->n_body, &answer);

    if (status == 200) {
        cancel_jobs(w, parsed.job_id);
        json_buf_printf(&answer, "{\"job_id\":");
        json_buf_string(&answer, parsed.job_id.text, parsed.job_id.n_bytes);
        json_buf_printf(&answer, "}");
        request_free(&parsed);
    }
    respond(conn, status == 200 ? 202 : status, NULL, &answer);
}

static void post_shutdown(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    (void)request;
    json_buf_printf(&answer, "{\"state\":\"draining\"}");
    respond(conn, 202, NULL, &answer);
    if (w->phase == WORKER_STARTING)
        w->exit_now = true;
    else
        shutdown_drain(w, "POST /shutdown");
}

typedef struct {
    const char *path;
    HttpMethod method;
    void (*answer)(Worker *w, HttpConn *conn, const HttpRequest *request);
    bool is_open; /* needs no API key: what watches a worker holds none */
} Route;

static const Route *find_route(const Worker *w, const char *path)
{
    static const Route routes[] = {
        {"/health", HTTP_GET, get_health, true},
        {"/live", HTTP_GET, get_live, true},
        {"/ready", HTTP_GET, get_ready, true},
        {"/execute", HTTP_POST, post_execute, false},
        {"/cancel", HTTP_POST, post_cancel, false},
        {"/metrics", HTTP_GET, get_metrics, false},
        {"/shutdown", HTTP_POST, post_shutdown, false},
    };

    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(path, routes[i].path) == 0)
            return routes[i].answer == post_shutdown && !w->options->enable_shutdown ? NULL
                                                                                     : &routes[i];
    return NULL;
}

static void answer_not_found(HttpConn *conn, const char *path)
{
    char shown[128], message[160];

    text_escape(shown, sizeof shown, path, strlen(path));
    snprintf(message, sizeof message, "unknown path %s", shown);
    respond_error(conn, 404, NULL, "INVALID_REQUEST", message, false);
}

/* 404, 405 and 415. NULL when one of them was answered. */
static const Route *check_head(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    const Route *route = find_route(w, request->path);
    const HttpMethod method = request->method == HTTP_HEAD ? HTTP_GET : request->method;

    if (route == NULL) {
        answer_not_found(conn, request->path);
        return NULL;
    }
    if (method != route->method) {
        const bool get = route->method == HTTP_GET;

        respond_error(conn, 405, get ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n",
                      "INVALID_REQUEST",
                      get ? "this path answers GET and HEAD" : "this path answers POST", false);
        return NULL;
    }
    if ((route->answer == post_execute || route->answer == post_cancel) &&
        !check_content(conn, request)) {
        if (route->answer == post_execute)
            metrics_rejected(&w->metrics, METRIC_INVALID);
        return NULL;
    }
    return route;
}

/* Unknown paths need a key as well, so that nobody without one learns which there are. */
static const char *refuse_head(void *ctx, const char *path, const char *authorization)
{
    Worker *w = ctx;
    const Route *route = find_route(w, path);
    const char *refused = route != NULL && route->is_open ? NULL : access_refusal(w, authorization);

    if (refused != NULL)
        metrics_rejected(&w->metrics, METRIC_UNAUTHORIZED);
    return refused;
}

static void on_request(void *ctx, HttpConn *conn, const HttpRequest *request)
{
    const Route *route = check_head(ctx, conn, request);

    if (route != NULL)
        route->answer(ctx, conn, request);
}

static void on_too_large(void *ctx, HttpConn *conn, const HttpRequest *request)
{
    Worker *w = ctx;
    const Route *route = check_head(w, conn, request);

    if (route != NULL && route->answer == post_execute)
        metrics_rejected(&w->metrics, METRIC_INVALID);
}

/* A running job is only marked: a step may be computing. */
static void on_close(void *ctx, HttpConn *conn)
{
    Worker *w = ctx;
    Job *job = http_conn_data(conn);

    if (job == NULL)
        return;
    job->conn = NULL;
    if (job == w->jobs.running)
        job_stop(job, JOB_CLIENT_GONE);
    else
        runner_drop_waiting(w, job, JOB_CLIENT_GONE);
}

static size_t error_body(void *ctx, int status, const char *message, char *out, size_t size)
{
    JsonBuf body = {0};
    size_t n = 0;

    (void)ctx;
    /* 505 is about the request; a request that came too slowly may come again. */
    if (status == 503)
        request_error_body(&body, "WORKER_UNHEALTHY", message, true);
    else if (status >= 500 && status != 505)
        request_error_body(&body, "INTERNAL", message, true);
    else
        request_error_body(&body, "INVALID_REQUEST", message, status == 408);
    if (!body.oom && body.len <= size) {
        memcpy(out, body.data, body.len);
        n = body.len;
    }
    json_buf_free(&body);
    return n;
}

HttpHandler routes_handler(Worker *w)
{
    return (HttpHandler){.ctx = w,
                         .on_request = on_request,
                         .on_close = on_close,
                         .on_too_large = on_too_large,
                         .refuse_head = refuse_head,
                         .error_body = error_body};
}
