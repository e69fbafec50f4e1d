/* layers/layer_norm.h: LayerNorm over the last dimension (checkpoint 1).
 *
 * May include: kernels. */
#ifndef LLORCH_LAYERS_LAYER_NORM_H
#define LLORCH_LAYERS_LAYER_NORM_H

#include "kernels/kernels.h"

typedef struct {
    const float *gamma; /* [dim], `ln_1.weight`, borrowed from the model's weights */
    const float *beta;  /* [dim], `ln_1.bias`, borrowed */
    int dim;
    float eps; /* added to the variance, inside the square root */
} LayerNorm;

/* y[t,:] = (x[t,:] - mean) / sqrt(var + eps) * gamma + beta
 *
 * Shapes  x, y: [n_tokens, dim], row-major; y == x is allowed, partial overlap is not.
 * Numbers var divides by dim, not dim - 1; two passes; sums over 16 lanes (numerics, reductions).
 * Memory  allocates nothing, keeps no pointer.
 * Errors  none: shapes were checked when the model was loaded.
 * Source  Ba et al. 2016, eq. 3 and 4; agrees with torch.nn.LayerNorm. */
void layer_norm_forward(const LayerNorm *ln, const Kernels *k, float *y, const float *x,
                        int n_tokens);

#endif
