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

enum {
    KERN_PANEL = 8,  /* output rows side by side in packed weights; cache positions side by side */
    KERN_KC = 256,   /* a dot product is cut every 256 terms, for every shape and machine */
    KERN_LANES = 16, /* virtual lanes of a sum over a vector */
    KERN_TILE_TOKENS = 6 /* linear's scratch holds tokens in tiles of this many */
};

/* n rounded up to whole panels. */
static inline size_t kern_pad(size_t n)
{
    return (n + KERN_PANEL - 1) / KERN_PANEL * KERN_PANEL;
}

/* Floats of scratch that linear needs for n_tokens rows of k inputs. */
static inline size_t kern_linear_scratch(size_t n_tokens, size_t k)
{
    return (n_tokens + KERN_TILE_TOKENS - 1) / KERN_TILE_TOKENS * KERN_TILE_TOKENS * k;
}

typedef struct Kernels {
    const char *name; /* "scalar", "avx2" */

    /* How many multiply-adds, and how many weights read once, take about half a millisecond: the
     * size of the slices between two yields (layers/linear.c). No effect on results. */
    size_t slice_fma;
    size_t slice_weights;

    /* y[t, o] = bias[o] + sum_i x[t, i] * w[o, i], in blocks of KERN_KC (numerics, linear layer).
     *
     * Shapes  x: [n_tokens, k], rows ldx apart; y: [n_tokens, n], rows ldy apart, disjoint from x;
     *         panels: [ceil(n / 8)][k][8], 64-byte aligned, missing rows zero; bias: [n] or NULL
     * for 0. Memory  scratch: kern_linear_scratch(n_tokens, k) floats, 64-byte aligned. Writes
     * exactly n floats a row. */
    void (*linear)(float *y, size_t ldy, const float *panels, const float *bias, const float *x,
                   size_t ldx, int n_tokens, int n, int k, float *scratch);

    /* s[i] = scale * sum_d q[d] * key[i][d] for i < n_keys: one unblocked chain over d (numerics,
     * attention). k_panels: one head of the K cache, [pos / 8][head_dim][8]. s has room for
     * kern_pad(n_keys); what lies beyond n_keys is undefined afterwards. */
    void (*attn_scores)(float *s, const float *q, const float *k_panels, int n_keys, int head_dim,
                        float scale);

    /* o[d] = inv * sum_i e[i] * value[i][d] for d < head_dim: one unblocked chain over i.
     * v_panels: one head of the V cache, [ceil(head_dim / 8)][n_ctx][8], panels panel_stride floats
     * apart. */
    void (*attn_values)(float *o, const float *e, const float *v_panels, size_t panel_stride,
                        int n_keys, int head_dim, float inv);

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
