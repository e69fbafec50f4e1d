/* kernels/fma_chain.h: 8 chains of fused multiply-adds side by side, in portable C: what every
 * product of kernels_scalar.c is made of.
 *
 *     a[r] = fma(w[i][r], x[i], a[r])   for i = 0, 1, ...
 *
 * With fma in hardware that is what is written down here. Without, most steps need no more than a
 * product and a sum in double (see chain_fast), and the others go through kern_fma.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_FMA_CHAIN_H
#define LLORCH_KERNELS_FMA_CHAIN_H

#include "kernels/elementary.h"
#include "kernels/kernels.h"

enum { CHAIN_STEPS = 64 }; /* most steps of one piece of a chain */

/* n weights of a float type as floats, at wide or where they are. */
static inline const float *chain_widen(float *restrict wide, const void *restrict src,
                                       KernType type, int n)
{
    const uint16_t *bits = src;

    if (type == KERN_F32)
        return src;
    for (int i = 0; i < n; i += KERN_PANEL) {
        if (type == KERN_F16)
            for (int r = 0; r < KERN_PANEL; r++)
                wide[i + r] = kern_widen_f16(bits[i + r]);
        else
            for (int r = 0; r < KERN_PANEL; r++)
                wide[i + r] = kern_widen_bf16(bits[i + r]);
    }
    return wide;
}

#ifdef __FP_FAST_FMAF

typedef struct {
    float wide[CHAIN_STEPS * KERN_PANEL];
    const float *w; /* [steps][8] */
} ChainWeights;

static inline void chain_load(ChainWeights *c, const void *src, KernType type, int n)
{
    c->w = chain_widen(c->wide, src, type, n * KERN_PANEL);
}

static inline void chain_run(float a[KERN_PANEL], const ChainWeights *c, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        for (int r = 0; r < KERN_PANEL; r++)
            a[r] = kern_fma(c->w[i * KERN_PANEL + r], x[i], a[r]);
}

#else

typedef struct {
    double w[CHAIN_STEPS][KERN_PANEL];
    bool ordinary; /* all of them, see chain_fast */
} ChainWeights;

typedef double ChainPair __attribute__((vector_size(16)));
typedef int64_t ChainPairBits __attribute__((vector_size(16)));
typedef int32_t ChainWords __attribute__((vector_size(16)));

/* Whether each of x[0 .. n) is 0 or 2^-51 <= |x| <= 2^50: told by signs, without jumps. */
static inline bool chain_ordinary(const float *x, int n)
{
    ChainWords found = {0};

    for (int i = 0; i < n; i += 4) {
        ChainWords u = {0}, magnitude;

        memcpy(&u, x + i, n - i < 4 ? (size_t)(n - i) * sizeof *x : sizeof u);
        magnitude = u & 0x7fffffff;
        found |= ((magnitude - 0x26000000) & -magnitude) | (0x58800000 - magnitude);
    }
    return (found[0] | found[1] | found[2] | found[3]) >= 0;
}

static inline void chain_load(ChainWeights *c, const void *src, KernType type, int n)
{
    float room[CHAIN_STEPS * KERN_PANEL];
    const float *wide = chain_widen(room, src, type, n * KERN_PANEL);

    c->ordinary = type == KERN_F16 || chain_ordinary(wide, n * KERN_PANEL);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < KERN_PANEL; r++)
            /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): chain_widen wrote them */
            c->w[i][r] = (double)wide[i * KERN_PANEL + r];
}

/* Steps in double; stops before the first that needs more, returns how many it did.
 *
 * A product of floats is exact in double, its sum s with a is rounded to 53 bits; what fma wants is
 * the exact sum v rounded to 24. Rounding s again gives just that unless s lies half-way between
 * two floats: half-way points are doubles, and rounding never carries a value across a double, so
 * if s is none of them, v lies between the same two as s does. Hence: add half of the last place of
 * a float to the magnitude and cut the 29 bits behind that place. The cut changes nothing just in
 * the half-way case; that step is left to kern_fma.
 *
 * Weights and x must be ordinary. Then nothing overflows: a product is at most 2^100, half of the
 * last place of the largest float 2^103. And all sums are multiples of 2^-149 (a product of two
 * numbers of 24 bits from 2^-51 on is one of 2^-148), so that sums below 2^-126, where floats have
 * fewer bits, are exact floats already. */
static inline int chain_fast(double sum[KERN_PANEL], const double (*w)[KERN_PANEL], const float *x,
                             int n)
{
    const ChainPairBits half = {0x10000000, 0x10000000}, cut = {~0x1fffffffLL, ~0x1fffffffLL};
    ChainPair a[KERN_PANEL / 2], next[KERN_PANEL / 2];
    int i;

    memcpy(a, sum, sizeof a);
    for (i = 0; i < n; i++) {
        const ChainPair xi = {(double)x[i], (double)x[i]};
        ChainWords tie = {0}; /* the lower half of each pair counts */
        ChainPairBits ties;

#pragma GCC unroll 4
        for (size_t p = 0; p < KERN_PANEL / 2; p++) {
            ChainPairBits up, kept;
            ChainPair v;

            memcpy(&v, &w[i][2 * p], sizeof v);
            up = (ChainPairBits)(v * xi + a[p]) + half;
            kept = up & cut;
            tie |= (ChainWords)up == (ChainWords)kept;
            next[p] = (ChainPair)kept;
        }
        ties = (ChainPairBits)tie;
        if (((ties[0] | ties[1]) & 1) != 0)
            break;
#pragma GCC unroll 4
        for (int p = 0; p < KERN_PANEL / 2; p++)
            a[p] = next[p];
    }
    memcpy(sum, a, sizeof a);
    return i;
}

static inline void chain_run(float a[KERN_PANEL], const ChainWeights *c, const float *x, int n)
{
    const bool ordinary = c->ordinary && chain_ordinary(x, n);
    double sum[KERN_PANEL];

    for (int r = 0; r < KERN_PANEL; r++)
        sum[r] = (double)a[r];
    for (int i = 0; i < n; i++) {
        if (ordinary)
            i += chain_fast(sum, c->w + i, x + i, n - i);
        for (int r = 0; i < n && r < KERN_PANEL; r++)
            sum[r] = (double)kern_fma((float)c->w[i][r], x[i], (float)sum[r]);
    }
    for (int r = 0; r < KERN_PANEL; r++)
        a[r] = (float)sum[r];
}

#endif

#endif
