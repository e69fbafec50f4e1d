/* cli/profile_measure.c: see profile_measure.h.
 *
 * May include: common, kernels, model, profile, tokenizer. */
#include "cli/profile_measure.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "cli/bench_report.h"
#include "cli/cli.h"
#include "profile/figures.h"

static bool go_on(void *ctx)
{
    (void)ctx;
    return !cli_interrupted();
}

static const Tap interruptible = {.yield = go_on};

/* ---- Loading ---- */

typedef struct {
    Memory *memory;
    CliProgress progress;
} Loading;

static bool loading(void *ctx, double fraction)
{
    Loading *l = ctx;

    memory_look(l->memory, MEMORY_LOAD);
    cli_progress(&l->progress, fraction);
    return !cli_interrupted();
}

/* Numbers can be computed without text, if ids are given. */
static ErrCode load_tokenizer(ProfileMeasured *m, const ProfileSubject *s, Err *err)
{
    ErrCode code = tokenizer_load(&m->tokenizer, m->rig.model.path, err);

    if (code == ERR_IO && s->prompt == NULL) {
        *err = (Err){.code = ERR_OK};
        code = ERR_OK;
    }
    memory_look(&m->memory, MEMORY_VOCABULARY);
    return code;
}

static ErrCode load(ProfileMeasured *m, const ProfileSubject *s, Err *err)
{
    Loading l = {.memory = &m->memory};
    const Gpt2LoadOptions options = {
        .convert = s->has_type, .type = s->type, .progress = {loading, &l}};
    char path[CLI_PATH_BYTES];
    ErrCode code = cli_model_path(path, sizeof path, s->model, err);

    if (code == ERR_OK)
        code = kernels_select(&m->rig.k, s->isa, err);
    if (code != ERR_OK)
        return code;
    cli_progress_start(&l.progress, "loading the model");
    code = gpt2_load(&m->rig.model, path, &options, err);
    cli_progress_clear(&l.progress);
    memory_look(&m->memory, MEMORY_LOAD);
    return code == ERR_OK ? load_tokenizer(m, s, err) : code;
}

static ErrCode make_job(ProfileMeasured *m, const ProfileSubject *s, Err *err)
{
    ErrCode code;

    m->job = (ProfileJob){.rig = &m->rig,
                          .tokenizer = m->tokenizer,
                          .sampling = s->sampling,
                          .prompt = s->prompt,
                          .n_prompt_bytes = s->n_prompt_bytes,
                          .prompt_ids = s->prompt_ids,
                          .n_prompt = (int)s->n_prompt_ids,
                          .n_tokens = s->n_tokens,
                          .wire = {.out = -1, .in = -1}};
    code = profile_job_init(&m->job, s->kv_type, err);
    memory_look(&m->memory, MEMORY_BUFFERS);
    /* A request that does not fit the model is a wrong argument, as for generate. */
    return code == ERR_LIMIT ? err_set(err, ERR_USAGE, "%s", err->msg) : code;
}

/* ---- Runs ---- */

static ErrCode run_memory(ProfileMeasured *m, Err *err)
{
    const ProfileWatch watch = {.memory = &m->memory, .tap = &interruptible};

    return profile_job_run(&m->job, &watch, err);
}

static ErrCode run_timed(ProfileMeasured *m, Err *err)
{
    const ProfileWatch watch = {.profile = &m->profile};
    const ErrCode code = profile_job_run(&m->job, &watch, err);

    if (code == ERR_OK && m->profile.overflow)
        return err_set(err, ERR_INTERNAL, "more was computed than there is room for");
    return code;
}

/* The middle one of the tokens after the first: a neighbour who takes the processor for some
 * milliseconds meets few of them. */
static ErrCode run_for_token(ProfileMeasured *m, bool profiled, double *ns, Err *err)
{
    const ProfileWatch plain = {.tap = &interruptible};
    const ErrCode code = profiled ? run_timed(m, err) : profile_job_run(&m->job, &plain, err);
    const ProfileJob *job = &m->job;
    const int first = job->n_tokens > 1 ? 1 : 0, n = job->n_tokens - first;

    if (code != ERR_OK)
        return code;
    memcpy(job->sorted, job->times + first, (size_t)n * sizeof *job->times);
    *ns = (double)profile_latency(job->sorted, n).p50_ns;
    return ERR_OK;
}

