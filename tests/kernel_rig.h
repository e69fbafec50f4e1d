/* tests/kernel_rig.h: what the tests of the kernels share: random numbers, memory with guards,
 * comparison of bits, and f16 written down a second time.
 *
 * Include after the standard headers and cmocka.h. */
#ifndef LLORCH_TESTS_KERNEL_RIG_H
#define LLORCH_TESTS_KERNEL_RIG_H

#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "quick.h"

static inline uint32_t next_u32(void)
{
    static uint64_t state = 20240229;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* 0 .. n - 1 */
static inline int next_int(int n)
{
    return (int)((uint64_t)next_u32() * (uint64_t)n >> 32);
}

/* About normal(0, 1). */
static inline float next_float(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 4; i++)
        sum += (float)(next_u32() >> 8) * 0x1p-24f;
    return (sum - 2.0f) * 1.7f;
}

/* n bytes aligned to 64 between two guards; release_room checks that nothing wrote there. */
enum { GUARD_BYTES = 64 };

static inline void *new_room(size_t n)
{
    const size_t rounded = (n + 63) / 64 * 64;
    unsigned char *p = aligned_alloc(64, GUARD_BYTES + rounded + GUARD_BYTES);

    assert_non_null(p);
    memset(p, 0xa5, GUARD_BYTES);
    memset(p + GUARD_BYTES, 0xff, n); /* NaN in every type of float */
    memset(p + GUARD_BYTES + n, 0xa5, rounded - n + GUARD_BYTES);
    return p + GUARD_BYTES;
}

static inline void release_room(void *room, size_t n)
{
    unsigned char *p = (unsigned char *)room - GUARD_BYTES;
    const size_t end = GUARD_BYTES + (n + 63) / 64 * 64 + GUARD_BYTES;

    for (size_t i = 0; i < end; i++)
        if ((i < GUARD_BYTES || i >= GUARD_BYTES + n) && p[i] != 0xa5)
            fail_msg("byte %td of a room of %zu was written", (ptrdiff_t)i - GUARD_BYTES, n);
    free(p);
}

static inline float *new_floats(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof(float) + 127) / 64 * 64);

    assert_non_null(p);
    return p;
}

static inline float *random_floats(size_t n)
{
    float *p = new_floats(n);

    for (size_t i = 0; i < n; i++)
        p[i] = next_float();
    return p;
}

static inline void fill(float *p, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        p[i] = value;
}

static inline void assert_same_bits(const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n && memcmp(got, want, n * sizeof(float)) != 0; i++)
        if (memcmp(got + i, want + i, sizeof(float)) != 0)
            fail_msg("element %zu of %zu: %a, expected %a", i, n, (double)got[i], (double)want[i]);
}

/* The value of a finite f16. */
static inline double f16_value(unsigned h)
{
    const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    const double magnitude =
        exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);

    return h & 0x8000 ? -magnitude : magnitude;
}

/* x rounded to f16, by way of double: the multiple of the last place nearest to it. */
static inline unsigned define_f16(float x)
{
    const unsigned sign = signbit(x) ? 0x8000 : 0;
    const double magnitude = fabs((double)x);
    int exponent;
    double places;

    (void)frexp(magnitude, &exponent); /* magnitude < 2^exponent */
    if (magnitude < 0x1p-14)
        exponent = -13;
    places = nearbyint(ldexp(magnitude, 11 - exponent)); /* 0 .. 2048 */
    if (ldexp(places, exponent - 11) > 65504)
        return sign | 0x7c00;
    /* A carry to 2048 counts on into the exponent. */
    return sign | (unsigned)((exponent + 13) * 1024 + (int)places);
}

/* The value of element i of weights in the form of a file: the definitions of the types. */
static inline float define_weight(const void *file, KernType type, size_t i)
{
    const unsigned char *p = file;
    float d, x;

    if (type == KERN_F32) {
        memcpy(&x, p + i * 4, 4);
        return x;
    }
    if (type == KERN_F16)
        return (float)f16_value(p[i * 2] | (unsigned)p[i * 2 + 1] << 8);
    if (type == KERN_BF16)
        return kern_from_bits((uint32_t)p[i * 2] << 16 | (uint32_t)p[i * 2 + 1] << 24);
    p += i / 32 * (type == KERN_Q8_0 ? 34 : 18);
    d = (float)f16_value(p[0] | (unsigned)p[1] << 8);
    i %= 32;
    if (type == KERN_Q8_0)
        return d * (float)(signed char)p[2 + i];
    return d * (float)((i < 16 ? p[2 + i] & 15 : p[2 + i - 16] >> 4) - 8);
}

#endif
