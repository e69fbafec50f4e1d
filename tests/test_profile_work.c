/* tests/test_profile_work.c: counts of bytes and operations, rates, percentiles. */
#include "profile_rig.h"

#include <math.h>
#include <string.h>

#include "cli/bench_rig.h"
#include "profile/figures.h"
#include "profile/work.h"

/* Bytes and operations of a pass of the tiny model, counted one by one where they are touched: F32,
 * 3 layers, 4 heads of 12, feed-forward 192, vocabulary 512. */
typedef struct {
    double bytes[TAP_PART_COUNT], flop[TAP_PART_COUNT];
} Counted;

enum { LAYERS = 3, HEADS = 4, DIM = 48, FFN = 192, VOCAB = 512 };

static void count_linear(Counted *c, int part, int n, int k, int rows, bool bias)
{
    for (int o = 0; o < n; o++) {
        c->bytes[part] += 4.0 * k + (bias ? 4.0 : 0.0);
        for (int t = 0; t < rows; t++) {
            c->bytes[part] += 4.0;
            for (int i = 0; i < k; i++)
                c->flop[part] += 2.0;
        }
    }
    c->bytes[part] += 4.0 * rows * k;
}

static void count_norm(Counted *c, int part, int rows)
{
    c->bytes[part] += 2 * 4.0 * DIM;
    for (int i = 0; i < rows * DIM; i++) {
        c->bytes[part] += 8.0;
        c->flop[part] += 8.0;
    }
}

static void count_attention(Counted *c, int n, int pos, double kv_bytes)
{
    const int parts[] = {TAP_PART_SCORES, TAP_PART_VALUES};

    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < n; t++) {
            const bool last_of_group = t % 6 == 5 || t == n - 1;

            for (int key = 0; key <= pos + t; key++) {
                for (int i = 0; i < 2; i++) {
                    c->bytes[parts[i]] += 4.0; /* the score */
                    c->flop[parts[i]] += 2.0 * DIM / HEADS;
                    if (last_of_group)
                        c->bytes[parts[i]] += kv_bytes * DIM / HEADS;
                }
                c->bytes[TAP_PART_SOFTMAX] += 8.0;
                c->flop[TAP_PART_SOFTMAX] += 4.0;
            }
            for (int i = 0; i < 2; i++)
                c->bytes[parts[i]] += 4.0 * DIM / HEADS; /* query; output */
        }
}

static void count_pass(Counted *c, int n, int pos, double kv_bytes, bool logits)
{
    for (int i = 0; i < n * DIM; i++) {
        c->bytes[TAP_PART_EMBEDDING] += 12.0;
        c->flop[TAP_PART_EMBEDDING] += 1.0;
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        count_norm(c, TAP_PART_LN_1, n);
        count_linear(c, TAP_PART_QKV, 3 * DIM, DIM, n, true);
        c->bytes[TAP_PART_CACHE] += 2.0 * n * DIM * (4.0 + kv_bytes);
        count_attention(c, n, pos, kv_bytes);
        count_linear(c, TAP_PART_C_PROJ, DIM, DIM, n, true);
        for (int i = 0; i < 2 * n * DIM; i++) {
            c->bytes[TAP_PART_ADD] += 12.0;
            c->flop[TAP_PART_ADD] += 1.0;
        }
        count_norm(c, TAP_PART_LN_2, n);
        count_linear(c, TAP_PART_FC, FFN, DIM, n, true);
        c->bytes[TAP_PART_GELU] += 8.0 * n * FFN;
        c->flop[TAP_PART_GELU] += 7.0 * n * FFN;
        count_linear(c, TAP_PART_PROJ, DIM, FFN, n, true);
    }
    if (logits) {
        count_norm(c, TAP_PART_LN_F, 1);
        count_linear(c, TAP_PART_HEAD, VOCAB, DIM, 1, false);
    }
}

static void work_is_that_of_an_independent_count(void **state)
{
    static const int tokens[] = {1, 5, 6, 7, 20}, positions[] = {0, 3, 33};
    Gpt2 m;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_load(&m, "tests/data/tiny-gpt2", NULL, &err), ERR_OK);
    for (int i = 0; i < 5 * 3 * 2; i++) {
        const int n = tokens[i % 5], pos = positions[i / 5 % 3];
        const KernType kv = i / 15 ? KERN_F16 : KERN_F32;
        const bool logits = i % 2 == 0;
        Counted c = {{0.0}, {0.0}};

        count_pass(&c, n, pos, kv == KERN_F16 ? 2.0 : 4.0, logits);
        for (int part = 0; part < TAP_PART_COUNT; part++) {
            double bytes = 0.0, flop = 0.0;

            for (int layer = -1; layer < LAYERS; layer++) {
                const ProfileWork w = profile_work(&m, kv, part, layer, n, pos, logits);

                bytes += w.bytes;
                flop += w.flop;
            }
            if (bytes != c.bytes[part] || flop != c.flop[part])
                fail_msg("%s of %d tokens at %d: %g bytes, %g operations; counted %g and %g",
                         profile_part_name(part), n, pos, bytes, flop, c.bytes[part], c.flop[part]);
        }
    }
    gpt2_free(&m);
}

