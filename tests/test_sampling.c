/* tests/test_sampling.c: every rule of the sampler by hand: greedy, penalties, filters, draws, and
 * what it refuses. */
#include "sampling_rig.h"

#include <float.h>
#include <math.h>

#include "sampling/rng.h"
#include "sampling/softmax.h"

/* The set of tokens that draws with n different seeds give, as a bit mask. */
static uint32_t support(SamplingParams p, const float *logits, int vocab_size, int n)
{
    Made m = make_sampler(scalar(), vocab_size);
    uint32_t seen = 0;

    for (int i = 0; i < n; i++) {
        p.seed = (uint64_t)i;
        sampler_reset(m.s, &p);
        seen |= 1u << next(&m, logits);
    }
    arena_free(&m.arena);
    return seen;
}

static SamplingParams plain(void)
{
    return sampling_defaults();
}

static SamplingParams greedy(void)
{
    SamplingParams p = plain();

    p.temperature = 0.0f;
    return p;
}

/* --- greedy --- */

static void greedy_threshold(void **state)
{
    const float x[] = {1.0f, 3.0f, 3.0f, 3.0f};
    SamplingParams p = plain();

    (void)state;
    p.temperature = 0.0f;
    assert_int_equal(support(p, x, 4, 100), 1u << 1);
    p.temperature = 0.99e-6f;
    assert_int_equal(support(p, x, 4, 100), 1u << 1);
    p.temperature = 1e-6f; /* a draw among equals */
    assert_int_equal(support(p, x, 4, 100), 1u << 1 | 1u << 2 | 1u << 3);
}

static void greedy_skips_the_filters(void **state)
{
    const float x[] = {5.0f, 1.0f, 5.0f, 2.0f};
    SamplingParams p = greedy();

    (void)state;
    p.top_k = 1;
    p.top_p = 0.0f;
    p.min_p = 1.0f;
    assert_int_equal(support(p, x, 4, 20), 1u << 0);
}

static void greedy_with_penalty(void **state)
{
    const float x[] = {4.0f, 5.0f, 3.0f, -1.0f};
    SamplingParams p = greedy();
    Made m = make_sampler(scalar(), 4);

    (void)state;
    p.repetition_penalty = 1.5f;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 1);
    assert_int_equal(next(&m, x), 0); /* 1 counts 5 / 1.5 = 3.33 */
    assert_int_equal(next(&m, x), 1); /* 0 counts 4 / 1.5 = 2.67 */
    assert_int_equal(next(&m, x),
                     1); /* still 3.33: once for each distinct id, not once for each time */
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 1); /* a new job has no history */
    arena_free(&m.arena);
}

static void penalty_on_negative_logits(void **state)
{
    const float x[] = {-1.0f, -1.4f, -3.0f};
    SamplingParams p = greedy();
    Made m = make_sampler(scalar(), 3);

    (void)state;
    p.repetition_penalty = 1.5f;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 0);
    assert_int_equal(next(&m, x), 1); /* -1 counts -1.5, not -0.67 */
    arena_free(&m.arena);
}

static void penalty_below_one_encourages(void **state)
{
    const float first[] = {2.0f, 1.0f, 0.0f};
    const float second[] = {2.0f, 3.0f, 0.0f};
    SamplingParams p = greedy();
    Made m = make_sampler(scalar(), 3);

    (void)state;
    p.repetition_penalty = 0.5f;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, first), 0);
    assert_int_equal(next(&m, second), 0); /* 2 counts 4 */
    arena_free(&m.arena);
}

static void penalty_zero_and_one_are_off(void **state)
{
    const float x[] = {4.0f, 5.0f, -2.0f};

    (void)state;
    for (int i = 0; i < 2; i++) {
        SamplingParams p = greedy();
        Made m = make_sampler(scalar(), 3);

        p.repetition_penalty = (float)i;
        sampler_reset(m.s, &p);
        for (int j = 0; j < 4; j++)
            assert_int_equal(next(&m, x), 1);
        arena_free(&m.arena);
    }
}

static void penalty_applies_to_draws(void **state)
{
    const float x[] = {4.0f, 3.0f};
    SamplingParams p = plain();
    Made m = make_sampler(scalar(), 2);
    int n_repeated = 0;

    (void)state;
    /* 4e6 becomes 2e6 against 3e6: never repeated. */
    p.temperature = 1e-6f;
    p.repetition_penalty = 2.0f;
    for (uint64_t seed = 0; seed < 50; seed++) {
        p.seed = seed;
        sampler_reset(m.s, &p);
        assert_int_equal(next(&m, x), 0);
        n_repeated += next(&m, x) == 0;
    }
    assert_int_equal(n_repeated, 0);
    arena_free(&m.arena);
}

