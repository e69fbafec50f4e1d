/* worker/job_stream.h: a job's events on its connection: the order of contract 6.3 is kept here,
 * and nothing is written once the client is gone.
 *
 * May include: backend. */
#ifndef LLORCH_WORKER_JOB_STREAM_H
#define LLORCH_WORKER_JOB_STREAM_H

#include "backend/backend.h"
#include "worker/events.h"
#include "worker/job.h"
#include "worker/worker_internal.h"

/* The job was accepted: response headers go out, unless they are deferred to the first token. */
void job_stream_open(Worker *w, Job *job);

/* The job begins: `started`, unless deferred. Any later event sends it first if it is still
 * missing. */
void job_stream_started(Worker *w, Job *job);

void job_stream_token(Worker *w, Job *job, const char *text, size_t n_text);
void job_stream_metrics(Worker *w, Job *job, double tokens_per_sec);

/* Whether a second has passed since the last metrics event, or the start, and the client can take
 * one. */
bool job_stream_metrics_due(const Job *job, uint64_t now_ns);

/* A comment, when the stream was silent for too long. */
void job_stream_keep_alive(Worker *w, Job *job, uint64_t now_ns);

/* The terminal events; the connection is let go. */
void job_stream_end(Worker *w, Job *job, const EventEnd *end);
void job_stream_error(Worker *w, Job *job, const char *code, const char *message, bool retriable);

/* The client does not read: do not produce more. */
bool job_stream_blocked(const Job *job);

#endif
