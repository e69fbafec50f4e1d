/* worker/request.h: the bodies of /execute and /cancel: from bytes to a checked request, or to the
 * answer that says everything that is wrong with them (contract 5.2 and 5.3).
 *
 * May include: common, backend. */
#ifndef LLORCH_WORKER_REQUEST_H
#define LLORCH_WORKER_REQUEST_H

#include <jansson.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/json.h"

typedef struct {
    json_t *root; /* owned; every text below points into it */
    BackendText job_id;
    BackendRequest run; /* prompt, max_tokens, sampling, stops */
} Request;

/* Parses and checks an /execute body in the order of the contract: JSON, types, ranges. backend
 * counts the prompt's tokens for the context limit; NULL (still loading) leaves that check out.
 *
 * Returns the HTTP status: 200 with *r filled (free it with request_free), or 400, 422, 500 with
 * the JSON body of the answer in *answer (reset first) and *r untouched. */
int request_parse(Request *r, const char *body, size_t n, Backend *backend, JsonBuf *answer);

/* The same for {"job_id":"..."}; only job_id is filled. */
int request_parse_cancel(Request *r, const char *body, size_t n, JsonBuf *answer);

void request_free(Request *r);

/* {"code":..,"message":..,"retriable":..} of contract section 8; the kind's message prefix is put
 * in front. */
void request_error_body(JsonBuf *answer, const char *code, const char *message, bool retriable);

#endif
