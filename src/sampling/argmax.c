/* sampling/argmax.c: the largest logit, lowest index first, after a look at all of them.
 *
 * May include: common. */
#include "sampling/argmax.h"

#include <math.h>

ErrCode sampling_check_finite(const float *logits, int n, Err *err)
{
    int bad = 0;

    /* Counted without a branch, so that the usual row costs one pass at full speed. */
    for (int i = 0; i < n; i++)
        bad += !isfinite(logits[i]);
    if (bad == 0)
        return ERR_OK;
    int first = 0;
    while (isfinite(logits[first]))
        first++;
    return err_set(err, ERR_NUMERIC, "logit of token %d is %s, expected a finite number (%d of %d)",
                   first, isnan(logits[first]) ? "NaN" : "infinite", bad, n);
}

ErrCode sampling_argmax(int *id, const float *logits, int n, Err *err)
{
    const ErrCode code = sampling_check_finite(logits, n, err);
    float largest;
    int best = 0;

    if (code != ERR_OK)
        return code;
    /* The value in a register of its own: reading logits[best] anew would wait for the last
     * exchange. */
    largest = logits[0];
    for (int i = 1; i < n; i++)
        if (logits[i] > largest) {
            largest = logits[i];
            best = i;
        }
    *id = best;
    return ERR_OK;
}
