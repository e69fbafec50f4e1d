/* kernels/kernels_avx2.h: what the files of the AVX2 table share. Included only by files that are
 * compiled with -mavx2 -mfma -mf16c.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_KERNELS_AVX2_H
#define LLORCH_KERNELS_KERNELS_AVX2_H

#if defined(__AVX2__)

#include <immintrin.h>

#include "kernels/kernels.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* For loops whose count is a constant after inlining: their sums must end up in registers, not in
 * an array. clang unrolls them by itself, and not when it is asked to. */
#ifdef __clang__
/* NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a loop variable */
#define EACH(I, N) for (int I = 0; I < (N); I++)
#else
#define EACH(I, N) _Pragma("GCC unroll 16") for (int I = 0; I < (N); I++)
#endif

/* The tables indexed by KernType, less the first type of theirs, rely on this order. */
_Static_assert(KERN_F32 == 0 && KERN_F16 == 1 && KERN_BF16 == 2 && KERN_Q8_0 == 3 &&
                   KERN_Q4_0 == 4 && KERN_TYPE_COUNT == 5,
               "the float types first, then the quantised ones");

/* Where part number i of n_tokens begins when they are cut into n parts of nearly the same size: a
 * small part has too few sums to hide their latency. */
ALWAYS_INLINE int part_begin(int i, int n, int n_tokens)
{
    return i * n_tokens / n;
}

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

/* Term k of a panel of a float type, widened exactly. type is a constant after inlining. */
ALWAYS_INLINE __m256 load_term(KernType type, const unsigned char *panel, size_t k)
{
    if (type == KERN_F32)
        return _mm256_load_ps((const float *)(const void *)panel + k * KERN_PANEL);

    const uint16_t *p = (const uint16_t *)(const void *)panel + k * KERN_PANEL;
    const __m128i half = _mm_load_si128((const __m128i *)(const void *)p);

    if (type == KERN_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

ALWAYS_INLINE size_t element_bytes(KernType type)
{
    return type == KERN_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* The parts of the table, by file. */
void avx2_input_float(void *input, const float *x, size_t ldx, int n_tokens, int k);
void avx2_linear_float(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                       const float *bias, const void *input, int n_tokens);
void avx2_input_quant(void *input, KernType type, const float *x, size_t ldx, int n_tokens, int k);
void avx2_linear_quant(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                       const float *bias, const void *input, int n_tokens);
void avx2_attn_scores(float *s, size_t lds, const float *q, size_t ldq, int n_queries,
                      const KernHead *head, int n_keys, float scale);
void avx2_attn_values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                      int n_queries, const KernHead *head, int n_keys);

#endif
#endif
