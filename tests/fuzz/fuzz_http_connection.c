/* tests/fuzz/fuzz_http_connection.c: a client's bytes through a socket into the connection layer,
 * with a handler that answers at once, later, or with a stream. The last byte says how the client
 * behaves: how it cuts what it sends, and whether it reads, half-closes or just leaves.
 *
 * Whatever comes: each request is answered or given up exactly once, one after the other; what the
 * client reads are whole answers in the order of its requests; and nothing is left in the end. */
#include "fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/server.h"

enum {
    MAX_ANSWERS = 4096,
    STREAM_EVENTS = 3,
    REPLY_BYTES = 1 << 22,
    BIG_BYTES = 3000 /* of an answer to /b: some of them fill max_pending_bytes */
};

/* Bits of the last byte. */
enum { LEAVES = 1, HALF_CLOSES = 2, POLLS = 4, SLOW_HANDLER = 8, PIECES = 0x30, LEAVES_EARLY = 64 };

typedef struct {
    struct event_base *base;
    HttpServer *server;
    HttpConn *held; /* the request that is not answered yet */
    bool is_stream, stream_lost;
    int n_events;
    int n_requests, n_answered, n_lost;
    bool is_head[MAX_ANSWERS];
    int fd;
    char *reply;
    size_t n_reply;
    bool eof;
} Rig;

/* --- the handler --- */

static size_t error_body(void *ctx, const char *path, int status, const char *message, char *out,
                         size_t size)
{
    (void)ctx;
    FUZZ_CHECK(path != NULL && (*path == '\0' || memchr(path, '\0', 8 * 1024 + 1) != NULL));
    return (size_t)snprintf(out, size, "%d %s", status, message);
}

static void on_request(void *ctx, HttpConn *conn, const HttpRequest *q)
{
    static const char spaces[BIG_BYTES];
    Rig *rig = ctx;
    char text[BIG_BYTES + 64];
    int n;

    FUZZ_CHECK(rig->held == NULL && http_conn_data(conn) == NULL);
    FUZZ_CHECK(rig->n_requests < MAX_ANSWERS && q->body[q->n_body] == '\0');
    FUZZ_CHECK(q->correlation_id[0] != '\0' && strlen(q->correlation_id) <= 128);
    fuzz_touch(q->body, q->n_body);
    fuzz_touch(q->path, strlen(q->path));
    http_conn_set_data(conn, rig);
    rig->is_head[rig->n_requests++] = q->method == HTTP_HEAD;
    if (q->path[0] == '/' && (q->path[1] == 'h' || q->path[1] == 'o')) {
        rig->held = conn;
        rig->is_stream = q->path[1] == 'o';
        rig->n_events = 0;
        if (rig->is_stream)
            http_stream_begin(conn);
        return;
    }
    n = snprintf(text, sizeof text, "#%d\n", rig->n_requests);
    if (q->path[0] == '/' && q->path[1] == 'b') {
        memcpy(text + n, spaces, sizeof spaces);
        n += (int)sizeof spaces;
    }
    rig->n_answered++;
    http_respond(conn, 200, "text/plain", "X-Extra: 1\r\n", text, (size_t)n);
}

static void on_close(void *ctx, HttpConn *conn)
{
    Rig *rig = ctx;

    FUZZ_CHECK(rig->held == conn && http_conn_data(conn) == rig);
    rig->held = NULL;
    rig->stream_lost = rig->is_stream;
    rig->n_lost++;
    http_respond(conn, 200, NULL, NULL, "x", 1);
}

static void on_too_large(void *ctx, HttpConn *conn, const HttpRequest *q)
{
    (void)ctx;
    FUZZ_CHECK(q->n_body == 0);
    if (q->path[1] == 't')
        http_respond(conn, 415, "text/plain", NULL, "x", 1);
}

/* A piece of the answer that is owed. */
static void work(Rig *rig)
{
    HttpConn *conn = rig->held;
    char text[32];
    const int n = snprintf(text, sizeof text, "#%d\n", rig->n_requests);

    if (conn == NULL)
        return;
    if (rig->is_stream && rig->n_events++ < STREAM_EVENTS) {
        http_stream_write(conn, text, (size_t)n);
        return;
    }
    rig->held = NULL;
    rig->n_answered++;
    if (rig->is_stream)
        http_stream_end(conn);
    else
        http_respond(conn, 202, "text/plain", NULL, text, (size_t)n);
}

