/* tests/test_bench.c: what bench stands on: random models, the probes, the decode step with a clock
 * in it, medians. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench_report.h"
#include "cli/bench_rig.h"
#include "kernels/pack.h"
#include "model/gpt2_random.h"
#include "model/weights.h"
#include "sampling/argmax.h"

static const char small[] = "2,2,64,40,300";

static void make(Gpt2 *m, const char *shape, KernType type, uint64_t seed)
{
    Gpt2Config c;
    Err err = {0};

    if (gpt2_shape_parse(&c, shape, &err) != ERR_OK ||
        gpt2_random(m, &c, type, seed, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* ---- Shapes ---- */

static void named_shapes_are_those_of_gpt2(void **state)
{
    Gpt2Config c;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, "gpt2-medium", &err), ERR_OK);
    assert_int_equal(c.n_layers, 24);
    assert_int_equal(c.n_heads, 16);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.dim, 1024);
    assert_int_equal(c.ffn_dim, 4096);
    assert_int_equal(c.n_ctx, 1024);
    assert_int_equal(c.vocab_size, 50257);
    assert_true(c.tied_head && c.scale_attn);
    assert_int_equal(gpt2_shape_parse(&c, "3,5,40,7,11", &err), ERR_OK);
    assert_int_equal(c.n_layers, 3);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.n_ctx, 7);
    assert_int_equal(c.vocab_size, 11);
}

static void shapes_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "gpt3",
                                      "2,2,64,64",
                                      "2,2,64,64,300,1",
                                      "2,2,64,64,300x",
                                      "-2,2,64,64,300",
                                      "0,2,64,64,300",
                                      "2,3,64,64,300",
                                      "2,2,64,0,300",
                                      "2,2,64,64,99999999999",
                                      " 2,2,64,64,300",
                                      "2,2,2000000000,64,300"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Gpt2Config c = {.dim = 77};
        Err err = {0};

        if (gpt2_shape_parse(&c, bad[i], &err) != ERR_USAGE)
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_int_equal(c.dim, 77);
        assert_int_not_equal(err.msg[0], '\0');
    }
}

/* ---- Random weights ---- */

static void same_seed_same_weights(void **state)
{
    (void)state;
    for (int t = 0; t < KERN_TYPE_COUNT; t++) {
        Gpt2 a, b, other;

        make(&a, small, (KernType)t, 5);
        make(&b, small, (KernType)t, 5);
        make(&other, small, (KernType)t, 6);
        assert_int_equal(a.arena.size_bytes, b.arena.size_bytes);
        assert_memory_equal(a.arena.base, b.arena.base, a.arena.size_bytes);
        assert_memory_not_equal(a.arena.base, other.arena.base, a.arena.size_bytes);
        gpt2_free(&a);
        gpt2_free(&b);
        gpt2_free(&other);
    }
}

typedef struct {
    KernType type;
    int n_matrices;
} Types;

static bool has_type(void *ctx, const WeightSlot *slot)
{
    Types *t = ctx;
    KernType want = slot->kind == WEIGHT_TABLE ? gpt2_table_type(t->type) : t->type;

    if (slot->matrix == NULL)
        return true;
    want = kern_type_for(want, slot->k);
    if (slot->matrix->type != want)
        fail_msg("%s is %s, expected %s", slot->name, kern_type_name(slot->matrix->type),
                 kern_type_name(want));
    assert_non_null(slot->matrix->panels);
    assert_int_equal(slot->matrix->scales != NULL, kern_is_quantised(want));
    t->n_matrices++;
    return true;
}

static void matrices_have_the_type_asked_for(void **state)
{
    /* 48 is no multiple of 32: rows of it stay f16 in the small types. */
    static const char *const shapes[] = {"2,2,64,40,300", "2,2,48,40,300"};

    (void)state;
    for (int i = 0; i < 2; i++)
        for (int t = 0; t < KERN_TYPE_COUNT; t++) {
            Types types = {.type = (KernType)t};
            Gpt2 m;

            make(&m, shapes[i], (KernType)t, 1);
            assert_true(weights_each(&m, has_type, &types));
            assert_int_equal(types.n_matrices, 1 + 2 * 4);
            assert_ptr_equal(m.head.w.panels, m.embedding.wte.panels);
            gpt2_free(&m);
        }
}

