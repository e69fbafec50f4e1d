/* kernels/kernels_internal.h: the tables that kernels_select.c chooses from.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_KERNELS_INTERNAL_H
#define LLORCH_KERNELS_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

/* The specification: every other table gives its bits. */
extern const Kernels kernels_scalar;

#if defined(__x86_64__)
/* AVX2 + FMA. Call only on a processor that has both. */
extern const Kernels kernels_avx2;
#endif

#endif
