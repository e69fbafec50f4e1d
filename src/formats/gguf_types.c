/* formats/gguf_types.c: the table of tensor types and one function per type that is widened. Runs
 * once per weight at load: written to be read beside the layouts, not for speed.
 *
 * May include: nothing. */
#include "formats/gguf_types.h"

#include <string.h>

enum { BLOCK = 32, K_BLOCK = 256, K_SCALES_BYTES = 12 };

static unsigned load_u16(const unsigned char *p)
{
    return (unsigned)p[0] | (unsigned)p[1] << 8;
}

static uint32_t load_u32(const unsigned char *p)
{
    return (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16;
}

static float from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The f16 at p, exactly. */
static float load_f16(const unsigned char *p)
{
    const uint32_t h = load_u16(p);
    const uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;

    if (exponent == 0) { /* zero or subnormal */
        const float magnitude = (float)mantissa * 0x1p-24f;

        return sign != 0 ? -magnitude : magnitude;
    }
    if (exponent == 31)
        return from_bits(sign | 0x7f800000u | mantissa << 13);
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static void widen_f32(float *dst, const unsigned char *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = from_bits(load_u32(src + 4 * i));
}

static void widen_f16(float *dst, const unsigned char *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = load_f16(src + 2 * i);
}

static void widen_bf16(float *dst, const unsigned char *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = from_bits((uint32_t)load_u16(src + 2 * i) << 16);
}

static void widen_f64(float *dst, const unsigned char *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = (uint64_t)load_u32(src + 8 * i) | (uint64_t)load_u32(src + 8 * i + 4)
                                                                    << 32;
        double x;

        memcpy(&x, &bits, sizeof x);
        dst[i] = (float)x;
    }
}

/* In the blocks of 32, byte j of the quants holds weight j in its low nibble and weight j + 16 in
 * its high one; Q5 has the fifth bit of weight i in bit i of a word in front of them. */
enum { HALF = BLOCK / 2 };

static void widen_nibbles(float *dst, const unsigned char *q, uint32_t fifth_bits, float d,
                          int zero, float m)
{
    for (int j = 0; j < HALF; j++) {
        const int low = (int)((q[j] & 15u) | (fifth_bits >> j & 1u) << 4);
        const int high = (int)((q[j] >> 4) | (fifth_bits >> (j + HALF) & 1u) << 4);

        dst[j] = d * (float)(low - zero) + m;
        dst[j + HALF] = d * (float)(high - zero) + m;
    }
}

/* -0 is what changes no sum, not even that of a -0. */
#define NO_MINIMUM (-0.0f)

/* f16 d, 16 bytes of nibbles. */
static void widen_q4_0(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 18)
        widen_nibbles(dst + b * BLOCK, src + 2, 0, load_f16(src), 8, NO_MINIMUM);
}

/* f16 d, f16 m, 16 bytes of nibbles. */
static void widen_q4_1(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 20)
        widen_nibbles(dst + b * BLOCK, src + 4, 0, load_f16(src), 0, load_f16(src + 2));
}

/* f16 d, 32 fifth bits, 16 bytes of nibbles. */
static void widen_q5_0(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 22)
        widen_nibbles(dst + b * BLOCK, src + 6, load_u32(src + 2), load_f16(src), 16, NO_MINIMUM);
}

/* f16 d, f16 m, 32 fifth bits, 16 bytes of nibbles. */
static void widen_q5_1(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 24)
        widen_nibbles(dst + b * BLOCK, src + 8, load_u32(src + 4), load_f16(src), 0,
                      load_f16(src + 2));
}

static int load_i8(const unsigned char *p)
{
    return *p < 128 ? *p : *p - 256;
}

/* f16 d, 32 signed bytes. */
static void widen_q8_0(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 34) {
        const float d = load_f16(src);

        for (int j = 0; j < BLOCK; j++)
            dst[b * BLOCK + (size_t)j] = d * (float)load_i8(src + 2 + j);
    }
}

/* The K types have super-blocks of 256. Two bits of weight i lie in byte 32 * (i / 128) + i % 32,
 * at bit 2 * (i % 128 / 32): four runs of 32 weights share 32 bytes. */
