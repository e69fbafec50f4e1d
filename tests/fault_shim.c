/* tests/fault_shim.c: a library to preload (LD_PRELOAD) that lets calls into the C library fail.
 *
 * It counts the calls of each function below that the program and its libraries make, and lets
 * one, or some in a row, fail. From the environment:
 *
 * LLORCH_FAULT is "function:at:count:what", up to four of them with commas between: call number at
 * (from 1) and count - 1 more (0: all from there on) fail. what is the number of an errno, or
 * "short": one byte is moved.
 *
 * LLORCH_FAULT_REPORT names a file that gets a line "function calls failed" per function at the
 * end.
 *
 * Calls on descriptor 2 count under a name of their own (log_write, log_send, log_poll), since what
 * is logged is how a test sees what happens. A close that fails has closed all the same, as it does
 * in Linux. Calls that the C library makes for itself are not seen. Never with sanitizers, which
 * have their own functions in these places. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* clang-format off */
#define FUNCTIONS(X) \
    X(open) X(fstat) X(stat) X(lstat) X(mmap) X(munmap) X(madvise) X(mlockall) X(read) X(pread) \
    X(readv) X(recv) X(write) X(writev) X(send) X(sendto) X(socket) X(bind) X(listen) X(accept4) \
    X(connect) X(setsockopt) X(getsockopt) X(getsockname) X(shutdown) X(epoll_create1) X(epoll_ctl) \
    X(epoll_wait) X(pipe2) X(eventfd) X(timerfd_create) X(fcntl) X(ioctl) X(poll) X(close) \
    X(rename) X(unlink) X(fsync) X(mkdir) X(symlink) X(flock) X(pwrite) X(ftruncate) X(getrandom) \
    X(sched_getaffinity) X(sched_setaffinity) X(sigaction) X(signal) X(getrlimit) X(setrlimit) X(opendir) X(fopen) \
    X(fwrite) X(fflush) X(fclose) X(getdelim) X(getaddrinfo) X(getnameinfo) X(malloc) X(calloc) \
    X(realloc)
/* clang-format on */

#define CALL_NAME(f) CALL_##f,
#define CALL_TEXT(f) #f,
enum { FUNCTIONS(CALL_NAME) CALL_log_write, CALL_log_send, CALL_log_poll, N_CALLS };
static const char *const names[] = {FUNCTIONS(CALL_TEXT) "log_write", "log_send", "log_poll"};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
int __open_2(const char *path, int flags);

typedef struct {
    int call;
    long at, count;
    int error; /* 0: short */
} Plan;

static struct {
    long n_calls[N_CALLS], n_failed[N_CALLS];
    Plan plans[4];
    int n_plans;
} shim;

static void __attribute__((constructor)) read_plans(void)
{
    const char *text = getenv("LLORCH_FAULT");
    char name[32], what[16];

    for (int i = 0; i < N_CALLS; i++)
        shim.n_calls[i] = 0;
    for (int used; text != NULL && shim.n_plans < 4; text += used + (text[used] == ',')) {
        Plan *p = &shim.plans[shim.n_plans];

        if (sscanf(text, "%31[^:]:%ld:%ld:%15[^,]%n", name, &p->at, &p->count, what, &used) != 4)
            return;
        p->error = atoi(what);
        p->call = -1;
        for (int i = 0; i < N_CALLS; i++)
            if (strcmp(names[i], name) == 0)
                p->call = i;
        shim.n_plans++;
    }
}

static void __attribute__((destructor)) report(void)
{
    const char *path = getenv("LLORCH_FAULT_REPORT");
    FILE *f;

    shim.n_plans = 0;
    if (path == NULL || (f = fopen(path, "w")) == NULL)
        return;
    for (int i = 0; i < N_CALLS; i++)
        fprintf(f, "%s %ld %ld\n", names[i], shim.n_calls[i], shim.n_failed[i]);
    fclose(f);
}

/* The plan by which this call fails, or NULL. */
static const Plan *chosen(int call)
{
    const long n = ++shim.n_calls[call];

    for (int i = 0; i < shim.n_plans; i++) {
        const Plan *p = &shim.plans[i];

        if (call == p->call && n >= p->at && (p->count == 0 || n - p->at < p->count)) {
            shim.n_failed[call]++;
            return p;
        }
    }
    return NULL;
}

