/* tests/fuzz/fuzz_callback.c: what the callback's peer answers, at once and in pieces, whether it
 * then closes, half-closes or stays. The last byte says which.
 *
 * The post ends exactly once, with a status that the peer has really sent, or none, and one line of
 * text; how the answer is cut changes nothing. */
#include "fuzz.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/client_internal.h"

enum { TIMEOUT_MS = 20000, TURNS = 200 };

/* How the peer leaves. */
enum { CLOSES, HALF_CLOSES, STAYS, N_ENDS };

typedef struct {
    int n_done, status;
    char message[512];
} Result;

static void on_done(void *ctx, int status, const char *message)
{
    Result *r = ctx;

    r->n_done++;
    r->status = status;
    (void)snprintf(r->message, sizeof r->message, "%s", message);
}

static void turn(struct event_base *base)
{
    FUZZ_CHECK(event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
}

/* A listener with a name that only the kernel knows: ports of TCP would run out. */
static int listen_on(HttpAddress *a)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1;

    len += (socklen_t)snprintf(name.sun_path + 1, 64, "llorch-fuzz-callback-%d", (int)getpid());
    FUZZ_CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&name, len) == 0 && listen(fd, 4) == 0);
    a->n = 1;
    a->items[0].len = len;
    memcpy(&a->items[0].address, &name, sizeof name);
    return fd;
}

/* The peer's end of the connection; the request has arrived on it. */
static int accept_request(struct event_base *base, int listener)
{
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    char request[1024];
    ssize_t n = 0;

    FUZZ_CHECK(fd >= 0);
    for (int i = 0; i < TURNS && n <= 0; i++) {
        turn(base);
        n = recv(fd, request, sizeof request, MSG_DONTWAIT);
    }
    FUZZ_CHECK(n > 20 && memcmp(request, "POST /ready HTTP/1.1\r\n", 22) == 0);
    return fd;
}

static void answer(struct event_base *base, const Result *r, int fd, const uint8_t *data, size_t n,
                   size_t piece)
{
    for (size_t at = 0; at < n && r->n_done == 0;) {
        const size_t k = n - at < piece ? n - at : piece;
        const ssize_t sent = send(fd, data + at, k, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno != EAGAIN)
            break;
        at += sent > 0 ? (size_t)sent : 0;
        turn(base);
    }
}

static Result post(const uint8_t *data, size_t n, size_t piece, int end)
{
    static struct event_base *base;
    static HttpAddress address;
    static int listener;
    const HttpUrl url = {.host = "x", .port = 80, .target = "/ready", .authority = "x"};
    Result r = {.status = -1};
    HttpPost *p;
    int fd;

    if (base == NULL) {
        base = event_base_new();
        listener = listen_on(&address);
    }
    p = http_post_start(base, &url, &address, "{}", 2, TIMEOUT_MS, on_done, &r);
    FUZZ_CHECK(p != NULL);
    fd = accept_request(base, listener);
    answer(base, &r, fd, data, n, piece);
    if (end == CLOSES)
        FUZZ_CHECK(close(fd) == 0);
    else if (end == HALF_CLOSES)
        FUZZ_CHECK(shutdown(fd, SHUT_WR) == 0);
    for (int i = 0; i < 5; i++)
        turn(base);
    FUZZ_CHECK(r.n_done <= 1 && (end == STAYS || r.n_done == 1));
    if (r.n_done == 0)
        http_post_abort(p);
    turn(base);
    FUZZ_CHECK(r.n_done <= 1);
    if (end != CLOSES)
        FUZZ_CHECK(close(fd) == 0);
    return r;
}

/* "HTTP/1.x NNN" stands somewhere in the answer; llhttp does not mind zeros in front of NNN. */
static bool was_sent(const uint8_t *data, size_t n, int status)
{
    char digits[16];

    (void)snprintf(digits, sizeof digits, "%03d", status);
    for (size_t i = 0; i + 12 <= n; i++) {
        size_t at = i + 9;

        if (memcmp(data + i, "HTTP/1.", 7) != 0 || data[i + 8] != ' ')
            continue;
        while (at + 3 < n && data[at] == '0')
            at++;
        if (memcmp(data + at, digits, 3) == 0)
            return true;
    }
    return false;
}

static void check(const Result *r, const uint8_t *data, size_t n)
{
    if (r->n_done == 0)
        return;
    FUZZ_CHECK(r->status == 0 || (r->status > 100 && r->status <= 599 && r->status != 103));
    FUZZ_CHECK(r->message[0] != '\0');
    for (const char *c = r->message; *c != '\0'; c++)
        FUZZ_CHECK(*c >= ' ' && *c < 0x7f);
    FUZZ_CHECK(r->status == 0 || was_sent(data, n, r->status));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Result whole, pieces;
    int end;

    if (size == 0)
        return 0;
    size--;
    end = data[size] % N_ENDS;
    whole = post(data, size, SIZE_MAX, end);
    check(&whole, data, size);
    pieces = post(data, size, 1 + (data[size] / N_ENDS) % 16, end);
    check(&pieces, data, size);
    FUZZ_CHECK(whole.n_done == pieces.n_done && whole.status == pieces.status);
    return 0;
}
