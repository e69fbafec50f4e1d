/* worker/shutdown.h: how the worker ends (contract 4): signals, draining, deadlines.
 *
 * May include: common. */
#ifndef LLORCH_WORKER_SHUTDOWN_H
#define LLORCH_WORKER_SHUTDOWN_H

#include "common/error.h"
#include "worker/worker_internal.h"

enum { SHUTDOWN_CANCEL_MS = 4000, SHUTDOWN_EXIT_MS = 5000 };

/* SIGTERM and SIGINT through the loop, SIGHUP and SIGPIPE ignored. */
ErrCode shutdown_catch_signals(Worker *w, Err *err) ERR_CHECK;
void shutdown_free_signals(Worker *w);

/* Takes no new jobs, ends the waiting ones; the running one may finish until SHUTDOWN_CANCEL_MS.
 * Again: no effect. */
void shutdown_drain(Worker *w, const char *why);

/* After a failure: the running job is stopped as well and the exit status is 1. */
void shutdown_fail(Worker *w, const char *why);

/* Enforces the deadline of the running job. */
void shutdown_tick(Worker *w);

/* Nothing is left to do, or the last deadline has passed: the loop may end. */
bool shutdown_complete(Worker *w);

#endif
