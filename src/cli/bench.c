/* cli/bench.c: how fast this machine computes a model, next to what it can do at most.
 *
 * Rounds are interleaved, and each figure becomes a share of the probes just before and after it,
 * so that a neighbour who takes memory bandwidth for a minute changes the figures and hardly the
 * shares.
 *
 * May include: common, kernels, model, sampling. */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_report.h"
#include "cli/bench_rig.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "cli/type_option.h"
#include "common/clock.h"
#include "model/gpt2_random.h"

enum { DEFAULT_ROUNDS = 5, MAX_ROUNDS = 1000, ANY_CPU = -1, SEED = 1 };

static const char bench_help[] =
    "usage: llorch-cpud bench [--model PATH | --shape SHAPE] [OPTION]...\n"
    "\n"
    "Measures decoding, prompts, batches, the cache, packing and memory on one core, and what the "
    "core can read\n"
    "and multiply at most, in interleaved rounds; prints medians, extremes and shares of the "
    "possible.\n"
    "\n"
    "  --model PATH     a model; its own weights are measured, in its own types or in each --type\n"
    "  --shape SHAPE    random weights of this shape instead: gpt2, gpt2-medium, gpt2-large, "
    "gpt2-xl or\n"
    "                   LAYERS,HEADS,DIM,CONTEXT,VOCABULARY (default gpt2-medium)\n"
    "  --type TYPE      f32, f16, bf16, q8_0 or q4_0; may be repeated (default: all five for "
    "random "
    "weights)\n"
    "  --kv-type TYPE   hold keys and values as f32 or f16 (default f32)\n"
    "  --cases LIST     some of decode,step,cache,batch,prompt,load,memory (default: all)\n"
    "  --rounds N       1 to 1000 (default 5)\n"
    "  --isa NAME       instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --cpu N          run on this processor (default: the one it starts on)\n"
    "  --json           one JSON object instead of a table\n"
    "  --help           this text\n";

enum {
    OPT_MODEL = 256,
    OPT_SHAPE,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_CASES,
    OPT_ROUNDS,
    OPT_ISA,
    OPT_CPU,
    OPT_JSON
};

static const struct option bench_options[] = {{"model", required_argument, NULL, OPT_MODEL},
                                              {"shape", required_argument, NULL, OPT_SHAPE},
                                              {"type", required_argument, NULL, OPT_TYPE},
                                              {"kv-type", required_argument, NULL, OPT_KV_TYPE},
                                              {"cases", required_argument, NULL, OPT_CASES},
                                              {"rounds", required_argument, NULL, OPT_ROUNDS},
                                              {"isa", required_argument, NULL, OPT_ISA},
                                              {"cpu", required_argument, NULL, OPT_CPU},
                                              {"json", no_argument, NULL, OPT_JSON},
                                              {"help", no_argument, NULL, 'h'},
                                              {NULL, 0, NULL, 0}};

typedef enum {
    GROUP_DECODE,
    GROUP_STEP,
    GROUP_CACHE,
    GROUP_BATCH,
    GROUP_PROMPT,
    GROUP_LOAD,
    GROUP_MEMORY,
    GROUP_COUNT
} Group;

static const char *const group_names[GROUP_COUNT] = {"decode", "step", "cache", "batch",
                                                     "prompt", "load", "memory"};

typedef struct {
    const char *model, *shape, *isa;
    KernType types[KERN_TYPE_COUNT]; /* in the order given */
    int n_types;                     /* 0: the model's own */
    KernType kv_type;
    bool groups[GROUP_COUNT];
    int rounds, cpu;
    bool json, help;
} BenchArgs;

typedef struct {
    const BenchArgs *args;
    Gpt2Config shape; /* of random weights */
    BenchRig rig;
    BenchReport report;
    const char *type; /* what results are named after */
    char own_types[GPT2_TYPES_BYTES];
    double read, fma; /* the last probes: best pattern in GB/s; GFLOP/s */
    CliProgress progress;
    double begin, end; /* what part of the whole the present type is */
} Bench;

/* ---- Arguments ---- */

