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
    KernMatrix w;      /* w.n outputs, w.k inputs; borrowed from the model */
    const float *bias; /* [w.n] or NULL, borrowed */
} Linear;

/* y[t, o] = bias[o] + sum_i x[t, i] * w[o, i]
 *
 * Shapes  x: [n_tokens, w.k], y: [n_tokens, w.n], both contiguous, disjoint.
 * Memory  scratch: kern_input_bytes(n_tokens, w.k) bytes, 64-byte aligned.
 * Returns false when the tap's yield asked to stop: y is then incomplete. */
bool linear_forward(const Linear *l, const Kernels *k, float *y, const float *x, int n_tokens,
                    void *scratch, const Tap *tap);

#endif