/* Whether this call fails, with errno set. */
static bool fails(int call)
{
    const Plan *p = chosen(call);

    if (p != NULL)
        errno = p->error;
    return p != NULL;
}

/* The same for calls that move *n bytes, of which one is left when it is to be short. */
static bool moves_fail(int call, size_t *n)
{
    const Plan *p = chosen(call);

    if (p == NULL)
        return false;
    errno = p->error;
    if (p->error == 0 && *n > 1)
        *n = 1;
    return p->error != 0;
}

/* The C library's own function of this name. */
#define REAL(f)                                                                                    \
    static __typeof__(&f) real;                                                                    \
    if (real == NULL)                                                                              \
        *(void **)&real = dlsym(RTLD_NEXT, #f);

#define SHIM(type, f, parameters, arguments, failure)                                              \
    type f parameters                                                                              \
    {                                                                                              \
        REAL(f)                                                                                    \
        if (fails(CALL_##f))                                                                       \
            return failure;                                                                        \
        return real arguments;                                                                     \
    }

SHIM(int, fstat, (int fd, struct stat *st), (fd, st), -1)
SHIM(int, stat, (const char *path, struct stat *st), (path, st), -1)
SHIM(int, lstat, (const char *path, struct stat *st), (path, st), -1)
SHIM(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset),
     (at, n, prot, flags, fd, offset), MAP_FAILED)
SHIM(int, munmap, (void *at, size_t n), (at, n), -1)
SHIM(int, madvise, (void *at, size_t n, int advice), (at, n, advice), -1)
SHIM(int, mlockall, (int flags), (flags), -1)
SHIM(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1)
SHIM(int, bind, (int fd, const struct sockaddr *at, socklen_t n), (fd, at, n), -1)
SHIM(int, listen, (int fd, int backlog), (fd, backlog), -1)
SHIM(int, accept4, (int fd, struct sockaddr *at, socklen_t *n, int flags), (fd, at, n, flags), -1)
SHIM(int, connect, (int fd, const struct sockaddr *at, socklen_t n), (fd, at, n), -1)
SHIM(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t n),
     (fd, level, name, value, n), -1)
SHIM(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *n),
     (fd, level, name, value, n), -1)
SHIM(ssize_t, sendto,
     (int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t n_to),
     (fd, p, n, flags, to, n_to), -1)
SHIM(int, getsockname, (int fd, struct sockaddr *at, socklen_t *n), (fd, at, n), -1)
SHIM(int, shutdown, (int fd, int how), (fd, how), -1)
SHIM(int, epoll_create1, (int flags), (flags), -1)
SHIM(int, epoll_ctl, (int fd, int op, int target, struct epoll_event *e), (fd, op, target, e), -1)
SHIM(int, epoll_wait, (int fd, struct epoll_event *e, int n, int ms), (fd, e, n, ms), -1)
SHIM(int, pipe2, (int fds[2], int flags), (fds, flags), -1)
int eventfd(unsigned value, int flags);
SHIM(int, eventfd, (unsigned value, int flags), (value, flags), -1)
int timerfd_create(int clock, int flags);
SHIM(int, timerfd_create, (int clock, int flags), (clock, flags), -1)
SHIM(int, rename, (const char *from, const char *to), (from, to), -1)
SHIM(int, unlink, (const char *path), (path), -1)
SHIM(int, fsync, (int fd), (fd), -1)
SHIM(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
SHIM(int, symlink, (const char *to, const char *path), (to, path), -1)
SHIM(int, flock, (int fd, int how), (fd, how), -1)
SHIM(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), -1)
SHIM(int, ftruncate, (int fd, off_t n), (fd, n), -1)
SHIM(ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags), -1)
SHIM(int, sched_getaffinity, (pid_t pid, size_t n, cpu_set_t *set), (pid, n, set), -1)
SHIM(int, sched_setaffinity, (pid_t pid, size_t n, const cpu_set_t *set), (pid, n, set), -1)
SHIM(int, sigaction, (int number, const struct sigaction *to, struct sigaction *was),
     (number, to, was), -1)
