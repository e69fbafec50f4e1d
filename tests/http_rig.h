/* tests/http_rig.h: a server with a tiny echo handler and clients on socketpairs, all in one thread
 * and one loop. */
#ifndef TESTS_HTTP_RIG_H
#define TESTS_HTTP_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "http/server.h"

#define RIG_STR(s) (s), sizeof(s) - 1
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

typedef struct {
    struct event_base *base;
    HttpServer *server;
    int n_requests, n_closed, n_too_large;
    HttpConn *held; /* the last request of /hold or /open */
    HttpConn *closed;
    char path[9000];
    char method[32];
    HttpMethod method_id;
    char id[160];
    char content_type[300];
    size_t n_body;
    char body[64];
} Rig;

typedef struct {
    char *data; /* NUL-terminated */
    size_t n;
    bool eof, reset;
} Reply;

static inline size_t rig_error_body(void *ctx, const char *path, int status, const char *message,
                                    char *out, size_t size)
{
    (void)ctx;
    (void)path;
    return (size_t)snprintf(out, size, "{\"code\":\"LAYER\",\"status\":%d,\"message\":\"%s\"}",
                            status, message);
}

static inline void rig_on_request(void *ctx, HttpConn *conn, const HttpRequest *q)
{
    Rig *rig = ctx;
    char text[512];
    int n;

    rig->n_requests++;
    snprintf(rig->path, sizeof rig->path, "%s", q->path);
    snprintf(rig->method, sizeof rig->method, "%s", q->method_name);
    snprintf(rig->id, sizeof rig->id, "%s", q->correlation_id);
    snprintf(rig->content_type, sizeof rig->content_type, "%s",
             q->content_type != NULL ? q->content_type : "(none)");
    snprintf(rig->body, sizeof rig->body, "%s", q->body);
    rig->method_id = q->method;
    rig->n_body = q->n_body;
    assert_null(http_conn_data(conn));
    assert_int_equal(q->body[q->n_body], '\0');
    http_conn_set_data(conn, rig);
    if (strcmp(q->path, "/open") == 0)
        http_stream_begin(conn);
    if (strcmp(q->path, "/open") == 0 || strcmp(q->path, "/hold") == 0) {
        rig->held = conn;
        return;
    }
    n = snprintf(text, sizeof text, "%s %.200s [%s]", q->method_name, q->path, rig->body);
    http_respond(conn, 200, "text/plain", NULL, text, (size_t)n);
}

/* Only /typed has something to say before 413. */
static inline void rig_on_too_large(void *ctx, HttpConn *conn, const HttpRequest *q)
{
    Rig *rig = ctx;

    rig->n_too_large++;
    assert_int_equal(q->n_body, 0);
    assert_string_equal(q->body, "");
    if (strcmp(q->path, "/typed") == 0)
        http_respond(conn, 415, "application/json", NULL, "{}", 2);
}

static inline void rig_on_close(void *ctx, HttpConn *conn)
{
    Rig *rig = ctx;

    assert_ptr_equal(http_conn_data(conn), rig);
    rig->n_closed++;
    rig->closed = conn;
    /* Answering a lost connection must do nothing. */
    http_respond(conn, 200, NULL, NULL, "x", 1);
    http_stream_begin(conn);
    http_stream_write(conn, "x", 1);
    http_stream_end(conn);
}

/* Times short enough to be waited for, and an output that fills soon. */
static inline HttpLimits small_limits(void)
{
    HttpLimits limits = http_limits_default();

    limits.request_timeout_ms = 120;
    limits.idle_timeout_ms = 240;
    limits.write_timeout_ms = 200;
    limits.max_pending_bytes = 4096;
    return limits;
}

