/* http/connection.c: one connection: bytes to requests, answers to bytes, and every way in which it
 * can end. Only callbacks of the loop, the sweep and http_server_poll_hangups free a connection;
 * what the handler calls never does.
 *
 * May include: common. */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "http/server_internal.h"

enum {
    ERROR_BODY_BYTES = 1024,
    STALL_SHARE = 16 /* of a long answer must be taken in the time of min_taken_bytes */
};

static size_t pending_output(const HttpConn *c)
{
    return evbuffer_get_length(bufferevent_get_output(c->bev));
}

static void set_deadline(HttpConn *c, int after_ms)
{
    c->since_ms = clock_now_ms();
    c->deadline_ms = c->since_ms + (uint64_t)after_ms;
}

/* What was queued will be sent, unless it could not be added. libevent waits for the socket by
 * itself as soon as something is queued; when that fails, for want of memory or by the kernel's
 * refusal, it tells nobody. */
static void check_queued(HttpConn *c, bool added)
{
    if (added && event_pending(&c->bev->ev_write, EV_WRITE, NULL))
        return;
    c->broken = true;
    server_kick(c);
}

/* Everything that is sent passes here or through queue_head. */
static void queue(HttpConn *c, const char *data, size_t n)
{
    if (c->broken || n == 0)
        return;
    check_queued(c, evbuffer_add(bufferevent_get_output(c->bev), data, n) == 0);
    c->n_queued += c->broken ? 0 : n;
}

/* Without a copy. */
static void queue_constant(HttpConn *c, const char *data, size_t n)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    if (c->broken || n == 0)
        return;
    check_queued(c, evbuffer_add_reference(out, data, n, NULL, NULL) == 0);
    c->n_queued += c->broken ? 0 : n;
}

static void queue_head(HttpConn *c, const ResponseHead *head)
{
    const size_t before = pending_output(c);

    if (c->broken)
        return;
    check_queued(c, response_add_head(bufferevent_get_output(c->bev), head));
    c->n_queued += pending_output(c) - before;
    c->server->responses[response_index(head->status)] += !c->broken;
}

static void discard_input(HttpConn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    const size_t n = evbuffer_get_length(in);

    c->n_discarded += n;
    (void)evbuffer_drain(in, n);
}

/* Reading is switched off while much waits unparsed; http_server_poll_hangups sees who leaves
 * meanwhile. Not by libevent's water mark: while the input stands there it calls the read callback
 * over and over (libevent#891), and a turn of the loop that was to be short never ends; and without
 * memory for its own callback bufferevent_setwatermark crashes (2.1.12). */
static void watch_input(HttpConn *c)
{
    const bool full = evbuffer_get_length(bufferevent_get_input(c->bev)) >= CONN_READ_BYTES;
    const bool enabled = (bufferevent_get_enabled(c->bev) & EV_READ) != 0;

    if (full && enabled)
        (void)bufferevent_disable(c->bev, EV_READ);
    else if (!full && !enabled)
        (void)bufferevent_enable(c->bev, EV_READ);
}

/* The answer is queued whole: the handler's ownership ends here. */
static void finish_answer(HttpConn *c)
{
    c->data = NULL;
    c->stream_begun = false;
    if (c->keep_alive && !c->broken) {
        c->state = CONN_IDLE;
        set_deadline(c, c->server->limits.idle_timeout_ms);
        return;
    }
    c->state = CONN_FLUSHING;
    c->deadline_ms = 0;
    discard_input(c);
    watch_input(c);
    if (pending_output(c) == 0) /* no write will report that all is sent */
        server_kick(c);
}

static void queue_answer_head(HttpConn *c, int status, const char *content_type,
                              const char *extra_headers, size_t n_body)
{
    c->keep_alive = c->keep_alive && !c->server->is_leaving;
    const ResponseHead head = {.status = status,
                               .content_type = content_type,
                               .extra_headers = extra_headers,
                               .correlation_id = c->correlation_id,
                               .show_request_id = c->show_request_id,
                               .keep_alive = c->keep_alive,
                               .n_body = n_body};

    queue_head(c, &head);
}

