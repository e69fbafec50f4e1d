/* tests/test_worker_faults.c: the n-th allocation of a serving worker fails, for every n: in the
 * start, a job, bad requests, probes, a cancel, clients that leave, the shutdown. Our own
 * allocations, libevent's and jansson's. Never a crash, a hang or a leak; a start that fails says
 * why; a job is whole or says that it failed; and what comes after the failure is served as by a
 * fresh process, to the byte.
 *
 * The worker runs whole (worker_run) on a loopback port. Its client lives in the same thread and is
 * moved on by the backend's hooks: while the model loads, after each step of a job, and while there
 * is nothing to do. Every n takes a minute: LLORCH_TEST_ALL=1 (make faults); else a spread sample.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/cpu_backend.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "fault_memory.h"
#include "quick.h"
#include "stub_backend.h"
#include "worker/worker.h"

#define TINY "tests/data/tiny-gpt2"

enum {
    MAX_CLIENTS = 3,
    REPLY_BYTES = 64 * 1024,
    TEXT_BYTES = 16 * 1024,
    RUN_LIMIT_MS = 20000,
    TIME_FACTOR = 16,
    SPINS = 40
};

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
void __wrap_log_line(LogLevel level, const char *message, ...) __attribute__((sentinel));
uint64_t __real_clock_now_ns(void);
uint64_t __real_clock_cpu_ns(void);
uint64_t __wrap_clock_cpu_ns(void);
uint64_t __wrap_clock_now_ns(void);
uint64_t __wrap_clock_now_ms(void);

/* ---- What the client does ---- */

typedef enum {
    LOADED, /* waits until the model is there; the first deeds come before */
    SEND,   /* connects as client who and sends text */
    REPLY,  /* waits until the connection is at its end */
    TOKEN,  /* waits for the first token, or the end */
    LEAVE,  /* closes, whatever is still to come */
    WHOLE,  /* like REPLY; then the stream must be the whole job, or, while faults are on, end with
               an error */
    CALM,   /* the fault is over: from here on everything must go well */
    EXPECT, /* like REPLY; the answer must begin with text unless the fault was still on */
    CALLED, /* waits until the pool manager has its callback, or the log says that it failed */
    TERM    /* SIGTERM */
} Act;

typedef struct {
    Act act;
    int who;
    const char *text;
} Deed;

typedef struct {
    int fd; /* -1: none */
    size_t n;
    bool at_end;
    long n_failed_before;
    char reply[REPLY_BYTES];
} Client;

typedef struct {
    const Deed *begin, *deeds; /* all, and the next */
    long n_loaded;             /* allocations until the model was there */
    Client clients[MAX_CLIENTS];
    char text[TEXT_BYTES]; /* of the last whole job */
    uint64_t begin_ms;
    int port;
    int pool_fd, pool_conn; /* where the pool manager listens, and its visitor; -1: none */
    int n_called;
    bool loaded;
    int n_waits;
    Backend *inner;
    Backend outer;
    BackendOps ops;
} Play;

static Play play;
static char reference[TEXT_BYTES]; /* the job's text without faults; empty: not yet known */

/* Error lines of the log. */
static struct {
    int n;
    char last[1024];
} errors;

void __wrap_log_line(LogLevel level, const char *message, ...)
{
    if (level < LOG_ERROR)
        return;
    errors.n++;
    snprintf(errors.last, sizeof errors.last, "%s", message);
}

int __wrap_listen(int fd, int backlog)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    play.port = ntohs(at.sin_port);
    return __real_listen(fd, backlog);
}

/* Time flies: the listener rests for 100 ms after each newcomer that found no memory. */
uint64_t __wrap_clock_now_ns(void)
{
    return __real_clock_now_ns() * TIME_FACTOR;
}

uint64_t __wrap_clock_cpu_ns(void)
{
    return __real_clock_cpu_ns() * TIME_FACTOR;
}

