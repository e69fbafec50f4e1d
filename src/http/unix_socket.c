/* http/unix_socket.c: see unix_socket.h.
 *
 * May include: common. */
#include "http/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LOCK_TRIES = 8, /* each one lost means that another process came and went in between */
    LOCK_PATH_BYTES = sizeof((UnixSocket *)NULL)->path + sizeof ".lock"
};

static ErrCode failed(const char *path, const char *problem, Err *err)
{
    return err_set(err, ERR_IO, "Failed to bind to unix:%s: %s", path, problem);
}

static void lock_path_of(char out[LOCK_PATH_BYTES], const UnixSocket *u)
{
    snprintf(out, LOCK_PATH_BYTES, "%s.lock", u->path);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Locks the open file. 0; or an errno: EAGAIN when the lock was on a file that is no longer there,
 * since its last owner removed it after we had opened it. */
static int lock_open_file(int fd, const char *path)
{
    struct stat mine, there;

    if (fstat(fd, &mine) != 0)
        return errno;
    if (!S_ISREG(mine.st_mode) || mine.st_size != 0)
        return EEXIST; /* not one of ours: it would be removed in the end */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? EADDRINUSE : errno;
    return stat(path, &there) == 0 && same_file(&mine, &there) ? 0 : EAGAIN;
}

static ErrCode take_lock(UnixSocket *u, Err *err)
{
    char path[LOCK_PATH_BYTES];
    int problem = EAGAIN;

    lock_path_of(path, u);
    for (int i = 0; i < LOCK_TRIES && problem == EAGAIN; i++) {
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

        problem = fd >= 0 ? lock_open_file(fd, path) : errno;
        if (problem == 0)
            u->lock_fd = fd;
        else if (fd >= 0)
            (void)close(fd);
    }
    if (problem == 0)
        return ERR_OK;
    if (problem == EADDRINUSE)
        return failed(u->path, strerror(problem), err);
    return err_set(err, ERR_IO, "Failed to bind to unix:%s: %s: %s", u->path, path,
                   strerror(problem));
}

/* Whether anybody listens there: 0 nobody, else an errno that says why it must stay. */
static int probe(const struct sockaddr_un *address)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int problem;

    if (fd < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
        problem = EADDRINUSE; /* EAGAIN: its backlog is full */
    else
        problem = errno == ECONNREFUSED ? 0 : errno;
    (void)close(fd);
    return problem;
}

/* Makes room at the path: a socket that nobody listens on goes, everything else stays. */
static ErrCode clear_path(const UnixSocket *u, const struct sockaddr_un *address, Err *err)
{
    struct stat st;
    int problem;

    if (lstat(u->path, &st) != 0)
        return errno == ENOENT ? ERR_OK : failed(u->path, strerror(errno), err);
    if (!S_ISSOCK(st.st_mode))
        return failed(u->path, "what is there is not a socket", err);
    problem = probe(address);
    if (problem == 0 && unlink(u->path) != 0 && errno != ENOENT)
        problem = errno;
    return problem == 0 ? ERR_OK : failed(u->path, strerror(problem), err);
}

/* bind() makes the file, with the mode 0777 less the umask: there is no moment with another mode,
 * and no second thread that could make a file meanwhile. A default ACL of the directory overrules
 * the umask; that is found before anybody can connect. */
static ErrCode bind_file(UnixSocket *u, int fd, const struct sockaddr_un *address, mode_t mode,
                         Err *err)
{
    const mode_t before = umask(~mode & 0777);
    const int result = bind(fd, (const struct sockaddr *)address, sizeof *address);
    const int problem = errno;
    struct stat st;

    (void)umask(before);
    if (result != 0)
        return failed(u->path, strerror(problem), err);
    if (lstat(u->path, &st) != 0)
        return failed(u->path, strerror(errno), err);
    u->device = st.st_dev;
    u->inode = st.st_ino;
    if ((st.st_mode & 0777) != mode)
        return err_set(
            err, ERR_IO,
            "Failed to bind to unix:%s: the socket has mode %04o, expected %04o (has the "
            "directory a default ACL?)",
            u->path, (unsigned)st.st_mode & 0777, (unsigned)mode);
    return ERR_OK;
}

ErrCode unix_socket_listen(UnixSocket *u, const char *path, mode_t mode, int backlog, int *fd,
                           Err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t n = strlen(path);
    int new_fd;

    *u = (UnixSocket){.lock_fd = -1};
    if (n == 0 || n >= sizeof u->path)
        return err_set(err, ERR_IO, "Failed to bind to unix:%s: %zu bytes, expected 1 to %zu", path,
                       n, sizeof u->path - 1);
    memcpy(u->path, path, n + 1);
    memcpy(address.sun_path, path, n + 1);
    if (take_lock(u, err) != ERR_OK) {
        u->path[0] = '\0';
        return ERR_IO;
    }
    new_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (new_fd < 0) {
        failed(path, strerror(errno), err);
    } else if (clear_path(u, &address, err) == ERR_OK &&
               bind_file(u, new_fd, &address, mode, err) == ERR_OK) {
        if (listen(new_fd, backlog) == 0) {
            *fd = new_fd;
            return ERR_OK;
        }
        failed(path, strerror(errno), err);
    }
    unix_socket_remove(u);
    if (new_fd >= 0)
        (void)close(new_fd);
    return ERR_IO;
}

void unix_socket_remove(UnixSocket *u)
{
    char lock_path[LOCK_PATH_BYTES];
    struct stat st;

    if (u->path[0] == '\0')
        return;
    if (u->inode != 0 && lstat(u->path, &st) == 0 && st.st_dev == u->device &&
        st.st_ino == u->inode)
        (void)unlink(u->path);
    lock_path_of(lock_path, u);
    (void)unlink(lock_path); /* while it is locked: see lock_open_file */
    (void)close(u->lock_fd);
    *u = (UnixSocket){.lock_fd = -1};
}
