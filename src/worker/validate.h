/* worker/validate.h: the list of contract 5.3: every range that a well-typed request breaks, in
 * table order.
 *
 * May include: common, backend. */
#ifndef LLORCH_WORKER_VALIDATE_H
#define LLORCH_WORKER_VALIDATE_H

#include <jansson.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/json.h"

/* At most this many entries for single stop strings are reported: the list of a hostile body has a
 * million. */
enum {
    VALIDATE_MAX_STOP_ENTRIES = 64,
    VALIDATE_MAX_JOB_ID_BYTES = 4096 /* ids are echoed, so a client must not fill the output */
};

/* Checks run's prompt and sampling, job_id, max_tokens and stop (array of strings or NULL); fills
 * run's max_tokens and stops. backend may be NULL: no context limit then. Returns 200, 400 with
 * {"errors":[...]} in *answer, or 500. */
int validate_request(BackendRequest *run, BackendText job_id, uint32_t max_tokens,
                     const json_t *stop, Backend *backend, JsonBuf *answer);

/* Row 1 alone. */
int validate_job_id(BackendText job_id, JsonBuf *answer);

#endif
