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

void scores_forward(const Kernels *k, float *s, const float *q, const KvCache *cache, int layer,
                    int head, int n_keys, float scale)
{
    k->attn_scores(s, q, kv_cache_keys(cache, layer, head), n_keys, cache->head_dim, scale);
}

float scores_softmax(const Kernels *k, float *s, int n_keys)
{
    return 1.0f / k->softmax_exp(s, s, n_keys);
}
