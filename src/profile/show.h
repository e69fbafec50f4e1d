/* profile/show.h: a profile for people and for programs: a table, JSON, a page, a trace.
 *
 * May include: common, kernels. */
#ifndef LLORCH_PROFILE_SHOW_H
#define LLORCH_PROFILE_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "kernels/matrix.h"
#include "profile/memory.h"
#include "profile/profile.h"

/* What the profile itself costs: runs with and without it, in turns, by the median of their tokens'
 * latencies. */
typedef struct {
    int pairs;    /* 0: not measured */
    double ratio; /* median of with / without */
    double least_ratio, most_ratio;
} ProfileCost;

/* All texts are borrowed; those from outside are escaped where they are shown. */
typedef struct {
    const char *version, *compiler, *cpu_name, *isa;
    int cpu;
    const char *model, *types; /* name; "F16" */
    KernType kv_type;
    const char *text; /* of the tokens generated, [n_text]; NULL without a tokenizer */
    size_t n_text;
    const int32_t *ids; /* generated, [profile->n_tokens] */
    const Profile *profile;
    const Memory *memory;
    uint64_t *room;                        /* [profile->n_tokens], for sorting */
    double read_gb_per_s, fma_gflop_per_s; /* the probes of bench */
    ProfileCost cost;
} ProfileReport;

void profile_show_table(JsonBuf *out, const ProfileReport *r, bool layers, bool colour);
void profile_show_json(JsonBuf *out, const ProfileReport *r);

/* Errors: ERR_MEMORY, ERR_LIMIT. */
ErrCode profile_show_html(JsonBuf *out, const ProfileReport *r, Err *err) ERR_CHECK;

/* The Chrome trace format: one JSON object with complete events in microseconds, nested as request,
 * pass, block and part. Written to path piece by piece, as a whole or not at all. Errors: ERR_IO,
 * ERR_MEMORY. */
ErrCode profile_write_trace(const char *path, const ProfileReport *r, Err *err) ERR_CHECK;

#endif
