/* worker/job_log.c: see job_log.h.
 *
 * May include: common. */
#include "worker/job_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"

enum { JOB_LOG_ID_BYTES = 256 }; /* a job id may be as long as a body */

static void append(char out[JOB_LOG_MODE_BYTES], const char *format, double value)
    __attribute__((format(printf, 2, 0)));

static void append(char out[JOB_LOG_MODE_BYTES], const char *format, double value)
{
    const size_t n = strlen(out);

    snprintf(out + n, JOB_LOG_MODE_BYTES - n, format, value);
}

/* What changes logits, greedy or not. */
static void append_biases(char out[JOB_LOG_MODE_BYTES], const SamplingParams *p)
{
    if (p->presence_penalty != 0.0f)
        append(out, ", presence=%.2f", (double)p->presence_penalty);
    if (p->frequency_penalty != 0.0f)
        append(out, ", frequency=%.2f", (double)p->frequency_penalty);
    if (p->n_bias > 0)
        append(out, ", biases=%.0f", (double)p->n_bias);
}

void job_log_mode(char out[JOB_LOG_MODE_BYTES], const SamplingParams *p)
{
    out[0] = '\0';
    if (p->temperature < 1e-6f) {
        append(out, "greedy", 0);
        append_biases(out, p);
        return;
    }
    append(out, "stochastic(temp=%.2f", (double)p->temperature);
    if (p->top_p < 1.0f)
        append(out, ", top_p=%.2f", (double)p->top_p);
    if (p->top_k > 0)
        append(out, ", top_k=%.0f", (double)p->top_k);
    if (p->repetition_penalty != 1.0f)
        append(out, ", rep_penalty=%.2f", (double)p->repetition_penalty);
    if (p->min_p > 0.0f)
        append(out, ", min_p=%.2f", (double)p->min_p);
    append_biases(out, p);
    append(out, ")", 0);
}

const char *job_log_warning(const SamplingParams *p)
{
    if (p->top_k > 0 && p->top_k < 10 && p->top_p < 0.5f)
        return "restrictive sampling: top_k below 10 together with top_p below 0.5";
    if (p->min_p > 0.5f && p->temperature < 0.5f)
        return "conflicting sampling: min_p above 0.5 together with temperature below 0.5";
    return NULL;
}

static void job_id_text(char out[JOB_LOG_ID_BYTES], const Job *job)
{
    text_escape(out, JOB_LOG_ID_BYTES, job->request.job_id.text, job->request.job_id.n_bytes);
}

void job_log_started(const Job *job)
{
    const SamplingParams *p = &job->request.run.sampling;
    const char *warning = job_log_warning(p);
    char id[JOB_LOG_ID_BYTES], mode[JOB_LOG_MODE_BYTES];

    job_id_text(id, job);
    job_log_mode(mode, p);
    log_line(LOG_DEBUG, "Job started", "s:job_id", id, "s:correlation_id", job->correlation_id,
             "s:sampling", mode, "i:max_tokens", (long long)job->request.run.max_tokens,
             "i:queued_ms", (long long)((job->started_ns - job->accepted_ns) / 1000000), NULL);
    if (warning != NULL)
        log_line(LOG_WARN, warning, "s:job_id", id, "s:correlation_id", job->correlation_id, NULL);
}

void job_log_finished(const Job *job, const char *outcome, const char *detail)
{
    const uint64_t now = clock_now_ns();
    const uint64_t began = job->started_ns != 0 ? job->started_ns : now;
    char id[JOB_LOG_ID_BYTES], mode[JOB_LOG_MODE_BYTES];

    job_id_text(id, job);
    job_log_mode(mode, &job->request.run.sampling);
    log_line(LOG_INFO, "Job finished", "s:job_id", id, "s:correlation_id", job->correlation_id,
             "s:outcome", outcome, "s:detail", detail, "s:sampling", mode, "i:prompt_tokens",
             (long long)job->prompt_tokens, "i:cached_tokens", (long long)job->cached_tokens,
             "i:tokens_out", (long long)job->tokens_out, "i:queued_ms",
             (long long)((began - job->accepted_ns) / 1000000), "i:run_ms",
             (long long)((now - began) / 1000000), NULL);
}
