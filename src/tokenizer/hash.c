/* tokenizer/hash.c: the random seed and the hash of byte strings.
 *
 * May include: common. */
#include "tokenizer/hash.h"

#include <string.h>
#include <sys/random.h>

#include "common/clock.h"

__extension__ typedef unsigned __int128 Uint128;

static const uint64_t prime =
    (UINT64_C(1) << 61) - 1; /* a Mersenne prime: the remainder is two additions */

static HashSeed seed_from(uint64_t base, uint64_t mul)
{
    return (HashSeed){.base = 256 + base % (prime - 256), .mul = mul | 1};
}

/* splitmix64 (Steele et al. 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

HashSeed hash_seed_fixed(int i)
{
    const uint64_t n = (uint64_t)i;

    return seed_from(mix(2 * n), mix(2 * n + 1));
}

HashSeed hash_seed(void)
{
    HashSeed seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        const uint64_t now = clock_now_ns();

        seed = (HashSeed){.base = now * UINT64_C(0x9e3779b97f4a7c15), .mul = now};
    }
    return seed_from(seed.base, seed.mul);
}

int hash_bits(size_t n)
{
    int bits = 1;

    while (bits < 31 && ((size_t)1 << bits) < n)
        bits++;
    return bits;
}

/* Seven bytes, which are below the prime, are one digit of the number; the digit at the end holds
 * the 0 to 6 bytes that are left and a bit above them, so that no two strings have the same digits.
 */
enum { DIGIT_BYTES = 7 };

/* Up to seven bytes as a number, the first one lowest. Two words that may overlap, and no loop: its
 * end would be guessed wrong for every other token. */
static uint64_t digit_of(const char *bytes, size_t n)
{
    uint32_t low, high;
    uint16_t low_half, high_half;

    if (n >= sizeof low) {
        memcpy(&low, bytes, sizeof low);
        memcpy(&high, bytes + n - sizeof high, sizeof high);
        return low | (uint64_t)high << 8 * (n - sizeof high);
    }
    if (n >= sizeof low_half) {
        memcpy(&low_half, bytes, sizeof low_half);
        memcpy(&high_half, bytes + n - sizeof high_half, sizeof high_half);
        return low_half | (uint64_t)high_half << 8 * (n - sizeof high_half);
    }
    return n == 0 ? 0 : (unsigned char)bytes[0];
}

static uint64_t add_digit(HashSeed seed, uint64_t h, uint64_t digit)
{
    /* + 1: otherwise leading zeros would not count. */
    const Uint128 x = (Uint128)h * seed.base + digit + 1;
    const uint64_t folded = (uint64_t)(x & prime) + (uint64_t)(x >> 61);

    return folded >= prime ? folded - prime : folded;
}

uint64_t hash_bytes(HashSeed seed, const char *bytes, size_t n)
{
    uint64_t h = 0;

    for (; n >= DIGIT_BYTES; n -= DIGIT_BYTES, bytes += DIGIT_BYTES)
        h = add_digit(seed, h, digit_of(bytes, DIGIT_BYTES));
    return add_digit(seed, h, digit_of(bytes, n) | UINT64_C(1) << (8 * n));
}
