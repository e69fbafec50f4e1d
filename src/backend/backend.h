/* backend/backend.h: what the worker and the command line know of inference: start a job, step it,
 * stop it.
 *
 * A step does at most one prompt chunk or one token and returns. cpu_backend.c implements this over
 * a GPT-2 model; the tests have a stub. Only pointers cross this border, so that worker/ never sees
 * a model.
 *
 * May include: common, sampling. */
#ifndef LLORCH_BACKEND_BACKEND_H
#define LLORCH_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/tap.h"
#include "sampling/sampler.h"

enum {
    BACKEND_MAX_STOPS = 4,
    BACKEND_MAX_STOP_CHARS = 100, /* Unicode scalar values */
    BACKEND_MAX_PROMPT_CHARS = 32768,
    BACKEND_MAX_NEW_TOKENS = 2048,
    BACKEND_MAX_LOGPROBS = 5
};

typedef struct {
    const char *text; /* UTF-8, not NUL-terminated */
    size_t n_bytes;
} BackendText;

typedef struct {
    BackendText prompt; /* used when prompt_ids is NULL */
    const int32_t *prompt_ids;
    size_t n_prompt_ids;
    int max_tokens; /* >= 1; 0 is allowed with score_prompt: nothing is generated then */
    SamplingParams sampling;
    BackendText stops[BACKEND_MAX_STOPS];
    int n_stops;
    /* Zero, what a caller gets who sets none of these, is: no scores, no echo. Neither changes a
     * bit of what is generated. */
    bool want_scores;  /* tokens come with their BackendScores */
    int n_best;        /* with want_scores: 0 .. BACKEND_MAX_LOGPROBS most likely tokens in each */
    bool score_prompt; /* the prompt's tokens are given out first, each by a step of its own
                          (STEP_PROMPT_TOKEN), with scores if want_scores says so */
} BackendRequest;      /* borrowed during backend_start only */

typedef enum { STOP_NONE, STOP_MAX_TOKENS, STOP_EOS, STOP_SEQUENCE } StopReason;

typedef struct {
    int32_t id;
    double logprob;
} BackendScore;

/* How likely a token was: natural logarithms of the softmax of the model's own logits, at
 * temperature 1, before any bias, penalty or filter. Finite, at most 0, and the same bits on every
 * machine (docs/numerics.md, likelihoods). best begins with the most likely token, equal logits by
 * lower id; the step's token is among them only if it is that likely. */
typedef struct {
    double logprob; /* of the step's token */
    int n_best;     /* as requested; fewer in a smaller vocabulary */
    BackendScore best[BACKEND_MAX_LOGPROBS];
} BackendScores;

typedef enum {
    STEP_PROMPT,      /* a chunk of the prompt was computed; nothing to send */
    STEP_TOKEN,       /* one token: id, text, scores */
    STEP_END,         /* the job is over: reason, matched; id and scores of an end of text */
    STEP_PROMPT_TOKEN /* the next token of the prompt (score_prompt): id, text, scores. All come, in
                         order, before the first STEP_TOKEN or the STEP_END; a STEP_PROMPT may
                         come before, between and behind them */
} StepKind;

typedef struct {
    StepKind kind;
    int id;           /* STEP_TOKEN: the token; -1 for held text that an end of text released.
                         STEP_END: the end of text that the model chose, or -1 */
    const char *text; /* STEP_TOKEN: valid UTF-8, may be empty; valid until the next call.
                         STEP_PROMPT_TOKEN: likewise, and all of them together are the prompt's
                         text, special tokens spelled out; what is no UTF-8 in it becomes U+FFFD.
                         The bytes of a single token: token_text */
    size_t n_text;
    /* NULL without want_scores, for the prompt's first token, which nothing precedes, for held
     * text, and for an end that is no token. Valid until the next call. */
    const BackendScores *scores;
    StopReason reason; /* STEP_END */
    const char
        *matched; /* STEP_END with STOP_SEQUENCE: the stop string, valid until the next start */
    size_t n_matched;
    int n_prompt_done; /* prompt tokens that are in the cache, reused ones included */
} BackendStep;

typedef struct {
    const char *model_name;
    const char *tokenizer_kind; /* "hf-json" */
    const char *quant_kind;     /* "F32" */
    const char *isa;            /* "avx2": the kernels in use */
    int vocab_size;
    int n_ctx;             /* the smaller of the model's context and --max-context */
    uint64_t model_bytes;  /* resident weights */
    uint64_t memory_bytes; /* model_bytes + KV cache + scratch */
    /* 16 hex digits that name weights and configuration: the same weights in the same types have
     * the same ones, from whatever kind of file. NULL when they are not known: a packed file of an
     * earlier version does not have them, and must be written again. */
    const char *fingerprint;
} BackendInfo;

typedef struct Backend Backend;

/* One implementation of a backend. All functions get the Backend; only free may be called on a
 * half-built one. */
typedef struct {
    const BackendInfo *(*info)(const Backend *b);

    /* Token count of a prompt, for the context limit of a request; -1 when it has more bytes than
     * any valid prompt. */
    int (*count_tokens)(Backend *b, BackendText prompt);

    /* The token ids of a text, *n of them; NULL when it has more bytes than any valid prompt. A
     * running job is not disturbed. allow_special: "<|endoftext|>" becomes its id, as it never does
     * in a prompt. Valid until the next tokenize or count_tokens. */
    const int32_t *(*tokenize)(Backend *b, BackendText text, bool allow_special, size_t *n);

    /* The bytes of a token, *n of them: not NUL-terminated, often no whole characters, valid as
     * long as the backend. *special (may be NULL): a token like <|endoftext|>, which has no text in
     * what is generated; its bytes are its name. NULL: id is outside the vocabulary. */
    const char *(*token_text)(const Backend *b, int id, size_t *n, bool *special);

    /* Begins a job; a job that was running is dropped. What an earlier job left in the cache may be
     * reused, as far as it changes no bit of the result; with score_prompt and want_scores nothing
     * is. Errors: ERR_LIMIT (prompt empty or longer than n_ctx), ERR_USAGE (an id of the prompt or
     * of a bias outside the vocabulary, max_tokens or n_best out of range). */
    ErrCode (*start)(Backend *b, const BackendRequest *request, Err *err);

    /* At most one chunk or token. tap: may be NULL; its yield may end the step with ERR_CANCELLED.
     * After an error the job is over. Errors: ERR_CANCELLED, ERR_NUMERIC, ERR_MEMORY. */
    ErrCode (*step)(Backend *b, const Tap *tap, BackendStep *out, Err *err);

    /* Drops the job; allowed at any time between steps. */
    void (*cancel)(Backend *b);

    /* Of the job started last: its prompt's tokens, and how many of them were not computed because
     * an earlier job left them in the cache. */
    int (*n_prompt_tokens)(const Backend *b);
    int (*n_cached_tokens)(const Backend *b);

    /* May be NULL. One piece of preparation, a millisecond at most, to be called while nothing else
     * is to be done; false when nothing is left. Jobs do not depend on it. */
    bool (*idle)(Backend *b);

    void (*free)(Backend *b);
} BackendOps;

struct Backend {
    const BackendOps *ops;
};

#endif
