/* formats/gguf_types.h: the element types of GGUF tensors: names, sizes, and their values as
 * float32.
 *
 * May include: nothing. */
#ifndef LLORCH_FORMATS_GGUF_TYPES_H
#define LLORCH_FORMATS_GGUF_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ids of tensor types as files have them. Those that are missing here were withdrawn or never
 * given out. */
enum {
    GGUF_F32 = 0,
    GGUF_F16 = 1,
    GGUF_Q4_0 = 2,
    GGUF_Q4_1 = 3,
    GGUF_Q5_0 = 6,
    GGUF_Q5_1 = 7,
    GGUF_Q8_0 = 8,
    GGUF_Q8_1 = 9,
    GGUF_Q2_K = 10,
    GGUF_Q3_K = 11,
    GGUF_Q4_K = 12,
    GGUF_Q5_K = 13,
    GGUF_Q6_K = 14,
    GGUF_Q8_K = 15,
    GGUF_IQ2_XXS = 16,
    GGUF_IQ2_XS = 17,
    GGUF_IQ3_XXS = 18,
    GGUF_IQ1_S = 19,
    GGUF_IQ4_NL = 20,
    GGUF_IQ3_S = 21,
    GGUF_IQ2_S = 22,
    GGUF_IQ4_XS = 23,
    GGUF_I8 = 24,
    GGUF_I16 = 25,
    GGUF_I32 = 26,
    GGUF_I64 = 27,
    GGUF_F64 = 28,
    GGUF_IQ1_M = 29,
    GGUF_BF16 = 30,
    GGUF_TQ1_0 = 34,
    GGUF_TQ2_0 = 35,
    GGUF_MXFP4 = 39,
    GGUF_NVFP4 = 40,
    GGUF_Q1_0 = 41,
    GGUF_Q2_0 = 42
};

typedef struct {
    const char *name;
    unsigned block;       /* weights that are stored together; rows are whole blocks */
    unsigned block_bytes; /* 0: withdrawn from the format, or never meant for files */
    /* What gguf_widen does with whole blocks; NULL: not supported. */
    void (*widen)(float *dst, const unsigned char *src, size_t n_blocks);
} GgufType;

/* NULL when no type has this id. */
const GgufType *gguf_type(uint32_t id);

/* dst[i] = weight i of src as float32, i < n; n is a multiple of the type's block, src has any
 * alignment. False, nothing written, when the type is not supported.
 *
 * Numbers  The formulas below in float32, from left to right, each operation rounded. All products
 * fit in 24 bits, so only a sum, or F64, really rounds: each weight is the exact value of its
 * formula, rounded once, ties to even. d, m: f16 scales of the block; s, t: unsigned 6-bit (Q2_K:
 * 4-bit) scale and minimum of the sub-block; q: the unsigned quant.
 *
 *   F32, F16, BF16   the value             F64         the value, rounded
 *   Q4_0  d * (q - 8)                      Q4_1  d * q + m
 *   Q5_0  d * (q - 16)                     Q5_1  d * q + m
 *   Q8_0  d * q, q signed
 *   Q2_K  d * s * q - m * t                Q3_K  d * (s - 32) * (q - 4)
 *   Q4_K  d * s * q - m * t                Q5_K  d * s * q - m * t
 *   Q6_K  d * s * (q - 32), s signed, 8 bits
 *
 * Infinite and NaN scales give infinite and NaN weights; the caller checks.
 * Source  the block layouts published with ggml (ggml-common.h, gguf-py), by description only. */
bool gguf_widen(float *dst, const void *src, uint32_t type, size_t n);

#endif
