/* layers/attention/attention.c: see attention.h.
 *
 * May include: common, kernels, cache, layers. */
#include "layers/attention/attention.h"

#include <math.h>

#include "layers/attention/scores.h"

/* What production never computes: the scores of masked keys, the masked row and its probabilities.
 * Uses room->row and room->probe and leaves nothing behind. */
static void observe_row(const Attention *a, const Kernels *k, const float *q, const KvCache *cache,
                        int layer, int head, int pos, int n_all, const AttentionRoom *room,
                        const Tap *tap)
{
    TapEvent event = {.stage = TAP_SCORES,
                      .layer = layer,
                      .head = head,
                      .start_pos = pos,
                      .n_rows = 1,
                      .n_cols = n_all,
                      .stride = (size_t)n_all,
                      .data = room->probe};
    float inv;

    scores_forward(k, room->probe, q, cache, layer, head, n_all, a->scale);
    tap->observe(tap->ctx, &event);

    for (int i = pos + 1; i < n_all; i++)
        room->probe[i] = -INFINITY;
    event.stage = TAP_MASKED;
    tap->observe(tap->ctx, &event);

    scores_forward(k, room->row, q, cache, layer, head, pos + 1, a->scale);
    inv = scores_softmax(k, room->row, pos + 1);
    for (int i = 0; i < n_all; i++)
        room->probe[i] = i <= pos ? room->row[i] * inv : 0.0f;
    event.stage = TAP_PROBS;
    tap->observe(tap->ctx, &event);
}

/* Every head of every query: scores, softmax, values into its columns of the merged row. */
static bool attend(const Attention *a, const Kernels *k, const QkvView *view, int n_tokens,
                   int start_pos, int layer, const KvCache *cache, const AttentionRoom *room,
                   const Tap *tap)
{
    const int dim = a->n_heads * a->head_dim;

    for (int h = 0; h < a->n_heads; h++) {
        for (int t = 0; t < n_tokens; t++) {
            const int n_keys = start_pos + t + 1;
            const size_t column = (size_t)h * (size_t)a->head_dim;
            const float *q = view->q + (size_t)t * view->stride + column;
            float inv;

            if (tap_observes(tap))
                observe_row(a, k, q, cache, layer, h, start_pos + t, start_pos + n_tokens, room,
                            tap);
            scores_forward(k, room->row, q, cache, layer, h, n_keys, a->scale);
            inv = scores_softmax(k, room->row, n_keys);
            output_values(k, room->merged + (size_t)t * (size_t)dim + column, room->row, inv, cache,
                          layer, h, n_keys);
        }
        if (!tap_yield(tap))
            return false;
    }
    return true;
}

ErrCode attention_forward(const Attention *a, const Kernels *k, float *y, const float *x,
                          int n_tokens, int start_pos, int layer, KvCache *cache,
                          const AttentionRoom *room, const Tap *tap, Err *err)
{
    const int dim = a->n_heads * a->head_dim;
    QkvView view;
    ErrCode code;

    if (!qkv_forward(&a->qkv, k, &view, room->combined, x, n_tokens, room->scratch, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    tap_emit(tap, TAP_Q, layer, start_pos, n_tokens, dim, view.stride, view.q);
    tap_emit(tap, TAP_K, layer, start_pos, n_tokens, dim, view.stride, view.k);
    tap_emit(tap, TAP_V, layer, start_pos, n_tokens, dim, view.stride, view.v);
    code = kv_cache_write(cache, layer, start_pos, view.k, view.v, view.stride, n_tokens, err);
    if (code != ERR_OK)
        return code;
    if (!attend(a, k, &view, n_tokens, start_pos, layer, cache, room, tap) ||
        !output_forward(&a->output, k, y, room->merged, n_tokens, room->scratch, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    tap_emit(tap, TAP_ATTN_OUTPUT, layer, start_pos, n_tokens, dim, (size_t)dim, y);
    return ERR_OK;
}
