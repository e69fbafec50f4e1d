/* layers/linear.h: a fully connected layer over packed weights; the only place that cuts a product
 * into slices, so that the yield hook is called within a few milliseconds.
 *
 * May include: common, kernels. */
#ifndef LLORCH_LAYERS_LINEAR_H
#define LLORCH_LAYERS_LINEAR_H

#include <stdbool.h>

#include "common/tap.h"
#include "kernels/kernels.h"

typedef struct {
    const float *panels; /* [ceil(n_out / 8)][n_in][8], borrowed from the model */
    const float *bias;   /* [n_out] or NULL, borrowed */
    int n_in, n_out;
} Linear;

/* y[t, o] = bias[o] + sum_i x[t, i] * W[i][o]
 *
 * Shapes  x: [n_tokens, n_in], y: [n_tokens, n_out], both contiguous, disjoint.
 * Memory  scratch: kern_linear_scratch(n_tokens, n_in) floats.
 * Returns false when the tap's yield asked to stop: y is then incomplete. */
bool linear_forward(const Linear *l, const Kernels *k, float *y, const float *x, int n_tokens,
                    float *scratch, const Tap *tap);

#endif
