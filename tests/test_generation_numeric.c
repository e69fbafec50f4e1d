/* tests/test_generation_numeric.c: numbers that overflow end a job with an error, in any type of
 * weights and of cache, and the next job takes nothing over. */
#include "model_copy_rig.h"

#include "kernels/kernels.h"

/* The tiny model in dir with elements [first, first + n) of a tensor set to value. */
static void write_changed_weights(const char *dir, const char *name, int first, int n, float value)
{
    FILE *f = fopen(TINY "/model.safetensors", "rb");
    static char data[4 << 20];
    char path[4096];
    uint64_t n_header;
    Err err = {0};

    assert_non_null(f);
    const size_t n_bytes = fread(data, 1, sizeof data, f);
    (void)fclose(f);
    assert_true(n_bytes > 8 && n_bytes < sizeof data);
    memcpy(&n_header, data, sizeof n_header);
    json_t *header = json_parse(data + 8, n_header, "header", &err);
    assert_non_null(header);
    const json_t *tensor = json_object_get(header, name);
    assert_string_equal(json_string_value(json_object_get(tensor, "dtype")), "F32");
    const json_int_t at =
        json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 0));
    for (int i = first; i < first + n; i++)
        memcpy(data + 8 + n_header + at + (json_int_t)sizeof value * i, &value, sizeof value);
    json_decref(header);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0); /* the link, or an earlier file */
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n_bytes, f), n_bytes);
    assert_int_equal(fclose(f), 0);
}

static void a_numeric_failure_drops_the_cache(void **state)
{
    char dir[64];
    BackendStep step = {.kind = STEP_PROMPT};
    int32_t ids[20];
    Err err = {0};

    (void)state;
    make_dir(dir);
    write_changed_weights(dir, "ln_f.weight", 0, 48, 3e38f); /* no logit is finite */
    Backend *b = load(dir, NULL);
    fill_ids(ids, 20);
    const BackendRequest r = request_ids(ids, 20, 5);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
        assert_int_equal(b->ops->n_cached_tokens(b), 0);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_NUMERIC);
    }
    b->ops->free(b);
    remove_dir(dir);
}

/* An infinite key would have no weight in any sum, and nothing else would show it. */
static void values_beyond_an_f16_cache_end_the_job(void **state)
{
    const struct {
        int element; /* of c_attn.bias, [3 * 48]: queries, keys, values */
        float value;
        const char *message;
    } cases[] = {
        {48 + 5, 1e5f, "a key of 1e+05 is beyond the range of float16; use --kv-type f32"},
        {96 + 47, -7e4f, "a value of -7e+04 is beyond the range of float16; use --kv-type f32"},
    };
    char dir[64], message[256];
    int32_t ids[20];

    (void)state;
    make_dir(dir);
    fill_ids(ids, 20);
    for (int i = 0; i < 2; i++) {
        const BackendRequest r = request_ids(ids, 20, 5);
        Job job;

        write_changed_weights(dir, "h.1.attn.c_attn.bias", cases[i].element, 1, cases[i].value);
        for (int t = 0; kernels_available(t) != NULL; t++) {
            const char *isa = kernels_available(t)->name;
            Backend *f16 =
                load_with(&(CpuBackendOptions){.model_path = dir, .isa = isa, .kv_type = KERN_F16});
            Backend *f32 = load(dir, isa);

            for (int round = 0; round < 2; round++) {
                BackendStep step = {.kind = STEP_PROMPT};
                Err err = {0};

                assert_int_equal(f16->ops->start(f16, &r, &err), ERR_OK);
                assert_int_equal(f16->ops->n_cached_tokens(f16), 0);
                assert_int_equal(f16->ops->step(f16, NULL, &step, &err), ERR_NUMERIC);
                (void)snprintf(message, sizeof message, "KV cache: layer 1, position 0: %.200s",
                               cases[i].message);
                assert_string_equal(err.msg, message);
            }
            run(f32, &r, &job);
            f16->ops->free(f16);
            f32->ops->free(f32);
        }
    }
    remove_dir(dir);
}

/* Overflows that only products of int8 inputs see: the FFN's second matrix, of rows of 192, is the
 * one of this model that Q8_0 and Q4_0 can hold, and its input is nothing but NaN. */
static void rounding_to_int8_does_not_hide_an_overflow(void **state)
{
    static const KernType types[] = {KERN_Q8_0, KERN_Q4_0};
    char dir[64];
    int32_t ids[20];

    (void)state;
    make_dir(dir);
    write_changed_weights(dir, "h.2.ln_2.weight", 0, 48, 3e38f); /* the last layer */
    fill_ids(ids, 20);
    for (int i = 0; i < 2; i++)
        for (int t = 0; kernels_available(t) != NULL; t++) {
            Backend *b = load_with(&(CpuBackendOptions){.model_path = dir,
                                                        .isa = kernels_available(t)->name,
                                                        .has_type = true,
                                                        .type = types[i]});
            const BackendRequest r = request_ids(ids, 20, 5);
            BackendStep step = {.kind = STEP_PROMPT};
            Err err = {0};

            assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_NUMERIC);
            b->ops->free(b);
        }
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_numeric_failure_drops_the_cache),
        cmocka_unit_test(values_beyond_an_f16_cache_end_the_job),
        cmocka_unit_test(rounding_to_int8_does_not_hide_an_overflow),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
