/* sampling/likelihood.c: see likelihood.h.
 *
 * No product here has an addition as its only use, unless the product is exact: a compiler that
 * fuses operations finds nothing whose bits it could change. Where a series wants such a product,
 * it is written as a quotient.
 *
 * May include: nothing. */
#include "sampling/likelihood.h"

#include <string.h>

#include "sampling/likelihood_tables.h"

/* ln 2 / 2^18, cut into parts of 24 bits: their products with a whole number below 2^29 are exact.
 */
static const double step_high = 0x1.62e42ep-19, step_middle = 0x1.efa39ep-43,
                    step_low = 0x1.e6af26p-68;
static const double steps = 0x1.71547652b82fep+18; /* 2^18 / ln 2 */

/* ln 2 in parts of 32 bits: products with exponents are exact. */
static const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef356p-33;

static double from_bits(uint64_t u)
{
    double x;

    memcpy(&x, &u, sizeof x);
    return x;
}

static uint64_t bits_of(double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

/* x = n ln 2 / 2^18 + r. n splits into an exponent and three times six bits, each of which picks
 * its factor, and r is so small that (2 + r) / (2 - r) is exp(r). */
static inline double exp_of(double x)
{
    if (x < LIKELIHOOD_EXP_LOW)
        return 0.0;

    const int32_t n = (int32_t)(x * steps);
    const double whole = (double)n;
    const double r = ((x - whole * step_high) - whole * step_middle) - whole * step_low;
    const uint32_t bits = (uint32_t)n;
    const double power = likelihood_exp_high[bits >> 12 & 63] *
                         likelihood_exp_middle[bits >> 6 & 63] * likelihood_exp_low[bits & 63] *
                         ((2.0 + r) / (2.0 - r));
    const uint64_t exponent = (uint64_t)((n - (int32_t)(bits & 0x3ffff)) / 0x40000);

    return from_bits(bits_of(power) + (exponent << 52));
}

double likelihood_exp(double x)
{
    return exp_of(x);
}

double likelihood_log(double x)
{
    const uint64_t u = bits_of(x);
    const double k = (double)((int)(u >> 52) - 1023);
    const double m = from_bits((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
    const int i = (int)(u >> 46 & 63);
    const double c = 1.0 + (double)i / 64.0;
    const double z = (m - c) / (m + c), square = z * z;
    const double z1 = z + z, z3 = z1 * square, z5 = z3 * square, z7 = z5 * square;
    const double series = ((z7 / 7.0 + z5 / 5.0) + z3 / 3.0) + z1;

    return ((series + k * ln2_low) + likelihood_log_table[i]) + k * ln2_high;
}

double likelihood_fold(double lanes[LIKELIHOOD_LANES])
{
    for (int half = LIKELIHOOD_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

double likelihood_log_sum(const float *l, int n)
{
    double lanes[LIKELIHOOD_LANES] = {0.0};
    float max = l[0];

    for (int i = 1; i < n; i++)
        max = l[i] > max ? l[i] : max;
    for (int i = 0; i < n; i++)
        lanes[i % LIKELIHOOD_LANES] += exp_of((double)l[i] - (double)max);
    return (double)max + likelihood_log(likelihood_fold(lanes));
}

void likelihood_best(const float *l, int n, int n_best, int32_t *ids)
{
    int n_found = 0;

    if (n_best == 0)
        return;
    for (int i = 0; i < n; i++) {
        int at = n_found;

        if (n_found == n_best && !(l[i] > l[ids[n_best - 1]]))
            continue;
        if (n_found < n_best)
            n_found++;
        else
            at--;
        for (; at > 0 && l[i] > l[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = i;
    }
}
