/* worker/validate.c: one function per field, called in the order of the contract's table.
 *
 * May include: common, backend. */
#include "worker/validate.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/text.h"

enum { ENTRY_MESSAGE_BYTES = 160 };

typedef struct {
    JsonBuf *out;
    int n;
} Entries;

/* One entry; value NULL leaves the key out. Nothing from the request enters here but numbers. */
static void add(Entries *e, const char *field, const char *constraint, const char *value,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(Entries *e, const char *field, const char *constraint, const char *value,
                const char *format, ...)
{
    char message[ENTRY_MESSAGE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    json_buf_printf(e->out, "%s{\"field\":\"%s\",\"constraint\":\"%s\",\"message\":\"%s\"",
                    e->n++ > 0 ? "," : "{\"errors\":[", field, constraint, message);
    if (value != NULL)
        json_buf_printf(e->out, ",\"value\":\"%s\"", value);
    json_buf_printf(e->out, "}");
}

static int answer_entries(Entries *e)
{
    if (e->n == 0)
        return 200;
    json_buf_printf(e->out, "]}");
    return e->out->oom ? 500 : 400;
}

static void check_job_id(Entries *e, BackendText job_id)
{
    if (job_id.n_bytes == 0)
        add(e, "job_id", "non_empty", "", "job_id must not be empty");
    else if (job_id.n_bytes > VALIDATE_MAX_JOB_ID_BYTES)
        add(e, "job_id", "max_bytes(4096)", NULL, "job_id must be at most %d bytes (got %zu)",
            (int)VALIDATE_MAX_JOB_ID_BYTES, job_id.n_bytes);
}

/* The context is counted only for a prompt of legal length: nothing larger may reach the tokenizer.
 */
static void check_prompt(Entries *e, BackendText prompt, Backend *backend)
{
    const size_t n_chars = text_utf8_count(prompt.text, prompt.n_bytes);
    char constraint[48];
    int n_tokens, n_ctx;

    if (n_chars == 0) {
        add(e, "prompt", "length(1..=32768)", NULL, "prompt must not be empty");
        return;
    }
    if (n_chars > BACKEND_MAX_PROMPT_CHARS) {
        add(e, "prompt", "length(1..=32768)", NULL,
            "prompt must be at most 32768 characters (got %zu)", n_chars);
        return;
    }
    if (backend == NULL)
        return;
    n_tokens = backend->ops->count_tokens(backend, prompt);
    n_ctx = backend->ops->info(backend)->n_ctx;
    if (n_tokens >= 0 && n_tokens <= n_ctx)
        return;
    snprintf(constraint, sizeof constraint, "context(1..=%d)", n_ctx);
    add(e, "prompt", constraint, NULL, "prompt must be at most %d tokens (got %d)", n_ctx,
        n_tokens);
}

static void check_max_tokens(Entries *e, uint32_t max_tokens)
{
    char value[16];

    snprintf(value, sizeof value, "%u", max_tokens);
    if (max_tokens < 1)
        add(e, "max_tokens", "range(1..=2048)", value, "max_tokens must be at least 1");
    else if (max_tokens > BACKEND_MAX_NEW_TOKENS)
        add(e, "max_tokens", "range(1..=2048)", value, "max_tokens must be at most 2048 (got %u)",
            max_tokens);
}

/* Ranges are 0 to 1 or 0 to 2, ends included. */
static void check_float(Entries *e, const char *field, float value, int max)
{
    const char *constraint = max == 1 ? "range(0.0..=1.0)" : "range(0.0..=2.0)";
    char x[TEXT_FLOAT_BYTES];

    text_float(x, value);
    if (value < 0.0f)
        add(e, field, constraint, x, "%s must be at least 0.0 (got %s)", field, x);
    else if (!(value <= (float)max))
        add(e, field, constraint, x, "%s must be at most %d.0 (got %s)", field, max, x);
}

static void check_stop(Entries *e, const json_t *stop)
{
    const size_t n = json_array_size(stop);
    int n_reported = 0;
    char value[24];

    snprintf(value, sizeof value, "%zu", n);
    if (n > BACKEND_MAX_STOPS)
        add(e, "stop", "max_count(4)", value, "stop must have at most 4 sequences (got %zu)", n);
    for (size_t i = 0; i < n && n_reported < VALIDATE_MAX_STOP_ENTRIES; i++)
        if (json_string_length(json_array_get(stop, i)) == 0) {
            add(e, "stop", "non_empty", NULL, "stop sequence %zu must not be empty", i);
            n_reported++;
        }
    for (size_t i = 0; i < n && n_reported < VALIDATE_MAX_STOP_ENTRIES; i++) {
        const json_t *s = json_array_get(stop, i);
        const size_t n_chars = text_utf8_count(json_string_value(s), json_string_length(s));

        if (n_chars <= BACKEND_MAX_STOP_CHARS)
            continue;
        add(e, "stop", "max_length(100)", NULL,
            "stop sequence %zu must be at most 100 characters (got %zu)", i, n_chars);
        n_reported++;
    }
}

static void take_stops(BackendRequest *run, const json_t *stop)
{
    run->n_stops = (int)json_array_size(stop);
    for (int i = 0; i < run->n_stops; i++) {
        const json_t *s = json_array_get(stop, (size_t)i);

        run->stops[i] =
            (BackendText){.text = json_string_value(s), .n_bytes = json_string_length(s)};
    }
}

int validate_request(BackendRequest *run, BackendText job_id, uint32_t max_tokens,
                     const json_t *stop, Backend *backend, JsonBuf *answer)
{
    Entries e = {.out = answer};
    int status;

    check_job_id(&e, job_id);
    check_prompt(&e, run->prompt, backend);
    check_max_tokens(&e, max_tokens);
    check_float(&e, "temperature", run->sampling.temperature, 2);
    check_float(&e, "top_p", run->sampling.top_p, 1);
    check_float(&e, "repetition_penalty", run->sampling.repetition_penalty, 2);
    check_stop(&e, stop);
    check_float(&e, "min_p", run->sampling.min_p, 1);
    status = answer_entries(&e);
    if (status != 200)
        return status;
    run->max_tokens = (int)max_tokens;
    take_stops(run, stop);
    return 200;
}

int validate_job_id(BackendText job_id, JsonBuf *answer)
{
    Entries e = {.out = answer};

    check_job_id(&e, job_id);
    return answer_entries(&e);
}
