/* layers/attention/scores.c: see scores.h.
 *
 * May include: kernels, cache. */
#include "layers/attention/scores.h"

#include <math.h>

float scores_scale(int head_dim, int layer, int scale_attn, int by_layer)
{
    float scale = scale_attn ? 1.0f / sqrtf((float)head_dim) : 1.0f;

    return by_layer ? scale / (float)(layer + 1) : scale;
}

void scores_forward(const Kernels *k, float *s, size_t lds, const float *q, size_t ldq,
                    int n_queries, const KvCache *cache, int layer, int head, int n_keys,
                    float scale)
{
    const KernHead panels = kv_cache_head(cache, layer, head);

    k->attn_scores(s, lds, q, ldq, n_queries, &panels, n_keys, scale);
}

float scores_softmax(const Kernels *k, float *s, int n_keys)
{
    return 1.0f / k->softmax_exp(s, s, n_keys);
}
