/* eval/divergence.h: how far two models with the same tokens are apart on a text: the price of
 * other weights as a number.
 *
 * May include: common, eval, kernels, model, tokenizer. */
#ifndef LLORCH_EVAL_DIVERGENCE_H
#define LLORCH_EVAL_DIVERGENCE_H

#include <stdbool.h>

#include "eval/window_mean.h"
#include "eval/windows.h"
#include "tokenizer/tokenizer.h"

/* Two rows of logits for the same token. */
typedef struct {
    double kl;          /* sum of p log(p / q) in nats: p of the first, q of the second; >= 0 */
    double log_sums[2]; /* likelihood_log_sum of each */
    double largest;     /* largest |difference| of two logits, as they are */
    bool same_top;      /* the most likely token is the same */
} DivergenceRow;

DivergenceRow divergence_row(const float *p, const float *q, int n);

typedef struct {
    WindowMean nll[2]; /* of the first and the second model, as perplexity_run gives it */
    WindowMean loss;   /* second minus first: the log of the ratio of the perplexities */
    WindowMean kl;
    double kl_p50, kl_p99, kl_max; /* of the tokens, by nearest rank */
    double largest;                /* logit difference */
    size_t n_same_top;             /* tokens for which both would choose the same */
} Divergence;

/* plan->n_models is 2. Errors: those of windows_run. */
ErrCode divergence_run(Divergence *out, const WindowsPlan *plan, Err *err) ERR_CHECK;

/* Whether both tokenizers turn every text into the same ids: tokens and merges agree. names: for
 * the message. Errors: ERR_FORMAT with the first difference. */
ErrCode divergence_same_tokens(const Tokenizer *a, const Tokenizer *b, const char *name_a,
                               const char *name_b, Err *err) ERR_CHECK;

#endif
