/* worker/events.c: fields in the order of the contract's table.
 *
 * May include: common, http. */
#include "worker/events.h"

#include <inttypes.h>
#include <string.h>

#include "http/sse.h"

/* Builds one event's JSON in a scratch buffer, then frames it. */
static void begin(JsonBuf *json, const char *type)
{
    json_buf_printf(json, "{\"type\":\"%s\"", type);
}

static void add_string(JsonBuf *json, const char *key, const char *text, size_t n)
{
    json_buf_printf(json, ",\"%s\":", key);
    json_buf_string(json, text, n);
}

static void add_c_string(JsonBuf *json, const char *key, const char *text)
{
    add_string(json, key, text, strlen(text));
}

static void add_u64(JsonBuf *json, const char *key, uint64_t value)
{
    json_buf_printf(json, ",\"%s\":%" PRIu64, key, value);
}

static void finish(JsonBuf *json, const char *type, JsonBuf *out)
{
    json_buf_printf(json, "}");
    if (json->oom)
        out->oom = 1;
    else
        sse_event(out, type, json->data, json->len);
    json_buf_free(json);
}

void events_started(JsonBuf *out, BackendText job_id, const char *model, const char *started_at,
                    uint64_t seed, const char *correlation_id)
{
    JsonBuf json = {0};

    begin(&json, "started");
    add_string(&json, "job_id", job_id.text, job_id.n_bytes);
    add_c_string(&json, "model", model);
    add_c_string(&json, "started_at", started_at);
    add_u64(&json, "seed", seed);
    add_c_string(&json, "correlation_id", correlation_id);
    finish(&json, "started", out);
}

void events_token(JsonBuf *out, const char *text, size_t n_text, uint32_t index)
{
    JsonBuf json = {0};

    begin(&json, "token");
    add_string(&json, "t", text, n_text);
    add_u64(&json, "i", index);
    finish(&json, "token", out);
}

void events_metrics(JsonBuf *out, double tokens_per_sec, uint64_t memory_bytes, uint32_t tokens_out,
                    int cached_tokens)
{
    JsonBuf json = {0};

    begin(&json, "metrics");
    json_buf_printf(&json, ",\"tokens_per_sec\":%.2f", tokens_per_sec);
    add_u64(&json, "vram_bytes", 0);
    add_u64(&json, "memory_bytes", memory_bytes);
    add_u64(&json, "tokens_out", tokens_out);
    json_buf_printf(&json, ",\"cached_tokens\":%d", cached_tokens);
    finish(&json, "metrics", out);
}

const char *events_reason_name(StopReason reason)
{
    switch (reason) {
    case STOP_EOS:
        return "EOS";
    case STOP_SEQUENCE:
        return "STOP_SEQUENCE";
    default:
        return "MAX_TOKENS";
    }
}

void events_end(JsonBuf *out, const EventEnd *end)
{
    JsonBuf json = {0};

    begin(&json, "end");
    add_u64(&json, "tokens_out", end->tokens_out);
    add_u64(&json, "decode_time_ms", end->decode_time_ms);
    add_c_string(&json, "stop_reason", events_reason_name(end->reason));
    if (end->reason == STOP_SEQUENCE)
        add_string(&json, "stop_sequence_matched", end->matched.text, end->matched.n_bytes);
    add_u64(&json, "seed", end->seed);
    json_buf_printf(&json, ",\"prompt_tokens\":%d", end->prompt_tokens);
    add_u64(&json, "time_to_first_token_ms", end->time_to_first_token_ms);
    json_buf_printf(&json, ",\"tokens_per_sec\":%.2f", end->tokens_per_sec);
    json_buf_printf(&json, ",\"cached_tokens\":%d", end->cached_tokens);
    finish(&json, "end", out);
}

void events_error(JsonBuf *out, const char *code, const char *message, bool retriable,
                  uint32_t tokens_out)
{
    JsonBuf json = {0};

    begin(&json, "error");
    add_c_string(&json, "code", code);
    add_c_string(&json, "message", message);
    json_buf_printf(&json, ",\"retriable\":%s", retriable ? "true" : "false");
    add_u64(&json, "tokens_out", tokens_out);
    finish(&json, "error", out);
}
