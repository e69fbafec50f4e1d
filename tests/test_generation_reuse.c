/* tests/test_generation_reuse.c: what one job leaves to the next: the beginning that their prompts
 * share, however the job before ended, and nothing else. */
#include "model_copy_rig.h"

#include "kernels/kernels.h"
#include "quick.h"
#include "random.h"

/* --- cancelling --- */

static bool count_down(void *ctx)
{
    int *left = ctx;

    return --*left >= 0;
}

static bool count_up(void *ctx)
{
    ++*(int *)ctx;
    return true;
}

/* How often a whole job asks whether to go on. It depends on the instruction set. */
static int count_yields(Backend *b, const BackendRequest *r)
{
    int n = 0;
    const Tap tap = {.ctx = &n, .yield = count_up};
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};

    assert_int_equal(b->ops->start(b, r, &err), ERR_OK);
    while (step.kind != STEP_END)
        assert_int_equal(b->ops->step(b, &tap, &step, &err), ERR_OK);
    return n;
}

/* Places in a job to stop it at, from the first yield to the last. */
static int n_cuts(void)
{
    return quick() ? 5 : 17;
}

/* A model whose prompts can take several steps; an emulator needs minutes for those. */
static const char *long_model(void)
{
    return quick() ? TINY : SHIPPED;
}

static int long_prompt(int n)
{
    return quick() ? 40 : n;
}

static void a_cancelled_job_leaves_nothing_behind(void **state)
{
    static Job want, got;
    Backend *b = load(long_model(), NULL);
    BackendRequest r = request("First Citizen:\nBefore we proceed", 20), other;
    int32_t ids[150];
    int n_cancelled = 0;

    (void)state;
    r.sampling.temperature = 1.2f;
    r.sampling.repetition_penalty = 1.3f;
    r.stops[0] = (BackendText){"\x01", 1};
    r.n_stops = 1;
    run(b, &r, &want);
    fill_ids(ids, 150);
    other = request_ids(ids, long_prompt(150), quick() ? 20 : 50);
    other.sampling.repetition_penalty = 2.0f;
    const int n_yields = count_yields(b, &other);
    for (int cut = 0; cut < n_cuts(); cut++) {
        int left = n_yields * cut / n_cuts();
        const Tap tap = {.ctx = &left, .yield = count_down};
        BackendStep step = {.kind = STEP_PROMPT};
        Err err = {0};
        ErrCode code = b->ops->start(b, &other, &err);

        while (code == ERR_OK && step.kind != STEP_END)
            code = b->ops->step(b, &tap, &step, &err);
        n_cancelled += code == ERR_CANCELLED;
        if (code == ERR_CANCELLED) /* the job is over */
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL);
        run(b, &r, &got);
        assert_same_result(&got, &want);

        /* And by cancel between two steps. */
        err = (Err){0};
        assert_int_equal(b->ops->start(b, &other, &err), ERR_OK);
        for (int i = 0; i < cut % 7; i++)
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        b->ops->cancel(b);
        b->ops->cancel(b);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL);
        run(b, &r, &got);
        assert_same_result(&got, &want);
    }
    assert_int_equal(n_cancelled, n_cuts());
    b->ops->free(b);
}

/* A job that is dropped inside a character: its bytes are not those of the next one. */
static void half_characters_are_dropped(void **state)
{
    static Job want, got;
    Backend *b = load(TINY, NULL);
    const BackendRequest r = request("my lord", 10);
    BackendRequest other = request("Speak", 40);
    Err err = {0};

    (void)state;
    run(b, &r, &want);
    other.sampling.temperature = 2.0f;
    for (int round = 0; round < 200; round++) {
        BackendStep step = {.kind = STEP_PROMPT};

        other.sampling.seed = (uint64_t)round;
        assert_int_equal(b->ops->start(b, &other, &err), ERR_OK);
        for (int i = 0; i < 2 + round % 5 && step.kind != STEP_END; i++)
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        run(b, &r, &got);
        assert_same_result(&got, &want);
    }
    b->ops->free(b);
}

/* --- prompts that begin like the sequence before --- */

/* One backend that reuses, one that does not, and what the first one's cache must hold. */
typedef struct {
    Backend *reusing, *plain;
    int32_t held[MAX_IDS];
    int n_held, n_ctx;
} Pair;

static Pair pair_load(const char *path, const char *isa)
{
    const CpuBackendOptions plain = {.model_path = path, .isa = isa, .no_prefix_cache = true};
    Pair p = {.reusing = load(path, isa), .plain = load_with(&plain)};

    p.n_ctx = p.plain->ops->info(p.plain)->n_ctx;
    return p;
}

