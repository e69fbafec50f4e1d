/* cache/kv_cache.h: keys and values of every position and layer (checkpoint 3). Top level, because
 * every block uses it.
 *
 * One region per layer. A head's keys are panels of 8 positions, [n_ctx / 8][head_dim][8]; its
 * values are panels of 8 dimensions, [head_dim / 8][n_ctx][8]: both are what the kernels multiply,
 * so nothing is copied to attend.
 *
 * May include: common, kernels. */
#ifndef LLORCH_CACHE_KV_CACHE_H
#define LLORCH_CACHE_KV_CACHE_H

#include <stddef.h>

#include "common/arena.h"
#include "common/error.h"
#include "kernels/kernels.h"

typedef struct {
    KernType type; /* KERN_F32, or KERN_F16: half the memory, values rounded once when written */
    void *k;       /* [n_layers][n_heads][n_ctx_pad / 8][head_dim][8], zeroed at start */
    void *v;       /* [n_layers][n_heads][head_pad / 8][n_ctx_pad][8], zeroed at start */
    int n_layers, n_heads, head_dim;
    int n_ctx;     /* positions that may be written */
    int n_ctx_pad; /* n_ctx rounded up to whole panels */
    int head_pad;  /* head_dim rounded up to whole panels */
    int length;    /* positions that every layer holds: the P of the checkpoints */
} KvCache;

/* Adds the bytes of such a cache to *total_bytes. Errors: ERR_LIMIT when the size overflows. */
ErrCode kv_cache_plan(size_t *total_bytes, KernType type, int n_layers, int n_heads, int head_dim,
                      int n_ctx, Err *err) ERR_CHECK;

/* Takes the memory from arena, which must have been made from kv_cache_plan's figure. Errors:
 * ERR_MEMORY. */
ErrCode kv_cache_init(KvCache *c, Arena *arena, KernType type, int n_layers, int n_heads,
                      int head_dim, int n_ctx, Err *err) ERR_CHECK;

/* Writes n_rows rows of one layer at positions start..start + n_rows - 1.
 *
 * Shapes  k, v: [n_rows, n_heads * head_dim], rows stride floats apart.
 * Errors  ERR_LIMIT when start + n_rows > n_ctx (never wraps around); nothing is written then.
 * ERR_NUMERIC when a key or value is not finite as f16, in a cache of that type: the rows are not
 * whole then and must not be counted. A cache of f32 takes everything. */
ErrCode kv_cache_write(KvCache *c, const Kernels *kernels, int layer, int start, const float *k,
                       const float *v, size_t stride, int n_rows, Err *err) ERR_CHECK;

/* After all layers wrote them: n_rows more positions count. */
void kv_cache_advance(KvCache *c, int n_rows);

/* Forgets all positions from length on; length <= current length. 0 resets for a new job. */
void kv_cache_truncate(KvCache *c, int length);

/* Copies positions 0..n_rows - 1 of one layer back to k, v: [n_rows, n_heads, head_dim],
 * contiguous. n_rows may be up to n_ctx; what was never written is zero. For checks and tests. */
void kv_cache_read(const KvCache *c, int layer, float *k, float *v, int n_rows);

/* One head's panels for the kernels. */
KernHead kv_cache_head(const KvCache *c, int layer, int head);

size_t kv_cache_bytes(const KvCache *c);

#endif
