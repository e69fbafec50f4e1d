/* profile/figures.h: what is made of the measurements: rows of the table, percentiles, rates.
 *
 * May include: common, kernels. */
#ifndef LLORCH_PROFILE_FIGURES_H
#define LLORCH_PROFILE_FIGURES_H

#include <stdint.h>

#include "kernels/matrix.h"
#include "profile/profile.h"
#include "profile/work.h"

/* One part in one phase. */
typedef struct {
    ProfileStat time;
    double share; /* of the phase's wall time */
    ProfileWork work;
    double gb_per_s, gflop_per_s; /* work over time; 0: none */
} ProfileRow;

/* layer: PROFILE_ALL_LAYERS, -1 or a block. */
ProfileRow profile_row(const Profile *p, KernType kv_type, ProfilePhase phase, int part, int layer);

typedef struct {
    double mean_ns;
    uint64_t min_ns, p50_ns, p95_ns, p99_ns, max_ns;
} ProfileLatency;

/* Of the n >= 1 values of ns, which it sorts. A percentile is the least value that this part of all
 * values does not exceed (nearest rank), so it always is one of them. */
ProfileLatency profile_latency(uint64_t *ns, int n);

/* Tokens per second of the passes of the prompt, and of the tokens after the first with all that
 * belongs to them; 0 where there is nothing. */
double profile_prompt_rate(const Profile *p);
double profile_decode_rate(const Profile *p);

#endif
