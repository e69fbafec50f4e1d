/* http/client.c: the outgoing POST: connect, send, read the status, each bounded. See client.h.
 *
 * May include: common. */
#include "http/client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <llhttp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "http/client_internal.h"

enum {
    ANSWER_MAX_BYTES = 64 * 1024,
    LATE_MS = 500, /* the process was stopped, or the machine slept */
    SECOND_LOOK_MS = 50,
    MESSAGE_BYTES = 256,
    ADDRESS_TEXT_BYTES = 80
};

struct HttpPost {
    struct event_base *base;
    const HttpAddress *addresses;
    struct evbuffer *request; /* head and body; each attempt sends a copy */
    struct bufferevent *bev;  /* NULL between attempts */
    struct event *timer;      /* the attempt's share while connecting, then the whole rest */
    uint64_t end_ms;
    uint64_t timer_due_ms;
    bool timer_put_off;
    int next_address;
    bool is_connected; /* the whole request has left */
    size_t n_received;
    llhttp_t parser;
    int status; /* of a complete final head, else 0 */
    HttpPostDone done;
    void *ctx;
    char peer[ADDRESS_TEXT_BYTES];
    char failure[MESSAGE_BYTES]; /* of the last attempt */
};

static void on_timer(evutil_socket_t fd, short what, void *ctx);
static void try_next_address(HttpPost *p);

/* An interim answer (100, 103) is followed by the real one; 101 is final, since no upgrade was
 * asked for. */
static bool is_interim(const llhttp_t *parser)
{
    return parser->status_code / 100 == 1 && parser->status_code != 101;
}

static int on_headers_complete(llhttp_t *parser)
{
    HttpPost *p = parser->data;

    if (!is_interim(parser))
        p->status = parser->status_code;
    parser->upgrade = 0;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    return is_interim(parser) ? 0 : HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_message_complete = on_message_complete,
};

static void drop_connection(HttpPost *p)
{
    if (p->bev != NULL)
        bufferevent_free(p->bev);
    p->bev = NULL;
}

void http_post_abort(HttpPost *p)
{
    if (p == NULL)
        return;
    drop_connection(p);
    if (p->timer != NULL)
        event_free(p->timer);
    if (p->request != NULL)
        evbuffer_free(p->request);
    free(p);
}

/* Ends the post. A status that arrived counts, whatever happened to the rest of the answer. */
static void finish(HttpPost *p, const char *failure)
{
    const HttpPostDone done = p->done;
    void *ctx = p->ctx;
    const int status = p->status;
    char message[ADDRESS_TEXT_BYTES + MESSAGE_BYTES + 2];

    if (status != 0)
        snprintf(message, sizeof message, "status %d", status);
    else
        snprintf(message, sizeof message, "%s: %s", p->peer, failure);
    http_post_abort(p);
    done(ctx, status, message);
}

static bool has_sent(const HttpPost *p)
{
    return p->is_connected ||
           (p->bev != NULL &&
            evbuffer_get_length(bufferevent_get_output(p->bev)) < evbuffer_get_length(p->request));
}

/* Another address helps only before anything was sent: the post must not arrive twice. */
static void fail_attempt(HttpPost *p, const char *failure)
{
    if (has_sent(p) || p->next_address >= p->addresses->n) {
        finish(p, failure);
        return;
    }
    drop_connection(p);
    try_next_address(p);
}

static void set_timer(HttpPost *p, uint64_t wait_ms)
{
    const struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000),
                                 .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};

    p->timer_due_ms = clock_now_ms() + wait_ms;
    (void)event_add(p->timer, &wait);
}

static uint64_t time_left_ms(const HttpPost *p)
{
    const uint64_t now_ms = clock_now_ms();

    return now_ms < p->end_ms ? p->end_ms - now_ms : 0;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    HttpPost *p = ctx;

    (void)fd;
    (void)what;
    /* After SIGSTOP and SIGCONT the timers come before the sockets, where the answer may lie. */
    if (p->bev != NULL && !p->timer_put_off && clock_now_ms() > p->timer_due_ms + LATE_MS) {
        p->timer_put_off = true;
        set_timer(p, SECOND_LOOK_MS);
        return;
    }
    if (p->bev == NULL)
        fail_attempt(
            p,
            p->failure); /* the attempt ended before it began: reported from here, from the loop */
    else if (!p->is_connected)
        fail_attempt(p, "no connection within the time limit");
    else
        finish(p, "no complete answer within the time limit");
}

