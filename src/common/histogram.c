/* common/histogram.c: see histogram.h.
 *
 * May include: nothing. */
#include "common/histogram.h"

#include <assert.h>

void histogram_init(Histogram *h, const uint64_t *bounds_ns, int n_bounds)
{
    assert(n_bounds >= 0 && n_bounds <= HISTOGRAM_MAX_BOUNDS);
    *h = (Histogram){.bounds_ns = bounds_ns, .n_bounds = n_bounds};
}

void histogram_observe(Histogram *h, uint64_t duration_ns)
{
    int i = 0;

    while (i < h->n_bounds && duration_ns > h->bounds_ns[i])
        i++;
    h->counts[i]++;
    h->sum_ns += duration_ns;
}
