/* worker/runner.h: the running job: begin, one step at a time, end. Called from the main loop only,
 * except where a function says that it may be called while a step computes.
 *
 * May include: nothing. */
#ifndef LLORCH_WORKER_RUNNER_H
#define LLORCH_WORKER_RUNNER_H

#include "worker/job.h"
#include "worker/worker_internal.h"

/* Begins the oldest waiting job; none may be running, one must wait. */
void runner_start(Worker *w);

/* At most one chunk or token of the running job, and its end when it is over. */
void runner_step(Worker *w);

/* The running job must not be stepped: its client does not read. Never true for a job that must
 * stop. */
bool runner_paused(const Worker *w);

/* Ends a waiting job (never the running one) and tells its client. Allowed while a step
 * computes. */
void runner_drop_waiting(Worker *w, Job *job, JobStop why);

/* Limits that time sets: inference time-out, keep-alive comments. Allowed while a step computes. */
void runner_tick(Worker *w);

#endif
