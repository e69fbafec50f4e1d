/* layers/transformer.h: one block, pre-norm with two plain residuals (checkpoint 7).
 *
 * May include: common, kernels, cache, layers. */
#ifndef LLORCH_LAYERS_TRANSFORMER_H
#define LLORCH_LAYERS_TRANSFORMER_H

#include "cache/kv_cache.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/attention/attention.h"
#include "layers/ffn.h"
#include "layers/layer_norm.h"

typedef struct {
    LayerNorm ln_1;
    Attention attention;
    LayerNorm ln_2;
    Ffn ffn;
} TransformerBlock;

/* Room of one forward pass, shared by all blocks. */
typedef struct {
    float *norm;   /* [max_tokens, dim]: ln_1, then ln_2 */
    float *branch; /* [max_tokens, dim]: attention, then feed-forward, before it is added */
    float *hidden; /* [max_tokens, ffn_dim] */
    AttentionRoom attention;
} TransformerRoom;

/* x = x + attention(ln_1(x)); x = x + ffn(ln_2(x)), in place.
 *
 * Shapes  x: [n_tokens, dim], disjoint from the room.
 * Errors  as attention_forward; x is then undefined. */
ErrCode transformer_forward(const TransformerBlock *b, const Kernels *k, float *x, int n_tokens,
                            int start_pos, int layer, KvCache *cache, const TransformerRoom *room,
                            const Tap *tap, Err *err) ERR_CHECK;

#endif
