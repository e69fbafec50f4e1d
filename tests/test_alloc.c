/* tests/test_alloc.c: between the first prompt byte and the last token nothing is allocated, grown
 * or freed, in any type and from any form of a model; and when the n-th allocation of a start
 * fails, the start fails with a message and leaves nothing behind, for every n.
 *
 * Linked with --wrap for malloc and its family (Makefile): calls from our objects go through
 * fault_memory.h. mmap, which arenas use, is seen as well. */
#include "fault_memory.h"
#include "generation_rig.h"
#include "model_file_rig.h"

/* ---- Jobs ---- */

/* Every step of a prompt's echo with scores; the steps it took. */
static int run_echo(Backend *b, const char *prompt)
{
    BackendRequest r = request(prompt, 0);
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};
    size_t n;
    int n_steps = 0;

    r.want_scores = r.score_prompt = true;
    assert_non_null(b->ops->tokenize(b, r.prompt, true, &n));
    assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
    for (; step.kind != STEP_END; n_steps++)
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
    return n_steps;
}

/* Every step of one job, with scores, all filters of the sampler and a stop string; how many of its
 * prompt tokens were taken over. */
static int run_job(Backend *b, const char *prompt)
{
    static Job job;
    const SamplingBias bias = {3, -1.0f};
    BackendRequest r = request(prompt, 50);

    r.stops[0] = (BackendText){"never to be found", 17};
    r.n_stops = 1;
    r.sampling = sampling_defaults();
    r.sampling.top_k = 40;
    r.sampling.top_p = 0.9f;
    r.sampling.min_p = 0.01f;
    r.sampling.repetition_penalty = 1.2f;
    r.sampling.frequency_penalty = 0.5f;
    r.sampling.bias = &bias;
    r.sampling.n_bias = 1;
    r.want_scores = true;
    r.n_best = BACKEND_MAX_LOGPROBS;
    assert_true(b->ops->count_tokens(b, r.prompt) > 0);
    run(b, &r, &job);
    assert_true(job.n_events > 10);
    return b->ops->n_cached_tokens(b);
}

static void check_jobs(const CpuBackendOptions *o)
{
    Backend *b = load_with(o);

    fault_memory.n_calls = 0;
    assert_int_equal(run_job(b, "What news?"), 0);
    assert_true(run_job(b, "What news?") > 0); /* from the cache of the job before */
    assert_true(run_job(b, "What else?") > 0);
    assert_int_equal(run_job(b, "Good day."), 0);
    assert_true(run_echo(b, "Good day.") > 3);
    while (b->ops->idle(b))
        ;
    assert_int_equal(fault_memory.n_calls, 0);
    b->ops->free(b);
    assert_true(fault_memory.n_calls > 0); /* they are counted */
}

static void a_job_allocates_nothing(void **state)
{
    const CpuBackendOptions options = {.model_path = TINY};

    (void)state;
    check_jobs(&options);
}

static void a_job_allocates_nothing_in_any_type(void **state)
{
    (void)state;
    for (int type = 0; type < KERN_TYPE_COUNT; type++)
        for (int i = 0; kernels_available(i) != NULL; i++) {
            const CpuBackendOptions options = {.model_path = TINY,
                                               .isa = kernels_available(i)->name,
                                               .has_type = true,
                                               .type = (KernType)type,
                                               .kv_type = i % 2 == 0 ? KERN_F16 : KERN_F32};

            check_jobs(&options);
        }
}

/* ---- Forms of a model ---- */

/* The model as type, as a GGUF file or packed. */
static const char *make_file(bool packed, KernType type)
{
    const char *path = path_of(packed ? "a.packed" : "a.gguf");

    MUST_RUN(packed ? cli_pack : cli_quantize, packed ? "pack" : "quantize", "--model", TINY,
             "--type", type_names[type], "--out", path);
    return path;
}

static void a_job_allocates_nothing_with_a_gguf_file(void **state)
{
    const CpuBackendOptions options = {.model_path = make_file(false, KERN_Q4_0),
                                       .kv_type = KERN_F16};

    (void)state;
    check_jobs(&options);
}

static void a_job_allocates_nothing_with_a_packed_file(void **state)
{
    const CpuBackendOptions options = {.model_path = make_file(true, KERN_Q8_0)};

    (void)state;
    check_jobs(&options);
}

/* ---- Starts that fail ---- */

static void fail_every_allocation(const CpuBackendOptions *options)
{
    const long mapped_before = fault_memory.live_mapped;
    long n;

    for (n = 0;; n++) {
        Backend *b = NULL;
        Err err = {0};
        ErrCode code;

        fault_memory_arm(n, 1);
        code = cpu_backend_load(&b, options, &err);
        fault_memory_disarm();
        if (code == ERR_OK) {
            b->ops->free(b);
            if (fault_memory.n <= n)
                break; /* fewer allocations than n: all were seen */
            continue;  /* one that may fail: a hint, not a need */
        }
        assert_null(b);
        assert_true(err.msg[0] != '\0');
        assert_int_equal(fault_memory.live_mapped, mapped_before);
    }
    if (n < 10)
        fail_msg("only %ld allocations seen", n);
}

static void every_failing_allocation_of_a_start_is_an_error(void **state)
{
    const CpuBackendOptions options = {.model_path = TINY};

    (void)state;
    fail_every_allocation(&options);
}

static void every_failing_allocation_of_a_start_from_gguf_is_an_error(void **state)
{
    const CpuBackendOptions options = {.model_path = make_file(false, KERN_Q8_0),
                                       .has_type = true,
                                       .type = KERN_F16,
                                       .kv_type = KERN_F16};

    (void)state;
    fail_every_allocation(&options);
}

static void every_failing_allocation_of_a_start_from_a_packed_file_is_an_error(void **state)
{
    const CpuBackendOptions options = {.model_path = make_file(true, KERN_Q4_0)};

    (void)state;
    fail_every_allocation(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_allocates_nothing),
        cmocka_unit_test(a_job_allocates_nothing_in_any_type),
        cmocka_unit_test(a_job_allocates_nothing_with_a_gguf_file),
        cmocka_unit_test(a_job_allocates_nothing_with_a_packed_file),
        cmocka_unit_test(every_failing_allocation_of_a_start_is_an_error),
        cmocka_unit_test(every_failing_allocation_of_a_start_from_gguf_is_an_error),
        cmocka_unit_test(every_failing_allocation_of_a_start_from_a_packed_file_is_an_error),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("alloc", tests, make_folder, leave_folder);
}