SHIM(sighandler_t, signal, (int number, sighandler_t to), (number, to), SIG_ERR)
SHIM(int, getrlimit, (__rlimit_resource_t what, struct rlimit *limit), (what, limit), -1)
SHIM(int, setrlimit, (__rlimit_resource_t what, const struct rlimit *limit), (what, limit), -1)
SHIM(DIR *, opendir, (const char *path), (path), NULL)
SHIM(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
SHIM(int, fflush, (FILE * f), (f), EOF)
SHIM(ssize_t, getdelim, (char **line, size_t *n, int end, FILE *f), (line, n, end, f), -1)
SHIM(int, getaddrinfo,
     (const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out),
     (host, service, hints, out), EAI_MEMORY)
SHIM(int, getnameinfo,
     (const struct sockaddr *at, socklen_t n, char *host, socklen_t n_host, char *service,
      socklen_t n_service, int flags),
     (at, n, host, n_host, service, n_service, flags), EAI_MEMORY)

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    const int mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
    va_end(args);
    REAL(open)
    return fails(CALL_open) ? -1 : real(path, flags, mode);
}

int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int fcntl(int fd, int command, ...)
{
    va_list args;

    va_start(args, command);
    const long value = va_arg(args, long);
    va_end(args);
    REAL(fcntl)
    return fails(CALL_fcntl) ? -1 : real(fd, command, value);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;

    va_start(args, request);
    void *value = va_arg(args, void *);
    va_end(args);
    REAL(ioctl)
    return fails(CALL_ioctl) ? -1 : real(fd, request, value);
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    REAL(poll)
    return fails(n == 1 && fds->fd == STDERR_FILENO ? CALL_log_poll : CALL_poll) ? -1
                                                                                 : real(fds, n, ms);
}

int close(int fd)
{
    REAL(close)
    const bool failed = fails(CALL_close);
    const int error = errno, result = real(fd);

    if (failed)
        errno = error;
    return failed ? -1 : result;
}

int fclose(FILE *f)
{
    REAL(fclose)
    const bool failed = fails(CALL_fclose);
    const int error = errno, result = real(f);

    if (failed)
        errno = error;
    return failed ? EOF : result;
}

size_t fwrite(const void *p, size_t size, size_t n, FILE *f)
{
    REAL(fwrite)
    return fails(CALL_fwrite) ? 0 : real(p, size, n, f);
}

ssize_t read(int fd, void *p, size_t n)
{
    REAL(read)
    return moves_fail(CALL_read, &n) ? -1 : real(fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t offset)
{
    REAL(pread)
    return moves_fail(CALL_pread, &n) ? -1 : real(fd, p, n, offset);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    REAL(recv)
    return moves_fail(CALL_recv, &n) ? -1 : real(fd, p, n, flags);
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(write)
    return moves_fail(fd == STDERR_FILENO ? CALL_log_write : CALL_write, &n) ? -1 : real(fd, p, n);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    REAL(send)
    return moves_fail(fd == STDERR_FILENO ? CALL_log_send : CALL_send, &n) ? -1
                                                                           : real(fd, p, n, flags);
}

/* Short: the first byte of the first piece. */
static int shorten(int call, struct iovec *first, const struct iovec *pieces, int n)
{
    *first = pieces[0];
    const size_t before = first->iov_len;

    if (moves_fail(call, &first->iov_len))
        return -1;
    return first->iov_len < before ? 1 : n;
}

ssize_t readv(int fd, const struct iovec *pieces, int n)
{
    struct iovec first;
    REAL(readv)
    const int m = shorten(CALL_readv, &first, pieces, n);

    return m < 0 ? -1 : real(fd, m < n ? &first : pieces, m);
}

ssize_t writev(int fd, const struct iovec *pieces, int n)
{
    struct iovec first;
    REAL(writev)
    const int m = shorten(CALL_writev, &first, pieces, n);

    return m < 0 ? -1 : real(fd, m < n ? &first : pieces, m);
}

/* Not by dlsym, which may allocate. */
void *malloc(size_t size)
{
    return fails(CALL_malloc) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails(CALL_calloc) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails(CALL_realloc) ? NULL : __libc_realloc(p, size);
}
