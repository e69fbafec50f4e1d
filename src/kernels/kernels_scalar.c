/* kernels/kernels_scalar.c: the specification. Short, plain, every operation and its order visible;
 * every other table is compared with this one bit for bit.
 *
 * May include: kernels. */
#include "kernels/elementary.h"
#include "kernels/fma_chain.h"
#include "kernels/kernels_internal.h"

/* ---- Chains ---- */

/* a[t][r] = fma(w[i][r], x[t][i], a[t][r]) for i = 0 .. n - 1 in this order: 8 chains for each of m
 * rows of x, which share one look at the weights. */
static void chains(float (*a)[KERN_PANEL], int m, const void *w, KernType type, const float *x,
                   size_t ldx, int n)
{
    const size_t row_bytes = (type == KERN_F32 ? sizeof(float) : sizeof(uint16_t)) * KERN_PANEL;
    ChainWeights wide;

    for (int i = 0; i < n; i += CHAIN_STEPS) {
        const int steps = n - i < CHAIN_STEPS ? n - i : CHAIN_STEPS;

        chain_load(&wide, (const char *)w + (size_t)i * row_bytes, type, steps);
        for (int t = 0; t < m; t++)
            chain_run(a[t], &wide, x + (size_t)t * ldx + i, steps);
    }
}

/* ---- Linear layer ---- */

enum { TOKENS = 8 }; /* share one look at the weights */

/* Where the weights of the panel of output o begin, k0 inputs in. */
static const unsigned char *panel_at(const KernMatrix *w, int o, int k0)
{
    const size_t steps = (size_t)(o / KERN_PANEL) * (size_t)w->k + (size_t)k0;

    return (const unsigned char *)w->panels + kern_panels_bytes(w->type, KERN_PANEL, steps);
}

/* sum[t][r] += block by block of KERN_KC terms, m tokens, one panel of float weights. */
static void float_panel(float (*sum)[KERN_PANEL], const KernMatrix *w, int o, const float *x, int m)
{
    for (int k0 = 0; k0 < w->k; k0 += KERN_KC) {
        float a[TOKENS][KERN_PANEL] = {{0}};

        chains(a, m, panel_at(w, o, k0), w->type, x + k0, (size_t)w->k,
               kern_block_end(k0, w->k) - k0);
        for (int t = 0; t < m; t++)
            for (int r = 0; r < KERN_PANEL; r++)
                sum[t][r] = sum[t][r] + a[t][r];
    }
}

/* Quantised inputs: [n_tokens][k] int8, then [n_tokens][k / 32] float. */
static const float *input_scales(const void *input, int n_tokens, int k)
{
    return (const float *)((const char *)input + (size_t)n_tokens * (size_t)k);
}

/* One block of a panel as integers, [32][8] (matrix.h has the order of the bytes). */
static void widen_q8(int16_t (*restrict dst)[KERN_PANEL], const unsigned char *restrict q)
{
    for (size_t p = 0; p < KERN_BLOCK / 2; p++) {
        int16_t pair[KERN_PANEL];

        memcpy(pair, q + p * sizeof pair, sizeof pair);
        for (int r = 0; r < KERN_PANEL; r++) {
            dst[2 * p][r] = (int16_t)(((pair[r] & 0xff) ^ 0x80) - 0x80);
            dst[2 * p + 1][r] = (int16_t)(pair[r] >> 8);
        }
    }
}

static void widen_q4(int16_t (*restrict dst)[KERN_PANEL], const unsigned char *restrict q)
{
    for (int k = 0; k < KERN_BLOCK / 2; k++) {
        const int shift = k % 4 * 8;
        uint32_t four[KERN_PANEL];

        memcpy(four, q + (size_t)(k / 4) * sizeof four, sizeof four);
        for (int r = 0; r < KERN_PANEL; r++) {
            dst[k][r] = (int16_t)((int)(four[r] >> shift & 15) - 8);
            dst[k + KERN_BLOCK / 2][r] = (int16_t)((int)(four[r] >> (shift + 4) & 15) - 8);
        }
    }
}

