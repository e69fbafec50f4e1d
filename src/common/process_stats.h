/* common/process_stats.h: what the system says of this process, read when it is asked.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_PROCESS_STATS_H
#define LLORCH_COMMON_PROCESS_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t cpu_ns; /* user and system time of all threads */
    bool has_memory; /* the next three are known: /proc can be read */
    uint64_t n_threads, virtual_bytes, resident_bytes;
    bool has_fds; /* the number of open descriptors is known */
    uint64_t n_fds;
    uint64_t max_fds; /* the soft limit; UINT64_MAX: none */
} ProcessStats;

/* Three system calls and one for every few dozen descriptors. */
void process_stats_read(ProcessStats *out);

/* The three numbers in the text of /proc/PID/stat (NUL-terminated), whose second field is the
 * program's name in parentheses and may hold anything. False: not such a text. */
bool process_stats_parse(ProcessStats *out, const char *stat, uint64_t page_bytes);

#endif
