/* kernels/elementary.h: exp, tanh, GELU and the rest for one value: the definitions
 * (docs/numerics.md, elementary functions). Vector code repeats each operation in this order and so
 * gives the same bits.
 *
 * Constants are exact binary32 values, found by minimax fits with successive rounding of the
 * coefficients.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_ELEMENTARY_H
#define LLORCH_KERNELS_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

#define KERN_EXP_LOW (-0x1.5d58ap+6f) /* about -126 ln 2: results below would be subnormal */
#define KERN_EXP_HIGH 88.0f

static inline uint32_t kern_bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float kern_from_bits(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

/* a where v is negative, else b. By masks, because compilers turn ?: on computed values into jumps
 * and then leave the loop around it scalar. */
static inline uint32_t kern_choose(int32_t v, uint32_t a, uint32_t b)
{
    const uint32_t mask = (uint32_t)(v >> 31);

    return (a & mask) | (b & ~mask);
}

/* An f16 as float, exactly. */
static inline float kern_widen_f16(uint16_t h)
{
    const int32_t magnitude = (h & 0x7fff) << 13;
    /* The exponent's bias changes by 127 - 15; for infinity and NaN it goes to the top. */
    const uint32_t bias = kern_choose(0x0f7fffff - magnitude, 224u << 23, 112u << 23);
    /* Zero and subnormals: a multiple of 2^-24. */
    const float small = (float)(h & 0x7fff) * 0x1p-24f;
    const uint32_t u =
        kern_choose(magnitude - 0x00800000, kern_bits(small), (uint32_t)magnitude + bias);

    return kern_from_bits(u | (uint32_t)(h & 0x8000) << 16);
}

/* x rounded to f16, ties to even: from 65520 on infinity, a NaN stays one. */
static inline uint16_t kern_to_f16(float x)
{
    const int32_t magnitude = (int32_t)(kern_bits(x) & 0x7fffffffu);
    /* Adds just below half of the last place kept, or half if that place is odd. A carry goes into
     * the exponent, where it belongs. */
    const uint32_t rounded =
        ((uint32_t)magnitude + 0xfffu + ((uint32_t)magnitude >> 13 & 1u)) >> 13;
    /* Below 2^-14 results are multiples of 2^-24, the last place of floats in [0.5, 1). */
    const uint32_t small = kern_bits(kern_from_bits((uint32_t)magnitude) + 0.5f) - 0x3f000000u;
    uint32_t h = kern_choose(magnitude - 0x38800000, small, rounded - (112u << 10));

    h = kern_choose(0x477fffff - magnitude, 0x7c00u, h);
    h = kern_choose(0x7f800000 - magnitude, 0x7e00u, h);
    return (uint16_t)(h | (kern_bits(x) >> 16 & 0x8000u));
}

/* x rounded to bf16, ties to even; a NaN stays one. */
static inline uint16_t kern_to_bf16(float x)
{
    const uint32_t u = kern_bits(x);
    const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;

    return (uint16_t)kern_choose(0x7f800000 - (int32_t)(u & 0x7fffffffu), u >> 16 | 0x40u, rounded);
}

static inline float kern_widen_bf16(uint16_t h)
{
    return kern_from_bits((uint32_t)h << 16);
}

/* a * b + c with one rounding, without fma hardware: the product is exact in double, the double sum
 * s is not. Rounding s to float is right unless s lies half-way between two floats (fma_chain.h),
 * which is certain not to be so when the result is a normal number and the last 29 bits of s are
 * not 100...0. Else s is rounded to odd, so that the rounding to float sees which side the lost
 * part lies on. Finite arguments only. */
static inline float kern_fma_portable(float a, float b, float c)
{
    const double p = (double)a * (double)b;
    const double s = p + (double)c;
    const float r = (float)s;
    double t, e, odd;
    uint64_t u;

    memcpy(&u, &s, sizeof u);
    if ((u & 0x1fffffffu) != 0x10000000u && (kern_bits(r) & 0x7fffffffu) > 0x00800000u)
        return r;
    t = s - p;
    e = (p - (s - t)) + ((double)c - t); /* what s lost */
    if (e == 0.0)
        return r;
    if ((u & 1) == 0)
        u = (e > 0.0) == (s > 0.0) ? u + 1 : u - 1;
    memcpy(&odd, &u, sizeof odd);
    return (float)odd;
}

/* The scale of a block of inputs that becomes int8, from the bits of its largest magnitude; those
 * of infinity and NaN are the largest. NaN: no number comes out of such a block. 0: all of it is 0.
 */
static inline float kern_input_scale(uint32_t largest)
{
    if (largest >= 0x7f800000u)
        return kern_from_bits(0x7fc00000u);
    return kern_from_bits(largest) < 0x1p-100f ? 0.0f : kern_from_bits(largest) / 127.0f;
}

static inline float kern_fma(float a, float b, float c)
{
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, c);
#else
    return kern_fma_portable(a, b, c);
#endif
}

