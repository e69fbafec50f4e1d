/* sampling/rng.c: the counter-based generator.
 *
 * May include: nothing. */
#include "sampling/rng.h"

/* 2^64 divided by the golden ratio, made odd. */
static const uint64_t rng_step = 0x9e3779b97f4a7c15u;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_bits(uint64_t seed, uint64_t counter)
{
    return mix(mix(seed + rng_step) + (counter + 1) * rng_step);
}

double rng_uniform(uint64_t seed, uint64_t counter)
{
    return (double)(rng_bits(seed, counter) >> 11) * 0x1p-53;
}
