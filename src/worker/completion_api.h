/* worker/completion_api.h: POST /v1/completions: a job of one or more runs, told as OpenAI does: in
 * one piece, or as a stream of chunks (docs/openai.md).
 *
 * May include: http. */
#ifndef LLORCH_WORKER_COMPLETION_API_H
#define LLORCH_WORKER_COMPLETION_API_H

#include "http/server.h"
#include "worker/worker_internal.h"

/* The handler of the route: the job is in line afterwards, or its refusal answered. */
void completion_post(Worker *w, HttpConn *conn, const HttpRequest *request);

#endif
