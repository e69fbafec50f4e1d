/* tests/test_http_server.c: how connections live and end: answers, streams, closed clients, time
 * limits, the listener. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>

#include "http/sse.h"
#include "http_rig.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static HttpLimits small_limits(void)
{
    HttpLimits limits = http_limits_default();

    limits.request_timeout_ms = 120;
    limits.idle_timeout_ms = 240;
    limits.write_timeout_ms = 200;
    limits.max_pending_bytes = 4096;
    return limits;
}

/* The value of a header, NUL-terminated, in a buffer that the next call overwrites. */
static const char *header_of(const Reply *r, const char *name)
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

/* Undoes chunked framing in place; fails the test when it is damaged. Returns whether the last
 * chunk came. */
static bool unchunk(const char *body, char *out, size_t size)
{
    size_t n = 0;

    for (;;) {
        char *end;
        const unsigned long k = strtoul(body, &end, 16);
        if (*body == '\0') {
            out[n] = '\0';
            return false;
        }
        assert_memory_equal(end, "\r\n", 2);
        if (k == 0) {
            assert_string_equal(end, "\r\n\r\n");
            out[n] = '\0';
            return true;
        }
        assert_true(n + k < size);
        memcpy(out + n, end + 2, k);
        n += k;
        assert_memory_equal(end + 2 + k, "\r\n", 2);
        body = end + 4 + k;
    }
}

/* --- answers --- */

