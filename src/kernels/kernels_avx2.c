/* kernels/kernels_avx2.c: the table for AVX2 + FMA. Lanes run over outputs, positions or elements,
 * never over the index that is summed, so each output sees the scalar sequence of operations.
 *
 * Compiled with -mavx2 -mfma; called only where kernels_select found both.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/elementary.h"
#include "kernels/kernels_internal.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* For loops whose count is a constant after inlining: their sums must end up in registers, not in
 * an array. clang unrolls them by itself, and not when it is asked to. */
#ifdef __clang__
/* NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a loop variable */
#define EACH(I, N) for (int I = 0; I < (N); I++)
#else
#define EACH(I, N) _Pragma("GCC unroll 8") for (int I = 0; I < (N); I++)
#endif

enum { MR = KERN_TILE_TOKENS };

/* Lanes 0 .. n - 1 on, n in 0..8. */
ALWAYS_INLINE __m256i lane_mask(int n)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index);
}

ALWAYS_INLINE __m256 load_part(const float *p, int n)
{
    return n >= KERN_PANEL ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lane_mask(n));
}

ALWAYS_INLINE void store_part(float *p, __m256 v, int n)
{
    if (n >= KERN_PANEL)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, lane_mask(n), v);
}

/* ---- Linear layer, few tokens: the weights are read once from memory, everything else is in
 * registers ---- */

/* m tokens times np panels that lie far apart, whole chains: y[t][8 * panel ..]. Four sequential
 * streams keep the hardware prefetchers busy; one alone reaches two thirds of the speed, adjacent
 * ones less. */
ALWAYS_INLINE void stream_panels(const int m, const int np, float *y, size_t ldy, const float *w,
                                 const float *bias, const float *x, size_t ldx, const int panel[4],
                                 int n, int k)
{
    __m256 sum[3][4], a[3][4];
    const float *stream[4];

    EACH (p, np) {
        const int o = panel[p] * KERN_PANEL;
        const __m256 b = bias != NULL ? load_part(bias + o, n - o) : _mm256_setzero_ps();

        stream[p] = w + (size_t)o * (size_t)k;
        EACH (t, m)
            sum[t][p] = b;
    }
    for (int k0 = 0; k0 < k; k0 += KERN_KC) {
        const int k1 = kern_block_end(k0, k);

        EACH (p, np)
            EACH (t, m)
                a[t][p] = _mm256_setzero_ps();
        for (int i = k0; i < k1; i++)
            EACH (p, np) {
                const __m256 v = _mm256_load_ps(stream[p] + (size_t)i * KERN_PANEL);

                EACH (t, m) {
                    const __m256 b = _mm256_broadcast_ss(x + (size_t)t * ldx + i);

                    a[t][p] = _mm256_fmadd_ps(v, b, a[t][p]);
                }
            }
        EACH (p, np)
            EACH (t, m)
                sum[t][p] = _mm256_add_ps(sum[t][p], a[t][p]);
    }
    EACH (p, np) {
        const int o = panel[p] * KERN_PANEL;

        EACH (t, m)
            store_part(y + (size_t)t * ldy + o, sum[t][p], n - o);
    }
}

ALWAYS_INLINE void linear_stream(const int m, float *y, size_t ldy, const float *w,
                                 const float *bias, const float *x, size_t ldx, int n, int k)
{
    const int n_panels = (n + KERN_PANEL - 1) / KERN_PANEL;
    const int quarter = n_panels / 4;

    for (int i = 0; i < quarter; i++) {
        const int far[4] = {i, i + quarter, i + 2 * quarter, i + 3 * quarter};

        stream_panels(m, 4, y, ldy, w, bias, x, ldx, far, n, k);
    }
    for (int i = 4 * quarter; i < n_panels; i++) {
        const int one[4] = {i, 0, 0, 0};

        stream_panels(m, 1, y, ldy, w, bias, x, ldx, one, n, k);
    }
}

