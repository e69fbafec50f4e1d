/* cli/bench.c: how fast this machine computes a model, next to what it can do at most.
 *
 * Rounds are interleaved, and each figure becomes a share of the probes just before and after it,
 * so that a neighbour who takes memory bandwidth for a minute changes the figures and hardly the
 * shares.
 *
 * May include: common, checkpoint, kernels, model, sampling. */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/model_hash.h"
#include "cli/bench_args.h"
#include "cli/bench_baseline.h"
#include "cli/bench_report.h"
#include "cli/bench_results.h"
#include "cli/bench_rig.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "common/clock.h"
#include "model/gpt2_random.h"

enum { SEED = 1, HASH_BYTES = 17 };

typedef struct {
    BenchArgs *args;
    Gpt2Config shape; /* of random weights */
    const Kernels *k;
    BenchRig rig;
    BenchReport report;
    BenchMachine machine;
    BenchBaseline baseline; /* read when there is one to compare with */
    const char *type;       /* what results are named after */
    char own_types[GPT2_TYPES_BYTES];
    char model_name[GPT2_NAME_BYTES], config[HASH_BYTES], cpu_name[PROCESS_CPU_NAME_BYTES];
    double read, fma; /* the last probes: best pattern in GB/s; GFLOP/s */
    CliProgress progress;
    double begin, end; /* what part of the whole the present type is */
} Bench;

/* ---- Measuring ---- */

static bool go_on(void *ctx)
{
    (void)ctx;
    return !cli_interrupted();
}

static double mean(double a, double b)
{
    return 0.5 * (a + b);
}

/* The best pattern now; returns the mean of it and the one before, which is what a case between the
 * two is held against. */
static double probe_read(Bench *b)
{
    static const char *const names[PROBE_READ_COUNT] = {"read_linear", "read_streams",
                                                        "read_ahead"};
    double rate[PROBE_READ_COUNT], best = 0.0;
    const double before = b->read;

    bench_probe_read(&b->rig, rate);
    for (int i = 0; i < PROBE_READ_COUNT; i++) {
        bench_report_probe(&b->report, names[i], "GB/s", rate[i]);
        best = rate[i] > best ? rate[i] : best;
    }
    bench_report_probe(&b->report, "read_best", "GB/s", best);
    b->read = best;
    return mean(before, best);
}

static double probe_fma(Bench *b)
{
    const double before = b->fma;

    b->fma = bench_probe_fma(&b->rig);
    bench_report_probe(&b->report, "fma", "GFLOP/s", b->fma);
    return mean(before, b->fma);
}

static void add(Bench *b, const char *name, int n, const char *unit, const char *share_of,
                double value, double share)
{
    char text[BENCH_NAME_BYTES];

    (void)snprintf(text, sizeof text, n > 0 ? "%s@%d" : "%s", name, n);
    bench_report_add(&b->report, b->type, text, unit, share_of, value, share);
}

static int at_most(int n, int limit)
{
    return n < limit ? n : limit;
}

/* Calls measure with each of the sizes, none above limit and none twice. */
static ErrCode each_size(Bench *b, const int sizes[], int n_sizes, int limit,
                         ErrCode (*measure)(Bench *b, int n, Err *err), Err *err)
{
    ErrCode code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < n_sizes && (i == 0 || sizes[i - 1] < limit); i++)
        code = measure(b, at_most(sizes[i], limit), err);
    return code;
}

/* At the shortest context the cache does not count: what is read there is weights. */
enum { SHORT_CONTEXT = 16 };

static ErrCode measure_decode(Bench *b, int n, Err *err)
{
    double seconds, bytes = (double)b->rig.product_bytes;
    const ErrCode code = bench_time(&seconds, &b->rig, bench_decode, n, err);

    if (code != ERR_OK)
        return code;
    seconds /= BENCH_DECODE_TOKENS;
    if (n > SHORT_CONTEXT) /* the token in the middle sees as many as all do on average */
        bytes += mean(bench_cache_bytes(&b->rig, n + 1),
                      bench_cache_bytes(&b->rig, n + BENCH_DECODE_TOKENS));
    add(b, "decode", n, "tokens/s",
        n > SHORT_CONTEXT ? "best read, weights and cache" : "best read, weights", 1.0 / seconds,
        bytes * 1e-9 / seconds / probe_read(b));
    return ERR_OK;
}

