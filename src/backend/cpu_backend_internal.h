/* backend/cpu_backend_internal.h: what cpu_backend.c, which loads, and cpu_backend_job.c, which
 * runs jobs, share.
 *
 * May include: backend, common, kernels, model, sampling, tokenizer. */
#ifndef LLORCH_BACKEND_CPU_BACKEND_INTERNAL_H
#define LLORCH_BACKEND_CPU_BACKEND_INTERNAL_H

#include "backend/backend.h"
#include "backend/stop_matcher.h"
#include "common/arena.h"
#include "kernels/kernels.h"
#include "model/fingerprint.h"
#include "model/gpt2.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8_stream.h"

/* The longest prompt in bytes, and so in tokens before the context limit is looked at. */
enum { CPU_BACKEND_PROMPT_BYTES = 4 * BACKEND_MAX_PROMPT_CHARS };

/* Logits of a prompt's positions computed in one product. */
enum { CPU_BACKEND_ROWS = KERN_TILE_TOKENS };

typedef enum { PHASE_IDLE, PHASE_PROMPT, PHASE_TOKENS, PHASE_ENDING } Phase;

/* The echo of a prompt (score_prompt). */
typedef struct {
    bool wanted;
    int n_given;           /* tokens of the prompt that were given out */
    int first_row, n_rows; /* rows of logits that are there: of these positions */
    float *rows;           /* [CPU_BACKEND_ROWS, the model's vocabulary] */
    Utf8Stream utf8;
} Echo;

typedef struct {
    Backend base; /* first: a CpuBackend is a Backend */
    Gpt2 model;
    Gpt2Run run;
    Tokenizer *tokenizer;
    TokenizerScratch *scratch;
    Sampler *sampler;
    BackendInfo info;
    char name[GPT2_NAME_BYTES];
    char fingerprint[FINGERPRINT_BYTES];
    Arena self;    /* holds this struct */
    Arena buffers; /* holds the sampler and what follows */
    /* [CPU_BACKEND_PROMPT_BYTES] each; count_tokens must not touch the prompt of a running job. */
    int32_t *count_ids;
    int32_t *prompt;
    int32_t *cached_ids; /* [n_ctx]: the tokens at positions 0 .. run.cache.length - 1 */
    char *decoded;       /* one token after the UTF-8 stage, and the stage's tail */
    char *text;          /* what the last step gave out */

    bool reuse_prefix;
    size_t n_touched; /* bytes of run.arena that have their pages */

    Phase phase;
    StopReason reason; /* in ENDING */
    int n_prompt, n_prompt_done;
    int n_last_pass; /* prompt tokens of the last pass, up to n_prompt_done */
    int n_cached;    /* of n_prompt, taken over from the job before */
    int n_limit;     /* tokens that may be generated */
    int n_generated;
    int32_t last_id; /* generated, but not yet computed; -1: run.logits are the next token's */
    Utf8Stream utf8;
    StopMatcher stops;

    bool want_scores;
    int n_best;
    BackendScores scores; /* of the last step */
    Echo echo;
} CpuBackend;

/* The next piece of the run's memory gets its pages; false when all of it has them. */
bool cpu_backend_touch_piece(CpuBackend *b);

/* BackendOps of these names. */
ErrCode cpu_job_start(Backend *base, const BackendRequest *r, Err *err);
ErrCode cpu_job_step(Backend *base, const Tap *tap, BackendStep *out, Err *err);
void cpu_job_cancel(Backend *base);

#endif
