/* worker/health.c: see health.h.
 *
 * May include: common. */
#include "worker/health.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"

const char *health_state(const Worker *w)
{
    switch (w->phase) {
    case WORKER_STARTING:
        return "starting";
    case WORKER_DRAINING:
        return "draining";
    default:
        return w->jobs.n_jobs > 0 ? "busy" : "ready";
    }
}

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, ",\"%s\":", key);
    if (text != NULL)
        json_buf_string(out, text, strlen(text));
    else
        json_buf_printf(out, "null");
}

static void add_int(JsonBuf *out, const char *key, const int *value)
{
    if (value != NULL)
        json_buf_printf(out, ",\"%s\":%d", key, *value);
    else
        json_buf_printf(out, ",\"%s\":null", key);
}

void health_body(const Worker *w, JsonBuf *out)
{
    const BackendInfo *info = w->backend != NULL ? w->backend->ops->info(w->backend) : NULL;
    const char *loaded = info != NULL ? "true" : "false";

    json_buf_printf(out,
                    "{\"status\":\"healthy\",\"vram_bytes\":0,\"vram_bytes_used\":0,"
                    "\"model_loaded\":%s,\"resident\":%s,\"memory_type\":\"cpu\","
                    "\"memory_architecture\":\"cpu\",\"memory_bytes\":%" PRIu64
                    ",\"worker_type\":\"cpu\",\"capabilities\":[\"text-gen\"],\"protocol\":\"sse\"",
                    loaded, loaded, info != NULL ? info->memory_bytes : 0);
    add_string(out, "model", info != NULL ? info->model_name : w->options->model_name);
    add_string(out, "quant_kind", info != NULL ? info->quant_kind : NULL);
    add_string(out, "weights_hash", info != NULL ? info->fingerprint : NULL);
    add_string(out, "tokenizer_kind", info != NULL ? info->tokenizer_kind : NULL);
    add_int(out, "vocab_size", info != NULL ? &info->vocab_size : NULL);
    add_int(out, "context_length", info != NULL ? &info->n_ctx : NULL);
    json_buf_printf(out, ",\"uptime_seconds\":%" PRIu64,
                    (clock_now_ms() - w->start_ms) / UINT64_C(1000));
    add_string(out, "worker_id", w->options->worker_id);
    add_string(out, "state", health_state(w));
    add_int(out, "port", w->options->unix_path == NULL ? &w->port : NULL);
    json_buf_printf(out, "}");
}

int health_ready(const Worker *w, JsonBuf *out)
{
    json_buf_printf(out, "{\"state\":\"%s\"", health_state(w));
    if (w->phase == WORKER_STARTING)
        json_buf_printf(out, ",\"progress\":%.2f", w->progress);
    json_buf_printf(out, "}");
    return w->phase == WORKER_SERVING ? 200 : 503;
}