static ErrCode measure_decoding(Bench *b, Err *err)
{
    static const int contexts[] = {SHORT_CONTEXT, 512, 1000};

    (void)probe_read(b);
    return each_size(b, contexts, 3, b->rig.run.cache.n_ctx - BENCH_DECODE_TOKENS, measure_decode,
                     err);
}

static ErrCode measure_rest(Bench *b, const char *name, const SamplingParams *p, Err *err)
{
    BenchParts parts;
    const ErrCode code = bench_parts(&parts, &b->rig, SHORT_CONTEXT, p, err);

    if (code == ERR_OK)
        add(b, name, SHORT_CONTEXT, "ms", "the step", parts.rest * 1e3,
            parts.rest / (parts.products + parts.cache + parts.rest));
    return code;
}

/* What a step does beside products and reading the cache; with each way to choose a token. */
static ErrCode measure_step(Bench *b, Err *err)
{
    SamplingParams greedy = sampling_defaults(), sampled = sampling_defaults();

    greedy.temperature = 0.0f;
    sampled.temperature = 0.8f;
    sampled.top_k = 40;
    sampled.top_p = 0.95f;
    const ErrCode code = measure_rest(b, "rest", &greedy, err);
    return code == ERR_OK ? measure_rest(b, "rest-sampled", &sampled, err) : code;
}

static ErrCode measure_cache_size(Bench *b, int n, Err *err)
{
    double seconds;
    const ErrCode code = bench_time(&seconds, &b->rig, bench_read_cache, n, err);

    if (code == ERR_OK) {
        const double rate = bench_cache_bytes(&b->rig, n) * 1e-9 / seconds;

        add(b, "cache", n, "GB/s", "best read", rate, rate / probe_read(b));
    }
    return code;
}

static ErrCode measure_cache(Bench *b, Err *err)
{
    static const int keys[] = {1000};

    (void)probe_read(b);
    return each_size(b, keys, 1, b->rig.run.cache.n_ctx, measure_cache_size, err);
}

/* Several rows against one, measured just before. */
static ErrCode measure_rows(Bench *b, int n, Err *err)
{
    double one, several;
    ErrCode code = bench_time(&one, &b->rig, bench_batch, 1, err);

    if (code == ERR_OK)
        code = bench_time(&several, &b->rig, bench_batch, n, err);
    if (code == ERR_OK)
        add(b, "batch", n, "ms", "one row (times)", several * 1e3, several / one);
    return code;
}

static ErrCode measure_batch(Bench *b, Err *err)
{
    static const int rows[] = {2, 4, 8, BENCH_MAX_BATCH};
    double seconds;

    (void)probe_read(b);
    const ErrCode code = bench_time(&seconds, &b->rig, bench_batch, 1, err);
    if (code != ERR_OK)
        return code;
    add(b, "batch", 1, "ms", "best read", seconds * 1e3,
        (double)b->rig.product_bytes * 1e-9 / seconds / probe_read(b));
    return each_size(b, rows, 4, BENCH_MAX_BATCH, measure_rows, err);
}

static ErrCode measure_prompt_size(Bench *b, int n, Err *err)
{
    double seconds;
    const ErrCode code = bench_time(&seconds, &b->rig, bench_prompt, n, err);

    if (code == ERR_OK)
        add(b, "prompt", n, "tokens/s", "FMA peak", n / seconds,
            bench_prompt_flop(&b->rig, n) * 1e-9 / seconds / probe_fma(b));
    return code;
}

static ErrCode measure_prompts(Bench *b, Err *err)
{
    static const int tokens[] = {16, 128, 512, 1000};

    (void)probe_fma(b);
    return each_size(b, tokens, 4, b->rig.run.cache.n_ctx, measure_prompt_size, err);
}

