/* sampling/softmax.c: temperature, exponentials, sum, one reciprocal.
 *
 * May include: kernels. */
#include "sampling/softmax.h"

void sampling_softmax(const Kernels *k, float *p, const float *logits, int n, float temperature)
{
    const float *x = logits;

    if (temperature != 1.0f) {
        for (int i = 0; i < n; i++)
            p[i] = logits[i] / temperature;
        x = p;
    }
    const float inv = 1.0f / k->softmax_exp(p, x, n);
    for (int i = 0; i < n; i++)
        p[i] = p[i] * inv;
}
