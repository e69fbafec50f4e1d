/* tests/sampling_rig.h: what the tests of sampling share: a sampler with memory of its own, and its
 * next token. */
#ifndef LLORCH_TESTS_SAMPLING_RIG_H
#define LLORCH_TESTS_SAMPLING_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/arena.h"
#include "kernels/kernels.h"
#include "sampling/sampler.h"

enum { MAX_VOCAB = 1024 };

static inline const Kernels *scalar(void)
{
    return kernels_available(0);
}

/* A sampler with its own arena. */
typedef struct {
    Arena arena;
    Sampler *s;
} Made;

static inline Made make_sampler(const Kernels *k, int vocab_size)
{
    Made m = {.s = NULL};
    Err err = {0};
    size_t total = 0;

    assert_int_equal(sampler_plan(&total, vocab_size, &err), ERR_OK);
    assert_int_equal(arena_init(&m.arena, total, "test", &err), ERR_OK);
    m.s = sampler_new(&m.arena, k, vocab_size);
    assert_non_null(m.s);
    return m;
}

static inline int next(Made *m, const float *logits)
{
    Err err = {0};
    int id = -1;

    assert_int_equal(sampler_next(m->s, logits, &id, &err), ERR_OK);
    assert_string_equal(err.msg, "");
    return id;
}

#endif
