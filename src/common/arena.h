/* common/arena.h: one allocation with many parts. Two arenas exist: the model's and the run's.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_ARENA_H
#define LLORCH_COMMON_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

enum { ARENA_ALIGN = 64 };

typedef struct {
    unsigned char *base; /* anonymous mapping, zeroed; NULL when empty */
    size_t size_bytes;
    size_t used_bytes;
} Arena;

/* Adds count * elem_bytes, rounded up to ARENA_ALIGN, to *total. False, *total unchanged, when it
 * would overflow. */
bool arena_plan(size_t *total, size_t count, size_t elem_bytes) ERR_CHECK;

/* Maps size_bytes of zeroed memory, asking for large pages. Errors: ERR_MEMORY; what: for the
 * message. */
ErrCode arena_init(Arena *a, size_t size_bytes, const char *what, Err *err) ERR_CHECK;

/* The next count * elem_bytes, 64-byte aligned and zeroed; NULL when it does not fit. Lives until
 * arena_free. */
void *arena_alloc(Arena *a, size_t count, size_t elem_bytes);

/* Writes to every page of [from, from + n_bytes), contents kept, so that the kernel backs them now
 * and not at their first use. What lies behind the arena's end is left out. */
void arena_touch(Arena *a, size_t from, size_t n_bytes);

/* Unmaps everything; a zeroed Arena is allowed. */
void arena_free(Arena *a);

/* *out = a * b, false on overflow. */
bool size_mul(size_t a, size_t b, size_t *out) ERR_CHECK;

#endif