/* --- filters --- */

static void top_k_ties_go_to_the_lower_index(void **state)
{
    const float x[] = {1.0f, 2.0f, 2.0f, 0.0f, 2.0f, 2.0f};
    SamplingParams p = plain();

    (void)state;
    p.top_k = 1;
    assert_int_equal(support(p, x, 6, 200), 0x02);
    p.top_k = 3;
    assert_int_equal(support(p, x, 6, 200), 0x16);
    p.top_k = 5;
    assert_int_equal(support(p, x, 6, 400), 0x37);
}

static void top_k_off(void **state)
{
    const float x[] = {1.0f, 2.0f, 2.0f, 0.0f};
    SamplingParams p = plain();
    const int64_t off[] = {0, 4, 5, UINT32_MAX};

    (void)state;
    for (int i = 0; i < 4; i++) {
        p.top_k = off[i];
        assert_int_equal(support(p, x, 4, 300), 0x0f);
    }
}

static void top_p_keeps_the_shortest_prefix(void **state)
{
    /* Probabilities 1/4 each, so that each border is exact: a sum that reaches p is enough. */
    const float x[] = {1.0f, 1.0f, 1.0f, 1.0f};
    const struct {
        float top_p;
        uint32_t want;
    } row[] = {{0.0f, 0x1}, {1e-30f, 0x1}, {0.25f, 0x1}, {0.2500001f, 0x3},
               {0.5f, 0x3}, {0.75f, 0x7},  {0.76f, 0xf}, {1.0f, 0xf}};
    SamplingParams p = plain();

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        p.top_p = row[i].top_p;
        assert_int_equal(support(p, x, 4, 300), row[i].want);
    }
}

static void top_p_sorts_by_probability(void **state)
{
    /* 0.1, 0.2, 0.4, 0.2, 0.1 */
    const float x[] = {0.0f, 0.69314718f, 1.38629436f, 0.69314718f, 0.0f};
    SamplingParams p = plain();

    (void)state;
    p.top_p = 0.39f;
    assert_int_equal(support(p, x, 5, 300), 0x04);
    p.top_p = 0.59f;
    assert_int_equal(support(p, x, 5, 300), 0x06); /* the tie goes to index 1 */
    p.top_p = 0.79f;
    assert_int_equal(support(p, x, 5, 300), 0x0e);
}

/* Each filter sees the survivors of the one before: after top-k the probabilities are those of the
 * survivors. */
static void top_p_counts_survivors_only(void **state)
{
    const float x[] = {1.0f, 1.0f, 1.0f, 1.0f};
    SamplingParams p = plain();

    (void)state;
    p.top_k = 2;
    p.top_p = 0.5f; /* one of two; of four it would be both */
    assert_int_equal(support(p, x, 4, 100), 0x1);
}

static void min_p_compares_with_the_largest(void **state)
{
    /* 1, 1/2, 1/4, 1/8 of the largest */
    const float x[] = {3.0f, 3.0f - 0.6931f, 3.0f - 1.3862f, 3.0f - 2.0794f};
    SamplingParams p = plain();

    (void)state;
    p.min_p = 0.0f;
    assert_int_equal(support(p, x, 4, 400), 0xf);
    p.min_p = 0.2f;
    assert_int_equal(support(p, x, 4, 400), 0x7);
    p.min_p = 0.4f;
    assert_int_equal(support(p, x, 4, 400), 0x3);
    p.min_p = 1.0f;
    assert_int_equal(support(p, x, 4, 400), 0x1);
}

static void min_p_keeps_equals(void **state)
{
    const float x[] = {2.0f, 1.0f, 2.0f};
    SamplingParams p = plain();

    (void)state;
    p.min_p = 1.0f;
    assert_int_equal(support(p, x, 3, 100), 0x5);
}

/* --- draws --- */

static void draw_walks_in_index_order(void **state)
{
    /* Seed 42, draw 0 is 0.3433; draw 1 is 0.9557; draw 2 is 0.4863. */
    const float x[] = {1.0f, 1.0f, 1.0f, 1.0f};
    SamplingParams p = plain();
    Made m = make_sampler(scalar(), 4);

    (void)state;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 1);
    assert_int_equal(next(&m, x), 3);
    assert_int_equal(next(&m, x), 1);
    p.top_k = 3; /* renormalised: thirds */
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 1);
    assert_int_equal(next(&m, x), 2);
    assert_int_equal(next(&m, x), 1);
    arena_free(&m.arena);
}

