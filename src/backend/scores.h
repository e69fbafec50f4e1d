/* backend/scores.h: BackendScores out of a row of logits.
 *
 * May include: backend, common. */
#ifndef LLORCH_BACKEND_SCORES_H
#define LLORCH_BACKEND_SCORES_H

#include "backend/backend.h"
#include "common/error.h"

/* Of token id among logits[0..n), id < n; the n_best (0 .. BACKEND_MAX_LOGPROBS) most likely ones,
 * or all when there are fewer. Errors: ERR_NUMERIC when a logit is not finite. */
ErrCode scores_of_row(BackendScores *out, const float *logits, int n, int n_best, int id,
                      Err *err) ERR_CHECK;

#endif
