/* layers/linear.c: see linear.h.
 *
 * May include: common, kernels. */
#include "layers/linear.h"

/* Slices are multiples of 24 panels, so that tiles and streams stay whole. */
enum { SLICE_OUTPUTS = 24 * KERN_PANEL };

/* Outputs of one slice: about half a millisecond of multiply-adds or of weights, whichever is less.
 */
static int slice_outputs(const Linear *l, const Kernels *k, int n_tokens)
{
    const size_t by_fma = k->slice_fma / ((size_t)l->n_in * (size_t)n_tokens);
    const size_t by_weights = k->slice_weights / (size_t)l->n_in;
    const size_t outputs = by_fma < by_weights ? by_fma : by_weights;
    const size_t unit = outputs < SLICE_OUTPUTS ? KERN_PANEL : SLICE_OUTPUTS;
    const size_t whole = outputs / unit * unit;

    if (whole >= (size_t)l->n_out)
        return l->n_out;
    return whole > 0 ? (int)whole : KERN_PANEL;
}

bool linear_forward(const Linear *l, const Kernels *k, float *y, const float *x, int n_tokens,
                    float *scratch, const Tap *tap)
{
    const int step = slice_outputs(l, k, n_tokens);

    for (int o = 0; o < l->n_out; o += step) {
        const int n = l->n_out - o < step ? l->n_out - o : step;

        k->linear(y + o, (size_t)l->n_out, l->panels + (size_t)o * (size_t)l->n_in,
                  l->bias != NULL ? l->bias + o : NULL, x, (size_t)l->n_in, n_tokens, n, l->n_in,
                  scratch);
        if (!tap_yield(tap))
            return false;
    }
    return true;
}
