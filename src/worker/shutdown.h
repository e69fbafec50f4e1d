/* worker/shutdown.h: how the worker ends (contract 4): signals, draining, deadlines.
 *
 * May include: common. */
#ifndef LLORCH_WORKER_SHUTDOWN_H
#define LLORCH_WORKER_SHUTDOWN_H

#include "common/error.h"
#include "worker/worker_internal.h"

/* The job is cancelled after 4 s, and what it had to say has the rest of 5 s, less a tick or two,
 * to leave. */
enum { SHUTDOWN_CANCEL_MS = 4000, SHUTDOWN_FLUSH_MS = 850 };

/* From now on the worker outlives the signals that mean nothing to it: SIGHUP, SIGPIPE, SIGUSR1 and
 * the like. */
ErrCode shutdown_ignore_signals(Err *err) ERR_CHECK;

/* SIGTERM and SIGINT through the loop. To be called when nothing but the loop waits any more. */
ErrCode shutdown_catch_signals(Worker *w, Err *err) ERR_CHECK;

/* After this both are blocked for good: the process is leaving, and its status stands. */
void shutdown_free_signals(Worker *w);

/* What a signal asks for, or POST /shutdown. A start ends; after it, no new jobs are taken, the
 * waiting ones end, and the running one may finish until SHUTDOWN_CANCEL_MS. Again: no effect. */
void shutdown_ask(Worker *w, const char *why);

/* After a failure: the running job is stopped as well and the exit status is 1. */
void shutdown_fail(Worker *w, const char *why);

/* Enforces the deadline of the running job. */
void shutdown_tick(Worker *w);

/* Whether every answer has left, also those to requests that came at the last moment: the first
 * call takes in who waits by then, and later connections are refused. Looks at the sockets for as
 * long as they have something, but not beyond end_ms. */
bool shutdown_all_answered(Worker *w, uint64_t end_ms);

/* Nothing is left to do, or the last deadline has passed: the loop may end. */
bool shutdown_complete(Worker *w);

#endif
