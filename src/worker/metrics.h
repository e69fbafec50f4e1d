/* worker/metrics.h: what the worker counts while it serves, for GET /metrics and /health. Counting
 * is a few additions to integers; making a text of them is metrics_page.c.
 *
 * A job passes, in this order: metrics_accepted, metrics_started (its turn came), then for each
 * sequence of tokens it is made of metrics_prompt, metrics_prompt_done for each chunk and
 * metrics_token for each token; and metrics_ended once, from wherever it was. A request that never
 * became a job is metrics_rejected, once.
 *
 * May include: common, backend. */
#ifndef LLORCH_WORKER_METRICS_H
#define LLORCH_WORKER_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/histogram.h"

typedef enum { METRIC_EXECUTE, METRIC_COMPLETIONS, METRIC_N_APIS } MetricApi;

/* How an accepted job ended. */
typedef enum {
    METRIC_STOP,         /* end of text, or a stop string */
    METRIC_LENGTH,       /* max_tokens, or the context was full */
    METRIC_CANCELLED,    /* POST /cancel */
    METRIC_DISCONNECTED, /* its client left */
    METRIC_TIMEOUT,      /* --inference-timeout-sec */
    METRIC_SHUTDOWN,     /* the worker ended */
    METRIC_REFUSED,      /* found in line or in the middle to be more than can be done */
    METRIC_FAILED,       /* no finite logits, out of memory, an error of ours */
    METRIC_N_OUTCOMES
} MetricOutcome;

/* Why a request did not become a job. */
typedef enum {
    METRIC_INVALID,      /* 400, 413, 415, 422 */
    METRIC_UNAUTHORIZED, /* 401, on whatever path */
    METRIC_QUEUE_FULL,
    METRIC_STARTING,  /* the model still loads */
    METRIC_DRAINING,  /* the worker shuts down */
    METRIC_NO_MEMORY, /* 500 */
    METRIC_N_REASONS
} MetricReason;

/* A job's share; all zero until it is accepted. */
typedef struct {
    MetricApi api;
    bool has_token; /* its first token is out */
    uint64_t accepted_ns, started_ns;
    uint64_t last_token_ns; /* of the present sequence; 0: none yet */
    uint64_t n_intervals;   /* between two tokens of one sequence, in the whole job */
    int n_prompt;           /* of the present sequence */
    int n_kept;             /* positions whose keys and values are in the cache */
} JobMeter;

/* Counters and histograms only grow. */
typedef struct {
    uint64_t start_ns; /* wall clock: nanoseconds since 1970 at the start of the process */
    uint64_t ended[METRIC_N_APIS][METRIC_N_OUTCOMES];
    uint64_t rejected[METRIC_N_REASONS];
    uint64_t prompt_tokens, cached_tokens, generated_tokens;
    Histogram first_token, inter_token, queue, prefill, request;
    uint64_t speed_intervals, speed_ns; /* between tokens of the job that gave out two last */
} Metrics;

void metrics_init(Metrics *m);

/* The label values of the enumerations above. */
const char *metrics_api_name(MetricApi api);
const char *metrics_outcome_name(MetricOutcome outcome);
const char *metrics_reason_name(MetricReason reason);

void metrics_rejected(Metrics *m, MetricReason reason);

void metrics_accepted(JobMeter *job, MetricApi api, uint64_t now_ns);

/* The job's turn: it waited from metrics_accepted until now. */
void metrics_started(Metrics *m, JobMeter *job, uint64_t now_ns);

/* The backend took a prompt; cached tokens of it need no computing. */
void metrics_prompt(Metrics *m, JobMeter *job, int prompt_tokens, int cached_tokens);

/* A chunk was computed: so many tokens of the prompt are in the cache. */
void metrics_prompt_done(JobMeter *job, int n_prompt_done);

void metrics_token(Metrics *m, JobMeter *job, uint64_t now_ns);

void metrics_ended(Metrics *m, const JobMeter *job, MetricOutcome outcome, uint64_t now_ns);

/* What a reason to stop of the backend counts as. */
MetricOutcome metrics_outcome_of(StopReason reason);

/* Tokens per second while decoding, of the job that runs or, until it has given out two tokens, of
 * the one before it. False: there was none yet. */
bool metrics_speed(const Metrics *m, double *tokens_per_sec);

#endif