/* Seeds made backwards from the number that they give first. */
static void draw_at_the_borders(void **state)
{
    const struct {
        uint64_t seed, bits;
        int want;
    } row[] = {{0xc5deefb0344c1df5, 0, 0},
               {0x900db2bd79db1a5b, UINT64_MAX >> 1, 0}, /* the last number below one half */
               {0xe38360bf3c24c5c9, (uint64_t)1 << 63,
                1}, /* exactly one half: not below the sum of the first */
               {0x1fdb84807c8bc327, UINT64_MAX, 1}};
    const float x[] = {1.0f, 1.0f, -200.0f};
    SamplingParams p = plain();
    Made two = make_sampler(scalar(), 2), three = make_sampler(scalar(), 3);

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        p.seed = row[i].seed;
        assert_true(rng_bits(p.seed, 0) == row[i].bits);
        sampler_reset(two.s, &p);
        assert_int_equal(next(&two, x), row[i].want);
        sampler_reset(three.s, &p);
        assert_int_equal(next(&three, x), row[i].want);
    }
    arena_free(&two.arena);
    arena_free(&three.arena);
}

/* The largest number of all where rounding has left a gap below 1: the last index that has any
 * chance. */
static void draw_in_the_gap(void **state)
{
    float x[1000], p[1000];
    int n_gaps = 0;
    SamplingParams params = plain();

    (void)state;
    params.seed = 0x1fdb84807c8bc327;
    for (int n = 2; n < 1000; n++) {
        Made m = make_sampler(scalar(), n);
        double sum = 0.0;

        for (int i = 0; i < n; i++)
            x[i] = i < n - 1 ? (float)(i % 7) : -200.0f;
        sampling_softmax(scalar(), p, x, n, 1.0f);
        for (int i = 0; i < n; i++)
            sum += (double)p[i];
        n_gaps += sum < 1.0 - 1e-9;
        sampler_reset(m.s, &params);
        assert_int_equal(next(&m, x), n - 2);
        arena_free(&m.arena);
    }
    assert_true(n_gaps > 50);
}

static void draws_follow_the_probabilities(void **state)
{
    enum { N = 200000 };
    const float x[] = {0.3f, -1.0f, 2.0f, 0.0f, 1.1f};
    const float t = 1.3f;
    double sum = 0.0, chi = 0.0;
    int count[5] = {0};
    SamplingParams p = plain();
    Made m = make_sampler(scalar(), 5);

    (void)state;
    p.temperature = t;
    p.seed = 2024;
    sampler_reset(m.s, &p);
    for (int i = 0; i < N; i++)
        count[next(&m, x)]++;
    for (int i = 0; i < 5; i++)
        sum += exp((double)x[i] / (double)t);
    for (int i = 0; i < 5; i++) {
        const double want = N * exp((double)x[i] / (double)t) / sum;

        chi += (count[i] - want) * (count[i] - want) / want;
    }
    assert_true(chi < 23.5); /* four degrees of freedom: one in ten thousand */
    arena_free(&m.arena);
}

static void what_is_impossible_is_never_drawn(void **state)
{
    /* exp(-200) is 0: the last index must not take what rounding leaves. */
    float x[64];
    SamplingParams p = plain();
    Made m = make_sampler(scalar(), 64);

    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = i < 50 ? 0.001f * (float)i : -200.0f;
    sampler_reset(m.s, &p);
    for (int i = 0; i < 100000; i++)
        assert_true(next(&m, x) < 50);
    arena_free(&m.arena);
}

/* --- edges --- */

static void refuses_what_is_not_finite(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[70] = {0};

    (void)state;
    for (int mode = 0; mode < 3; mode++)
        for (int b = 0; b < 3; b++)
            for (int at = 0; at < 70; at += 23) {
                SamplingParams p = mode == 0 ? plain() : greedy();
                Made m = make_sampler(scalar(), 70), fresh = make_sampler(scalar(), 70);
                Err err = {0};
                int id = -7;

                p.repetition_penalty = mode == 2 ? 1.5f : 1.0f;
                sampler_reset(m.s, &p);
                sampler_reset(fresh.s, &p);
                x[at] = bad[b];
                assert_int_equal(sampler_next(m.s, x, &id, &err), ERR_NUMERIC);
                assert_int_equal(id, -7);
                x[at] = 0.0f;
                /* Nothing was drawn and nothing remembered. */
                for (int i = 0; i < 5; i++)
                    assert_int_equal(next(&m, x), next(&fresh, x));
                arena_free(&m.arena);
                arena_free(&fresh.arena);
            }
}

