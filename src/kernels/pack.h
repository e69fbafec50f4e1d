/* kernels/pack.h: weights from a file's order into panels (matrix.h), and back.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_PACK_H
#define LLORCH_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/matrix.h"

/* One block of 32 weights as GGUF files store it, little endian. */
typedef struct {
    uint8_t d[2]; /* scale, f16 */
    int8_t q[KERN_BLOCK];
} KernBlockQ8;

typedef struct {
    uint8_t d[2];
    uint8_t q[KERN_BLOCK / 2]; /* q[i]: low nibble weight i, high nibble weight i + 16 */
} KernBlockQ4;

/* Bytes of n consecutive weights in a file; n is a multiple of 32 for Q8_0 and Q4_0. */
size_t kern_file_bytes(KernType type, size_t n);

/* n weights from src[index ..] on (any alignment; index and n multiples of 32 for Q8_0 and Q4_0) as
 * float32, exactly: f16 and bf16 widened, subnormals included, d * q rounded once. */
void kern_widen(float *dst, const void *src, KernType type, size_t index, size_t n);

/* x[0..n) in the form of a file: rounded to nearest even for F16 and BF16; per block of 32 for Q8_0
 * (d = max |x| / 127) and Q4_0 (d = the x of greatest magnitude / -8), as published for GGUF. */
void kern_narrow(void *dst, const float *x, KernType type, size_t n);

/* Where the element of output row o and input i lies: src[i * n + o] (GPT-2's projections, [in,
 * out]; float types only) or src[o * k + i] (embedding tables and GGUF, one output per row). */
typedef enum { KERN_IN_OUT, KERN_OUT_IN } KernOrder;

/* Writes rows [first, first + rows) of a matrix of n x k weights to panels and scales (the bases of
 * the whole matrix), first a multiple of 8. src holds all of the matrix for KERN_IN_OUT, which
 * takes first = 0 and rows = n only, and starts at row first for KERN_OUT_IN. Rows that pad the
 * last panel become zero. From one quantised type to itself bits are kept; between others the
 * values are widened to float32 and narrowed.
 *
 * Returns false when an element, or one that came from it, is not finite (beyond the range of F16,
 * for example); *bad is then its index in src. */
bool kern_pack(void *panels, uint16_t *scales, KernType to, size_t n, size_t k, size_t first,
               size_t rows, const void *src, KernType from, KernOrder order, size_t *bad);

/* Whether all of x[0..n) is finite; *bad is the first element that is not. */
bool kern_all_finite(const float *x, size_t n, size_t *bad);

/* dst[i] = src[i] as float32 for i < n, which do not overlap; false and *bad as above. */
bool kern_copy(float *dst, const void *src, KernType type, size_t n, size_t *bad);

/* Row o of packed weights as float32, back in order: row[0..k). */
void kern_unpack_row(float *row, const KernMatrix *m, size_t o);

/* Input i of every output as float32: column[0..n). */
void kern_unpack_column(float *column, const KernMatrix *m, size_t i);

/* Row o in the form of a file: kern_file_bytes(m->type, m->k) bytes; what was packed from that type
 * comes back bit for bit. */
void kern_unpack_file(void *dst, const KernMatrix *m, size_t o);

#endif
