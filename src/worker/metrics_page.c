/* worker/metrics_page.c: see metrics_page.h.
 *
 * May include: backend, common, http. */
#include "worker/metrics_page.h"

#include <stdio.h>
#include <string.h>

#include "common/exposition.h"
#include "common/log.h"
#include "common/process_stats.h"
#include "worker/health.h"

#define NANO UINT64_C(1000000000)

#ifdef __clang__
#define PAGE_COMPILER "clang " __clang_version__
#else
#define PAGE_COMPILER "gcc " __VERSION__
#endif

/* A family of one sample without labels. */
static void add_one(JsonBuf *out, const char *name, const char *type, const char *help,
                    uint64_t value)
{
    exposition_family(out, name, type, help);
    exposition_count(out, name, value, NULL);
}

static void add_jobs(const Worker *w, JsonBuf *out)
{
    add_one(out, "llorch_requests_running", "gauge", "Requests being computed, 0 or 1.",
            w->jobs.running != NULL);
    add_one(out, "llorch_requests_waiting", "gauge", "Accepted requests waiting for their turn.",
            (uint64_t)w->jobs.n_waiting);
    add_one(out, "llorch_queue_limit", "gauge",
            "Requests that may wait; one more is refused (--queue).",
            (uint64_t)w->options->queue_limit);
}

/* All series exist from the start: a counter that first appears with 1 would hide its first
 * increase from rate(). */
static void add_requests(const Metrics *m, JsonBuf *out)
{
    static const char ended[] = "llorch_requests_total";
    static const char rejected[] = "llorch_requests_rejected_total";

    exposition_family(out, ended, "counter", "Accepted requests that ended, by how.");
    for (int api = 0; api < METRIC_N_APIS; api++)
        for (int i = 0; i < METRIC_N_OUTCOMES; i++)
            exposition_count(out, ended, m->ended[api][i], "api", metrics_api_name((MetricApi)api),
                             "outcome", metrics_outcome_name((MetricOutcome)i), NULL);
    exposition_family(out, rejected, "counter", "Requests that were not accepted, by reason.");
    for (int i = 0; i < METRIC_N_REASONS; i++)
        exposition_count(out, rejected, m->rejected[i], "reason",
                         metrics_reason_name((MetricReason)i), NULL);
}

static void add_tokens(const Metrics *m, JsonBuf *out)
{
    add_one(out, "llorch_prompt_tokens_total", "counter",
            "Tokens of the prompts whose turn came, cached ones included.", m->prompt_tokens);
    add_one(out, "llorch_prompt_cached_tokens_total", "counter",
            "Tokens of prompts that were in the cache and not computed.", m->cached_tokens);
    add_one(out, "llorch_generation_tokens_total", "counter", "Tokens given out.",
            m->generated_tokens);
}

static void add_times(const Metrics *m, JsonBuf *out)
{
    exposition_histogram(out, "llorch_queue_seconds", "From acceptance to the request's turn.",
                         &m->queue);
    exposition_histogram(out, "llorch_prefill_seconds",
                         "From the request's turn to its first token.", &m->prefill);
    exposition_histogram(out, "llorch_time_to_first_token_seconds",
                         "From acceptance to the first token.", &m->first_token);
    exposition_histogram(out, "llorch_inter_token_seconds",
                         "From one token to the next of the same text.", &m->inter_token);
    exposition_histogram(out, "llorch_request_seconds",
                         "From acceptance to the end, whatever it was.", &m->request);
}

static void add_state(const Worker *w, JsonBuf *out)
{
    static const char *const states[] = {"starting", "ready", "busy", "draining"};
    static const char name[] = "llorch_state";

    exposition_family(out, name, "gauge", "1 for the state the worker is in, 0 for the others.");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        exposition_count(out, name, strcmp(states[i], health_state(w)) == 0, "state", states[i],
                         NULL);
    exposition_family(out, "llorch_worker_info", "gauge", "The name of this worker.");
    exposition_count(out, "llorch_worker_info", 1, "worker_id", w->options->worker_id, NULL);
    exposition_family(out, "llorch_build_info", "gauge", "The program.");
    exposition_count(out, "llorch_build_info", 1, "version", LLORCH_VERSION, "compiler",
                     PAGE_COMPILER, NULL);
}

