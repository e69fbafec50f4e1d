/* kernels/probe_internal.h: the read probes, compiled once per instruction set, and the probe of
 * AVX2.
 *
 * May include: kernels. */
#ifndef LLORCH_KERNELS_PROBE_INTERNAL_H
#define LLORCH_KERNELS_PROBE_INTERNAL_H

#include <stdbool.h>

#include "kernels/probe.h"

enum { PROBE_LINE = 64, PROBE_AHEAD = 1024, PROBE_PARTS = PROBE_UNIT_BYTES / PROBE_LINE };

/* As wide as the compiler has registers, or several of them. */
typedef uint64_t ProbeVector __attribute__((vector_size(32)));

/* One line of each of PROBE_PARTS parts, stride bytes apart, at a time; two sums a part. */
static inline __attribute__((always_inline)) uint64_t
probe_read(const void *p, size_t n_bytes, size_t stride, size_t step, bool ahead)
{
    const char *base = p;
    const size_t n_steps = n_bytes / PROBE_UNIT_BYTES;
    ProbeVector sum[PROBE_PARTS][2] = {{{0}}};

    for (size_t i = 0; i < n_steps; i++) {
        const char *at = base + i * step;

#pragma GCC unroll 4
        for (size_t j = 0; j < PROBE_PARTS; j++) {
            const ProbeVector *line = (const ProbeVector *)(const void *)(at + j * stride);

            if (ahead)
                __builtin_prefetch(at + j * stride + PROBE_AHEAD);
            sum[j][0] ^= line[0];
            sum[j][1] ^= line[1];
        }
    }
    for (size_t j = 1; j < PROBE_PARTS; j++) {
        sum[0][0] ^= sum[j][0];
        sum[0][1] ^= sum[j][1];
    }
    sum[0][0] ^= sum[0][1];
    return sum[0][0][0] ^ sum[0][0][1] ^ sum[0][0][2] ^ sum[0][0][3];
}

static inline uint64_t probe_read_linear(const void *p, size_t n_bytes)
{
    return probe_read(p, n_bytes, PROBE_LINE, PROBE_UNIT_BYTES, false);
}

static inline uint64_t probe_read_streams(const void *p, size_t n_bytes)
{
    return probe_read(p, n_bytes, n_bytes / PROBE_UNIT_BYTES * PROBE_LINE, PROBE_LINE, false);
}

static inline uint64_t probe_read_ahead(const void *p, size_t n_bytes)
{
    return probe_read(p, n_bytes, n_bytes / PROBE_UNIT_BYTES * PROBE_LINE, PROBE_LINE, true);
}

#if defined(__x86_64__)
extern const Probe probe_avx2; /* call only on a processor that has AVX2 and FMA */
#endif

#endif
