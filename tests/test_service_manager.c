/* tests/test_service_manager.c: the variables of a service manager, the datagrams to it and the
 * sockets it passes (contract 2.2). */
#include "http_rig.h"

#include <limits.h>
#include <sys/un.h>

#include "cli/service_environment.h"
#include "common/notify_socket.h"
#include "folder_rig.h"
#include "http/listener.h"
#include "worker/service_manager.h"

static const char *const variables[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES"};

enum { N_VARIABLES = sizeof variables / sizeof variables[0] };

/* Sets what is not NULL, in the order of the list; "$$" is this process. */
static ErrCode read_with(const char *const values[N_VARIABLES], WorkerManaged *out, Err *err)
{
    char pid[16];

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    for (int i = 0; i < N_VARIABLES; i++) {
        assert_int_equal(unsetenv(variables[i]), 0);
        if (values[i] != NULL)
            assert_int_equal(
                setenv(variables[i], strcmp(values[i], "$$") == 0 ? pid : values[i], 1), 0);
    }
    memset(out, 0x55, sizeof *out);
    return service_environment_read(out, err);
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void takes_what_is_meant_for_this_process(void **state)
{
    static const struct {
        const char *values[N_VARIABLES];
        const char *notify, *usec;
        int fd;
        const char *name;
    } rows[] = {
        {{NULL}, NULL, NULL, 0, NULL},
        {{"/run/n", "1000", "$$", "$$", "1", "a"}, "/run/n", "1000", 3, "a"},
        {{"", "", "", "", "", ""}, NULL, NULL, 0, NULL},
        {{NULL, "1000", NULL}, NULL, "1000", 0, NULL},
        {{NULL, "1000", "1"}, NULL, NULL, 0, NULL},
        {{NULL, "1000", "x"}, NULL, NULL, 0, NULL},
        {{NULL, "1000", "-1"}, NULL, NULL, 0, NULL},
        {{NULL, NULL, NULL, "$$", "1", NULL}, NULL, NULL, 3, NULL},
        {{NULL, NULL, NULL, "$$", "0", "a"}, NULL, NULL, 0, NULL},
        {{NULL, NULL, NULL, "1", "5", "a"}, NULL, NULL, 0, NULL},
        {{NULL, NULL, NULL, "1", "five", "a"}, NULL, NULL, 0, NULL},
        {{NULL, NULL, NULL, NULL, "1", "a"}, NULL, NULL, 0, NULL},
        {{NULL, NULL, NULL, "$$", NULL, "a"}, NULL, NULL, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        WorkerManaged got;
        Err err = {0};

        assert_int_equal(read_with(rows[i].values, &got, &err), ERR_OK);
        if (!same(got.notify_socket, rows[i].notify) || !same(got.watchdog_usec, rows[i].usec) ||
            !same(got.listen_name, rows[i].name) || got.listen_fd != rows[i].fd)
            fail_msg("row %zu", i);
        for (int v = 0; v < N_VARIABLES; v++)
            assert_null(getenv(variables[v]));
    }
}

static void refuses_sockets_that_it_cannot_serve(void **state)
{
    static const struct {
        const char *pid, *fds, *names, *message;
    } rows[] = {
        {"1x", "1", NULL, "LISTEN_PID: 1x: expected the number of a process"},
        {" 1", "1", NULL, "LISTEN_PID:  1: expected the number of a process"},
        {"99999999999999999999", "1", NULL,
         "LISTEN_PID: 99999999999999999999: expected the number of a process"},
        {"$$", "+1", NULL, "LISTEN_FDS: +1: expected the number of sockets"},
        {"$$", "1.0", NULL, "LISTEN_FDS: 1.0: expected the number of sockets"},
        {"$$", "4294967297", NULL, "LISTEN_FDS: 4294967297: expected the number of sockets"},
        {"$$", "2", "a:b",
         "LISTEN_FDS: 2 sockets were passed (a:b), expected 1: a worker listens in one place, give "
         "its .socket unit one ListenStream="},
        {"$$", "2", NULL,
         "LISTEN_FDS: 2 sockets were passed (without names), expected 1: a worker listens in one "
         "place, give its .socket unit one ListenStream="},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const values[N_VARIABLES] = {NULL,        NULL,        NULL,
                                                 rows[i].pid, rows[i].fds, rows[i].names};
        WorkerManaged got;
        Err err = {0};

        assert_int_equal(read_with(values, &got, &err), ERR_USAGE);
        assert_string_equal(err.msg, rows[i].message);
    }
}

static void half_of_the_watchdogs_time(void **state)
{
    static const struct {
        const char *usec;
        uint64_t ms; /* 0: refused */
    } rows[] = {
        {"30000000", 15000},
        {"2000", 1},
        {"1999", 1},
        {"1", 1},
        {"0000004000", 2},
        {"7200000000", MANAGER_MAX_BEAT_MS},
        {"18446744073709551615", MANAGER_MAX_BEAT_MS},
        {"99999999999999999999", MANAGER_MAX_BEAT_MS},
        {"0", 0},
        {"000", 0},
        {"", 0},
        {"-1", 0},
        {"+1", 0},
        {"1 ", 0},
        {"1e6", 0},
        {"0x10", 0},
        {"999999999999999999999", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t ms = 77;
        Err err = {0};
        const ErrCode code = service_manager_parse_watchdog(&ms, rows[i].usec, &err);

        if (code != (rows[i].ms > 0 ? ERR_OK : ERR_USAGE) ||
            ms != (rows[i].ms > 0 ? rows[i].ms : 77))
            fail_msg("%s: code %d, %llu ms", rows[i].usec, (int)code, (unsigned long long)ms);
    }
}

/* A bound datagram socket; length of the name without its NUL. */
static int receiver(const char *name, size_t n)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0 && n <= sizeof at.sun_path);
    memcpy(at.sun_path, name, n);
    if (name[0] == '@')
        at.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (const struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
                     0);
    return fd;
}

static void arrives(const char *name)
{
    const int fd = receiver(name, strlen(name));
    NotifySocket s = {.fd = -1};
    char got[32] = "";
    Err err = {0};

    assert_int_equal(notify_socket_open(&s, name, &err), ERR_OK);
    assert_int_equal(notify_socket_send(&s, "READY=1\nX", 9), 0);
    assert_int_equal(read(fd, got, sizeof got), 9);
    assert_string_equal(got, "READY=1\nX");
    close(fd);
    assert_int_equal(notify_socket_send(&s, "X", 1), ECONNREFUSED);
    notify_socket_close(&s);
    assert_int_equal(s.fd, -1);
    notify_socket_close(&s);
}

static void datagrams_arrive_by_path_and_by_abstract_name(void **state)
{
    char name[110];

    (void)state;
    arrives(path_of("n"));
    snprintf(name, sizeof name, "@llorch-%d", (int)getpid());
    arrives(name);
    memset(name + strlen(name), 'x', sizeof name - strlen(name));
    name[108] = '\0'; /* the whole field */
    arrives(name);
}

static void a_full_queue_is_not_waited_for(void **state)
{
    const char *path = path_of("n");
    const int fd = receiver(path, strlen(path));
    NotifySocket s = {.fd = -1};
    int problem = 0, n = 0;
    Err err = {0};

    (void)state;
    assert_int_equal(notify_socket_open(&s, path, &err), ERR_OK);
    for (; problem == 0 && n < 1000000; n++)
        problem = notify_socket_send(&s, "X", 1);
    assert_int_equal(problem, EAGAIN);
    close(fd);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(notify_socket_send(&s, "X", 1), ENOENT);
    notify_socket_close(&s);
}

static void names_that_cannot_be(void **state)
{
    char longest[109];
    char too_long[110];
    const char *const rows[] = {"", "@", "/", "run/notify", "vsock:2:1", " /x", longest, too_long};

    (void)state;
    memset(longest, 'x', sizeof longest);
    longest[0] = '/'; /* 108 bytes: no room for the NUL */
    longest[108] = '\0';
    memset(too_long, 'x', sizeof too_long);
    too_long[0] = '@';
    too_long[109] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        NotifySocket s = {.fd = -7};
        Err err = {0};

        assert_int_equal(notify_socket_open(&s, rows[i], &err), ERR_USAGE);
        assert_int_equal(s.fd, -7);
        assert_non_null(strstr(err.msg, "expected "));
    }
}

static int listening(int family, const struct sockaddr *at, socklen_t n)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, at, n), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void named(int fd, int port, bool is_public, const char *name)
{
    HttpListener l = {.fd = -1};
    char got[LISTENER_NAME_BYTES];
    Err err = {0};

    assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
    assert_int_equal(listener_open_inherited(&l, fd, &err), ERR_OK);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(l.port, port);
    assert_int_equal(listener_is_public(&l), is_public);
    listener_name(&l, got);
    assert_string_equal(got, name);
    listener_close(&l);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void a_passed_socket_keeps_its_file_and_has_a_name(void **state)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof v4;
    char want[128];
    int fd;

    (void)state;
    strcpy(local.sun_path, path_of("s"));
    fd = listening(AF_UNIX, (const struct sockaddr *)&local, sizeof local);
    snprintf(want, sizeof want, "unix:%s", path_of("s"));
    named(fd, 0, false, want);
    assert_int_equal(access(path_of("s"), F_OK), 0);

    snprintf(local.sun_path, sizeof local.sun_path, "@llorch-l-%d", (int)getpid());
    snprintf(want, sizeof want, "unix:%s", local.sun_path);
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(local.sun_path));
    local.sun_path[0] = '\0';
    named(listening(AF_UNIX, (const struct sockaddr *)&local, len), 0, false, want);

    fd = listening(AF_INET, (const struct sockaddr *)&v4, sizeof v4);
    len = sizeof v4;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&v4, &len), 0);
    snprintf(want, sizeof want, "http://localhost:%d", ntohs(v4.sin_port));
    named(fd, ntohs(v4.sin_port), false, want);
}

