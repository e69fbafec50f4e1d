/* common/body.h: request body text to JSON, over the whole u64 range of a seed.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_BODY_H
#define LLORCH_COMMON_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"

/* A top-level "seed" that does not fit the JSON library's signed integers; the tree holds 0 in its
 * place. */
typedef struct {
    bool present;
    uint64_t value;
} BodySeed;

/* A request has about a dozen values, unknown ones aside. Two megabytes of small ones would keep
 * the loop busy for a tenth of a second. */
enum {
    BODY_MAX_VALUES = 4096,
    BODY_MAX_INTEGERS = 1 << 18 /* in all lists that are taken aside together */
};

typedef struct {
    const char *const
        *known;      /* of an object only these members are left, NULL ends them; NULL: all */
    bool take_lists; /* lists of nothing but 32-bit integers become a BodyList each, however long */
} BodyRules;

typedef struct {
    json_t *root; /* NULL: nothing is owned */
    BodySeed seed;
    JsonBuf lists; /* the integers, behind each other */
} Body;

/* Parses text[0..n) strictly (common/json.h). Integers that the library cannot hold do not fail:
 * the seed is handed out in b->seed, every other one becomes a real number, which is out of range
 * wherever an integer is asked for.
 *
 * Errors  ERR_FORMAT (not JSON, also 1e400), ERR_LIMIT (too many values) or ERR_MEMORY; *b is empty
 *         then. */
ErrCode body_parse(Body *b, const char *text, size_t n, const BodyRules *rules, Err *err) ERR_CHECK;

void body_free(Body *b);

/* What was taken for a list: it stands in the tree as a value that is neither of JSON's arrays nor
 * a text, whatever json_typeof says, so ask these two first. */
bool body_is_list(const json_t *value);
const int32_t *body_list(const Body *b, const json_t *value, size_t *n);

#endif
