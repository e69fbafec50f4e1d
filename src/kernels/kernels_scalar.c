/* kernels/kernels_scalar.c: the specification. Short, plain, every operation and its order visible;
 * every other table is compared with this one bit for bit.
 *
 * May include: kernels. */
#include "kernels/elementary.h"
#include "kernels/kernels_internal.h"

static void linear_panel(float y[KERN_PANEL], const float *w, const float *x, int k_dim)
{
    for (int k0 = 0; k0 < k_dim; k0 += KERN_KC) {
        float a[KERN_PANEL] = {0};

        for (int k = k0; k < kern_block_end(k0, k_dim); k++)
            for (int r = 0; r < KERN_PANEL; r++)
                a[r] = kern_fma(w[(size_t)k * KERN_PANEL + (size_t)r], x[k], a[r]);
        for (int r = 0; r < KERN_PANEL; r++)
            y[r] = y[r] + a[r];
    }
}

static void linear(float *y, size_t ldy, const float *panels, const float *bias, const float *x,
                   size_t ldx, int n_tokens, int n, int k, float *scratch)
{
    (void)scratch;
    for (int t = 0; t < n_tokens; t++)
        for (int o = 0; o < n; o += KERN_PANEL) {
            const int rows = n - o < KERN_PANEL ? n - o : KERN_PANEL;
            float sum[KERN_PANEL] = {0};

            for (int r = 0; bias != NULL && r < rows; r++)
                sum[r] = bias[o + r];
            linear_panel(sum, panels + (size_t)o * (size_t)k, x + (size_t)t * ldx, k);
            for (int r = 0; r < rows; r++)
                y[(size_t)t * ldy + (size_t)(o + r)] = sum[r];
        }
}

static void attn_scores(float *s, const float *q, const float *k_panels, int n_keys, int head_dim,
                        float scale)
{
    for (int i = 0; i < n_keys; i++) {
        const float *key =
            k_panels + (size_t)(i / KERN_PANEL) * (size_t)head_dim * KERN_PANEL + i % KERN_PANEL;
        float a = 0.0f;

        for (int d = 0; d < head_dim; d++)
            a = kern_fma(q[d], key[(size_t)d * KERN_PANEL], a);
        s[i] = scale * a;
    }
}

static void attn_values(float *o, const float *e, const float *v_panels, size_t panel_stride,
                        int n_keys, int head_dim, float inv)
{
    for (int d = 0; d < head_dim; d++) {
        const float *value = v_panels + (size_t)(d / KERN_PANEL) * panel_stride + d % KERN_PANEL;
        float a = 0.0f;

        for (int i = 0; i < n_keys; i++)
            a = kern_fma(e[i], value[(size_t)i * KERN_PANEL], a);
        o[d] = inv * a;
    }
}

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
    .slice_fma = 150000,
    .slice_weights = 150000,
    .linear = linear,
    .attn_scores = attn_scores,
    .attn_values = attn_values,
    .softmax_exp = softmax_exp,
    .layer_norm = layer_norm,
    .add = add,
    .activation = {[ACT_GELU_TANH] = gelu_tanh,
                   [ACT_GELU_ERF] = gelu_erf,
                   [ACT_RELU] = relu,
                   [ACT_SILU] = silu,
                   [ACT_TANH] = tanh_all},
};