/* Mean and deviation of a weight, none of it 0. */
static void look_at(const float *x, size_t n, double want_mean, const char *name)
{
    double sum = 0.0, squares = 0.0;

    for (size_t i = 0; i < n; i++) {
        if (x[i] == 0.0f)
            fail_msg("%s: element %zu is 0", name, i);
        sum += (double)x[i];
    }
    sum /= (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)x[i] - sum) * ((double)x[i] - sum);
    const double deviation = sqrt(squares / (double)n), error = 0.1 / sqrt((double)n);
    if (fabs(sum - want_mean) > error || fabs(deviation - 0.02) > error)
        fail_msg("%s: %g +- %g, expected %g +- 0.02", name, sum, deviation, want_mean);
}

static bool is_normal(void *ctx, const WeightSlot *slot)
{
    const bool gain = strstr(slot->name, "ln_") != NULL && strstr(slot->name, ".weight") != NULL;

    (void)ctx;
    if (slot->matrix == NULL) {
        look_at(*slot->floats, slot->n * slot->k, gain ? 1.0 : 0.0, slot->name);
        return true;
    }
    float *rows = malloc(slot->n * slot->k * sizeof *rows);
    assert_non_null(rows);
    for (size_t o = 0; o < slot->n; o++)
        kern_unpack_row(rows + o * slot->k, slot->matrix, o);
    look_at(rows, slot->n * slot->k, 0.0, slot->name);
    free(rows);
    return true;
}

static void weights_are_normal_and_never_zero(void **state)
{
    Gpt2 m;

    (void)state;
    make(&m, small, KERN_F32, 1);
    assert_true(weights_each(&m, is_normal, NULL));
    gpt2_free(&m);
}

/* A deviation of 0.02 is not lost on the way to a small type. */
static void small_types_hold_the_same_weights(void **state)
{
    float want[64], got[64];
    Gpt2 exact;

    (void)state;
    make(&exact, small, KERN_F32, 1);
    kern_unpack_row(want, &exact.blocks[1].ffn.c_fc.w, 7);
    for (int t = KERN_F16; t < KERN_TYPE_COUNT; t++) {
        Gpt2 m;

        make(&m, small, (KernType)t, 1);
        kern_unpack_row(got, &m.blocks[1].ffn.c_fc.w, 7);
        for (int i = 0; i < 64; i++)
            if (fabsf(got[i] - want[i]) > (t == KERN_Q4_0 ? 0.01f : 0.0005f))
                fail_msg("%s: weight %d is %g, %g in float32", kern_type_name((KernType)t), i,
                         (double)got[i], (double)want[i]);
        gpt2_free(&m);
    }
    gpt2_free(&exact);
}

static bool stop_halfway(void *ctx, double fraction)
{
    double *last = ctx;

    assert_true(fraction >= *last && fraction <= 1.0);
    *last = fraction;
    return fraction < 0.5;
}

static void making_can_be_stopped(void **state)
{
    double last = 0.0;
    const Gpt2Progress progress = {stop_halfway, &last};
    Gpt2Config c;
    Gpt2 m = {.n_params = 77};
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, small, &err), ERR_OK);
    assert_int_equal(gpt2_random(&m, &c, KERN_F16, 1, &progress, &err), ERR_CANCELLED);
    assert_int_equal(m.n_params, 77);
    assert_true(last >= 0.5 && last < 1.0);
}

static void more_than_the_memory_is_refused(void **state)
{
    Gpt2Config c;
    Gpt2 m = {.n_params = 77};
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, "1000,1,32768,1024,50257", &err), ERR_OK); /* 52 TB */
    assert_int_equal(gpt2_random(&m, &c, KERN_F32, 1, NULL, &err), ERR_LIMIT);
    assert_int_equal(m.n_params, 77);
}