/* Pairs take turns in who comes first: a machine that gets slower all the time is no cost. */
static ErrCode run_pairs(ProfileMeasured *m, int n, Err *err)
{
    double *ratios = calloc((size_t)n, sizeof *ratios);
    ErrCode code = ERR_OK;

    if (ratios == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    for (int i = 0; code == ERR_OK && i < n; i++) {
        double ns[2];
        const bool first = i % 2 == 0;

        code = run_for_token(m, first, &ns[first], err);
        if (code == ERR_OK)
            code = run_for_token(m, !first, &ns[!first], err);
        if (code == ERR_OK)
            ratios[i] = ns[true] / ns[false];
    }
    if (code == ERR_OK) {
        const double median = bench_median(ratios, (size_t)n); /* sorts */

        m->report.cost = (ProfileCost){n, median, ratios[0], ratios[n - 1]};
    }
    free(ratios);
    return code;
}

static double best_read(const BenchRig *rig)
{
    double rate[PROBE_READ_COUNT], best = 0.0;

    bench_probe_read(rig, rate);
    for (int i = 0; i < PROBE_READ_COUNT; i++)
        best = rate[i] > best ? rate[i] : best;
    return best;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* What the core can do at most is what it did at its better moment. */
static ErrCode run_between_probes(ProfileMeasured *m, Err *err)
{
    double read, fma;

    bench_rig_weights(&m->rig);
    m->rig.probe = probe_best();
    read = best_read(&m->rig);
    fma = bench_probe_fma(&m->rig);
    const ErrCode code = run_timed(m, err);
    m->report.read_gb_per_s = larger(read, best_read(&m->rig));
    m->report.fma_gflop_per_s = larger(fma, bench_probe_fma(&m->rig));
    return code;
}

static ErrCode make_report(ProfileMeasured *m, Err *err)
{
    ProfileReport *r = &m->report;

    r->isa = m->rig.k->name;
    r->model = m->rig.model.name;
    r->types = m->rig.model.types;
    r->kv_type = m->rig.run.cache.type;
    r->ids = m->job.ids;
    r->profile = &m->profile;
    r->memory = &m->memory;
    r->room = m->job.sorted;
    if (m->tokenizer == NULL)
        return ERR_OK;
    profile_job_text(&m->job, &m->text);
    if (m->text.oom)
        return err_set(err, ERR_MEMORY, "out of memory");
    r->text = m->text.data != NULL ? m->text.data : "";
    r->n_text = m->text.len;
    return ERR_OK;
}

ErrCode profile_measure(ProfileMeasured *m, const ProfileSubject *s, Err *err)
{
    ErrCode code;

    m->job.wire = (ProfileWire){.out = -1, .in = -1};
    memory_open(&m->memory);
    if ((code = load(m, s, err)) != ERR_OK || (code = make_job(m, s, err)) != ERR_OK ||
        (code = run_memory(m, err)) != ERR_OK)
        return code;
    const ProfileOptions options = {.n_prompt = m->job.n_prompt,
                                    .n_tokens = m->job.n_tokens,
                                    .chunk = CPU_BACKEND_CHUNK,
                                    .events = s->events,
                                    .tap = &interruptible};
    if ((code = profile_init(&m->profile, &m->rig.model, &options, err)) != ERR_OK)
        return code;
    if (s->n_pairs > 0 && (code = run_pairs(m, s->n_pairs, err)) != ERR_OK)
        return code;
    code = run_between_probes(m, err);
    return code == ERR_OK ? make_report(m, err) : code;
}

void profile_measured_free(ProfileMeasured *m)
{
    json_buf_free(&m->text);
    profile_free(&m->profile);
    profile_job_free(&m->job);
    tokenizer_free(m->tokenizer);
    bench_rig_free(&m->rig);
    memory_close(&m->memory);
}
