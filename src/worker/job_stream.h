/* worker/job_stream.h: what every API needs to write to a job's connection: nothing is written once
 * the client is gone, silence is broken by comments, and a client that does not read is waited for.
 *
 * May include: nothing. */
#ifndef LLORCH_WORKER_JOB_STREAM_H
#define LLORCH_WORKER_JOB_STREAM_H

#include "worker/job.h"
#include "worker/worker_internal.h"

/* The headers of a stream go out, if they have not. */
void job_stream_begin(Job *job);

/* Sends what stands in w->scratch, and empties it. Out of memory: the job is asked to stop. */
void job_stream_flush(Worker *w, Job *job);

/* The same; it was the last, and the connection is let go. */
void job_stream_finish(Worker *w, Job *job);

/* Takes the connection from the job, which has said all it had to say; NULL: the client is gone. */
HttpConn *job_stream_take(Job *job);

/* Whether a second has passed since the last metrics event, or the start, and the client can take
 * one. */
bool job_stream_metrics_due(const Job *job, uint64_t now_ns);

/* A comment, when the stream was silent for too long. */
void job_stream_keep_alive(Worker *w, Job *job, uint64_t now_ns);

/* The client does not read: do not produce more. */
bool job_stream_blocked(const Job *job);

#endif