static ErrCode add_type(BenchArgs *a, const char *text, Err *err)
{
    KernType type;
    const ErrCode code = type_option_parse(text, &type, err);

    if (code != ERR_OK)
        return code;
    for (int i = 0; i < a->n_types; i++)
        if (a->types[i] == type)
            return ERR_OK;
    a->types[a->n_types++] = type;
    return ERR_OK;
}

static ErrCode take_cases(BenchArgs *a, const char *text, Err *err)
{
    memset(a->groups, 0, sizeof a->groups);
    for (const char *s = text;; s++) {
        const size_t n = strcspn(s, ",");
        int g = 0;

        while (g < GROUP_COUNT &&
               (strlen(group_names[g]) != n || memcmp(group_names[g], s, n) != 0))
            g++;
        if (g == GROUP_COUNT)
            return err_set(
                err, ERR_USAGE,
                "--cases: \"%.*s\": expected some of decode, step, cache, batch, prompt, "
                "load, memory",
                (int)(n < 100 ? n : 100), s);
        a->groups[g] = true;
        s += n;
        if (*s == '\0')
            return ERR_OK;
    }
}

static ErrCode take_int(int *out, const char *option, const char *value, int min, int max, Err *err)
{
    int64_t n = 0;
    const ErrCode code = cli_parse_int(option, value, min, max, &n, err);

    if (code == ERR_OK)
        *out = (int)n;
    return code;
}

