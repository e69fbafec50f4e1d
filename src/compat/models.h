/* compat/models.h: GET /v1/models: the one model of this process, as OpenAI lists models.
 *
 * May include: common, backend. */
#ifndef LLORCH_COMPAT_MODELS_H
#define LLORCH_COMPAT_MODELS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/json.h"

/* created: seconds since 1970. */
void models_list(JsonBuf *out, const BackendInfo *info, int64_t created);

/* Of GET /v1/models/NAME: the entry alone, 200; or 404 with the error. name: as it stands in the
 * path, where %2F is as good as a slash. */
int models_one(JsonBuf *out, const BackendInfo *info, int64_t created, const char *name);

#endif
