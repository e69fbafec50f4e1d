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

/* The wall clock as "YYYY-MM-DDTHH:MM:SSZ" (UTC). */
void clock_iso_utc(char out[CLOCK_ISO_BYTES]);

#endif
