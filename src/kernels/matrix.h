/* kernels/matrix.h: a weight matrix as the kernels read it: panels of 8 output rows, in the type
 * that the file has or that was asked for.
 *
 * May include: nothing. */
#ifndef LLORCH_KERNELS_MATRIX_H
#define LLORCH_KERNELS_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KERN_PANEL = 8, /* output rows side by side in packed weights; cache positions side by side */
    KERN_BLOCK = 32 /* weights of one row that share a scale, in the 8- and 4-bit types */
};

/* Types of weights, of files and in memory. Q8_0 and Q4_0 as GGUF has them: blocks of 32 with an
 * f16 scale. */
typedef enum { KERN_F32, KERN_F16, KERN_BF16, KERN_Q8_0, KERN_Q4_0, KERN_TYPE_COUNT } KernType;

/* Layouts, n rounded up to whole panels, the rows beyond n zero:
 *
 *   F32        [n / 8][k][8] float
 *   F16, BF16  [n / 8][k][8] bits
 *   Q8_0       [n / 8][k / 32][16 pairs][8 rows][2 k] int8
 *   Q4_0       [n / 8][k / 32][4][8 rows][4 k], low nibbles k = 4 g .. 4 g + 3 of the block, high
 *              nibbles k + 16; a nibble stands for its value - 8
 *   scales     [n / 8][k / 32][8] f16, Q8_0 and Q4_0 only
 *
 * Q8_0 and Q4_0: k is a multiple of 32. Memory is borrowed. */
typedef struct {
    KernType type;
    int n, k;               /* outputs, inputs */
    const void *panels;     /* 64-byte aligned */
    const uint16_t *scales; /* 64-byte aligned, NULL for the float types */
} KernMatrix;

/* n rounded up to whole panels. */
static inline size_t kern_pad(size_t n)
{
    return (n + KERN_PANEL - 1) / KERN_PANEL * KERN_PANEL;
}

static inline bool kern_is_quantised(KernType type)
{
    return type == KERN_Q8_0 || type == KERN_Q4_0;
}

/* "F32", "F16", "BF16", "Q8_0", "Q4_0": static text. */
const char *kern_type_name(KernType type);

/* The type called name, in upper or lower case; false when there is none. */
bool kern_type_parse(const char *name, KernType *type);

/* What rows of k weights are stored as when type is asked for: type, or F16 where Q8_0 and Q4_0
 * cannot be cut into blocks. */
KernType kern_type_for(KernType type, size_t k);

/* Bytes of the panels of n rows of k weights, and of their scales (0 for the float types); n is
 * rounded up. Sizes must have been checked against overflow: n * k * 4 fits. */
size_t kern_panels_bytes(KernType type, size_t n, size_t k);
size_t kern_scales_bytes(KernType type, size_t n, size_t k);

#endif
