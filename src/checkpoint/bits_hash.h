/* checkpoint/bits_hash.h: one number for the bits of many floats, so that two machines can be
 * compared by eye.
 *
 * FNV-1a over 32-bit words instead of bytes (docs/numerics.md, section 6): +0 and -0 differ, and so
 * do two NaNs.
 *
 * May include: kernels. */
#ifndef LLORCH_CHECKPOINT_BITS_HASH_H
#define LLORCH_CHECKPOINT_BITS_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/elementary.h"

static const uint64_t bits_hash_start = 14695981039346656037u;

/* The hash h of what came before, continued by x[0..n). */
static inline uint64_t bits_hash(uint64_t h, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ kern_bits(x[i])) * 1099511628211u;
    return h;
}

#endif