/* The keys and values of an idle worker are only kept in case that the next prompt begins alike:
 * they keep nothing out. */
static void add_model(const Worker *w, JsonBuf *out)
{
    const BackendInfo *info = w->backend->ops->info(w->backend);
    const uint64_t kept = w->jobs.running != NULL ? (uint64_t)w->jobs.running->meter.n_kept : 0;

    exposition_family(out, "llorch_model_info", "gauge", "The model and how it is computed.");
    exposition_count(out, "llorch_model_info", 1, "model", info->model_name, "type",
                     info->quant_kind, "isa", info->isa, "version", LLORCH_VERSION, "weights",
                     info->fingerprint, NULL);
    add_one(out, "llorch_context_tokens", "gauge", "Tokens that prompt and answer may have.",
            (uint64_t)info->n_ctx);
    exposition_family(out, "llorch_kv_cache_usage_ratio", "gauge",
                      "Share of the context that the running request has filled.");
    exposition_nano(out, "llorch_kv_cache_usage_ratio", kept * NANO / (uint64_t)info->n_ctx, NULL);
    add_one(out, "llorch_weights_bytes", "gauge", "Memory of the weights.", info->model_bytes);
    add_one(out, "llorch_memory_bytes", "gauge", "Memory of weights, cache and buffers.",
            info->memory_bytes);
}

static void add_http(const Worker *w, JsonBuf *out)
{
    static const char name[] = "llorch_http_responses_total";
    char code[16];
    uint64_t n;
    int status;

    add_one(out, "llorch_http_connections", "gauge", "Open connections.",
            (uint64_t)http_server_connections(w->server));
    exposition_family(out, name, "counter", "Responses begun, by status.");
    for (int i = 0; http_server_responses(w->server, i, &status, &n); i++) {
        if (status != 0)
            snprintf(code, sizeof code, "%d", status);
        else
            snprintf(code, sizeof code, "other");
        exposition_count(out, name, n, "code", code, NULL);
    }
    add_one(out, "llorch_log_lines_lost_total", "counter",
            "Lines of the log that its reader did not take.", (uint64_t)log_dropped());
}

/* Named as all official clients of Prometheus name them. */
static void add_process(uint64_t start_ns, JsonBuf *out)
{
    ProcessStats p;

    process_stats_read(&p);
    exposition_family(out, "process_cpu_seconds_total", "counter",
                      "User and system CPU time of the process.");
    exposition_nano(out, "process_cpu_seconds_total", p.cpu_ns, NULL);
    exposition_family(out, "process_start_time_seconds", "gauge",
                      "When the process started, in seconds since 1970.");
    exposition_nano(out, "process_start_time_seconds", start_ns, NULL);
    if (p.has_memory) {
        add_one(out, "process_resident_memory_bytes", "gauge",
                "Memory in use, mapped files included.", p.resident_bytes);
        add_one(out, "process_virtual_memory_bytes", "gauge", "Address space in use.",
                p.virtual_bytes);
        add_one(out, "process_threads", "gauge", "Threads of the process.", p.n_threads);
    }
    if (p.has_fds)
        add_one(out, "process_open_fds", "gauge", "Open file descriptors.", p.n_fds);
    add_one(out, "process_max_fds", "gauge", "File descriptors that may be open.", p.max_fds);
}

void metrics_page(const Worker *w, JsonBuf *out)
{
    add_jobs(w, out);
    add_requests(&w->metrics, out);
    add_tokens(&w->metrics, out);
    add_times(&w->metrics, out);
    add_state(w, out);
    if (w->backend != NULL)
        add_model(w, out);
    add_http(w, out);
    add_process(w->metrics.start_ns, out);
}
