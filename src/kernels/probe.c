/* kernels/probe.c: the probes in portable C, and which ones this machine can run.
 *
 * May include: kernels. */
#include "kernels/probe.h"

#include "kernels/kernels.h"
#include "kernels/probe_internal.h"

#include <string.h>

enum { CHAINS = 12, WIDTH = 4 };

typedef float FloatVector __attribute__((vector_size(16)));

/* a * b + c: one instruction where the compiler may count on it, else two. */
static inline FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector c)
{
#ifdef __FP_FAST_FMAF
    for (int i = 0; i < WIDTH; i++)
        a[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return a;
#else
    return a * b + c;
#endif
}

static float fma_portable(size_t rounds)
{
    const FloatVector half = {0.5f, 0.5f, 0.5f, 0.5f}, tiny = {1e-9f, 1e-9f, 1e-9f, 1e-9f};
    FloatVector a[CHAINS];

    for (int i = 0; i < CHAINS; i++) /* equal chains would be computed once */
        a[i] = tiny + (float)i;
    for (size_t n = 0; n < rounds; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            a[i] = multiply_add(a[i], half, tiny);
    }
    for (int i = 1; i < CHAINS; i++)
        a[0] += a[i];
    return a[0][0] + a[0][1] + a[0][2] + a[0][3];
}

static const Probe portable = {.name = "scalar",
                               .read = {probe_read_linear, probe_read_streams, probe_read_ahead},
                               .fma = fma_portable,
                               .flop_per_round = (size_t)2 * CHAINS * WIDTH};

const Probe *probe_available(int i)
{
    if (i == 0)
        return &portable;
#if defined(__x86_64__)
    /* What the kernels of that name need is more than enough for the probe. */
    for (int t = 0; i == 1 && kernels_available(t) != NULL; t++)
        if (strcmp(kernels_available(t)->name, probe_avx2.name) == 0)
            return &probe_avx2;
#endif
    return NULL;
}

const Probe *probe_best(void)
{
    const Probe *best = &portable;

    for (int i = 1; probe_available(i) != NULL; i++)
        best = probe_available(i);
    return best;
}