static void refused(int fd, const char *problem)
{
    HttpListener l = {.fd = -7};
    char want[ERR_MSG_BYTES];
    Err err = {0};

    snprintf(want, sizeof want, "Failed to listen on descriptor %d: %s", fd, problem);
    assert_int_equal(listener_open_inherited(&l, fd, &err), ERR_IO);
    assert_string_equal(err.msg, want);
    assert_int_equal(l.fd, -7);
}

static void what_cannot_be_served_is_refused_and_left_open(void **state)
{
    static const struct {
        int family, type;
        const char *problem;
    } rows[] = {
        {AF_UNIX, SOCK_STREAM, "the socket does not listen"},
        {AF_INET, SOCK_STREAM, "the socket does not listen"},
        {AF_UNIX, SOCK_DGRAM, "it is neither a TCP nor a Unix stream socket"},
        {AF_UNIX, SOCK_SEQPACKET, "it is neither a TCP nor a Unix stream socket"},
        {AF_INET, SOCK_DGRAM, "it is neither a TCP nor a Unix stream socket"},
    };
    int fd = open("/dev/null", O_RDWR);

    (void)state;
    refused(fd, "it is not a socket");
    close(fd);
    refused(fd, "Bad file descriptor");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fd = socket(rows[i].family, rows[i].type, 0);
        assert_true(fd >= 0);
        refused(fd, rows[i].problem);
        assert_int_equal(close(fd), 0);
    }
}