/* acc[t][r]: one chain over the blocks of 32, m tokens. */
static void quantised_panel(float (*acc)[KERN_PANEL], const KernMatrix *w, int o, const int8_t *x,
                            const float *x_scales, int m)
{
    const int n_blocks = w->k / KERN_BLOCK;
    const uint16_t *scales = w->scales + (size_t)o * (size_t)n_blocks;

    for (int j = 0; j < n_blocks; j++, scales += KERN_PANEL) {
        int16_t q[KERN_BLOCK][KERN_PANEL];

        if (w->type == KERN_Q8_0)
            widen_q8(q, panel_at(w, o, j * KERN_BLOCK));
        else
            widen_q4(q, panel_at(w, o, j * KERN_BLOCK));
        for (int t = 0; t < m; t++) {
            const int8_t *xq = x + (size_t)t * (size_t)w->k + (size_t)j * KERN_BLOCK;
            const float d = x_scales[(size_t)t * (size_t)n_blocks + (size_t)j];
            int32_t s[KERN_PANEL] = {0};

            for (int k = 0; k < KERN_BLOCK; k++)
                for (int r = 0; r < KERN_PANEL; r++)
                    s[r] += q[k][r] * xq[k];
            for (int r = 0; r < KERN_PANEL; r++)
                acc[t][r] = kern_fma((float)s[r], kern_widen_f16(scales[r]) * d, acc[t][r]);
        }
    }
}

/* sum[t][r] of tokens [t0, t0 + m) of a call, for the panel of output o, whose biases are bias. */
static void panel_sums(float (*sum)[KERN_PANEL], const float bias[KERN_PANEL], const KernMatrix *w,
                       int o, const void *input, int n_tokens, int t0, int m)
{
    const size_t at = (size_t)t0 * (size_t)w->k;

    for (int t = 0; t < m; t++)
        for (int r = 0; r < KERN_PANEL; r++)
            sum[t][r] = kern_is_quantised(w->type) ? 0.0f : bias[r];
    if (!kern_is_quantised(w->type)) {
        float_panel(sum, w, o, (const float *)input + at, m);
        return;
    }
    quantised_panel(sum, w, o, (const int8_t *)input + at,
                    input_scales(input, n_tokens, w->k) + at / KERN_BLOCK, m);
    for (int t = 0; t < m; t++)
        for (int r = 0; r < KERN_PANEL; r++)
            sum[t][r] = sum[t][r] + bias[r];
}

static void linear(float *y, size_t ldy, const KernMatrix *w, int first, int n, const float *bias,
                   const void *input, int n_tokens)
{
    for (int o = 0; o < n; o += KERN_PANEL) {
        const int rows = n - o < KERN_PANEL ? n - o : KERN_PANEL;
        float b[KERN_PANEL] = {0};

        for (int r = 0; bias != NULL && r < rows; r++)
            b[r] = bias[o + r];
        for (int t0 = 0; t0 < n_tokens; t0 += TOKENS) {
            const int m = n_tokens - t0 < TOKENS ? n_tokens - t0 : TOKENS;
            float sum[TOKENS][KERN_PANEL];

            panel_sums(sum, b, w, first + o, input, n_tokens, t0, m);
            for (int t = 0; t < m; t++)
                memcpy(y + (size_t)(t0 + t) * ldy + o, sum[t], (size_t)rows * sizeof(float));
        }
    }
}

/* x[0 .. 32) as q * d with q in -127 .. 127; q is 0 where all of x is below 2^-100 (d is 0) or not
 * all of it is finite (d is NaN). */
static void quantise_block(int8_t *q, float *d, const float *x)
{
    int32_t largest = 0; /* bits of magnitudes are ordered like the magnitudes, NaN last */
    float i;

    for (int k = 0; k < KERN_BLOCK; k++) {
        const int32_t magnitude = (int32_t)(kern_bits(x[k]) & 0x7fffffffu);

        largest = magnitude > largest ? magnitude : largest;
    }
    *d = kern_input_scale((uint32_t)largest);
    memset(q, 0, KERN_BLOCK);
    if (!(*d > 0.0f))
        return;
    i = 1.0f / *d;
    for (int k = 0; k < KERN_BLOCK; k++)
        q[k] = (int8_t)kern_round_even(x[k] * i);
}

static void linear_input(void *input, KernType type, const float *x, size_t ldx, int n_tokens,
                         int k)
{
    int8_t *q = input;
    float *d = (float *)((char *)input + (size_t)n_tokens * (size_t)k);

    for (int t = 0; t < n_tokens; t++, x += ldx) {
        if (!kern_is_quantised(type)) {
            memcpy((float *)input + (size_t)t * (size_t)k, x, (size_t)k * sizeof *x);
            continue;
        }
        for (int j = 0; j < k; j += KERN_BLOCK, q += KERN_BLOCK, d++)
            quantise_block(q, d, x + j);
    }
}

/* ---- Attention ---- */