static unsigned two_bits(const unsigned char *q, int i)
{
    return (unsigned)q[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3u;
}

/* Likewise four bits: two runs of 32 weights share 32 bytes. */
static unsigned four_bits(const unsigned char *q, int i)
{
    return (unsigned)q[32 * (i / 64) + i % 32] >> (4 * (i % 64 / 32)) & 15u;
}

/* One bit: eight runs of 32 weights share 32 bytes. */
static unsigned one_bit(const unsigned char *q, int i)
{
    return (unsigned)q[i % 32] >> (i / 32) & 1u;
}

/* 16 scales (low nibbles) and minima (high nibbles) of 16 weights each, 64 bytes of quants, f16 d,
 * f16 m. */
static void widen_q2_k(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 84, dst += K_BLOCK) {
        const unsigned char *scales = src, *q = src + 16;
        const float d = load_f16(src + 80), m = load_f16(src + 82);

        for (int i = 0; i < K_BLOCK; i++) {
            const unsigned scale = scales[i / 16];

            dst[i] = d * (float)(scale & 15u) * (float)two_bits(q, i) - m * (float)(scale >> 4);
        }
    }
}

/* The 6-bit scale of sub-block j < 16 of Q3_K: four low bits in the nibbles of bytes 0..7, two high
 * bits in bytes 8..11. */
static int q3_k_scale(const unsigned char *scales, int j)
{
    const unsigned low = (unsigned)scales[j % 8] >> (4 * (j / 8)) & 15u;
    const unsigned high = (unsigned)scales[8 + j % 4] >> (2 * (j / 4)) & 3u;

    return (int)(low | high << 4);
}

/* 32 bytes of third bits, 64 bytes of quants, 12 bytes of scales, f16 d. */
static void widen_q3_k(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 110, dst += K_BLOCK) {
        const unsigned char *third = src, *q = src + 32, *scales = src + 96;
        const float d = load_f16(src + 108);

        for (int i = 0; i < K_BLOCK; i++) {
            const int quant = (int)(two_bits(q, i) | one_bit(third, i) << 2) - 4;

            dst[i] = d * (float)(q3_k_scale(scales, i / 16) - 32) * (float)quant;
        }
    }
}

/* The 6-bit scale and minimum of sub-block j < 8 of Q4_K and Q5_K: those of the first four lie
 * whole in bytes 0..3 and 4..7, whose two upper bits belong to the last four, which have their low
 * nibbles in bytes 8..11. */
static void k_scale(const unsigned char *scales, int j, unsigned *scale, unsigned *minimum)
{
    if (j < 4) {
        *scale = scales[j] & 63u;
        *minimum = scales[j + 4] & 63u;
    } else {
        *scale = (scales[j + 4] & 15u) | (unsigned)scales[j - 4] >> 6 << 4;
        *minimum = (unsigned)scales[j + 4] >> 4 | (unsigned)scales[j] >> 6 << 4;
    }
}

/* One super-block of Q4_K, or of Q5_K when there are fifth bits. */
static void widen_k(float *dst, const unsigned char *src, const unsigned char *fifth,
                    const unsigned char *q)
{
    const float d = load_f16(src), m = load_f16(src + 2);

    for (int i = 0; i < K_BLOCK; i++) {
        unsigned scale, minimum;
        const unsigned high = fifth == NULL ? 0 : one_bit(fifth, i);

        k_scale(src + 4, i / 32, &scale, &minimum);
        dst[i] = d * (float)scale * (float)(four_bits(q, i) | high << 4) - m * (float)minimum;
    }
}

/* f16 d, f16 m, 12 bytes of scales, 128 bytes of nibbles. */
static void widen_q4_k(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 144)
        widen_k(dst + b * K_BLOCK, src, NULL, src + 4 + K_SCALES_BYTES);
}

/* f16 d, f16 m, 12 bytes of scales, 32 bytes of fifth bits, 128 bytes of nibbles. */
static void widen_q5_k(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 176)
        widen_k(dst + b * K_BLOCK, src, src + 4 + K_SCALES_BYTES, src + 4 + K_SCALES_BYTES + 32);
}

/* 128 bytes of low nibbles (two runs of 64 share 64 bytes), 64 bytes of upper two bits, 16 signed
 * scales, f16 d. */
static void widen_q6_k(float *dst, const unsigned char *src, size_t n)
{
    for (size_t b = 0; b < n; b++, src += 210, dst += K_BLOCK) {
        const unsigned char *low = src, *high = src + 128, *scales = src + 192;
        const float d = load_f16(src + 208);

        for (int i = 0; i < K_BLOCK; i++) {
            const unsigned nibble =
                (unsigned)low[64 * (i / 128) + i % 64] >> (4 * (i % 128 / 64)) & 15u;
            const int quant = (int)(nibble | two_bits(high, i) << 4) - 32;

            dst[i] = d * (float)load_i8(scales + i / 16) * (float)quant;
        }
    }
}

