/* worker/body.h: request body text to JSON, over the whole u64 range of a seed.
 *
 * May include: common. */
#ifndef LLORCH_WORKER_BODY_H
#define LLORCH_WORKER_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* A top-level "seed" that does not fit the JSON library's signed integers; the tree holds 0 in its
 * place. */
typedef struct {
    bool present;
    uint64_t value;
} BodySeed;

/* A request has about a dozen values, unknown ones aside. Two megabytes of small ones would keep
 * the loop busy for a tenth of a second. */
enum { BODY_MAX_VALUES = 4096 };

/* Parses text[0..n) strictly (common/json.h). Of an object only the members are left that a request
 * can have. Integers that the library cannot hold do not fail: the seed is handed out in *seed,
 * every other one becomes a real number, which is out of range wherever an integer is asked for.
 *
 * Memory  the result is a new reference.
 * Errors  NULL and ERR_FORMAT (not JSON, also 1e400), ERR_LIMIT (too many values) or ERR_MEMORY. */
json_t *body_parse(const char *text, size_t n, BodySeed *seed, Err *err) ERR_CHECK;

#endif
