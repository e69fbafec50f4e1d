/* kernels/kernels.h: every inner loop of the model behind one table, one table per instruction set.
 *
 * kernels_scalar.c is the specification: each table gives the same bits for the same input
 * (docs/numerics.md). A kernel may tile, batch and reorder as long as that stays true.
 *
 * May include: common. */
#ifndef LLORCH_KERNELS_KERNELS_H
#define LLORCH_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "kernels/activation.h"
#include "kernels/matrix.h"

enum {
    KERN_KC = 256,        /* a dot product is cut every 256 terms, for every shape and machine */
    KERN_LANES = 16,      /* virtual lanes of a sum over a vector */
    KERN_QUERIES = 6,     /* most queries of one call of attn_scores and attn_values */
    KERN_TILE_TOKENS = 12 /* linear_input's room is a multiple of this many tokens */
};

/* Bytes of room that linear_input needs for n_tokens rows of k inputs, for any type of weights. */
static inline size_t kern_input_bytes(size_t n_tokens, size_t k)
{
    const size_t tokens = (n_tokens + KERN_TILE_TOKENS - 1) / KERN_TILE_TOKENS * KERN_TILE_TOKENS;

    return tokens * (k + KERN_BLOCK) * sizeof(float);
}

/* Keys and values of one head, f32 or f16 (docs/numerics.md, attention). */
typedef struct {
    KernType type;        /* KERN_F32 or KERN_F16 */
    const void *k_panels; /* [pos / 8][head_dim][8] */
    const void *v_panels; /* [ceil(head_dim / 8)][n_ctx][8], panels v_stride elements apart */
    size_t v_stride;
    int head_dim;
} KernHead;

typedef struct Kernels {
    const char *name; /* "scalar", "avx2" */

    /* How many multiply-adds, and how many bytes of weights read once, take about half a
     * millisecond: the size of the slices between two yields (layers/linear.c). No effect on
     * results. */
    size_t slice_fma;
    size_t slice_bytes;

    /* Brings x: [n_tokens, k], n_tokens >= 1, rows ldx apart, into the form that linear wants for
     * weights of this type: floats in tiles, or blocks of 32 quantised to int8 (numerics, section
     * 3). Memory  input: kern_input_bytes(n_tokens, k), 64-byte aligned. */
    void (*linear_input)(void *input, KernType type, const float *x, size_t ldx, int n_tokens,
                         int k);

    /* y[t, o] = bias[o] + sum_i x[t, i] * w[first + o, i] for o < n (numerics, sections 2 and 3).
     *
     * Shapes  input: from linear_input of this table, for w->type, n_tokens (>= 1) and w->k; y:
     * [n_tokens, n], rows ldy apart; first: a multiple of 8; bias: [n] or NULL for 0. Writes
     * exactly n floats a row. */
    void (*linear)(float *y, size_t ldy, const KernMatrix *w, int first, int n, const float *bias,
                   const void *input, int n_tokens);

    /* s[j, i] = scale * sum_d q[j, d] * key[i][d]: one unblocked chain over d. Query j of n_queries
     * (1 .. KERN_QUERIES) sees the keys i < n_keys + j; what lies behind them is undefined.
     *
     * Shapes  s: rows lds apart, room for kern_pad(n_keys + n_queries - 1); q: rows ldq apart. */
    void (*attn_scores)(float *s, size_t lds, const float *q, size_t ldq, int n_queries,
                        const KernHead *head, int n_keys, float scale);

    /* o[j, d] = inv[j] * sum_i e[j, i] * value[i][d] for i < n_keys + j: one unblocked chain over i
     * that ends at each query's own last key.
     *
     * Shapes  o: rows ldo apart, exactly head_dim floats of each written; e: rows lde apart. */
    void (*attn_values)(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                        int n_queries, const KernHead *head, int n_keys);

    /* dst[i] = src[i] rounded to f16, ties to even; beyond 65504 to infinity. */
    void (*to_f16)(uint16_t *dst, const float *src, size_t n);

    /* e[i] = exp(x[i] - max x); returns their sum over 16 lanes. n >= 1; e == x is allowed. */
    float (*softmax_exp)(float *e, const float *x, int n);

    /* One row: y = (x - mean) / sqrt(var + eps) * gamma + beta; y == x is allowed. */
    void (*layer_norm)(float *y, const float *x, const float *gamma, const float *beta, int dim,
                       float eps);

    /* x[i] = x[i] + y[i]: the residual. */
    void (*add)(float *x, const float *y, size_t n);

    /* y[i] = f(x[i]); y == x is allowed. Indexed by Activation. */
    void (*activation[ACT_COUNT])(float *y, const float *x, size_t n);
} Kernels;

/* The table named isa ("scalar", "avx2"), or the best one of this machine for NULL.
 * Errors: ERR_USAGE for an unknown name, ERR_UNSUPPORTED when this machine lacks it. */
ErrCode kernels_select(const Kernels **out, const char *isa, Err *err) ERR_CHECK;

/* Table i of this machine, the scalar one first; NULL past the last. */
const Kernels *kernels_available(int i);

/* Checks that this process computes in IEEE binary32: rounding to nearest, subnormals on, no extra
 * precision. Errors: ERR_UNSUPPORTED. */
ErrCode kernels_check_float_mode(Err *err) ERR_CHECK;

#endif
