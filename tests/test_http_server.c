/* tests/test_http_server.c: the server itself: where it listens, how many it lets in, and how long
 * one turn of the pump may take. */
#include <sys/resource.h>

#include "http_rig.h"
#include "quick.h"

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
        assert_int_equal(send(fds[i], GET("/hold"), sizeof(GET("/hold")) - 1, 0),
                         sizeof(GET("/hold")) - 1);
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
    http_respond(rig.held, 200, NULL, NULL, "x", 1);
    r = rig_receive(&rig, fds[5]);
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    for (int i = 3; i < 6; i++)
        close(fds[i]);
    rig_close(&rig);
}

/* Three connections may be: one busy, one idle after an answer, one in the middle of a request. The
 * newcomers take the places of the last two, the older one first. */
static void spare_connections_make_room(void **state)
{
    static const char *const said[] = {GET("/hold"), GET("/a"), "GET /a HT"};
    const struct timespec pause = {.tv_nsec = 30000000};
    HttpLimits limits = http_limits_default();
    int fds[3], newcomer;
    Rig rig;
    Err err = {0};
    Reply r;

    (void)state;
    limits.max_connections = 3;
    rig_open(&rig, &limits);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int i = 0; i < 3; i++) {
        fds[i] = tcp_client(http_server_port(rig.server));
        r = rig_exchange(&rig, fds[i], said[i], strlen(said[i]));
        assert_int_equal(r.eof, false);
        reply_free(&r);
        nanosleep(&pause, NULL);
    }
    for (int i = 1; i < 3; i++) {
        newcomer = tcp_client(http_server_port(rig.server));
        r = rig_exchange(&rig, newcomer, RIG_STR(GET("/hold")));
        assert_int_equal(r.eof, false);
        reply_free(&r);
        r = rig_receive(&rig, fds[i]);
        assert_true(r.eof || r.reset);
        reply_free(&r);
        assert_int_equal(http_server_connections(rig.server), 3);
        assert_int_equal(rig.n_requests, 2 + i);
        close(fds[i]);
        fds[i] = newcomer;
    }
    /* All are busy: the next one waits until one of them is not. */
    newcomer = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, newcomer, RIG_STR(GET("/a")));
    assert_int_equal(r.n, 0);
    reply_free(&r);
    http_respond(rig.held, 200, NULL, NULL, "x", 1);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* the sweep sees it */
    r = rig_receive(&rig, newcomer);
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    close(newcomer);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    rig_close(&rig);
}

/* With no descriptor left. kept: a client that is served on meanwhile, or -1. */
static void newcomer_is_turned_away(Rig *rig, int kept)
{
    const int lost = tcp_client(http_server_port(rig->server)), probe = dup(0);
    struct rlimit old, tight;
    Reply r;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(probe >= 0);
    close(probe);
    tight = (struct rlimit){.rlim_cur = (rlim_t)probe, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    r = rig_receive(rig, lost);
    assert_true(r.eof || r.reset);
    reply_free(&r);
    if (kept >= 0) {
        r = rig_exchange(rig, kept, RIG_STR(GET("/a")));
        assert_int_equal(reply_status(&r), 200);
        reply_free(&r);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    close(lost);
}

static void running_out_of_descriptors_turns_newcomers_away(void **state)
{
    Rig rig;
    Err err = {0};
    Reply r;
    int kept, next;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    kept = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, kept, RIG_STR(GET("/a")));
    reply_free(&r);
    newcomer_is_turned_away(&rig, kept);
    next = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, next, RIG_STR(GET("/a")));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    close(next);
    close(kept);
    rig_close(&rig);
}

/* Not even the reserve helps when every number is too high: the listener rests, then it tries
 * again, and has a reserve again. */
static void accepting_goes_on_when_descriptors_come_back(void **state)
{
    struct rlimit old, none;
    Err err = {0};
    Reply r;
    Rig rig;
    int fd;

    (void)state;
    if (in_valgrind()) {
        print_message("# valgrind has descriptors of its own below any limit\n");
        skip();
    }
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
    for (int round = 0; round < 2; round++) {
        fd = tcp_client(http_server_port(rig.server));
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        rig_run_ms(&rig, 20);
        assert_int_equal(http_server_connections(rig.server), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        for (int i = 0; i < 100 && http_server_connections(rig.server) == 0; i++)
            rig_run_ms(&rig, 20);
        r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
        assert_int_equal(reply_status(&r), 200);
        reply_free(&r);
        close(fd);
        rig_turn(&rig);
    }
    newcomer_is_turned_away(&rig, -1);
    rig_close(&rig);
}

static void a_crowd_at_the_door_does_not_hold_the_loop(void **state)
{
    Err err = {0};
    int fds[50];
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int i = 0; i < 50; i++)
        fds[i] = tcp_client(http_server_port(rig.server));
    assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
    assert_in_range(http_server_connections(rig.server), 1, 16);
    rig_turn(&rig);
    assert_int_equal(http_server_connections(rig.server), 50);
    for (int i = 0; i < 50; i++)
        close(fds[i]);
    rig_close(&rig);
}

