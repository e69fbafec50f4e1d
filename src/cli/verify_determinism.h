/* cli/verify_determinism.h: `verify --determinism`: the same prompt in many ways, one line a way.
 *
 * May include: nothing. */
#ifndef LLORCH_CLI_VERIFY_DETERMINISM_H
#define LLORCH_CLI_VERIFY_DETERMINISM_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/loaded.h"

typedef struct {
    int runs;
    uint64_t seed;
    const int32_t *ids; /* [n_ids]: the prompt; NULL: that of checkpoint/determinism.h */
    int n_ids;
    bool json;
} VerifyDeterminism;

/* Returns the exit status: 0 when all ways agree. */
int verify_determinism(CliLoaded *loaded, const VerifyDeterminism *a);

#endif
