/* tests/quick.h: whether the long cases are to be shortened.
 *
 * LLORCH_TEST_QUICK is set where programs run ten times slower: in emulators and under sanitizers.
 */
#ifndef LLORCH_TESTS_QUICK_H
#define LLORCH_TESTS_QUICK_H

#include <stdbool.h>
#include <stdlib.h>

static inline bool quick(void)
{
    return getenv("LLORCH_TEST_QUICK") != NULL;
}

/* make valgrind sets it: there memory and descriptors are not only ours. */
static inline bool in_valgrind(void)
{
    return getenv("LLORCH_TEST_VALGRIND") != NULL;
}

#endif