static void is_refused(int port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(tcp_connect(fd, port), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
}

static void stops_accepting(void **state)
{
    Rig rig;
    Err err = {0};
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    fd = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    reply_free(&r);
    http_server_stop_accepting(rig.server);
    http_server_stop_accepting(rig.server);
    is_refused(http_server_port(rig.server));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_int_equal(reply_status(&r), 200);
    assert_false(http_server_has_pending(rig.server));
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void who_waits_is_taken_in_before_it_stops(void **state)
{
    Rig rig;
    Err err = {0};
    int fds[50];

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int i = 0; i < 50; i++)
        fds[i] = tcp_client(http_server_port(rig.server));
    http_server_accept_rest(rig.server);
    assert_int_equal(http_server_connections(rig.server), 50);
    is_refused(http_server_port(rig.server));
    http_server_accept_rest(rig.server);
    for (int i = 0; i < 50; i++) {
        Reply r = rig_exchange(&rig, fds[i], RIG_STR(GET("/a")));

        assert_int_equal(reply_status(&r), 200);
        reply_free(&r);
        close(fds[i]);
    }
    rig_close(&rig);
}

/* --- limits --- */

/* Every other test has limits of its own; these are the documented ones. */
static void the_limits_are_the_documented_ones(void **state)
{
    const HttpLimits limits = http_limits_default();

    (void)state;
    assert_int_equal(limits.max_request_line, 8 * 1024);
    assert_int_equal(limits.max_header_bytes, 32 * 1024);
    assert_int_equal(limits.max_headers, 100);
    assert_int_equal(limits.max_body_bytes, 2 * 1024 * 1024);
    assert_int_equal(limits.request_timeout_ms, 10 * 1000);
    assert_int_equal(limits.idle_timeout_ms, 30 * 1000);
    assert_int_equal(limits.max_pending_bytes, 64 * 1024);
    assert_int_equal(limits.write_timeout_ms, 10 * 1000);
    assert_int_equal(limits.min_taken_bytes, 4 * 1024);
}

static void connections_leave_some_descriptors(void **state)
{
    static const struct {
        rlim_t descriptors;
        int connections;
    } cases[] = {{1, 1}, {32, 1}, {33, 1}, {100, 68}, {1055, 1023}, {1056, 1024}, {2000, 1024}};
    struct rlimit old;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct rlimit limit = {.rlim_cur = cases[i].descriptors, .rlim_max = old.rlim_max};

        if (limit.rlim_cur > limit.rlim_max)
            continue;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(http_limits_default().max_connections, cases[i].connections);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* The kernel must not take megabytes for a client that does not read, and must give up one that is
 * silent. */
static void accepted_sockets_are_bounded_in_room(void **state)
{
    const HttpLimits limits = small_limits();
    Err err = {0};
    int room = 0, n_found = 0;
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, &limits);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    fd = tcp_client(http_server_port(rig.server));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    reply_free(&r);
    for (int other = 3; other < 64; other++) {
        struct sockaddr_in peer, own;
        socklen_t n = sizeof peer, n_own = sizeof own, n_room = sizeof room;

        if (other == fd || getpeername(other, (struct sockaddr *)&peer, &n) != 0 ||
            getsockname(fd, (struct sockaddr *)&own, &n_own) != 0 || n != sizeof peer ||
            peer.sin_port != own.sin_port)
            continue;
        n_found++;
        assert_int_equal(getsockopt(other, SOL_SOCKET, SO_SNDBUF, &room, &n_room), 0);
    }
    assert_int_equal(n_found, 1);
    assert_in_range(room, 1, 4 * (int)limits.max_pending_bytes);
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
    assert_true(http_server_pump(rig.server, 1000000000, 5000000)); /* nothing to do: at once */
    assert_true(clock_now_ms() - begin < 1000);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(write(pair[0], "x", 1), 1);
    restless = event_new(rig.base, pair[1], EV_READ | EV_PERSIST, count_turn, &n_turns);
    assert_int_equal(event_add(restless, NULL), 0);
    assert_false(http_server_pump(rig.server, 3, 5000000));
    assert_int_equal(n_turns, 3);
    assert_false(http_server_pump(rig.server, 1, 0));
    assert_int_equal(n_turns, 4);
    begin = clock_now_ms();
    http_server_pump(rig.server, 1000000000, 20000);
    assert_true(clock_now_ms() - begin >= 19);
    assert_true(clock_now_ms() - begin < 1000);
    assert_true(n_turns > 100);
    event_free(restless);
    close(pair[0]);
    close(pair[1]);
    rig_close(&rig);
}

/* libevent calls a round done when no callback is left: with more clients than it serves in one go,
 * each with the next request ready, that never is. */
static void a_flood_does_not_hold_the_pump(void **state)
{
    enum { CLIENTS = 80 };
    int fds[CLIENTS];
    Err err = {0};
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_OK);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = tcp_client(http_server_port(rig.server));
    while (http_server_connections(rig.server) < CLIENTS)
        rig_turn(&rig);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(write(fds[i], GET("/a"), sizeof GET("/a") - 1), sizeof GET("/a") - 1);
    for (int i = 1; i < CLIENTS / 2; i++) {
        /* Its time is up at once: one callback. */
        assert_false(http_server_pump(rig.server, 1, 0));
        assert_true(rig.n_requests <= i);
    }
    assert_true(rig.n_requests > 0);
    assert_true(http_server_wait(rig.server, 0));
    assert_true(rig.n_requests < CLIENTS / 2 + 2);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    rig_close(&rig);
}

