/* worker/worker.c: start-up in the order of contract 3, then the loop: one step of the running job,
 * one look at the sockets, or, with nothing to compute, a wait for events.
 *
 * May include: common, http, backend. */
#include "worker/worker.h"

#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "common/clock.h"
#include "common/log.h"
#include "http/server.h"
#include "worker/access.h"
#include "worker/routes.h"
#include "worker/runner.h"
#include "worker/service_manager.h"
#include "worker/shutdown.h"
#include "worker/worker_internal.h"

enum {
    TICK_MS = 50,
    DEFAULT_KEEP_ALIVE_MS = 10000,
    PUMP_ROUNDS = 4, /* accept, read and write of a request fit into one pump */
    PUMP_MAX_US = 1000,
    PUMP_FREE_NS = 100000, /* sending a token and answering a probe: never held against anybody */
    PUMP_SHARE = 6,        /* what a pump takes beyond that is computed so many times as long */
    PUMP_MAX_GAP_NS = 20000000, /* for a probe, which takes up to three pumps in a flood */
    CALLBACKS_PER_ROUND = 32
};

WorkerOptions worker_options_default(void)
{
    return (WorkerOptions){.host = WORKER_DEFAULT_HOST,
                           .port = WORKER_DEFAULT_PORT,
                           .unix_mode = WORKER_DEFAULT_UNIX_MODE,
                           .queue_limit = WORKER_DEFAULT_QUEUE,
                           .inference_timeout_sec = WORKER_DEFAULT_INFERENCE_TIMEOUT_SEC,
                           .keep_alive_ms = DEFAULT_KEEP_ALIVE_MS,
                           .limits = http_limits_default()};
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    Worker *w = ctx;

    (void)fd;
    (void)what;
    http_server_poll_hangups(w->server); /* clients that talk are not read, see http/connection.c */
    runner_tick(w);
    shutdown_tick(w);
    worker_arm_tick(w);
    service_manager_update(w);
}

void worker_arm_tick(Worker *w)
{
    const struct timeval interval = {.tv_sec = 0, .tv_usec = TICK_MS * 1000};

    if ((w->jobs.n_jobs > 0 || w->phase == WORKER_DRAINING || w->exit_now) &&
        !evtimer_pending(w->tick, NULL))
        event_add(w->tick, &interval);
}

/* Bounded by rounds and time, and one callback by what a request can cost. A pump that took long,
 * in a flood of requests, is followed by a longer time of computing, so that the share of the
 * sockets stays small. */
bool worker_service(Worker *w)
{
    const uint64_t begin = clock_cpu_ns();
    const bool done = http_server_pump(w->server, PUMP_ROUNDS, PUMP_MAX_US);
    uint64_t spent;

    w->last_pump_ns = clock_now_ns();
    w->last_pump_cpu_ns = clock_cpu_ns();
    spent = w->last_pump_cpu_ns - begin;
    w->pump_debt_ns = spent <= PUMP_FREE_NS ? 0 : (spent - PUMP_FREE_NS) * PUMP_SHARE;
    return done;
}

bool worker_service_due(const Worker *w, uint64_t min_gap_ns)
{
    const uint64_t waited_ns = clock_now_ns() - w->last_pump_ns;

    if (waited_ns < min_gap_ns)
        return false;
    /* On a machine with more to do than processors the debt is paid slowly: probes do not wait for
     * all of it. */
    return waited_ns >= PUMP_MAX_GAP_NS || waited_ns >= w->pump_debt_ns + w->pump_debt_ns / 2 ||
           clock_cpu_ns() - w->last_pump_cpu_ns >= w->pump_debt_ns;
}

static bool on_progress(void *ctx, double fraction)
{
    Worker *w = ctx;

    w->progress = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    for (; w->progress_logged < (int)(w->progress * 4); w->progress_logged++)
        log_line(LOG_INFO, "Loading model", "i:percent", 25LL * (w->progress_logged + 1), NULL);
    if (worker_service_due(w, WORKER_PUMP_GAP_NS))
        worker_service(w);
    return !w->exit_now;
}

/* libevent would write plain text between the JSON lines. */
static void on_event_log(int severity, const char *message)
{
    static const LogLevel levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};

    log_line(levels[severity >= 0 && severity <= EVENT_LOG_ERR ? severity : EVENT_LOG_ERR], message,
             "s:source", "libevent", NULL);
}

