/* worker/job.h: a job from its acceptance to its terminal event, and the line in which jobs wait
 * (first come, first served). At most one runs.
 *
 * May include: common, http, compat. */
#ifndef LLORCH_WORKER_JOB_H
#define LLORCH_WORKER_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "compat/completion.h"
#include "http/server.h"
#include "worker/request.h"

enum {
    JOB_CORRELATION_BYTES = 129,
    JOB_FREE_BYTES = 64 * 1024,       /* of a body, which are not counted */
    JOB_MAX_BODIES = 64 * 1024 * 1024 /* of what is kept of all bodies */
};

/* Why a job must end before it is done. The first reason stays. */
typedef enum {
    JOB_GO_ON,
    JOB_CANCELLED,   /* POST /cancel */
    JOB_CLIENT_GONE, /* its connection is gone: nobody to tell */
    JOB_TIMED_OUT,   /* --inference-timeout-sec */
    JOB_SHUTDOWN,    /* the worker ends */
    JOB_NO_MEMORY,   /* an event could not be written */
    JOB_TOO_LONG,    /* a prompt */
    JOB_TOO_LARGE    /* the answer, which is kept until it is whole */
} JobStop;

typedef struct JobApi JobApi; /* worker/job_api.h */

typedef struct Job {
    struct Job *next;      /* in the line of waiting jobs, or of free ones */
    const JobApi *api;     /* how its client is told */
    HttpConn *conn;        /* NULL once the client is gone */
    Request request;       /* owned; its run is the one that is computed, or comes next */
    Completion completion; /* owned, and empty for all other APIs; request points into it */
    JobStop stop;
    bool started_sent; /* the `started` event is out */
    bool preparing;    /* its first run has not begun */
    char correlation_id[JOB_CORRELATION_BYTES];
    char started_at[CLOCK_ISO_BYTES];
    size_t n_counted; /* of its body */
    uint64_t accepted_ns;
    uint64_t last_sent_ns; /* last event or comment: for the keep-alive comments */
    uint64_t started_ns;   /* the `started` moment; 0 while waiting, like everything below */
    uint64_t last_metrics_ns;
    uint64_t first_step_ns; /* first forward pass */
    uint64_t first_token_ns;
    uint64_t last_token_ns;
    uint64_t decode_ns;  /* between tokens of the same run */
    uint32_t n_decoded;  /* so many of them: all but the first of each run */
    uint32_t run_tokens; /* of the run that is computed */
    uint32_t tokens_out;
    int prompt_tokens, cached_tokens; /* once the backend took it; cached ones were not computed */
} Job;

typedef struct {
    Job *running;      /* NULL: none */
    Job *first, *last; /* waiting, in order of arrival */
    Job *unused;
    int n_waiting, n_jobs, max_jobs; /* n_jobs: waiting and running */
    size_t n_counted;                /* of all their bodies */
} JobQueue;

/* Room for one running and max_waiting waiting jobs, from the arena. job_queue_plan adds its size
 * to *total. */
bool job_queue_plan(size_t *total, int max_waiting) ERR_CHECK;
bool job_queue_init(JobQueue *q, Arena *arena, int max_waiting) ERR_CHECK;

/* Whether one more job may be accepted: the running one is not counted against the limit.
 * has_memory: and one of whose body so many bytes are kept. */
bool job_queue_has_room(const JobQueue *q);
bool job_queue_has_memory(const JobQueue *q, size_t n_body);

/* Appends a job, which takes the request; has_room and has_memory must be true. */
Job *job_queue_push(JobQueue *q, const JobApi *api, const Request *request, size_t n_body);

/* The oldest waiting job becomes q->running (there must be one, and none running). */
Job *job_queue_start(JobQueue *q);

/* The job leaves, running or waiting; its request is freed. */
void job_queue_remove(JobQueue *q, Job *job);

/* Asks a running job to stop; the first reason stays. */
void job_stop(Job *job, JobStop why);

/* The speed of decoding: tokens after the first, whose time is the prompt's. */
double job_tokens_per_sec(const Job *job);

/* Whether the job carries this id (ids may hold NUL). */
bool job_has_id(const Job *job, BackendText id);

#endif
