/* backend/scores.c: see scores.h.
 *
 * May include: backend, sampling. */
#include "backend/scores.h"

#include "sampling/argmax.h"
#include "sampling/likelihood.h"

ErrCode scores_of_row(BackendScores *out, const float *logits, int n, int n_best, int id, Err *err)
{
    int32_t best[BACKEND_MAX_LOGPROBS];
    const ErrCode code = sampling_check_finite(logits, n, err);

    if (code != ERR_OK)
        return code;
    const double log_sum = likelihood_log_sum(logits, n);

    *out =
        (BackendScores){.logprob = (double)logits[id] - log_sum, .n_best = n_best < n ? n_best : n};
    likelihood_best(logits, n, out->n_best, best);
    for (int i = 0; i < out->n_best; i++)
        out->best[i] = (BackendScore){best[i], (double)logits[best[i]] - log_sum};
    return ERR_OK;
}
