/* kernels/ticks.h: monotonic nanoseconds from the processor's own counter, which is read in half
 * the time of the system's clock: for parts of a microsecond. Where there is no such counter, or it
 * changes its rate, it is the system's clock.
 *
 * May include: nothing. */
#ifndef LLORCH_KERNELS_TICKS_H
#define LLORCH_KERNELS_TICKS_H

#include <stdint.h>

typedef struct {
    uint64_t ticks, ns; /* of one moment */
    uint64_t rate;      /* nanoseconds of 2^32 ticks; 0: the system's clock */
} TickClock;

/* Notes the moment. Until ticks_calibrate the system's clock is read. */
void ticks_begin(TickClock *c);

/* Finds the rate from what has passed since ticks_begin; waits until that is 5 ms. To be called
 * again whenever the time may jump by some nanoseconds. */
void ticks_calibrate(TickClock *c);

/* Nanoseconds that never go back on one processor, as long as the rate stays. */
uint64_t ticks_now_ns(const TickClock *c);

#endif
