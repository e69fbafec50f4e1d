/* tests/test_sampling.c: argmax, softmax, the generator, and every rule of the sampler: by hand,
 * against a naive version that sorts everything, on every instruction set. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/arena.h"
#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "sampling/argmax.h"
#include "sampling/rng.h"
#include "sampling/sampler.h"
#include "sampling/softmax.h"

enum { MAX_VOCAB = 1024 };

/* --- helpers --- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static const Kernels *scalar(void)
{
    return kernels_available(0);
}

/* A sampler with its own arena. */
typedef struct {
    Arena arena;
    Sampler *s;
} Made;

static Made make_sampler(const Kernels *k, int vocab_size)
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

static int next(Made *m, const float *logits)
{
    Err err = {0};
    int id = -1;

    assert_int_equal(sampler_next(m->s, logits, &id, &err), ERR_OK);
    assert_string_equal(err.msg, "");
    return id;
}

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

/* --- argmax --- */

static void argmax_takes_the_lowest_index(void **state)
{
    const float x[] = {-3.0f, 2.0f, 7.0f, 7.0f, -7.0f, 7.0f};
    const float zeros[] = {-0.0f, 0.0f};
    Err err = {0};
    int id = -1;

    (void)state;
    assert_int_equal(sampling_argmax(&id, x, 6, &err), ERR_OK);
    assert_int_equal(id, 2);
    assert_int_equal(sampling_argmax(&id, x, 1, &err), ERR_OK);
    assert_int_equal(id, 0);
    assert_int_equal(sampling_argmax(&id, x + 3, 3, &err), ERR_OK);
    assert_int_equal(id, 0);
    assert_int_equal(sampling_argmax(&id, zeros, 2, &err), ERR_OK);
    assert_int_equal(id, 0);
}

static void argmax_refuses_what_is_not_finite(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (int b = 0; b < 3; b++)
        for (int at = 0; at < 40; at++) {
            float x[40] = {0};
            Err err = {0};
            int id = -7;
            char want[32];

            x[at] = bad[b];
            x[39] = bad[b];
            (void)snprintf(want, sizeof want, "token %d is %s", at, b == 0 ? "NaN" : "infinite");
            assert_int_equal(sampling_argmax(&id, x, 40, &err), ERR_NUMERIC);
            assert_int_equal(id, -7);
            assert_non_null(strstr(err.msg, want));
        }
}

/* --- softmax --- */

static void softmax_is_the_definition(void **state)
{
    uint64_t seed = 11;

    (void)state;
    for (int n = 1; n < 100; n++)
        for (int ti = 0; ti < 3; ti++) {
            const float temperature = (const float[]){0.5f, 1.0f, 2.0f}[ti];
            float x[100], want[100], got[100];
            float m = -FLT_MAX, lane[KERN_LANES] = {0};

            for (int i = 0; i < n; i++) {
                x[i] = (float)((int)next_random(&seed) % 4096) / 100.0f;
                want[i] = temperature == 1.0f ? x[i] : x[i] / temperature;
                m = want[i] > m ? want[i] : m;
            }
            for (int i = 0; i < n; i++) {
                want[i] = kern_exp(want[i] - m);
                lane[i % KERN_LANES] = lane[i % KERN_LANES] + want[i];
            }
            const float inv = 1.0f / kern_fold_lanes(lane);
            for (int i = 0; i < n; i++)
                want[i] = want[i] * inv;
            for (int j = 0; kernels_available(j) != NULL; j++) {
                sampling_softmax(kernels_available(j), got, x, n, temperature);
                assert_memory_equal(got, want, (size_t)n * sizeof *got);
                memcpy(got, x, (size_t)n * sizeof *got);
                sampling_softmax(kernels_available(j), got, got, n, temperature);
                assert_memory_equal(got, want, (size_t)n * sizeof *got);
            }
        }
}

static void softmax_is_close_to_double(void **state)
{
    uint64_t seed = 5;
    float x[MAX_VOCAB], p[MAX_VOCAB];
    double e[MAX_VOCAB], sum = 0.0, total = 0.0;

    (void)state;
    for (int i = 0; i < MAX_VOCAB; i++)
        x[i] = (float)((int)next_random(&seed) % 20000) / 1000.0f - 110.0f;
    for (int i = 0; i < MAX_VOCAB; i++)
        sum += e[i] = exp((double)x[i] + 90.0);
    sampling_softmax(scalar(), p, x, MAX_VOCAB, 1.0f);
    for (int i = 0; i < MAX_VOCAB; i++) {
        total += (double)p[i];
        assert_true(fabs((double)p[i] - e[i] / sum) <= 1e-6 * e[i] / sum + 1e-12);
        assert_true(p[i] >= 0.0f && p[i] <= 1.0f);
    }
    assert_true(fabs(total - 1.0) < 1e-6);
}

