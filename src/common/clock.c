/* common/clock.c: the clocks.
 *
 * May include: nothing. */
#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t read_ns(clockid_t clock)
{
    struct timespec t = {0, 0};

    /* Cannot fail: both clocks exist on every system this builds on, and t is valid. */
    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t clock_now_ms(void)
{
    return clock_now_ns() / 1000000u;
}

void clock_iso_utc(char out[CLOCK_ISO_BYTES])
{
    const time_t now = time(NULL);
    struct tm tm;

    /* A wall clock set beyond the year 9999 has no text of this form. */
    if (gmtime_r(&now, &tm) == NULL ||
        strftime(out, CLOCK_ISO_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        memcpy(out, "0000-00-00T00:00:00Z", sizeof "0000-00-00T00:00:00Z");
}