static void linear_1(float *y, size_t ldy, const float *w, const float *bias, const float *x,
                     size_t ldx, int n, int k)
{
    linear_stream(1, y, ldy, w, bias, x, ldx, n, k);
}

static void linear_2(float *y, size_t ldy, const float *w, const float *bias, const float *x,
                     size_t ldx, int n, int k)
{
    linear_stream(2, y, ldy, w, bias, x, ldx, n, k);
}

static void linear_3(float *y, size_t ldy, const float *w, const float *bias, const float *x,
                     size_t ldx, int n, int k)
{
    linear_stream(3, y, ldy, w, bias, x, ldx, n, k);
}

/* ---- Linear layer, many tokens: tiles of 6 tokens x 2 panels, 12 sums in registers ---- */

/* One block of m tokens and np adjacent panels, added to y. x: packed [k][MR]. */
ALWAYS_INLINE void tile_block(const int m, const int np, float *y, size_t ldy, const float *w,
                              size_t panel_floats, const float *x, int n_terms, int n)
{
    __m256 a[MR][2], v[2];

    EACH (p, np)
        EACH (t, m)
            a[t][p] = _mm256_setzero_ps();
    for (int i = 0; i < n_terms; i++) {
        EACH (p, np)
            v[p] = _mm256_load_ps(w + (size_t)p * panel_floats + (size_t)i * KERN_PANEL);
        EACH (t, m) {
            const __m256 b = _mm256_broadcast_ss(x + (size_t)i * MR + t);

            EACH (p, np)
                a[t][p] = _mm256_fmadd_ps(v[p], b, a[t][p]);
        }
    }
    EACH (t, m)
        EACH (p, np) {
            float *out = y + (size_t)t * ldy + (size_t)p * KERN_PANEL;
            const int left = n - p * KERN_PANEL;

            store_part(out, _mm256_add_ps(load_part(out, left), a[t][p]), left);
        }
}

#define DEFINE_TILE(M)                                                                             \
    static void tile_##M(float *y, size_t ldy, const float *w, size_t panel_floats,                \
                         const float *x, int n_terms, int n)                                       \
    {                                                                                              \
        if (n > KERN_PANEL)                                                                        \
            tile_block(M, 2, y, ldy, w, panel_floats, x, n_terms, n);                              \
        else                                                                                       \
            tile_block(M, 1, y, ldy, w, panel_floats, x, n_terms, n);                              \
    }

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

typedef void Tile(float *y, size_t ldy, const float *w, size_t panel_floats, const float *x,
                  int n_terms, int n);

