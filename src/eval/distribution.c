/* eval/distribution.c: see distribution.h.
 *
 * May include: sampling. */
#include "eval/distribution.h"

#include <math.h>

#include "sampling/likelihood.h"

int distribution_top(const float *l, int n)
{
    int top = 0;

    for (int i = 1; i < n; i++)
        if (l[i] > l[top])
            top = i;
    return top;
}

double distribution_nll(const float *l, int n, int32_t id)
{
    return likelihood_log_sum(l, n) - (double)l[id];
}

double distribution_entropy(const float *l, int n)
{
    const double log_sum = likelihood_log_sum(l, n);
    double nats = 0.0;

    for (int i = 0; i < n; i++) {
        const double log_p = (double)l[i] - log_sum;

        nats -= likelihood_exp(log_p) * log_p;
    }
    return fmax(nats, 0.0) / log(2.0); /* rounding may leave a certainty below zero, or at -0 */
}

int distribution_rank(const float *l, int n, int32_t id)
{
    int rank = 1;

    for (int i = 0; i < n; i++)
        rank += l[i] > l[id] || (l[i] == l[id] && i < id);
    return rank;
}
