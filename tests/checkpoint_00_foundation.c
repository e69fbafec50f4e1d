/* tests/checkpoint_00_foundation.c: the worker before any model: start, callback in test mode,
 * /health, a streamed answer of the stub backend, one thread, and the ways in which a start fails.
 *
 * The worker runs in a forked child behind a real socket; its log, on standard error, says which
 * port it got. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/serve_options.h"
#include "common/clock.h"
#include "common/log.h"
#include "stub_backend.h"
#include "worker/worker.h"

enum { TEXT_BYTES = 65536, WAIT_MS = 10000 };

typedef struct {
    pid_t pid;
    int log_fd;
    int port;
    char log[TEXT_BYTES];
    size_t n_log;
} Child;

static Backend *load(void *ctx, bool (*progress)(void *, double), void *progress_ctx, Err *err)
{
    Backend *b = stub_backend_new("stub-model", 1024);

    (void)ctx;
    (void)progress;
    (void)progress_ctx;
    if (b == NULL)
        err_set(err, ERR_MEMORY, "out of memory");
    return b;
}

static int run_worker(int argc, char **argv)
{
    ServeOptions o;
    Err err = {.code = ERR_OK};

    if (serve_options_parse(&o, argc, argv, &err) != ERR_OK)
        return 2;
    log_init(o.log_level, o.worker.worker_id);
    o.worker.load = load;
    return worker_run(&o.worker);
}

/* Starts a worker; args is ended by NULL. */
static void child_start(Child *c, char **args)
{
    int pipe_fds[2], argc = 0;

    memset(c, 0, sizeof *c);
    while (args[argc] != NULL)
        argc++;
    fflush(stdout); /* or the child would print it again */
    assert_int_equal(pipe(pipe_fds), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        _exit(run_worker(argc, args));
    }
    close(pipe_fds[1]);
    c->log_fd = pipe_fds[0];
}

/* Reads the log until text stands in it; false at its end. */
static bool child_wait_log(Child *c, const char *text)
{
    while (strstr(c->log, text) == NULL) {
        const ssize_t n = read(c->log_fd, c->log + c->n_log, TEXT_BYTES - 1 - c->n_log);

        if (n <= 0)
            return false;
        c->n_log += (size_t)n;
        c->log[c->n_log] = '\0';
    }
    return true;
}

static void child_wait_ready(Child *c)
{
    const char *ready, *port;

    assert_true(child_wait_log(c, "Worker ready, starting HTTP server"));
    assert_true(child_wait_log(c, "\"load_ms\"")); /* the rest of that line */
    ready = strstr(c->log, "Worker ready");
    port = strstr(ready, "\"port\":");
    assert_non_null(port);
    c->port = atoi(port + 7);
    assert_true(c->port > 0);
}

