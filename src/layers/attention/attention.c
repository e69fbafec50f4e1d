/* layers/attention/attention.c: see attention.h.
 *
 * May include: common, kernels, cache, layers. */
#include "layers/attention/attention.h"

#include <math.h>

#include "layers/attention/scores.h"

/* What production never computes: the scores of masked keys, the masked row and its probabilities.
 * Uses room->rows and room->probe and leaves nothing behind. */
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

    scores_forward(k, room->probe, 0, q, 0, 1, cache, layer, head, n_all, a->scale);
    tap->observe(tap->ctx, &event);

    for (int i = pos + 1; i < n_all; i++)
        room->probe[i] = -INFINITY;
    event.stage = TAP_MASKED;
    tap->observe(tap->ctx, &event);

    scores_forward(k, room->rows, 0, q, 0, 1, cache, layer, head, pos + 1, a->scale);
    inv = scores_softmax(k, room->rows, pos + 1);
    for (int i = 0; i < n_all; i++)
        room->probe[i] = i <= pos ? room->rows[i] * inv : 0.0f;
    event.stage = TAP_PROBS;
    tap->observe(tap->ctx, &event);
}

/* One head of n neighbouring queries, the first at position pos: scores, softmax, values into their
 * columns of the merged rows. */
static void attend_queries(const Attention *a, const Kernels *k, float *merged, const float *q,
                           size_t stride, int n, int pos, int layer, int head, const KvCache *cache,
                           const AttentionRoom *room, const Tap *tap)
{
    const size_t row = kern_pad((size_t)cache->n_ctx);
    float inv[KERN_QUERIES];

    scores_forward(k, room->rows, row, q, stride, n, cache, layer, head, pos + 1, a->scale);
    tap_mark(tap, TAP_PART_SCORES, layer);
    for (int j = 0; j < n; j++)
        inv[j] = scores_softmax(k, room->rows + (size_t)j * row, pos + 1 + j);
    tap_mark(tap, TAP_PART_SOFTMAX, layer);
    output_values(k, merged, (size_t)a->n_heads * (size_t)a->head_dim, room->rows, row, inv, n,
                  cache, layer, head, pos + 1);
    tap_mark(tap, TAP_PART_VALUES, layer);
}

static bool attend(const Attention *a, const Kernels *k, const QkvView *view, int n_tokens,
                   int start_pos, int layer, const KvCache *cache, const AttentionRoom *room,
                   const Tap *tap)
{
    const size_t dim = (size_t)a->n_heads * (size_t)a->head_dim;

    for (int h = 0; h < a->n_heads; h++) {
        const size_t column = (size_t)h * (size_t)a->head_dim;

        for (int t = 0; tap_observes(tap) && t < n_tokens; t++)
            observe_row(a, k, view->q + (size_t)t * view->stride + column, cache, layer, h,
                        start_pos + t, start_pos + n_tokens, room, tap);
        for (int t = 0; t < n_tokens; t += KERN_QUERIES) {
            const int n = n_tokens - t < KERN_QUERIES ? n_tokens - t : KERN_QUERIES;

            attend_queries(a, k, room->merged + (size_t)t * dim + column,
                           view->q + (size_t)t * view->stride + column, view->stride, n,
                           start_pos + t, layer, h, cache, room, tap);
            if (!tap_yield(tap)) /* a head of all queries takes the scalar table too long */
                return false;
        }
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
    tap_mark(tap, TAP_PART_QKV, layer);
    tap_emit(tap, TAP_Q, layer, start_pos, n_tokens, dim, view.stride, view.q);
    tap_emit(tap, TAP_K, layer, start_pos, n_tokens, dim, view.stride, view.k);
    tap_emit(tap, TAP_V, layer, start_pos, n_tokens, dim, view.stride, view.v);
    code = kv_cache_write(cache, k, layer, start_pos, view.k, view.v, view.stride, n_tokens, err);
    if (code != ERR_OK)
        return code;
    tap_mark(tap, TAP_PART_CACHE, layer);
    if (!attend(a, k, &view, n_tokens, start_pos, layer, cache, room, tap) ||
        !output_forward(&a->output, k, y, room->merged, n_tokens, room->scratch, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    tap_mark(tap, TAP_PART_C_PROJ, layer);
    tap_emit(tap, TAP_ATTN_OUTPUT, layer, start_pos, n_tokens, dim, (size_t)dim, y);
    return ERR_OK;
}
