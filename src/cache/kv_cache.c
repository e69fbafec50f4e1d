/* cache/kv_cache.c: see kv_cache.h.
 *
 * May include: common, kernels. */
#include "cache/kv_cache.h"

#include "kernels/kernels.h"

static int pad(int n)
{
    return (int)kern_pad((size_t)n);
}

/* Floats of keys and of values; false on overflow. The padded ones may differ: keys pad positions,
 * values dimensions too. */
static bool sizes(int n_layers, int n_heads, int head_dim, int n_ctx, size_t *k, size_t *v)
{
    size_t heads;

    return size_mul((size_t)n_layers, (size_t)n_heads, &heads) &&
           size_mul(heads, (size_t)pad(n_ctx), &heads) && size_mul(heads, (size_t)head_dim, k) &&
           size_mul(heads, (size_t)pad(head_dim), v);
}

ErrCode kv_cache_plan(size_t *total_bytes, int n_layers, int n_heads, int head_dim, int n_ctx,
                      Err *err)
{
    size_t total = *total_bytes, k, v;

    if (!sizes(n_layers, n_heads, head_dim, n_ctx, &k, &v) ||
        !arena_plan(&total, k, sizeof(float)) || !arena_plan(&total, v, sizeof(float)))
        return err_set(err, ERR_LIMIT,
                       "the KV cache of %d layers, %d heads of %d and %d positions is too large",
                       n_layers, n_heads, head_dim, n_ctx);
    *total_bytes = total;
    return ERR_OK;
}

ErrCode kv_cache_init(KvCache *c, Arena *arena, int n_layers, int n_heads, int head_dim, int n_ctx,
                      Err *err)
{
    size_t n_k, n_v;
    float *k = NULL, *v = NULL;

    if (sizes(n_layers, n_heads, head_dim, n_ctx, &n_k, &n_v)) {
        k = arena_alloc(arena, n_k, sizeof(float));
        v = arena_alloc(arena, n_v, sizeof(float));
    }
    if (k == NULL || v == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the KV cache");
    *c = (KvCache){.k = k,
                   .v = v,
                   .n_layers = n_layers,
                   .n_heads = n_heads,
                   .head_dim = head_dim,
                   .n_ctx = n_ctx,
                   .n_ctx_pad = pad(n_ctx),
                   .head_pad = pad(head_dim)};
    return ERR_OK;
}

static size_t head_index(const KvCache *c, int layer, int head)
{
    return (size_t)layer * (size_t)c->n_heads + (size_t)head;
}

static size_t key_offset(const KvCache *c, int layer, int head)
{
    return head_index(c, layer, head) * (size_t)c->n_ctx_pad * (size_t)c->head_dim;
}

static size_t value_offset(const KvCache *c, int layer, int head)
{
    return head_index(c, layer, head) * (size_t)c->n_ctx_pad * (size_t)c->head_pad;
}

/* Where element 0 of a position lies; its element d is KERN_PANEL * d floats on. */
static size_t key_place(const KvCache *c, int pos)
{
    return (size_t)(pos / KERN_PANEL) * (size_t)c->head_dim * KERN_PANEL +
           (size_t)(pos % KERN_PANEL);
}

static size_t value_place(const KvCache *c, int pos, int d)
{
    return (size_t)(d / KERN_PANEL) * kv_cache_value_stride(c) + (size_t)pos * KERN_PANEL +
           (size_t)(d % KERN_PANEL);
}

ErrCode kv_cache_write(KvCache *c, int layer, int start, const float *k, const float *v,
                       size_t stride, int n_rows, Err *err)
{
    if (start < 0 || n_rows < 0 || n_rows > c->n_ctx - start)
        return err_set(err, ERR_LIMIT,
                       "KV cache: positions %d to %lld do not fit into a context of %d", start,
                       (long long)start + n_rows - 1, c->n_ctx);
    for (int h = 0; h < c->n_heads; h++) {
        float *keys = c->k + key_offset(c, layer, h);
        float *values = c->v + value_offset(c, layer, h);

        for (int r = 0; r < n_rows; r++) {
            const size_t from = (size_t)r * stride + (size_t)h * (size_t)c->head_dim;
            float *key = keys + key_place(c, start + r);

            for (int d = 0; d < c->head_dim; d++) {
                key[(size_t)d * KERN_PANEL] = k[from + (size_t)d];
                values[value_place(c, start + r, d)] = v[from + (size_t)d];
            }
        }
    }
    return ERR_OK;
}

void kv_cache_advance(KvCache *c, int n_rows)
{
    c->length += n_rows;
}

void kv_cache_truncate(KvCache *c, int length)
{
    c->length = length;
}

void kv_cache_read(const KvCache *c, int layer, float *k, float *v, int n_rows)
{
    for (int r = 0; r < n_rows; r++)
        for (int h = 0; h < c->n_heads; h++) {
            const float *key = kv_cache_keys(c, layer, h) + key_place(c, r);
            const float *values = kv_cache_values(c, layer, h);

            for (int d = 0; d < c->head_dim; d++) {
                *k++ = key[(size_t)d * KERN_PANEL];
                *v++ = values[value_place(c, r, d)];
            }
        }
}

const float *kv_cache_keys(const KvCache *c, int layer, int head)
{
    return c->k + key_offset(c, layer, head);
}

const float *kv_cache_values(const KvCache *c, int layer, int head)
{
    return c->v + value_offset(c, layer, head);
}

size_t kv_cache_value_stride(const KvCache *c)
{
    return (size_t)c->n_ctx_pad * KERN_PANEL;
}

size_t kv_cache_bytes(const KvCache *c)
{
    const size_t positions = (size_t)c->n_layers * (size_t)c->n_heads * (size_t)c->n_ctx_pad;

    return positions * (size_t)(c->head_dim + c->head_pad) * sizeof(float);
}
