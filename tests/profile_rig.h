/* tests/profile_rig.h: what the tests of src/profile share: small random models, and a request that
 * is profiled with a clock of our own. */
#ifndef LLORCH_TESTS_PROFILE_RIG_H
#define LLORCH_TESTS_PROFILE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/gpt2_random.h"
#include "profile/profile.h"

enum { CONTEXT = 40 };

static inline void make(Gpt2 *m, const char *shape, KernType type)
{
    Gpt2Config c;
    Err err = {0};

    if (gpt2_shape_parse(&c, shape, &err) != ERR_OK ||
        gpt2_random(m, &c, type, 7, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline void make_run(Gpt2Run *run, const Gpt2 *m, KernType kv_type)
{
    const Kernels *k;
    Err err = {0};

    if (kernels_select(&k, NULL, &err) != ERR_OK ||
        gpt2_run_init(run, m, k, m->config.n_ctx, 30, kv_type, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline void make_ids(int32_t *ids, int n, const Gpt2 *m)
{
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 37 + 5) % m->config.vocab_size);
}

static uint64_t fake_ns, fake_step;

/* Every look takes a little longer than the one before, so that no two parts are alike. */
static inline uint64_t fake_now(void)
{
    fake_step = fake_step % 1009 + 7;
    fake_ns += fake_step;
    return fake_ns;
}

static inline void pass(Profile *p, Gpt2Run *run, const int32_t *ids, int n, bool logits)
{
    const Tap tap = profile_tap(p);
    Err err = {0};

    profile_pass_begin(p, run->cache.length, n, logits);
    if (gpt2_forward(run, ids, n, logits, &tap, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    profile_pass_end(p);
}

/* n prompt tokens in chunks, then tokens; logits: [vocab] of the last pass, or NULL. */
static inline void run_request(Profile *p, Gpt2Run *run, const int32_t *ids)
{
    const int n = p->options.n_prompt, chunk = p->options.chunk;

    gpt2_reset(run);
    profile_begin(p);
    profile_stage(p, PROFILE_TOKENIZER);
    for (int done = 0; done < n; done += chunk)
        pass(p, run, ids + done, n - done < chunk ? n - done : chunk, done + chunk >= n);
    for (int i = 0; i < p->options.n_tokens; i++) {
        if (i > 0)
            pass(p, run, ids + n + i - 1, 1, true);
        profile_stage(p, PROFILE_SAMPLING);
        profile_stage(p, PROFILE_TOKENIZER);
        profile_stage(p, PROFILE_HTTP);
        profile_token(p);
        profile_skip(p);
    }
    profile_end(p);
}

typedef struct {
    Gpt2 model;
    Gpt2Run run;
    Profile p;
    int32_t ids[CONTEXT];
} Request;

static inline Request *make_request(const char *shape, KernType kv_type, const ProfileOptions *o)
{
    Request *r = calloc(1, sizeof *r);
    Err err = {0};

    assert_non_null(r);
    make(&r->model, shape, KERN_F16);
    make_run(&r->run, &r->model, kv_type);
    make_ids(r->ids, CONTEXT, &r->model);
    if (profile_init(&r->p, &r->model, o, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return r;
}

static inline void free_request(Request *r)
{
    profile_free(&r->p);
    gpt2_run_free(&r->run);
    gpt2_free(&r->model);
    free(r);
}

#endif