static void pair_free(Pair *p)
{
    p->reusing->ops->free(p->reusing);
    p->plain->ops->free(p->plain);
}

/* The last token of a prompt is always computed. */
static int expected_reuse(const Pair *p, const BackendRequest *r)
{
    int n = 0;

    while (n < p->n_held && n < (int)r->n_prompt_ids - 1 && p->held[n] == r->prompt_ids[n])
        n++;
    return n;
}

/* The cache after a job of which n_generated tokens came out and all but the last n_open of them
 * were computed. */
static void pair_hold(Pair *p, const BackendRequest *r, const int *generated, int n_generated,
                      int n_open)
{
    p->n_held = 0;
    for (size_t i = 0; i < r->n_prompt_ids; i++)
        p->held[p->n_held++] = r->prompt_ids[i];
    for (int i = 0; i < n_generated - n_open; i++)
        p->held[p->n_held++] = generated[i];
}

/* Runs r on both: the same result, the expected reuse. */
static void pair_run(Pair *p, const BackendRequest *r, Job *job)
{
    static Job want;
    const int expected = expected_reuse(p, r);

    run(p->reusing, r, job);
    run(p->plain, r, &want);
    assert_same_result(job, &want);
    assert_int_equal(job->n_cached, expected);
    assert_int_equal(want.n_cached, 0);
    assert_int_equal(p->reusing->ops->n_prompt_tokens(p->reusing), r->n_prompt_ids);
    assert_int_equal(job->n_prompt_steps,
                     ((int)r->n_prompt_ids - expected + CPU_BACKEND_CHUNK - 1) / CPU_BACKEND_CHUNK);

    const bool extra = job->n_events > 0 && job->ids[job->n_events - 1] < 0;
    const int n = job->n_events - extra;
    pair_hold(p, r, job->ids, n, job->reason == STOP_EOS ? 0 : 1);
}

static BackendRequest sampled(BackendRequest r, uint64_t seed)
{
    r.sampling.temperature = 1.1f;
    r.sampling.top_k = 40;
    r.sampling.top_p = 0.95f;
    r.sampling.repetition_penalty = 1.2f;
    r.sampling.seed = seed;
    return r;
}

enum { BASE_PROMPT = 20, BASE_TOKENS = 12 };

/* Lengths of what a second prompt takes over of the first sequence, and of what follows. */
static const struct {
    int n_same, n_other, n_cached;
} prefix_cases[] = {
    {32, 6, 31}, /* extends: the last generated token was never computed */
    {32, 0, 31}, /* the whole sequence */
    {31, 0, 30}, /* exactly what the cache holds */
    {25, 9, 25}, /* diverges in the generated part */
    {20, 0, 19}, /* equal */
    {20, 5, 20}, /* another continuation of the same prompt */
    {10, 0, 9},  /* shorter */
    {7, 13, 7},  /* diverges in the middle */
    {1, 0, 0},   /* one token */
    {0, 8, 0},   /* nothing in common */
};

static void check_prefix_case(Pair *p, size_t which, bool greedy)
{
    static Job first, second;
    int32_t ids[BASE_PROMPT + BASE_TOKENS + 16];
    const int n_same = prefix_cases[which].n_same, n_other = prefix_cases[which].n_other;

    fill_ids(ids, BASE_PROMPT);
    BackendRequest r = request_ids(ids, BASE_PROMPT, BASE_TOKENS);
    pair_run(p, &r, &first);
    for (int i = 0; i < BASE_TOKENS; i++)
        ids[BASE_PROMPT + i] = first.ids[i];
    for (int i = 0; i < n_other; i++) /* the first one differs from what stood there */
        ids[n_same + i] = n_same + i < BASE_PROMPT + BASE_TOKENS ? (ids[n_same + i] + 1) % 500 : i;
    r = request_ids(ids, n_same + n_other, 15);
    if (!greedy)
        r = sampled(r, which);
    pair_run(p, &r, &second);
    assert_int_equal(second.n_cached, prefix_cases[which].n_cached);
}

static void prefixes_are_reused_without_a_trace(void **state)
{
    (void)state;
    for (int k = 0; kernels_available(k) != NULL; k++) {
        Pair p = pair_load(TINY, kernels_available(k)->name);

        for (size_t i = 0; i < 2 * sizeof prefix_cases / sizeof *prefix_cases; i++)
            check_prefix_case(&p, i / 2, i % 2 == 0);
        pair_free(&p);
    }
}

