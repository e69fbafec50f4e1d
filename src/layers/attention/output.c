/* layers/attention/output.c: see output.h.
 *
 * May include: common, kernels, cache, layers. */
#include "layers/attention/output.h"

void output_values(const Kernels *k, float *o, const float *e, float inv, const KvCache *cache,
                   int layer, int head, int n_keys)
{
    k->attn_values(o, e, kv_cache_values(cache, layer, head), kv_cache_value_stride(cache), n_keys,
                   cache->head_dim, inv);
}

bool output_forward(const AttentionOutput *l, const Kernels *k, float *y, const float *merged,
                    int n_tokens, float *scratch, const Tap *tap)
{
    return linear_forward(&l->c_proj, k, y, merged, n_tokens, scratch, tap);
}
