/* worker/routes.c: one function per path. Order of checks: 401, 404 and 405, 415, then the body,
 * then the room for a job.
 *
 * May include: common, http. */
#include "worker/routes.h"

#include <stdio.h>
#include <string.h>

#include "common/exposition.h"
#include "common/text.h"
#include "worker/access.h"
#include "worker/answer.h"
#include "worker/completion_api.h"
#include "worker/execute_api.h"
#include "worker/front_page.h"
#include "worker/health.h"
#include "worker/job.h"
#include "worker/metrics.h"
#include "worker/metrics_page.h"
#include "worker/model_api.h"
#include "worker/request.h"
#include "worker/runner.h"
#include "worker/shutdown.h"

static void get_health(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    health_body(w, &answer);
    answer_json(conn, request->path, 200, NULL, &answer);
}

static void get_live(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    (void)w;
    json_buf_printf(&answer, "{\"status\":\"alive\"}");
    answer_json(conn, request->path, 200, NULL, &answer);
}

static void get_ready(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};
    const int status = health_ready(w, &answer);

    answer_json(conn, request->path, status, NULL, &answer);
}

static void get_metrics(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf page = {0};

    metrics_page(w, &page);
    if (page.oom) {
        answer_json(conn, request->path, 500, NULL, &page);
        return;
    }
    http_respond(conn, 200, EXPOSITION_TYPE, NULL, page.data, page.len);
    json_buf_free(&page);
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
    answer_json(conn, request->path, status == 200 ? 202 : status, NULL, &answer);
}

static void post_shutdown(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    shutdown_ask(w,
                 "POST /shutdown"); /* first: its own answer is the last of its connection, too */
    json_buf_printf(&answer, "{\"state\":\"draining\"}");
    answer_json(conn, request->path, 202, NULL, &answer);
}

static void get_page(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    (void)w;
    front_page_answer(conn, request);
}

enum {
    ROUTE_OPEN =
        1, /* needs no API key: what watches a worker holds none, and the page asks for it */
    ROUTE_BODY = 2, /* has one, which must be JSON: 415 */
    ROUTE_JOB = 4   /* becomes a job */
};

typedef struct {
    const char *path;
    HttpMethod method;
    void (*answer)(Worker *w, HttpConn *conn, const HttpRequest *request);
    unsigned flags;
} Route;

/* A route that ends in a slash has everything below it, but for the page. */
static bool is_at(const char *path, const char *route)
{
    const size_t n = strlen(route);
    const bool is_folder = n > 1 && route[n - 1] == '/';

    return strncmp(path, route, n) == 0 && (path[n] == '\0') == !is_folder;
}

/* What an option turns on or off is as unknown as any other path when it is off. */
static bool is_served(const Worker *w, const Route *route)
{
    if (route->answer == post_shutdown)
        return w->options->enable_shutdown;
    return route->answer != get_page || !w->options->no_ui;
}

static const Route *find_route(const Worker *w, const char *path)
{
    static const Route routes[] = {
        {"/", HTTP_GET, get_page, ROUTE_OPEN},
        {"/health", HTTP_GET, get_health, ROUTE_OPEN},
        {"/live", HTTP_GET, get_live, ROUTE_OPEN},
        {"/ready", HTTP_GET, get_ready, ROUTE_OPEN},
        {"/execute", HTTP_POST, execute_post, ROUTE_BODY | ROUTE_JOB},
        {"/cancel", HTTP_POST, post_cancel, ROUTE_BODY},
        {"/metrics", HTTP_GET, get_metrics, 0},
        {"/v1/completions", HTTP_POST, completion_post, ROUTE_BODY | ROUTE_JOB},
        {"/v1/models", HTTP_GET, models_get, 0},
        {MODEL_API_ONE, HTTP_GET, models_get, 0},
        {"/tokenize", HTTP_POST, tokenize_post, ROUTE_BODY},
        {"/detokenize", HTTP_POST, detokenize_post, ROUTE_BODY},
        {"/shutdown", HTTP_POST, post_shutdown, 0},
    };

    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (is_at(path, routes[i].path))
            return is_served(w, &routes[i]) ? &routes[i] : NULL;
    return NULL;
}

static void answer_not_found(HttpConn *conn, const char *path)
{
    char shown[128], message[160];

    text_escape(shown, sizeof shown, path, strlen(path));
    snprintf(message, sizeof message, "unknown path %s", shown);
    answer_refusal(conn, path, 404, message);
}

/* A request for a job whose body cannot be taken. */
static void count_invalid(Worker *w, const Route *route)
{
    if ((route->flags & ROUTE_JOB) != 0)
        metrics_rejected(&w->metrics, METRIC_INVALID);
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
        const ApiError e = {.status = 405,
                            .message =
                                get ? "this path answers GET and HEAD" : "this path answers POST"};

        answer_error(conn, request->path, &e, get ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n",
                     false);
        return NULL;
    }
    if ((route->flags & ROUTE_BODY) == 0 || answer_check_content(conn, request))
        return route;
    count_invalid(w, route);
    return NULL;
}

/* Unknown paths need a key as well, so that nobody without one learns which there are. */
static const char *refuse_head(void *ctx, const char *path, const char *authorization)
{
    Worker *w = ctx;
    const Route *route = find_route(w, path);
    const char *refused =
        route != NULL && (route->flags & ROUTE_OPEN) != 0 ? NULL : access_refusal(w, authorization);

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

    if (route != NULL)
        count_invalid(w, route);
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

static size_t error_body(void *ctx, const char *path, int status, const char *message, char *out,
                         size_t size)
{
    const ApiError e = {.status = status, .message = message};
    JsonBuf body = {0};
    size_t n = 0;

    (void)ctx;
    /* 505 is about the request; a request that came too slowly may come again. */
    answer_error_body(&body, path, &e, (status >= 500 && status != 505) || status == 408);
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
                         .shows_request_id = answer_is_openai,
                         .error_body = error_body};
}
