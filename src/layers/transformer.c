/* layers/transformer.c: see transformer.h.
 *
 * May include: common, kernels, cache, layers. */
#include "layers/transformer.h"

ErrCode transformer_forward(const TransformerBlock *b, const Kernels *k, float *x, int n_tokens,
                            int start_pos, int layer, KvCache *cache, const TransformerRoom *room,
                            const Tap *tap, Err *err)
{
    const int dim = b->ln_1.dim;
    const size_t n = (size_t)n_tokens * (size_t)dim;
    ErrCode code;

    layer_norm_forward(&b->ln_1, k, room->norm, x, n_tokens);
    tap_mark(tap, TAP_PART_LN_1, layer);
    tap_emit(tap, TAP_LN_1, layer, start_pos, n_tokens, dim, (size_t)dim, room->norm);
    code = attention_forward(&b->attention, k, room->branch, room->norm, n_tokens, start_pos, layer,
                             cache, &room->attention, tap, err);
    if (code != ERR_OK)
        return code;
    k->add(x, room->branch, n);
    tap_mark(tap, TAP_PART_ADD, layer);

    layer_norm_forward(&b->ln_2, k, room->norm, x, n_tokens);
    tap_mark(tap, TAP_PART_LN_2, layer);
    tap_emit(tap, TAP_LN_2, layer, start_pos, n_tokens, dim, (size_t)dim, room->norm);
    if (!ffn_forward(&b->ffn, k, room->branch, room->norm, n_tokens, layer, room->hidden,
                     room->attention.scratch, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    tap_emit(tap, TAP_FFN, layer, start_pos, n_tokens, dim, (size_t)dim, room->branch);
    k->add(x, room->branch, n);
    tap_mark(tap, TAP_PART_ADD, layer);
    tap_emit(tap, TAP_BLOCK, layer, start_pos, n_tokens, dim, (size_t)dim, x);
    return ERR_OK;
}
