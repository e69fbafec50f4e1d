/* tests/test_http_client.c: the ready callback's POST against fake servers of every temper, all in
 * one loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "http/client_internal.h"

typedef enum {
    FAKE_CLOSES,  /* sends its answer and closes */
    FAKE_STAYS,   /* sends its answer and keeps the connection open */
    FAKE_ENDLESS, /* sends its answer, then x without end */
    FAKE_TRICKLES /* sends its answer byte by byte, one each 5 ms, again and again */
} FakeMode;

typedef struct {
    struct event_base *base;
    struct event *accept_event, *io_event, *timer;
    FakeMode mode;
    const char *answer;
    size_t n_answer, n_trickled;
    int port, fd, n_connections;
    char request[4096];
    size_t n_request;

    int n_done, status;
    char message[512];
} Fake;

static void on_done(void *ctx, int status, const char *message)
{
    Fake *f = ctx;

    f->n_done++;
    f->status = status;
    snprintf(f->message, sizeof f->message, "%s", message);
}

static void hang_up(Fake *f)
{
    if (f->io_event != NULL)
        event_free(f->io_event);
    f->io_event = NULL;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    static const char noise[4096] = "xxxxxxxxxxxxxxxx";

    (void)what;
    if (send(fd, noise, sizeof noise, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        hang_up(ctx);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    Fake *f = ctx;
    const struct timeval tick = {.tv_usec = 5000};

    (void)fd;
    (void)what;
    if (f->fd >= 0 && send(f->fd, f->answer + f->n_trickled++ % f->n_answer, 1, MSG_NOSIGNAL) == 1)
        event_add(f->timer, &tick);
}

static void give_answer(Fake *f)
{
    if (f->mode == FAKE_TRICKLES) {
        on_tick(-1, 0, f);
        return;
    }
    (void)!send(f->fd, f->answer, f->n_answer, MSG_NOSIGNAL);
    if (f->mode == FAKE_CLOSES)
        hang_up(f);
    if (f->mode == FAKE_ENDLESS) {
        event_free(f->io_event);
        f->io_event = event_new(f->base, f->fd, EV_WRITE | EV_PERSIST, on_writable, f);
        event_add(f->io_event, NULL);
    }
}

static void on_request(evutil_socket_t fd, short what, void *ctx)
{
    Fake *f = ctx;
    const ssize_t k = recv(fd, f->request + f->n_request, sizeof f->request - 1 - f->n_request, 0);
    const char *end;

    (void)what;
    if (k <= 0) {
        hang_up(f);
        return;
    }
    f->n_request += (size_t)k;
    f->request[f->n_request] = '\0';
    end = strstr(f->request, "\r\n\r\n");
    if (end != NULL && strlen(end) >= 4 + strlen("{\"a\":1}"))
        give_answer(f);
}

static void on_connection(evutil_socket_t fd, short what, void *ctx)
{
    Fake *f = ctx;

    (void)what;
    f->n_connections++;
    hang_up(f);
    f->n_request = 0;
    f->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    f->io_event = event_new(f->base, f->fd, EV_READ | EV_PERSIST, on_request, f);
    event_add(f->io_event, NULL);
}

static struct event *listen_on(Fake *f, const void *address, socklen_t len)
{
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound;
    socklen_t n = sizeof bound;
    const int family = ((const struct sockaddr *)address)->sa_family;
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct event *event;

    if (fd < 0 || bind(fd, address, len) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &n) != 0) {
        close(fd);
        return NULL;
    }
    f->port = ntohs(family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    event = event_new(f->base, fd, EV_READ | EV_PERSIST, on_connection, f);
    event_add(event, NULL);
    return event;
}

static void fake_open(Fake *f, FakeMode mode, const char *answer, size_t n)
{
    const struct sockaddr_in any = {.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct event_config *config = event_config_new();

    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->mode = mode;
    f->answer = answer;
    f->n_answer = n;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    f->base = event_base_new_with_config(config);
    event_config_free(config);
    f->timer = evtimer_new(f->base, on_tick, f);
    f->accept_event = listen_on(f, &any, sizeof any);
    assert_non_null(f->accept_event);
}

static void fake_stop_listening(Fake *f)
{
    close(event_get_fd(f->accept_event));
    event_free(f->accept_event);
    f->accept_event = NULL;
}

static void fake_close(Fake *f)
{
    if (f->accept_event != NULL)
        fake_stop_listening(f);
    hang_up(f);
    event_free(f->timer);
    event_base_free(f->base);
}

/* Posts to the URL made of format and the fake's port; waits for the end. Returns the milliseconds
 * it took. */
static int post(Fake *f, const char *host, const char *path, int timeout_ms)
{
    const uint64_t begin = clock_now_ms();
    char url[512];
    HttpUrl u;
    HttpAddress *a;
    Err err = {0};

    snprintf(url, sizeof url, "http://%s:%d%s", host, f->port, path);
    assert_int_equal(http_url_parse(&u, url, &err), ERR_OK);
    assert_int_equal(http_address_resolve(&a, &u, &err), ERR_OK);
    f->n_done = 0;
    assert_non_null(http_post_start(f->base, &u, a, "{\"a\":1}", 7, timeout_ms, on_done, f));
    assert_int_equal(f->n_done, 0); /* never from inside http_post_start */
    while (f->n_done == 0 && clock_now_ms() < begin + 5000)
        event_base_loop(f->base, EVLOOP_ONCE);
    for (int i = 0; i < 5; i++)
        event_base_loop(f->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    assert_int_equal(f->n_done, 1);
    http_address_free(a);
    return (int)(clock_now_ms() - begin);
}

/* --- URLs --- */

static void parses_urls(void **state)
{
    static const struct {
        const char *url, *host;
        int port;
        const char *target, *authority;
    } cases[] = {
        {"http://a", "a", 80, "/", "a"},
        {"http://a/", "a", 80, "/", "a"},
        {"HTTP://a.b-c_d:9200/v2/ready", "a.b-c_d", 9200, "/v2/ready", "a.b-c_d:9200"},
        {"http://127.0.0.1:1/x?y=z&a=%20", "127.0.0.1", 1, "/x?y=z&a=%20", "127.0.0.1:1"},
        {"http://a?b", "a", 80, "/?b", "a"},
        {"http://a:8/?b", "a", 8, "/?b", "a:8"},
        {"http://[::1]:65535/r", "::1", 65535, "/r", "[::1]:65535"},
        {"http://[2001:db8::1]", "2001:db8::1", 80, "/", "[2001:db8::1]"},
        {"http://a:00080/", "a", 80, "/", "a:00080"},
        {"http://a/b@c:d", "a", 80, "/b@c:d", "a"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        HttpUrl u;
        Err err = {0};
        if (http_url_parse(&u, cases[i].url, &err) != ERR_OK)
            fail_msg("%s: %s", cases[i].url, err.msg);
        assert_string_equal(u.host, cases[i].host);
        assert_int_equal(u.port, cases[i].port);
        assert_string_equal(u.target, cases[i].target);
        assert_string_equal(u.authority, cases[i].authority);
    }
}

static void refuses_urls(void **state)
{
    static const struct {
        const char *url, *why;
    } cases[] = {
        {"https://a/", "https is not supported"},
        {"HTTPS://a/", "https is not supported"},
        {"", "does not begin with http://"},
        {"a:80", "does not begin with http://"},
        {"http:/a", "does not begin with http://"},
        {"ftp://a", "does not begin with http://"},
        {" http://a", "does not begin with http://"},
        {"http://", "the host is missing"},
        {"http:///x", "the host is missing"},
        {"http://:80/", "the host is missing"},
        {"http://?a", "the host is missing"},
        {"http://a:/", "the port is not"},
        {"http://a:0/", "the port is not"},
        {"http://a:65536/", "the port is not"},
        {"http://a:+80/", "the port is not"},
        {"http://a:80x/", "the port is not"},
        {"http://a:000080/", "the port is not"},
        {"http://a:80:90/", "the port is not"},
        {"http://a:4294967376/", "the port is not"},
        {"http://u@a/", "user names"},
        {"http://u:p@a/", "user names"},
        {"http://a/b c", "blank"},
        {"http://a/b\r\nX: y", "blank"},
        {"http://a\t/", "blank"},
        {"http://\xc3\xa4/", "blank"},
        {"http://a/#b", "fragments"},
        {"http://[::1", "the host is missing or not"},
        {"http://[::1/]", "the host is missing or not"},
        {"http://[]/", "the host is missing or not"},
        {"http://[::1]x/", "the port is not"},
        {"http://[a.b]/", "not an IPv6 address"},
        {"http://[1.2.3.4]/", "not an IPv6 address"},
        {"http://a,b/", "the host is missing or not"},
        {"http://::1/", "the host is missing or not"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        HttpUrl u;
        Err err = {0};
        if (http_url_parse(&u, cases[i].url, &err) != ERR_USAGE ||
            strstr(err.msg, cases[i].why) == NULL)
            fail_msg("\"%s\": expected \"%s\", got \"%s\"", cases[i].url, cases[i].why, err.msg);
    }
}

static void url_lengths_are_exact(void **state)
{
    char url[4096];
    HttpUrl u;
    Err err = {0};

    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        const int n_host = HTTP_URL_HOST_BYTES - 1 + extra;
        memset(url, 'a', sizeof url);
        memcpy(url, "http://", 7);
        url[7 + n_host] = '\0';
        assert_int_equal(http_url_parse(&u, url, &err), extra == 0 ? ERR_OK : ERR_USAGE);

        memset(url, 'a', sizeof url);
        memcpy(url, "http://a/", 9);
        url[8 + HTTP_URL_TARGET_BYTES - 2 + extra] = '\0';
        assert_int_equal(http_url_parse(&u, url, &err), extra == 0 ? ERR_OK : ERR_USAGE);
    }
}

static void names_that_do_not_exist_are_reported(void **state)
{
    HttpUrl u;
    HttpAddress *a = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(http_url_parse(&u, "http://nowhere.invalid:9/", &err), ERR_OK);
    assert_int_equal(http_address_resolve(&a, &u, &err), ERR_NETWORK);
    assert_null(a);
    assert_memory_equal(err.msg, "nowhere.invalid:9: cannot resolve the host: ", 44);
}

/* --- answers --- */

static void sends_the_post_verbatim(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    char want[512];
    Fake f;

    (void)state;
    fake_open(&f, FAKE_CLOSES, answer, sizeof answer - 1);
    (void)post(&f, "127.0.0.1", "/v2/ready?x=%41", 2000);
    assert_int_equal(f.status, 200);
    assert_string_equal(f.message, "status 200");
    snprintf(want, sizeof want,
             "POST /v2/ready?x=%%41 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: llorch-cpud\r\n"
             "Content-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
             "{\"a\":1}",
             f.port);
    assert_string_equal(f.request, want);
    assert_int_equal(f.n_connections, 1);
    fake_close(&f);
}

typedef struct {
    const char *name;
    FakeMode mode;
    const char *answer;
    int status;
    const char *message; /* a part of it */
} Answer;

static const Answer answers[] = {
    {"200 by length, then silence", FAKE_STAYS, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
     200, "status 200"},
    {"204", FAKE_STAYS, "HTTP/1.1 204 No Content\r\n\r\n", 204, "status 204"},
    {"chunked", FAKE_STAYS,
     "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 202, "202"},
    {"until close", FAKE_CLOSES, "HTTP/1.1 200 OK\r\n\r\nsome text", 200, "200"},
    {"HTTP/1.0", FAKE_CLOSES, "HTTP/1.0 200 OK\r\n\r\n{}", 200, "200"},
    {"no reason phrase", FAKE_CLOSES, "HTTP/1.1 200\r\n\r\n", 200, "200"},
    {"500", FAKE_CLOSES, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500, "status 500"},
    {"503", FAKE_CLOSES, "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n", 503, "status 503"},
    {"redirect is not followed", FAKE_CLOSES,
     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302,
     "status 302"},
    {"100 comes first", FAKE_CLOSES,
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 201, "201"},
    {"103 comes first", FAKE_CLOSES,
     "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200,
     "200"},
    {"101 is an answer", FAKE_STAYS,
     "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101, "101"},
    {"body cut short", FAKE_CLOSES, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok", 200, "200"},
    {"damaged chunks", FAKE_CLOSES, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     200, "200"},
    {"100 and no more", FAKE_CLOSES, "HTTP/1.1 100 Continue\r\n\r\n", 0,
     "closed without an answer"},
    {"nothing", FAKE_CLOSES, "", 0, "closed without an answer"},
    {"half a head", FAKE_CLOSES, "HTTP/1.1 200 OK\r\nA: b", 0, "closed without an answer"},
    {"garbage", FAKE_CLOSES, "hello world\r\n\r\n", 0, "is not HTTP/1.1"},
    {"garbage, kept open", FAKE_STAYS, "SSH-2.0-x\r\n", 0, "is not HTTP/1.1"},
    {"no status", FAKE_STAYS, "HTTP/1.1 abc OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"HTTP/2.0", FAKE_STAYS, "HTTP/2.0 200 OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"HTTP/0.9", FAKE_STAYS, "HTTP/0.9 200 OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"status of two digits", FAKE_STAYS, "HTTP/1.1 20 OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"status 000", FAKE_STAYS, "HTTP/1.1 000 OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"status 600", FAKE_STAYS, "HTTP/1.1 600 OK\r\n\r\n", 0, "is not HTTP/1.1"},
    {"two lengths", FAKE_STAYS,
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, "is not HTTP/1.1"},
    {"endless body", FAKE_ENDLESS, "HTTP/1.1 200 OK\r\n\r\n", 200, "200"},
    {"endless error", FAKE_ENDLESS, "HTTP/1.1 500 Oops\r\n\r\n", 500, "500"},
    {"endless head", FAKE_ENDLESS, "HTTP/1.1 200 OK\r\nA: ", 0, ""},
};

static void understands_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const Answer *a = &answers[i];
        Fake f;
        int took;

        fake_open(&f, a->mode, a->answer, strlen(a->answer));
        took = post(&f, "127.0.0.1", "/", 2000);
        if (f.status != a->status || strstr(f.message, a->message) == NULL || took > 1500 ||
            f.n_connections != 1)
            fail_msg("%s: expected %d \"%s\", got %d \"%s\" after %d ms", a->name, a->status,
                     a->message, f.status, f.message, took);
        fake_close(&f);
    }
}

static void answers_split_anywhere(void **state)
{
    static const char answer[] =
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    Fake f;

    (void)state;
    fake_open(&f, FAKE_TRICKLES, answer, sizeof answer - 1);
    (void)post(&f, "127.0.0.1", "/", 3000);
    assert_int_equal(f.status, 201);
    fake_close(&f);
}

static void an_endless_head_ends_at_64_kib(void **state)
{
    static char answer[70000];
    size_t n = (size_t)snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nA: ");
    Fake f;

    (void)state;
    memset(answer + n, 'v', sizeof answer - n);
    fake_open(&f, FAKE_STAYS, answer, sizeof answer);
    assert_true(post(&f, "127.0.0.1", "/", 2000) < 1500);
    assert_int_equal(f.status, 0);
    assert_non_null(strstr(f.message, "within 64 KiB"));
    fake_close(&f);
}

static void silence_ends_at_the_time_limit(void **state)
{
    Fake f;
    int took;

    (void)state;
    fake_open(&f, FAKE_STAYS, "", 0);
    took = post(&f, "127.0.0.1", "/", 150);
    assert_in_range(took, 140, 600);
    assert_int_equal(f.status, 0);
    assert_non_null(strstr(f.message, "time limit"));
    fake_close(&f);
}

static void a_trickle_ends_at_the_time_limit(void **state)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    Fake f;
    int took;

    (void)state;
    fake_open(&f, FAKE_TRICKLES, answer, sizeof answer - 1);
    took = post(&f, "127.0.0.1", "/", 150);
    assert_in_range(took, 140, 600);
    assert_int_equal(f.status, 0);
    fake_close(&f);
}

static void a_refused_connection_is_reported(void **state)
{
    char want[128];
    Fake f;

    (void)state;
    fake_open(&f, FAKE_CLOSES, "", 0);
    fake_stop_listening(&f);
    assert_true(post(&f, "127.0.0.1", "/", 2000) < 1000);
    assert_int_equal(f.status, 0);
    snprintf(want, sizeof want, "127.0.0.1:%d: Connection refused", f.port);
    assert_string_equal(f.message, want);
    fake_close(&f);
}

/* 240.0.0.0/4 is reserved: connect fails at once, inside http_post_start. */
static void a_connection_that_cannot_begin_is_reported(void **state)
{
    Fake f;

    (void)state;
    fake_open(&f, FAKE_CLOSES, "", 0);
    assert_true(post(&f, "255.255.255.255", "/", 1000) < 900);
    assert_int_equal(f.status, 0);
    assert_memory_equal(f.message, "255.255.255.255:", 16);
    fake_close(&f);
}

/* "localhost" is 127.0.0.1 and then ::1: with a listener on the second only, the second is tried.
 */
static void the_next_address_is_tried(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    Fake f;

    (void)state;
    fake_open(&f, FAKE_CLOSES, answer, sizeof answer - 1);
    (void)post(&f, "localhost", "/", 2000);
    assert_int_equal(f.status, 200);
    fake_stop_listening(&f);
    f.accept_event = listen_on(&f, &loopback, sizeof loopback);
    if (f.accept_event == NULL) { /* a machine without IPv6 */
        fake_close(&f);
        skip();
    }
    (void)post(&f, "localhost", "/", 2000);
    assert_int_equal(f.status, 200);
    (void)post(&f, "[::1]", "/", 2000);
    assert_int_equal(f.status, 200);
    assert_int_equal(f.n_connections, 3);
    fake_stop_listening(&f);
    (void)post(&f, "localhost", "/", 2000);
    assert_int_equal(f.status, 0);
    assert_memory_equal(f.message, "[::1]:", 6);
    fake_close(&f);
}

/* --- several addresses of one host --- */

static void add_loopback(HttpAddress *a, int port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memcpy(&a->items[a->n].address, &at, sizeof at);
    a->items[a->n++].len = sizeof at;
}

static int post_to(Fake *f, const HttpAddress *a, int timeout_ms)
{
    const HttpUrl u = {.host = "x", .port = 80, .target = "/", .authority = "x"};
    const uint64_t begin = clock_now_ms();

    f->n_done = 0;
    assert_non_null(http_post_start(f->base, &u, a, "{\"a\":1}", 7, timeout_ms, on_done, f));
    while (f->n_done == 0)
        assert_true(event_base_loop(f->base, EVLOOP_ONCE) >= 0);
    return (int)(clock_now_ms() - begin);
}

static int connect_to(int port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)connect(fd, (const struct sockaddr *)&at, sizeof at);
    return fd;
}

/* An address that says nothing at all, a listener whose queue is full, costs its share of the time
 * and no more: there are two, so half. */
static void a_silent_address_costs_its_share(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    HttpAddress a = {.n = 0};
    int waiting[4], silent, took;
    struct pollfd last;
    Fake f, full;

    (void)state;
    fake_open(&full, FAKE_STAYS, "", 0);
    silent = event_get_fd(full.accept_event);
    assert_int_equal(listen(silent, 0), 0);
    for (int i = 0; i < 4; i++)
        waiting[i] = connect_to(full.port);
    last = (struct pollfd){.fd = waiting[3], .events = POLLOUT};
    fake_open(&f, FAKE_CLOSES, answer, sizeof answer - 1);
    add_loopback(&a, full.port);
    add_loopback(&a, f.port);
    if (poll(&last, 1, 50) == 0) { /* else this system's queues never fill */
        took = post_to(&f, &a, 1200);
        assert_int_equal(f.status, 200);
        assert_true(took >= 590);
    }
    for (int i = 0; i < 4; i++)
        close(waiting[i]);
    fake_close(&f);
    fake_close(&full);
}

static void reset_reader(evutil_socket_t fd, short what, void *ctx)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    Fake *f = ctx;

    (void)what;
    (void)!recv(fd, f->request, sizeof f->request, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

static void reset_peer(evutil_socket_t fd, short what, void *ctx)
{
    Fake *f = ctx;

    (void)what;
    f->n_connections++;
    fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    event_base_once(event_get_base(f->accept_event), fd, EV_READ, reset_reader, f, NULL);
}

/* Whoever read the post may have acted on it: no other address gets it as well. */
static void a_post_is_not_sent_twice(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    HttpAddress a = {.n = 0};
    int listener;
    Fake f, resets;

    (void)state;
    fake_open(&f, FAKE_CLOSES, answer, sizeof answer - 1);
    fake_open(&resets, FAKE_CLOSES, "", 0);
    listener = event_get_fd(resets.accept_event);
    event_free(resets.accept_event);
    resets.accept_event = event_new(f.base, listener, EV_READ | EV_PERSIST, reset_peer, &resets);
    event_add(resets.accept_event, NULL);
    add_loopback(&a, resets.port);
    add_loopback(&a, f.port);
    (void)post_to(&f, &a, 2000);
    assert_int_equal(f.status, 0);
    assert_int_equal(resets.n_connections, 1);
    assert_int_equal(f.n_connections, 0);
    fake_close(&resets); /* its listener is on the other one's loop */
    fake_close(&f);
}

static void an_aborted_post_says_nothing(void **state)
{
    char url[64];
    HttpUrl u;
    HttpAddress *a;
    HttpPost *p;
    Err err = {0};
    Fake f;

    (void)state;
    fake_open(&f, FAKE_STAYS, "", 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", f.port);
    assert_int_equal(http_url_parse(&u, url, &err), ERR_OK);
    assert_int_equal(http_address_resolve(&a, &u, &err), ERR_OK);
    for (int rounds = 0; rounds < 6; rounds++) {
        p = http_post_start(f.base, &u, a, "{\"a\":1}", 7, 1000, on_done, &f);
        assert_non_null(p);
        for (int i = 0; i < rounds; i++)
            event_base_loop(f.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
        http_post_abort(p);
        for (int i = 0; i < 5; i++)
            event_base_loop(f.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    }
    http_post_abort(NULL);
    assert_int_equal(f.n_done, 0);
    http_address_free(a);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_urls),
        cmocka_unit_test(refuses_urls),
        cmocka_unit_test(url_lengths_are_exact),
        cmocka_unit_test(names_that_do_not_exist_are_reported),
        cmocka_unit_test(sends_the_post_verbatim),
        cmocka_unit_test(understands_answers),
        cmocka_unit_test(answers_split_anywhere),
        cmocka_unit_test(an_endless_head_ends_at_64_kib),
        cmocka_unit_test(silence_ends_at_the_time_limit),
        cmocka_unit_test(a_trickle_ends_at_the_time_limit),
        cmocka_unit_test(a_refused_connection_is_reported),
        cmocka_unit_test(a_connection_that_cannot_begin_is_reported),
        cmocka_unit_test(the_next_address_is_tried),
        cmocka_unit_test(a_silent_address_costs_its_share),
        cmocka_unit_test(a_post_is_not_sent_twice),
        cmocka_unit_test(an_aborted_post_says_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
