/* worker/intake.h: how a valid request becomes a job in line, whatever API it came through.
 *
 * May include: http. */
#ifndef LLORCH_WORKER_INTAKE_H
#define LLORCH_WORKER_INTAKE_H

#include "http/server.h"
#include "worker/job.h"
#include "worker/worker_internal.h"

/* Whether no job can be taken now: 503 was answered then. n_body: so many bytes of the body are
 * kept until the job is over; 0: little. */
bool intake_refused(Worker *w, HttpConn *conn, const HttpRequest *http, size_t n_body);

/* Puts the request, which the job takes, and its connection in line; nothing is said yet. There
 * must be room. */
Job *intake_push(Worker *w, HttpConn *conn, const HttpRequest *http, const JobApi *api,
                 const Request *request, size_t n_body);

#endif
