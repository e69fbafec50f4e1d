/* kernels/pack.h: weights from a file's order into panels of 8 output rows.
 *
 * May include: nothing. */
#ifndef LLORCH_KERNELS_PACK_H
#define LLORCH_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>

/* Element types of weight files. */
typedef enum { KERN_F32, KERN_F16, KERN_BF16 } KernType;

size_t kern_type_bytes(KernType type);

/* Element index of src as float32: f16 and bf16 are widened exactly, subnormals included. src may
 * have any alignment. */
float kern_widen(const void *src, size_t index, KernType type);

/* Where the element of output row o and input i lies: src[i * n + o] (GPT-2's projections, [in,
 * out]) or src[o * k + i] (embedding tables, one output per row). */
typedef enum { KERN_IN_OUT, KERN_OUT_IN } KernOrder;

/* panels[(o / 8) * k * 8 + i * 8 + o % 8] = element (o, i), widened; rows that pad the last panel
 * become zero. panels: kern_pad(n) * k floats. Returns false when an element is NaN or infinite;
 * *bad is then its index in src. */
bool kern_pack(float *panels, const void *src, KernType type, KernOrder order, size_t n, size_t k,
               size_t *bad);

/* dst[i] = src[i] widened; false and *bad as above. */
bool kern_copy(float *dst, const void *src, KernType type, size_t n, size_t *bad);

/* Row o of packed weights, back in order: row[0..k). */
void kern_unpack_row(float *row, const float *panels, size_t o, size_t k);

#endif
