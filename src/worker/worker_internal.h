/* worker/worker_internal.h: the state that the parts of the worker share: routes.c answers,
 * runner.c computes, shutdown.c ends, worker.c turns the loop.
 *
 * May include: common, http, backend. */
#ifndef LLORCH_WORKER_WORKER_INTERNAL_H
#define LLORCH_WORKER_WORKER_INTERNAL_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/arena.h"
#include "common/json.h"
#include "http/server.h"
#include "worker/callback.h"
#include "worker/job.h"
#include "worker/worker.h"

typedef enum { WORKER_STARTING, WORKER_SERVING, WORKER_DRAINING } WorkerPhase;

typedef struct {
    const WorkerOptions *options;
    Arena arena; /* the job slots */
    struct event_base *base;
    struct event *sigterm, *sigint;
    struct event *tick; /* armed while a job is there or the worker drains */
    HttpServer *server;
    Backend *backend;   /* NULL while starting */
    Callback *callback; /* NULL: standalone or test mode */
    JobQueue jobs;
    JsonBuf scratch; /* event texts; empty between uses */
    WorkerPhase phase;
    bool idle_work;      /* the backend may have something to prepare */
    double progress;     /* of the load */
    int progress_logged; /* quarters already in the log */
    int port;
    uint64_t start_ms;
    uint64_t last_pump_ns, pump_gap_ns;
    uint64_t drain_ms;  /* when draining began */
    uint64_t cancel_ms; /* when its time was up; 0: not yet */
    int n_signals;
    bool exit_now; /* leave at once, nothing is flushed */
    int exit_code;
} Worker;

/* worker.c: arms the tick when it is needed. */
void worker_arm_tick(Worker *w);

/* worker.c: turns the loop without waiting; called while computing. Bounded, see there. */
void worker_service(Worker *w);

#endif