/* exp(x) for x <= 88, larger x count as 88; 0 below KERN_EXP_LOW. At most 0.94 ulp on [-87, 0]. */
static inline float kern_exp(float x)
{
    float lo = x > KERN_EXP_LOW ? x : KERN_EXP_LOW;
    float c = lo < KERN_EXP_HIGH ? lo : KERN_EXP_HIGH;
    /* Adding 1.5 * 2^23 rounds to an integer n, which then stands in the low bits of t. */
    float t = kern_fma(c, 0x1.715476p+0f, 12582912.0f);
    float n = t - 12582912.0f;
    float r = kern_fma(n, -0x1.62e43p-1f, c);
    float p = 0x1.69e7eep-10f;

    r = kern_fma(n, 0x1.05c61p-29f, r);
    p = kern_fma(p, r, 0x1.12332ep-7f);
    p = kern_fma(p, r, 0x1.55589ap-5f);
    p = kern_fma(p, r, 0x1.555494p-3f);
    p = kern_fma(p, r, 0x1.fffffcp-2f);
    p = kern_fma(p, r, 1.0f);
    p = kern_fma(p, r, 1.0f);
    return x < KERN_EXP_LOW ? 0.0f : kern_from_bits(kern_bits(p) + (kern_bits(t) << 23));
}

/* tanh(x): at most 1.4 ulp. */
static inline float kern_tanh(float x)
{
    const float a = kern_from_bits(kern_bits(x) & 0x7fffffffu);
    float y;

    if (a < 0.625f) {
        const float t = a * a;
        float p = -0x1.750ce4p-8f;

        p = kern_fma(p, t, 0x1.51f8cep-6f);
        p = kern_fma(p, t, -0x1.b835a4p-5f);
        p = kern_fma(p, t, 0x1.1106f6p-3f);
        p = kern_fma(p, t, -0x1.555532p-2f);
        y = kern_fma(a * t, p, a);
    } else {
        const float c = a < 9.1f ? a : 9.1f;

        y = 1.0f - 2.0f / (1.0f + kern_exp(2.0f * c));
    }
    return kern_from_bits(kern_bits(y) | (kern_bits(x) & 0x80000000u));
}

/* GELU, tanh form, as x * sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3): no tanh needed. At
 * most 5.2e-7 off on
 * [-12, 12]. */
static inline float kern_gelu_tanh(float x)
{
    const float v = kern_fma(x * x, 0x1.2444f2p-4f, 0x1.988454p+0f);
    const float z = x * v;

    return x / (1.0f + kern_exp(-z));
}

/* GELU, erf form: max(x, 0) - |x| * h with h = erfc(|x| / sqrt 2) / 2 = exp(-x^2 / 2) * P(t), t = 1
 * / (1 + 0.3 |x|). No cancellation: at most 1.5e-7 off for |x| <= 4, relatively 1e-6. */
static inline float kern_gelu_erf(float x)
{
    const float a = kern_from_bits(kern_bits(x) & 0x7fffffffu);
    const float t = 1.0f / kern_fma(0x1.333334p-2f, a, 1.0f);
    float p = 0x1.27356ap-5f;
    float h;

    p = kern_fma(p, t, -0x1.450b72p-3f);
    p = kern_fma(p, t, 0x1.abf54ap-3f);
    p = kern_fma(p, t, -0x1.cb886cp-5f);
    p = kern_fma(p, t, 0x1.09eb34p-3f);
    p = kern_fma(p, t, 0x1.97a592p-4f);
    p = kern_fma(p, t, 0x1.eeddb2p-4f);
    p = kern_fma(p, t, 0x1.e9fc14p-4f);
    h = (p * t) * kern_exp((a * a) * -0.5f);
    return kern_fma(-a, h, x > 0.0f ? x : 0.0f);
}

static inline float kern_relu(float x)
{
    return x > 0.0f ? x : 0.0f;
}

static inline float kern_silu(float x)
{
    return x / (1.0f + kern_exp(-x));
}

/* x rounded to an integer, ties to even: the mode of this process (kernels_check_float_mode). Not
 * by adding 1.5 * 2^23: x is a product, and a compiler could fuse the two. */
static inline int32_t kern_round_even(float x)
{
    return (int32_t)lrintf(x);
}

/* End of the block of KERN_KC terms that begins at k0. */
static inline int kern_block_end(int k0, int k_dim)
{
    return k0 + KERN_KC < k_dim ? k0 + KERN_KC : k_dim;
}

/* Folds the lanes in halves: 8, 4, 2, 1. */
static inline float kern_fold_lanes(float lane[KERN_LANES])
{
    for (int half = KERN_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = lane[j] + lane[j + half];
    return lane[0];
}

#endif