/* From weights as Hugging Face has them in float32, once they are in memory. */
static ErrCode measure_pack(Bench *b, Err *err)
{
    double seconds;

    (void)probe_read(b);
    const ErrCode code = bench_time(&seconds, &b->rig, bench_pack, 0, err);
    if (code == ERR_OK) {
        const double rate = bench_source_bytes(&b->rig) * 1e-9 / seconds;

        add(b, "pack", 0, "GB/s", "best read", rate, rate / probe_read(b));
    }
    return code;
}

/* What part of the time of a type goes by before its first round, for the progress. */
static const double making = 0.1;

/* fraction: of the present type. */
static void show_progress(Bench *b, double fraction)
{
    cli_progress(&b->progress, b->begin + (b->end - b->begin) * fraction);
}

static ErrCode measure_round(Bench *b, int round, Err *err)
{
    static ErrCode (*const measure[BENCH_GROUP_COUNT])(Bench * b, Err * err) = {
        [BENCH_GROUP_DECODE] = measure_decoding, [BENCH_GROUP_STEP] = measure_step,
        [BENCH_GROUP_CACHE] = measure_cache,     [BENCH_GROUP_BATCH] = measure_batch,
        [BENCH_GROUP_PROMPT] = measure_prompts,  [BENCH_GROUP_LOAD] = measure_pack};
    ErrCode code = ERR_OK;

    for (int g = 0; code == ERR_OK && g < BENCH_GROUP_COUNT; g++) {
        if (b->args->groups[g] && measure[g] != NULL)
            code = measure[g](b, err);
        show_progress(b, making + (1.0 - making) * (round + (g + 1.0) / BENCH_GROUP_COUNT) /
                                      b->args->rounds);
    }
    return code;
}

/* ---- One type after the other ---- */

static bool make_progress(void *ctx, double fraction)
{
    Bench *b = ctx;

    show_progress(b, making * fraction);
    return !cli_interrupted();
}

/* type: NULL for the types that the model has. */
static ErrCode make_model(Bench *b, const KernType *type, Err *err)
{
    const Gpt2Progress progress = {make_progress, b};
    Gpt2LoadOptions options = {.progress = progress};
    char path[CLI_PATH_BYTES];
    ErrCode code;

    if (b->args->model == NULL)
        return gpt2_random(&b->rig.model, &b->shape, *type, SEED, &progress, err);
    if (type != NULL) {
        options.convert = true;
        options.type = *type;
    }
    code = cli_model_path(path, sizeof path, b->args->model, err);
    return code == ERR_OK ? gpt2_load(&b->rig.model, path, &options, err) : code;
}

static void add_load(Bench *b, double seconds)
{
    const double rate = (double)b->rig.model.weight_bytes * 1e-9 / seconds;

    add(b, "load", 0, "s", "best read, weights in memory", seconds, rate / probe_read(b));
}

static void add_memory(Bench *b)
{
    const double needed =
        (double)b->rig.model.weight_bytes + (double)kv_cache_bytes(&b->rig.run.cache);

    add(b, "memory", 0, "MB", "weights and cache (times)", (double)b->rig.resident_bytes * 1e-6,
        (double)b->rig.resident_bytes / needed);
}

/* What the model is; long before all is measured, whether a baseline is of the same kind. */
static ErrCode name_model(Bench *b, const KernType *type, Err *err)
{
    uint64_t hash;
    const ErrCode code = model_hash_config(&b->rig.model, &hash, err);

    if (code != ERR_OK)
        return code;
    (void)snprintf(b->config, sizeof b->config, "%016" PRIx64, hash);
    memcpy(b->model_name, b->rig.model.name, sizeof b->model_name);
    memcpy(b->own_types, b->rig.model.types, sizeof b->own_types);
    b->type = type != NULL ? kern_type_name(*type) : b->own_types;
    return b->args->compare != NULL ? bench_baseline_check(&b->baseline, &b->machine, b->type, err)
                                    : ERR_OK;
}