/* Signals, timers and bufferevents on one loop; no locks, since there is one thread. A round is cut
 * short after some callbacks, which lets a flood not make one round arbitrarily long. */
static struct event_base *new_base(void)
{
    const struct timeval longest = {.tv_sec = 0, .tv_usec = PUMP_MAX_US};
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    event_set_log_callback(on_event_log);
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0 &&
        event_config_set_max_dispatch_interval(config, &longest, CALLBACKS_PER_ROUND, 0) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static void on_callback_done(void *ctx, bool ok, const char *message)
{
    Worker *w = ctx;

    if (ok) {
        log_line(LOG_INFO, "Pool manager notified", NULL);
        return;
    }
    log_line(LOG_ERROR, message, "s:code", "CALLBACK_FAILED", "s:model", w->options->model_path,
             NULL);
    shutdown_fail(w, "callback failed");
}

static ErrCode open_callback(Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;

    if (o->callback_url == NULL || callback_is_test_mode(o->callback_url))
        return ERR_OK;
    return callback_new(&w->callback, w->base, o->callback_url, o->callback_retries,
                        on_callback_done, w, err);
}

/* Everything up to the listening socket. */
static ErrCode open_all(Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;
    const HttpHandler handler = routes_handler(w);
    size_t total = 0;

    w->base = new_base();
    if (w->base == NULL)
        return err_set(err, ERR_INTERNAL, "Server runtime error: cannot create the event loop");
    if (shutdown_ignore_signals(err) != ERR_OK || service_manager_open(w, err) != ERR_OK)
        return err->code;
    if (!job_queue_plan(&total, o->queue_limit))
        return err_set(err, ERR_MEMORY, "job queue: too large");
    if (arena_init(&w->arena, total, "job queue", err) != ERR_OK)
        return err->code;
    w->tick = evtimer_new(w->base, on_tick, w);
    w->server = http_server_new(w->base, &o->limits, &handler);
    if (!job_queue_init(&w->jobs, &w->arena, o->queue_limit) || w->tick == NULL ||
        w->server == NULL)
        return err_set(err, ERR_MEMORY, "worker: out of memory");
    if (open_callback(w, err) != ERR_OK)
        return err->code;
    /* Not before: looking up the pool manager's name may wait long, and the loop does not turn. Not
     * after: a signal would leave a Unix socket behind. */
    if (shutdown_catch_signals(w, err) != ERR_OK)
        return err->code;
    return access_listen(w, err);
}

/* "CODE" of a start-up failure in the log; what failed, unless the error says it better. */
static const char *failure_name(ErrCode code, const char *what)
{
    switch (code) {
    case ERR_USAGE:
        return "USAGE";
    case ERR_NETWORK:
        return "CALLBACK_FAILED";
    default:
        return what;
    }
}

static void start_failed(Worker *w, const Err *err, const char *what)
{
    w->exit_now = true;
    if (err->code == ERR_CANCELLED) { /* only a load can be */
        service_manager_update(w);
        return;
    }
    w->exit_code = err->code == ERR_USAGE ? 2 : 1;
    const char *name = failure_name(err->code, what);
    log_line(LOG_ERROR, err->msg, "s:code", name, "s:model", w->options->model_path, "s:hint",
             strcmp(name, "BIND_FAILED") == 0 ? access_listen_hint(w) : NULL, NULL);
    service_manager_failed(w, err->msg);
}

static void notify(Worker *w)
{
    const WorkerOptions *o = w->options;
    const BackendInfo *info = w->backend->ops->info(w->backend);
    char uri[LISTENER_URI_BYTES];
    const CallbackPayload payload = {.worker_id = o->worker_id,
                                     .uri = o->uri != NULL ? o->uri : uri,
                                     .model_name = info->model_name,
                                     .model_bytes = info->model_bytes,
                                     .minimal = o->callback_minimal};

    http_server_uri(w->server, uri);
    if (w->callback != NULL)
        callback_start(w->callback, &payload);
    else if (o->callback_url != NULL)
        log_line(LOG_INFO, "Test mode: skipping pool manager callback", NULL);
}

static void load_and_notify(Worker *w)
{
    const WorkerOptions *o = w->options;
    Err err = {.code = ERR_OK};
    const uint64_t begin_ms = clock_now_ms();

    log_line(LOG_INFO, "Loading model...", "s:model", o->model_path, "i:port", (long long)w->port,
             NULL);
    service_manager_update(w);
    w->backend = o->load(o->load_ctx, on_progress, w, &err);
    if (w->backend == NULL)
        start_failed(w, &err, "MODEL_LOAD_FAILED");
    else if (http_server_accept(w->server, &err) != ERR_OK)
        start_failed(w, &err, "BIND_FAILED");
    if (w->exit_now)
        return;
    w->phase = WORKER_SERVING;
    w->progress = 1;
    w->idle_work = w->backend->ops->idle != NULL;
    log_line(LOG_INFO, "Worker ready, starting HTTP server", "s:model",
             w->backend->ops->info(w->backend)->model_name, "s:host", o->host, "i:port",
             (long long)w->port, "i:load_ms", (long long)(clock_now_ms() - begin_ms), NULL);
    service_manager_update(w);
    notify(w);
}

/* Nothing to compute: the backend prepares a little, or the thread sleeps until something happens.
 * False when the loop is broken. */
static bool wait_for_work(Worker *w)
{
    if (w->idle_work && w->phase == WORKER_SERVING && w->jobs.n_jobs == 0) {
        w->idle_work = w->backend->ops->idle(w->backend);
        worker_service(w);
        return true;
    }
    if (http_server_wait(w->server, PUMP_MAX_US))
        return true;
    log_line(LOG_ERROR, "Server runtime error: the event loop failed", "s:code", "INTERNAL", NULL);
    w->exit_code = 1;
    return false;
}

/* Computing goes first, but after each step the sockets have their turn, so a token leaves before
 * the next is begun. */
static void serve(Worker *w)
{
    while (!w->exit_now && !shutdown_complete(w)) {
        if (w->jobs.running == NULL && w->jobs.first != NULL)
            runner_start(w);
        if (w->jobs.running != NULL && !runner_paused(w)) {
            runner_step(w);
            if (worker_service_due(w, 0))
                worker_service(w);
        } else if ((w->jobs.first == NULL || w->jobs.running != NULL) && !wait_for_work(w)) {
            return;
        }
    }
}

/* A start that was stopped or failed: what was answered meanwhile, the 202 of POST /shutdown above
 * all, may not have left yet. */
static void flush_start(Worker *w)
{
    const uint64_t end_ms = clock_now_ms() + SHUTDOWN_FLUSH_MS;

    if (w->phase != WORKER_STARTING || w->server == NULL)
        return;
    http_server_end_connections(w->server);
    while (w->n_signals < 2 && clock_now_ms() < end_ms && !shutdown_all_answered(w, end_ms)) {
        worker_arm_tick(w);
        if (!wait_for_work(w))
            return;
    }
}

static void close_all(Worker *w)
{
    callback_free(w->callback);
    if (w->server != NULL)
        http_server_free(w->server);
    if (w->jobs.running != NULL)
        job_queue_remove(&w->jobs, w->jobs.running);
    while (w->jobs.first != NULL)
        job_queue_remove(&w->jobs, w->jobs.first);
    if (w->backend != NULL)
        w->backend->ops->free(w->backend);
    if (w->tick != NULL)
        event_free(w->tick);
    service_manager_close(w);
    shutdown_free_signals(w);
    if (w->base != NULL)
        event_base_free(w->base);
    api_keys_free(w->keys);
    json_buf_free(&w->scratch);
    arena_free(&w->arena);
}

int worker_run(const WorkerOptions *options)
{
    Worker w = {.options = options, .start_ms = clock_now_ms(), .manager.socket.fd = -1};
    Err err = {.code = ERR_OK};

    metrics_init(&w.metrics);
    log_line(LOG_INFO, "CPU worker starting", "s:model", options->model_path, "s:host",
             options->host, "i:port", (long long)options->port, NULL);
    if (access_load_keys(&w, &err) != ERR_OK)
        start_failed(&w, &err, "API_KEY_FAILED");
    else if (open_all(&w, &err) != ERR_OK)
        start_failed(&w, &err, err.code == ERR_IO ? "BIND_FAILED" : "INTERNAL");
    else
        load_and_notify(&w);
    serve(&w);
    flush_start(&w);
    close_all(&w);
    log_line(LOG_INFO, "Worker stopped", "i:exit_code", (long long)w.exit_code, "i:log_lines_lost",
             (long long)log_dropped(), NULL);
    return w.exit_code;
}
