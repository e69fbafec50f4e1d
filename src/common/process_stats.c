/* common/process_stats.c: see process_stats.h. /proc is the system's, so what it says is taken as
 * it is; where it cannot be read the numbers are missing.
 *
 * May include: nothing. */
#include "common/process_stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Fields of /proc/PID/stat, counted from 1 (proc(5)). */
enum { FIELD_STATE = 3, FIELD_THREADS = 20, FIELD_VIRTUAL = 23, FIELD_RESIDENT = 24 };

static bool number_at(const char *at, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(at, &end, 10);
    return *at >= '0' && *at <= '9' && errno == 0 && (*end == ' ' || *end == '\n' || *end == '\0');
}

bool process_stats_parse(ProcessStats *out, const char *stat, uint64_t page_bytes)
{
    uint64_t pages, threads, bytes;
    const char *at = strrchr(stat, ')'), *fields[FIELD_RESIDENT + 1];

    if (at == NULL || at[1] != ' ')
        return false;
    at += 2;
    for (int i = FIELD_STATE; i <= FIELD_RESIDENT; i++) {
        fields[i] = at;
        at += strcspn(at, " ");
        at += *at == ' ';
    }
    if (!number_at(fields[FIELD_THREADS], &threads) || !number_at(fields[FIELD_VIRTUAL], &bytes) ||
        !number_at(fields[FIELD_RESIDENT], &pages) || pages > UINT64_MAX / page_bytes)
        return false;
    out->n_threads = threads;
    out->virtual_bytes = bytes;
    out->resident_bytes = pages * page_bytes;
    return true;
}

static bool read_stat(ProcessStats *out)
{
    char text[1024]; /* the longest has some 600 bytes */
    const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    const long page = sysconf(_SC_PAGESIZE);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0 || text[n - 1] != '\n' || page <= 0) /* else its last number may be cut */
        return false;
    text[n] = '\0';
    return process_stats_parse(out, text, (uint64_t)page);
}

static bool count_fds(uint64_t *n)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;

    if (dir == NULL)
        return false;
    *n = 0;
    while ((entry = readdir(dir)) != NULL)
        *n += entry->d_name[0] != '.';
    *n -= *n > 0; /* the one that reads */
    return closedir(dir) == 0;
}

void process_stats_read(ProcessStats *out)
{
    struct timespec cpu = {0, 0};
    struct rlimit fds = {.rlim_cur = 0};

    *out = (ProcessStats){.n_threads = 0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    out->cpu_ns = (uint64_t)cpu.tv_sec * UINT64_C(1000000000) + (uint64_t)cpu.tv_nsec;
    (void)getrlimit(RLIMIT_NOFILE, &fds);
    out->max_fds = fds.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)fds.rlim_cur;
    out->has_memory = read_stat(out);
    out->has_fds = count_fds(&out->n_fds);
}
