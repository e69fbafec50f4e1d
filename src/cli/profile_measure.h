/* cli/profile_measure.h: everything that profile measures, in the order in which it disturbs least:
 * loading and memory, pairs for the cost, the timed run between two probes.
 *
 * May include: common, kernels, profile, sampling, tokenizer. */
#ifndef LLORCH_CLI_PROFILE_MEASURE_H
#define LLORCH_CLI_PROFILE_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/profile_job.h"
#include "common/error.h"
#include "common/json.h"
#include "kernels/matrix.h"
#include "profile/memory.h"
#include "profile/profile.h"
#include "profile/show.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"

/* All texts are borrowed. */
typedef struct {
    const char *model, *isa; /* what --model and --isa said, or NULL */
    bool has_type;
    KernType type, kv_type;
    const char *prompt; /* [n_prompt_bytes]; NULL: prompt_ids */
    size_t n_prompt_bytes;
    int32_t *prompt_ids;
    size_t n_prompt_ids;
    int n_tokens, n_pairs; /* n_pairs: 0 for no cost */
    SamplingParams sampling;
    bool events;
} ProfileSubject;

typedef struct {
    ProfileReport report; /* points to what follows; machine and program are the caller's */
    BenchRig rig;
    Tokenizer *tokenizer;
    ProfileJob job;
    Profile profile;
    Memory memory;
    JsonBuf text;
} ProfileMeasured;

/* m is zeroed but for the report's machine and program. Errors: those of loading; ERR_USAGE for
 * what does not fit the model, ERR_CANCELLED after Ctrl-C. Memory: profile_measured_free, also
 * after an error. */
ErrCode profile_measure(ProfileMeasured *m, const ProfileSubject *s, Err *err) ERR_CHECK;
void profile_measured_free(ProfileMeasured *m);

#endif
