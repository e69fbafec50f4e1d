/* worker/model_api.h: the routes that ask about the model and its tokens, and need no job:
 * /v1/models, /tokenize and /detokenize. They answer while a job runs.
 *
 * May include: http. */
#ifndef LLORCH_WORKER_MODEL_API_H
#define LLORCH_WORKER_MODEL_API_H

#include "http/server.h"
#include "worker/worker_internal.h"

#define MODEL_API_ONE "/v1/models/" /* and the name */

void models_get(Worker *w, HttpConn *conn, const HttpRequest *request);
void tokenize_post(Worker *w, HttpConn *conn, const HttpRequest *request);
void detokenize_post(Worker *w, HttpConn *conn, const HttpRequest *request);

#endif
