/* eval/candidates.h: what a model had to choose from, token by token.
 *
 * May include: common, eval, kernels, model, sampling. */
#ifndef LLORCH_EVAL_CANDIDATES_H
#define LLORCH_EVAL_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "model/gpt2.h"
#include "sampling/sampler.h"

enum { CANDIDATES_MAX = 50 };

typedef struct {
    int32_t id;
    double probability;
} Candidate;

/* One token and the distribution it came from: softmax of the logits as the model gives them, at
 * temperature 1, in double. */
typedef struct {
    int32_t id;
    int rank;             /* 1: the most likely; of equal ones the lower id comes first */
    double probability;   /* of id */
    double surprise_bits; /* -log2 of it, also where it is too small for a double */
    double entropy_bits;  /* of the whole distribution */
    double drawn;         /* probability that the sampler gave id; NaN for a token of the prompt */
    int n_best;
    Candidate best[CANDIDATES_MAX]; /* the most likely first */
} CandidateRow;

/* Fills all but drawn, which becomes NaN. logits: [n]; n_best in 1..min(n, CANDIDATES_MAX); id < n.
 * Errors: ERR_NUMERIC when a logit is not finite. */
ErrCode candidates_row(CandidateRow *out, const float *logits, int n, int n_best, int32_t id,
                       Err *err) ERR_CHECK;

typedef struct {
    const Gpt2 *model;
    const Kernels *k;
    KernType kv_type;
    int n_vocab; /* logits that count: the tokenizer's tokens */
    const int32_t *prompt;
    int n_prompt;
    bool with_prompt; /* rows for the prompt's own tokens as well, but for the first one, which has
                         nothing before it */
    int n_best;       /* 1 .. CANDIDATES_MAX; a smaller vocabulary gives fewer */
    int max_tokens;
    SamplingParams sampling;
    Gpt2Progress progress;
} CandidatesOptions;

typedef struct {
    CandidateRow *rows; /* [n_rows], those of the prompt first */
    int n_rows, n_prompt_rows;
    bool ended; /* the last row is an end of text, which ends a generation and is no text */
    Arena arena;
} Candidates;

/* Generates as the worker does, to max_tokens, the end of the context or an end of text.
 *
 * Memory  candidates_free, also after an error.
 * Errors  ERR_USAGE (empty prompt, or one that is longer than the context, an id outside the
 *         vocabulary, max_tokens < 1), ERR_LIMIT, ERR_MEMORY, ERR_NUMERIC, ERR_CANCELLED. */
ErrCode candidates_run(Candidates *out, const CandidatesOptions *o, Err *err) ERR_CHECK;
void candidates_free(Candidates *c);

#endif
