/* eval/distribution.c: see distribution.h.
 *
 * May include: nothing. */
#include "eval/distribution.h"

#include <math.h>

int distribution_top(const float *l, int n)
{
    int top = 0;

    for (int i = 1; i < n; i++)
        if (l[i] > l[top])
            top = i;
    return top;
}

double distribution_log_sum(const float *l, int n)
{
    const double max = (double)l[distribution_top(l, n)];
    double sum = 0.0;

    for (int i = 0; i < n; i++)
        sum += exp((double)l[i] - max);
    return max + log(sum);
}

double distribution_nll(const float *l, int n, int32_t id)
{
    return distribution_log_sum(l, n) - (double)l[id];
}

double distribution_entropy(const float *l, int n)
{
    const double log_sum = distribution_log_sum(l, n);
    double nats = 0.0;

    for (int i = 0; i < n; i++) {
        const double log_p = (double)l[i] - log_sum;

        nats -= exp(log_p) * log_p;
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

void distribution_best(const float *l, int n, int n_best, int32_t *ids)
{
    int n_found = 0;

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