static void sampling_does_not_follow_the_prefix(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[30];

    (void)state;
    fill_ids(ids, 30);
    for (int round = 0; round < 40; round++) {
        BackendRequest r = request_ids(ids, 30, 20);

        if (round % 4 != 0)
            r = sampled(r, (uint64_t)round);
        if (round % 3 == 0)
            r.sampling.repetition_penalty = 1.7f;
        pair_run(&p, &r, &job);
        assert_int_equal(job.n_cached, round == 0 ? 0 : 29);
    }
    pair_free(&p);
}

/* Starts r on the reusing backend and stops it: at the n_yields-th yield, or, when none ends it, by
 * cancel after n_steps steps. The pair then knows what the cache must hold. Returns whether a step
 * was cut short. */
static bool pair_cancel(Pair *p, const BackendRequest *r, int n_yields, int n_steps)
{
    const Tap tap = {.ctx = &n_yields, .yield = count_down};
    const BackendOps *ops = p->reusing->ops;
    BackendStep step = {.kind = STEP_PROMPT};
    int ids[MAX_IDS] = {0}, n_ids = 0, n_done;
    bool ended = false; /* by end of text: every token was computed */
    Err err = {0};
    ErrCode code = ERR_OK;

    assert_int_equal(ops->start(p->reusing, r, &err), ERR_OK);
    n_done = ops->n_cached_tokens(p->reusing);
    assert_int_equal(n_done, expected_reuse(p, r));
    for (int i = 0; i < n_steps && step.kind != STEP_END; i++) {
        code = ops->step(p->reusing, &tap, &step, &err);
        if (code != ERR_OK)
            break;
        n_done = step.n_prompt_done;
        if (step.kind == STEP_TOKEN && step.id >= 0)
            ids[n_ids++] = step.id;
        ended |= step.kind == STEP_END ? step.reason == STOP_EOS
                                       : step.kind == STEP_TOKEN && step.id < 0;
    }
    ops->cancel(p->reusing);
    assert_true(code == ERR_OK || code == ERR_CANCELLED);
    pair_hold(p, r, ids, n_ids, n_ids > 0 && !ended ? 1 : 0);
    if (n_ids == 0)
        p->n_held = n_done; /* not the whole prompt, perhaps */
    return code == ERR_CANCELLED;
}

static void cancelled_prompts_are_reused(void **state)
{
    static Job job;
    Pair p = pair_load(long_model(), NULL);
    int32_t ids[250];
    int n_partial = 0, n_cut = 0;

    (void)state;
    fill_ids(ids, 250);
    const BackendRequest r = request_ids(ids, long_prompt(250), 6);
    const BackendRequest other = request_ids(ids + 1, long_prompt(100), 2);
    pair_run(&p, &other, &job);
    const int n_yields = count_yields(p.reusing, &r);
    pair_hold(&p, &r, NULL, 0, 0);
    for (int cut = 0; cut < n_cuts(); cut++) {
        pair_run(&p, &other, &job); /* nothing of r is left */
        n_cut += pair_cancel(&p, &r, n_yields * cut / n_cuts(), 1000);
        n_partial += p.n_held > 0 && p.n_held < (int)r.n_prompt_ids;
        pair_run(&p, &r, &job);
    }
    assert_int_equal(n_cut, n_cuts());
    assert_true(quick() || n_partial > 0);    /* a short prompt is a single step */
    for (int steps = 0; steps < 4; steps++) { /* and between two steps */
        pair_run(&p, &other, &job);
        (void)pair_cancel(&p, &r, INT32_MAX, steps);
        pair_run(&p, &r, &job);
    }
    pair_free(&p);
}

static void cancelled_texts_are_reused(void **state)
{
    enum { N_PROMPT = 15, N_NEW = 40 };
    static Job whole, job;
    Pair p = pair_load(long_model(), NULL);
    int32_t ids[N_PROMPT + N_NEW];
    int n_cut = 0;

    (void)state;
    fill_ids(ids, N_PROMPT);
    const BackendRequest r = request_ids(ids, N_PROMPT, N_NEW);
    pair_run(&p, &r, &whole);
    for (int i = 0; i < N_NEW; i++)
        ids[N_PROMPT + i] = whole.ids[i];
    const BackendRequest more = request_ids(ids, N_PROMPT + N_NEW, 5);
    pair_run(&p, &more, &job);
    const int n_yields = count_yields(p.reusing, &r);
    pair_hold(&p, &r, whole.ids, N_NEW, 1);
    for (int cut = 0; cut < n_cuts(); cut++) {
        pair_run(&p, &more, &job);
        n_cut += pair_cancel(&p, &r, n_yields * cut / n_cuts(), 1000);
        pair_run(&p, &more, &job);
        (void)pair_cancel(&p, &r, INT32_MAX, cut * 30 / n_cuts());
    }
    assert_int_equal(n_cut, n_cuts());
    pair_free(&p);
}