static const GgufType types[] = {
    [GGUF_F32] = {"F32", 1, 4, widen_f32},
    [GGUF_F16] = {"F16", 1, 2, widen_f16},
    [GGUF_Q4_0] = {"Q4_0", BLOCK, 18, widen_q4_0},
    [GGUF_Q4_1] = {"Q4_1", BLOCK, 20, widen_q4_1},
    [4] = {"Q4_2", 0, 0, NULL},
    [5] = {"Q4_3", 0, 0, NULL},
    [GGUF_Q5_0] = {"Q5_0", BLOCK, 22, widen_q5_0},
    [GGUF_Q5_1] = {"Q5_1", BLOCK, 24, widen_q5_1},
    [GGUF_Q8_0] = {"Q8_0", BLOCK, 34, widen_q8_0},
    /* For activations; published descriptions disagree about its size (36 or 40 bytes). */
    [GGUF_Q8_1] = {"Q8_1", 0, 0, NULL},
    [GGUF_Q2_K] = {"Q2_K", K_BLOCK, 84, widen_q2_k},
    [GGUF_Q3_K] = {"Q3_K", K_BLOCK, 110, widen_q3_k},
    [GGUF_Q4_K] = {"Q4_K", K_BLOCK, 144, widen_q4_k},
    [GGUF_Q5_K] = {"Q5_K", K_BLOCK, 176, widen_q5_k},
    [GGUF_Q6_K] = {"Q6_K", K_BLOCK, 210, widen_q6_k},
    [GGUF_Q8_K] = {"Q8_K", K_BLOCK, 292, NULL},
    [GGUF_IQ2_XXS] = {"IQ2_XXS", K_BLOCK, 66, NULL},
    [GGUF_IQ2_XS] = {"IQ2_XS", K_BLOCK, 74, NULL},
    [GGUF_IQ3_XXS] = {"IQ3_XXS", K_BLOCK, 98, NULL},
    [GGUF_IQ1_S] = {"IQ1_S", K_BLOCK, 50, NULL},
    [GGUF_IQ4_NL] = {"IQ4_NL", BLOCK, 18, NULL},
    [GGUF_IQ3_S] = {"IQ3_S", K_BLOCK, 110, NULL},
    [GGUF_IQ2_S] = {"IQ2_S", K_BLOCK, 82, NULL},
    [GGUF_IQ4_XS] = {"IQ4_XS", K_BLOCK, 136, NULL},
    [GGUF_I8] = {"I8", 1, 1, NULL},
    [GGUF_I16] = {"I16", 1, 2, NULL},
    [GGUF_I32] = {"I32", 1, 4, NULL},
    [GGUF_I64] = {"I64", 1, 8, NULL},
    [GGUF_F64] = {"F64", 1, 8, widen_f64},
    [GGUF_IQ1_M] = {"IQ1_M", K_BLOCK, 56, NULL},
    [GGUF_BF16] = {"BF16", 1, 2, widen_bf16},
    [31] = {"Q4_0_4_4", 0, 0, NULL},
    [32] = {"Q4_0_4_8", 0, 0, NULL},
    [33] = {"Q4_0_8_8", 0, 0, NULL},
    [GGUF_TQ1_0] = {"TQ1_0", K_BLOCK, 54, NULL},
    [GGUF_TQ2_0] = {"TQ2_0", K_BLOCK, 66, NULL},
    [36] = {"IQ4_NL_4_4", 0, 0, NULL},
    [37] = {"IQ4_NL_4_8", 0, 0, NULL},
    [38] = {"IQ4_NL_8_8", 0, 0, NULL},
    [GGUF_MXFP4] = {"MXFP4", BLOCK, 17, NULL},
    [GGUF_NVFP4] = {"NVFP4", 64, 36, NULL},
    [GGUF_Q1_0] = {"Q1_0", 128, 18, NULL},
    [GGUF_Q2_0] = {"Q2_0", 64, 18, NULL},
};

const GgufType *gguf_type(uint32_t id)
{
    return id < sizeof types / sizeof types[0] ? &types[id] : NULL;
}

bool gguf_widen(float *dst, const void *src, uint32_t type, size_t n)
{
    const GgufType *t = gguf_type(type);

    if (t == NULL || t->widen == NULL)
        return false;
    t->widen(dst, src, n / t->block);
    return true;
}
