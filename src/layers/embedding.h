/* layers/embedding.h: token plus position embedding, the input of block 0.
 *
 * May include: kernels. */
#ifndef LLORCH_LAYERS_EMBEDDING_H
#define LLORCH_LAYERS_EMBEDDING_H

#include <stdint.h>

#include "kernels/kernels.h"

typedef struct {
    KernMatrix wte;   /* `wte.weight` [vocab, dim], of any type; shared with a tied head */
    const float *wpe; /* `wpe.weight` [n_ctx, dim], row-major */
    int dim;
} Embedding;

/* x[t,:] = wte[ids[t],:] + wpe[start_pos + t,:]
 *
 * Shapes  ids: [n_tokens], each inside the vocabulary; x: [n_tokens, dim]. start_pos + n_tokens <=
 * n_ctx. Numbers one addition an element. */
void embedding_forward(const Embedding *e, const Kernels *k, float *x, const int32_t *ids,
                       int n_tokens, int start_pos);

#endif