/* Nothing is left when every request is answered and every answer has gone, and not when all that
 * a round found was left by the one before. */
static void the_pump_says_when_nothing_is_left(void **state)
{
    enum { CLIENTS = 20 };
    int fds[CLIENTS];
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        const ssize_t n =
            i == 0 ? 1 : (ssize_t)sizeof GET("/a") - 1; /* one has nothing to answer */
        fds[i] = rig_client(&rig);
        assert_int_equal(write(fds[i], GET("/a"), (size_t)n), n);
    }
    assert_false(http_server_pump(rig.server, 1, 0));
    assert_int_equal(rig.n_requests, 0);
    for (int i = 0; i < 1000 && !http_server_pump(rig.server, 1, 1000000); i++)
        ;
    assert_int_equal(rig.n_requests, CLIENTS - 1);
    assert_false(http_server_has_pending(rig.server));
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    rig_close(&rig);
}

/* --- leaving --- */

static void the_last_answers_say_so(void **state)
{
    Rig rig;
    int waiting, fd;
    Reply r;

    (void)state;
    rig_open(&rig, NULL);
    waiting = rig_client(&rig);
    fd = rig_client(&rig);
    (void)rig_send(&rig, waiting, RIG_STR(GET("/hold")));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_string_equal(header_of(&r, "Connection"), "keep-alive");
    reply_free(&r);
    http_server_end_connections(rig.server);
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a")));
    assert_string_equal(header_of(&r, "Connection"), "close");
    assert_true(r.eof);
    reply_free(&r);
    http_respond_constant(rig.held, 200, "text/plain", NULL, "x", 1); /* asked for before */
    r = rig_receive(&rig, waiting);
    assert_string_equal(header_of(&r, "Connection"), "close");
    assert_true(r.eof);
    reply_free(&r);
    close(waiting);
    close(fd);
    rig_close(&rig);
}

static void who_talks_on_is_waited_for(void **state)
{
    Rig rig;
    int fd;
    Reply r;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, RIG_STR("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_true(r.eof);
    reply_free(&r);
    assert_false(http_server_has_pending(rig.server));
    (void)rig_send(&rig, fd, RIG_STR("more"));
    rig_turn(&rig);
    assert_true(http_server_has_pending(rig.server));
    close(fd);
    rig_turn(&rig);
    assert_false(http_server_has_pending(rig.server));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binds_to_literals_and_localhost),
        cmocka_unit_test(a_second_listener_on_the_port_fails),
        cmocka_unit_test(bind_errors_name_address_and_reason),
        cmocka_unit_test(a_restart_gets_its_port_at_once),
        cmocka_unit_test(the_connection_cap_holds),
        cmocka_unit_test(spare_connections_make_room),
        cmocka_unit_test(running_out_of_descriptors_turns_newcomers_away),
        cmocka_unit_test(accepting_goes_on_when_descriptors_come_back),
        cmocka_unit_test(a_crowd_at_the_door_does_not_hold_the_loop),
        cmocka_unit_test(stops_accepting),
        cmocka_unit_test(who_waits_is_taken_in_before_it_stops),
        cmocka_unit_test(the_limits_are_the_documented_ones),
        cmocka_unit_test(connections_leave_some_descriptors),
        cmocka_unit_test(accepted_sockets_are_bounded_in_room),
        cmocka_unit_test(the_pump_is_bounded),
        cmocka_unit_test(a_flood_does_not_hold_the_pump),
        cmocka_unit_test(the_pump_says_when_nothing_is_left),
        cmocka_unit_test(the_last_answers_say_so),
        cmocka_unit_test(who_talks_on_is_waited_for),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
