/* sampling/likelihood.h: how likely a row of logits makes its tokens, in double: log-softmax at
 * temperature 1.
 *
 * Same bits on every machine (docs/numerics.md, likelihoods): exp and log of the C library differ
 * between versions, and between processors with and without fused multiply-add.
 *
 * Logits must be finite (sampling_check_finite).
 *
 * May include: nothing. */
#ifndef LLORCH_SAMPLING_LIKELIHOOD_H
#define LLORCH_SAMPLING_LIKELIHOOD_H

#include <stdint.h>

enum { LIKELIHOOD_LANES = 16 };

#define LIKELIHOOD_EXP_LOW (-708.0) /* results below would be subnormal: they are 0 */

/* x <= 0. */
double likelihood_exp(double x);

/* x finite, >= 1: the result is not negative, and 0 for 1. */
double likelihood_log(double x);

/* log(sum over i of exp(l[i])), n >= 1: l[id] minus this is the log of token id's probability, at
 * most 0. */
double likelihood_log_sum(const float *l, int n);

/* The sum of 16 lanes, in which element i of a row belongs to lane i mod 16: folded in halves. */
double likelihood_fold(double lanes[LIKELIHOOD_LANES]);

/* Writes the ids of the n_best (0..n) most likely tokens, the most likely first; of equal ones the
 * lower id comes first. */
void likelihood_best(const float *l, int n, int n_best, int32_t *ids);

#endif