static Tile *const tiles[MR + 1] = {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* x as [block][tile][k][MR]: a tile's block is read as one short sequential stream. */
static void pack_tokens(float *packed, const float *x, size_t ldx, int n_tokens, int k)
{
    for (int k0 = 0; k0 < k; k0 += KERN_KC) {
        const int k1 = kern_block_end(k0, k);

        for (int t0 = 0; t0 < n_tokens; t0 += MR) {
            for (int t = 0; t < MR; t++) {
                const float *row = x + (size_t)(t0 + t) * ldx;

                if (t0 + t < n_tokens)
                    for (int i = k0; i < k1; i++)
                        packed[(size_t)(i - k0) * MR + (size_t)t] = row[i];
            }
            packed += (size_t)(k1 - k0) * MR;
        }
    }
}

static void linear_tiles(float *y, size_t ldy, const float *w, const float *bias,
                         const float *packed, int n_tokens, int n, int k)
{
    for (int t = 0; t < n_tokens; t++)
        for (int o = 0; o < n; o++)
            y[(size_t)t * ldy + (size_t)o] = bias != NULL ? bias[o] : 0.0f;

    for (int k0 = 0; k0 < k; k0 += KERN_KC) {
        const int terms = kern_block_end(k0, k) - k0;

        for (int o = 0; o < n; o += 2 * KERN_PANEL) {
            const float *x = packed;

            for (int t = 0; t < n_tokens; t += MR) {
                const int m = n_tokens - t < MR ? n_tokens - t : MR;

                tiles[m](y + (size_t)t * ldy + o, ldy,
                         w + (size_t)o * (size_t)k + (size_t)k0 * KERN_PANEL,
                         (size_t)k * KERN_PANEL, x, terms, n - o);
                x += (size_t)terms * MR;
            }
        }
        packed += (size_t)((n_tokens + MR - 1) / MR * MR) * (size_t)terms;
    }
}

static void linear(float *y, size_t ldy, const float *panels, const float *bias, const float *x,
                   size_t ldx, int n_tokens, int n, int k, float *scratch)
{
    switch (n_tokens) {
    case 1:
        linear_1(y, ldy, panels, bias, x, ldx, n, k);
        break;
    case 2:
        linear_2(y, ldy, panels, bias, x, ldx, n, k);
        break;
    case 3:
        linear_3(y, ldy, panels, bias, x, ldx, n, k);
        break;
    default:
        pack_tokens(scratch, x, ldx, n_tokens, k);
        linear_tiles(y, ldy, panels, bias, scratch, n_tokens, n, k);
    }
}

/* ---- Attention ---- */

/* np adjacent panels of 8 keys each. */
ALWAYS_INLINE void score_panels(const int np, float *s, const float *q, const float *k_panels,
                                int head_dim, float scale)
{
    const size_t panel_floats = (size_t)head_dim * KERN_PANEL;
    __m256 a[4];

    EACH (p, np)
        a[p] = _mm256_setzero_ps();
    for (int d = 0; d < head_dim; d++) {
        const __m256 b = _mm256_broadcast_ss(q + d);
        const float *key = k_panels + (size_t)d * KERN_PANEL;

        EACH (p, np)
            a[p] = _mm256_fmadd_ps(b, _mm256_load_ps(key + (size_t)p * panel_floats), a[p]);
    }
    EACH (p, np)
        _mm256_storeu_ps(s + (size_t)p * KERN_PANEL, _mm256_mul_ps(_mm256_set1_ps(scale), a[p]));
}

static void attn_scores(float *s, const float *q, const float *k_panels, int n_keys, int head_dim,
                        float scale)
{
    const size_t panel_floats = (size_t)head_dim * KERN_PANEL;
    const int n_panels = (n_keys + KERN_PANEL - 1) / KERN_PANEL;
    int p = 0;

    for (; p + 4 <= n_panels; p += 4)
        score_panels(4, s + (size_t)p * KERN_PANEL, q, k_panels + (size_t)p * panel_floats,
                     head_dim, scale);
    for (; p < n_panels; p++)
        score_panels(1, s + (size_t)p * KERN_PANEL, q, k_panels + (size_t)p * panel_floats,
                     head_dim, scale);
}

/* np panels of 8 dimensions each. */
ALWAYS_INLINE void value_panels(const int np, float *o, const float *e, const float *v_panels,
                                size_t panel_stride, int n_keys, int dims, float inv)
{
    __m256 a[8];

    EACH (p, np)
        a[p] = _mm256_setzero_ps();
    for (int i = 0; i < n_keys; i++) {
        const __m256 b = _mm256_broadcast_ss(e + i);
        const float *value = v_panels + (size_t)i * KERN_PANEL;

        EACH (p, np)
            a[p] = _mm256_fmadd_ps(b, _mm256_load_ps(value + (size_t)p * panel_stride), a[p]);
    }
    EACH (p, np)
        store_part(o + (size_t)p * KERN_PANEL, _mm256_mul_ps(_mm256_set1_ps(inv), a[p]),
                   dims - p * KERN_PANEL);
}

static void attn_values(float *o, const float *e, const float *v_panels, size_t panel_stride,
                        int n_keys, int head_dim, float inv)
{
    int d = 0;

    for (; d + 8 * KERN_PANEL <= head_dim; d += 8 * KERN_PANEL)
        value_panels(8, o + d, e, v_panels + (size_t)(d / KERN_PANEL) * panel_stride, panel_stride,
                     n_keys, head_dim - d, inv);
    for (; d + 2 * KERN_PANEL <= head_dim; d += 2 * KERN_PANEL)
        value_panels(2, o + d, e, v_panels + (size_t)(d / KERN_PANEL) * panel_stride, panel_stride,
                     n_keys, head_dim - d, inv);
    for (; d < head_dim; d += KERN_PANEL)
        value_panels(1, o + d, e, v_panels + (size_t)(d / KERN_PANEL) * panel_stride, panel_stride,
                     n_keys, head_dim - d, inv);
}

/* ---- Elementary functions on 8 elements: the operations of elementary.h, one for one ---- */

ALWAYS_INLINE __m256 exp_8(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(12582912.0f);
    const __m256 low = _mm256_set1_ps(KERN_EXP_LOW);
    const __m256 c = _mm256_min_ps(_mm256_max_ps(x, low), _mm256_set1_ps(KERN_EXP_HIGH));
    const __m256 t = _mm256_fmadd_ps(c, _mm256_set1_ps(0x1.715476p+0f), magic);
    const __m256 n = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.62e43p-1f), c);
    __m256 p = _mm256_set1_ps(0x1.69e7eep-10f);
    __m256 y;

    r = _mm256_fmadd_ps(n, _mm256_set1_ps(0x1.05c61p-29f), r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.12332ep-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.55589ap-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555494p-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    y = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
}

