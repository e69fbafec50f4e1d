/* profile/figures.c: see figures.h.
 *
 * May include: common, kernels. */
#include "profile/figures.h"

#include <stdlib.h>

static ProfileStat time_of(const Profile *p, ProfilePhase phase, int part, int layer)
{
    return layer == PROFILE_ALL_LAYERS ? profile_sum(p, phase, part)
                                       : *profile_stat(p, phase, layer, part);
}

static double over(double value, double by)
{
    return by > 0.0 ? value / by : 0.0;
}

ProfileRow profile_row(const Profile *p, KernType kv_type, ProfilePhase phase, int part, int layer)
{
    ProfileRow row = {.time = time_of(p, phase, part, layer),
                      .work = profile_phase_work(p, kv_type, phase, part, layer)};
    const double ns = (double)row.time.total_ns;

    row.share = over(ns, (double)p->phase_ns[phase]);
    row.gb_per_s = over(row.work.bytes, ns);
    row.gflop_per_s = over(row.work.flop, ns);
    return row;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The value at rank ceil(percent / 100 * n), counted from 1. */
static uint64_t percentile(const uint64_t *sorted, int n, int percent)
{
    const int64_t rank = ((int64_t)percent * n + 99) / 100;

    return sorted[rank - 1];
}

ProfileLatency profile_latency(uint64_t *ns, int n)
{
    ProfileLatency l = {.mean_ns = 0.0};

    qsort(ns, (size_t)n, sizeof *ns, by_value);
    for (int i = 0; i < n; i++)
        l.mean_ns += (double)ns[i] / n;
    l.min_ns = ns[0];
    l.p50_ns = percentile(ns, n, 50);
    l.p95_ns = percentile(ns, n, 95);
    l.p99_ns = percentile(ns, n, 99);
    l.max_ns = ns[n - 1];
    return l;
}

double profile_prompt_rate(const Profile *p)
{
    uint64_t ns = 0;

    for (int i = 0; i < p->n_passes; i++)
        if (p->passes[i].phase == PROFILE_PROMPT)
            ns += p->passes[i].end_ns - p->passes[i].start_ns;
    return over(p->options.n_prompt * 1e9, (double)ns);
}

double profile_decode_rate(const Profile *p)
{
    return over((p->n_tokens - 1) * 1e9, (double)p->phase_ns[PROFILE_DECODE]);
}
