/* tests/test_generation_load.c: how the CPU backend takes up a model: what it says of it, what it
 * refuses, vocabularies that differ from the tokenizer, memory that idle steps back. */
#include "model_copy_rig.h"

#include "quick.h"

/* --- loading --- */

static void info_describes_the_model(void **state)
{
    const CpuBackendOptions options = {
        .model_path = TINY, .model_name = "other", .max_context = 10, .isa = "scalar"};
    Backend *b = load(TINY, NULL), *named = NULL;
    const BackendInfo *info = b->ops->info(b);
    Err err = {0};

    (void)state;
    assert_string_equal(info->model_name, "tiny-gpt2");
    assert_string_equal(info->tokenizer_kind, "hf-json");
    assert_string_equal(info->quant_kind, "F32");
    assert_int_equal(info->vocab_size, 512);
    assert_int_equal(info->n_ctx, 64);
    assert_true(info->model_bytes > 100000 && info->memory_bytes > info->model_bytes);
    assert_int_equal(cpu_backend_load(&named, &options, &err), ERR_OK);
    assert_string_equal(named->ops->info(named)->model_name, "other");
    assert_int_equal(named->ops->info(named)->n_ctx, 10);
    named->ops->free(named);
    b->ops->free(b);
}

static bool stop_loading(void *ctx, double fraction)
{
    double *last = ctx;

    assert_true(fraction >= *last && fraction <= 1.0);
    *last = fraction;
    return fraction < 0.5;
}

static bool watch_loading(void *ctx, double fraction)
{
    (void)stop_loading(ctx, fraction);
    return true;
}

static void loading_can_be_stopped(void **state)
{
    double last = 0.0;
    CpuBackendOptions options = {
        .model_path = TINY, .progress = stop_loading, .progress_ctx = &last};
    Backend *b = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_CANCELLED);
    assert_null(b);
    last = 0.0;
    options.progress = watch_loading;
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_OK);
    assert_true(last == 1.0);
    b->ops->free(b);
}

static void load_errors(void **state)
{
    const CpuBackendOptions bad_isa = {.model_path = TINY, .isa = "mmx"},
                            bad_context = {.model_path = TINY, .max_context = 65},
                            no_model = {.model_path = "tests/data/nothing"};
    Backend *b = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(cpu_backend_load(&b, &bad_isa, &err), ERR_USAGE);
    assert_int_equal(cpu_backend_load(&b, &bad_context, &err), ERR_USAGE);
    assert_int_equal(cpu_backend_load(&b, &no_model, &err), ERR_IO);
    assert_null(b);
}

static void a_path_to_the_weights_works(void **state)
{
    static Job by_dir, by_file;
    Backend *a = load(TINY, NULL), *b = load(TINY "/model.safetensors", NULL);
    const BackendRequest r = request("my lord", 10);

    (void)state;
    run(a, &r, &by_dir);
    run(b, &r, &by_file);
    assert_same_result(&by_dir, &by_file);
    assert_string_equal(b->ops->info(b)->model_name, "model");
    a->ops->free(a);
    b->ops->free(b);
}

/* --- tokenizers of another size than the model --- */

/* vocab.json and merges.txt of the tiny model, less all ids from n on. */
static void write_small_tokenizer(const char *dir, int n)
{
    char *line = NULL, *merges = calloc(1, 65536);
    json_t *vocab = recorded(TINY "/vocab.json");
    size_t room = 0;
    void *next_key;
    const char *key;
    json_t *value;
    FILE *f = fopen(TINY "/merges.txt", "r");

    assert_non_null(f);
    assert_non_null(merges);
    json_object_foreach_safe(vocab, next_key, key, value) if (json_integer_value(value) >= n)
        assert_int_equal(json_object_del(vocab, key), 0);
    for (int i = 0; getline(&line, &room, f) > 0 && i <= n - 256; i++)
        (void)strcat(merges, line);
    (void)fclose(f);
    free(line);
    char *text = json_dumps(vocab, 0);
    write_file(dir, "vocab.json", text);
    write_file(dir, "merges.txt", merges);
    free(text);
    free(merges);
    json_decref(vocab);
}

static void padded_vocabulary(void **state)
{
    static Job job;
    enum { N = 300 };
    const int32_t id_of_padding[] = {N};
    char dir[64];
    Err err = {0};

    (void)state;
    make_dir_without_tokenizer(dir);
    write_small_tokenizer(dir, N);
    Backend *b = load(dir, NULL);
    assert_int_equal(b->ops->info(b)->vocab_size, N);
    for (int round = 0; round < 40; round++) {
        BackendRequest r = request("my lord", 20);

        r.sampling.temperature = round == 0 ? 0.0f : 2.0f;
        r.sampling.seed = (uint64_t)round;
        run(b, &r, &job);
        assert_int_equal(job.n_events, 20);
        for (int i = 0; i < job.n_events; i++)
            assert_true(job.ids[i] >= 0 && job.ids[i] < N);
    }
    const BackendRequest r = request_ids(id_of_padding, 1, 5);
    assert_int_equal(b->ops->start(b, &r, &err), ERR_USAGE);
    assert_string_equal(err.msg, "prompt id 300 is outside the vocabulary (0..=299)");
    b->ops->free(b);
    remove_dir(dir);
}

static void tokenizer_larger_than_the_model(void **state)
{
    char dir[64];
    Backend *b = NULL;
    Err err = {0};
    json_t *vocab = recorded(TINY "/vocab.json");

    (void)state;
    make_dir_without_tokenizer(dir);
    link_file(dir, "merges.txt");
    assert_int_equal(json_object_set_new(vocab, "zzzz", json_integer(512)), 0);
    char *text = json_dumps(vocab, 0);
    write_file(dir, "vocab.json", text);
    free(text);
    json_decref(vocab);
    const CpuBackendOptions options = {.model_path = dir};
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_FORMAT);
    assert_null(b);
    assert_non_null(strstr(err.msg, "513 tokens"));
    remove_dir(dir);
}

/* --- idle steps --- */

/* Pages of this process that are in memory. */
static long resident_pages(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size, resident;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
    (void)fclose(f);
    return resident;
}

static void idle_steps_back_the_memory(void **state)
{
    static Job want, got;
    Backend *b = load(SHIPPED, NULL);
    const BackendRequest r = request("First Citizen:\n", quick() ? 5 : 30);
    /* Keys and values: 4 layers, 2 * 192 floats a position. */
    const long kv_pages = 4L * 2 * 192 * 4 * 256 / 4096, before = resident_pages();
    int n_steps = 1;

    (void)state;
    while (b->ops->idle(b))
        n_steps++;
    assert_true(n_steps < 100000);
    assert_true(resident_pages() - before >= kv_pages / 2); /* a page of load may have gone */
    assert_false(b->ops->idle(b));
    run(b, &r, &want);
    b->ops->free(b);

    b = load(SHIPPED, NULL);
    run(b, &r, &got); /* before any idle step, and with them in between */
    assert_same_result(&got, &want);
    for (int i = 0; i < n_steps && b->ops->idle(b); i++)
        if (!quick() || i % 64 == 0)
            run(b, &r, &got);
    run(b, &r, &got);
    assert_same_result(&got, &want);
    b->ops->free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_describes_the_model),
        cmocka_unit_test(padded_vocabulary),
        cmocka_unit_test(tokenizer_larger_than_the_model),
        cmocka_unit_test(idle_steps_back_the_memory),
        cmocka_unit_test(loading_can_be_stopped),
        cmocka_unit_test(load_errors),
        cmocka_unit_test(a_path_to_the_weights_works),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