static void refuses_infinity_of_a_penalised_token(void **state)
{
    float x[] = {1.0f, 2.0f};
    SamplingParams p = greedy();
    Made m = make_sampler(scalar(), 2);
    Err err = {0};
    int id = -1;

    (void)state;
    p.repetition_penalty = 1.5f;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 1);
    x[1] = INFINITY;
    assert_int_equal(sampler_next(m.s, x, &id, &err), ERR_NUMERIC);
    arena_free(&m.arena);
}

/* The largest numbers, the smallest temperature and penalties: always a token that exists, no NaN
 * on the way. */
static void survives_extremes(void **state)
{
    const float logits[] = {FLT_MAX, -FLT_MAX, 0.0f, -0.0f, FLT_MIN, -1.0f, 1e30f, FLT_TRUE_MIN};
    const float temperatures[] = {1e-6f, 0.01f, 1.0f, 2.0f};
    const float penalties[] = {FLT_TRUE_MIN, 1e-30f, 0.5f, 1.0f, 2.0f};

    (void)state;
    for (int j = 0; kernels_available(j) != NULL; j++)
        for (int ti = 0; ti < 4; ti++)
            for (int pi = 0; pi < 5; pi++) {
                SamplingParams p = plain();
                Made m = make_sampler(kernels_available(j), 8);

                p.temperature = temperatures[ti];
                p.repetition_penalty = penalties[pi];
                sampler_reset(m.s, &p);
                assert_int_equal(next(&m, logits), 0);
                for (int i = 0; i < 20; i++) {
                    const int id = next(&m, logits);

                    assert_true(id >= 0 && id < 8);
                }
                arena_free(&m.arena);
            }
}

static void one_token_vocabulary(void **state)
{
    const float x[] = {-5.0f};
    SamplingParams p = plain();

    (void)state;
    p.top_k = 1;
    p.top_p = 0.5f;
    p.min_p = 0.5f;
    assert_int_equal(support(p, x, 1, 10), 1);
    assert_int_equal(support(greedy(), x, 1, 10), 1);
}

static void plan_refuses_impossible_sizes(void **state)
{
    const int bad[] = {0, -1, INT32_MIN, 1000001, INT32_MAX};
    Err err = {0};
    size_t total = 5;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(sampler_plan(&total, bad[i], &err), ERR_LIMIT);
        assert_int_equal(total, 5);
    }
    total = SIZE_MAX - 100;
    assert_int_equal(sampler_plan(&total, 1000, &err), ERR_LIMIT);
    assert_true(total == SIZE_MAX - 100);
}

static void defaults_are_the_contract(void **state)
{
    const SamplingParams p = sampling_defaults();

    (void)state;
    assert_true(p.temperature == 1.0f && p.top_p == 1.0f && p.top_k == 0);
    assert_true(p.repetition_penalty == 1.0f && p.min_p == 0.0f && p.seed == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_threshold),
        cmocka_unit_test(greedy_skips_the_filters),
        cmocka_unit_test(greedy_with_penalty),
        cmocka_unit_test(penalty_on_negative_logits),
        cmocka_unit_test(penalty_below_one_encourages),
        cmocka_unit_test(penalty_zero_and_one_are_off),
        cmocka_unit_test(penalty_applies_to_draws),
        cmocka_unit_test(top_k_ties_go_to_the_lower_index),
        cmocka_unit_test(top_k_off),
        cmocka_unit_test(top_p_keeps_the_shortest_prefix),
        cmocka_unit_test(top_p_sorts_by_probability),
        cmocka_unit_test(top_p_counts_survivors_only),
        cmocka_unit_test(min_p_compares_with_the_largest),
        cmocka_unit_test(min_p_keeps_equals),
        cmocka_unit_test(draw_walks_in_index_order),
        cmocka_unit_test(draw_at_the_borders),
        cmocka_unit_test(draw_in_the_gap),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(refuses_what_is_not_finite),
        cmocka_unit_test(refuses_infinity_of_a_penalised_token),
        cmocka_unit_test(survives_extremes),
        cmocka_unit_test(what_is_impossible_is_never_drawn),
        cmocka_unit_test(one_token_vocabulary),
        cmocka_unit_test(plan_refuses_impossible_sizes),
        cmocka_unit_test(defaults_are_the_contract),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
