/* common/clock.h: monotonic time for limits and durations, wall time for time stamps only.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_CLOCK_H
#define LLORCH_COMMON_CLOCK_H

#include <stdint.h>

enum { CLOCK_ISO_BYTES = 24 };

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t clock_now_ns(void);

/* Milliseconds of CLOCK_MONOTONIC. */
uint64_t clock_now_ms(void);

/* Nanoseconds that this thread has computed: time in which others had the processor does not count.
 * A system call, unlike the others. */
uint64_t clock_cpu_ns(void);

/* The wall clock in seconds since 1970. */
int64_t clock_unix_sec(void);

/* The wall clock as "YYYY-MM-DDTHH:MM:SSZ" (UTC). Unlike gmtime_r and strftime it may be called
 * from a signal handler. */
void clock_iso_utc(char out[CLOCK_ISO_BYTES]);

/* The same for a given number of seconds since 1970; zeros before that and after the year 9999. */
void clock_format_utc(char out[CLOCK_ISO_BYTES], int64_t seconds);

#endif
