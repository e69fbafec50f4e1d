/* kernels/kernels_avx2_probe.c: the probes of a core with AVX2 and FMA.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include "kernels/kernels_avx2.h"
#include "kernels/probe_internal.h"

/* Latency 4 and two units on the cores this is tuned for: 8 chains would do, 12 leave some slack
 * and still fit into the registers. */
enum { CHAINS = 12 };

static float fma_avx2(size_t rounds)
{
    const __m256 half = _mm256_set1_ps(0.5f), tiny = _mm256_set1_ps(1e-9f);
    __m256 a[CHAINS];
    float lanes[8], sum = 0.0f;

    EACH (i, CHAINS) /* equal chains would be computed once */
        a[i] = _mm256_set1_ps((float)i);
    for (size_t n = 0; n < rounds; n++)
        EACH (i, CHAINS)
            a[i] = _mm256_fmadd_ps(a[i], half, tiny);
    EACH (i, CHAINS - 1)
        a[0] = _mm256_add_ps(a[0], a[i + 1]);
    _mm256_storeu_ps(lanes, a[0]);
    for (int i = 0; i < 8; i++)
        sum += lanes[i];
    return sum;
}

const Probe probe_avx2 = {.name = "avx2",
                          .read = {probe_read_linear, probe_read_streams, probe_read_ahead},
                          .fma = fma_avx2,
                          .flop_per_round = (size_t)2 * CHAINS * 8};

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2ProbeUnused;
#endif
