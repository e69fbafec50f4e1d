/* layers/ffn.h: the feed-forward part of a block, c_proj(activation(c_fc(x))) (checkpoint 6).
 *
 * May include: common, kernels. */
#ifndef LLORCH_LAYERS_FFN_H
#define LLORCH_LAYERS_FFN_H

#include <stdbool.h>

#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/linear.h"

typedef struct {
    Linear c_fc;   /* `mlp.c_fc`   dim -> ffn_dim */
    Linear c_proj; /* `mlp.c_proj` ffn_dim -> dim */
    Activation activation;
} Ffn;

/* Shapes  x, y: [n_tokens, dim], disjoint; hidden: [n_tokens, ffn_dim], overwritten. layer: for the
 * tap's marks only.
 * Returns false when the tap's yield asked to stop. */
bool ffn_forward(const Ffn *f, const Kernels *k, float *y, const float *x, int n_tokens, int layer,
                 float *hidden, void *scratch, const Tap *tap);

#endif