/* --- the generator --- */

static void generator_vectors(void **state)
{
    static const struct {
        uint64_t seed, counter, bits;
    } row[] = {{0, 0, 0xa706dd2f4d197e6f},          {0, 1, 0xb382a305f4414f5e},
               {0, 2047, 0xaa1a29339dc95ead},       {1, 0, 0x5e41ab087439611e},
               {42, 0, 0x57e1faba65107204},         {42, 1, 0xf4abd143feb24055},
               {42, 2, 0x7c816738c12903b2},         {UINT64_MAX, 0, 0x5dc20aa7b2a27137},
               {UINT64_MAX, 2, 0x82b43276abb80226}, {42, UINT64_MAX, 0xb29ed950786f5ae3}};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_true(rng_bits(row[i].seed, row[i].counter) == row[i].bits);
    assert_true(rng_uniform(42, 0) == 0x1.5f87eae99441cp-2);
    assert_true(rng_uniform(0, 0) == (double)(0xa706dd2f4d197e6f >> 11) / 9007199254740992.0);
}

static void uniform_stays_below_one(void **state)
{
    double least = 1.0, most = 0.0;

    (void)state;
    for (uint64_t i = 0; i < 1 << 20; i++) {
        const double u = rng_uniform(7, i);

        least = u < least ? u : least;
        most = u > most ? u : most;
    }
    assert_true(least >= 0.0 && least < 1e-4);
    assert_true(most < 1.0 && most > 1.0 - 1e-4);
}

enum { CHI_BUCKETS = 256, CHI_DRAWS = 1 << 18 };

/* Chi-square of CHI_DRAWS numbers over 256 equal parts: mean 255, deviation 22.6. */
static double chi_square(uint64_t (*bits)(uint64_t seed, uint64_t i), uint64_t seed, int shift)
{
    static int count[CHI_BUCKETS];
    const double want = (double)CHI_DRAWS / CHI_BUCKETS;
    double chi = 0.0;

    memset(count, 0, sizeof count);
    for (uint64_t i = 0; i < CHI_DRAWS; i++)
        count[bits(seed, i) >> shift & (CHI_BUCKETS - 1)]++;
    for (int i = 0; i < CHI_BUCKETS; i++)
        chi += (count[i] - want) * (count[i] - want) / want;
    return chi;
}

static uint64_t bits_across_seeds(uint64_t counter, uint64_t seed)
{
    return rng_bits(seed, counter);
}

/* The top four bits of two draws in a row. */
static uint64_t bits_of_pairs(uint64_t seed, uint64_t i)
{
    return rng_bits(seed, i) >> 60 << 60 | rng_bits(seed, i + 1) >> 60 << 56;
}

/* The same for neighbouring seeds. */
static uint64_t bits_of_neighbours(uint64_t seed, uint64_t i)
{
    return rng_bits(seed, i) >> 60 << 60 | rng_bits(seed + 1, i) >> 60 << 56;
}

