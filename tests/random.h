/* tests/random.h: numbers for random cases, the same in every run. */
#ifndef LLORCH_TESTS_RANDOM_H
#define LLORCH_TESTS_RANDOM_H

#include <stdint.h>

static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

#endif
