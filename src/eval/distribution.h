/* eval/distribution.h: what one row of logits says, in double: softmax at temperature 1, without a
 * penalty or a filter.
 *
 * Logits must be finite (sampling_check_finite).
 *
 * May include: nothing. */
#ifndef LLORCH_EVAL_DISTRIBUTION_H
#define LLORCH_EVAL_DISTRIBUTION_H

#include <stdint.h>

/* -log of the probability of token id, in nats: the bits that a completion's logprobs have,
 * negated.
 */
double distribution_nll(const float *l, int n, int32_t id);

/* -sum of p log2 p, in bits. */
double distribution_entropy(const float *l, int n);

/* 1 for the most likely token; of equal ones the lower id comes first. */
int distribution_rank(const float *l, int n, int32_t id);

/* The first of them: checkpoint 10's argmax. */
int distribution_top(const float *l, int n);

#endif