/* --- the client --- */

static void read_reply(Rig *rig)
{
    while (!rig->eof) {
        const ssize_t n =
            recv(rig->fd, rig->reply + rig->n_reply, REPLY_BYTES - rig->n_reply, MSG_DONTWAIT);

        if (n < 0)
            return;
        FUZZ_CHECK(!(n == 0 && rig->n_reply == REPLY_BYTES));
        rig->eof = n == 0;
        rig->n_reply += (size_t)n;
    }
}

static void turn(Rig *rig, int how)
{
    http_server_pump(rig->server, 64, 1000000);
    if ((how & POLLS) != 0)
        http_server_poll_hangups(rig->server);
    if ((how & LEAVES) == 0)
        read_reply(rig);
    work(rig);
}

static void send_all(Rig *rig, int how, const uint8_t *data, size_t n)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 7, 61};
    const size_t most = pieces[(how & PIECES) >> 4];
    const size_t end = (how & LEAVES_EARLY) != 0 ? n / 2 : n;
    int n_idle = 0;

    for (size_t at = 0; at < end && n_idle < 40;) {
        const size_t piece = end - at < most ? end - at : most;
        const ssize_t k = send(rig->fd, data + at, piece, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (k < 0 && errno != EAGAIN)
            break;
        n_idle = k < 0 ? n_idle + 1 : 0;
        at += k > 0 ? (size_t)k : 0;
        if ((how & SLOW_HANDLER) == 0)
            turn(rig, how);
        else
            http_server_pump(rig->server, 64, 1000000);
    }
}

/* --- what it has read --- */

typedef struct {
    const char *at, *end;
} Text;

typedef struct {
    int status;
    long length; /* -1: none */
    bool is_chunked, closes;
} Head;

static Text next_line(Text *t)
{
    const char *lf = memchr(t->at, '\n', (size_t)(t->end - t->at));
    Text line;

    FUZZ_CHECK(lf != NULL && lf > t->at && lf[-1] == '\r');
    line = (Text){t->at, lf - 1};
    t->at = lf + 1;
    for (const char *c = line.at; c < line.end; c++)
        FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
    return line;
}

static bool begins(Text line, const char *what)
{
    const size_t n = strlen(what);

    return (size_t)(line.end - line.at) >= n && memcmp(line.at, what, n) == 0;
}

static Head read_head(Text *t)
{
    Head h = {.length = -1};
    Text line = next_line(t);

    FUZZ_CHECK(begins(line, "HTTP/1.1 ") && line.end - line.at > 13 && line.at[12] == ' ');
    h.status = atoi(line.at + 9);
    for (line = next_line(t); line.at < line.end; line = next_line(t)) {
        FUZZ_CHECK(memchr(line.at, ':', (size_t)(line.end - line.at)) != NULL);
        FUZZ_CHECK(!begins(line, "Content-Length: ") || (h.length == -1 && !h.is_chunked));
        if (begins(line, "Content-Length: "))
            h.length = atol(line.at + 16);
        h.is_chunked = h.is_chunked || begins(line, "Transfer-Encoding: chunked");
        h.closes = h.closes || begins(line, "Connection: close");
    }
    FUZZ_CHECK(h.length == -1 || !h.is_chunked);
    return h;
}

/* The body's first bytes name the request that it answers. */
static void check_number(Text body, int number)
{
    char want[32];

    (void)snprintf(want, sizeof want, "#%d\n", number);
    FUZZ_CHECK(begins(body, want));
}

/* Chunks up to the last one; an answer that was lost may end anywhere between two. */
static void read_chunks(Text *t, int number, bool may_be_cut)
{
    for (;;) {
        Text line;
        long n;

        if (t->at == t->end && may_be_cut)
            return;
        line = next_line(t);
        n = strtol(line.at, NULL, 16);
        FUZZ_CHECK(n >= 0 && n <= t->end - t->at - 2);
        if (n > 0)
            check_number((Text){t->at, t->at + n}, number);
        t->at += n;
        FUZZ_CHECK(memcmp(t->at, "\r\n", 2) == 0);
        t->at += 2;
        if (n == 0)
            return;
    }
}

