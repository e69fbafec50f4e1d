/* tests/test_http_streams.c: how a stream is framed, and what becomes of readers that are slower
 * than what is written to them. */
#include <linux/filter.h>

#include "http/sse.h"
#include "http_rig.h"

/* --- framing --- */

/* Writes to out what a chunked body says; fails the test when its framing is damaged. Returns
 * whether the last chunk came. */
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

/* --- slow readers --- */

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

/* Reads some of a stream every 10 ms, of which more always waits; the milliseconds until the
 * connection was closed, or 0 when it was not within a second. */
static int read_steadily(const HttpLimits *limits, size_t n_each_time)
{
    const uint64_t begin = clock_now_ms();
    static char some[8192], whole[4 << 20];
    int took = 0;
    Rig rig;
    int fd;

    rig_open(&rig, limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/open")));
    http_stream_write(rig.held, whole, sizeof whole);
    while (rig.n_closed == 0 && clock_now_ms() < begin + 1000) {
        (void)!recv(fd, some, n_each_time, 0);
        rig_run_ms(&rig, 10);
    }
    if (rig.n_closed > 0)
        took = (int)(clock_now_ms() - begin);
    close(fd);
    rig_close(&rig);
    return took;
}

/* A little now and then is not reading: the slot would be held for ever. A socket takes some KiB at
 * a time, so more than that is asked for here. */
static void a_dripping_reader_is_closed(void **state)
{
    HttpLimits limits = small_limits();
    int took = -1;

    (void)state;
    limits.write_timeout_ms = 200;
    limits.min_taken_bytes = 1 << 20; /* in 20 times 10 ms at most 160 KiB are taken */
    assert_in_range(read_steadily(&limits, 8192), 200, 5000);
    limits.min_taken_bytes = 1024;
    for (int i = 0; i < 3 && took != 0; i++) /* a machine that pauses for so long is no reader */
        took = read_steadily(&limits, 8192);
    assert_int_equal(took, 0);
}

/* Bytes of an answer of 4 MiB that come before its end, for a reader of so many each 10 ms. As one
 * long answer, or as what a pipeline of many leaves. */
static size_t read_long_answer(const HttpLimits *limits, size_t n_each_time, bool is_long)
{
    enum { ANSWER_BYTES = 4 << 20 };
    static char some[ANSWER_BYTES];
    const uint64_t begin = clock_now_ms();
    char *body = malloc(ANSWER_BYTES);
    size_t n = 0;
    ssize_t k;
    Rig rig;
    int fd;

    assert_non_null(body);
    memset(body, 'x', ANSWER_BYTES);
    rig_open(&rig, limits);
    fd = rig_client(&rig);
    (void)rig_send(&rig, fd, RIG_STR(GET("/hold")));
    if (is_long) {
        http_respond_with(rig.held, 200, "text/plain", body, ANSWER_BYTES);
    } else {
        http_respond(rig.held, 200, "text/plain", NULL, body, ANSWER_BYTES);
        free(body);
    }
    do {
        rig_run_ms(&rig, 10);
        k = recv(fd, some, n_each_time, MSG_DONTWAIT);
        n += k > 0 ? (size_t)k : 0;
    } while ((k > 0 || (k < 0 && errno == EAGAIN)) && n < ANSWER_BYTES &&
             clock_now_ms() - begin < 8000);
    assert_int_equal(rig.n_closed, 0); /* it was the connection's */
    close(fd);
    rig_close(&rig);
    return n;
}

/* It would be in memory for ever: a sixteenth of what waits must go in the time. */
static void a_long_answer_must_be_taken(void **state)
{
    HttpLimits limits = http_limits_default();
    size_t n = 0;

    (void)state;
    limits.write_timeout_ms = 500;
    limits.min_taken_bytes = 1;
    limits.idle_timeout_ms = 300; /* a connection with an answer on its way is not idle */
    assert_in_range(read_long_answer(&limits, 2048, true), 1, 3 << 20);
    for (int i = 0; i < 3 && n < 4 << 20; i++) /* a machine that pauses for so long is no reader */
        n = read_long_answer(&limits, 1 << 15, true);
    assert_true(n >= 4 << 20); /* with the head */
}

static void what_is_read_is_not_idle(void **state)
{
    HttpLimits limits = http_limits_default();
    size_t n = 0;

    (void)state;
    limits.write_timeout_ms = 500;
    limits.idle_timeout_ms = 300;
    for (int i = 0; i < 3 && n < 4 << 20; i++)
        n = read_long_answer(&limits, 1 << 15, false);
    assert_true(n >= 4 << 20);
}

/* A client over TCP that takes at most room bytes unread, and its stream. */
static int open_stream(Rig *rig, const HttpLimits *limits, int room)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Err err = {0};

    rig_open(rig, limits);
    assert_int_equal(http_server_listen(rig->server, "127.0.0.1", 0, &err), ERR_OK);
    to.sin_port = htons((uint16_t)http_server_port(rig->server));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    (void)rig_send(rig, fd, RIG_STR(GET("/open")));
    while (rig->held == NULL)
        rig_turn(rig);
    return fd;
}

