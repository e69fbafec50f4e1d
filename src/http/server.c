/* http/server.c: the listener, the clock of all connections, and the pump. See server.h.
 *
 * May include: common. */
#include "http/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "http/server_internal.h"

enum {
    ACCEPTS_PER_TURN = 16, /* the loop has others to serve, too */
    ACCEPT_RETRY_MS = 100, /* after running out of descriptors or memory */
    SPARE_MIN_MS = 20,
    SWEEP_MIN_MS = 5,
    SWEEP_MAX_MS = 250,
    SWEEP_LATE_MS = 1000, /* the process was stopped, or the machine slept */
    POLL_BATCH = 64,
    SPARE_DESCRIPTORS = 32 /* for files, the log, the callback and the loop itself */
};

HttpLimits http_limits_default(void)
{
    HttpLimits limits = {.max_request_line = 8 * 1024,
                         .max_header_bytes = 32 * 1024,
                         .max_headers = 100,
                         .max_body_bytes = 2 * 1024 * 1024,
                         .request_timeout_ms = 10 * 1000,
                         .idle_timeout_ms = 30 * 1000,
                         .max_pending_bytes = 64 * 1024,
                         .write_timeout_ms = 10 * 1000,
                         .min_taken_bytes = 4 * 1024,
                         .max_connections = 1024};
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY &&
        files.rlim_cur < 1024 + SPARE_DESCRIPTORS)
        limits.max_connections =
            files.rlim_cur > SPARE_DESCRIPTORS ? (int)files.rlim_cur - SPARE_DESCRIPTORS : 1;
    return limits;
}

/* Deadlines are looked at several times within the shortest of them. */
static struct timeval sweep_interval(const HttpLimits *limits)
{
    int shortest = limits->request_timeout_ms;

    if (limits->idle_timeout_ms < shortest)
        shortest = limits->idle_timeout_ms;
    if (limits->write_timeout_ms < shortest)
        shortest = limits->write_timeout_ms;
    shortest /= 8;
    if (shortest < SWEEP_MIN_MS)
        shortest = SWEEP_MIN_MS;
    if (shortest > SWEEP_MAX_MS)
        shortest = SWEEP_MAX_MS;
    return (struct timeval){.tv_usec = shortest * 1000};
}

