/* tests/test_unix_socket.c: a socket file appears with its mode, replaces only the dead, and goes
 * with its owner; and which addresses the outside can reach. */
#include "http_rig.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "folder_rig.h"
#include "http/listener.h"

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

static bool exists(const char *name)
{
    struct stat st;

    return lstat(path_of(name), &st) == 0;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    return address;
}

/* -1 when nobody is there. */
static int unix_client(const char *path)
{
    const struct sockaddr_un to = address_of(path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

/* What a killed process leaves behind, or, kept open, somebody else's socket. */
static int bound_socket(const char *path, int type)
{
    const struct sockaddr_un at = address_of(path);
    const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void refused(const char *path, const char *problem)
{
    HttpListener l = {.fd = -7};
    char want[ERR_MSG_BYTES];
    Err err = {0};

    snprintf(want, sizeof want, "Failed to bind to unix:%s: %s", path, problem);
    assert_int_equal(listener_open_unix(&l, path, 0600, &err), ERR_IO);
    assert_string_equal(err.msg, want);
    assert_int_equal(l.fd, -7);
}

static HttpListener opened(const char *path, mode_t mode)
{
    HttpListener l;
    Err err = {0};

    if (listener_open_unix(&l, path, mode, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return l;
}

static void serves_requests_and_goes_away(void **state)
{
    Rig rig;
    Reply r;
    Err err = {0};
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen_unix(rig.server, path_of("s"), 0600, &err), ERR_OK);
    assert_int_equal(http_server_port(rig.server), 0);
    assert_false(http_server_is_public(rig.server));
    fd = unix_client(path_of("s"));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/a") GET("/b")));
    assert_int_equal(reply_status(&r), 200);
    assert_int_equal(rig.n_requests, 2);
    reply_free(&r);
    assert_int_equal(http_server_listen(rig.server, "127.0.0.1", 0, &err), ERR_INTERNAL);
    assert_int_equal(http_server_listen_unix(rig.server, path_of("t"), 0600, &err), ERR_INTERNAL);
    http_server_stop_accepting(rig.server);
    assert_false(exists("s") || exists("s.lock") || exists("t"));
    r = rig_exchange(&rig, fd, RIG_STR(GET("/c"))); /* who is connected stays so */
    assert_int_equal(reply_status(&r), 200);
    reply_free(&r);
    close(fd);
    rig_close(&rig);
}

static void clients_that_leave_are_noticed(void **state)
{
    Rig rig;
    Reply r;
    Err err = {0};
    int fd;

    (void)state;
    rig_open(&rig, NULL);
    assert_int_equal(http_server_listen_unix(rig.server, path_of("s"), 0600, &err), ERR_OK);
    for (int i = 0; i < 4; i++) {
        fd = unix_client(path_of("s"));
        r = rig_exchange(&rig, fd, RIG_STR("GET /open HTTP/1.1\r\nHost: x\r\n\r\n"));
        reply_free(&r);
        if (i >= 2) /* more than is read meanwhile: only poll() sees the end */
            (void)rig_send(&rig, fd, (char[40000]){0}, 40000);
        if (i % 2 == 0)
            close(fd);
        else
            assert_int_equal(shutdown(fd, SHUT_WR), 0);
        rig_turn(&rig);
        http_server_poll_hangups(rig.server);
        assert_int_equal(rig.n_closed, i + 1);
        if (i % 2 != 0)
            close(fd);
    }
    rig_close(&rig);
}

static void has_its_mode_whatever_the_umask(void **state)
{
    static const mode_t modes[] = {0600, 0660, 0666, 0777, 0640, 0};
    static const mode_t masks[] = {022, 0777, 0};

    (void)state;
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
            const mode_t before = umask(masks[k]);
            HttpListener l = opened(path_of("s"), modes[i]);

            assert_int_equal(umask(before), masks[k]); /* put back */
            assert_int_equal(mode_of(path_of("s")), S_IFSOCK | modes[i]);
            listener_close(&l);
            assert_false(exists("s") || exists("s.lock"));
        }
}

static void a_dead_socket_is_replaced(void **state)
{
    HttpListener l;
    int fd;

    (void)state;
    close(bound_socket(path_of("s"), SOCK_STREAM));
    put_file("s.lock", "", 0); /* it left that as well */
    l = opened(path_of("s"), 0600);
    fd = unix_client(path_of("s"));
    assert_true(fd >= 0);
    close(fd);
    listener_close(&l);
    assert_false(exists("s") || exists("s.lock"));
}

static void a_live_one_is_left_alone(void **state)
{
    HttpListener l = opened(path_of("s"), 0600);
    int fd, other;

    (void)state;
    refused(path_of("s"), "Address already in use");
    fd = unix_client(path_of("s"));
    assert_true(fd >= 0);
    close(fd);
    assert_true(exists("s.lock"));
    listener_close(&l);

    other = bound_socket(path_of("s"), SOCK_STREAM); /* of a program without our lock */
    assert_int_equal(listen(other, 0), 0);
    refused(path_of("s"), "Address already in use");
    fd = unix_client(path_of("s")); /* fills the backlog */
    refused(path_of("s"), "Address already in use");
    assert_true(exists("s") && !exists("s.lock"));
    close(fd);
    close(other);
    assert_int_equal(unlink(path_of("s")), 0);

    other = bound_socket(path_of("s"), SOCK_DGRAM);
    refused(path_of("s"), "Protocol wrong type for socket");
    close(other);
}

/* Between bind and listen a live socket looks dead: the lock says otherwise. */
static void one_that_is_being_made_is_left_alone(void **state)
{
    const int other = bound_socket(path_of("s"), SOCK_STREAM);
    int lock;

    (void)state;
    put_file("s.lock", "", 0);
    lock = open(path_of("s.lock"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    refused(path_of("s"), "Address already in use");
    assert_true(exists("s") && exists("s.lock"));
    close(lock);
    close(other);
}

static void what_is_no_socket_is_never_removed(void **state)
{
    (void)state;
    put_file("s", "data", 4);
    refused(path_of("s"), "what is there is not a socket");
    assert_int_equal(mode_of(path_of("s")) & S_IFMT, S_IFREG);
    assert_int_equal(unlink(path_of("s")), 0);

    assert_int_equal(mkdir(path_of("s"), 0700), 0);
    refused(path_of("s"), "what is there is not a socket");
    assert_int_equal(rmdir(path_of("s")), 0);

    close(bound_socket(path_of("target"), SOCK_STREAM));
    assert_int_equal(symlink(path_of("target"), path_of("s")), 0);
    refused(path_of("s"), "what is there is not a socket");
    assert_true(exists("s") && exists("target"));
    assert_false(exists("s.lock"));
}

static void another_file_is_not_taken_for_the_lock(void **state)
{
    char problem[PATH_BYTES + 64];

    (void)state;
    put_file("s.lock", "data", 4);
    snprintf(problem, sizeof problem, "%s: File exists", path_of("s.lock"));
    refused(path_of("s"), problem);
    assert_int_equal(mode_of(path_of("s.lock")) & S_IFMT, S_IFREG);
    assert_int_equal(unlink(path_of("s.lock")), 0);

    assert_int_equal(symlink(path_of("elsewhere"), path_of("s.lock")), 0);
    snprintf(problem, sizeof problem, "%s: Too many levels of symbolic links", path_of("s.lock"));
    refused(path_of("s"), problem);
    assert_false(exists("elsewhere"));
}

static void only_its_own_socket_is_removed(void **state)
{
    HttpListener l = opened(path_of("s"), 0600);
    int successor;

    (void)state;
    assert_int_equal(unlink(path_of("s")), 0);
    successor = bound_socket(path_of("s"), SOCK_STREAM);
    listener_close(&l);
    assert_true(exists("s"));
    listener_close(&l); /* again: nothing more to do */
    assert_true(exists("s"));
    close(successor);
}

static void paths_that_cannot_be(void **state)
{
    char path[256], problem[PATH_BYTES + 64];

    (void)state;
    refused("", "0 bytes, expected 1 to 107");
    memset(path, 'a', sizeof path);
    path[108] = '\0';
    refused(path, "108 bytes, expected 1 to 107");
    snprintf(path, sizeof path, "%s/no/s", folder);
    snprintf(problem, sizeof problem, "%s.lock: No such file or directory", path);
    refused(path, problem);
}

static void a_path_of_107_bytes_is_the_longest(void **state)
{
    char path[108];
    HttpListener l;

    (void)state;
    snprintf(path, sizeof path, "%s/", folder);
    memset(path + strlen(path), 'x', sizeof path - strlen(path));
    path[107] = '\0';
    l = opened(path, 0600);
    assert_int_equal(mode_of(path), S_IFSOCK | 0600);
    listener_close(&l);
}

/* --- addresses --- */

static void says_what_the_outside_can_reach(void **state)
{
    static const struct {
        const char *host;
        bool is_public;
        const char *uri; /* up to the port */
    } rows[] = {
        {"127.0.0.1", false, "http://localhost:"},
        {"localhost", false, "http://localhost:"},
        {"127.1", false, "http://localhost:"},
        {"127.0.0.2", false, "http://127.0.0.2:"},
        {"0.0.0.0", true, "http://localhost:"},
        {"0", true, "http://localhost:"},
        {"::1", false, "http://[::1]:"},
        {"[::1]", false, "http://[::1]:"},
        {"::", true, "http://localhost:"},
        {"::ffff:127.0.0.1", false, "http://[::ffff:127.0.0.1]:"},
        {"::ffff:0.0.0.0", true, "http://[::ffff:0.0.0.0]:"},
    };
    char uri[LISTENER_URI_BYTES], want[LISTENER_URI_BYTES + 16];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        HttpListener l = {.fd = -1, .socket.lock_fd = -1};
        Err err = {0};

        if (listener_open_tcp(&l, rows[i].host, 0, &err) != ERR_OK) {
            assert_non_null(strchr(rows[i].host, ':')); /* a machine without IPv6 */
            continue;
        }
        if (listener_is_public(&l) != rows[i].is_public)
            fail_msg("%s: public %d", rows[i].host, !rows[i].is_public);
        listener_uri(&l, uri);
        snprintf(want, sizeof want, "%s%d", rows[i].uri, l.port);
        assert_string_equal(uri, want);
        listener_close(&l);
        assert_false(listener_is_public(&l));
    }
}

static void a_unix_socket_is_private_and_has_no_uri(void **state)
{
    HttpListener l = opened(path_of("s"), 0777);
    char uri[LISTENER_URI_BYTES] = "x";

    (void)state;
    assert_false(listener_is_public(&l));
    listener_uri(&l, uri);
    assert_string_equal(uri, "");
    listener_close(&l);
}

static int remove_all(void **state)
{
    static const char *const names[] = {"s", "s.lock", "target"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(serves_requests_and_goes_away),
        IN_FOLDER(clients_that_leave_are_noticed),
        IN_FOLDER(has_its_mode_whatever_the_umask),
        IN_FOLDER(a_dead_socket_is_replaced),
        IN_FOLDER(a_live_one_is_left_alone),
        IN_FOLDER(one_that_is_being_made_is_left_alone),
        IN_FOLDER(what_is_no_socket_is_never_removed),
        IN_FOLDER(another_file_is_not_taken_for_the_lock),
        IN_FOLDER(only_its_own_socket_is_removed),
        IN_FOLDER(paths_that_cannot_be),
        IN_FOLDER(a_path_of_107_bytes_is_the_longest),
        cmocka_unit_test(says_what_the_outside_can_reach),
        IN_FOLDER(a_unix_socket_is_private_and_has_no_uri),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