static void answers_with_the_usual_headers(void **state)
{
    Rig rig;
    Reply r;
    int fd;
    struct tm tm = {0};

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_memory_equal(r.data, "HTTP/1.1 200 OK\r\n", 17);
    assert_string_equal(header_of(&r, "Content-Type"), "text/plain");
    assert_string_equal(header_of(&r, "Content-Length"), "9");
    assert_string_equal(header_of(&r, "Connection"), "keep-alive");
    assert_non_null(strptime(header_of(&r, "Date"), "%a, %d %b %Y %H:%M:%S GMT", &tm));
    assert_string_equal(reply_body(&r), "GET /a []");
    assert_false(r.eof);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void keeps_connections_alive(void **state)
{
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (int i = 0; i < 50; i++) {
        Reply r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
        assert_int_equal(reply_status(&r), 200);
        assert_false(r.eof);
        reply_free(&r);
    }
    assert_int_equal(rig.n_requests, 50);
    assert_int_equal(rig.n_closed, 0);
    close(fd);
    rig_close(&rig);
}

static void closes_when_asked_to(void **state)
{
    static const struct {
        const char *request;
        const char *connection;
    } cases[] = {
        {"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "close"},
        {"GET /a HTTP/1.1\r\nHost: x\r\nConnection: te, Close\r\n\r\n", "close"},
        {"GET /a HTTP/1.0\r\n\r\n", "close"},
        {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"},
    };
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int fd = rig_client(&rig);
        Reply r = rig_exchange(&rig, fd, cases[i].request, strlen(cases[i].request));

        assert_int_equal(reply_status(&r), 200);
        assert_string_equal(header_of(&r, "Connection"), cases[i].connection);
        assert_int_equal(r.eof, strcmp(cases[i].connection, "close") == 0);
        reply_free(&r);
        close(fd);
    }
    rig_close(&rig);
}

static void head_is_get_without_a_body(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" GET("/b")));
    assert_string_equal(header_of(&r, "Content-Length"), "10"); /* of "HEAD /a []" */
    assert_memory_equal(reply_body(&r), "HTTP/1.1 200 OK\r\n", 17);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void errors_of_the_layer_to_head_have_no_body(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR("HEAD /a HTTP/1.1\r\n\r\n"));
    assert_int_equal(reply_status(&r), 400);
    assert_string_equal(reply_body(&r), "");
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void adds_extra_headers(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/hold")));
    http_respond(rig.held, 405, "application/json", "Allow: GET, HEAD\r\n", "{}", 2);
    r = rig_receive(&rig, fd);
    assert_memory_equal(r.data, "HTTP/1.1 405 Method Not Allowed\r\n", 33);
    assert_string_equal(header_of(&r, "Allow"), "GET, HEAD");
    reply_free(&r);
    (void)rig_send(&rig, fd, RIG_STR(GET("/hold")));
    http_respond(rig.held, 204, NULL, NULL, NULL, 0);
    r = rig_receive(&rig, fd);
    assert_int_equal(reply_status(&r), 204);
    assert_null(header_of(&r, "Content-Length"));
    assert_null(header_of(&r, "Content-Type"));
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

/* --- pipelining --- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    char text[8000], want[32];
    size_t n = 0;
    const char *at;
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "GET /%d HTTP/1.1\r\nHost:\r\n\r\n", i);
    r = rig_exchange(&rig, fd, text, n);
    for (int i = 0; i < 20; i++) {
        Reply more = rig_receive(&rig, fd);
        r.data = realloc(r.data, r.n + more.n + 1);
        assert_non_null(r.data);
        memcpy(r.data + r.n, more.data, more.n + 1);
        r.n += more.n;
        reply_free(&more);
    }
    assert_int_equal(rig.n_requests, 200);
    at = r.data;
    for (int i = 0; i < 200; i++) {
        snprintf(want, sizeof want, "GET /%d []", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void a_pipelined_request_waits_for_the_answer_before(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/hold") GET("/after")));
    assert_int_equal(r.n, 0);
    assert_int_equal(rig.n_requests, 1);
    http_respond(rig.held, 200, "text/plain", NULL, "first", 5);
    assert_int_equal(rig.n_requests, 1); /* not from inside http_respond */
    reply_free(&r);
    r = rig_receive(&rig, fd);
    assert_int_equal(rig.n_requests, 2);
    assert_true(strstr(r.data, "first") < strstr(r.data, "GET /after []"));
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void nothing_follows_a_stream(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open") GET("/after")));
    http_stream_end(rig.held);
    r = rig_receive(&rig, fd);
    assert_true(r.eof);
    assert_int_equal(rig.n_requests, 1);
    assert_null(strstr(r.data, "/after"));
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void requests_before_a_half_close_are_answered(void **state)
{
    char text[4000];
    size_t n = 0;
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, GET("/%d"), i);
    assert_int_equal(send(fd, text, n, 0), n);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    r = rig_receive(&rig, fd);
    assert_int_equal(count_of(r.data, "HTTP/1.1 200 OK"), 40);
    assert_true(r.eof);
    assert_int_equal(http_server_connections(rig.server), 0);
    assert_int_equal(rig.n_closed, 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

/* The one that is answered later has nobody left to be answered. */
static void a_later_answer_is_lost_to_a_half_close(void **state)
{
    char text[4000];
    size_t n = 0;
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (int i = 0; i < 40;
         i++) /* more than are served in one turn, so that the end is seen first */
        n += (size_t)snprintf(text + n, sizeof text - n, GET("/%d"), i);
    n += (size_t)snprintf(text + n, sizeof text - n, GET("/hold"));
    assert_int_equal(send(fd, text, n, 0), n);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    r = rig_receive(&rig, fd);
    assert_true(r.eof);
    assert_int_equal(rig.n_requests, 41);
    assert_int_equal(rig.n_closed, 1);
    assert_int_equal(http_server_connections(rig.server), 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

/* --- correlation ids --- */

static bool is_uuid_v4(const char *s)
{
    if (s == NULL || strlen(s) != 36 || s[14] != '4' || strchr("89ab", s[19]) == NULL)
        return false;
    for (int i = 0; i < 36; i++)
        if ((i == 8 || i == 13 || i == 18 || i == 23) ? s[i] != '-'
                                                      : strchr("0123456789abcdef", s[i]) == NULL)
            return false;
    return true;
}

static void correlation_ids(void **state)
{
    char longest[129], too_long[130], text[512], first[64];
    const struct {
        const char *value;
        bool kept;
    } cases[] = {{"a", true},         {"Az09._-", true}, {longest, true}, {too_long, false},
                 {"", false},         {"a b", false},    {"a/b", false},  {"a\tb", false},
                 {"\xc3\xa4", false}, {"a,b", false},    {"\"a\"", false}};
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    memset(longest, 'x', 128);
    longest[128] = '\0';
    memset(too_long, 'x', 129);
    too_long[129] = '\0';
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "GET /a HTTP/1.1\r\nHost: x\r\nx-CORRELATION-id: %s\r\n\r\n",
                 cases[i].value);
        r = rig_exchange(&rig, fd, text, strlen(text));
        assert_string_equal(header_of(&r, "X-Correlation-ID"), rig.id);
        if (cases[i].kept)
            assert_string_equal(rig.id, cases[i].value);
        else
            assert_true(is_uuid_v4(rig.id));
        reply_free(&r);
    }
    r = rig_exchange(&rig, fd,
                     RIG_STR("GET /a HTTP/1.1\r\nHost: x\r\nX-Correlation-ID: a\r\n"
                             "X-Correlation-ID: b\r\n\r\n"));
    assert_true(is_uuid_v4(rig.id)); /* two of them: neither */
    reply_free(&r);
    snprintf(first, sizeof first, "%.40s", rig.id);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_true(is_uuid_v4(rig.id));
    assert_string_not_equal(rig.id, first);
    reply_free(&r);
    r = rig_exchange(&rig, fd, RIG_STR("GET /a HTTP/1.1\r\nX-Correlation-ID: mine\r\n\r\n"));
    assert_int_equal(reply_status(&r), 400);
    assert_string_equal(header_of(&r, "X-Correlation-ID"), "mine");
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

/* --- streams --- */

static void a_stream_is_chunked_and_ends(void **state)
{
    char body[256];
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/open")));
    assert_memory_equal(r.data, "HTTP/1.1 200 OK\r\n", 17);
    assert_string_equal(header_of(&r, "Content-Type"), "text/event-stream");
    assert_string_equal(header_of(&r, "Cache-Control"), "no-cache");
    assert_string_equal(header_of(&r, "Transfer-Encoding"), "chunked");
    assert_string_equal(header_of(&r, "Connection"), "close");
    assert_null(header_of(&r, "Content-Length"));
    assert_string_equal(header_of(&r, "X-Correlation-ID"), rig.id);
    assert_string_equal(reply_body(&r), "");
    assert_true(http_stream_begun(rig.held));
    reply_free(&r);

    http_stream_write(rig.held, "one", 3);
    http_stream_write(rig.held, "", 0); /* would be the last chunk */
    r = rig_receive(&rig, fd);
    assert_string_equal(r.data, "3\r\none\r\n");
    reply_free(&r);

    http_stream_write(rig.held, "0123456789abcdef", 16);
    http_stream_write(rig.held, "two", 3);
    http_stream_end(rig.held);
    r = rig_receive(&rig, fd);
    assert_true(unchunk(r.data, body, sizeof body));
    assert_string_equal(body, "0123456789abcdeftwo");
    assert_true(r.eof);
    assert_int_equal(rig.n_closed, 0);
    reply_free(&r);
    close(fd);
    rig_turn(&rig);
    assert_int_equal(http_server_connections(rig.server), 0);
    rig_close(&rig);
}

static void headers_wait_for_the_begin_of_the_stream(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/hold")));
    assert_int_equal(r.n, 0);
    assert_false(http_stream_begun(rig.held));
    http_stream_write(rig.held, "early", 5); /* before the head nothing may leave */
    reply_free(&r);
    r = rig_receive(&rig, fd);
    assert_int_equal(r.n, 0);
    reply_free(&r);
    http_stream_begin(rig.held);
    http_stream_begin(rig.held);
    http_stream_write(rig.held, "late", 4);
    http_respond(rig.held, 500, NULL, NULL, "x", 1); /* too late: ignored */
    http_stream_end(rig.held);
    r = rig_receive(&rig, fd);
    assert_int_equal(count_of(r.data, "HTTP/1.1 "), 1);
    assert_string_equal(reply_body(&r), "4\r\nlate\r\n0\r\n\r\n");
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void http_10_gets_a_stream_without_chunks(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR("GET /open HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    http_stream_write(rig.held, "one", 3);
    r = rig_receive(&rig, fd);
    assert_null(header_of(&r, "Transfer-Encoding"));
    assert_string_equal(header_of(&r, "Connection"), "close");
    assert_string_equal(reply_body(&r), "one");
    assert_false(r.eof);
    reply_free(&r);
    http_stream_end(rig.held); /* nothing is left to send: the end itself must close */
    r = rig_receive(&rig, fd);
    assert_true(r.eof);
    assert_int_equal(r.n, 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void head_of_a_stream_has_no_chunks(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR("HEAD /open HTTP/1.1\r\nHost: x\r\n\r\n"));
    http_stream_write(rig.held, "one", 3);
    http_stream_end(rig.held);
    r = rig_receive(&rig, fd);
    assert_int_equal(reply_status(&r), 200);
    assert_string_equal(reply_body(&r), "");
    assert_true(r.eof);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void an_event_cannot_be_forged(void **state)
{
    JsonBuf out = {0};

    (void)state;
    sse_event(&out, "token", "{\"t\":\"a\"}", 9);
    assert_string_equal(out.data, "event: token\ndata: {\"t\":\"a\"}\n\n");
    out.len = 0;
    sse_event(&out, "to\nken\r", "{\n\"t\":\r\n1}\0", 11);
    assert_string_equal(out.data, "event: to ken \ndata: { \"t\":  1} \n\n");
    out.len = 0;
    sse_event(&out, "e", "", 0);
    assert_string_equal(out.data, "event: e\ndata: \n\n");
    out.len = 0;
    sse_comment(&out, "keep-alive\n\ndata: x");
    assert_string_equal(out.data, ": keep-alive  data: x\n\n");
    assert_int_equal(out.len, strlen(out.data));
    assert_false(out.oom);
    json_buf_free(&out);
}

/* --- clients that go away --- */

static int tcp_client(int port)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
}

static void leave(int fd, int how)
{
    if (how == 0)
        close(fd);
    else if (how == 1)
        reset(fd);
    else
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
}

/* FIN, RST and half-close; before and after the head of the stream; with and without a pipelined
 * request. */
static void a_client_that_leaves_is_noticed_at_once(void **state)
{
    static const char *const requests[] = {GET("/hold"), GET("/open"), GET("/open") GET("/after")};
    Err err = {0};
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int how = 0; how < 3; how++) {
        for (size_t i = 0; i < 3; i++) {
            const int fd = tcp_client(http_server_port(rig.server));
            const int n_closed = rig.n_closed;

            (void)rig_send(&rig, fd, requests[i], strlen(requests[i]));
            rig_turn(&rig);
            assert_non_null(rig.held);
            assert_int_equal(rig.n_closed, n_closed);
            leave(fd, how);
            rig_turn(&rig);
            assert_int_equal(rig.n_closed, n_closed + 1);
            assert_ptr_equal(rig.closed, rig.held);
            rig_turn(&rig);
            assert_int_equal(rig.n_closed, n_closed + 1);
            assert_int_equal(http_server_connections(rig.server), 0);
            rig.held = NULL;
            if (how == 2)
                close(fd);
        }
    }
    rig_close(&rig);
}

/* Reading stops at 16 KiB while an answer runs, and with it the loop's eye for the end: the poll
 * must see it. */
static void input_during_a_stream_is_bounded(void **state)
{
    static char noise[1 << 16];
    Err err = {0};
    size_t sent = 0;
    int stuck = 0, fd;
    Rig rig;

    (void)state;
    memset(noise, 'x', sizeof noise);
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    fd = tcp_client(http_server_port(rig.server));
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    while (stuck < 200) {
        const ssize_t k = send(fd, noise, sizeof noise, MSG_NOSIGNAL);
        stuck = k > 0 ? 0 : stuck + 1;
        sent += k > 0 ? (size_t)k : 0;
        assert_true(sent <
                    (64u << 20)); /* the kernel's buffers and 16 KiB: it must block at some time */
        rig_turn(&rig);
    }
    http_server_poll_hangups(rig.server);
    assert_int_equal(rig.n_closed, 0); /* still there */
    reset(fd);
    rig_turn(&rig);
    http_server_poll_hangups(rig.server);
    assert_int_equal(rig.n_closed, 1);
    rig_close(&rig);
}

static void a_hangup_behind_unread_input_is_polled(void **state)
{
    static char noise[20000];
    Err err = {0};
    Rig rig;

    (void)state;
    memset(noise, 'x', sizeof noise);
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int how = 0; how < 3; how += 2) {
        const int fd = tcp_client(http_server_port(rig.server));
        const int n_closed = rig.n_closed;

        (void)rig_send(&rig, fd, RIG_STR(GET("/hold"))); /* nothing unread here: close sends FIN */
        (void)rig_send(&rig, fd, noise, sizeof noise);
        leave(fd, how);
        rig_turn(&rig);
        assert_int_equal(rig.n_closed, n_closed); /* the loop cannot know */
        http_server_poll_hangups(rig.server);
        assert_int_equal(rig.n_closed, n_closed + 1);
        http_server_poll_hangups(rig.server);
        assert_int_equal(rig.n_closed, n_closed + 1);
        if (how == 2)
            close(fd);
    }
    rig_close(&rig);
}

static void polls_many_connections(void **state)
{
    int fds[150];
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (int i = 0; i < 150; i++) {
        fds[i] = rig_client(&rig);
        (void)rig_send(&rig, fds[i], RIG_STR(GET("/hold")));
    }
    for (int i = 0; i < 150; i += 2)
        close(fds[i]);
    http_server_poll_hangups(rig.server);
    assert_int_equal(rig.n_closed, 75);
    assert_int_equal(http_server_connections(rig.server), 75);
    for (int i = 1; i < 150; i += 2)
        close(fds[i]);
    rig_close(&rig);
    assert_int_equal(rig.n_closed, 75); /* http_server_free tells nobody */
}

static void a_finished_answer_has_no_on_close(void **state)
{
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (int i = 0; i < 2; i++) {
        const int fd = rig_client(&rig);
        (void)rig_send(&rig, fd, i == 0 ? GET("/hold") : GET("/open"), sizeof(GET("/open")) - 1);
        if (i == 0)
            http_respond(rig.held, 200, NULL, NULL, "x", 1);
        else
            http_stream_end(rig.held);
        close(fd); /* before anything could be sent */
        rig_turn(&rig);
        http_server_poll_hangups(rig.server);
        rig_turn(&rig);
        assert_int_equal(http_server_connections(rig.server), 0);
    }
    assert_int_equal(rig.n_closed, 0);
    rig_close(&rig);
}

/* --- clients that are slow --- */

static void an_idle_connection_is_closed(void **state)
{
    HttpLimits limits = small_limits();
    Rig rig;
    Reply r;
    int fresh, used;

    (void)state;
    rig_open(&rig, &limits);
    fresh = rig_client(&rig);
    used = rig_client(&rig);
    r = rig_exchange(&rig, used, RIG_STR(GET("/a")));
    reply_free(&r);
    rig_run_ms(&rig, 150);
    assert_int_equal(http_server_connections(rig.server), 2);
    rig_run_ms(&rig, 150);
    assert_int_equal(http_server_connections(rig.server), 0);
    r = rig_receive(&rig, used);
    assert_true(r.eof);
    assert_int_equal(r.n, 0);
    reply_free(&r);
    close(fresh);
    close(used);
    rig_close(&rig);
}

/* The limit is for the whole request: a byte now and then does not help. */
static void a_trickling_client_gets_408(void **state)
{
    static const char text[] = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabcdefgh";
    HttpLimits limits = small_limits();
    const uint64_t begin = clock_now_ms();
    Reply r = {0};
    size_t n = 0;
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    while (!r.eof && !r.reset && clock_now_ms() < begin + 2000) {
        if (n < sizeof text - 1)
            (void)rig_send(&rig, fd, text + n++, 1);
        rig_run_ms(&rig, 5);
        reply_read(&r, fd);
    }
    assert_true(clock_now_ms() - begin < 400);
    assert_true(clock_now_ms() - begin >= 110);
    assert_int_equal(reply_status(&r), 408);
    assert_int_equal(rig.n_requests, 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void a_request_in_progress_outlives_the_time_limits(void **state)
{
    HttpLimits limits = small_limits();
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/hold")));
    rig_run_ms(&rig, 400);
    http_respond(rig.held, 200, NULL, NULL, "ok", 2);
    r = rig_receive(&rig, fd);
    assert_string_equal(reply_body(&r), "ok");
    assert_int_equal(rig.n_closed, 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void fill_until_blocked(Rig *rig, size_t *n_written)
{
    char piece[512];

    memset(piece, 'p', sizeof piece);
    for (int i = 0; i < 10000 && !http_stream_blocked(rig->held); i++) {
        http_stream_write(rig->held, piece, sizeof piece);
        *n_written += sizeof piece;
        rig_turn(rig);
    }
    assert_true(http_stream_blocked(rig->held));
}

static void a_reader_that_does_not_read_blocks_and_is_closed(void **state)
{
    HttpLimits limits = small_limits();
    size_t n = 0;
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    fill_until_blocked(&rig, &n);
    assert_true(n < (1u << 20)); /* the kernel's send buffer is bounded as well */
    assert_true(http_server_has_pending(rig.server));
    rig_run_ms(&rig, 100);
    assert_int_equal(rig.n_closed, 0);
    rig_run_ms(&rig, 250);
    assert_int_equal(rig.n_closed, 1);
    assert_int_equal(http_server_connections(rig.server), 0);
    close(fd);
    rig_close(&rig);
}

static void a_slow_reader_is_unblocked_and_gets_everything(void **state)
{
    static char body[1 << 20];
    HttpLimits limits = small_limits();
    size_t n = 0;
    Reply r = {0};
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    for (int i = 0; i < 5; i++) {
        fill_until_blocked(&rig, &n);
        rig_run_ms(&rig, 80);
        for (int k = 0; k < 8; k++) {
            rig_turn(&rig);
            reply_read(&r, fd);
        }
        assert_false(http_stream_blocked(rig.held));
    }
    http_stream_end(rig.held);
    for (int k = 0; k < 8; k++) {
        rig_turn(&rig);
        reply_read(&r, fd);
    }
    assert_true(r.eof);
    assert_int_equal(rig.n_closed, 0);
    assert_true(unchunk(reply_body(&r), body, sizeof body));
    assert_int_equal(strlen(body), n);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

/* A few bytes now and then are not reading: the slot would be held for ever. */
static void a_dripping_reader_is_closed(void **state)
{
    HttpLimits limits = small_limits();
    const uint64_t begin = clock_now_ms();
    size_t n = 0;
    Rig rig;
    int fd;

    (void)state;
    limits.write_timeout_ms = 500; /* 4 KiB in that time are asked for, 3250 are taken */
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    while (rig.n_closed == 0 && clock_now_ms() < begin + 5000) {
        char drop[65];
        fill_until_blocked(&rig, &n);
        (void)!recv(fd, drop, sizeof drop, 0);
        rig_run_ms(&rig, 10);
    }
    assert_int_equal(rig.n_closed, 1);
    close(fd);
    rig_close(&rig);
}

static void a_stream_with_pauses_is_not_closed(void **state)
{
    HttpLimits limits = small_limits();
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    for (int i = 0; i < 5; i++) {
        Reply r;
        http_stream_write(rig.held, "x", 1);
        rig_run_ms(&rig, 100);
        r = rig_receive(&rig, fd);
        assert_int_equal(count_of(r.data, "1\r\nx\r\n"), 1);
        reply_free(&r);
    }
    assert_int_equal(rig.n_closed, 0);
    http_stream_end(rig.held);
    close(fd);
    rig_close(&rig);
}

/* Answers to requests that nobody reads must not pile up. */
static void answers_nobody_reads_are_bounded(void **state)
{
    HttpLimits limits = small_limits();
    int n_before, stuck = 0;
    Rig rig;
    int fd;

    (void)state;
    limits.write_timeout_ms = 10000;
    limits.request_timeout_ms = 10000;
    limits.idle_timeout_ms = 10000;
    rig_open(&rig, &limits);
    fd = rig_client(&rig);
    for (int i = 0; i < 20000 && stuck < 50; i++) {
        const ssize_t k = send(fd, GET("/a"), sizeof(GET("/a")) - 1, MSG_NOSIGNAL);
        stuck = k > 0 ? 0 : stuck + 1;
        rig_turn(&rig);
    }
    assert_true(stuck >= 50);
    n_before = rig.n_requests;
    assert_true(n_before < 2000);
    rig_run_ms(&rig, 50);
    assert_int_equal(rig.n_requests, n_before);
    assert_int_equal(http_server_connections(rig.server), 1);
    close(fd);
    rig_close(&rig);
}

/* The client still sends its refused body: the answer must reach it, and not for ever. */
static void a_refused_client_may_finish_sending(void **state)
{
    static char body[1 << 20];
    Err err = {0};
    HttpLimits limits = http_limits_default();
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    limits.max_body_bytes = 1 << 20;
    memset(body, 'x', sizeof body);
    rig_open(&rig, &limits);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    fd = tcp_client(http_server_port(rig.server));
    (void)rig_send(&rig, fd,
                   RIG_STR("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"));
    assert_int_equal(rig_send(&rig, fd, body, sizeof body), sizeof body);
    r = rig_receive(&rig, fd);
    assert_int_equal(reply_status(&r), 413);
    assert_true(r.eof);
    assert_false(r.reset);
    reply_free(&r);
    for (int i = 0; i < 8 && http_server_connections(rig.server) > 0; i++)
        (void)rig_send(&rig, fd, body, sizeof body);
    assert_int_equal(http_server_connections(rig.server), 0); /* enough thrown away */
    close(fd);
    fd = tcp_client(http_server_port(rig.server));
    (void)rig_send(&rig, fd, RIG_STR("BAD\r\n\r\n"));
    assert_int_equal(http_server_connections(rig.server), 1);
    rig_run_ms(&rig, 2600); /* a client that does not hang up: a little over the two seconds */
    assert_int_equal(http_server_connections(rig.server), 0);
    close(fd);
    rig_close(&rig);
}

/* --- the listener --- */

static void binds_to_literals_and_localhost(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "0.0.0.0", "::1", "[::1]", "::"};
    Rig rig;
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        rig_open(&rig, NULL);
        if (http_server_listen(rig.server, hosts[i], 0, &err) != ERR_OK) {
            assert_non_null(strchr(hosts[i], ':')); /* a machine without IPv6 */
            rig_close(&rig);
            continue;
        }
        assert_true(http_server_port(rig.server) > 0);
        if (strchr(hosts[i], ':') == NULL) {
            const int fd = tcp_client(http_server_port(rig.server));
            Reply r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
            assert_int_equal(reply_status(&r), 200);
            reply_free(&r);
            close(fd);
        }
        rig_close(&rig);
    }
}

static void a_second_listener_on_the_port_fails(void **state)
{
    Rig one, two;
    Err err = {0};
    char want[128];

    (void)state;
    rig_open(&one, NULL);
    rig_open(&two, NULL);
    assert_int_equal(http_server_listen(one.server, "127.0.0.1", 0, &err), ERR_OK);
    snprintf(want, sizeof want, "Failed to bind to 127.0.0.1:%d: Address already in use",
             http_server_port(one.server));
    assert_int_equal(
        http_server_listen(two.server, "127.0.0.1", http_server_port(one.server), &err), ERR_IO);
    assert_string_equal(err.msg, want);
    assert_int_equal(http_server_listen(two.server, "0.0.0.0", http_server_port(one.server), &err),
                     ERR_IO);
    rig_close(&one);
    rig_close(&two);
}

static void bind_errors_name_address_and_reason(void **state)
{
    Rig rig;
    Err err = {0};

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "192.0.2.1", 80, &err), ERR_IO);
    assert_string_equal(err.msg, "Failed to bind to 192.0.2.1:80: Cannot assign requested address");
    assert_int_equal(http_server_listen(rig.server, "example.invalid", 80, &err), ERR_IO);
    assert_memory_equal(err.msg,
                        "Failed to bind to example.invalid:80: not an IP address or localhost", 68);
    assert_int_equal(http_server_listen(rig.server, "", 80, &err), ERR_IO);
    assert_int_equal(http_server_listen(rig.server, "fe80::1:2:3:4", 80, &err), ERR_IO);
    assert_memory_equal(err.msg, "Failed to bind to [fe80::1:2:3:4]:80: ", 38);
    rig_close(&rig);
}

/* The side that closes first keeps the port in TIME_WAIT: a restarted daemon must get it all the
 * same. */
static void a_restart_gets_its_port_at_once(void **state)
{
    Rig rig;
    Err err = {0};
    Reply r;
    int port, fd;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    port = http_server_port(rig.server);
    fd = tcp_client(port);
    r = rig_exchange(&rig, fd, RIG_STR("GET /a HTTP/1.0\r\n\r\n"));
    assert_true(r.eof);
    reply_free(&r);
    close(fd);
    rig_turn(&rig);
    rig_close(&rig);
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", port, &err), ERR_OK);
    rig_close(&rig);
}

static void the_connection_cap_holds(void **state)
{
    HttpLimits limits = http_limits_default();
    Rig rig;
    Err err = {0};
    Reply r;
    int fds[6];

    (void)state;
    limits.max_connections = 3;
    rig_open(&rig, &limits);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int i = 0; i < 6; i++) {
        fds[i] = tcp_client(http_server_port(rig.server));
        assert_int_equal(send(fds[i], GET("/a"), sizeof(GET("/a")) - 1, 0), sizeof(GET("/a")) - 1);
    }
    rig_turn(&rig);
    assert_int_equal(http_server_connections(rig.server), 3);
    assert_int_equal(rig.n_requests, 3);
    /* No spinning while it is full. */
    assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
    assert_int_equal(event_base_get_max_events(rig.base, EVENT_BASE_COUNT_ACTIVE, 1) >= 0, 1);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    rig_turn(&rig);
    assert_int_equal(rig.n_requests, 6);
    r = rig_receive(&rig, fds[5]);
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    for (int i = 3; i < 6; i++)
        close(fds[i]);
    rig_close(&rig);
}

static void running_out_of_descriptors_turns_newcomers_away(void **state)
{
    struct rlimit old, tight;
    Rig rig;
    Err err = {0};
    Reply r;
    int kept, lost, probe;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    kept = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, kept, RIG_STR(GET("/a")));
    reply_free(&r);
    lost = tcp_client(http_server_port(rig.server));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    probe = dup(0);
    assert_true(probe >= 0);
    close(probe);
    tight = (struct rlimit){.rlim_cur = (rlim_t)probe, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    r = rig_receive(&rig, lost);
    assert_true(r.eof || r.reset);
    reply_free(&r);
    r = rig_exchange(&rig, kept, RIG_STR(GET("/a"))); /* the others are served on */
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    close(lost);
    lost = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, lost, RIG_STR(GET("/a")));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    close(lost);
    close(kept);
    rig_close(&rig);
}

static void stops_accepting(void **state)
{
    Rig rig;
    Err err = {0};
    Reply r;
    int fd, second;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    fd = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    reply_free(&r);
    http_server_stop_accepting(rig.server);
    http_server_stop_accepting(rig.server);
    to.sin_port = htons((uint16_t)http_server_port(rig.server));
    second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(second, (const struct sockaddr *)&to, sizeof to), -1);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_int_equal(reply_status(&r), 200);
    assert_false(http_server_has_pending(rig.server));
    reply_free(&r);
    close(second);
    close(fd);
    rig_close(&rig);
}

/* --- the pump --- */

static void count_turn(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd; /* never read: it is ready again in every round */
    (void)what;
    ++*(int *)ctx;
}

static void the_pump_is_bounded(void **state)
{
    struct event *restless;
    int n_turns = 0, pair[2];
    uint64_t begin;
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    begin = clock_now_ms();
    http_pump(rig.base, 1000000000, 5000000); /* nothing to do: returns at once */
    assert_true(clock_now_ms() - begin < 1000);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(write(pair[0], "x", 1), 1);
    restless = event_new(rig.base, pair[1], EV_READ | EV_PERSIST, count_turn, &n_turns);
    assert_int_equal(event_add(restless, NULL), 0);
    http_pump(rig.base, 3, 5000000);
    assert_int_equal(n_turns, 3);
    http_pump(rig.base, 1, 0);
    assert_int_equal(n_turns, 4);
    begin = clock_now_ms();
    http_pump(rig.base, 1000000000, 20000);
    assert_true(clock_now_ms() - begin >= 19);
    assert_true(clock_now_ms() - begin < 1000);
    assert_true(n_turns > 100);
    event_free(restless);
    close(pair[0]);
    close(pair[1]);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_with_the_usual_headers),
        cmocka_unit_test(keeps_connections_alive),
        cmocka_unit_test(closes_when_asked_to),
        cmocka_unit_test(head_is_get_without_a_body),
        cmocka_unit_test(errors_of_the_layer_to_head_have_no_body),
        cmocka_unit_test(adds_extra_headers),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_pipelined_request_waits_for_the_answer_before),
        cmocka_unit_test(nothing_follows_a_stream),
        cmocka_unit_test(requests_before_a_half_close_are_answered),
        cmocka_unit_test(a_later_answer_is_lost_to_a_half_close),
        cmocka_unit_test(correlation_ids),
        cmocka_unit_test(a_stream_is_chunked_and_ends),
        cmocka_unit_test(headers_wait_for_the_begin_of_the_stream),
        cmocka_unit_test(http_10_gets_a_stream_without_chunks),
        cmocka_unit_test(head_of_a_stream_has_no_chunks),
        cmocka_unit_test(an_event_cannot_be_forged),
        cmocka_unit_test(a_client_that_leaves_is_noticed_at_once),
        cmocka_unit_test(input_during_a_stream_is_bounded),
        cmocka_unit_test(a_hangup_behind_unread_input_is_polled),
        cmocka_unit_test(polls_many_connections),
        cmocka_unit_test(a_finished_answer_has_no_on_close),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(a_trickling_client_gets_408),
        cmocka_unit_test(a_request_in_progress_outlives_the_time_limits),
        cmocka_unit_test(a_reader_that_does_not_read_blocks_and_is_closed),
        cmocka_unit_test(a_slow_reader_is_unblocked_and_gets_everything),
        cmocka_unit_test(a_dripping_reader_is_closed),
        cmocka_unit_test(a_stream_with_pauses_is_not_closed),
        cmocka_unit_test(answers_nobody_reads_are_bounded),
        cmocka_unit_test(a_refused_client_may_finish_sending),
        cmocka_unit_test(binds_to_literals_and_localhost),
        cmocka_unit_test(a_second_listener_on_the_port_fails),
        cmocka_unit_test(bind_errors_name_address_and_reason),
        cmocka_unit_test(a_restart_gets_its_port_at_once),
        cmocka_unit_test(the_connection_cap_holds),
        cmocka_unit_test(running_out_of_descriptors_turns_newcomers_away),
        cmocka_unit_test(stops_accepting),
        cmocka_unit_test(the_pump_is_bounded),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