/* The body of the answer to request `number` (from 1). */
static void read_body(Text *t, const Rig *rig, const Head *h, int number)
{
    const bool from_layer = number > rig->n_requests; /* then its method is not known here */

    if (!from_layer && rig->is_head[number - 1])
        return;
    if (from_layer && t->at == t->end)
        return;
    if (h->is_chunked) {
        read_chunks(t, number, rig->stream_lost);
    } else if (h->length >= 0) {
        FUZZ_CHECK(h->length <= t->end - t->at);
        if (!from_layer)
            check_number(*t, number);
        t->at += h->length;
    } else { /* a stream to a client of HTTP/1.0 */
        FUZZ_CHECK(h->closes);
        t->at = t->end;
    }
}

/* All answers, in order; one of the layer's own may be the last. */
static void check_reply(const Rig *rig)
{
    Text t = {rig->reply, rig->reply + rig->n_reply};
    int n = 0;
    bool closed = false;

    while (t.at < t.end) {
        const Head h = read_head(&t);

        FUZZ_CHECK(!closed);
        if (h.status == 100)
            continue;
        n++;
        FUZZ_CHECK(n <= rig->n_requests ? h.status == 200 || h.status == 202
                                        : n == rig->n_requests + 1 && h.status >= 400 && h.closes);
        read_body(&t, rig, &h, n);
        closed = h.closes;
    }
    FUZZ_CHECK(n >= rig->n_answered && n <= rig->n_requests + 1);
}

/* --- one input --- */

static void play(Rig *rig, int how, const uint8_t *data, size_t n)
{
    send_all(rig, how, data, n);
    if ((how & HALF_CLOSES) != 0)
        (void)shutdown(rig->fd, SHUT_WR);
    if ((how & LEAVES) == 0) {
        for (int n_idle = 0; n_idle < 2 && !rig->eof;) {
            const size_t before = rig->n_reply;
            const HttpConn *held = rig->held;

            turn(rig, how);
            n_idle = held == NULL && rig->n_reply == before ? n_idle + 1 : 0;
        }
        FUZZ_CHECK(rig->held == NULL);
        check_reply(rig);
    }
    FUZZ_CHECK(close(rig->fd) == 0);
    for (int i = 0; i < 3; i++) {
        http_server_pump(rig->server, 64, 1000000);
        http_server_poll_hangups(rig->server);
    }
    FUZZ_CHECK(http_server_connections(rig->server) == 0 && rig->held == NULL);
    FUZZ_CHECK(!http_server_has_pending(rig->server));
    FUZZ_CHECK(rig->n_answered + rig->n_lost == rig->n_requests && rig->n_lost <= 1);
}

/* The loop and the room for answers serve all inputs: making them would take most of the time. */
static void open_rig(Rig *rig)
{
    static struct event_base *base;
    static char *reply;
    const HttpHandler handler = {.ctx = rig,
                                 .on_request = on_request,
                                 .on_close = on_close,
                                 .on_too_large = on_too_large,
                                 .error_body = error_body};
    HttpLimits limits = http_limits_default();
    int pair[2];

    limits.max_body_bytes = 300;
    limits.max_header_bytes = 400;
    limits.max_headers = 10;
    limits.max_pending_bytes = 8192;
    if (base == NULL) {
        base = event_base_new();
        reply = malloc(REPLY_BYTES);
    }
    rig->base = base;
    rig->reply = reply;
    rig->server = http_server_new(base, &limits, &handler);
    FUZZ_CHECK(rig->server != NULL && reply != NULL);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    FUZZ_CHECK(http_server_adopt(rig->server, pair[1]) != NULL);
    rig->fd = pair[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Rig rig;

    if (size == 0)
        return 0;
    rig = (Rig){.held = NULL};
    open_rig(&rig);
    play(&rig, data[size - 1], data, size - 1);
    http_server_free(rig.server);
    return 0;
}
