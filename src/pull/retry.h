/* pull/retry.h: what an answer that is no success means, and whether to ask again.
 *
 * May include: common, hub, pull. */
#ifndef LLORCH_PULL_RETRY_H
#define LLORCH_PULL_RETRY_H

#include <stdbool.h>

#include "common/error.h"
#include "hub/answer.h"
#include "pull/options.h"
#include "pull/progress.h"

enum {
    RETRY_FIRST_MS = 250,
    RETRY_LONGEST_MS = 8000,
    RETRY_AFTER_MAX_S = 60 /* a server that wants more is told of instead of waited for */
};

typedef struct {
    const PullOptions *o;
    Progress *progress;
    int failed; /* attempts without progress so far */
} Retry;

/* The error of an answer with another status than expected, and what to do about it: ERR_NETWORK
 * for what may pass (408, 429, 5xx), else ERR_IO. */
ErrCode retry_status(const PullOptions *o, const char *file, const HubAnswer *a,
                     Err *err) ERR_CHECK;

/* After a failed attempt: waits and says true when there should be another one, which err's code
 * and the number of attempts decide; a: its answer, or NULL. False leaves err as it is, or
 * ERR_CANCELLED after Ctrl-C. */
bool retry_wait(Retry *r, const HubAnswer *a, Err *err);

#endif
