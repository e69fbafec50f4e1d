/* cli/bench_args.c: see bench_args.h.
 *
 * May include: common, kernels. */
#include "cli/bench_args.h"

#include <getopt.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/type_option.h"

enum { DEFAULT_ROUNDS = 5, MAX_ROUNDS = 1000, MAX_PERCENT = 100000, DEFAULT_SLOWDOWN = 10 };

const char bench_help[] =
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
    "  --save FILE      keep the result as a baseline, a JSON file\n"
    "  --compare FILE   compare shares with those of a baseline; exit status 1 when one is worse "
    "by "
    "more than\n"
    "  --max-slowdown P percent (default 10)\n"
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
    OPT_SAVE,
    OPT_COMPARE,
    OPT_MAX_SLOWDOWN,
    OPT_JSON
};

static const struct option bench_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"shape", required_argument, NULL, OPT_SHAPE},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"cases", required_argument, NULL, OPT_CASES},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"isa", required_argument, NULL, OPT_ISA},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"save", required_argument, NULL, OPT_SAVE},
    {"compare", required_argument, NULL, OPT_COMPARE},
    {"max-slowdown", required_argument, NULL, OPT_MAX_SLOWDOWN},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static const char *const group_names[BENCH_GROUP_COUNT] = {"decode", "step", "cache", "batch",
                                                           "prompt", "load", "memory"};

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

        while (g < BENCH_GROUP_COUNT &&
               (strlen(group_names[g]) != n || memcmp(group_names[g], s, n) != 0))
            g++;
        if (g == BENCH_GROUP_COUNT)
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

static ErrCode take_percent(double *out, const char *option, const char *value, Err *err)
{
    float percent = 0.0f;
    const ErrCode code = cli_parse_float(option, value, 0.0f, MAX_PERCENT, &percent, err);

    if (code == ERR_OK)
        *out = (double)percent;
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
        return cli_parse_i32("--rounds", value, 1, MAX_ROUNDS, &a->rounds, err);
    case OPT_CPU:
        return cli_parse_i32("--cpu", value, 0, INT32_MAX, &a->cpu, err);
    case OPT_ISA:
        a->isa = value;
        return ERR_OK;
    case OPT_SAVE:
        a->save = value;
        return ERR_OK;
    case OPT_COMPARE:
        a->compare = value;
        return ERR_OK;
    case OPT_MAX_SLOWDOWN:
        return take_percent(&a->max_slowdown, "--max-slowdown", value, err);
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

ErrCode bench_args_parse(BenchArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (BenchArgs){.kv_type = KERN_F32,
                     .rounds = DEFAULT_ROUNDS,
                     .max_slowdown = DEFAULT_SLOWDOWN,
                     .cpu = BENCH_ANY_CPU};
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
