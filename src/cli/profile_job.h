/* cli/profile_job.h: the request that profile runs, again and again: a prompt, some tokens, each of
 * them chosen, turned into text and sent.
 *
 * May include: common, kernels, model, profile, sampling, tokenizer. */
#ifndef LLORCH_CLI_PROFILE_JOB_H
#define LLORCH_CLI_PROFILE_JOB_H

#include <stdint.h>

#include "cli/bench_rig.h"
#include "cli/profile_wire.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "profile/memory.h"
#include "profile/profile.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    BenchRig *rig;        /* model, kernels; run: made here */
    Tokenizer *tokenizer; /* borrowed; NULL: token ids only */
    SamplingParams sampling;
    const char *prompt; /* borrowed; NULL: prompt_ids are given */
    size_t n_prompt_bytes;
    int32_t *prompt_ids; /* borrowed when given, else in room */
    int n_prompt;
    int n_tokens; /* to be generated */
    int32_t *ids; /* [n_tokens], in room: of the last run */

    TokenizerScratch *scratch;
    Sampler *sampler;
    char *text;        /* of one token */
    uint64_t *times;   /* [n_tokens], ns: of the last run, whoever looked, from token to token */
    uint64_t *sorted;  /* [n_tokens]: for who counts */
    uint64_t start_ns; /* of the present token */
    JsonBuf event;
    ProfileWire wire;
    Arena room;
} ProfileJob;

/* Who looks at a run: at most one of them. */
typedef struct {
    Profile *profile;
    Memory *memory;
    const Tap *tap; /* its yield, where profile is NULL */
} ProfileWatch;

/* Turns the prompt into tokens, cuts n_tokens to what the context holds, makes all room. rig, the
 * tokenizer, sampling, the prompt or its ids, n_tokens and kv_type are given. Errors: ERR_LIMIT
 * (prompt empty or longer than the context), ERR_USAGE (ids), ERR_MEMORY, ERR_NETWORK. Memory:
 * profile_job_free, also after an error. */
ErrCode profile_job_init(ProfileJob *job, KernType kv_type, Err *err) ERR_CHECK;
void profile_job_free(ProfileJob *job);

/* One request from its first byte to its last token; end-of-text tokens do not end it. Errors:
 * ERR_CANCELLED, ERR_NUMERIC, ERR_NETWORK, ERR_MEMORY. */
ErrCode profile_job_run(ProfileJob *job, const ProfileWatch *w, Err *err) ERR_CHECK;

/* The text of the tokens of the last run, appended. */
void profile_job_text(ProfileJob *job, JsonBuf *out);

#endif