/* Small types have scales, and rows are stored in panels of eight. */
static void work_follows_the_types(void **state)
{
    static const struct {
        KernType type;
        double bits;
    } types[] = {{KERN_F32, 32}, {KERN_F16, 16}, {KERN_BF16, 16}, {KERN_Q8_0, 8.5}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        Gpt2 m;

        make(&m, "2,2,64,40,301", types[i].type);
        const double activations = 4.0 * (64 + 301);
        assert_true(profile_work(&m, KERN_F32, TAP_PART_HEAD, -1, 1, 0, true).bytes ==
                    304 * 64 * types[i].bits / 8 + activations);
        assert_true(profile_work(&m, KERN_F32, TAP_PART_EMBEDDING, -1, 3, 0, true).bytes ==
                    3 * (64 * types[i].bits / 8 + 2 * 4 * 64));
        assert_true(profile_work(&m, KERN_F32, TAP_PART_HEAD, -1, 1, 0, false).bytes == 0.0);
        gpt2_free(&m);
    }
}

static void a_prompts_operations_are_those_of_bench(void **state)
{
    static const int products[] = {TAP_PART_QKV,    TAP_PART_SCORES, TAP_PART_VALUES, TAP_PART_FC,
                                   TAP_PART_C_PROJ, TAP_PART_PROJ,   TAP_PART_HEAD};
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 1, .chunk = 10, .now_ns = fake_now};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    BenchRig rig = {.model = r->model};
    double flop = 0.0;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        flop += profile_phase_work(&r->p, KERN_F32, PROFILE_PROMPT, products[i], PROFILE_ALL_LAYERS)
                    .flop;
    assert_true(flop == bench_prompt_flop(&rig, 22));
    free_request(r);
}

static void rates_are_work_over_time(void **state)
{
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 9, .chunk = 10, .now_ns = fake_now};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    uint64_t ns = 0;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    const ProfileRow row = profile_row(&r->p, KERN_F32, PROFILE_DECODE, TAP_PART_FC, 1);
    assert_true(row.work.flop == 8.0 * 2 * 64 * 256);
    assert_true(fabs(row.gflop_per_s * (double)row.time.total_ns / row.work.flop - 1.0) < 1e-12);
    assert_true(fabs(row.gb_per_s * (double)row.time.total_ns / row.work.bytes - 1.0) < 1e-12);
    assert_true(profile_row(&r->p, KERN_F32, PROFILE_DECODE, PROFILE_HTTP, -1).gb_per_s == 0.0);
    for (int i = 0; i < 3; i++)
        ns += r->p.passes[i].end_ns - r->p.passes[i].start_ns;
    assert_true(fabs(profile_prompt_rate(&r->p) - 22e9 / (double)ns) < 1e-6);
    ns = 0;
    for (int i = 1; i < 9; i++)
        ns += r->p.token_ns[i];
    assert_true(fabs(profile_decode_rate(&r->p) - 8e9 / (double)ns) < 1e-6);
    free_request(r);
}

/* ---- Percentiles ---- */

/* The least value that at least so many percent of all do not exceed. */
static uint64_t by_definition(const uint64_t *x, int n, int percent)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < n; i++) {
        int below = 0;

        for (int j = 0; j < n; j++)
            below += x[j] <= x[i];
        if (below * 100 >= percent * n && x[i] < best)
            best = x[i];
    }
    return best;
}

static void percentiles_are_those_of_the_definition(void **state)
{
    uint64_t x[210], sorted[210];
    uint32_t seed = 3;

    (void)state;
    for (int n = 1; n <= 210; n++) {
        double sum = 0.0;

        for (int i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            x[i] = seed >> (n % 3 == 0 ? 28 : 10); /* with many equal ones now and then */
            sum += (double)x[i];
        }
        memcpy(sorted, x, sizeof x);
        const ProfileLatency l = profile_latency(sorted, n);
        assert_true(l.p50_ns == by_definition(x, n, 50));
        assert_true(l.p95_ns == by_definition(x, n, 95));
        assert_true(l.p99_ns == by_definition(x, n, 99));
        assert_true(l.min_ns == by_definition(x, n, 0));
        assert_true(l.max_ns == by_definition(x, n, 100));
        assert_true(fabs(l.mean_ns - sum / n) <= 1e-9 * sum);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_that_of_an_independent_count),
        cmocka_unit_test(work_follows_the_types),
        cmocka_unit_test(a_prompts_operations_are_those_of_bench),
        cmocka_unit_test(rates_are_work_over_time),
        cmocka_unit_test(percentiles_are_those_of_the_definition),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
