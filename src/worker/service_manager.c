/* worker/service_manager.c: see service_manager.h.
 *
 * May include: common. */
#include "worker/service_manager.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"
#include "worker/worker_internal.h"

enum { MESSAGE_BYTES = MANAGER_STATUS_BYTES + 128, MAX_USEC_DIGITS = 20 };

/* What one datagram says. */
typedef struct {
    bool ready, stopping, beat, status;
    double progress;
    char text[MANAGER_STATUS_BYTES]; /* of the status */
} Message;

/* More often than needed does no harm, so the largest values count as an hour. */
ErrCode service_manager_parse_watchdog(uint64_t *beat_ms, const char *usec, Err *err)
{
    const size_t n = strlen(usec);
    uint64_t value = 0;

    if (n == 0 || n > MAX_USEC_DIGITS || strspn(usec, "0123456789") != n || strspn(usec, "0") == n)
        return err_set(err, ERR_USAGE, "%s: expected microseconds, 1 or more", usec);
    for (const char *c = usec; *c != '\0' && value <= UINT64_MAX / 10 - 1; c++)
        value = value * 10 + (uint64_t)(*c - '0');
    value /= 2000;
    *beat_ms = value < 1 ? 1 : value > MANAGER_MAX_BEAT_MS ? MANAGER_MAX_BEAT_MS : value;
    return ERR_OK;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    service_manager_update(ctx);
}

static void warn(const char *variable, const Err *err)
{
    log_line(LOG_WARN, "The service manager is not told: its variable is not valid", "s:variable",
             variable, "s:reason", err->msg, NULL);
}

ErrCode service_manager_open(Worker *w, Err *err)
{
    const WorkerManaged *o = &w->options->managed;
    ServiceManager *m = &w->manager;
    Err problem = {.code = ERR_OK};

    if (o->notify_socket == NULL)
        return ERR_OK;
    if (notify_socket_open(&m->socket, o->notify_socket, &problem) != ERR_OK) {
        warn("NOTIFY_SOCKET", &problem);
        return ERR_OK;
    }
    if (o->watchdog_usec != NULL &&
        service_manager_parse_watchdog(&m->beat_ms, o->watchdog_usec, &problem) != ERR_OK)
        warn("WATCHDOG_USEC", &problem);
    m->told_progress = -1;
    m->timer = evtimer_new(w->base, on_timer, w);
    if (m->timer == NULL)
        return err_set(err, ERR_MEMORY, "worker: out of memory");
    return ERR_OK;
}

static void describe(const Worker *w, char out[MANAGER_STATUS_BYTES])
{
    const int waiting = w->jobs.n_waiting;
    char text[MANAGER_STATUS_BYTES + sizeof "Failed: "];

    if (w->manager.failure[0] != '\0')
        snprintf(text, sizeof text, "Failed: %s", w->manager.failure);
    else if (w->phase == WORKER_DRAINING)
        snprintf(text, sizeof text, "Draining: %d %s left", w->jobs.n_jobs,
                 w->jobs.n_jobs == 1 ? "job" : "jobs");
    else if (w->phase == WORKER_STARTING)
        snprintf(text, sizeof text, "Loading %s: %d %%", w->options->model_name,
                 (int)(w->progress * 100));
    else if (w->jobs.n_jobs > 0)
        snprintf(text, sizeof text, "Busy: %s, %d %s waiting", w->options->model_name, waiting,
                 waiting == 1 ? "job" : "jobs");
    else
        snprintf(text, sizeof text, "Ready: %s", w->options->model_name);
    /* Line ends would begin another variable of the message. */
    (void)text_escape(out, MANAGER_STATUS_BYTES, text, strlen(text));
}

/* Everything there is to tell, whether due or not; returns whether there is anything. */
static bool compose(const Worker *w, Message *msg)
{
    const ServiceManager *m = &w->manager;

    msg->ready = w->phase == WORKER_SERVING && !m->told_ready;
    msg->stopping = (w->phase == WORKER_DRAINING || w->exit_now) && !m->told_stopping;
    msg->progress = w->phase == WORKER_STARTING ? w->progress : m->told_progress;
    describe(w, msg->text);
    msg->status = strcmp(msg->text, m->told_status) != 0 || msg->progress > m->told_progress;
    return msg->ready || msg->stopping || msg->status;
}