ALWAYS_INLINE __m256 negate_8(__m256 x)
{
    return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

ALWAYS_INLINE __m256 abs_8(__m256 x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

ALWAYS_INLINE __m256 gelu_tanh_8(__m256 x)
{
    const __m256 v = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0x1.2444f2p-4f),
                                     _mm256_set1_ps(0x1.988454p+0f));
    const __m256 z = _mm256_mul_ps(x, v);

    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_8(negate_8(z))));
}

ALWAYS_INLINE __m256 relu_8(__m256 x)
{
    return _mm256_max_ps(x, _mm256_setzero_ps());
}

ALWAYS_INLINE __m256 gelu_erf_8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 a = abs_8(x);
    const __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(_mm256_set1_ps(0x1.333334p-2f), a, one));
    __m256 p = _mm256_set1_ps(0x1.27356ap-5f);
    __m256 h;

    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-0x1.450b72p-3f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.abf54ap-3f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-0x1.cb886cp-5f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.09eb34p-3f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.97a592p-4f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.eeddb2p-4f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.e9fc14p-4f));
    h = _mm256_mul_ps(_mm256_mul_ps(p, t),
                      exp_8(_mm256_mul_ps(_mm256_mul_ps(a, a), _mm256_set1_ps(-0.5f))));
    return _mm256_fmadd_ps(negate_8(a), h, relu_8(x));
}

ALWAYS_INLINE __m256 silu_8(__m256 x)
{
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_8(negate_8(x))));
}

ALWAYS_INLINE __m256 tanh_all_8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 a = abs_8(x);
    const __m256 t = _mm256_mul_ps(a, a);
    const __m256 c = _mm256_min_ps(a, _mm256_set1_ps(9.1f));
    const __m256 big = _mm256_sub_ps(
        one, _mm256_div_ps(_mm256_set1_ps(2.0f),
                           _mm256_add_ps(one, exp_8(_mm256_mul_ps(_mm256_set1_ps(2.0f), c)))));
    __m256 p = _mm256_set1_ps(-0x1.750ce4p-8f);
    __m256 y;

    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.51f8cep-6f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-0x1.b835a4p-5f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0x1.1106f6p-3f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-0x1.555532p-2f));
    y = _mm256_blendv_ps(big, _mm256_fmadd_ps(_mm256_mul_ps(a, t), p, a),
                         _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ));
    return _mm256_or_ps(y, _mm256_and_ps(x, _mm256_set1_ps(-0.0f)));
}