/* Any descriptor does; "/" is there where /dev is not. */
static void keep_reserve(HttpServer *s)
{
    if (s->reserve_fd < 0)
        s->reserve_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The connection that goes when there are too many: spare for the longest time, of two of the same
 * moment the one accepted first. Whoever opens as many as there may be, and lets them sleep or
 * drip, must not keep out the probes. NULL: all are needed. */
static HttpConn *oldest_spare(const HttpServer *s)
{
    HttpConn *oldest = NULL;

    for (HttpConn *c = s->conns; c != NULL; c = c->next)
        if (conn_is_spare(c) && (oldest == NULL || c->since_ms <= oldest->since_ms))
            oldest = c;
    return oldest;
}

static bool arm_sweep(HttpServer *s)
{
    const struct timeval interval = sweep_interval(&s->limits);

    if (event_pending(s->sweep_event, EV_TIMEOUT, NULL))
        return true;
    s->sweep_due_ms = clock_now_ms() + (uint64_t)interval.tv_usec / 1000;
    return event_add(s->sweep_event, &interval) == 0;
}

static void resume_accepting(HttpServer *s)
{
    if (!s->accept_paused || s->accept_event == NULL || s->accept_again_ms != 0 ||
        (s->n_conns >= s->limits.max_connections && oldest_spare(s) == NULL))
        return;
    if (event_add(s->accept_event, NULL) == 0) {
        s->accept_paused = false;
        return;
    }
    /* The sweep tries again; without a connection nothing else would. */
    s->accept_again_ms = clock_now_ms() + ACCEPT_RETRY_MS;
    (void)arm_sweep(s);
}

static void on_sweep(evutil_socket_t fd, short what, void *ctx)
{
    HttpServer *s = ctx;
    const uint64_t now_ms = clock_now_ms();
    HttpConn *next;

    (void)fd;
    (void)what;
    /* After SIGSTOP and SIGCONT the timers come before the sockets. What arrived in time, and what
     * could have been sent, must not be found late: the sockets first, this at its next turn. */
    s->sweep_put_off = !s->sweep_put_off && now_ms > s->sweep_due_ms + SWEEP_LATE_MS;
    if (s->sweep_put_off) {
        (void)arm_sweep(s);
        return;
    }
    for (HttpConn *c = s->conns; c != NULL; c = next) {
        next = c->next; /* c can only free itself */
        conn_check_deadlines(c, now_ms);
    }
    if (s->accept_again_ms != 0 && now_ms >= s->accept_again_ms) {
        s->accept_again_ms = 0;
        keep_reserve(s); /* it may have been lost when descriptors ran out */
    }
    resume_accepting(s);
    if (s->conns != NULL || s->accept_again_ms != 0)
        (void)arm_sweep(s);
}

static void on_kick(evutil_socket_t fd, short what, void *ctx)
{
    HttpServer *s = ctx;
    HttpConn *next;

    (void)fd;
    (void)what;
    for (HttpConn *c = s->conns; c != NULL; c = next) {
        next = c->next;
        if (c->kicked) {
            c->kicked = false;
            conn_kicked(c);
        }
    }
}

void server_kick(HttpConn *c)
{
    c->kicked = true;
    event_active(c->server->kick_event, EV_TIMEOUT, 0);
}

void server_conn_added(HttpServer *s, HttpConn *c)
{
    c->next = s->conns;
    if (s->conns != NULL)
        s->conns->prev = c;
    s->conns = c;
    s->n_conns++;
    (void)arm_sweep(s);
}

void server_conn_removed(HttpServer *s, HttpConn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    s->n_conns--;
    resume_accepting(s);
}

HttpServer *http_server_new(struct event_base *base, const HttpLimits *limits,
                            const HttpHandler *handler)
{
    HttpServer *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    (void)signal(SIGPIPE, SIG_IGN); /* writev on a socket cannot ask for MSG_NOSIGNAL */
    s->base = base;
    s->limits = *limits;
    s->handler = *handler;
    s->listener = (HttpListener){.fd = -1, .socket.lock_fd = -1};
    s->body_budget = SERVER_BODIES * limits->max_body_bytes;
    s->request_limits = (RequestLimits){.head = {.max_request_line = limits->max_request_line,
                                                 .max_header_bytes = limits->max_header_bytes,
                                                 .max_headers = limits->max_headers},
                                        .max_body_bytes = limits->max_body_bytes,
                                        .body_budget = &s->body_budget,
                                        .refuse_head = handler->refuse_head,
                                        .refuse_ctx = handler->ctx};
    s->reserve_fd = -1;
    keep_reserve(s);
    s->sweep_event = evtimer_new(base, on_sweep, s);
    s->kick_event = evtimer_new(base, on_kick, s);
    /* The first timer of a loop makes room for eight, more than the process has, and the room is
     * kept: armed once here, none can fail for want of memory later. */
    if (s->sweep_event == NULL || s->kick_event == NULL || !arm_sweep(s)) {
        http_server_free(s);
        return NULL;
    }
    return s;
}

void http_server_stop_accepting(HttpServer *s)
{
    if (s->accept_event != NULL)
        event_free(s->accept_event);
    s->accept_event = NULL;
    listener_close(&s->listener);
}

void http_server_free(HttpServer *s)
{
    if (s == NULL)
        return;
    http_server_stop_accepting(s);
    while (s->conns != NULL)
        conn_free(s->conns);
    if (s->sweep_event != NULL)
        event_free(s->sweep_event);
    if (s->kick_event != NULL)
        event_free(s->kick_event);
    if (s->reserve_fd >= 0)
        (void)close(s->reserve_fd);
    free(s);
}

/* Stops listening for a moment: a listener that is readable and cannot be served would spin. */
static void pause_accepting(HttpServer *s, int for_ms)
{
    (void)event_del(s->accept_event);
    s->accept_paused = true;
    if (for_ms == 0)
        return;
    s->accept_again_ms = clock_now_ms() + (uint64_t)for_ms;
    (void)arm_sweep(s);
}

/* Descriptors ran out: the reserve is given up to take one newcomer and close it, so that it need
 * not wait for a time-out of its own. */
static void turn_away(HttpServer *s)
{
    bool done = false;

    if (s->reserve_fd >= 0) {
        int fd;
        (void)close(s->reserve_fd);
        fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        done = fd >= 0 || errno == EAGAIN;
        if (fd >= 0)
            (void)close(fd);
        s->reserve_fd = -1;
        keep_reserve(s);
    }
    if (!done)
        pause_accepting(s, ACCEPT_RETRY_MS);
}

static void accept_some(HttpServer *s, int listen_fd)
{
    for (int n = 0; n < ACCEPTS_PER_TURN; n++) {
        const bool full = s->n_conns >= s->limits.max_connections;
        HttpConn *spare = full ? oldest_spare(s) : NULL;
        int fd;

        if (full && spare == NULL) {
            pause_accepting(s, 0);
            return;
        }
        if (full && clock_now_ms() - spare->since_ms < SPARE_MIN_MS)
            return; /* its request may be there and unread: the loop turns until it is old enough */
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            if (spare != NULL)
                conn_gone(spare);
            if (conn_new(s, fd) == NULL)
                pause_accepting(s, ACCEPT_RETRY_MS);
        } else if (errno == EMFILE || errno == ENFILE) {
            turn_away(s);
            return; /* accept says EMFILE without looking whether anybody waits */
        } else if (errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(s, ACCEPT_RETRY_MS);
        } else if (errno == EAGAIN) {
            return;
        }
        /* Other errors belong to the newcomer that is lost (ECONNABORTED, EPROTO ...). */
        if (s->accept_paused)
            return;
    }
}

