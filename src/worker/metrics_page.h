/* worker/metrics_page.h: the text of GET /metrics (docs/metrics.md has every name in it).
 *
 * May include: common. */
#ifndef LLORCH_WORKER_METRICS_PAGE_H
#define LLORCH_WORKER_METRICS_PAGE_H

#include "common/json.h"
#include "worker/worker_internal.h"

/* Appends the text; its length does not depend on how much was counted. Some 200 lines, a fraction
 * of a millisecond; reads /proc. What is not known (a model that still loads, a system without
 * /proc) is left out. */
void metrics_page(const Worker *w, JsonBuf *out);

#endif