/* It is closed most of the time, and the kernel finds it so whenever it asks. */
static void a_small_window_is_no_reason_to_close(void **state)
{
    static char some[1024], whole[4 << 20];
    HttpLimits limits = http_limits_default();
    bool closed = true;

    (void)state;
    limits.write_timeout_ms = 1000;
    limits.min_taken_bytes = 1024;
    for (int i = 0; i < 3 && closed; i++) { /* a machine that pauses for so long is no reader */
        const uint64_t begin = clock_now_ms();
        Rig rig;
        const int fd = open_stream(&rig, &limits, 4096);

        http_stream_write(rig.held, whole, sizeof whole);
        while (rig.n_closed == 0 && clock_now_ms() < begin + 2500) {
            (void)!recv(fd, some, sizeof some, 0);
            rig_run_ms(&rig, 100);
        }
        closed = rig.n_closed > 0;
        close(fd);
        rig_close(&rig);
    }
    assert_false(closed);
}

/* Its machine lost its power: nothing is refused, nothing confirmed. The kernel has room for all
 * that is sent to it meanwhile. */
static void a_client_that_vanished_is_found(void **state)
{
    struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    const struct sock_fprog all = {.len = 1, .filter = &nothing};
    HttpLimits limits = http_limits_default();
    uint64_t begin;
    Rig rig;
    int fd;

    (void)state;
    limits.write_timeout_ms = 300;
    fd = open_stream(&rig, &limits, 65536);
    http_stream_write(rig.held, "x", 1);
    rig_run_ms(&rig, 500);
    assert_int_equal(rig.n_closed, 0); /* it confirms, so it need not read */
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) != 0)
        skip();
    begin = clock_now_ms();
    while (rig.n_closed == 0 && clock_now_ms() < begin + 5000) {
        http_stream_write(rig.held, "x", 1);
        rig_run_ms(&rig, 20);
    }
    assert_int_equal(rig.n_closed, 1);
    assert_true(clock_now_ms() - begin >= 300);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_chunked_and_ends),
        cmocka_unit_test(headers_wait_for_the_begin_of_the_stream),
        cmocka_unit_test(http_10_gets_a_stream_without_chunks),
        cmocka_unit_test(head_of_a_stream_has_no_chunks),
        cmocka_unit_test(an_event_cannot_be_forged),
        cmocka_unit_test(a_reader_that_does_not_read_blocks_and_is_closed),
        cmocka_unit_test(a_slow_reader_is_unblocked_and_gets_everything),
        cmocka_unit_test(a_dripping_reader_is_closed),
        cmocka_unit_test(a_long_answer_must_be_taken),
        cmocka_unit_test(what_is_read_is_not_idle),
        cmocka_unit_test(a_small_window_is_no_reason_to_close),
        cmocka_unit_test(a_client_that_vanished_is_found),
        cmocka_unit_test(a_stream_with_pauses_is_not_closed),
        cmocka_unit_test(answers_nobody_reads_are_bounded),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