uint64_t __wrap_clock_now_ms(void)
{
    return __wrap_clock_now_ns() / 1000000;
}

static void client_send(Client *c, const char *text)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)play.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    static char request[4096];
    const char *mark = strchr(text, '#'), *body = strstr(text, "\r\n\r\n");
    const int n = mark == NULL || mark > body
                      ? snprintf(request, sizeof request, "%s", text)
                      : snprintf(request, sizeof request, "%.*s%zu%s", (int)(mark - text), text,
                                 strlen(body + 4), mark + 1);

    c->n = 0;
    c->reply[0] = '\0';
    c->at_end = false;
    c->n_failed_before = fault_memory.n_failed;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    if (connect(c->fd, (const struct sockaddr *)&to, sizeof to) != 0)
        fail_msg("allocation %ld: nobody listens at deed %d; the log says %s", fault_memory.first,
                 (int)(play.deeds - play.begin), errors.last);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(send(c->fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

/* Takes what is there; true when the connection is at its end. */
static bool client_read(Client *c)
{
    while (c->fd >= 0 && !c->at_end) {
        assert_true(c->n < sizeof c->reply - 1);
        const ssize_t k = recv(c->fd, c->reply + c->n, sizeof c->reply - 1 - c->n, 0);
        if (k < 0 && errno == EAGAIN)
            break;
        c->at_end = k <= 0;
        c->n += k > 0 ? (size_t)k : 0;
        c->reply[c->n] = '\0';
    }
    return c->at_end;
}

static void client_close(Client *c)
{
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
}

/* The texts of all token events, as they stand in the JSON. */
static void text_of(const Client *c, char out[TEXT_BYTES])
{
    static const char key[] = "\"t\":\"";
    size_t n = 0;

    for (const char *at = c->reply; (at = strstr(at, key)) != NULL;) {
        at += sizeof key - 1;
        for (; *at != '"' && *at != '\0'; at++) {
            assert_true(n < TEXT_BYTES - 3);
            if (*at == '\\')
                out[n++] = *at++;
            out[n++] = *at;
        }
    }
    out[n] = '\0';
}

/* No client may be told of an end that is none: a stream that claims to be whole is whole. */
static void check_job(Client *c)
{
    const bool calm = fault_memory.n_failed == c->n_failed_before;

    if (strstr(c->reply, "event: end\n") == NULL) {
        if (calm)
            fail_msg("a job without a fault did not end well: %s", c->reply);
        return;
    }
    text_of(c, play.text);
    if (reference[0] == '\0')
        snprintf(reference, sizeof reference, "%s", play.text);
    assert_string_equal(play.text, reference);
}

/* The pool manager: takes what is there as one request and says yes. */
static void answer_callback(void)
{
    static const char yes[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    char request[4096];
    ssize_t n;

    if (play.pool_conn < 0)
        play.pool_conn = accept4(play.pool_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (play.pool_conn < 0 ||
        ((n = recv(play.pool_conn, request, sizeof request, 0)) < 0 && errno == EAGAIN))
        return;
    if (n > 0) /* not when it gave up before it sent */
        play.n_called += send(play.pool_conn, yes, sizeof yes - 1, MSG_NOSIGNAL) > 0;
    (void)close(play.pool_conn);
    play.pool_conn = -1;
}

/* An answer that says how long it is, is so long. */
static void check_length(const Client *c)
{
    const char *length = strstr(c->reply, "Content-Length: "), *body = strstr(c->reply, "\r\n\r\n");

    if (length != NULL && body != NULL && length < body &&
        strncmp(c->reply, "HTTP/1.1 200", 12) == 0 && strstr(body + 4, "HTTP/1.1") == NULL)
        assert_int_equal(strlen(body + 4), atoi(length + 16));
}

static bool do_deed(const Deed *d)
{
    Client *c = &play.clients[d->who];

    switch (d->act) {
    case LOADED:
        return play.inner != NULL;
    case SEND:
        client_send(c, d->text);
        return true;
    case TOKEN:
        return client_read(c) || strstr(c->reply, "event: token\n") != NULL;
    case LEAVE:
        client_close(c);
        return true;
    case CALLED:
        answer_callback();
        return play.n_called > 0 || errors.n > 0;
    case CALM:
        fault_memory_disarm();
        return true;
    case TERM:
        (void)raise(SIGTERM);
        return true;
    default:
        break;
    }
    if (!client_read(c))
        return false;
    if (d->act == WHOLE)
        check_job(c);
    check_length(c);
    if (d->act == EXPECT && fault_memory.n_failed == c->n_failed_before &&
        strncmp(c->reply, d->text, strlen(d->text)) != 0)
        fail_msg("expected %s, got %s", d->text, c->reply);
    client_close(c);
    return true;
}

static void go_on(void)
{
    const struct timespec moment = {.tv_nsec = 100000};
    const Deed *before = play.deeds;

    while (play.deeds->text != NULL && do_deed(play.deeds))
        play.deeds++;
    play.n_waits = play.deeds == before ? play.n_waits + 1 : 0;
    if (play.n_waits > SPINS) /* not merely the few turns of the loop that an answer takes */
        nanosleep(&moment, NULL);
    if (clock_now_ms() - play.begin_ms > RUN_LIMIT_MS * TIME_FACTOR)
        fail_msg("allocation %ld: hangs: deed %d of client %d never comes about; it has %s",
                 fault_memory.first, (int)play.deeds->act, play.deeds->who,
                 play.clients[play.deeds->who].reply);
}

/* ---- The backend: what it is made of, with the client at its side ---- */

static const BackendInfo *outer_info(const Backend *b)
{
    (void)b;
    return play.inner->ops->info(play.inner);
}

static const int32_t *outer_tokenize(Backend *b, BackendText text, bool allow_special, size_t *n)
{
    (void)b;
    return play.inner->ops->tokenize(play.inner, text, allow_special, n);
}

static const char *outer_token_text(const Backend *b, int id, size_t *n, bool *special)
{
    (void)b;
    return play.inner->ops->token_text(play.inner, id, n, special);
}

static int outer_count_tokens(Backend *b, BackendText prompt)
{
    (void)b;
    return play.inner->ops->count_tokens(play.inner, prompt);
}

static ErrCode outer_start(Backend *b, const BackendRequest *request, Err *err)
{
    (void)b;
    return play.inner->ops->start(play.inner, request, err);
}

static ErrCode outer_step(Backend *b, const Tap *tap, BackendStep *out, Err *err)
{
    (void)b;
    const ErrCode code = play.inner->ops->step(play.inner, tap, out, err);

    go_on();
    return code;
}

static void outer_cancel(Backend *b)
{
    (void)b;
    play.inner->ops->cancel(play.inner);
}

static int outer_n_prompt_tokens(const Backend *b)
{
    (void)b;
    return play.inner->ops->n_prompt_tokens(play.inner);
}

static int outer_n_cached_tokens(const Backend *b)
{
    (void)b;
    return play.inner->ops->n_cached_tokens(play.inner);
}

/* Always more to do, so that the loop never sleeps and the client has its turns. */
static bool outer_idle(Backend *b)
{
    (void)b;
    go_on();
    return true;
}

static void outer_free(Backend *b)
{
    (void)b;
    play.inner->ops->free(play.inner);
    play.inner = NULL;
}

static Backend *load(void *ctx, bool (*progress)(void *, double), void *progress_ctx, Err *err)
{
    const CpuBackendOptions options = {
        .model_path = TINY, .progress = progress, .progress_ctx = progress_ctx};
    const bool *tiny = ctx;

    do {
        go_on();
        if (!progress(progress_ctx, 0.5)) {
            (void)err_set(err, ERR_CANCELLED, "stopped");
            return NULL;
        }
    } while (play.deeds->act != LOADED);
    if (!*tiny)
        play.inner = stub_backend_new("stub", 64);
    else if (cpu_backend_load(&play.inner, &options, err) != ERR_OK)
        return NULL;
    if (play.inner == NULL) {
        (void)err_set(err, ERR_MEMORY, "stub: out of memory");
        return NULL;
    }
    play.ops = (BackendOps){.info = outer_info,
                            .count_tokens = outer_count_tokens,
                            .tokenize = outer_tokenize,
                            .token_text = outer_token_text,
                            .start = outer_start,
                            .step = outer_step,
                            .cancel = outer_cancel,
                            .n_prompt_tokens = outer_n_prompt_tokens,
                            .n_cached_tokens = outer_n_cached_tokens,
                            .idle = outer_idle,
                            .free = outer_free};
    play.outer.ops = &play.ops;
    play.loaded = true;
    play.n_loaded = fault_memory.n;
    return &play.outer;
}

/* ---- JSON alone ---- */

/* Tokens of many lengths, so that each doubling of the lexer's buffer falls on a quote, a
 * backslash, a digit and what follows a number somewhere. */
static size_t long_text(char *out, size_t size)
{
    static const char *const pieces[] = {"\\\"", "a", "\xe2\x82\xac", "\\u20ac", "b\\n"};
    size_t n = (size_t)snprintf(out, size, "{\"n\":123456789012345");

    for (int length = 1; length < 140; length += 1 + length / 30) {
        n += (size_t)snprintf(out + n, size - n, ",\"k%d\":[\"", length);
        for (int i = 0; i < length; i++)
            n += (size_t)snprintf(out + n, size - n, "%s", pieces[(i * i + length) % 5]);
        n += (size_t)snprintf(out + n, size - n, "\",0.%0*d,-12345678901234567,true]", length, 7);
    }
    n += (size_t)snprintf(out + n, size - n, "}");
    assert_true(n < size - 1);
    return n;
}

static void every_allocation_of_a_json_text_may_fail(void **state)
{
    static char text[64 * 1024];
    const size_t size = long_text(text, sizeof text);
    Err err;
    json_t *root;
    long n = 0;

    (void)state;
    for (;; n++) {
        const long blocks = fault_memory.live_blocks;

        err = (Err){.code = ERR_OK};
        fault_memory_arm(n, n % 2 == 0 ? 1 : INT32_MAX);
        root = json_parse(text, size, "text", &err);
        const bool hit = fault_memory.n_failed > 0;
        fault_memory_disarm();
        if (!hit)
            break;
        assert_null(root);
        assert_int_equal(err.code, ERR_MEMORY);
        assert_string_equal(err.msg, "text: out of memory");
        assert_int_equal(fault_memory.live_blocks, blocks);
    }
    assert_non_null(root);
    json_decref(root);
    assert_true(n > 200);
}

/* ---- Runs ---- */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
/* The # becomes the length of the body. */
#define POST(path, body)                                                                           \
    "POST " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: "                     \
    "application/json\r\nContent-Length: #\r\n\r\n" body
/* Texts longer than the first buffer of JSON's lexer, and escapes, at many places. */
#define JOB                                                                                        \
    POST("/execute",                                                                               \
         "{\"job_id\":\"a job of some length \\\"quoted\\\"\",\"prompt\":\"tokens=12 "             \
         "text=What|\\u20ac|"                                                                      \
         "\\\"news\\\"|and|more|of|it what news of the day have you\",\"max_tokens\":12,"          \
         "\"seed\":12345678901234567890}")
#define LONG_JOB                                                                                   \
    POST("/execute", "{\"job_id\":\"long\",\"prompt\":\"tokens=40 day\",\"max_tokens\":40}")

/* Lists of ids, long texts, four lists that grow, kept choices. */
#define COMPLETION(more)                                                                           \
    POST("/v1/completions",                                                                        \
         "{\"prompt\":[\"tokens=6 text=What|\\u20ac|\\\"news\\\" what news of the "                \
         "day\",\"tokens=3 "                                                                       \
         "of it\"],\"max_tokens\":6,\"logprobs\":3,\"echo\":true," more "\"stop\":[\"zzz\"],"      \
         "\"logit_bias\":{\"5\":1,\"6\":-1}}")
#define IDS                                                                                        \
    POST("/v1/completions",                                                                        \
         "{\"prompt\":[[1,2,3],[4,5]],\"max_tokens\":2,\"user\":\"somebody of a long "             \
         "name, to be sure\"}")
#define LONG_COMPLETION                                                                            \
    POST("/v1/completions", "{\"prompt\":\"tokens=40 day\",\"max_tokens\":40,\"stream\":true}")

/* What the APIs of others are asked for. */
static const Deed others[] = {
    {LOADED, 0, ""},
    {SEND, 0, COMPLETION("\"n\":2,\"best_of\":3,")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, COMPLETION("\"stream\":true,\"stream_options\":{\"include_usage\":true},")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, IDS},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, COMPLETION("\"n\":9,")},
    {EXPECT, 0, "HTTP/1.1 400"},
    {SEND, 0, GET("/v1/models")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, GET("/v1/models/m/n")},
    {EXPECT, 0, "HTTP/1.1 404"},
    {SEND, 0, POST("/tokenize", "{\"content\":\"what news \\u20ac\",\"with_pieces\":true}")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, POST("/detokenize", "{\"tokens\":[1,2,3,300]}")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, POST("/detokenize", "{\"tokens\":5}")},
    {EXPECT, 0, "HTTP/1.1 400"},
    {SEND, 0, LONG_COMPLETION},
    {SEND, 1, IDS},
    {LEAVE, 1, ""}, /* while waiting */
    {LEAVE, 0, ""}, /* while running */
    {CALM, 0, ""},
    {SEND, 0, IDS},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, LONG_COMPLETION},
    {SEND, 1, COMPLETION("\"n\":2,")},
    {TERM, 0, ""},
    {REPLY, 1, ""},
    {REPLY, 0, ""},
    {0, 0, NULL},
};

static const Deed deeds[] = {
    {SEND, 0,
     "GET /ready HTTP/1.1\r\nHost: x\r\n"}, /* the rest never comes: a time limit ends it */
    {EXPECT, 0, "HTTP/1.1 408"},
    {SEND, 0, GET("/ready")}, /* while it loads */
    {EXPECT, 0, "HTTP/1.1 503"},
    {LOADED, 0, ""},
    {SEND, 0, JOB},
    {WHOLE, 0, ""},
    {SEND, 0, POST("/execute", "{\"job_id\":\"long text,}")},
    {EXPECT, 0, "HTTP/1.1 400"},
    {SEND, 0, POST("/execute", "{\"job_id\":17,\"prompt\":\"\",\"max_tokens\":0.5,\"a\":0}")},
    {EXPECT, 0, "HTTP/1.1 422"},
    {SEND, 0, POST("/execute", "{\"job_id\":\"j\",\"prompt\":\"\",\"max_tokens\":0}")},
    {EXPECT, 0, "HTTP/1.1 400"},
    {SEND, 0, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n" GET("/nowhere")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {SEND, 0, "GET / HTTP/1.1\r\n\r\n"},
    {EXPECT, 0, "HTTP/1.1 400"},
    {SEND, 0, LONG_JOB},
    {TOKEN, 0, ""},
    {SEND, 1, JOB},
    {SEND, 2, POST("/cancel", "{\"job_id\":\"long\"}")},
    {EXPECT, 2, "HTTP/1.1 202"},
    {REPLY, 0, ""},
    {WHOLE, 1, ""},
    {SEND, 0, LONG_JOB},
    {TOKEN, 0, ""},
    {SEND, 1, LONG_JOB},
    {LEAVE, 1, ""}, /* while waiting */
    {LEAVE, 0, ""}, /* while running */
    {SEND, 0, GET("/health")},
    {EXPECT, 0, "HTTP/1.1 200"},
    {CALM, 0, ""},
    {SEND, 0, JOB},
    {WHOLE, 0, ""},
    {SEND, 0, LONG_JOB},
    {TOKEN, 0, ""},
    {TERM, 0, ""},
    {REPLY, 0, ""},
    {0, 0, NULL},
};

/* Faults in the shutdown itself. */
static const Deed ending[] = {
    {LOADED, 0, ""}, {SEND, 0, LONG_JOB}, {TOKEN, 0, ""}, {SEND, 1, LONG_JOB},
    {TERM, 0, ""},   {REPLY, 1, ""},      {REPLY, 0, ""}, {0, 0, NULL},
};

/* The worker was started by a pool manager. */
static const Deed called[] = {
    {LOADED, 0, ""}, {CALLED, 0, ""}, {SEND, 0, GET("/health")}, {EXPECT, 0, "HTTP/1.1 200"},
    {TERM, 0, ""},   {0, 0, NULL},
};

/* A listening socket that does not wait; *url becomes its address. */
static int pool_manager(char *url, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(__real_listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(url, size, "http://127.0.0.1:%d/ready", ntohs(at.sin_port));
    return fd;
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A worker that has ended leaves its signals blocked; the next one is as good as a new process. */
static void unblock_signals(void)
{
    sigset_t both;

    (void)sigemptyset(&both);
    (void)sigaddset(&both, SIGTERM);
    (void)sigaddset(&both, SIGINT);
    (void)signal(SIGTERM, SIG_IGN); /* throws away what is still pending */
    assert_int_equal(sigprocmask(SIG_UNBLOCK, &both, NULL), 0);
    (void)signal(SIGTERM, SIG_DFL);
}

/* One worker from start to exit; returns its exit status. */
static int run_worker(const Deed *what, bool tiny)
{
    WorkerOptions o = worker_options_default();
    char url[64];

    play.begin = play.deeds = what;
    play.loaded = false;
    play.begin_ms = clock_now_ms();
    for (int i = 0; i < MAX_CLIENTS; i++)
        play.clients[i].fd = -1;
    errors.n = 0;
    errors.last[0] = '\0';
    o.host = "127.0.0.1";
    o.port = 0;
    o.worker_id = "w";
    o.model_name = o.model_path = "m";
    o.load = load;
    o.load_ctx = &tiny;
    play.n_called = 0;
    play.pool_conn = -1;
    play.pool_fd = what == called ? pool_manager(url, sizeof url) : -1;
    o.callback_url = what == called ? url : NULL;
    o.callback_retries = 1;
    /* The shortest limit says how often deadlines, and so the pause, are looked at. Requests come
     * in one piece. */
    o.limits.request_timeout_ms = 40;
    o.limits.idle_timeout_ms = o.limits.write_timeout_ms = RUN_LIMIT_MS * TIME_FACTOR;
    unblock_signals();
    const int status = worker_run(&o);

    while (status == 0 && play.loaded && play.deeds->text != NULL)
        go_on(); /* what was sent before the end */
    for (int i = 0; i < MAX_CLIENTS; i++)
        client_close(&play.clients[i]);
    if (play.pool_fd >= 0)
        (void)close(play.pool_fd);
    if (play.pool_conn >= 0)
        (void)close(play.pool_conn);
    return status;
}

/* Runs with allocation number n failing, and count - 1 more; false when there were not so many. */
static bool run_with_fault(const Deed *what, bool tiny, long n, long count)
{
    const long blocks = fault_memory.live_blocks, mapped = fault_memory.live_mapped;
    const int descriptors = open_descriptors();

    fault_memory_arm(n, count);
    const int status = run_worker(what, tiny);
    const bool hit = fault_memory.n_failed > 0;

    fault_memory_disarm();
    if (fault_memory.live_blocks != blocks || fault_memory.live_mapped != mapped)
        fail_msg("allocation %ld of %ld: %ld blocks and %ld mapped bytes are left", n, count,
                 fault_memory.live_blocks - blocks, fault_memory.live_mapped - mapped);
    assert_int_equal(open_descriptors(), descriptors);
    /* It never came to serve, or nobody could be told that it does. */
    if (status == 1 &&
        (!play.loaded || (what == called && strstr(errors.last, "callback failed")))) {
        if (!hit || errors.n == 0 || errors.last[0] == '\0')
            fail_msg("allocation %ld of %ld: the start failed with %d error lines, the last: %s", n,
                     count, errors.n, errors.last);
        return true;
    }
    if (status != 0 || play.deeds->text != NULL)
        fail_msg("allocation %ld of %ld: status %d at deed %d, %d error lines, the last: %s", n,
                 count, status, (int)(play.deeds - what), errors.n, errors.last);
    return hit;
}

typedef struct {
    const Deed *deeds;
    bool tiny;  /* the real model: from the end of its load on, tests/test_alloc.c has the load */
    long count; /* allocations in a row that fail */
    long every, of; /* one n in so many is tried: where all are asked for, and else */
} Plan;

static void fail_every(const Plan *p)
{
    const bool all = getenv("LLORCH_TEST_ALL") != NULL;
    const long step = all ? p->every : quick() ? 8 * p->of : p->of;

    reference[0] = '\0';
    assert_false(run_with_fault(p->deeds, p->tiny, -1, 0));
    assert_int_equal(errors.n, 0);
    const long total = fault_memory.n, begin = p->tiny ? play.n_loaded : 0;
    long n = begin;
    while (run_with_fault(p->deeds, p->tiny, n, p->count))
        n += step;
    /* The client's pace is not the same each time, so neither is the number. */
    if (n - begin < (total - begin) / 2)
        fail_msg("only %ld of %ld allocations failed", n - begin, total - begin);
    print_message("# %ld allocations\n", n - begin);
}

static void every_allocation_of_a_serving_worker_may_fail(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = deeds, .count = 1, .every = 1, .of = 13});
}

static void every_allocation_of_the_apis_of_others_may_fail(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = others, .count = 1, .every = 1, .of = 17});
    fail_every(&(Plan){.deeds = others, .count = INT32_MAX, .every = 4, .of = 97});
    fail_every(&(Plan){.deeds = others, .tiny = true, .count = 25, .every = 4, .of = 149});
}

static void allocations_may_fail_in_bursts(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = deeds, .count = 25, .every = 2, .of = 83});
}

