/* layers/linear.c: see linear.h.
 *
 * May include: common, kernels. */
#include "layers/linear.h"

/* Slices of 24 panels and more are multiples of that, so that tiles (of two panels) and streams (of
 * four) stay whole; shorter ones are whole panels at least. */
enum { SLICE_OUTPUTS = 24 * KERN_PANEL };

/* Outputs of one slice: about half a millisecond of multiply-adds or of weights, whichever is less.
 */
static int slice_outputs(const KernMatrix *w, const Kernels *k, int n_tokens)
{
    const size_t by_fma = k->slice_fma / ((size_t)w->k * (size_t)n_tokens);
    const size_t panel_bytes = kern_panels_bytes(w->type, KERN_PANEL, (size_t)w->k);
    const size_t by_bytes = k->slice_bytes * KERN_PANEL / panel_bytes;
    const size_t outputs = by_fma < by_bytes ? by_fma : by_bytes;
    const size_t unit = outputs < SLICE_OUTPUTS ? KERN_PANEL : SLICE_OUTPUTS;
    const size_t whole = outputs / unit * unit;

    if (whole >= (size_t)w->n)
        return w->n;
    return whole > 0 ? (int)whole : KERN_PANEL;
}

bool linear_forward(const Linear *l, const Kernels *k, float *y, const float *x, int n_tokens,
                    void *scratch, const Tap *tap)
{
    const KernMatrix *w = &l->w;
    const int step = slice_outputs(w, k, n_tokens);

    k->linear_input(scratch, w->type, x, (size_t)w->k, n_tokens, w->k);
    for (int o = 0; o < w->n; o += step) {
        const int n = w->n - o < step ? w->n - o : step;

        k->linear(y + o, (size_t)w->n, w, o, n, l->bias != NULL ? l->bias + o : NULL, scratch,
                  n_tokens);
        if (!tap_yield(tap))
            return false;
    }
    return true;
}
