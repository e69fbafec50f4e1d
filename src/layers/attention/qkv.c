/* layers/attention/qkv.c: see qkv.h.
 *
 * May include: common, kernels, layers. */
#include "layers/attention/qkv.h"

bool qkv_forward(const Qkv *l, const Kernels *k, QkvView *view, float *combined, const float *x,
                 int n_tokens, void *scratch, const Tap *tap)
{
    const size_t dim = (size_t)l->dim;

    *view =
        (QkvView){.q = combined, .k = combined + dim, .v = combined + 2 * dim, .stride = 3 * dim};
    return linear_forward(&l->c_attn, k, combined, x, n_tokens, scratch, tap);
}