static void on_accept(evutil_socket_t listen_fd, short what, void *ctx)
{
    (void)what;
    server_callback_begins(ctx);
    accept_some(ctx, listen_fd);
}

/* A full turn for as many as the kernel lets wait: where nobody waits a turn costs one call. */
void http_server_accept_rest(HttpServer *s)
{
    for (int n = 0; s->accept_event != NULL && n < LISTENER_BACKLOG; n += ACCEPTS_PER_TURN)
        accept_some(s, s->listener.fd);
    http_server_stop_accepting(s);
}

HttpConn *http_server_adopt(HttpServer *s, int fd)
{
    if (evutil_make_socket_nonblocking(fd) != 0) {
        (void)close(fd);
        return NULL;
    }
    return conn_new(s, fd);
}

ErrCode http_server_accept(HttpServer *s, Err *err)
{
    if (s->accept_event != NULL || s->listener.fd < 0)
        return ERR_OK;
    s->accept_event = event_new(s->base, s->listener.fd, EV_READ | EV_PERSIST, on_accept, s);
    if (s->accept_event != NULL && event_add(s->accept_event, NULL) == 0)
        return ERR_OK;
    http_server_stop_accepting(s);
    return err_set(err, ERR_MEMORY, "Failed to bind: out of memory");
}

static ErrCode check_not_listening(const HttpServer *s, Err *err)
{
    return s->listener.fd < 0 ? ERR_OK
                              : err_set(err, ERR_INTERNAL, "the server listens already, on port %d",
                                        s->listener.port);
}

ErrCode http_server_listen(HttpServer *s, const char *host, int port, Err *err)
{
    ErrCode code = check_not_listening(s, err);

    if (code == ERR_OK)
        code = listener_open_tcp(&s->listener, host, port, err);
    return code == ERR_OK ? http_server_accept(s, err) : code;
}

ErrCode http_server_listen_unix(HttpServer *s, const char *path, mode_t mode, Err *err)
{
    ErrCode code = check_not_listening(s, err);

    if (code == ERR_OK)
        code = listener_open_unix(&s->listener, path, mode, err);
    return code == ERR_OK ? http_server_accept(s, err) : code;
}