#define DEFINE_MAP(NAME)                                                                           \
    static void NAME(float *y, const float *x, size_t n)                                           \
    {                                                                                              \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (; i + KERN_PANEL <= n; i += KERN_PANEL)                                               \
            _mm256_storeu_ps(y + i, NAME##_8(_mm256_loadu_ps(x + i)));                             \
        if (i < n)                                                                                 \
            store_part(y + i, NAME##_8(load_part(x + i, (int)(n - i))), (int)(n - i));             \
    }

DEFINE_MAP(gelu_tanh)
DEFINE_MAP(gelu_erf)
DEFINE_MAP(relu)
DEFINE_MAP(silu)
DEFINE_MAP(tanh_all)

/* ---- Rows ---- */

/* l[j] + l[j + 8], then 4, 2, 1. */
ALWAYS_INLINE float fold(__m256 lanes_0_7, __m256 lanes_8_15)
{
    float lane[KERN_LANES];

    _mm256_storeu_ps(lane, lanes_0_7);
    _mm256_storeu_ps(lane + KERN_PANEL, lanes_8_15);
    return kern_fold_lanes(lane);
}

static float row_max(const float *x, int n)
{
    __m256 m = _mm256_set1_ps(x[0]);
    float lane[KERN_PANEL], best;
    int i = 0;

    for (; i + KERN_PANEL <= n; i += KERN_PANEL)
        m = _mm256_max_ps(_mm256_loadu_ps(x + i), m);
    _mm256_storeu_ps(lane, m);
    best = lane[0];
    for (int j = 1; j < KERN_PANEL; j++)
        best = lane[j] > best ? lane[j] : best;
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

/* The masked end adds +0 to lanes that began at +0: that changes no bit. */
static float softmax_exp(float *e, const float *x, int n)
{
    const __m256 m = _mm256_set1_ps(row_max(x, n));
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    for (int i = 0, half = 0; i < n; i += KERN_PANEL, half ^= 1) {
        const int left = n - i;
        __m256 y = exp_8(_mm256_sub_ps(load_part(x + i, left), m));

        if (left < KERN_PANEL)
            y = _mm256_and_ps(y, _mm256_castsi256_ps(lane_mask(left)));
        store_part(e + i, y, left);
        sum[half] = _mm256_add_ps(sum[half], y);
    }
    return fold(sum[0], sum[1]);
}

static void layer_norm(float *y, const float *x, const float *gamma, const float *beta, int dim,
                       float eps)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 sq[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 mean, rstd;

    for (int i = 0, half = 0; i < dim; i += KERN_PANEL, half ^= 1)
        sum[half] = _mm256_add_ps(sum[half], load_part(x + i, dim - i));
    mean = _mm256_set1_ps(fold(sum[0], sum[1]) / (float)dim);

    for (int i = 0, half = 0; i < dim; i += KERN_PANEL, half ^= 1) {
        __m256 d = _mm256_sub_ps(load_part(x + i, dim - i), mean);

        if (dim - i < KERN_PANEL)
            d = _mm256_and_ps(d, _mm256_castsi256_ps(lane_mask(dim - i)));
        sq[half] = _mm256_fmadd_ps(d, d, sq[half]);
    }
    rstd = _mm256_set1_ps(1.0f / sqrtf(fold(sq[0], sq[1]) / (float)dim + eps));

    for (int i = 0; i < dim; i += KERN_PANEL) {
        const int left = dim - i;
        const __m256 d = _mm256_mul_ps(_mm256_sub_ps(load_part(x + i, left), mean), rstd);

        store_part(y + i, _mm256_fmadd_ps(d, load_part(gamma + i, left), load_part(beta + i, left)),
                   left);
    }
}

static void add(float *x, const float *y, size_t n)
{
    size_t i = 0;

    for (; i + KERN_PANEL <= n; i += KERN_PANEL)
        _mm256_storeu_ps(x + i, _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    for (; i < n; i++)
        x[i] = x[i] + y[i];
}

const Kernels kernels_avx2 = {
    .name = "avx2",
    .slice_fma = 20000000,
    .slice_weights = 2000000,
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

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2Unused;
#endif