static void on_sent(struct bufferevent *bev, void *ctx)
{
    HttpPost *p = ctx;

    if (p->is_connected)
        return;
    p->is_connected = true;
    set_timer(p, time_left_ms(p));
    if (bufferevent_enable(bev, EV_READ) != 0)
        finish(p, "out of memory");
}

static void on_answer(struct bufferevent *bev, void *ctx)
{
    HttpPost *p = ctx;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t n;

    while ((n = evbuffer_get_contiguous_space(in)) > 0) {
        const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)n);
        llhttp_errno_t result;

        if (n > ANSWER_MAX_BYTES - p->n_received)
            n = ANSWER_MAX_BYTES - p->n_received;
        result = llhttp_execute(&p->parser, data, n);
        p->n_received += n;
        (void)evbuffer_drain(in, n);
        if (result != HPE_OK) {
            finish(p,
                   "the answer is not HTTP/1.1"); /* HPE_PAUSED: complete, so a status is there */
            return;
        }
        if (p->n_received >= ANSWER_MAX_BYTES) {
            finish(p, "no complete answer head within 64 KiB");
            return;
        }
    }
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    HttpPost *p = ctx;
    const int error = errno;

    (void)bev;
    if ((what & BEV_EVENT_EOF) != 0) {
        finish(p, "the connection was closed without an answer");
        return;
    }
    snprintf(p->failure, sizeof p->failure, "%s", strerror(error));
    fail_attempt(p, p->failure);
}

static void name_peer(HttpPost *p, const struct sockaddr *address, socklen_t len)
{
    char host[64], service[16];

    if (getnameinfo(address, len, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(p->peer, sizeof p->peer, "address %d", p->next_address);
    else
        snprintf(p->peer, sizeof p->peer, address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
                 host, service);
}

/* A connecting socket, or -1 with errno. */
static int connecting_socket(const struct sockaddr *address, socklen_t len)
{
    const int on = 1;
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, address, len) != 0 && errno != EINPROGRESS) {
        const int saved = errno;
        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* Queues the request at once: the first write comes when the connection stands, and fails when it
 * does not. */
static bool begin_attempt(HttpPost *p, int fd)
{
    p->bev = bufferevent_socket_new(p->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (p->bev == NULL) {
        (void)close(fd);
        return false;
    }
    bufferevent_setcb(p->bev, on_answer, on_sent, on_end, p);
    if (evbuffer_add_buffer_reference(bufferevent_get_output(p->bev), p->request) == 0 &&
        bufferevent_enable(p->bev, EV_WRITE) == 0)
        return true;
    drop_connection(p);
    return false;
}

/* Never calls done: what fails at once is reported by the timer. */
static void try_next_address(HttpPost *p)
{
    const int i = p->next_address++;
    const struct sockaddr *address = (const struct sockaddr *)&p->addresses->items[i].address;
    const socklen_t len = p->addresses->items[i].len;
    int fd;

    name_peer(p, address, len);
    fd = connecting_socket(address, len);
    if (fd >= 0 && begin_attempt(p, fd)) {
        set_timer(p, time_left_ms(p) / (uint64_t)(p->addresses->n - i));
        return;
    }
    snprintf(p->failure, sizeof p->failure, "%s", fd < 0 ? strerror(errno) : "out of memory");
    set_timer(p, 0);
}

HttpPost *http_post_start(struct event_base *base, const HttpUrl *u, const HttpAddress *a,
                          const char *body, size_t n_body, int timeout_ms, HttpPostDone done,
                          void *ctx)
{
    HttpPost *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    (void)signal(SIGPIPE, SIG_IGN);
    p->base = base;
    p->addresses = a;
    p->end_ms = clock_now_ms() + (uint64_t)timeout_ms;
    p->done = done;
    p->ctx = ctx;
    llhttp_init(&p->parser, HTTP_RESPONSE, &settings);
    p->parser.data = p;
    p->timer = evtimer_new(base, on_timer, p);
    p->request = evbuffer_new();
    if (p->timer == NULL || p->request == NULL ||
        evbuffer_add_printf(
            p->request,
            "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: llorch-cpud\r\nContent-Type: "
            "application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            u->target, u->authority, n_body) < 0 ||
        evbuffer_add(p->request, body, n_body) != 0) {
        http_post_abort(p);
        return NULL;
    }
    try_next_address(p);
    return p;
}
