/* worker/job_log.h: what the log says of a job. Never its prompt, never its output.
 *
 * May include: backend. */
#ifndef LLORCH_WORKER_JOB_LOG_H
#define LLORCH_WORKER_JOB_LOG_H

#include "backend/backend.h"
#include "worker/job.h"

enum { JOB_LOG_MODE_BYTES = 160 };

/* "greedy" or "stochastic(temp=0.70, top_p=0.90, ...)": filters that are off are left out. */
void job_log_mode(char out[JOB_LOG_MODE_BYTES], const SamplingParams *p);

/* A remark on settings that work against each other ("restrictive", "conflicting"), or NULL. Never
 * a rejection. */
const char *job_log_warning(const SamplingParams *p);

/* The job begins: its sampling, and the remark as a warning. */
void job_log_started(const Job *job);

/* The one line of a job's end. outcome: a stop reason or an error code; detail: the same in words.
 */
void job_log_finished(const Job *job, const char *outcome, const char *detail);

#endif
