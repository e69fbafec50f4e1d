/* tests/test_http_connections.c: how connections end: clients that go away, in any state and way,
 * and clients that take too long. */
#include "http_rig.h"

/* --- clients that go away --- */

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

/* --- deadlines --- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_leaves_is_noticed_at_once),
        cmocka_unit_test(input_during_a_stream_is_bounded),
        cmocka_unit_test(a_hangup_behind_unread_input_is_polled),
        cmocka_unit_test(polls_many_connections),
        cmocka_unit_test(a_finished_answer_has_no_on_close),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(a_trickling_client_gets_408),
        cmocka_unit_test(a_request_in_progress_outlives_the_time_limits),
        cmocka_unit_test(a_refused_client_may_finish_sending),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
