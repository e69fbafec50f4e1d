/* sampling/argmax.h: the largest logit (checkpoint 10).
 *
 * May include: common. */
#ifndef LLORCH_SAMPLING_ARGMAX_H
#define LLORCH_SAMPLING_ARGMAX_H

#include "common/error.h"

/* *id = the lowest index of the largest of logits[0..n), n >= 1. -0 and +0 are equal.
 * Errors: ERR_NUMERIC when any of them is NaN or infinite; *id is untouched then. */
ErrCode sampling_argmax(int *id, const float *logits, int n, Err *err) ERR_CHECK;

/* ERR_NUMERIC, naming the first offender, unless all of logits[0..n) are finite. */
ErrCode sampling_check_finite(const float *logits, int n, Err *err) ERR_CHECK;

#endif
