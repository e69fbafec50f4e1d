/* layers/layer_norm.c: see layer_norm.h.
 *
 * May include: kernels. */
#include "layers/layer_norm.h"

void layer_norm_forward(const LayerNorm *ln, const Kernels *k, float *y, const float *x,
                        int n_tokens)
{
    for (int t = 0; t < n_tokens; t++) {
        const size_t row = (size_t)t * (size_t)ln->dim;

        k->layer_norm(y + row, x + row, ln->gamma, ln->beta, ln->dim, ln->eps);
    }
}
