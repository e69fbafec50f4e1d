/* common/histogram.h: durations sorted into buckets, as Prometheus wants them. Observing one is a
 * walk over at most HISTOGRAM_MAX_BOUNDS integers: no allocation, no floating point.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_HISTOGRAM_H
#define LLORCH_COMMON_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_MAX_BOUNDS = 20 };

typedef struct {
    const uint64_t *bounds_ns; /* [n_bounds], ascending; borrowed */
    int n_bounds;
    /* counts[i]: durations of at most bounds_ns[i] and above the bound before it; the last one:
     * above all bounds. Not cumulative. */
    uint64_t counts[HISTOGRAM_MAX_BOUNDS + 1];
    uint64_t sum_ns;
} Histogram;

/* Empty, with these bounds: at most HISTOGRAM_MAX_BOUNDS, ascending. */
void histogram_init(Histogram *h, const uint64_t *bounds_ns, int n_bounds);

void histogram_observe(Histogram *h, uint64_t duration_ns);

#endif
