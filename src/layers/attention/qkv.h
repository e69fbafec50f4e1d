/* layers/attention/qkv.h: queries, keys and values of a block in one product (checkpoint 2).
 *
 * May include: common, kernels, layers. */
#ifndef LLORCH_LAYERS_ATTENTION_QKV_H
#define LLORCH_LAYERS_ATTENTION_QKV_H

#include <stdbool.h>

#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/linear.h"

typedef struct {
    Linear c_attn; /* `attn.c_attn` dim -> 3 * dim: thirds in the order q, k, v; head n owns columns
                      n*d .. n*d+d-1 of its third */
    int dim;
} Qkv;

/* Pointers into one combined result; rows are stride floats apart. */
typedef struct {
    const float *q, *k, *v; /* [n_tokens, dim] each */
    size_t stride;          /* 3 * dim */
} QkvView;

/* Shapes  x: [n_tokens, dim]; combined: [n_tokens, 3 * dim], disjoint from x. *view points into
 * combined. Returns false when the tap's yield asked to stop. */
bool qkv_forward(const Qkv *l, const Kernels *k, QkvView *view, float *combined, const float *x,
                 int n_tokens, void *scratch, const Tap *tap);

#endif
