/* layers/embedding.c: see embedding.h.
 *
 * May include: kernels. */
#include "layers/embedding.h"

#include "kernels/pack.h"

void embedding_forward(const Embedding *e, const Kernels *k, float *x, const int32_t *ids,
                       int n_tokens, int start_pos)
{
    const size_t dim = (size_t)e->dim;

    for (int t = 0; t < n_tokens; t++) {
        float *row = x + (size_t)t * dim;

        kern_unpack_row(row, &e->wte, (size_t)ids[t]);
        k->add(row, e->wpe + (size_t)(start_pos + t) * dim, dim);
    }
}