static const char *cache_at(const void *base, KernType type, size_t index)
{
    return (const char *)base + index * (type == KERN_F32 ? 4 : 2);
}

static void attn_scores(float *s, size_t lds, const float *q, size_t ldq, int n_queries,
                        const KernHead *head, int n_keys, float scale)
{
    for (int i = 0; i < n_keys + n_queries - 1; i += KERN_PANEL) {
        float a[KERN_QUERIES][KERN_PANEL] = {{0}};

        chains(a, n_queries,
               cache_at(head->k_panels, head->type, (size_t)i * (size_t)head->head_dim), head->type,
               q, ldq, head->head_dim);
        for (int j = 0; j < n_queries; j++)
            for (int r = 0; r < KERN_PANEL && i + r < n_keys + j; r++)
                s[(size_t)j * lds + (size_t)(i + r)] = scale * a[j][r];
    }
}

static void attn_values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                        int n_queries, const KernHead *head, int n_keys)
{
    for (int d = 0; d < head->head_dim; d += KERN_PANEL) {
        const size_t panel = (size_t)(d / KERN_PANEL) * head->v_stride;
        float a[KERN_QUERIES][KERN_PANEL] = {{0}};

        chains(a, n_queries, cache_at(head->v_panels, head->type, panel), head->type, e, lde,
               n_keys);
        /* The keys that only later queries see. */
        for (int i = n_keys; i < n_keys + n_queries - 1; i++) {
            const int j = i - n_keys + 1;

            chains(a + j, n_queries - j,
                   cache_at(head->v_panels, head->type, panel + (size_t)i * KERN_PANEL), head->type,
                   e + (size_t)j * lde + i, lde, 1);
        }
        for (int j = 0; j < n_queries; j++)
            for (int r = 0; r < KERN_PANEL && d + r < head->head_dim; r++)
                o[(size_t)j * ldo + (size_t)(d + r)] = inv[j] * a[j][r];
    }
}

static void to_f16(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = kern_to_f16(src[i]);
}

/* ---- Rows ---- */

static float softmax_exp(float *e, const float *x, int n)
{
    float lane[KERN_LANES] = {0};
    float m = x[0];

    for (int i = 1; i < n; i++)
        m = x[i] > m ? x[i] : m;
    for (int i = 0; i < n; i++) {
        e[i] = kern_exp(x[i] - m);
        lane[i % KERN_LANES] = lane[i % KERN_LANES] + e[i];
    }
    return kern_fold_lanes(lane);
}

/* Two passes over the row: the one-pass form E[x^2] - E[x]^2 loses digits when the mean is large
 * against the spread, and can come out negative. */
static void layer_norm(float *y, const float *x, const float *gamma, const float *beta, int dim,
                       float eps)
{
    float lane[KERN_LANES] = {0};
    float mean, rstd;

    for (int i = 0; i < dim; i++)
        lane[i % KERN_LANES] = lane[i % KERN_LANES] + x[i];
    mean = kern_fold_lanes(lane) / (float)dim;

    for (int j = 0; j < KERN_LANES; j++)
        lane[j] = 0.0f;
    for (int i = 0; i < dim; i++) {
        const float d = x[i] - mean;

        lane[i % KERN_LANES] = kern_fma(d, d, lane[i % KERN_LANES]);
    }
    rstd = 1.0f / sqrtf(kern_fold_lanes(lane) / (float)dim + eps);

    for (int i = 0; i < dim; i++)
        y[i] = kern_fma((x[i] - mean) * rstd, gamma[i], beta[i]);
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] + y[i];
}

static void gelu_tanh(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kern_gelu_tanh(x[i]);
}

static void gelu_erf(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kern_gelu_erf(x[i]);
}

static void relu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kern_relu(x[i]);
}

static void silu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kern_silu(x[i]);
}

static void tanh_all(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kern_tanh(x[i]);
}

const Kernels kernels_scalar = {
    .name = "scalar",
    .slice_fma = 500000,
    .slice_bytes = 2000000,
    .linear_input = linear_input,
    .linear = linear,
    .attn_scores = attn_scores,
    .attn_values = attn_values,
    .to_f16 = to_f16,
    .softmax_exp = softmax_exp,
    .layer_norm = layer_norm,
    .add = add,
    .activation = {[ACT_GELU_TANH] = gelu_tanh,
                   [ACT_GELU_ERF] = gelu_erf,
                   [ACT_RELU] = relu,
                   [ACT_SILU] = silu,
                   [ACT_TANH] = tanh_all},
};
