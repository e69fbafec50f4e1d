/* layers/ffn.c: see ffn.h.
 *
 * May include: common, kernels. */
#include "layers/ffn.h"

bool ffn_forward(const Ffn *f, const Kernels *k, float *y, const float *x, int n_tokens,
                 float *hidden, void *scratch, const Tap *tap)
{
    if (!linear_forward(&f->c_fc, k, hidden, x, n_tokens, scratch, tap))
        return false;
    k->activation[f->activation](hidden, hidden, (size_t)n_tokens * (size_t)f->c_fc.w.n);
    return linear_forward(&f->c_proj, k, y, hidden, n_tokens, scratch, tap);
}
