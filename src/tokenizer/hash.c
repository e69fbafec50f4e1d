/* tokenizer/hash.c: the random seed and the hash of byte strings.
 *
 * May include: common. */
#include "tokenizer/hash.h"

#include <sys/random.h>

#include "common/clock.h"

__extension__ typedef unsigned __int128 Uint128;

static const uint64_t prime =
    (UINT64_C(1) << 61) - 1; /* a Mersenne prime: the remainder is two additions */

HashSeed hash_seed(void)
{
    HashSeed seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        const uint64_t now = clock_now_ns();

        seed = (HashSeed){.base = now * UINT64_C(0x9e3779b97f4a7c15), .mul = now};
    }
    seed.base = 256 + seed.base % (prime - 256);
    seed.mul |= 1;
    return seed;
}

int hash_bits(size_t n)
{
    int bits = 1;

    while (bits < 31 && ((size_t)1 << bits) < n)
        bits++;
    return bits;
}

uint64_t hash_bytes(HashSeed seed, const char *bytes, size_t n)
{
    uint64_t h = 0;

    for (size_t i = 0; i < n; i++) {
        /* + 1: otherwise leading zero bytes would not count. */
        const Uint128 x = (Uint128)h * seed.base + (unsigned char)bytes[i] + 1;
        const uint64_t folded = (uint64_t)(x & prime) + (uint64_t)(x >> 61);

        h = folded >= prime ? folded - prime : folded;
    }
    return h;
}