/* Who comes before the worker is ready waits in the kernel. */
static void nobody_is_taken_in_before_it_is_asked_for(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    Rig rig;
    Reply r;
    Err err = {0};
    int fd, client;

    (void)state;
    strcpy(at.sun_path, path_of("s"));
    fd = listening(AF_UNIX, (const struct sockaddr *)&at, sizeof at);
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen_inherited(rig.server, fd, &err), ERR_OK);
    assert_int_equal(http_server_listen_inherited(rig.server, fd, &err), ERR_INTERNAL);
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(client, (const struct sockaddr *)&at, sizeof at), 0);
    http_server_pump(rig.server, 4, 10000);
    assert_int_equal(http_server_connections(rig.server), 0);
    assert_int_equal(http_server_accept(rig.server, &err), ERR_OK);
    assert_int_equal(http_server_accept(rig.server, &err), ERR_OK);
    r = rig_exchange(&rig, client, RIG_STR(GET("/a")));
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    http_server_stop_accepting(rig.server);
    assert_int_equal(http_server_accept(rig.server, &err), ERR_OK); /* nothing to take from */
    assert_int_equal(access(path_of("s"), F_OK), 0);
    close(client);
    rig_close(&rig);
}

static int remove_all(void **state)
{
    static const char *const names[] = {"n", "s"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_meant_for_this_process),
        cmocka_unit_test(refuses_sockets_that_it_cannot_serve),
        cmocka_unit_test(half_of_the_watchdogs_time),
        IN_FOLDER(datagrams_arrive_by_path_and_by_abstract_name),
        IN_FOLDER(a_full_queue_is_not_waited_for),
        IN_FOLDER(names_that_cannot_be),
        IN_FOLDER(a_passed_socket_keeps_its_file_and_has_a_name),
        cmocka_unit_test(what_cannot_be_served_is_refused_and_left_open),
        IN_FOLDER(nobody_is_taken_in_before_it_is_asked_for),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
