/* worker/execute_api.h: POST /execute: a job of one run, told as a stream of events (contract 6).
 *
 * May include: http. */
#ifndef LLORCH_WORKER_EXECUTE_API_H
#define LLORCH_WORKER_EXECUTE_API_H

#include "http/server.h"
#include "worker/worker_internal.h"

/* The handler of the route: the job is in line afterwards, or its refusal answered. */
void execute_post(Worker *w, HttpConn *conn, const HttpRequest *request);

#endif
