/* worker/events.h: the JSON of the stream's events (contract 6.2), framed by http/sse.h.
 *
 * Each function appends one event to out; a failed allocation shows in out->oom. Texts are valid
 * UTF-8.
 *
 * May include: common, backend. */
#ifndef LLORCH_WORKER_EVENTS_H
#define LLORCH_WORKER_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/json.h"

void events_started(JsonBuf *out, BackendText job_id, const char *model, const char *started_at,
                    uint64_t seed, const char *correlation_id);

void events_token(JsonBuf *out, const char *text, size_t n_text, uint32_t index);

void events_metrics(JsonBuf *out, double tokens_per_sec, uint64_t memory_bytes, uint32_t tokens_out,
                    int cached_tokens);

typedef struct {
    uint32_t tokens_out;
    uint64_t decode_time_ms;
    StopReason reason;
    BackendText matched; /* with STOP_SEQUENCE */
    uint64_t seed;
    int prompt_tokens;
    int cached_tokens; /* of prompt_tokens, not computed */
    uint64_t time_to_first_token_ms;
    double tokens_per_sec;
} EventEnd;

void events_end(JsonBuf *out, const EventEnd *end);

void events_error(JsonBuf *out, const char *code, const char *message, bool retriable,
                  uint32_t tokens_out);

/* "MAX_TOKENS", "EOS", "STOP_SEQUENCE". */
const char *events_reason_name(StopReason reason);

#endif
