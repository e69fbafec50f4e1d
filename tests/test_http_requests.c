/* tests/test_http_requests.c: what the connection layer accepts and refuses, byte for byte. */
#include "http_rig.h"

typedef struct {
    const char *name;
    const char *bytes;
    size_t n;
    int status;
    const char *body; /* accepted requests: what the handler saw */
} Case;

#define HOST "Host: x\r\n"
#define GET_LINE "GET /a HTTP/1.1\r\n"
#define POST_LINE "POST /a HTTP/1.1\r\n" HOST
#define CHUNKED POST_LINE "Transfer-Encoding: chunked\r\n\r\n"
#define CASE(name, bytes, status)                                                                  \
    {                                                                                              \
        name, RIG_STR(bytes), status, NULL                                                         \
    }
#define GOOD(name, bytes, seen)                                                                    \
    {                                                                                              \
        name, RIG_STR(bytes), 200, seen                                                            \
    }

static const Case hostile[] = {
    CASE("NUL in a header value", GET_LINE HOST "A: b\0c\r\n\r\n", 400),
    CASE("NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("NUL in a header name", GET_LINE HOST "A\0B: c\r\n\r\n", 400),
    CASE("bare LF after the request line", "GET /a HTTP/1.1\n" HOST "\r\n", 400),
    CASE("bare LF after a header", GET_LINE "Host: x\n\r\n", 400),
    CASE("bare LF as the empty line", GET_LINE HOST "\n", 400),
    CASE("bare CR in a header value", GET_LINE HOST "A: b\rc\r\n\r\n", 400),
    CASE("bare CR in the request line", "GET /a\r HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("bare CR before the end", GET_LINE HOST "\rX\r\n\r\n", 400),
    CASE("header folded with a blank", GET_LINE HOST "A: b\r\n c\r\n\r\n", 400),
    CASE("header folded with a tab", GET_LINE HOST "A: b\r\n\tc\r\n\r\n", 400),
    CASE("first header begins with a blank", GET_LINE " " HOST "\r\n", 400),
    CASE("two blanks before the target", "GET  /a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("two blanks before the version", "GET /a  HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("blank after the version", "GET /a HTTP/1.1 \r\n" HOST "\r\n", 400),
    CASE("blank before the method", " GET /a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("tab in the request line", "GET\t/a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("no version", "GET /a\r\n" HOST "\r\n", 400),
    CASE("no target", "GET HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("method alone", "GET\r\n\r\n", 400),
    CASE("version 1.11", "GET /a HTTP/1.11\r\n" HOST "\r\n", 400),
    CASE("version 1.2", "GET /a HTTP/1.2\r\n" HOST "\r\n", 505),
    CASE("version 2.0", "GET /a HTTP/2.0\r\n" HOST "\r\n", 505),
    CASE("version 0.9", "GET /a HTTP/0.9\r\n" HOST "\r\n", 505),
    CASE("lower-case version", "GET /a http/1.1\r\n" HOST "\r\n", 400),
    CASE("another protocol", "OPTIONS * RTSP/1.0\r\n" HOST "\r\n", 400),
    CASE("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    CASE("TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    CASE("empty header name", GET_LINE HOST ": b\r\n\r\n", 400),
    CASE("blank before the colon", GET_LINE "Host : x\r\n\r\n", 400),
    CASE("header without a colon", GET_LINE HOST "Abc\r\n\r\n", 400),
    CASE("parenthesis in a header name", GET_LINE HOST "A(b): c\r\n\r\n", 400),
    CASE("DEL in a header value", GET_LINE HOST "A: b\x7f\r\n\r\n", 400),
    CASE("unknown method", "BREW /a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("lower-case method", "get /a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("byte above 127 in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("target without a slash", "GET a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("star with GET", "GET * HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("fragment in the target", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("no Host", GET_LINE "\r\n", 400),
    CASE("two Hosts", GET_LINE HOST HOST "\r\n", 400),
    CASE("two Hosts in HTTP/1.0", "GET /a HTTP/1.0\r\n" HOST HOST "\r\n", 400),
    CASE("blank in Host", GET_LINE "Host: a b\r\n\r\n", 400),
    CASE("path in Host", GET_LINE "Host: a/b\r\n\r\n", 400),
    CASE("user in Host", GET_LINE "Host: a@b\r\n\r\n", 400),
    CASE("URL as Host", GET_LINE "Host: http://a\r\n\r\n", 400),
    CASE("port that is no number in Host", GET_LINE "Host: a:b\r\n\r\n", 400),
    CASE("open bracket in Host", GET_LINE "Host: [::1\r\n\r\n", 400),
    CASE("text behind the bracket in Host", GET_LINE "Host: [::1]a\r\n\r\n", 400),
    CASE("byte above 127 in Host", GET_LINE "Host: \xc3\xa4\r\n\r\n", 400),
    CASE("quote in Host", GET_LINE "Host: \"a\"\r\n\r\n", 400),
    CASE("blank in Host of HTTP/1.0", "GET /a HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    CASE("absolute target without a host", "GET http:///a HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("absolute target without anything", "GET http:// HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("absolute target with another scheme", "GET https://x/ HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("authority with GET", "GET x:1 HTTP/1.1\r\n" HOST "\r\n", 400),
    CASE("two empty lines in front", "\r\n\r\n" GET_LINE HOST "\r\n", 400),
    CASE("bare LF in front", "\n" GET_LINE HOST "\r\n", 400),
    CASE("two different Content-Lengths",
         POST_LINE "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 400),
    CASE("two equal Content-Lengths", POST_LINE "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
         400),
    CASE("list as Content-Length", POST_LINE "Content-Length: 2, 2\r\n\r\nab", 400),
    CASE("two words as Content-Length", POST_LINE "Content-Length: 1 2\r\n\r\nab", 400),
    CASE("plus in Content-Length", POST_LINE "Content-Length: +2\r\n\r\nab", 400),
    CASE("minus in Content-Length", POST_LINE "Content-Length: -2\r\n\r\nab", 400),
    CASE("hexadecimal Content-Length", POST_LINE "Content-Length: 0x2\r\n\r\nab", 400),
    CASE("empty Content-Length", POST_LINE "Content-Length: \r\n\r\n", 400),
    CASE("Content-Length of 2^64", POST_LINE "Content-Length: 18446744073709551616\r\n\r\n", 400),
    CASE("Content-Length of 2^64 + 2", POST_LINE "Content-Length: 18446744073709551618\r\n\r\nab",
         400),
    CASE("Content-Length beyond the limit", POST_LINE "Content-Length: 2097153\r\n\r\n", 413),
    CASE("huge Content-Length", POST_LINE "Content-Length: 9223372036854775808\r\n\r\n", 413),
    CASE("Content-Length, then Transfer-Encoding",
         POST_LINE "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding, then Content-Length",
         POST_LINE "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding twice",
         POST_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("Transfer-Encoding gzip", POST_LINE "Transfer-Encoding: gzip\r\n\r\n", 400),
    CASE("Transfer-Encoding identity", POST_LINE "Transfer-Encoding: identity\r\n\r\n", 400),
    CASE("Transfer-Encoding gzip, chunked",
         POST_LINE "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding chunked, chunked",
         POST_LINE "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding xchunked", POST_LINE "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("Transfer-Encoding chunked;a=b",
         POST_LINE "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding empty", POST_LINE "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding after a vertical tab",
         POST_LINE "Transfer-Encoding: \x0b"
                   "chunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("Transfer-Encoding in quotes", POST_LINE "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
         400),
    CASE("comma behind Transfer-Encoding", POST_LINE "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
         400),
    CASE("comma before Transfer-Encoding",
         POST_LINE "Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("Transfer-Encoding chunked, identity",
         POST_LINE "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    CASE("blank before the colon of Transfer-Encoding",
         POST_LINE "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("tab before the colon of Content-Length", POST_LINE "Content-Length\t: 2\r\n\r\nab", 400),
    CASE("folded Transfer-Encoding", POST_LINE "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("length behind a bare CR", POST_LINE "A: b\rContent-Length: 2\r\n\r\nab", 400),
    CASE("coding behind a bare LF", POST_LINE "A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("Content-Length with a decimal point", POST_LINE "Content-Length: 2.0\r\n\r\nab", 400),
    CASE("Content-Length with an exponent", POST_LINE "Content-Length: 1e1\r\n\r\nab", 400),
    CASE("Content-Length in quotes", POST_LINE "Content-Length: \"2\"\r\n\r\nab", 400),
    CASE("Content-Length with a semicolon", POST_LINE "Content-Length: 2;\r\n\r\nab", 400),
    CASE("Content-Length twice on one line", POST_LINE "Content-Length: 2,3\r\n\r\nab", 400),
    CASE("Transfer-Encoding in HTTP/1.0, kept alive",
         "POST /a HTTP/1.0\r\n" HOST
         "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400),
    CASE("Transfer-Encoding in HTTP/1.0",
         "POST /a HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    CASE("plus in a chunk size", CHUNKED "+2\r\nab\r\n0\r\n\r\n", 400),
    CASE("0x in a chunk size", CHUNKED "0x2\r\nab\r\n0\r\n\r\n", 400),
    CASE("blank before a chunk size", CHUNKED " 2\r\nab\r\n0\r\n\r\n", 400),
    CASE("bare LF after a chunk size", CHUNKED "2\nab\r\n0\r\n\r\n", 400),
    CASE("empty chunk size", CHUNKED "\r\nab\r\n0\r\n\r\n", 400),
    CASE("minus in a chunk size", CHUNKED "-2\r\nab\r\n0\r\n\r\n", 400),
    CASE("chunk longer than its size", CHUNKED "2\r\nabc\r\n0\r\n\r\n", 400),
    CASE("bare LF after chunk data", CHUNKED "2\r\nab\n0\r\n\r\n", 400),
    CASE("chunk size overflow", CHUNKED "10000000000000002\r\nab\r\n0\r\n\r\n", 400),
    CASE("huge chunk size", CHUNKED "ffffffffffffffff\r\nab\r\n0\r\n\r\n", 413),
    CASE("chunk beyond the limit", CHUNKED "200001\r\nab", 413),
    CASE("NUL in a chunk size", CHUNKED "2\0\r\nab\r\n0\r\n\r\n", 400),
    CASE("blank behind a chunk size", CHUNKED "2 \r\nab\r\n0\r\n\r\n", 400),
    CASE("two chunk sizes", CHUNKED "2 2\r\nab\r\n0\r\n\r\n", 400),
    CASE("bare LF after a chunk extension", CHUNKED "2;a=b\nab\r\n0\r\n\r\n", 400),
    CASE("bare CR in a chunk extension", CHUNKED "2;a=b\rc\r\nab\r\n0\r\n\r\n", 400),
    CASE("line break in a quoted chunk extension",
         CHUNKED "2;a=\"\r\n0\r\n\r\n\"\r\nab\r\n0\r\n\r\n", 400),
    CASE("NUL in a chunk extension", CHUNKED "2;a=\0\r\nab\r\n0\r\n\r\n", 400),
    CASE("no line break after chunk data", CHUNKED "2\r\nab0\r\n\r\n", 400),
    CASE("chunk shorter than its size", CHUNKED "9\r\nab\r\n0\r\n\r\n", 400),
    CASE("blank before the colon in the trailer", CHUNKED "0\r\nA : b\r\n\r\n", 400),
    CASE("folded trailer field", CHUNKED "0\r\nA: b\r\n c\r\n\r\n", 400),
    CASE("trailer field without a name", CHUNKED "0\r\n: b\r\n\r\n", 400),
    CASE("bare LF in the trailer", CHUNKED "0\r\nA: b\n\r\n", 400),
    CASE("bare LF as end of the trailer", CHUNKED "0\r\n\n", 400),
    CASE("two expectations in one",
         POST_LINE "Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\nab", 417),
    CASE("empty expectation", POST_LINE "Expect:\r\nContent-Length: 2\r\n\r\nab", 417),
    CASE("unknown expectation behind a known one",
         POST_LINE "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 2\r\n\r\nab", 417),
    CASE("unknown expectation", POST_LINE "Expect: 200-ok\r\nContent-Length: 2\r\n\r\nab", 417),
};

static const Case good[] = {
    GOOD("GET", GET_LINE HOST "\r\n", "GET /a []"),
    GOOD("query is cut off", "GET /a?b=%2F HTTP/1.1\r\n" HOST "\r\n", "GET /a []"),
    GOOD("percent is not decoded", "GET /%61 HTTP/1.1\r\n" HOST "\r\n", "GET /%61 []"),
    GOOD("absolute target", "GET http://x:1/a?b HTTP/1.1\r\n" HOST "\r\n", "GET /a []"),
    GOOD("absolute target without a path", "GET http://x HTTP/1.1\r\n" HOST "\r\n", "GET / []"),
    GOOD("OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * []"),
    GOOD("HTTP/1.0 without Host", "GET /a HTTP/1.0\r\n\r\n", "GET /a []"),
    GOOD("empty Host", GET_LINE "Host:\r\n\r\n", "GET /a []"),
    GOOD("Host without a blank", GET_LINE "host:x\r\n\r\n", "GET /a []"),
    GOOD("Host with a port", GET_LINE "Host: a.b-c_d:80\r\n\r\n", "GET /a []"),
    GOOD("Host in brackets", GET_LINE "Host: [::1]:3000 \r\n\r\n", "GET /a []"),
    GOOD("Host with an empty port", GET_LINE "Host: 127.0.0.1:\r\n\r\n", "GET /a []"),
    GOOD("one empty line in front", "\r\n" GET_LINE HOST "\r\n", "GET /a []"),
    GOOD("byte above 127 in a header value", GET_LINE HOST "A: \xc3\xa4\r\n\r\n", "GET /a []"),
    GOOD("tab in a header value", GET_LINE HOST "A:\tb\tc\t\r\n\r\n", "GET /a []"),
    GOOD("body by length", POST_LINE "Content-Length: 3\r\n\r\nabc", "POST /a [abc]"),
    GOOD("length zero", POST_LINE "Content-Length: 0\r\n\r\n", "POST /a []"),
    GOOD("length with zeros in front", POST_LINE "Content-Length: 0003\r\n\r\nabc",
         "POST /a [abc]"),
    GOOD("length with blanks around", POST_LINE "Content-Length:  3 \r\n\r\nabc", "POST /a [abc]"),
    GOOD("body with GET", GET_LINE HOST "Content-Length: 3\r\n\r\nabc", "GET /a [abc]"),
    GOOD("no body with POST", POST_LINE "\r\n", "POST /a []"),
    GOOD("chunks", CHUNKED "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "POST /a [abc]"),
    GOOD("no chunk", CHUNKED "0\r\n\r\n", "POST /a []"),
    GOOD("hexadecimal chunk", CHUNKED "A\r\n0123456789\r\n00\r\n\r\n", "POST /a [0123456789]"),
    GOOD("chunk extension", CHUNKED "2;x=y\r\nab\r\n0\r\n\r\n", "POST /a [ab]"),
    GOOD("quoted chunk extension", CHUNKED "2;x=\"y z\";q\r\nab\r\n0;last\r\n\r\n", "POST /a [ab]"),
    GOOD("trailer fields are dropped",
         CHUNKED "2\r\nab\r\n0\r\nX-Correlation-ID: late\r\nHost: y\r\n\r\n", "POST /a [ab]"),
    GOOD("upper-case coding", POST_LINE "TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n",
         "POST /a [ab]"),
    GOOD("upgrade is not followed", GET_LINE HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
         "GET /a []"),
    GOOD("CONNECT is a method like others", "CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n",
         "CONNECT x:1 []"),
    GOOD("CONNECT with a body", "CONNECT x:1 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab",
         "CONNECT x:1 [ab]"),
    GOOD("DELETE", "DELETE /a HTTP/1.1\r\n" HOST "\r\n", "DELETE /a []"),
};

static const char smuggled[] = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

static void check_refused(const Case *c, const Reply *r, const Rig *rig, const char *how)
{
    if (reply_status(r) != c->status || count_of(r->data, "\r\nDate: ") != 1 || !r->eof ||
        rig->n_requests != 0 || strstr(r->data, "\r\nConnection: close\r\n") == NULL ||
        strstr(r->data, "\r\nContent-Type: application/json\r\n") == NULL ||
        strstr(r->data, "\r\nX-Correlation-ID: ") == NULL ||
        strstr(reply_body(r), "{\"code\":\"LAYER\"") == NULL)
        fail_msg("%s, %s: expected status %d and close, %d requests seen, got:\n%s", c->name, how,
                 c->status, rig->n_requests, r->data);
}

/* Each hostile request is followed by a good one, which must never be seen. */
static void refuses_hostile_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const Case *c = &hostile[i];
        Rig rig;
        Reply r;
        int fd;

        rig_open(&rig, NULL);
        fd = rig_client(&rig);
        /* One write: the good one lies in the same read. */
        char *both = malloc(c->n + sizeof smuggled);
        assert_non_null(both);
        memcpy(both, c->bytes, c->n);
        memcpy(both + c->n, smuggled, sizeof smuggled);
        r = rig_exchange(&rig, fd, both, c->n + sizeof smuggled - 1);
        check_refused(c, &r, &rig, "at once");
        reply_free(&r);
        free(both);
        close(fd);
        rig_close(&rig);
    }
}

static void refuses_them_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const Case *c = &hostile[i];
        Rig rig;
        Reply r;
        int fd;

        rig_open(&rig, NULL);
        fd = rig_client(&rig);
        for (size_t k = 0; k < c->n; k++)
            (void)rig_send(&rig, fd, c->bytes + k, 1);
        (void)rig_send(&rig, fd, smuggled, sizeof smuggled - 1);
        r = rig_receive(&rig, fd);
        check_refused(c, &r, &rig, "byte by byte");
        reply_free(&r);
        close(fd);
        rig_close(&rig);
    }
}

static void check_accepted(const Case *c, const Reply *r, const char *how, size_t at)
{
    if (reply_status(r) != 200 || strcmp(reply_body(r), c->body) != 0)
        fail_msg("%s, %s %zu: expected \"%s\", got:\n%s", c->name, how, at, c->body, r->data);
}

static void accepts_good_requests_split_anywhere(void **state)
{
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const Case *c = &good[i];
        for (size_t cut = 0; cut < c->n; cut++) {
            const int fd = rig_client(&rig);
            Reply r;

            if (cut > 0)
                (void)rig_send(&rig, fd, c->bytes, cut);
            r = rig_exchange(&rig, fd, c->bytes + cut, c->n - cut);
            check_accepted(c, &r, "cut at", cut);
            reply_free(&r);
            close(fd);
        }
    }
    rig_close(&rig);
}

static void accepts_good_requests_byte_by_byte(void **state)
{
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const int fd = rig_client(&rig);
        Reply r;

        for (size_t k = 0; k < good[i].n; k++)
            (void)rig_send(&rig, fd, good[i].bytes + k, 1);
        r = rig_receive(&rig, fd);
        check_accepted(&good[i], &r, "bytes", good[i].n);
        reply_free(&r);
        close(fd);
    }
    rig_close(&rig);
}

/* A prefix is no request: the handler must not see it, and the connection must go without an
 * answer. */
static void every_prefix_then_close(void **state)
{
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        for (size_t n = 0; n < good[i].n; n++) {
            const int fd = rig_client(&rig);
            Reply r;

            (void)rig_send(&rig, fd, good[i].bytes, n);
            assert_int_equal(shutdown(fd, SHUT_WR), 0);
            r = rig_receive(&rig, fd);
            assert_true(r.eof);
            assert_int_equal(r.n, 0);
            assert_int_equal(rig.n_requests, 0);
            assert_int_equal(http_server_connections(rig.server), 0);
            reply_free(&r);
            close(fd);
        }
    }
    rig_close(&rig);
}

static Reply one_request(const HttpLimits *limits, const char *bytes, size_t n)
{
    Rig rig;
    Reply r;
    int fd;

    rig_open(&rig, limits);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, bytes, n);
    close(fd);
    rig_close(&rig);
    return r;
}

static int status_of(const char *bytes, size_t n)
{
    Reply r = one_request(NULL, bytes, n);
    const int status = reply_status(&r);

    reply_free(&r);
    return status;
}

/* "GET /xxx HTTP/1.1" of exactly n bytes, and the headers given. */
static int status_of_line(size_t n, const char *headers)
{
    char *text = malloc(n + strlen(headers) + 8);
    const size_t n_fixed = strlen("GET / HTTP/1.1");
    size_t len;
    int status;

    assert_non_null(text);
    memcpy(text, "GET /", 5);
    memset(text + 5, 'x', n - n_fixed);
    len = 5 + n - n_fixed;
    len += (size_t)sprintf(text + len, " HTTP/1.1\r\n%s\r\n", headers);
    status = status_of(text, len);
    free(text);
    return status;
}

static void request_line_limit_is_exact(void **state)
{
    (void)state;
    assert_int_equal(status_of_line(8192, HOST), 200);
    assert_int_equal(status_of_line(8193, HOST), 414);
    assert_int_equal(status_of_line(20000, HOST), 414);
}

/* Header lines that take n bytes together. */
static int status_of_header_bytes(size_t n)
{
    char *headers = malloc(n + 1);
    const size_t n_fixed = strlen(HOST "A: \r\n");
    int status;

    assert_non_null(headers);
    memcpy(headers, HOST "A: ", strlen(HOST "A: "));
    memset(headers + strlen(HOST "A: "), 'v', n - n_fixed);
    strcpy(headers + n - 2, "\r\n");
    status = status_of_line(20, headers);
    free(headers);
    return status;
}

static void header_bytes_limit_is_exact(void **state)
{
    (void)state;
    assert_int_equal(status_of_header_bytes(32 * 1024), 200);
    assert_int_equal(status_of_header_bytes(32 * 1024 + 1), 431);
    assert_int_equal(status_of_header_bytes(100000), 431);
}

static int status_of_header_count(int n)
{
    char headers[4096] = HOST;
    size_t len = strlen(headers);

    for (int i = 1; i < n; i++)
        len += (size_t)snprintf(headers + len, sizeof headers - len, "A%d: b\r\n", i);
    return status_of_line(20, headers);
}

static void header_count_limit_is_exact(void **state)
{
    (void)state;
    assert_int_equal(status_of_header_count(100), 200);
    assert_int_equal(status_of_header_count(101), 431);
}

static void trailer_counts_as_header(void **state)
{
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", CHUNKED "0\r\n");

    (void)state;
    for (int i = 0; i < 98; i++) /* Host and Transfer-Encoding were two */
        n += (size_t)snprintf(text + n, sizeof text - n, "A%d: b\r\n", i);
    memcpy(text + n, "\r\n", 3);
    assert_int_equal(status_of(text, n + 2), 200);
    memcpy(text + n, "B: c\r\n\r\n", 9);
    assert_int_equal(status_of(text, n + 8), 431);
}

static char *body_of(size_t n, bool chunked, size_t *len)
{
    char *text = malloc(n + 256);
    size_t k;

    assert_non_null(text);
    if (chunked)
        k = (size_t)sprintf(text, CHUNKED "%zx\r\n", n - 1);
    else
        k = (size_t)sprintf(text, POST_LINE "Content-Length: %zu\r\n\r\n", n);
    memset(text + k, 'b', n);
    if (chunked) /* the last byte is a chunk of its own: the sum counts, not one chunk */
        *len = k + n - 1 + (size_t)sprintf(text + k + n - 1, "\r\n1\r\nb\r\n0\r\n\r\n");
    else
        *len = k + n;
    return text;
}

static void body_limit_is_exact(void **state)
{
    const size_t limit = 2 * 1024 * 1024;
    size_t len;

    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        char *text = body_of(limit, chunked, &len);
        assert_int_equal(status_of(text, len), 200);
        free(text);
        text = body_of(limit + 1, chunked, &len);
        assert_int_equal(status_of(text, len), 413);
        free(text);
    }
}

static void large_body_arrives_whole(void **state)
{
    size_t len;
    char *text = body_of(1000001, false, &len);
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd, text, len);
    assert_int_equal(reply_status(&r), 200);
    assert_int_equal(rig.n_body, 1000001);
    reply_free(&r);
    free(text);
    close(fd);
    rig_close(&rig);
}

static void too_large_body_is_refused_before_it_is_sent(void **state)
{
    Reply r = one_request(
        NULL, RIG_STR(POST_LINE "Expect: 100-continue\r\nContent-Length: 2097153\r\n\r\n"));

    (void)state;
    assert_int_equal(reply_status(&r), 413);
    assert_int_equal(count_of(r.data, "HTTP/1.1 "), 1);
    reply_free(&r);
}

/* Path, method and type are looked at before the length: the handler may refuse for them. */
static void the_handler_may_answer_before_413(void **state)
{
    static const char *const requests[] = {
        "POST /typed HTTP/1.1\r\n" HOST "Content-Length: 2097153\r\n\r\n",
        "POST /typed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n200001\r\n",
        "POST /other HTTP/1.1\r\n" HOST "Content-Length: 2097153\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        Rig rig;
        Reply r;
        int fd;

        rig_open(&rig, NULL);
        fd = rig_client(&rig);
        (void)rig_send(&rig, fd, requests[i], strlen(requests[i]));
        (void)rig_send(&rig, fd, smuggled, sizeof smuggled - 1);
        r = rig_receive(&rig, fd);
        assert_int_equal(reply_status(&r), i < 2 ? 415 : 413);
        assert_int_equal(count_of(r.data, "\r\nDate: "), 1);
        assert_non_null(strstr(r.data, "\r\nConnection: close\r\n"));
        assert_true(r.eof);
        assert_int_equal(rig.n_too_large, 1);
        assert_int_equal(rig.n_requests + rig.n_closed, 0);
        reply_free(&r);
        close(fd);
        rig_close(&rig);
    }
}

static void chunk_extensions_are_bounded(void **state)
{
    char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, CHUNKED "1;");

    (void)state;
    memset(text + n, 'x', 5000);
    n += 5000;
    n += (size_t)snprintf(text + n, sizeof text - n, "\r\na\r\n0\r\n\r\n");
    assert_int_equal(status_of(text, n), 400);
}

static void bodies_together_are_bounded(void **state)
{
    HttpLimits limits = http_limits_default();
    int fds[70];
    static char part[128 * 1024];
    int n_refused = 0, other;
    Rig rig;
    Reply r;

    (void)state;
    memset(part, 'b', sizeof part);
    limits.max_body_bytes = sizeof part;
    rig_open(&rig, &limits);
    for (int i = 0; i < 70; i++) {
        fds[i] = rig_client(&rig);
        (void)rig_send(&rig, fds[i], RIG_STR(POST_LINE "Content-Length: 131072\r\n\r\n"));
        (void)rig_send(&rig, fds[i], part, sizeof part - 1);
        r = rig_receive(&rig, fds[i]);
        n_refused += reply_status(&r) == 503;
        reply_free(&r);
    }
    /* Each buffer took 64 KiB of the budget, beside 64 that are free: 32 times 128 fit. */
    assert_int_equal(n_refused, 6);
    /* Who holds back large bodies does not keep out small ones. */
    other = rig_client(&rig);
    r = rig_exchange(&rig, other, RIG_STR(POST_LINE "Content-Length: 3\r\n\r\nabc"));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    close(other);
    for (int i = 1; i < 70; i++)
        assert_int_equal(close(fds[i]), 0);
    rig_turn(&rig);
    /* The memory of those that went away is free again: the first one gets its last byte in. */
    r = rig_exchange(&rig, fds[0], "b", 1);
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    for (int i = 0; i < 100; i++) { /* and so is that of a request that was answered, or refused */
        r = rig_exchange(&rig, fds[0], RIG_STR(POST_LINE "Content-Length: 3\r\n\r\nabc"));
        assert_int_equal(reply_status(&r), 200);
        reply_free(&r);
    }
    close(fds[0]);
    rig_close(&rig);
}

static void answers_100_continue(void **state)
{
    Rig rig;
    Reply r;
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd,
                     RIG_STR(POST_LINE "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    assert_string_equal(r.data, "HTTP/1.1 100 Continue\r\n\r\n");
    reply_free(&r);
    r = rig_exchange(&rig, fd, "ab", 2);
    assert_int_equal(r.n, 0);
    reply_free(&r);
    r = rig_exchange(&rig, fd, "c", 1);
    assert_int_equal(reply_status(&r), 200);
    assert_string_equal(reply_body(&r), "POST /a [abc]");
    reply_free(&r);

    /* Not needed: the body is there, or there is none, or the client is too old to know. */
    r = rig_exchange(&rig, fd,
                     RIG_STR(POST_LINE "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na"));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    r = rig_exchange(&rig, fd, RIG_STR(GET_LINE HOST "Expect: 100-continue\r\n\r\n"));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    r = rig_exchange(
        &rig, fd, RIG_STR("POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
    assert_int_equal(r.n, 0);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void hands_over_content_headers(void **state)
{
    Rig rig;
    Reply r;
    char text[1024];
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    fd = rig_client(&rig);
    r = rig_exchange(&rig, fd,
                     RIG_STR(POST_LINE "Content-Type: \tapplication/json; charset=utf-8 \r\n\r\n"));
    assert_string_equal(rig.content_type, "application/json; charset=utf-8");
    reply_free(&r);
    r = rig_exchange(&rig, fd, RIG_STR(POST_LINE "\r\n"));
    assert_string_equal(rig.content_type, "(none)");
    reply_free(&r);
    r = rig_exchange(&rig, fd, RIG_STR(POST_LINE "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n"));
    assert_string_equal(rig.content_type, "?");
    reply_free(&r);
    snprintf(text, sizeof text, POST_LINE "Content-Type: application/json%300s;\r\n\r\n", "");
    r = rig_exchange(&rig, fd, text, strlen(text));
    assert_string_equal(rig.content_type, "?");
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void names_methods(void **state)
{
    static const struct {
        const char *name;
        HttpMethod method;
    } known[] = {{"GET", HTTP_GET},         {"HEAD", HTTP_HEAD}, {"POST", HTTP_POST},
                 {"OPTIONS", HTTP_OPTIONS}, {"PUT", HTTP_OTHER}, {"PATCH", HTTP_OTHER}};
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[128];
        const int fd = rig_client(&rig);
        Reply r;

        snprintf(text, sizeof text, "%s /a HTTP/1.1\r\n" HOST "\r\n", known[i].name);
        r = rig_exchange(&rig, fd, text, strlen(text));
        assert_int_equal(rig.method_id, known[i].method);
        assert_string_equal(rig.method, known[i].name);
        reply_free(&r);
        close(fd);
    }
    rig_close(&rig);
}

/* All bytes, at every place of a small request: nothing may crash, and what is accepted must be a
 * whole request. */
static void survives_every_byte_anywhere(void **state)
{
    static const char text[] =
        POST_LINE "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n";
    Rig rig;

    (void)state;
    rig_open(&rig, NULL);
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (int byte = 0; byte < 256; byte += byte >= 0x21 && byte < 0x7d ? 7 : 1) {
            char damaged[sizeof text];
            const int n_before = rig.n_requests;
            const int fd = rig_client(&rig);
            Reply r;

            memcpy(damaged, text, sizeof text);
            damaged[at] = (char)byte;
            (void)rig_send(&rig, fd, damaged, sizeof text - 1);
            assert_int_equal(shutdown(fd, SHUT_WR), 0);
            r = rig_receive(&rig, fd);
            assert_true(r.eof);
            assert_true(rig.n_requests - n_before <= 1);
            reply_free(&r);
            close(fd);
        }
    }
    rig_turn(&rig);
    assert_int_equal(http_server_connections(rig.server), 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_hostile_requests),
        cmocka_unit_test(refuses_them_byte_by_byte),
        cmocka_unit_test(accepts_good_requests_split_anywhere),
        cmocka_unit_test(accepts_good_requests_byte_by_byte),
        cmocka_unit_test(every_prefix_then_close),
        cmocka_unit_test(request_line_limit_is_exact),
        cmocka_unit_test(header_bytes_limit_is_exact),
        cmocka_unit_test(header_count_limit_is_exact),
        cmocka_unit_test(trailer_counts_as_header),
        cmocka_unit_test(body_limit_is_exact),
        cmocka_unit_test(large_body_arrives_whole),
        cmocka_unit_test(too_large_body_is_refused_before_it_is_sent),
        cmocka_unit_test(the_handler_may_answer_before_413),
        cmocka_unit_test(chunk_extensions_are_bounded),
        cmocka_unit_test(bodies_together_are_bounded),
        cmocka_unit_test(answers_100_continue),
        cmocka_unit_test(hands_over_content_headers),
        cmocka_unit_test(names_methods),
        cmocka_unit_test(survives_every_byte_anywhere),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
