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

#endif
