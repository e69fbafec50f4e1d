/* layers/attention/output.h: values weighted by the probabilities, heads merged, c_proj (checkpoint
 * 5).
 *
 * May include: common, kernels, cache, layers. */
#ifndef LLORCH_LAYERS_ATTENTION_OUTPUT_H
#define LLORCH_LAYERS_ATTENTION_OUTPUT_H

#include <stdbool.h>

#include "cache/kv_cache.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/linear.h"

typedef struct {
    Linear c_proj; /* `attn.c_proj` dim -> dim: square, so a transposed one raises no shape error */
} AttentionOutput;

/* o[j, d] = inv[j] * sum_i e[j, i] * value_i[d]: one head of n_queries neighbours, query j over its
 * n_keys + j keys. o: [head_dim] each, their places in the merged rows (column head * head_dim),
 * ldo apart. e, rows lde apart, and inv: from scores_softmax. */
void output_values(const Kernels *k, float *o, size_t ldo, const float *e, size_t lde,
                   const float *inv, int n_queries, const KvCache *cache, int layer, int head,
                   int n_keys);

/* y = c_proj(merged). Shapes: merged, y: [n_tokens, dim], disjoint. Returns false when the yield
 * asked to stop. */
bool output_forward(const AttentionOutput *l, const Kernels *k, float *y, const float *merged,
                    int n_tokens, void *scratch, const Tap *tap);

#endif