/* ---- Probes ---- */

static void reads_leave_nothing_out(void **state)
{
    enum { WORDS = 7 * PROBE_UNIT_BYTES / 8 };
    static uint64_t memory[WORDS + 8] __attribute__((aligned(64)));
    uint64_t want = 0;

    (void)state;
    for (size_t i = 0; i < WORDS + 8; i++)
        memory[i] = (i + 1) * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < WORDS; i++)
        want ^= memory[i];
    for (int p = 0; probe_available(p) != NULL; p++)
        for (int i = 0; i < PROBE_READ_COUNT; i++) {
            assert_true(probe_available(p)->read[i](memory, sizeof memory) == want);
            assert_true(probe_available(p)->read[i](memory, PROBE_UNIT_BYTES - 1) == 0);
        }
}

static void multiplying_ends_at_its_fixed_point(void **state)
{
    (void)state;
    for (int p = 0; probe_available(p) != NULL; p++) {
        const Probe *probe = probe_available(p);
        const double sum = (double)probe->fma(1000); /* every lane tends to 2e-9 */

        if (fabs(sum / (double)probe->flop_per_round - 1e-9) > 1e-12)
            fail_msg("%s: %g of %zu operations", probe->name, sum, probe->flop_per_round);
    }
    assert_non_null(probe_best());
}

/* ---- The step with a clock ---- */

static void compare_steps(const Kernels *k, KernType type, KernType kv_type)
{
    BenchRig r = {.k = k, .probe = probe_best()};
    SamplingParams greedy = sampling_defaults();
    BenchParts parts = {0.0, 0.0, 0.0};
    float logits[300];
    int want, got;
    Err err = {0};

    greedy.temperature = 0.0f;
    make(&r.model, small, type, 3);
    assert_int_equal(bench_rig_init(&r, kv_type, &err), ERR_OK);
    sampler_reset(r.sampler, &greedy);
    assert_int_equal(bench_prompt(&r, 11, &err), ERR_OK);
    assert_int_equal(gpt2_forward(&r.run, r.ids + 11, 1, true, NULL, &err), ERR_OK);
    memcpy(logits, r.run.logits, sizeof logits);
    assert_int_equal(sampling_argmax(&want, logits, 300, &err), ERR_OK);
    kv_cache_truncate(&r.run.cache, 11);
    memset(r.run.logits, 0, sizeof logits);
    assert_int_equal(bench_step(&r.run, r.ids[11], r.sampler, &parts, &got, &err), ERR_OK);
    assert_memory_equal(logits, r.run.logits, sizeof logits);
    assert_int_equal(got, want);
    assert_int_equal(r.run.cache.length, 12);
    assert_true(parts.products > 0.0 && parts.cache > 0.0 && parts.rest > 0.0);
    bench_rig_free(&r);
}

static void the_step_in_parts_is_the_models_step(void **state)
{
    (void)state;
    for (int i = 0; kernels_available(i) != NULL; i++)
        for (int t = 0; t < KERN_TYPE_COUNT; t++) {
            compare_steps(kernels_available(i), (KernType)t, KERN_F32);
            compare_steps(kernels_available(i), (KernType)t, KERN_F16);
        }
}

static void work_is_counted_as_documented(void **state)
{
    BenchRig r = {.k = kernels_available(0), .probe = probe_best()};
    const double layers = 2.0 * 12 * 64 * 64, head = 300.0 * 64;
    Err err = {0};

    (void)state;
    make(&r.model, small, KERN_Q8_0, 3);
    assert_int_equal(bench_rig_init(&r, KERN_F16, &err), ERR_OK);
    /* 304 rows in panels; 34 bytes for 32 weights. */
    assert_int_equal(r.product_bytes, (size_t)((layers + 304.0 * 64) / 32 * 34));
    assert_true(r.weights_bytes >= r.product_bytes - 304 * 64 / 32 * 2);
    assert_true(bench_cache_bytes(&r, 10) == 2.0 * 2 * 64 * 2 * 10);
    assert_true(bench_prompt_flop(&r, 3) == 2 * (3 * layers + head) + 4.0 * 2 * 64 * 6);
    bench_rig_free(&r);
}