static void stopped_texts_are_reused(void **state)
{
    static Job whole, job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[40];

    (void)state;
    fill_ids(ids, 15);
    BackendRequest r = request_ids(ids, 15, 20);
    pair_run(&p, &r, &whole);
    for (int i = 0; i < 20; i++)
        ids[15 + i] = whole.ids[i];
    /* The text of tokens 5 and 6 ends the job; all but the last computed token's are reused. */
    r.stops[0] = (BackendText){whole.text + whole.ends[4], whole.ends[6] - whole.ends[4]};
    r.n_stops = 1;
    pair_run(&p, &r, &job);
    assert_int_equal(job.reason, STOP_SEQUENCE);
    const int n_events = job.n_events;
    const BackendRequest more = request_ids(ids, 35, 8);
    pair_run(&p, &more, &job);
    assert_int_equal(job.n_cached, 15 + n_events - 1);
    pair_free(&p);
}

static void ended_texts_are_reused(void **state)
{
    static Job whole, job;
    char dir[64], eos[64];
    Pair p = pair_load(TINY, NULL);
    int32_t ids[40];

    (void)state;
    fill_ids(ids, 15);
    const BackendRequest r = request_ids(ids, 15, 20);
    pair_run(&p, &r, &whole);
    pair_free(&p);
    for (int i = 0; i < 20; i++)
        ids[15 + i] = whole.ids[i];

    make_dir(dir);
    (void)snprintf(eos, sizeof eos, "{\"eos_token_id\": %d}", whole.ids[4]);
    write_file(dir, "generation_config.json", eos);
    p = pair_load(dir, NULL);
    pair_run(&p, &r, &job);
    assert_int_equal(job.reason, STOP_EOS);
    const int n_events = job.n_events; /* each was computed: the end token came out of the last */
    const BackendRequest more = request_ids(ids, 15 + n_events + 3, 4);
    pair_run(&p, &more, &job);
    assert_int_equal(job.n_cached, 15 + n_events);
    pair_free(&p);
    remove_dir(dir);
}

static void a_refused_job_leaves_the_cache_alone(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[70];
    Err err = {0};

    (void)state;
    fill_ids(ids, 70);
    const BackendRequest r = request_ids(ids, 30, 3), long_one = request_ids(ids, 65, 3);
    pair_run(&p, &r, &job);
    assert_int_equal(p.reusing->ops->start(p.reusing, &long_one, &err), ERR_LIMIT);
    assert_int_equal(p.reusing->ops->n_cached_tokens(p.reusing), 0);
    pair_run(&p, &r, &job);
    assert_int_equal(job.n_cached, 29);
    pair_free(&p);
}

/* Any history: jobs that take over any part of the one before, in all ways to end. */
static void any_sequence_of_jobs(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    uint64_t seed = 23;
    int32_t ids[64];
    long long n_reused = 0;

    (void)state;
    for (int round = 0; round < (quick() ? 40 : 400); round++) {
        const int n = 1 + (int)(next_random(&seed) % (uint32_t)p.n_ctx);
        int n_same = (int)(next_random(&seed) % (uint32_t)(n + 1));

        n_same = n_same < p.n_held ? n_same : p.n_held;
        for (int i = 0; i < n; i++)
            ids[i] = i < n_same ? p.held[i] : (int32_t)(next_random(&seed) % 512);
        const BackendRequest r =
            sampled(request_ids(ids, n, 1 + (int)(next_random(&seed) % 20)), next_random(&seed));
        if (round % 3 == 0) {
            const int yields = (int)(next_random(&seed) % 200);

            (void)pair_cancel(&p, &r, yields, (int)(next_random(&seed) % 12));
        } else {
            pair_run(&p, &r, &job);
            n_reused += job.n_cached;
        }
    }
    assert_true(n_reused > (quick() ? 100 : 1000));
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cancelled_job_leaves_nothing_behind),
        cmocka_unit_test(half_characters_are_dropped),
        cmocka_unit_test(prefixes_are_reused_without_a_trace),
        cmocka_unit_test(sampling_does_not_follow_the_prefix),
        cmocka_unit_test(cancelled_prompts_are_reused),
        cmocka_unit_test(cancelled_texts_are_reused),
        cmocka_unit_test(stopped_texts_are_reused),
        cmocka_unit_test(ended_texts_are_reused),
        cmocka_unit_test(a_refused_job_leaves_the_cache_alone),
        cmocka_unit_test(any_sequence_of_jobs),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
