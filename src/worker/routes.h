/* worker/routes.h: paths, methods and statuses (contract 5, 7, 8): what the HTTP server calls.
 *
 * May include: http. */
#ifndef LLORCH_WORKER_ROUTES_H
#define LLORCH_WORKER_ROUTES_H

#include "http/server.h"
#include "worker/worker_internal.h"

/* The handler to give to http_server_new. It answers, queues and cancels; it never begins a job, so
 * it may run while a step computes. */
HttpHandler routes_handler(Worker *w);

#endif
