/* cli/verify.c: runs the checkpoints of a model and prints one row a check.
 *
 * May include: common, checkpoint, report. */
#include <getopt.h>
#include <string.h>

#include "checkpoint/determinism.h"
#include "checkpoint/expect.h"
#include "checkpoint/verify.h"
#include "checkpoint/verify_html.h"
#include "cli/cli.h"
#include "cli/loaded.h"
#include "cli/prompt.h"
#include "cli/verify_determinism.h"
#include "cli/verify_keep.h"
#include "common/json.h"
#include "report/output.h"
#include "report/terminal.h"

static const char verify_help[] =
    "usage: llorch-cpud verify [--model PATH] [--reference DIR | --reference self] [OPTION]...\n"
    "\n"
    "Compares a model's checkpoints 1 to 12 with reference tensors and with itself.\n"
    "\n"
    "  --model PATH       model directory, .safetensors, .gguf or packed file (default: the\n"
    "                     shipped model)\n"
    "  --reference DIR    reference tensors (default: reference/named, then reference, in the "
    "model\n"
    "                     directory; self when it has neither)\n"
    "  --reference self   every stage of every layer against a plain forward pass in double\n"
    "                     precision over the weights of the model's file\n"
    "  --determinism [N]  instead: N runs (default 100) of one prompt in all ways: chunks, reused "
    "cache,\n"
    "                     instruction sets, copies of the weights; all bits must be the same\n"
    "  --seed N           of the random choices of --determinism (default 1)\n"
    "  --prompt TEXT      with self or --determinism: what to compute (default \"Hello.\"); - "
    "reads standard input\n"
    "  --prompt-ids LIST  the same as token ids, separated by commas\n"
    "  --expect NAME      also the values recorded for a published model: gpt2, gpt2-medium\n"
    "  --stats            also the statistics of both sides\n"
    "  --save FILE        keep the result as a baseline, a JSON file\n"
    "  --compare FILE     compare with a baseline: what fails, is missing or has an error above\n"
    "  --max-growth X     times the baseline's (default 2) makes the exit status 1\n"
    "  --json             one JSON object with all of it instead of a table\n"
    "  --html FILE        also write a page with charts, error maps and attention\n"
    "  --isa NAME         instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --help             this text\n"
    "\n"
    "worst error is the largest |ours - reference| / max(1, |reference|); it must not exceed the\n"
    "tolerance. With self it is what has added up since the embedding, and \"this stage\" is the\n"
    "error of the stage alone as a share of what float32 rounding allows there: above 1 it is "
    "wrong.\n"
    "Exit status: 0 when something was validated and nothing failed, 1 when something\n"
    "failed, 2 for wrong usage, 3 when nothing could be validated.\n";

enum {
    OPT_MODEL = 256,
    OPT_REFERENCE,
    OPT_DETERMINISM,
    OPT_SEED,
    OPT_PROMPT,
    OPT_PROMPT_IDS,
    OPT_EXPECT,
    OPT_STATS,
    OPT_SAVE,
    OPT_COMPARE,
    OPT_MAX_GROWTH,
    OPT_JSON,
    OPT_HTML,
    OPT_ISA,
    EXIT_NOT_VALIDATED = 3
};

static const struct option verify_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"reference", required_argument, NULL, OPT_REFERENCE},
    {"determinism", optional_argument, NULL, OPT_DETERMINISM},
    {"seed", required_argument, NULL, OPT_SEED},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"prompt-ids", required_argument, NULL, OPT_PROMPT_IDS},
    {"expect", required_argument, NULL, OPT_EXPECT},
    {"stats", no_argument, NULL, OPT_STATS},
    {"save", required_argument, NULL, OPT_SAVE},
    {"compare", required_argument, NULL, OPT_COMPARE},
    {"max-growth", required_argument, NULL, OPT_MAX_GROWTH},
    {"json", no_argument, NULL, OPT_JSON},
    {"html", required_argument, NULL, OPT_HTML},
    {"isa", required_argument, NULL, OPT_ISA},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *isa, *prompt, *prompt_ids, *html;
    VerifyOptions options;
    VerifyDeterminism determinism; /* runs 0: not asked for */
    VerifyKeep keep;
    bool stats, json, help;
} VerifyArgs;