static void answer(HttpConn *c, int status, const char *content_type, const char *extra_headers,
                   const char *body, size_t n_body)
{
    queue_answer_head(c, status, content_type, extra_headers, n_body);
    if (!c->is_head && status != 204)
        queue(c, body, n_body);
    finish_answer(c);
}

/* What the answer needs to know of the request, also of one that was refused half-way. */
static void take_request(HttpConn *c, const ParsedRequest *request)
{
    const HttpHandler *handler = &c->server->handler;

    c->is_head = strcmp(request->method_name, "HEAD") == 0;
    c->is_chunked = !request->is_http_10;
    c->keep_alive = request->keep_alive;
    c->show_request_id = handler->shows_request_id != NULL &&
                         handler->shows_request_id(request_parser_path(c->parser));
    if (request->correlation_id[0] != '\0')
        memcpy(c->correlation_id, request->correlation_id, strlen(request->correlation_id) + 1);
    else
        correlation_id_new(c->correlation_id);
}

/* What a status must be accompanied by. */
static const char *headers_of(int status)
{
    if (status == 503)
        return "Retry-After: 1\r\n";
    return status == 401 ? "WWW-Authenticate: Bearer realm=\"llorch-cpud\"\r\n" : NULL;
}

/* Answers for this layer itself; the connection ends, since where the next request begins is not
 * known. */
static void fail(HttpConn *c, int status, const char *message)
{
    const HttpHandler *handler = &c->server->handler;
    char body[ERROR_BODY_BYTES];
    size_t n = handler->error_body(handler->ctx, request_parser_path(c->parser), status, message,
                                   body, sizeof body);

    take_request(c, request_parser_request(c->parser));
    c->keep_alive = false;
    if (n > sizeof body)
        n = sizeof body;
    answer(c, status, "application/json", headers_of(status), body, n);
    request_parser_reset(c->parser);
}

