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
#include "http/api_keys.h"
#include "http/server.h"
#include "worker/callback.h"
#include "worker/job.h"
#include "worker/metrics.h"
#include "worker/service_manager.h"
#include "worker/worker.h"

enum { WORKER_PUMP_GAP_NS = 1000000 }; /* between two looks at the sockets */

typedef enum { WORKER_STARTING, WORKER_SERVING, WORKER_DRAINING } WorkerPhase;

typedef struct Worker {
    const WorkerOptions *options;
    Arena arena; /* the job slots */
    struct event_base *base;
    struct event *sigterm, *sigint;
    struct event *tick; /* armed while a job is there or the worker drains */
    ApiKeys *keys;      /* NULL: everybody may send jobs */
    HttpServer *server;
    Backend *backend;   /* NULL while starting */
    Callback *callback; /* NULL: standalone or test mode */
    ServiceManager manager;
    JobQueue jobs;
    Metrics metrics;
    JsonBuf scratch; /* event texts; empty between uses */
    WorkerPhase phase;
    bool idle_work;      /* the backend may have something to prepare */
    double progress;     /* of the load */
    int progress_logged; /* quarters already in the log */
    int port;
    uint64_t start_ms;
    uint64_t last_pump_ns, last_pump_cpu_ns;
    uint64_t pump_debt_ns; /* computing time owed since then */
    uint64_t drain_ms;     /* when draining began */
    uint64_t cancel_ms;    /* when its time was up; 0: not yet */
    int n_signals;
    bool exit_now; /* leave at once, nothing is flushed */
    int exit_code;
} Worker;

/* worker.c: arms the tick when it is needed. */
void worker_arm_tick(Worker *w);

/* worker.c: turns the loop without waiting; called while computing. Bounded, see there. True:
 * nothing was left to do. */
bool worker_service(Worker *w);

/* worker.c: whether the last time was long enough ago: min_gap_ns, and what computing is owed. */
bool worker_service_due(const Worker *w, uint64_t min_gap_ns);

#endif
