/* worker/job_api.h: the border between what happens to a job, which runner.c knows, and how the API
 * that the job came through says so to its client. One table of functions for each API:
 * execute_api.c, completion_api.c.
 *
 * None of them is called once the client is gone but error, and none may start or end a
 * job.
 *
 * May include: backend. */
#ifndef LLORCH_WORKER_JOB_API_H
#define LLORCH_WORKER_JOB_API_H

#include <stdbool.h>

#include "backend/backend.h"
#include "worker/job.h"
#include "worker/worker_internal.h"

/* Why a job ended before it was done. */
typedef enum {
    FAIL_CANCELLED, /* by POST /cancel, or its client is gone */
    FAIL_SHUTDOWN,
    FAIL_TIMEOUT,
    FAIL_INVALID, /* the request turned out to be one that cannot be computed */
    FAIL_COMPUTING
} JobFailureKind;

typedef struct {
    JobFailureKind kind;
    const char *message; /* one line */
    bool retriable;
} JobFailure;

struct JobApi {
    MetricApi metric; /* its label in GET /metrics */

    /* It waits in line now. */
    void (*accepted)(Worker *w, Job *job);

    /* Its turn has come. */
    void (*started)(Worker *w, Job *job);

    /* May be NULL. A few milliseconds of work before the first run, repeated while it returns true.
     * It may ask the job to stop. */
    bool (*prepare)(Worker *w, Job *job);

    /* A token, of the prompt (STEP_PROMPT_TOKEN) or generated; job->tokens_out is its number. */
    void (*token)(Worker *w, Job *job, const BackendStep *step);

    /* May be NULL. A run is over and there is another one in this job: job->request.run is the next
     * one then. False: it was the last. */
    bool (*next_run)(Worker *w, Job *job, const BackendStep *end);

    /* May be NULL. A second has passed, and the client can take something. */
    void (*metrics)(Worker *w, Job *job);

    /* The last that is said, one of these two, once. The client may be gone, or may not have heard
     * of the start yet. */
    void (*end)(Worker *w, Job *job, const BackendStep *end);
    void (*error)(Worker *w, Job *job, const JobFailure *failure);
};

/* "CANCELLED", "TIMEOUT", ...: contract 6.6, and the log. */
const char *job_failure_name(JobFailureKind kind);

#endif