static int send_message(const Worker *w, const Message *msg)
{
    char text[MESSAGE_BYTES], extend[48] = "";

    if (w->phase == WORKER_STARTING && msg->status)
        snprintf(extend, sizeof extend, "EXTEND_TIMEOUT_USEC=%d000\n", MANAGER_EXTEND_MS);
    const int n = snprintf(text, sizeof text, "%s%s%s%s%s%s", msg->ready ? "READY=1\n" : "",
                           msg->stopping ? "STOPPING=1\n" : "", msg->beat ? "WATCHDOG=1\n" : "",
                           extend, msg->status ? "STATUS=" : "", msg->status ? msg->text : "");

    return notify_socket_send(&w->manager.socket, text, (size_t)n);
}

static void sent(ServiceManager *m, const Message *msg, uint64_t now)
{
    m->told_ready |= msg->ready;
    m->told_stopping |= msg->stopping;
    if (msg->beat)
        m->last_beat_ms = now;
    if (msg->status) {
        m->last_status_ms = now;
        m->told_progress = msg->progress;
        memcpy(m->told_status, msg->text, sizeof m->told_status);
    }
    m->not_before_ms = 0;
    m->warned = false;
}

static void not_sent(ServiceManager *m, uint64_t now, int problem)
{
    m->not_before_ms = now + MANAGER_STATUS_MS;
    if (m->beat_ms > 0 && m->beat_ms < MANAGER_STATUS_MS)
        m->not_before_ms = now + m->beat_ms;
    if (!m->warned)
        log_line(LOG_WARN, "The service manager cannot be told, trying again", "s:reason",
                 strerror(problem), NULL);
    m->warned = true;
}

/* For the moment at which the next thing is due; pending: something is left to tell. */
static void arm(ServiceManager *m, uint64_t now, bool pending)
{
    uint64_t at = UINT64_MAX;

    if (m->beat_ms > 0)
        at = m->last_beat_ms + m->beat_ms;
    if (pending && m->last_status_ms + MANAGER_STATUS_MS < at)
        at = m->last_status_ms + MANAGER_STATUS_MS;
    if (m->not_before_ms > at || (pending && m->not_before_ms > now))
        at = m->not_before_ms;
    if (at == UINT64_MAX)
        return;
    const uint64_t wait_ms = at > now ? at - now : 0;
    const struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000),
                                 .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    (void)event_add(m->timer, &wait);
}

void service_manager_update(Worker *w)
{
    ServiceManager *m = &w->manager;
    const uint64_t now = clock_now_ms();
    Message msg = {.ready = false};
    bool pending;
    int problem = 0;

    if (m->timer == NULL)
        return;
    pending = compose(w, &msg);
    msg.beat = m->beat_ms > 0 && now - m->last_beat_ms >= m->beat_ms;
    const bool urgent = msg.ready || msg.stopping || (m->failure[0] != '\0' && msg.status);
    if (!urgent && now - m->last_status_ms < MANAGER_STATUS_MS)
        msg.status = false;
    if ((urgent || msg.beat || msg.status) && now >= m->not_before_ms) {
        problem = send_message(w, &msg);
        if (problem == 0)
            sent(m, &msg, now);
        else
            not_sent(m, now, problem);
        pending = compose(w, &msg);
    }
    /* While the model loads, nothing but the timer looks how far it is. */
    arm(m, now, pending || w->phase == WORKER_STARTING);
}

void service_manager_failed(Worker *w, const char *why)
{
    ServiceManager *m = &w->manager;

    snprintf(m->failure, sizeof m->failure, "%s", why);
    m->not_before_ms = 0; /* there is no second time */
    service_manager_update(w);
}

void service_manager_close(Worker *w)
{
    if (w->manager.timer != NULL)
        event_free(w->manager.timer);
    w->manager.timer = NULL;
    notify_socket_close(&w->manager.socket);
}