static ErrCode take_option(BenchArgs *a, int option, const char *value, Err *err)
{
    switch (option) {
    case OPT_MODEL:
        a->model = value;
        return ERR_OK;
    case OPT_SHAPE:
        a->shape = value;
        return ERR_OK;
    case OPT_TYPE:
        return add_type(a, value, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(value, &a->kv_type, err);
    case OPT_CASES:
        return take_cases(a, value, err);
    case OPT_ROUNDS:
        return take_int(&a->rounds, "--rounds", value, 1, MAX_ROUNDS, err);
    case OPT_CPU:
        return take_int(&a->cpu, "--cpu", value, 0, INT32_MAX, err);
    case OPT_ISA:
        a->isa = value;
        return ERR_OK;
    default:
        a->json = true;
        return ERR_OK;
    }
}

/* Random weights have no types of their own. */
static void fill_types(BenchArgs *a)
{
    if (a->model != NULL || a->n_types > 0)
        return;
    for (int t = 0; t < KERN_TYPE_COUNT; t++)
        a->types[a->n_types++] = (KernType)t;
}

static ErrCode parse_args(BenchArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (BenchArgs){.kv_type = KERN_F32, .rounds = DEFAULT_ROUNDS, .cpu = ANY_CPU};
    memset(a->groups, 1, sizeof a->groups);
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", bench_options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return cli_bad_option(argv, option, err);
        if (option == 'h') {
            a->help = true;
            return ERR_OK;
        }
        const ErrCode code = take_option(a, option, optarg, err);
        if (code != ERR_OK)
            return code;
    }
    const ErrCode code = cli_no_operands(argc, argv, err);
    if (code != ERR_OK)
        return code;
    if (a->model != NULL && a->shape != NULL)
        return err_set(err, ERR_USAGE, "%s: give either --model or --shape (see %s %s --help)",
                       argv[0], CLI_PROGRAM, argv[0]);
    a->isa = cli_isa(a->isa);
    fill_types(a);
    return ERR_OK;
}

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
    static ErrCode (*const measure[GROUP_COUNT])(Bench * b, Err * err) = {
        [GROUP_DECODE] = measure_decoding, [GROUP_STEP] = measure_step,
        [GROUP_CACHE] = measure_cache,     [GROUP_BATCH] = measure_batch,
        [GROUP_PROMPT] = measure_prompts,  [GROUP_LOAD] = measure_pack};
    ErrCode code = ERR_OK;

    for (int g = 0; code == ERR_OK && g < GROUP_COUNT; g++) {
        if (b->args->groups[g] && measure[g] != NULL)
            code = measure[g](b, err);
        show_progress(b, making +
                             (1.0 - making) * (round + (g + 1.0) / GROUP_COUNT) / b->args->rounds);
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

static ErrCode measure_type(Bench *b, const KernType *type, Err *err)
{
    const uint64_t start = clock_now_ns();
    ErrCode code = make_model(b, type, err);
    const double seconds = (double)(clock_now_ns() - start) * 1e-9;

    if (code == ERR_OK)
        code = bench_rig_init(&b->rig, b->args->kv_type, err);
    if (code != ERR_OK)
        return code;
    memcpy(b->own_types, b->rig.model.types, sizeof b->own_types);
    b->type = type != NULL ? kern_type_name(*type) : b->own_types;
    (void)probe_read(b);
    if (b->args->groups[GROUP_LOAD] && b->args->model != NULL)
        add_load(b, seconds);
    if (b->args->groups[GROUP_MEMORY])
        add_memory(b);
    for (int i = 0; code == ERR_OK && i < b->args->rounds; i++)
        code = measure_round(b, i, err);
    return code;
}

static ErrCode measure_all(Bench *b, Err *err)
{
    const BenchArgs *a = b->args;
    const int n = a->n_types > 0 ? a->n_types : 1;
    const Kernels *k;
    ErrCode code = kernels_select(&k, a->isa, err);

    cli_progress_start(&b->progress, "measuring");
    for (int i = 0; code == ERR_OK && i < n; i++) {
        b->rig = (BenchRig){.k = k, .probe = probe_best(), .tap = {.yield = go_on}};
        b->begin = (double)i / n;
        b->end = (double)(i + 1) / n;
        code = measure_type(b, a->n_types > 0 ? &a->types[i] : NULL, err);
        bench_rig_free(&b->rig);
    }
    cli_progress_clear(&b->progress);
    return code;
}

/* ---- Result ---- */

static ErrCode print_report(Bench *b, int cpu, Err *err)
{
    const BenchArgs *a = b->args;
    char cpu_name[PROCESS_CPU_NAME_BYTES];
    const Kernels *k;
    JsonBuf out = {0};
    ErrCode code = kernels_select(&k, a->isa, err);

    if (code != ERR_OK)
        return code;
    process_cpu_name(cpu_name);
    const BenchMachine machine = {.cpu_name = cpu_name,
                                  .isa = k->name,
                                  .compiler = cli_compiler(),
                                  .version = LLORCH_VERSION,
                                  .shape = a->model != NULL ? a->model : a->shape,
                                  .kv_type = kern_type_name(a->kv_type),
                                  .cpu = cpu,
                                  .rounds = a->rounds};
    if (a->json)
        bench_report_json(&out, &b->report, &machine);
    else
        bench_report_table(&out, &b->report, &machine);
    if (out.oom || b->report.oom)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else
        code = cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode take_shape(Bench *b, const char *text, Err *err)
{
    ErrCode code = gpt2_shape_parse(&b->shape, text, err);

    if (code == ERR_OK && b->shape.n_ctx < BENCH_MIN_CONTEXT)
        code = err_set(err, ERR_USAGE, "\"%s\": a context of %d is too short, at least %d", text,
                       b->shape.n_ctx, BENCH_MIN_CONTEXT);
    return code == ERR_OK ? code : err_prefix(err, "--shape");
}

static ErrCode bench(BenchArgs *a, Err *err)
{
    Bench *b = calloc(1, sizeof *b);
    const int cpu = a->cpu != ANY_CPU ? a->cpu : sched_getcpu();
    ErrCode code;

    if (b == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    b->args = a;
    if (a->model == NULL && a->shape == NULL)
        a->shape = "gpt2-medium";
    code = a->shape != NULL ? take_shape(b, a->shape, err) : ERR_OK;
    if (code == ERR_OK)
        code = process_pin(cpu, err);
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code = measure_all(b, err);
    }
    if (code == ERR_OK)
        code = print_report(b, cpu, err);
    bench_report_free(&b->report);
    free(b);
    return code;
}

int cli_bench(int argc, char **argv)
{
    BenchArgs args;
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(bench_help);
    if (code == ERR_OK)
        code = bench(&args, &err);
    if (code == ERR_CANCELLED && cli_interrupted())
        return CLI_EXIT_INTERRUPT;
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
