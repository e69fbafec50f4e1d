/* tests/generation_rig.h: what the tests of whole jobs share: the CPU backend with one of the two
 * models, requests, and all that one job says.
 *
 * Run from the root of the repository. */
#ifndef LLORCH_TESTS_GENERATION_RIG_H
#define LLORCH_TESTS_GENERATION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu_backend.h"
#include "backend/stop_matcher.h"
#include "common/json.h"
#include "common/text.h"

#define TINY "tests/data/tiny-gpt2"
#define SHIPPED "models/shakespeare"

enum { MAX_TEXT = 16384, MAX_IDS = 2048 };

/* --- models --- */

static inline Backend *load_with(const CpuBackendOptions *options)
{
    Backend *b = NULL;
    Err err = {0};

    if (cpu_backend_load(&b, options, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return b;
}

static inline Backend *load(const char *path, const char *isa)
{
    return load_with(&(CpuBackendOptions){.model_path = path, .isa = isa});
}

/* A JSON file of a model or of its reference. */
static inline json_t *recorded(const char *path)
{
    Err err = {0};
    json_t *j = json_parse_file(path, 1 << 20, &err);

    if (j == NULL)
        fail_msg("%s", err.msg);
    return j;
}

/* --- requests --- */

/* A greedy one. */
static inline BackendRequest request(const char *prompt, int max_tokens)
{
    BackendRequest r = {.prompt = {prompt, strlen(prompt)},
                        .max_tokens = max_tokens,
                        .sampling = sampling_defaults()};

    r.sampling.temperature = 0.0f;
    return r;
}

static inline BackendRequest request_ids(const int32_t *ids, int n, int max_tokens)
{
    BackendRequest r = request("", max_tokens);

    r.prompt_ids = ids;
    r.n_prompt_ids = (size_t)n;
    return r;
}

static inline void fill_ids(int32_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        ids[i] = 300 + i % 100;
}

/* --- jobs --- */

/* One job's events, concatenated. */
typedef struct {
    char text[MAX_TEXT];
    size_t n_text;
    size_t ends[MAX_IDS + 1]; /* bytes of text after event i */
    int ids[MAX_IDS + 1];
    int n_events; /* tokens, and the one that end of text may add */
    StopReason reason;
    int end_id; /* of the end of text, or -1 */
    char matched[STOP_MAX_BYTES];
    size_t n_matched;             /* a NUL is a character like others */
    int n_prompt_steps, n_cached; /* last: these depend on the job before, nothing else does */
} Job;

static inline void assert_same_result(const Job *got, const Job *want)
{
    assert_memory_equal(got, want, offsetof(Job, n_prompt_steps));
}

static inline void run(Backend *b, const BackendRequest *r, Job *job)
{
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};

    memset(job, 0, sizeof *job);
    if (b->ops->start(b, r, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    job->n_cached = b->ops->n_cached_tokens(b);
    while (step.kind != STEP_END) {
        if (b->ops->step(b, NULL, &step, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        if (step.kind == STEP_PROMPT) {
            assert_int_equal(job->n_events, 0);
            job->n_prompt_steps++;
            continue;
        }
        if (step.kind == STEP_END)
            break;
        assert_true(text_utf8_valid(step.text, step.n_text));
        assert_true(job->n_events < MAX_IDS && job->n_text + step.n_text < MAX_TEXT);
        memcpy(job->text + job->n_text, step.text, step.n_text);
        job->n_text += step.n_text;
        job->ends[job->n_events] = job->n_text;
        job->ids[job->n_events++] = step.id;
    }
    job->reason = step.reason;
    job->end_id = step.id;
    assert_true((step.id >= 0) == (step.reason == STOP_EOS));
    job->n_matched = step.n_matched;
    if (step.reason == STOP_SEQUENCE)
        memcpy(job->matched, step.matched, step.n_matched);
    else
        assert_null(step.matched);
    assert_int_equal(step.n_prompt_done, b->ops->n_prompt_tokens(b));
}

#endif
