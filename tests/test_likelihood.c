/* tests/test_likelihood.c: log-probabilities: their definition to the bit (docs/numerics.md,
 * section 7), and how close to the truth it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "quick.h"
#include "random.h"
#include "sampling/likelihood.h"

enum { N_HASHED = 65536, MAX_ROW = 3000 };

/* FNV-1a over 64-bit words. */
static uint64_t add_to_hash(uint64_t h, double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof u);
    return (h ^ u) * 1099511628211u;
}

static void exp_and_log_have_the_recorded_hashes(void **state)
{
    uint64_t e = 14695981039346656037u, l = e;

    (void)state;
    for (int i = 0; i < N_HASHED; i++) {
        e = add_to_hash(e, likelihood_exp(-i / 93.0));
        l = add_to_hash(l, likelihood_log(1.0 + (double)i * i / 7.0));
    }
    assert_true(e == 0xf7dbfbc0f23329d3u);
    assert_true(l == 0xe1574716c587549bu);
}

static void values_are_the_documented_ones(void **state)
{
    float row[1000];

    (void)state;
    assert_true(likelihood_exp(0.0) == 1.0);
    assert_true(likelihood_exp(-1.0) == 0x1.78b56362cef39p-2);
    assert_true(likelihood_exp(-700.0) == 0x1.14f2b0fb9307fp-1010);
    assert_true(likelihood_exp(-709.0) == 0.0 && likelihood_exp(-1e300) == 0.0);
    assert_true(likelihood_log(1.0) == 0.0);
    assert_true(likelihood_log(2.0) == 0x1.62e42fefa39efp-1);
    assert_true(likelihood_log(50257.0) == 0x1.5a659f6bed8c8p+3);
    for (int i = 0; i < 1000; i++)
        row[i] = (float)(i * i % 1009) / 64.0f;
    assert_true(likelihood_log_sum(row, 1000) == 0x1.416199ee727eap+4);
}

/* Relative, in units of 2^-53. */
static double error_of(double got, long double want)
{
    return (double)(fabsl((long double)got - want) / fabsl(want)) * 0x1p53;
}

static void exp_and_log_are_close_to_the_truth(void **state)
{
    const int n = quick() ? 20000 : 400000;
    uint64_t seed = 1;

    (void)state;
    for (int i = 0; i < n; i++) {
        const double u = (double)next_random(&seed) / 4294967296.0;
        const double x = -u * (i % 3 == 0 ? 700.0 : i % 3 == 1 ? 30.0 : 1e-3);
        const double y = 1.0 + u * (i % 3 == 0 ? 1e6 : i % 3 == 1 ? 1.0 : 1e-9);

        assert_true(error_of(likelihood_exp(x), expl((long double)x)) < 8.0);
        if (y > 1.0)
            assert_true(error_of(likelihood_log(y), logl((long double)y)) < 4.0);
    }
}

static void random_row(float *l, int n, uint64_t *seed)
{
    for (int i = 0; i < n; i++)
        l[i] = (float)((int)(next_random(seed) % 40000) - 20000) / 700.0f;
}

static void the_sum_runs_in_sixteen_lanes(void **state)
{
    static float l[MAX_ROW];
    uint64_t seed = 2;

    (void)state;
    for (int n = 1; n < MAX_ROW; n += n < 70 ? 1 : 611) {
        double lanes[16] = {0.0};
        float max = -1e30f;

        /* A sum just above 1 and a maximum of 0: there the last place of the sum can be seen. */
        random_row(l, n, &seed);
        for (int i = 0; i < n; i++)
            l[i] = i == n / 2 ? 0.0f : l[i] / 10.0f - 10.0f;
        for (int i = 0; i < n; i++)
            max = fmaxf(max, l[i]);
        for (int lane = 0; lane < 16; lane++)
            for (int i = lane; i < n; i += 16)
                lanes[lane] += likelihood_exp((double)l[i] - (double)max);
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++)
                lanes[i] += lanes[i + half];
        assert_true(likelihood_log_sum(l, n) == (double)max + likelihood_log(lanes[0]));
    }
}

static void probabilities_add_up_to_one(void **state)
{
    static float l[MAX_ROW];
    uint64_t seed = 3;

    (void)state;
    for (int round = 0; round < 20; round++) {
        long double sum = 0.0L;

        random_row(l, MAX_ROW, &seed);
        const double log_sum = likelihood_log_sum(l, MAX_ROW);
        for (int i = 0; i < MAX_ROW; i++)
            sum += expl((long double)l[i] - (long double)log_sum);
        assert_true(fabsl(sum - 1.0L) < 1e-14L);
    }
}

/* What a client gets is a number, whatever the logits. */
static void logarithms_are_finite_and_at_most_zero(void **state)
{
    const float rows[][3] = {{0.0f, 0.0f, 0.0f},
                             {3e38f, -3e38f, 3e38f},
                             {-3e38f, -3e38f, -3e38f},
                             {1.0f, -1000.0f, -2000.0f},
                             {1e-40f, -1e-40f, -0.0f}};

    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int n = 1; n <= 3; n++)
            for (int i = 0; i < n; i++) {
                const double logprob = (double)rows[r][i] - likelihood_log_sum(rows[r], n);

                assert_true(isfinite(logprob) && logprob <= 0.0 && !(n == 1 && logprob != 0.0));
            }
    assert_true(likelihood_log_sum(rows[3], 3) == 1.0);
}

static void best_are_the_first_of_a_sorted_row(void **state)
{
    float l[200];
    int32_t ids[10];
    uint64_t seed = 4;

    (void)state;
    for (int round = 0; round < 500; round++) {
        const int n = 1 + (int)(next_random(&seed) % 200);
        const int n_best = (int)(next_random(&seed) % (uint32_t)(n < 10 ? n + 1 : 11));

        for (int i = 0; i < n; i++)
            l[i] = (float)(next_random(&seed) % (round % 2 ? 5 : 1000));
        likelihood_best(l, n, n_best, ids);
        for (int b = 0; b < n_best; b++) {
            int n_before = 0;

            for (int i = 0; i < n; i++)
                n_before += l[i] > l[ids[b]] || (l[i] == l[ids[b]] && i < ids[b]);
            assert_int_equal(n_before, b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_and_log_have_the_recorded_hashes),
        cmocka_unit_test(values_are_the_documented_ones),
        cmocka_unit_test(exp_and_log_are_close_to_the_truth),
        cmocka_unit_test(the_sum_runs_in_sixteen_lanes),
        cmocka_unit_test(probabilities_add_up_to_one),
        cmocka_unit_test(logarithms_are_finite_and_at_most_zero),
        cmocka_unit_test(best_are_the_first_of_a_sorted_row),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