static void memory_may_be_gone_until_it_comes_back(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = deeds, .count = INT32_MAX, .every = 4, .of = 127});
}

static void every_allocation_of_a_shutdown_may_fail(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = ending, .count = 1, .every = 1, .of = 11});
    fail_every(&(Plan){.deeds = ending, .count = INT32_MAX, .every = 1, .of = 41});
}

static void every_allocation_of_a_callback_may_fail(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = called, .count = 1, .every = 1, .of = 5});
}

static void every_allocation_beside_a_real_model_may_fail(void **state)
{
    (void)state;
    fail_every(&(Plan){.deeds = deeds, .tiny = true, .count = 1, .every = 1, .of = 53});
    fail_every(&(Plan){.deeds = deeds, .tiny = true, .count = 25, .every = 4, .of = 197});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_json_text_may_fail),
        cmocka_unit_test(every_allocation_of_a_serving_worker_may_fail),
        cmocka_unit_test(every_allocation_of_the_apis_of_others_may_fail),
        cmocka_unit_test(allocations_may_fail_in_bursts),
        cmocka_unit_test(memory_may_be_gone_until_it_comes_back),
        cmocka_unit_test(every_allocation_of_a_shutdown_may_fail),
        cmocka_unit_test(every_allocation_of_a_callback_may_fail),
        cmocka_unit_test(every_allocation_beside_a_real_model_may_fail),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    fault_memory_hook();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
