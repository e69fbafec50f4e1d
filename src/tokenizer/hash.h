/* tokenizer/hash.h: hashing for tables whose keys come from a file. The seed is random, so no file
 * can be made whose keys all collide: looking up takes constant time on average over the seeds,
 * whatever the keys. Results never depend on it.
 *
 * May include: nothing. */
#ifndef LLORCH_TOKENIZER_HASH_H
#define LLORCH_TOKENIZER_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t base; /* of the polynomial over the bytes of a key, 256..2^61 - 2 */
    uint64_t mul;  /* odd */
} HashSeed;

/* While a table is filled from a file the seed is random. A finished table gets one of these
 * instead, the first under which no chain is longer than HASH_MAX_CHAIN: the same content then
 * makes the same table, byte for byte, and it may be kept in a file. */
enum { HASH_N_SEEDS = 64, HASH_MAX_CHAIN = 64 };

/* A new seed from the kernel's random numbers, or from the clock when there are none. */
HashSeed hash_seed(void);

/* The i-th of the fixed seeds, 0 <= i < HASH_N_SEEDS. Written into packed files: never to be
 * changed without their version. */
HashSeed hash_seed_fixed(int i);

/* The power of two, as its exponent (1..31), of a table for n entries. */
int hash_bits(size_t n);

/* The bytes as one number, equal for different keys of length n with probability below n / 2^60. */
uint64_t hash_bytes(HashSeed seed, const char *bytes, size_t n);

/* The bucket of a number in a table of 2^bits: multiply-shift (Dietzfelbinger et al. 1997), which
 * is universal. */
static inline uint32_t hash_bucket(HashSeed seed, uint64_t key, int bits)
{
    return (uint32_t)((key * seed.mul) >> (64 - bits));
}

#endif