static int child_exit_status(Child *c)
{
    int status;

    while (child_wait_log(c, "\n\n\n")) /* never there: reads to the end */
        ;
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    close(c->log_fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int child_stop(Child *c)
{
    kill(c->pid, SIGTERM);
    return child_exit_status(c);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* One request on a connection of its own; the whole answer, to the end of the connection. */
static void ask(int port, const char *method, const char *path, const char *body,
                char answer[TEXT_BYTES])
{
    const int fd = connect_to(port);
    char request[2048];
    size_t n = 0;
    ssize_t got;

    snprintf(request, sizeof request,
             "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
             "application/json\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             method, path, strlen(body), body);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    while ((got = recv(fd, answer + n, TEXT_BYTES - 1 - n, 0)) > 0)
        n += (size_t)got;
    answer[n] = '\0';
    close(fd);
}

/* The chunked body's chunks, joined. */
static void join_chunks(const char *answer, char out[TEXT_BYTES])
{
    const char *at = strstr(answer, "\r\n\r\n");
    size_t n = 0;

    assert_non_null(at);
    at += 4;
    for (;;) {
        char *end;
        const size_t size = strtoul(at, &end, 16);

        assert_true(end > at && end[0] == '\r');
        if (size == 0)
            break;
        memcpy(out + n, end + 2, size);
        n += size;
        at = end + 2 + size + 2;
    }
    out[n] = '\0';
}

static int count_threads(pid_t pid)
{
    char path[64];
    DIR *dir;
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static char *contract_args[] = {
    "serve", "--worker-id",    "test-worker",           "--model", "test.model", "--port",
    "0",     "--callback-url", "http://localhost:9999", NULL};

static Child child; /* the one worker of most tests */
static char answer[TEXT_BYTES], stream[TEXT_BYTES];

static int start_child(void **state)
{
    (void)state;
    child_start(&child, contract_args);
    child_wait_ready(&child);
    return 0;
}

static int stop_child(void **state)
{
    (void)state;
    return child_stop(&child);
}

static void skips_callback(void **state)
{
    (void)state;
    assert_true(child_wait_log(&child, "Test mode: skipping pool manager callback"));
    assert_non_null(strstr(child.log, "CPU worker starting"));
    assert_non_null(strstr(child.log, "Loading model..."));
    assert_non_null(strstr(child.log, "\"worker_id\":\"test-worker\""));
}

static void answers_health(void **state)
{
    (void)state;
    ask(child.port, "GET", "/health", "", answer);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(answer, "\"status\":\"healthy\""));
    assert_non_null(strstr(answer, "\"vram_bytes\":0,"));
}

/* Moves *at behind want, which must stand there. */
static void expect_text(const char **at, const char *want)
{
    const size_t n = strlen(want);

    if (strncmp(*at, want, n) != 0)
        fail_msg("expected \"%s\" at \"%.120s\"", want, *at);
    *at += n;
}

static void skip_line(const char **at)
{
    *at = strchr(*at, '\n');
    assert_non_null(*at);
    *at += 1;
}

static void streams_the_stub(void **state)
{
    const char *at = stream;

    (void)state;
    ask(child.port, "POST", "/execute",
        "{\"job_id\":\"test-job\",\"prompt\":\"Hello\",\"max_tokens\":10,\"temperature\":0.7,"
        "\"seed\":7}",
        answer);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(answer, "Content-Type: text/event-stream\r\n"));
    join_chunks(answer, stream);
    expect_text(&at, "event: started\ndata: "
                     "{\"type\":\"started\",\"job_id\":\"test-job\",\"model\":\"stub-model\",");
    skip_line(&at);
    expect_text(&at, "\nevent: token\ndata: {\"type\":\"token\",\"t\":\"STUB\",\"i\":0}\n");
    expect_text(&at, "\nevent: token\ndata: {\"type\":\"token\",\"t\":\"RESPONSE\",\"i\":1}\n");
    expect_text(&at, "\nevent: end\ndata: {\"type\":\"end\",\"tokens_out\":2,\"decode_time_ms\":");
    assert_non_null(strstr(at, "\"stop_reason\":\"MAX_TOKENS\",\"seed\":7,\"prompt_tokens\":1,"));
    skip_line(&at);
    assert_string_equal(at, "\n");
}

static void keeps_running(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        streams_the_stub(state);
    assert_int_equal(waitpid(child.pid, NULL, WNOHANG), 0);
}

static void has_one_thread(void **state)
{
    static const char body[] =
        "POST /execute HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\nContent-Length: "
        "64\r\n\r\n"
        "{\"job_id\":\"a\",\"prompt\":\"tokens=20 delay=10\",\"max_tokens\":20}    ";
    const int fd = connect_to(child.port);
    char c;

    (void)state;
    if (getenv("LLORCH_RUNNER") != NULL) {
        (void)close(fd);
        print_message("an emulator has a thread of its own\n");
        skip();
    }
    assert_int_equal(count_threads(child.pid), 1);
    assert_int_equal(send(fd, body, sizeof body - 1, MSG_NOSIGNAL), (ssize_t)sizeof body - 1);
    assert_int_equal(recv(fd, &c, 1, 0), 1);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(count_threads(child.pid), 1);
        usleep(3000);
    }
    while (recv(fd, answer, sizeof answer, 0) > 0)
        ;
    assert_int_equal(count_threads(child.pid), 1);
    close(fd);
}

static void stops_clean(void **state)
{
    Child c;
    uint64_t begin;

    (void)state;
    child_start(&c, contract_args);
    child_wait_ready(&c);
    begin = clock_now_ms();
    assert_int_equal(child_stop(&c), 0);
    assert_true(clock_now_ms() - begin < 1000);
}

static void fails_on_used_port(void **state)
{
    char port[16], text[64];
    char *args[] = {
        "serve", "--model", "test.model", "--port", port, "--callback-url", "http://localhost:9999",
        NULL};
    Child c;

    (void)state;
    snprintf(port, sizeof port, "%d", child.port);
    child_start(&c, args);
    assert_int_equal(child_exit_status(&c), 1);
    snprintf(text, sizeof text, "Failed to bind to 0.0.0.0:%d: Address already in use", child.port);
    assert_non_null(strstr(c.log, text));
}

/* A port that was free a moment ago. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void fails_without_pool_manager(void **state)
{
    char url[64];
    char *args[] = {"serve", "--model", "test.model", "--port", "0", "--callback-url", url, NULL};
    Child c;

    (void)state;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/ready", free_port());
    child_start(&c, args);
    assert_int_equal(child_exit_status(&c), 1);
    assert_non_null(strstr(c.log, "Pool manager callback failed"));
}

static void fails_without_model(void **state)
{
    char *args[] = {"serve", "--port", "0", NULL};
    Child c;

    (void)state;
    child_start(&c, args);
    assert_int_equal(child_exit_status(&c), 2);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"test mode: skips the callback and goes on", skips_callback, NULL, NULL, NULL},
        {"/health: 200, healthy, no device memory", answers_health, NULL, NULL, NULL},
        {"/execute: started, STUB, RESPONSE, end", streams_the_stub, NULL, NULL, NULL},
        {"keeps running after a job", keeps_running, NULL, NULL, NULL},
        {"has one thread, also while a job runs", has_one_thread, NULL, NULL, NULL},
        {"stops clean on SIGTERM", stops_clean, NULL, NULL, NULL},
        {"a port in use: message and exit 1", fails_on_used_port, NULL, NULL, NULL},
        {"an absent pool manager: message and exit 1", fails_without_pool_manager, NULL, NULL,
         NULL},
        {"no model: exit 2", fails_without_model, NULL, NULL, NULL},
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    unsetenv("WORKER_ID");
    unsetenv("MODEL_PATH");
    unsetenv("PORT");
    unsetenv("CALLBACK_URL");
    return cmocka_run_group_tests_name("foundation", tests, start_child, stop_child) == 0 ? 0 : 1;
}