static ErrCode check_args(const VerifyArgs *a, Err *err)
{
    const char *reference = a->options.reference;
    const bool prompt = a->prompt != NULL || a->prompt_ids != NULL;

    if (a->options.expect != NULL && !expect_known(a->options.expect))
        return err_set(err, ERR_USAGE, "--expect: \"%s\", expected gpt2 or gpt2-medium",
                       a->options.expect);
    if (a->prompt != NULL && a->prompt_ids != NULL)
        return err_set(err, ERR_USAGE, "give either --prompt or --prompt-ids");
    if (a->determinism.runs > 0 &&
        (reference != NULL || a->options.expect != NULL || a->stats || a->html != NULL ||
         a->keep.save != NULL || a->keep.compare != NULL))
        return err_set(err, ERR_USAGE,
                       "--determinism compares a model with itself: without --reference, --expect, "
                       "--stats, --html, --save and --compare");
    if (prompt && reference != NULL && strcmp(reference, VERIFY_SELF) != 0)
        return err_set(err, ERR_USAGE,
                       "--prompt: the tensors of %.200s belong to a prompt of their own; "
                       "--reference self takes any",
                       reference);
    if (a->stats && a->json)
        return err_set(err, ERR_USAGE, "--stats: --json has the statistics anyway");
    return ERR_OK;
}

/* One option; false: it is none of ours. */
static bool take_option(VerifyArgs *a, int option)
{
    switch (option) {
    case OPT_MODEL:
        a->model = optarg;
        return true;
    case OPT_REFERENCE:
        a->options.reference = optarg;
        return true;
    case OPT_PROMPT:
        a->prompt = optarg;
        return true;
    case OPT_PROMPT_IDS:
        a->prompt_ids = optarg;
        return true;
    case OPT_EXPECT:
        a->options.expect = optarg;
        return true;
    case OPT_SAVE:
        a->keep.save = optarg;
        return true;
    case OPT_COMPARE:
        a->keep.compare = optarg;
        return true;
    case OPT_STATS:
        a->stats = true;
        return true;
    case OPT_JSON:
        a->json = true;
        return true;
    case OPT_HTML:
        a->html = optarg;
        a->options.keep_all = true; /* attention of every layer */
        return true;
    case OPT_ISA:
        a->isa = optarg;
        return true;
    case 'h':
        a->help = true;
        return true;
    default:
        return false;
    }
}

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

static ErrCode take_growth(VerifyArgs *a, Err *err)
{
    float growth = 0.0f;
    const ErrCode code = cli_parse_float("--max-growth", optarg, 1.0f, 1e9f, &growth, err);

    if (code == ERR_OK)
        a->keep.max_growth = (double)growth;
    return code;
}

/* Options with numbers. */
static ErrCode take_number(VerifyArgs *a, int option, int argc, char **argv, Err *err)
{
    switch (option) {
    case OPT_DETERMINISM:
        return take_determinism(a, argc, argv, err);
    case OPT_MAX_GROWTH:
        return take_growth(a, err);
    case OPT_SEED:
        return cli_parse_u64("--seed", optarg, &a->determinism.seed, err);
    default:
        return cli_bad_option(argv, option, err);
    }
}

static ErrCode parse_args(VerifyArgs *a, int argc, char **argv, Err *err)
{
    int option;
    ErrCode code = ERR_OK;

    *a = (VerifyArgs){.determinism.seed = 1, .keep.max_growth = VERIFY_MAX_GROWTH};
    opterr = 0;
    while (code == ERR_OK && (option = getopt_long(argc, argv, ":h", verify_options, NULL)) != -1) {
        if (!take_option(a, option))
            code = take_number(a, option, argc, argv, err);
        if (a->help)
            return ERR_OK;
    }
    if (code == ERR_OK)
        code = cli_no_operands(argc, argv, err);
    return code == ERR_OK ? check_args(a, err) : code;
}

static ErrCode read_prompt(VerifyArgs *a, CliPrompt *prompt, const CliLoaded *l, Err *err)
{
    ErrCode code = ERR_OK;

    if (a->prompt != NULL)
        code = cli_prompt_of_text(prompt, "--prompt", a->prompt, "--prompt-ids", l, err);
    else if (a->prompt_ids != NULL)
        code = cli_prompt_of_ids(prompt, "--prompt-ids", a->prompt_ids, l, err);
    a->options.ids = prompt->ids;
    a->options.n_ids = prompt->n_ids;
    return code;
}

