/* layers/attention/scores.h: how much one query looks at each key (checkpoint 4).
 *
 * May include: kernels, cache. */
#ifndef LLORCH_LAYERS_ATTENTION_SCORES_H
#define LLORCH_LAYERS_ATTENTION_SCORES_H

#include "cache/kv_cache.h"
#include "kernels/kernels.h"

/* 1 / sqrt(head_dim), exactly 0.125 for 64; 1 when scale_attn is off; divided by layer + 1 when
 * by_layer is on. */
float scores_scale(int head_dim, int layer, int scale_attn, int by_layer);

/* s[j, i] = scale * dot(q[j], key i) for the first n_keys + j positions of the cache: scaled,
 * before mask and softmax. The mask is n_keys itself: a query at position p is given p + 1 keys;
 * what lies behind a query's last key is undefined.
 *
 * Shapes  n_queries: 1 .. KERN_QUERIES neighbours; q: one head's part of their rows, ldq apart; s:
 * rows lds apart, room for kern_pad(n_keys + n_queries - 1). */
void scores_forward(const Kernels *k, float *s, size_t lds, const float *q, size_t ldq,
                    int n_queries, const KvCache *cache, int layer, int head, int n_keys,
                    float scale);

/* e[i] = exp(s[i] - max s), in place; returns 1 / (sum e): probability i is e[i] * that. */
float scores_softmax(const Kernels *k, float *s, int n_keys);

#endif
