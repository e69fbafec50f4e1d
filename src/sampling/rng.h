/* sampling/rng.h: random numbers by counter: draw i of a seed is a pure function of (seed, i).
 *
 * Part of the compatibility promise: the numbers never change (docs/numerics.md, sampling, has test
 * vectors).
 *
 * May include: nothing. */
#ifndef LLORCH_SAMPLING_RNG_H
#define LLORCH_SAMPLING_RNG_H

#include <stdint.h>

/* 64 random bits: mix(mix(seed + G) + (counter + 1) * G), G = 0x9e3779b97f4a7c15, all mod 2^64,
 * where mix(z) is z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;  z = (z ^ z >> 27) * 0x94d049bb133111eb;
 * z ^ z >> 31.
 *
 * The seed is mixed before the counter enters, so that neighbouring seeds do not give shifted
 * copies of one sequence. Source  the output function of SplitMix64 (Steele, Lea, Flood 2014;
 * constants by Stafford, variant 13). */
uint64_t rng_bits(uint64_t seed, uint64_t counter);

/* The top 53 of those bits as a number k * 2^-53 in [0, 1). */
double rng_uniform(uint64_t seed, uint64_t counter);

#endif