static VerifyMeta meta_of(const VerifyResult *r, CliPrompt *prompt, const CliLoaded *l)
{
    if (prompt->ids == NULL)
        cli_prompt_decode(prompt, r->capture.ids, r->capture.n_ids, l);
    return (VerifyMeta){.model = l->model.name,
                        .types = l->model.types,
                        .prompt = prompt->text,
                        .n_prompt = prompt->n_text,
                        .ids = r->capture.ids,
                        .n_ids = r->capture.n_ids,
                        .isa = l->k->name,
                        .compiler = cli_compiler(),
                        .version = LLORCH_VERSION,
                        .reference = r->reference};
}

static int exit_status(const VerifyArgs *a, const VerifyResult *r)
{
    if (a->keep.compared.n_failures > 0)
        return CLI_EXIT_FAILURE;
    switch (verify_verdict(r)) {
    case VERDICT_PASS:
        return CLI_EXIT_OK;
    case VERDICT_FAIL:
        return CLI_EXIT_FAILURE;
    default:
        return EXIT_NOT_VALIDATED;
    }
}

static void format_json(JsonBuf *out, const VerifyArgs *a, const VerifyResult *r,
                        const VerifyMeta *meta)
{
    json_buf_printf(out, "{");
    verify_json_members(out, r, meta);
    if (a->keep.compare != NULL) {
        json_buf_printf(out, ",\n\"comparison\":");
        verify_comparison_json(out, &a->keep.compared);
    }
    json_buf_printf(out, "}\n");
}

static ErrCode print_result(const VerifyArgs *a, const VerifyResult *r, const VerifyMeta *meta,
                            Err *err)
{
    const bool colour = term_wants_colour();
    JsonBuf out = {0};
    ErrCode code;

    if (a->json)
        format_json(&out, a, r, meta);
    else
        verify_text(&out, r, a->stats, colour);
    if (!a->json && a->keep.compare != NULL)
        verify_comparison_format(&out, &a->keep.compared, colour);
    code = out.oom ? err_set(err, ERR_MEMORY, "out of memory") : cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode write_page(const char *path, const VerifyResult *r, const VerifyMeta *meta, Err *err)
{
    JsonBuf page = {0};
    ErrCode code;

    verify_html(&page, r, meta);
    code = report_write(path, &page, err);
    json_buf_free(&page);
    return code;
}

/* Everything that is shown or kept of a result; the exit status. */
static int report(VerifyArgs *a, const VerifyResult *r, CliPrompt *prompt, const CliLoaded *l)
{
    const VerifyMeta meta = meta_of(r, prompt, l);
    Err err = {0};
    ErrCode code = verify_keep_compare(&a->keep, r, &err);

    /* Files first, so that one that cannot be written is the only thing said. */
    if (code == ERR_OK && a->html != NULL)
        code = write_page(a->html, r, &meta, &err);
    if (code == ERR_OK)
        code = verify_keep_save(&a->keep, r, &meta, &err);
    if (code == ERR_OK)
        code = print_result(a, r, &meta, &err);
    return code == ERR_OK ? exit_status(a, r) : cli_fail(&err);
}

/* The exit status. */
static int run_determinism(VerifyArgs *a, const CliPrompt *prompt, CliLoaded *l)
{
    a->determinism.ids = prompt->ids;
    a->determinism.n_ids = prompt->n_ids;
    a->determinism.json = a->json;
    return verify_determinism(l, &a->determinism);
}

int cli_verify(int argc, char **argv)
{
    VerifyArgs args;
    CliLoaded loaded = {.tokenizer = NULL};
    CliPrompt prompt = {.text = NULL};
    VerifyResult result = {.first_fault = -1};
    Err err = {0};
    int status;
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(verify_help);
    if (code == ERR_OK)
        code = cli_load(&loaded, args.model, args.isa, &err);
    if (code == ERR_OK)
        code = read_prompt(&args, &prompt, &loaded, &err);
    if (code == ERR_OK)
        code = verify_keep_begin(&args.keep, &loaded.model, &err);
    if (code == ERR_OK && args.determinism.runs == 0) {
        const Gpt2Progress progress = {cli_loaded_progress, &loaded};

        cli_progress_start(&loaded.progress, "verifying");
        code = verify_run(&result, &loaded.model, loaded.tokenizer, loaded.k, &args.options,
                          &progress, &err);
        cli_progress_clear(&loaded.progress);
    }
    if (code != ERR_OK)
        status = cli_fail(&err);
    else if (args.determinism.runs > 0)
        status = run_determinism(&args, &prompt, &loaded);
    else
        status = report(&args, &result, &prompt, &loaded);
    verify_keep_free(&args.keep);
    verify_result_free(&result);
    cli_prompt_free(&prompt);
    cli_unload(&loaded);
    return status;
}
