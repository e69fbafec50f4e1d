/* layers/attention/attention.h: causal self-attention: qkv, cache, scores, values, c_proj.
 *
 * May include: common, kernels, cache, layers. */
#ifndef LLORCH_LAYERS_ATTENTION_ATTENTION_H
#define LLORCH_LAYERS_ATTENTION_ATTENTION_H

#include "cache/kv_cache.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/attention/output.h"
#include "layers/attention/qkv.h"

typedef struct {
    Qkv qkv;
    AttentionOutput output;
    int n_heads, head_dim;
    float scale; /* scores_scale */
} Attention;

/* Room of one forward pass, shared by all blocks. */
typedef struct {
    float *combined; /* [max_tokens, 3 * dim] */
    float *merged;   /* [max_tokens, dim] */
    float *rows;     /* [KERN_QUERIES, n_ctx padded]: scores, then e of some queries and one head */
    float *probe;    /* [n_ctx padded]: masked scores and probabilities for an observer */
    void *scratch;   /* for linear */
} AttentionRoom;

/* y = attention(x) for positions start_pos .. start_pos + n_tokens - 1; appends their keys and
 * values to the cache's layer (without advancing its length).
 *
 * Shapes  x, y: [n_tokens, dim], disjoint.
 * Errors  ERR_LIMIT past the cache's end, ERR_CANCELLED when the yield asked to stop. */
ErrCode attention_forward(const Attention *a, const Kernels *k, float *y, const float *x,
                          int n_tokens, int start_pos, int layer, KvCache *cache,
                          const AttentionRoom *room, const Tap *tap, Err *err) ERR_CHECK;

#endif
