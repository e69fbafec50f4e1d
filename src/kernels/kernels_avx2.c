/* kernels/kernels_avx2.c: the table for AVX2 + FMA + F16C, elementary functions and rows. Lanes run
 * over outputs, positions or elements, never over the index that is summed, so each output sees the
 * scalar sequence of operations.
 *
 * The kernels_avx2*.c are compiled with -mavx2 -mfma -mf16c and called only where kernels_select
 * found all three.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include "kernels/kernels_avx2.h"
#include "kernels/elementary.h"
#include "kernels/kernels_internal.h"

/* ---- The linear layer, by the type of the weights ---- */

static void linear_input(void *input, KernType type, const float *x, size_t ldx, int n_tokens,
                         int k)
{
    if (kern_is_quantised(type))
        avx2_input_quant(input, type, x, ldx, n_tokens, k);
    else
        avx2_input_float(input, x, ldx, n_tokens, k);
}

static void linear(float *y, size_t ldy, const KernMatrix *w, int first, int n, const float *bias,
                   const void *input, int n_tokens)
{
    if (kern_is_quantised(w->type))
        avx2_linear_quant(y, ldy, w, first, n, bias, input, n_tokens);
    else
        avx2_linear_float(y, ldy, w, first, n, bias, input, n_tokens);
}

static void to_f16(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;

    for (; i + KERN_PANEL <= n; i += KERN_PANEL)
        _mm_storeu_si128((__m128i *)(void *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        dst[i] = (uint16_t)_mm_cvtsi128_si32(
            _mm_cvtps_ph(_mm_set_ss(src[i]), _MM_FROUND_TO_NEAREST_INT));
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
    .slice_bytes = 8000000,
    .linear_input = linear_input,
    .linear = linear,
    .attn_scores = avx2_attn_scores,
    .attn_values = avx2_attn_values,
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

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2Unused;
#endif
