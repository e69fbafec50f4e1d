/* tests/test_sampling_parts.c: what the sampler is made of: argmax, softmax on every instruction
 * set, the generator. */
#include "sampling_rig.h"

#include <float.h>
#include <math.h>

#include "kernels/elementary.h"
#include "random.h"
#include "sampling/argmax.h"
#include "sampling/rng.h"
#include "sampling/softmax.h"

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
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
