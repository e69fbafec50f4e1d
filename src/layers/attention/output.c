/* layers/attention/output.c: see output.h.
 *
 * May include: common, kernels, cache, layers. */
#include "layers/attention/output.h"

void output_values(const Kernels *k, float *o, size_t ldo, const float *e, size_t lde,
                   const float *inv, int n_queries, const KvCache *cache, int layer, int head,
                   int n_keys)
{
    const KernHead panels = kv_cache_head(cache, layer, head);

    k->attn_values(o, ldo, e, lde, inv, n_queries, &panels, n_keys);
}

bool output_forward(const AttentionOutput *l, const Kernels *k, float *y, const float *merged,
                    int n_tokens, void *scratch, const Tap *tap)
{
    return linear_forward(&l->c_proj, k, y, merged, n_tokens, scratch, tap);
}
