/* worker/health.h: the JSON of the probes: /health, /live, /ready (contract 5.1).
 *
 * May include: common. */
#ifndef LLORCH_WORKER_HEALTH_H
#define LLORCH_WORKER_HEALTH_H

#include "common/json.h"
#include "worker/worker_internal.h"

/* "starting", "ready", "busy" or "draining". */
const char *health_state(const Worker *w);

/* Appends the body of /health; no heavy work. What only the model knows is null until it is loaded.
 */
void health_body(const Worker *w, JsonBuf *out);

/* Appends the body of /ready and returns its status. */
int health_ready(const Worker *w, JsonBuf *out);

#endif
