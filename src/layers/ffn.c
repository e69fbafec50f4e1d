/* layers/ffn.c: see ffn.h.
 *
 * May include: common, kernels. */
#include "layers/ffn.h"

bool ffn_forward(const Ffn *f, const Kernels *k, float *y, const float *x, int n_tokens, int layer,
                 float *hidden, void *scratch, const Tap *tap)
{
    if (!linear_forward(&f->c_fc, k, hidden, x, n_tokens, scratch, tap))
        return false;
    tap_mark(tap, TAP_PART_FC, layer);
    k->activation[f->activation](hidden, hidden, (size_t)n_tokens * (size_t)f->c_fc.w.n);
    tap_mark(tap, TAP_PART_GELU, layer);
    if (!linear_forward(&f->c_proj, k, y, hidden, n_tokens, scratch, tap))
        return false;
    tap_mark(tap, TAP_PART_PROJ, layer);
    return true;
}
