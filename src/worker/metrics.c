/* worker/metrics.c: see metrics.h.
 *
 * May include: backend, common. */
#include "worker/metrics.h"

#include <time.h>

#define MS(x) (UINT64_C(1000000) * (x))

/* One row for everything a request waits for, so that its parts can be compared: a millisecond is a
 * short prompt of a small model, ten minutes are the longest time limits people set. */
static const uint64_t latency_bounds_ns[] = {
    MS(1),     MS(2) + MS(1) / 2, MS(5),     MS(10),     MS(25),     MS(50),
    MS(100),   MS(250),           MS(500),   MS(1000),   MS(2500),   MS(5000),
    MS(10000), MS(30000),         MS(60000), MS(120000), MS(300000), MS(600000)};

/* On one core a token takes a quarter of a millisecond in the smallest model, 12 (Q4_0) to 70 ms
 * (F32) in GPT-2 Medium (docs/performance.md), a third of that in Small and four times as much in
 * XL: close bounds there. */
static const uint64_t token_bounds_ns[] = {
    MS(1) / 4, MS(1) / 2, MS(1),  MS(2) + MS(1) / 2, MS(5),   MS(10),  MS(15),   MS(20),  MS(30),
    MS(40),    MS(60),    MS(80), MS(120),           MS(200), MS(400), MS(1000), MS(5000)};

static void init_latency(Histogram *h)
{
    histogram_init(h, latency_bounds_ns,
                   (int)(sizeof latency_bounds_ns / sizeof *latency_bounds_ns));
}

void metrics_init(Metrics *m)
{
    struct timespec now = {0, 0};

    *m = (Metrics){.start_ns = 0};
    if (clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec > 0)
        m->start_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    init_latency(&m->first_token);
    init_latency(&m->queue);
    init_latency(&m->prefill);
    init_latency(&m->request);
    histogram_init(&m->inter_token, token_bounds_ns,
                   (int)(sizeof token_bounds_ns / sizeof *token_bounds_ns));
}

const char *metrics_api_name(MetricApi api)
{
    return api == METRIC_EXECUTE ? "execute" : "completions";
}

const char *metrics_outcome_name(MetricOutcome outcome)
{
    static const char *const names[METRIC_N_OUTCOMES] = {
        [METRIC_STOP] = "stop",           [METRIC_LENGTH] = "length",
        [METRIC_CANCELLED] = "cancelled", [METRIC_DISCONNECTED] = "disconnected",
        [METRIC_TIMEOUT] = "timeout",     [METRIC_SHUTDOWN] = "shutdown",
        [METRIC_REFUSED] = "refused",     [METRIC_FAILED] = "failed",
    };

    return names[outcome];
}

const char *metrics_reason_name(MetricReason reason)
{
    static const char *const names[METRIC_N_REASONS] = {
        [METRIC_INVALID] = "invalid",       [METRIC_UNAUTHORIZED] = "unauthorized",
        [METRIC_QUEUE_FULL] = "queue_full", [METRIC_STARTING] = "starting",
        [METRIC_DRAINING] = "draining",     [METRIC_NO_MEMORY] = "no_memory",
    };

    return names[reason];
}

void metrics_rejected(Metrics *m, MetricReason reason)
{
    m->rejected[reason]++;
}

/* The clock is monotonic; a difference below zero would be a mistake of ours, and no reason for a
 * sum of 584 years. */
static uint64_t since(uint64_t begin_ns, uint64_t now_ns)
{
    return now_ns > begin_ns ? now_ns - begin_ns : 0;
}

void metrics_accepted(JobMeter *job, MetricApi api, uint64_t now_ns)
{
    *job = (JobMeter){.api = api, .accepted_ns = now_ns};
}

void metrics_started(Metrics *m, JobMeter *job, uint64_t now_ns)
{
    job->started_ns = now_ns;
    histogram_observe(&m->queue, since(job->accepted_ns, now_ns));
}

void metrics_prompt(Metrics *m, JobMeter *job, int prompt_tokens, int cached_tokens)
{
    m->prompt_tokens += (uint64_t)prompt_tokens;
    m->cached_tokens += (uint64_t)cached_tokens;
    job->last_token_ns = 0;
    job->n_prompt = prompt_tokens;
    job->n_kept = cached_tokens;
}

void metrics_prompt_done(JobMeter *job, int n_prompt_done)
{
    job->n_kept = n_prompt_done;
}

static void observe_first(Metrics *m, JobMeter *job, uint64_t now_ns)
{
    job->has_token = true;
    histogram_observe(&m->first_token, since(job->accepted_ns, now_ns));
    histogram_observe(&m->prefill, since(job->started_ns, now_ns));
}

static void observe_interval(Metrics *m, JobMeter *job, uint64_t interval_ns)
{
    if (job->n_intervals++ == 0)
        m->speed_intervals = m->speed_ns = 0;
    m->speed_intervals++;
    m->speed_ns += interval_ns;
    histogram_observe(&m->inter_token, interval_ns);
}

/* A token that was just given out is not in the cache yet, the one before it is. */
void metrics_token(Metrics *m, JobMeter *job, uint64_t now_ns)
{
    m->generated_tokens++;
    if (!job->has_token)
        observe_first(m, job, now_ns);
    if (job->last_token_ns == 0) {
        job->n_kept = job->n_prompt;
    } else {
        observe_interval(m, job, since(job->last_token_ns, now_ns));
        job->n_kept++;
    }
    job->last_token_ns = now_ns;
}

void metrics_ended(Metrics *m, const JobMeter *job, MetricOutcome outcome, uint64_t now_ns)
{
    m->ended[job->api][outcome]++;
    histogram_observe(&m->request, since(job->accepted_ns, now_ns));
}

MetricOutcome metrics_outcome_of(StopReason reason)
{
    return reason == STOP_MAX_TOKENS ? METRIC_LENGTH : METRIC_STOP;
}

bool metrics_speed(const Metrics *m, double *tokens_per_sec)
{
    if (m->speed_ns == 0)
        return false;
    *tokens_per_sec = (double)m->speed_intervals * 1e9 / (double)m->speed_ns;
    return true;
}
