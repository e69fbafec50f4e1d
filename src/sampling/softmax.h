/* sampling/softmax.h: logits to probabilities (checkpoint 11).
 *
 * May include: kernels. */
#ifndef LLORCH_SAMPLING_SOFTMAX_H
#define LLORCH_SAMPLING_SOFTMAX_H

#include "kernels/kernels.h"

/* p[i] = exp(l[i] / temperature - m) / S with m the maximum and S summed over 16 lanes (numerics,
 * reductions).
 *
 * Shapes  p, logits: [n], n >= 1; p == logits is allowed.
 * Numbers l / temperature is skipped when temperature is 1; e[i] * (1 / S), not e[i] / S.
 * temperature >= 1e-6 and finite logits: checked by the caller (sampling_check_finite). */
void sampling_softmax(const Kernels *k, float *p, const float *logits, int n, float temperature);

#endif
