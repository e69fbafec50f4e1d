/* eval/distribution.h: what one row of logits says, in double: softmax at temperature 1, without a
 * penalty or a filter.
 *
 * Logits must be finite (sampling_check_finite).
 *
 * May include: nothing. */
#ifndef LLORCH_EVAL_DISTRIBUTION_H
#define LLORCH_EVAL_DISTRIBUTION_H

#include <stdint.h>

/* log(sum over i of exp(l[i])), n >= 1: l[i] minus this is the log of a probability. */
double distribution_log_sum(const float *l, int n);

/* -log of the probability of token id, in nats. */
double distribution_nll(const float *l, int n, int32_t id);

/* -sum of p log2 p, in bits. */
double distribution_entropy(const float *l, int n);

/* 1 for the most likely token; of equal ones the lower id comes first. */
int distribution_rank(const float *l, int n, int32_t id);

/* The first of them: checkpoint 10's argmax. */
int distribution_top(const float *l, int n);

/* Writes the ids of the n_best (1..n) most likely tokens, the most likely first, in the order of
 * distribution_rank. */
void distribution_best(const float *l, int n, int n_best, int32_t *ids);

#endif