static inline void rig_open(Rig *rig, const HttpLimits *limits)
{
    const HttpHandler handler = {.ctx = rig,
                                 .on_request = rig_on_request,
                                 .on_close = rig_on_close,
                                 .on_too_large = rig_on_too_large,
                                 .error_body = rig_error_body};
    const HttpLimits standard = http_limits_default();
    struct event_config *config = event_config_new();

    memset(rig, 0, sizeof *rig);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    rig->base = event_base_new_with_config(config);
    event_config_free(config);
    rig->server = http_server_new(rig->base, limits != NULL ? limits : &standard, &handler);
    assert_non_null(rig->server);
}

static inline void rig_close(Rig *rig)
{
    http_server_free(rig->server);
    event_base_free(rig->base);
}

/* A client; its socket does not block. */
static inline int rig_client(Rig *rig)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_non_null(http_server_adopt(rig->server, pair[1]));
    return pair[0];
}

/* As connect, to a port of this machine. */
static inline int tcp_connect(int fd, int port)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return connect(fd, (const struct sockaddr *)&to, sizeof to);
}

/* A client over TCP, to a server that listens. */
static inline int tcp_client(int port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(tcp_connect(fd, port), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static inline void rig_turn(Rig *rig)
{
    http_server_pump(rig->server, 64, 1000000);
}

static inline void rig_sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

/* Turns the loop for ms milliseconds. */
static inline void rig_run_ms(Rig *rig, int ms)
{
    const uint64_t end = clock_now_ms() + (uint64_t)ms;

    while (clock_now_ms() < end) {
        rig_turn(rig);
        rig_sleep_ms(1);
    }
}

/* Sends all of data, turning the loop; returns what the server took before it closed. */
static inline size_t rig_send(Rig *rig, int fd, const char *data, size_t n)
{
    size_t sent = 0;
    int idle = 0;

    while (sent < n && idle < 100) {
        const ssize_t k = send(fd, data + sent, n - sent, MSG_NOSIGNAL);
        idle = k > 0 ? 0 : idle + 1;
        if (k > 0)
            sent += (size_t)k;
        else if (errno != EAGAIN)
            break;
        rig_turn(rig);
    }
    return sent;
}

static inline void reply_free(Reply *r)
{
    free(r->data);
    *r = (Reply){0};
}

/* Adds what is there to r. */
static inline void reply_read(Reply *r, int fd)
{
    for (;;) {
        char buffer[4096];
        const ssize_t k = recv(fd, buffer, sizeof buffer, 0);
        if (k < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (k <= 0) {
            r->eof = k == 0;
            r->reset = k < 0;
            return;
        }
        r->data = realloc(r->data, r->n + (size_t)k + 1);
        assert_non_null(r->data);
        memcpy(r->data + r->n, buffer, (size_t)k);
        r->n += (size_t)k;
        r->data[r->n] = '\0';
    }
}

/* Everything that comes until nothing moves any more. */
static inline Reply rig_receive(Rig *rig, int fd)
{
    Reply r = {0};

    r.data = calloc(1, 1);
    for (int i = 0; i < 4; i++) {
        rig_turn(rig);
        reply_read(&r, fd);
    }
    return r;
}

static inline Reply rig_exchange(Rig *rig, int fd, const char *data, size_t n)
{
    (void)rig_send(rig, fd, data, n);
    return rig_receive(rig, fd);
}

static inline int reply_status(const Reply *r)
{
    return r->n > 12 && memcmp(r->data, "HTTP/1.1 ", 9) == 0 ? atoi(r->data + 9) : 0;
}

static inline int count_of(const char *text, const char *what)
{
    int n = 0;

    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
        n++;
    return n;
}

/* The body of a reply: what follows the first empty line. */
static inline const char *reply_body(const Reply *r)
{
    const char *end = strstr(r->data, "\r\n\r\n");

    return end != NULL ? end + 4 : "(no body)";
}

/* The value of a header, NUL-terminated, in a buffer that the next call overwrites. */
static inline const char *header_of(const Reply *r, const char *name)
{
    static char value[256];
    char key[64];
    const char *at;

    snprintf(key, sizeof key, "\r\n%s: ", name);
    at = strstr(r->data, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

#endif
