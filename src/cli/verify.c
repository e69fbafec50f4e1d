/* cli/verify.c: runs the checkpoints of a model and prints one row a check.
 *
 * May include: common, checkpoint. */
#include <getopt.h>

#include "checkpoint/determinism.h"
#include "checkpoint/expect.h"
#include "checkpoint/verify.h"
#include "cli/cli.h"
#include "cli/loaded.h"
#include "cli/verify_determinism.h"
#include "common/json.h"

static const char verify_help[] =
    "usage: llorch-cpud verify [--model PATH] [--reference DIR] [--expect NAME]\n"
    "\n"
    "Compares a model's checkpoints 1 to 12 with reference tensors and with itself.\n"
    "\n"
    "  --model PATH       model directory, .safetensors, .gguf or packed file (default: the\n"
    "                     shipped model)\n"
    "  --reference DIR    reference tensors (default: reference/named, then reference, in the "
    "model\n"
    "                     directory)\n"
    "  --expect NAME      also the values recorded for a published model: gpt2, gpt2-medium\n"
    "  --determinism [N]  instead: N runs (default 100) of one prompt in all ways, chunks, cache "
    "reuse,\n"
    "                     instruction sets and copies of the weights; all bits must be the same\n"
    "  --prompt TEXT      for --determinism: another prompt\n"
    "  --seed N           for --determinism: of its random choices (default 1)\n"
    "  --json             for --determinism: one JSON object instead of a table\n"
    "  --isa NAME         instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --help             this text\n"
    "\n"
    "worst error is the largest |ours - reference| / max(1, |reference|); it must not exceed the\n"
    "tolerance. Exit status: 0 when something was validated and nothing failed, 1 when something\n"
    "failed, 2 for wrong usage, 3 when nothing could be validated.\n";

enum {
    OPT_MODEL = 256,
    OPT_REFERENCE,
    OPT_EXPECT,
    OPT_ISA,
    OPT_DETERMINISM,
    OPT_PROMPT,
    OPT_SEED,
    OPT_JSON,
    EXIT_NOT_VALIDATED = 3
};

static const struct option verify_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"reference", required_argument, NULL, OPT_REFERENCE},
    {"expect", required_argument, NULL, OPT_EXPECT},
    {"isa", required_argument, NULL, OPT_ISA},
    {"determinism", optional_argument, NULL, OPT_DETERMINISM},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"seed", required_argument, NULL, OPT_SEED},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *isa;
    VerifyOptions options;
    VerifyDeterminism determinism; /* runs 0: not asked for */
    bool help;
} VerifyArgs;

/* "--determinism=N" or, although the number may be left out, "--determinism N". */
static ErrCode take_determinism(VerifyArgs *a, int argc, char **argv, Err *err)
{
    const char *text = optarg;
    int64_t runs = DETERMINISM_RUNS;
    ErrCode code = ERR_OK;

    if (text == NULL && optind < argc && argv[optind][0] >= '0' && argv[optind][0] <= '9')
        text = argv[optind++];
    if (text != NULL)
        code = cli_parse_int("--determinism", text, 1, DETERMINISM_MAX_RUNS, &runs, err);
    a->determinism.runs = (int)runs;
    return code;
}

static ErrCode parse_args(VerifyArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (VerifyArgs){.determinism.seed = 1};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", verify_options, NULL)) != -1) {
        switch (option) {
        case OPT_MODEL:
            a->model = optarg;
            break;
        case OPT_REFERENCE:
            a->options.reference = optarg;
            break;
        case OPT_EXPECT:
            a->options.expect = optarg;
            break;
        case OPT_ISA:
            a->isa = optarg;
            break;
        case OPT_DETERMINISM:
            if (take_determinism(a, argc, argv, err) != ERR_OK)
                return ERR_USAGE;
            break;
        case OPT_PROMPT:
            a->determinism.prompt = optarg;
            break;
        case OPT_SEED:
            if (cli_parse_u64("--seed", optarg, &a->determinism.seed, err) != ERR_OK)
                return ERR_USAGE;
            break;
        case OPT_JSON:
            a->determinism.json = true;
            break;
        case 'h':
            a->help = true;
            return ERR_OK;
        default:
            return cli_bad_option(argv, option, err);
        }
    }
    if (a->options.expect != NULL && !expect_known(a->options.expect))
        return err_set(err, ERR_USAGE, "--expect: \"%s\", expected gpt2 or gpt2-medium",
                       a->options.expect);
    if (a->determinism.runs > 0 && (a->options.reference != NULL || a->options.expect != NULL))
        return err_set(err, ERR_USAGE,
                       "--determinism compares a model with itself: without --reference and "
                       "--expect");
    return cli_no_operands(argc, argv, err);
}

static int exit_status(const VerdictTable *t)
{
    if (verdict_count(t, VERDICT_FAIL) > 0)
        return CLI_EXIT_FAILURE;
    return verdict_count(t, VERDICT_PASS) > 0 ? CLI_EXIT_OK : EXIT_NOT_VALIDATED;
}

static int print_table(const VerdictTable *t)
{
    JsonBuf out = {0};
    Err err = {0};
    int status;

    verdict_format(t, &out);
    if (out.oom) {
        (void)err_set(&err, ERR_MEMORY, "out of memory");
        status = cli_fail(&err);
    } else {
        status = cli_print(out.data);
    }
    json_buf_free(&out);
    return status == CLI_EXIT_OK ? exit_status(t) : status;
}

int cli_verify(int argc, char **argv)
{
    VerifyArgs args;
    CliLoaded loaded = {.tokenizer = NULL};
    VerdictTable table = {.rows = NULL};
    Err err = {0};
    int status;
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(verify_help);
    if (code == ERR_OK)
        code = cli_load(&loaded, args.model, args.isa, &err);
    if (code == ERR_OK && args.determinism.runs > 0) {
        status = verify_determinism(&loaded, &args.determinism);
        cli_unload(&loaded);
        return status;
    }
    if (code == ERR_OK) {
        const Gpt2Progress progress = {cli_loaded_progress, &loaded};

        cli_progress_start(&loaded.progress, "verifying");
        code = verify_run(&table, &loaded.model, loaded.tokenizer, loaded.k, &args.options,
                          &progress, &err);
        cli_progress_clear(&loaded.progress);
    }
    status = code == ERR_OK ? print_table(&table) : cli_fail(&err);
    verdict_free(&table);
    cli_unload(&loaded);
    return status;
}
