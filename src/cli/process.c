/* cli/process.c: see process.h.
 *
 * May include: common. */
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    LIST_BYTES = 256,
    /* Measured: the deepest command needs 160 KiB. The first figure is asked for, and is what a
     * sanitizer needs as well; with less than the second nothing is begun. */
    STACK_WANTED_BYTES = 4 << 20,
    STACK_NEEDED_BYTES = 512 << 10
};

/* With a standard descriptor closed, the next file or socket would take its number, and what is
 * meant for standard output would end up there. The stand-ins answer every use with an error, as
 * the closed descriptor would; "/" is there where /dev is not. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            (void)open("/", O_PATH);
}

/* The limit of the stack may be raised while it is in use, up to what the hard one allows. Better
 * no start than a crash in the middle of a request. */
static ErrCode ensure_stack(Err *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_WANTED_BYTES)
        return ERR_OK; /* RLIM_INFINITY is the largest number */
    limit.rlim_cur = limit.rlim_max < STACK_WANTED_BYTES ? limit.rlim_max : STACK_WANTED_BYTES;
    (void)setrlimit(RLIMIT_STACK, &limit);
    if (limit.rlim_cur >= STACK_NEEDED_BYTES)
        return ERR_OK;
    return err_set(err, ERR_LIMIT,
                   "the stack is limited to %ju KiB, expected at least %d (ulimit -s)",
                   (uintmax_t)limit.rlim_cur / 1024, STACK_NEEDED_BYTES / 1024);
}

ErrCode process_prepare(Err *err)
{
    sigset_t none;

    fill_standard_descriptors();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* ulimit -f: else no temporary file would be removed */
    /* A parent that blocked signals for its own ends hands that down; SIGTERM must arrive. */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    return ensure_stack(err);
}

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

void process_leave_on_signals(void)
{
    const struct sigaction action = {.sa_handler = leave};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
}

/* "0-3,8": the processors of a set. What does not fit is left out. */
static void list_cpus(char out[LIST_BYTES], const cpu_set_t *set)
{
    size_t n = 0;

    out[0] = '\0';
    for (int first = 0, last; first < CPU_SETSIZE; first = last + 1) {
        last = first;
        if (!CPU_ISSET((size_t)first, set))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET((size_t)last + 1, set))
            last++;
        const int got = snprintf(out + n, LIST_BYTES - n, last > first ? "%s%d-%d" : "%s%d",
                                 n > 0 ? "," : "", first, last);
        if (got < 0 || (size_t)got >= LIST_BYTES - n) {
            out[n] = '\0';
            return;
        }
        n += (size_t)got;
    }
}

ErrCode process_pin(int cpu, Err *err)
{
    char allowed_text[LIST_BYTES];
    cpu_set_t allowed, wanted;

    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return err_set(err, ERR_USAGE, "--cpu: the processors of this machine: %s",
                       strerror(errno));
    list_cpus(allowed_text, &allowed);
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, &allowed))
        return err_set(err, ERR_USAGE, "--cpu: %d is not available, allowed: %s", cpu,
                       allowed_text);
    CPU_ZERO(&wanted);
    CPU_SET((size_t)cpu, &wanted);
    if (sched_setaffinity(0, sizeof wanted, &wanted) != 0)
        return err_set(err, ERR_USAGE, "--cpu: %d: %s, allowed: %s", cpu, strerror(errno),
                       allowed_text);
    return ERR_OK;
}

void process_cpu_name(char out[PROCESS_CPU_NAME_BYTES])
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];

    (void)snprintf(out, PROCESS_CPU_NAME_BYTES, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon += strspn(colon, ": ");
        (void)snprintf(out, PROCESS_CPU_NAME_BYTES, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (f != NULL)
        (void)fclose(f);
}

/* Bytes of address space, which is what the limit is compared with; 0: unknown. */
static uint64_t mapped_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    uint64_t pages = 0;

    if (f == NULL)
        return 0;
    if (fscanf(f, "%" SCNu64, &pages) != 1)
        pages = 0;
    (void)fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

ErrCode process_lock_memory(Err *err)
{
    struct rlimit limit = {.rlim_cur = 0};

    if (mlockall(MCL_CURRENT) == 0)
        return ERR_OK;

    const int error = errno;
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    return err_set(
        err, ERR_MEMORY,
        "--mlock: cannot lock %" PRIu64 " KiB of memory: %s; the limit RLIMIT_MEMLOCK is "
        "%" PRIu64 " KiB: raise it (ulimit -l, LimitMEMLOCK= of a service) or give the "
        "process CAP_IPC_LOCK",
        (mapped_bytes() + 1023) / 1024, strerror(error), (uint64_t)limit.rlim_cur / 1024);
}