static ErrCode measure_type(Bench *b, const KernType *type, Err *err)
{
    const uint64_t start = clock_now_ns();
    ErrCode code = make_model(b, type, err);
    const double seconds = (double)(clock_now_ns() - start) * 1e-9;

    if (code == ERR_OK)
        code = name_model(b, type, err);
    if (code == ERR_OK)
        code = bench_rig_init(&b->rig, b->args->kv_type, err);
    if (code != ERR_OK)
        return code;
    (void)probe_read(b);
    if (b->args->groups[BENCH_GROUP_LOAD] && b->args->model != NULL)
        add_load(b, seconds);
    if (b->args->groups[BENCH_GROUP_MEMORY])
        add_memory(b);
    for (int i = 0; code == ERR_OK && i < b->args->rounds; i++)
        code = measure_round(b, i, err);
    return code;
}

static ErrCode measure_all(Bench *b, Err *err)
{
    const BenchArgs *a = b->args;
    const int n = a->n_types > 0 ? a->n_types : 1;
    ErrCode code = ERR_OK;

    cli_progress_start(&b->progress, "measuring");
    for (int i = 0; code == ERR_OK && i < n; i++) {
        b->rig = (BenchRig){.k = b->k, .probe = probe_best(), .tap = {.yield = go_on}};
        b->begin = (double)i / n;
        b->end = (double)(i + 1) / n;
        code = measure_type(b, a->n_types > 0 ? &a->types[i] : NULL, err);
        bench_rig_free(&b->rig);
    }
    cli_progress_clear(&b->progress);
    return code;
}

/* ---- Result ---- */

static void describe_machine(Bench *b, int cpu)
{
    const BenchArgs *a = b->args;

    process_cpu_name(b->cpu_name);
    b->machine = (BenchMachine){.cpu_name = b->cpu_name,
                                .isa = b->k->name,
                                .compiler = cli_compiler(),
                                .flags = cli_build_flags(),
                                .version = LLORCH_VERSION,
                                .shape = a->model != NULL ? a->model : a->shape,
                                .model = a->model != NULL ? b->model_name : a->shape,
                                .config = b->config,
                                .kv_type = kern_type_name(a->kv_type),
                                .cpu = cpu,
                                .rounds = a->rounds};
}

static ErrCode take_shape(Bench *b, const char *text, Err *err)
{
    ErrCode code = gpt2_shape_parse(&b->shape, text, err);

    if (code == ERR_OK && b->shape.n_ctx < BENCH_MIN_CONTEXT)
        code = err_set(err, ERR_USAGE, "\"%s\": a context of %d is too short, at least %d", text,
                       b->shape.n_ctx, BENCH_MIN_CONTEXT);
    return code == ERR_OK ? code : err_prefix(err, "--shape");
}

static ErrCode prepare(Bench *b, Err *err)
{
    BenchArgs *a = b->args;
    const int cpu = a->cpu != BENCH_ANY_CPU ? a->cpu : sched_getcpu();
    ErrCode code = kernels_select(&b->k, a->isa, err);

    if (a->model == NULL && a->shape == NULL)
        a->shape = "gpt2-medium";
    if (code == ERR_OK && a->shape != NULL)
        code = take_shape(b, a->shape, err);
    if (code == ERR_OK && a->compare != NULL)
        code = bench_baseline_read(&b->baseline, a->compare, err);
    if (code == ERR_OK)
        code = process_pin(cpu, err);
    if (code == ERR_OK)
        describe_machine(b, cpu);
    return code;
}

static ErrCode bench(BenchArgs *a, bool *slower, Err *err)
{
    Bench *b = calloc(1, sizeof *b);
    ErrCode code;

    if (b == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    b->args = a;
    code = prepare(b, err);
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code = measure_all(b, err);
    }
    if (code == ERR_OK) {
        const BenchResults results = {a, &b->report, &b->machine, &b->baseline};

        code = bench_results(&results, slower, err);
    }
    bench_baseline_free(&b->baseline);
    bench_report_free(&b->report);
    free(b);
    return code;
}

int cli_bench(int argc, char **argv)
{
    BenchArgs args;
    bool slower = false;
    Err err = {0};
    ErrCode code = bench_args_parse(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(bench_help);
    if (code == ERR_OK)
        code = bench(&args, &slower, &err);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    if (code != ERR_OK)
        return cli_fail(&err);
    return slower ? CLI_EXIT_FAILURE : CLI_EXIT_OK;
}