ErrCode http_server_listen_inherited(HttpServer *s, int fd, Err *err)
{
    const ErrCode code = check_not_listening(s, err);

    return code == ERR_OK ? listener_open_inherited(&s->listener, fd, err) : code;
}

bool http_server_is_public(const HttpServer *s)
{
    return listener_is_public(&s->listener);
}

void http_server_uri(const HttpServer *s, char out[LISTENER_URI_BYTES])
{
    listener_uri(&s->listener, out);
}

void http_server_name(const HttpServer *s, char out[LISTENER_NAME_BYTES])
{
    listener_name(&s->listener, out);
}

int http_server_port(const HttpServer *s)
{
    return s->listener.port;
}

int http_server_connections(const HttpServer *s)
{
    return s->n_conns;
}

bool http_server_responses(const HttpServer *s, int i, int *status, uint64_t *n)
{
    if (i < 0 || i >= RESPONSE_STATUSES)
        return false;
    *status = response_status(i);
    *n = s->responses[i];
    return true;
}

bool http_server_has_pending(const HttpServer *s)
{
    for (const HttpConn *c = s->conns; c != NULL; c = c->next)
        if (evbuffer_get_length(bufferevent_get_output(c->bev)) > 0 || conn_is_talking(c))
            return true;
    return false;
}

void http_server_end_connections(HttpServer *s)
{
    s->is_leaving = true;
}

static void poll_batch(HttpConn **conns, struct pollfd *fds, nfds_t n)
{
    if (poll(fds, n, 0) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++)
        if (fds[i].revents != 0)
            conn_hung_up(conns[i], (fds[i].revents & (POLLERR | POLLHUP)) != 0);
}

void http_server_poll_hangups(HttpServer *s)
{
    HttpConn *conns[POLL_BATCH], *next;
    struct pollfd fds[POLL_BATCH];
    nfds_t n = 0;

    for (HttpConn *c = s->conns; c != NULL; c = next) {
        next = c->next;
        if (c->state == CONN_HANDLING) {
            conns[n] = c;
            fds[n++] = (struct pollfd){.fd = bufferevent_getfd(c->bev), .events = POLLRDHUP};
        }
        if (n > 0 && (n == POLL_BATCH || next == NULL)) {
            poll_batch(conns, fds, n); /* next is not in the batch, so it survives */
            n = 0;
        }
    }
    if (n > 0)
        poll_batch(conns, fds, n);
}

/* For libevent a round ends when no callback is left, which in a flood never happens. A wait begins
 * to count with what it waited for. */
void server_callback_begins(HttpServer *s)
{
    const uint64_t now_ns = s->turn_ns > 0 ? clock_now_ns() : 0;

    if (s->turn_ns == 0)
        return;
    if (s->turn_end_ns == 0)
        s->turn_end_ns = now_ns + s->turn_ns;
    else if (now_ns >= s->turn_end_ns)
        (void)event_base_loopbreak(s->base);
}

bool http_server_pump(HttpServer *s, int max_rounds, int max_us)
{
    bool done = false;

    s->turn_ns = (uint64_t)max_us * 1000 + 1;
    s->turn_end_ns = clock_now_ns() + s->turn_ns;
    (void)event_base_get_max_events(s->base, EVENT_BASE_COUNT_ACTIVE, 1);
    for (int round = 0; round < max_rounds && !done; round++) {
        /* A round did nothing when no event was left active before it and none became so: the
         * highest number since it was cleared is 0. */
        const bool has_left = event_base_get_num_events(s->base, EVENT_BASE_COUNT_ACTIVE) > 0;

        done = event_base_loop(s->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) != 0 ||
               (event_base_get_max_events(s->base, EVENT_BASE_COUNT_ACTIVE, 1) == 0 && !has_left);
        if (clock_now_ns() >= s->turn_end_ns)
            break;
    }
    s->turn_ns = 0;
    return done;
}

bool http_server_wait(HttpServer *s, int max_us)
{
    s->turn_ns = (uint64_t)max_us * 1000 + 1;
    s->turn_end_ns = 0;
    const bool ok = event_base_loop(s->base, EVLOOP_ONCE) >= 0;

    s->turn_ns = 0;
    return ok;
}