static void generator_is_uniform(void **state)
{
    static const uint64_t seeds[] = {0, 1, 42, 1u << 31, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        for (int shift = 11; shift <= 56; shift += 15) {
            const double a = chi_square(rng_bits, seeds[i], shift);
            const double b = chi_square(bits_across_seeds, seeds[i], shift);

            assert_true(a > 255 - 5 * 22.6 && a < 255 + 5 * 22.6);
            assert_true(b > 255 - 5 * 22.6 && b < 255 + 5 * 22.6);
        }
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        const double pairs = chi_square(bits_of_pairs, seeds[i], 56);
        const double neighbours = chi_square(bits_of_neighbours, seeds[i], 56);

        assert_true(pairs > 255 - 5 * 22.6 && pairs < 255 + 5 * 22.6);
        assert_true(neighbours > 255 - 5 * 22.6 && neighbours < 255 + 5 * 22.6);
    }
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

/* --- filters by hand --- */

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

/* --- against a naive version --- */

typedef struct {
    float x, p;
    int id;
} Candidate;

typedef struct {
    SamplingParams params;
    int vocab_size, n_draws;
    bool seen[MAX_VOCAB];
} Naive;

static int by_id(const void *a, const void *b)
{
    return ((const Candidate *)a)->id - ((const Candidate *)b)->id;
}

static int by_logit(const void *a, const void *b)
{
    const Candidate *l = a, *r = b;

    return l->x > r->x ? -1 : l->x < r->x ? 1 : by_id(a, b);
}

static int by_probability(const void *a, const void *b)
{
    const Candidate *l = a, *r = b;

    return l->p > r->p ? -1 : l->p < r->p ? 1 : by_id(a, b);
}

static void naive_softmax(Candidate *c, int n)
{
    float m = c[0].x, lane[KERN_LANES] = {0};

    for (int i = 1; i < n; i++)
        m = c[i].x > m ? c[i].x : m;
    for (int i = 0; i < n; i++) {
        c[i].p = kern_exp(c[i].x - m);
        lane[i % KERN_LANES] = lane[i % KERN_LANES] + c[i].p;
    }
    const float inv = 1.0f / kern_fold_lanes(lane);
    for (int i = 0; i < n; i++)
        c[i].p = c[i].p * inv;
}

static float naive_clamp(float x)
{
    return fmaxf(fminf(x, 0x1p126f), -0x1p126f);
}

static uint64_t naive_mass(float p)
{
    return (uint64_t)floor(ldexp((double)p, 52));
}

static int naive_filter(const Naive *s, Candidate *c)
{
    const SamplingParams *p = &s->params;
    int n = s->vocab_size;

    if (p->top_k > 0 && p->top_k < n) {
        qsort(c, (size_t)n, sizeof *c, by_logit);
        n = (int)p->top_k;
        qsort(c, (size_t)n, sizeof *c, by_id);
    }
    naive_softmax(c, n);
    if (p->top_p < 1.0f) {
        uint64_t sum = 0;
        int kept = 0;

        qsort(c, (size_t)n, sizeof *c, by_probability);
        do
            sum += naive_mass(c[kept++].p);
        while (kept < n && sum < naive_mass(p->top_p));
        n = kept;
        qsort(c, (size_t)n, sizeof *c, by_id);
    }
    if (p->min_p > 0.0f) {
        float most = 0.0f;
        int kept = 0;

        for (int i = 0; i < n; i++)
            most = fmaxf(most, c[i].p);
        for (int i = 0; i < n; i++)
            if (c[i].p >= p->min_p * most)
                c[kept++] = c[i];
        n = kept;
    }
    naive_softmax(c, n);
    return n;
}

static int naive_next(Naive *s, const float *logits)
{
    static Candidate c[MAX_VOCAB];
    const float penalty = s->params.repetition_penalty;
    const bool is_greedy = s->params.temperature < 1e-6f;

    for (int i = 0; i < s->vocab_size; i++) {
        float x = is_greedy ? logits[i] : naive_clamp(logits[i] / s->params.temperature);

        if (s->seen[i] && penalty != 0.0f && penalty != 1.0f)
            x = naive_clamp(x > 0.0f ? x / penalty : x * penalty);
        c[i] = (Candidate){.x = x, .id = i};
    }
    int id;
    if (is_greedy) {
        qsort(c, (size_t)s->vocab_size, sizeof *c, by_logit);
        id = c[0].id;
    } else {
        const int n = naive_filter(s, c);
        const double u = rng_uniform(s->params.seed, (uint64_t)s->n_draws++);
        uint64_t sum = 0;

        id = -1;
        for (int i = 0; i < n && ldexp((double)sum, -52) <= u; i++) {
            sum += naive_mass(c[i].p);
            if (naive_mass(c[i].p) > 0)
                id = c[i].id;
        }
    }
    s->seen[id] = true;
    return id;
}

/* Logits of several kinds: spread, full of ties, flat with a few peaks, huge. */
static void random_logits(float *x, int n, uint64_t *seed)
{
    const uint32_t kind = next_random(seed) % 5;

    for (int i = 0; i < n; i++) {
        const int r = (int)(next_random(seed) % 65536) - 32768;

        x[i] = kind == 0   ? (float)r / 3000.0f
               : kind == 1 ? (float)(r % 7)
               : kind == 2 ? (r % 50 == 0 ? 4.0f : 0.0f) + (float)(r % 3) * 1e-6f
               : kind == 3 ? (float)r * 1e33f
                           : (r > 0 ? 0.0f : -0.0f);
    }
}

static float pick(const float *values, uint32_t n, uint64_t *seed)
{
    return values[next_random(seed) % n];
}

static SamplingParams random_params(int vocab_size, uint64_t *seed)
{
    static const float temperatures[] = {0.0f, 1e-6f, 0.3f, 0.7f, 1.0f, 1.0f, 1.5f, 2.0f};
    static const float top_ps[] = {0.0f, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f, 0.9999999f, 1.0f, 1.0f};
    static const float min_ps[] = {0.0f, 0.0f, 0.001f, 0.05f, 0.5f, 1.0f};
    static const float penalties[] = {0.0f, 1.0f, 1.0f, 0.5f, 1.1f, 1.3f, 2.0f};
    SamplingParams p = sampling_defaults();

    p.temperature = pick(temperatures, 8, seed);
    p.top_p = pick(top_ps, 9, seed);
    p.min_p = pick(min_ps, 6, seed);
    p.repetition_penalty = pick(penalties, 7, seed);
    p.top_k = next_random(seed) % 2 ? 0 : next_random(seed) % (uint32_t)(vocab_size + 2);
    p.seed = (uint64_t)next_random(seed) << 32 | next_random(seed);
    return p;
}

static void equals_the_naive_version(void **state)
{
    static float x[MAX_VOCAB];
    uint64_t seed = 20240607;

    (void)state;
    for (int round = 0; round < 300; round++) {
        const int vocab_size = 1 + (int)(next_random(&seed) % (round % 4 == 0 ? MAX_VOCAB : 40));
        Made m[2];
        int n_isa = 0;

        for (; n_isa < 2 && kernels_available(n_isa) != NULL; n_isa++)
            m[n_isa] = make_sampler(kernels_available(n_isa), vocab_size);
        for (int job = 0; job < 10; job++) {
            Naive naive = {.params = random_params(vocab_size, &seed), .vocab_size = vocab_size};

            for (int j = 0; j < n_isa; j++)
                sampler_reset(m[j].s, &naive.params);
            for (int i = 0; i < 4; i++) {
                random_logits(x, vocab_size, &seed);
                const int want = naive_next(&naive, x);

                for (int j = 0; j < n_isa; j++)
                    assert_int_equal(next(&m[j], x), want);
            }
        }
        for (int j = 0; j < n_isa; j++)
            arena_free(&m[j].arena);
    }
}

static void documented_example(void **state)
{
    /* docs/numerics.md, sampling: 16 logits, two settings, eight tokens each. */
    static const int want_plain[] = {7, 13, 8, 4, 10, 4, 4, 10};
    static const int want_filtered[] = {10, 10, 9, 9, 7, 4, 13, 13};
    float x[16];
    SamplingParams p = sampling_defaults();
    Made m = make_sampler(scalar(), 16);

    (void)state;
    for (int i = 0; i < 16; i++)
        x[i] = (float)(i * i % 17) / 4.0f;
    sampler_reset(m.s, &p);
    for (int i = 0; i < 8; i++)
        assert_int_equal(next(&m, x), want_plain[i]);
    p = (SamplingParams){.temperature = 0.8f,
                         .top_p = 0.95f,
                         .top_k = 8,
                         .repetition_penalty = 1.1f,
                         .min_p = 0.05f,
                         .seed = 7};
    sampler_reset(m.s, &p);
    for (int i = 0; i < 8; i++)
        assert_int_equal(next(&m, x), want_filtered[i]);
    arena_free(&m.arena);
}

static void jobs_do_not_touch_each_other(void **state)
{
    float x[64];
    uint64_t seed = 3;
    SamplingParams p = sampling_defaults();
    Made used = make_sampler(scalar(), 64), fresh = make_sampler(scalar(), 64);
    SamplingParams other = {.temperature = 0.2f,
                            .top_p = 0.3f,
                            .top_k = 3,
                            .repetition_penalty = 2.0f,
                            .min_p = 0.4f,
                            .seed = 1};

    (void)state;
    random_logits(x, 64, &seed);
    sampler_reset(used.s, &other);
    for (int i = 0; i < 30; i++)
        (void)next(&used, x);
    p.repetition_penalty = 1.7f;
    sampler_reset(used.s, &p);
    sampler_reset(fresh.s, &p);
    for (int i = 0; i < 30; i++)
        assert_int_equal(next(&used, x), next(&fresh, x));
    arena_free(&used.arena);
    arena_free(&fresh.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(argmax_takes_the_lowest_index),
        cmocka_unit_test(argmax_refuses_what_is_not_finite),
        cmocka_unit_test(softmax_is_the_definition),
        cmocka_unit_test(softmax_is_close_to_double),
        cmocka_unit_test(generator_vectors),
        cmocka_unit_test(uniform_stays_below_one),
        cmocka_unit_test(generator_is_uniform),
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
        cmocka_unit_test(equals_the_naive_version),
        cmocka_unit_test(documented_example),
        cmocka_unit_test(jobs_do_not_touch_each_other),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