static void short_contexts_are_refused(void **state)
{
    BenchRig r = {.k = kernels_available(0), .probe = probe_best()};
    Err err = {0};

    (void)state;
    make(&r.model, "1,1,8,31,10", KERN_F32, 3);
    assert_int_equal(bench_rig_init(&r, KERN_F32, &err), ERR_LIMIT);
    bench_rig_free(&r);
}

/* ---- Report ---- */

static void medians_are_in_the_middle(void **state)
{
    double odd[] = {5, 1, 3}, even[] = {4, 1, 9, 2}, one[] = {7};

    (void)state;
    assert_true(bench_median(odd, 3) == 3.0);
    assert_true(bench_median(even, 4) == 3.0);
    assert_true(bench_median(one, 1) == 7.0);
}

static void reports_hold_every_round(void **state)
{
    static const char want[] =
        "{\"format\":\"llorch-cpud bench 1\",\"machine\":{\"cpu_name\":\"a \\\"b\\\"\",\"cpu\":3,"
        "\"isa\":\"x\",\"compiler\":\"c\",\"flags\":\"-O\",\"version\":\"v\",\"shape\":\"s\","
        "\"model\":\"m\","
        "\"config\":\"0\",\"kv_type\":\"F32\",\"rounds\":100},"
        "\"probes\":{\"read_best\":{\"unit\":\"GB/s\",\"median\":20,\"min\":18,\"max\":22}},"
        "\"results\":[{\"type\":\"F16\",\"case\":\"decode@16\",\"unit\":\"tokens/"
        "s\",\"median\":50.5,"
        "\"min\":1,\"max\":100,\"share\":0.505,\"share_min\":0.01,\"share_max\":1,\"n\":100,"
        "\"better\":\"higher\"}]}\n";
    const BenchMachine machine = {.cpu_name = "a \"b\"",
                                  .isa = "x",
                                  .compiler = "c",
                                  .flags = "-O",
                                  .version = "v",
                                  .shape = "s",
                                  .model = "m",
                                  .config = "0",
                                  .kv_type = "F32",
                                  .cpu = 3,
                                  .rounds = 100};
    BenchReport r = {.results = NULL};
    JsonBuf out = {0};

    (void)state;
    bench_report_probe(&r, "read_best", "GB/s", 22);
    bench_report_probe(&r, "read_best", "GB/s", 18);
    bench_report_probe(&r, "read_best", "GB/s", 20);
    for (int i = 100; i > 0; i--)
        bench_report_add(&r, "F16", "decode@16", "tokens/s", "best read", i, i / 100.0);
    assert_false(r.oom);
    bench_report_json(&out, &r, &machine);
    assert_string_equal(out.data, want);
    json_buf_free(&out);
    bench_report_table(&out, &r, &machine);
    assert_non_null(strstr(out.data,
                           "\n  decode@16             50.50      1.00    100.00  tokens/s "
                           "   0.505 best read\n"));
    json_buf_free(&out);
    bench_report_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_shapes_are_those_of_gpt2),
        cmocka_unit_test(shapes_that_are_none_are_refused),
        cmocka_unit_test(same_seed_same_weights),
        cmocka_unit_test(matrices_have_the_type_asked_for),
        cmocka_unit_test(weights_are_normal_and_never_zero),
        cmocka_unit_test(small_types_hold_the_same_weights),
        cmocka_unit_test(making_can_be_stopped),
        cmocka_unit_test(more_than_the_memory_is_refused),
        cmocka_unit_test(reads_leave_nothing_out),
        cmocka_unit_test(multiplying_ends_at_its_fixed_point),
        cmocka_unit_test(the_step_in_parts_is_the_models_step),
        cmocka_unit_test(work_is_counted_as_documented),
        cmocka_unit_test(short_contexts_are_refused),
        cmocka_unit_test(medians_are_in_the_middle),
        cmocka_unit_test(reports_hold_every_round),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
