/* tests/test_http_answers.c: what goes back for each request: headers, the order of pipelined
 * requests, correlation ids. */
#include "http_rig.h"

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

/* Others get their turn between the requests of one client. */
static void a_pipeline_does_not_hold_the_loop(void **state)
{
    char text[8000];
    size_t n = 0;
    Rig rig;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "GET /%d HTTP/1.1\r\nHost:\r\n\r\n", i);
    assert_int_equal(send(fd, text, n, 0), n);
    for (int round = 1; round <= 3; round++) {
        assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
        assert_in_range(rig.n_requests, 1, 33 * round); /* 16 when it reads, 16 when it wrote */
    }
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
    /* More than are served in one turn, so that the end is seen first; the last two in the same
     * one. */
    for (int i = 0; i < 41; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, GET("/%d"), i);
    n += (size_t)snprintf(text + n, sizeof text - n, GET("/hold"));
    assert_int_equal(send(fd, text, n, 0), n);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    r = rig_receive(&rig, fd);
    assert_true(r.eof);
    assert_int_equal(count_of(r.data, "HTTP/1.1 200 OK"), 41); /* the others are not */
    assert_int_equal(rig.n_requests, 42);
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
        cmocka_unit_test(a_pipeline_does_not_hold_the_loop),
        cmocka_unit_test(a_pipelined_request_waits_for_the_answer_before),
        cmocka_unit_test(nothing_follows_a_stream),
        cmocka_unit_test(requests_before_a_half_close_are_answered),
        cmocka_unit_test(a_later_answer_is_lost_to_a_half_close),
        cmocka_unit_test(correlation_ids),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