static HttpMethod method_of(const char *name)
{
    static const struct {
        const char *name;
        HttpMethod method;
    } known[] = {
        {"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"POST", HTTP_POST}, {"OPTIONS", HTTP_OPTIONS}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].method;
    return HTTP_OTHER;
}

/* The handler owns the answer from here on. */
static HttpRequest begin_handling(HttpConn *c)
{
    const ParsedRequest *parsed = request_parser_request(c->parser);

    take_request(c, parsed);
    c->state = CONN_HANDLING;
    c->deadline_ms = 0;
    c->data = NULL;
    return (HttpRequest){.method = method_of(parsed->method_name),
                         .method_name = parsed->method_name,
                         .path = parsed->path,
                         .correlation_id = c->correlation_id,
                         .content_type = parsed->content_type,
                         .content_encoding = parsed->content_encoding,
                         .if_none_match = parsed->if_none_match,
                         .body = parsed->body,
                         .n_body = parsed->n_body};
}

static void dispatch(HttpConn *c)
{
    const HttpHandler *handler = &c->server->handler;
    const HttpRequest request = begin_handling(c);

    handler->on_request(handler->ctx, c, &request);
    request_parser_reset(c->parser);
}

/* The parser refused the request. A body that is too large comes after what the handler may find
 * wrong with the head. */
static void refuse(HttpConn *c)
{
    const HttpHandler *handler = &c->server->handler;
    const int status = request_parser_status(c->parser);

    if (status == 413 && handler->on_too_large != NULL) {
        HttpRequest request = begin_handling(c);

        request.body = "";
        request.n_body = 0;
        c->keep_alive = false;
        handler->on_too_large(handler->ctx, c, &request);
        if (c->state != CONN_HANDLING) {
            request_parser_reset(c->parser);
            return;
        }
    }
    fail(c, status, request_parser_error(c->parser));
}

static bool is_receiving(const HttpConn *c)
{
    return c->state == CONN_IDLE || c->state == CONN_READING;
}

/* Feeds what is there to the parser until one request is complete. False: nothing more to do for
 * now. */
static bool read_request(HttpConn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t n, used;

    while ((n = evbuffer_get_contiguous_space(in)) > 0) {
        const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)n);
        const RequestResult result = request_parser_feed(c->parser, data, n, &used);

        (void)evbuffer_drain(in, used);
        if (result == REQUEST_COMPLETE) {
            dispatch(c);
            return true;
        }
        if (result == REQUEST_BAD) {
            refuse(c);
            return false;
        }
        if (c->state == CONN_IDLE) {
            c->state = CONN_READING;
            set_deadline(c, c->server->limits.request_timeout_ms);
        }
        if (request_parser_wants_continue(c->parser))
            queue(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return false;
}

/* The client sends nothing more and has an unfinished answer: nobody waits for that one. The
 * answers before it, in a pipeline, still go out. */
static void abandon(HttpConn *c)
{
    const HttpHandler *handler = &c->server->handler;

    if (pending_output(c) == 0) {
        conn_gone(c);
        return;
    }
    c->state = CONN_GONE;
    handler->on_close(handler->ctx, c);
    c->data = NULL;
    c->state = CONN_FLUSHING;
    discard_input(c);
}

/* Serves what the input holds, one request after the other. Stops at an answer that comes later,
 * and while many answers wait to be read; all that then remains is taken up when the output is
 * sent. c may be gone afterwards. */
static void serve_input(HttpConn *c)
{
    for (int n = 0; n < CONN_REQUESTS_PER_TURN && is_receiving(c); n++)
        if (pending_output(c) > c->server->limits.max_pending_bytes || !read_request(c))
            break;
    if (!c->peer_eof) {
        watch_input(c);
        return;
    }
    if (c->state == CONN_HANDLING) {
        abandon(c);
    } else if (is_receiving(c) && evbuffer_get_length(bufferevent_get_input(c->bev)) == 0) {
        c->state = CONN_FLUSHING;
        if (pending_output(c) == 0)
            conn_free(c);
    }
}

static void on_readable(struct bufferevent *bev, void *ctx)
{
    HttpConn *c = ctx;

    (void)bev;
    server_callback_begins(c->server);
    if (is_receiving(c)) {
        serve_input(c);
    } else if (c->state == CONN_FLUSHING || c->state == CONN_LINGERING) {
        discard_input(c);
        if (c->n_discarded > 2 * c->server->limits.max_body_bytes + CONN_READ_BYTES)
            conn_gone(c);
    } else {
        watch_input(c); /* CONN_HANDLING: a pipelined request waits; CONN_READ_BYTES bounds it */
    }
}

static void begin_lingering(HttpConn *c)
{
    if (c->peer_eof || shutdown(bufferevent_getfd(c->bev), SHUT_WR) != 0) {
        conn_free(c);
        return;
    }
    c->state = CONN_LINGERING;
    set_deadline(c, CONN_LINGER_MS);
}

static void on_all_sent(struct bufferevent *bev, void *ctx)
{
    HttpConn *c = ctx;

    (void)bev;
    server_callback_begins(c->server);
    if (c->state == CONN_FLUSHING)
        begin_lingering(c);
    else if (is_receiving(c))
        serve_input(c);
}

void conn_kicked(HttpConn *c)
{
    if (c->broken)
        conn_gone(c);
    else if (pending_output(c) == 0)
        on_all_sent(c->bev, c);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    HttpConn *c = ctx;

    (void)bev;
    if ((what & BEV_EVENT_EOF) == 0 || c->state == CONN_LINGERING) {
        conn_gone(c);
        return;
    }
    c->peer_eof = true;
    if (c->state == CONN_HANDLING)
        abandon(c);
    else if (is_receiving(c))
        serve_input(c);
    else if (pending_output(c) == 0)
        conn_free(c);
}

void conn_hung_up(HttpConn *c, bool both_ways)
{
    c->peer_eof = true;
    if (both_ways)
        conn_gone(c);
    else
        abandon(c);
}

static void set_socket_options(HttpConn *c, int fd)
{
    const int on = 1;
    const int send_bytes = (int)c->server->limits.max_pending_bytes;

    c->is_tcp = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
    /* Bounded so that "unread by the client" is not hidden by megabytes in the kernel. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
}

HttpConn *conn_new(HttpServer *s, int fd)
{
    HttpConn *c = calloc(1, sizeof *c);

    if (c == NULL || (c->parser = request_parser_new(&s->request_limits)) == NULL)
        goto fail;
    c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (c->bev == NULL)
        goto fail;
    c->server = s;
    set_socket_options(c, fd);
    bufferevent_setcb(c->bev, on_readable, on_all_sent, on_end, c);
    (void)bufferevent_set_max_single_read(c->bev, CONN_READ_BYTES);
    c->state = CONN_IDLE;
    set_deadline(c, s->limits.idle_timeout_ms);
    server_conn_added(s, c);
    /* Writing is enabled from the start; asked for, it would cost a turn with nothing to send. */
    if (bufferevent_enable(c->bev, EV_READ) != 0) {
        conn_free(c);
        return NULL;
    }
    return c;

fail:
    if (c != NULL)
        request_parser_free(c->parser);
    free(c);
    (void)close(fd);
    return NULL;
}

/* What has left the worker is still sent by the kernel, but not for minutes to nobody. */
static void bound_the_rest(const HttpConn *c)
{
    const unsigned patience_ms = (unsigned)c->server->limits.write_timeout_ms;

    if (c->is_tcp && c->n_taken < c->n_queued)
        (void)setsockopt(bufferevent_getfd(c->bev), IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms,
                         sizeof patience_ms);
}

void conn_free(HttpConn *c)
{
    server_conn_removed(c->server, c);
    bound_the_rest(c);
    bufferevent_free(c->bev);
    request_parser_free(c->parser);
    free(c);
}

void conn_gone(HttpConn *c)
{
    const HttpHandler *handler = &c->server->handler;
    const bool unfinished = c->state == CONN_HANDLING;

    c->state = CONN_GONE;
    if (unfinished)
        handler->on_close(handler->ctx, c);
    conn_free(c);
}

bool conn_is_spare(const HttpConn *c)
{
    return (is_receiving(c) && !c->long_answer) || c->state == CONN_LINGERING;
}

bool conn_is_talking(const HttpConn *c)
{
    return c->state == CONN_LINGERING && c->n_discarded > 0;
}

/* Bytes that the client's side has not confirmed, of those that left as well. TCP_USER_TIMEOUT is
 * no help: to the kernel a client that reads slowly, and mostly has its window closed, is the same
 * as one that vanished without a word. */
static uint64_t not_taken(const HttpConn *c)
{
    const uint64_t pending = pending_output(c);
    int sent = 0;

    if (!c->is_tcp || ioctl(bufferevent_getfd(c->bev), SIOCOUTQ, &sent) != 0 || sent < 0)
        return pending;
    if ((uint64_t)sent > c->n_queued - pending) /* a FIN counts as one */
        return c->n_queued;
    return pending + (uint64_t)sent;
}

static bool is_stalled(HttpConn *c, uint64_t now_ms)
{
    const uint64_t waiting = c->n_taken < c->n_queued ? not_taken(c) : 0;

    c->n_taken = c->n_queued - waiting;
    if (waiting == 0) {
        c->stall_deadline_ms = 0;
        c->long_answer = false;
        return false;
    }
    if (c->stall_deadline_ms != 0 && c->n_taken - c->stall_taken < c->stall_needs)
        return now_ms >= c->stall_deadline_ms;
    c->stall_deadline_ms = now_ms + (uint64_t)c->server->limits.write_timeout_ms;
    c->stall_taken = c->n_taken;
    c->stall_needs = c->server->limits.min_taken_bytes;
    if (c->stall_needs > waiting)
        c->stall_needs = waiting;
    if (c->long_answer && c->stall_needs < waiting / STALL_SHARE)
        c->stall_needs = waiting / STALL_SHARE;
    return false;
}

void conn_check_deadlines(HttpConn *c, uint64_t now_ms)
{
    if (is_stalled(c, now_ms)) {
        conn_gone(c);
        return;
    }
    if (c->n_taken < c->n_queued) { /* silence begins once all is taken */
        if (c->state == CONN_IDLE)
            c->deadline_ms = now_ms + (uint64_t)c->server->limits.idle_timeout_ms;
        else if (c->state == CONN_LINGERING)
            c->deadline_ms = now_ms + CONN_LINGER_MS;
    }
    if (c->deadline_ms == 0 || now_ms < c->deadline_ms)
        return;
    if (c->state == CONN_READING)
        fail(c, 408, "the request did not arrive in time");
    else
        conn_gone(c);
}

void http_conn_set_data(HttpConn *c, void *data)
{
    c->data = data;
}

void *http_conn_data(const HttpConn *c)
{
    return c->data;
}

void http_respond(HttpConn *c, int status, const char *content_type, const char *extra_headers,
                  const char *body, size_t n_body)
{
    if (c->state == CONN_HANDLING && !c->stream_begun)
        answer(c, status, content_type, extra_headers, body, n_body);
}

void http_respond_constant(HttpConn *c, int status, const char *content_type,
                           const char *extra_headers, const char *body, size_t n_body)
{
    if (c->state != CONN_HANDLING || c->stream_begun)
        return;
    queue_answer_head(c, status, content_type, extra_headers, n_body);
    if (!c->is_head && status != 304)
        queue_constant(c, body, n_body);
    finish_answer(c);
}

static void free_body(const void *body, size_t n_body, void *ctx)
{
    (void)body;
    (void)n_body;
    free(ctx);
}

void http_respond_with(HttpConn *c, int status, const char *content_type, char *body, size_t n_body)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    if (c->state != CONN_HANDLING || c->stream_begun) {
        free(body);
        return;
    }
    queue_answer_head(c, status, content_type, NULL, n_body);
    if (c->broken || c->is_head || n_body == 0) {
        free(body);
    } else {
        const bool added = evbuffer_add_reference(out, body, n_body, free_body, body) == 0;

        if (!added)
            free(body);
        check_queued(c, added);
        c->n_queued += added ? n_body : 0;
        c->long_answer = true;
    }
    finish_answer(c);
}

void http_stream_begin(HttpConn *c)
{
    const ResponseHead head = {.status = 200,
                               .content_type = "text/event-stream",
                               .extra_headers = "Cache-Control: no-cache\r\n",
                               .correlation_id = c->correlation_id,
                               .show_request_id = c->show_request_id,
                               .is_stream = true,
                               .is_chunked = c->is_chunked};

    if (c->state != CONN_HANDLING || c->stream_begun)
        return;
    c->stream_begun = true;
    c->keep_alive = false;
    queue_head(c, &head);
}

bool http_stream_begun(const HttpConn *c)
{
    return c->stream_begun;
}

void http_stream_write(HttpConn *c, const char *data, size_t n)
{
    char size_line[32];

    if (c->state != CONN_HANDLING || !c->stream_begun || c->is_head || n == 0)
        return;
    if (c->is_chunked)
        queue(c, size_line, (size_t)snprintf(size_line, sizeof size_line, "%zx\r\n", n));
    queue(c, data, n);
    if (c->is_chunked)
        queue(c, "\r\n", 2);
}

bool http_stream_blocked(const HttpConn *c)
{
    return pending_output(c) > c->server->limits.max_pending_bytes;
}

void http_stream_end(HttpConn *c)
{
    if (c->state != CONN_HANDLING || !c->stream_begun)
        return;
    if (c->is_chunked && !c->is_head)
        queue(c, "0\r\n\r\n", 5);
    finish_answer(c);
}
