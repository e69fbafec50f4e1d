/* cache/kv_cache.c: see kv_cache.h.
 *
 * May include: common, kernels. */
#include "cache/kv_cache.h"

#include <math.h>

#include "kernels/elementary.h"

static int pad(int n)
{
    return (int)kern_pad((size_t)n);
}

static size_t element_bytes(KernType type)
{
    return type == KERN_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Elements of keys and of values; false on overflow. The padded ones may differ: keys pad
 * positions, values dimensions too. */
static bool sizes(int n_layers, int n_heads, int head_dim, int n_ctx, size_t *k, size_t *v)
{
    size_t heads;

    return size_mul((size_t)n_layers, (size_t)n_heads, &heads) &&
           size_mul(heads, (size_t)pad(n_ctx), &heads) && size_mul(heads, (size_t)head_dim, k) &&
           size_mul(heads, (size_t)pad(head_dim), v);
}

ErrCode kv_cache_plan(size_t *total_bytes, KernType type, int n_layers, int n_heads, int head_dim,
                      int n_ctx, Err *err)
{
    size_t total = *total_bytes, k, v;

    if (!sizes(n_layers, n_heads, head_dim, n_ctx, &k, &v) ||
        !arena_plan(&total, k, element_bytes(type)) || !arena_plan(&total, v, element_bytes(type)))
        return err_set(err, ERR_LIMIT,
                       "the KV cache of %d layers, %d heads of %d and %d positions is too large",
                       n_layers, n_heads, head_dim, n_ctx);
    *total_bytes = total;
    return ERR_OK;
}

ErrCode kv_cache_init(KvCache *c, Arena *arena, KernType type, int n_layers, int n_heads,
                      int head_dim, int n_ctx, Err *err)
{
    size_t n_k, n_v;
    void *k = NULL, *v = NULL;

    if (sizes(n_layers, n_heads, head_dim, n_ctx, &n_k, &n_v)) {
        k = arena_alloc(arena, n_k, element_bytes(type));
        v = arena_alloc(arena, n_v, element_bytes(type));
    }
    if (k == NULL || v == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the KV cache");
    *c = (KvCache){.type = type,
                   .k = k,
                   .v = v,
                   .n_layers = n_layers,
                   .n_heads = n_heads,
                   .head_dim = head_dim,
                   .n_ctx = n_ctx,
                   .n_ctx_pad = pad(n_ctx),
                   .head_pad = pad(head_dim)};
    return ERR_OK;
}

static size_t value_stride(const KvCache *c)
{
    return (size_t)c->n_ctx_pad * KERN_PANEL;
}

/* Element 0 of a head's keys and values. */
static size_t first_key(const KvCache *c, int layer, int head)
{
    return ((size_t)layer * (size_t)c->n_heads + (size_t)head) * (size_t)c->n_ctx_pad *
           (size_t)c->head_dim;
}

static size_t first_value(const KvCache *c, int layer, int head)
{
    return ((size_t)layer * (size_t)c->n_heads + (size_t)head) * (size_t)c->n_ctx_pad *
           (size_t)c->head_pad;
}

/* Where dimension 0 of a position lies among a head's keys; dimension d is KERN_PANEL * d on. */
static size_t key_place(const KvCache *c, int pos)
{
    return (size_t)(pos / KERN_PANEL) * (size_t)c->head_dim * KERN_PANEL +
           (size_t)(pos % KERN_PANEL);
}

/* Where dimensions d .. d + 7 of a position lie, side by side, among a head's values; d is a
 * multiple of 8. */
static size_t value_place(const KvCache *c, int pos, int d)
{
    return (size_t)(d / KERN_PANEL) * value_stride(c) + (size_t)pos * KERN_PANEL;
}

static int dims_left(const KvCache *c, int d)
{
    return c->head_dim - d < KERN_PANEL ? c->head_dim - d : KERN_PANEL;
}

/* One position of one head, eight dimensions at a time. */
static void write_f32(const KvCache *c, float *keys, float *values, int pos, const float *k,
                      const float *v)
{
    for (int d = 0; d < c->head_dim; d += KERN_PANEL) {
        float *key = keys + key_place(c, pos) + (size_t)d * KERN_PANEL;
        float *value = values + value_place(c, pos, d);
        const int n = dims_left(c, d);

        for (int i = 0; i < n; i++) {
            key[(size_t)i * KERN_PANEL] = k[d + i];
            value[i] = v[d + i];
        }
    }
}

static bool all_finite(const uint16_t *half, int n)
{
    uint32_t carry = 0; /* out of the exponent when that is all ones */

    for (int i = 0; i < n; i++)
        carry |= (half[i] & 0x7fffu) + 0x0400u;
    return (carry & 0x8000u) == 0;
}

/* false: a key or a value does not exist in f16. An infinite key would not show in the result: its
 * score would count as nothing. */
static bool write_f16(const KvCache *c, const Kernels *kernels, uint16_t *keys, uint16_t *values,
                      int pos, const float *k, const float *v)
{
    bool finite = true;

    for (int d = 0; d < c->head_dim; d += KERN_PANEL) {
        uint16_t *key = keys + key_place(c, pos) + (size_t)d * KERN_PANEL;
        const int n = dims_left(c, d);
        uint16_t *value = values + value_place(c, pos, d);
        uint16_t half[KERN_PANEL];

        kernels->to_f16(half, k + d, (size_t)n);
        kernels->to_f16(value, v + d, (size_t)n);
        finite = finite && all_finite(half, n) && all_finite(value, n);
        for (int i = 0; i < n; i++)
            key[(size_t)i * KERN_PANEL] = half[i];
    }
    return finite;
}

/* Names the first of a head's keys k and values v that write_f16 did not find finite. */
static ErrCode refuse(const KvCache *c, int layer, int pos, const float *k, const float *v,
                      Err *err)
{
    const int n = c->head_dim;
    int d = 0; /* the keys, then the values */
    float x = k[0];

    while (d < 2 * n - 1 && isfinite(kern_widen_f16(kern_to_f16(x)))) {
        d++;
        x = d < n ? k[d] : v[d - n];
    }
    if (isfinite(x))
        return err_set(err, ERR_NUMERIC,
                       "KV cache: layer %d, position %d: a %s of %.3g is beyond the range of "
                       "float16; use --kv-type f32",
                       layer, pos, d < n ? "key" : "value", (double)x);
    return err_set(err, ERR_NUMERIC, "KV cache: layer %d, position %d: a %s is not finite", layer,
                   pos, d < n ? "key" : "value");
}

ErrCode kv_cache_write(KvCache *c, const Kernels *kernels, int layer, int start, const float *k,
                       const float *v, size_t stride, int n_rows, Err *err)
{
    if (start < 0 || n_rows < 0 || n_rows > c->n_ctx - start)
        return err_set(err, ERR_LIMIT,
                       "KV cache: positions %d to %lld do not fit into a context of %d", start,
                       (long long)start + n_rows - 1, c->n_ctx);
    for (int h = 0; h < c->n_heads; h++) {
        const size_t key = first_key(c, layer, h), value = first_value(c, layer, h);

        for (int r = 0; r < n_rows; r++) {
            const size_t from = (size_t)r * stride + (size_t)h * (size_t)c->head_dim;

            if (c->type == KERN_F32)
                write_f32(c, (float *)c->k + key, (float *)c->v + value, start + r, k + from,
                          v + from);
            else if (!write_f16(c, kernels, (uint16_t *)c->k + key, (uint16_t *)c->v + value,
                                start + r, k + from, v + from))
                return refuse(c, layer, start + r, k + from, v + from, err);
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

static float element(const KvCache *c, const void *base, size_t i)
{
    return c->type == KERN_F32 ? ((const float *)base)[i]
                               : kern_widen_f16(((const uint16_t *)base)[i]);
}

void kv_cache_read(const KvCache *c, int layer, float *k, float *v, int n_rows)
{
    for (int r = 0; r < n_rows; r++)
        for (int h = 0; h < c->n_heads; h++) {
            const size_t key = first_key(c, layer, h) + key_place(c, r);
            const size_t value = first_value(c, layer, h);

            for (int d = 0; d < c->head_dim; d++) {
                const int panel = d / KERN_PANEL * KERN_PANEL;

                *k++ = element(c, c->k, key + (size_t)d * KERN_PANEL);
                *v++ = element(c, c->v, value + value_place(c, r, panel) + (size_t)(d - panel));
            }
        }
}

KernHead kv_cache_head(const KvCache *c, int layer, int head)
{
    const size_t bytes = element_bytes(c->type);

    return (KernHead){.type = c->type,
                      .k_panels = (const char *)c->k + first_key(c, layer, head) * bytes,
                      .v_panels = (const char *)c->v + first_value(c, layer, head) * bytes,
                      .v_stride = value_stride(c),
                      .head_dim = c->head_dim};
}

size_t kv_cache_bytes(const KvCache *c)
{
    const size_t positions = (size_t)c->n_layers * (size_t)c->n_heads * (size_t)c->n_ctx_pad;

    return positions * (size_t)(c->head_dim + c->head_pad) * element_bytes(c->type);
}
