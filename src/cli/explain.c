/* cli/explain.c: what the model had to choose from, for every token that it generates.
 *
 * May include: common, eval, kernels, sampling. */
#include <getopt.h>

#include "cli/cli.h"
#include "cli/explain_report.h"
#include "cli/loaded.h"
#include "cli/prompt.h"
#include "cli/sampling_option.h"
#include "cli/type_option.h"
#include "common/json.h"
#include "eval/candidates.h"

enum { EXPLAIN_TOKENS = 20, EXPLAIN_MAX_TOKENS = 2048 };

static const char explain_help[] =
    "usage: llorch-cpud explain [--model PATH] (--prompt TEXT | --prompt-ids 1,2,3) [OPTION]...\n"
    "\n"
    "Continues a text and shows for every new token the most likely candidates, the entropy of "
    "the\n"
    "distribution, and the probability and rank of the token that was chosen.\n"
    "\n"
    "  --model PATH              model directory, .safetensors, .gguf or packed file (default: the "
    "shipped model)\n"
    "  --prompt TEXT             the text; - reads standard input, byte for byte\n"
    "  --prompt-ids LIST         token ids instead of a text, separated by commas\n"
    "  --prompt-tokens           the same for the tokens of the prompt, each given those before "
    "it\n"
    "  --tokens N                new tokens, 1 to 2048 (default 20); --max-tokens is the same\n"
    "  --top N                   candidates of a token, 1 to 50 (default 5)\n"
    "  --temperature X           0 to 2 (default 0: always the most likely token)\n"
    "  --top-k N, --top-p X, --min-p X, --repetition-penalty X, --seed N\n"
    "                            as in generate\n"
    "  --isa NAME                instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --type TYPE               hold the weights as f32, f16, bf16, q8_0 or q4_0 (default: as in "
    "the file)\n"
    "  --kv-type TYPE            hold keys and values as f32 or f16 (default f32)\n"
    "  --json                    one JSON object instead of the table\n"
    "  --help                    this text\n"
    "\n"
    "Probabilities are the softmax of the model's logits at temperature 1, before any penalty or\n"
    "filter, in double precision. With a temperature above 0 a column more says how likely the "
    "token\n"
    "was in the distribution that it was drawn from.\n";

enum {
    OPT_MODEL = 256,
    OPT_PROMPT,
    OPT_PROMPT_IDS,
    OPT_PROMPT_TOKENS,
    OPT_TOKENS,
    OPT_TOP,
    OPT_ISA,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_JSON
};

static const struct option explain_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"prompt-ids", required_argument, NULL, OPT_PROMPT_IDS},
    {"prompt-tokens", no_argument, NULL, OPT_PROMPT_TOKENS},
    {"tokens", required_argument, NULL, OPT_TOKENS},
    {"max-tokens", required_argument, NULL, OPT_TOKENS},
    {"top", required_argument, NULL, OPT_TOP},
    SAMPLING_OPTION_ROWS,
    {"isa", required_argument, NULL, OPT_ISA},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *prompt, *ids, *isa;
    bool prompt_tokens, has_type, json, help;
    KernType type, kv_type;
    int64_t n_tokens, n_best;
    SamplingParams sampling;
} ExplainArgs;

static ErrCode take_option(ExplainArgs *a, int option, const char *value, Err *err)
{
    switch (option) {
    case OPT_MODEL:
        a->model = value;
        return ERR_OK;
    case OPT_PROMPT:
        a->prompt = value;
        return ERR_OK;
    case OPT_PROMPT_IDS:
        a->ids = value;
        return ERR_OK;
    case OPT_PROMPT_TOKENS:
        a->prompt_tokens = true;
        return ERR_OK;
    case OPT_TOKENS:
        return cli_parse_int("--tokens", value, 1, EXPLAIN_MAX_TOKENS, &a->n_tokens, err);
    case OPT_TOP:
        return cli_parse_int("--top", value, 1, CANDIDATES_MAX, &a->n_best, err);
    case OPT_ISA:
        a->isa = value;
        return ERR_OK;
    case OPT_TYPE:
        a->has_type = true;
        return type_option_parse(value, &a->type, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(value, &a->kv_type, err);
    case OPT_JSON:
        a->json = true;
        return ERR_OK;
    default:
        return sampling_option_take(&a->sampling, option, value, err);
    }
}

static ErrCode parse_args(ExplainArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (ExplainArgs){.kv_type = KERN_F32,
                       .n_tokens = EXPLAIN_TOKENS,
                       .n_best = 5,
                       .sampling = sampling_defaults()};
    a->sampling.temperature = 0.0f;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", explain_options, NULL)) != -1) {
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
    if ((a->prompt == NULL) == (a->ids == NULL))
        return err_set(err, ERR_USAGE,
                       "%s: give either --prompt or --prompt-ids (see %s %s --help)", argv[0],
                       CLI_PROGRAM, argv[0]);
    return cli_no_operands(argc, argv, err);
}

static bool explain_progress(void *ctx, double fraction)
{
    cli_progress(ctx, fraction);
    return !cli_interrupted();
}

static ErrCode print_report(const ExplainArgs *a, const ExplainReport *r, Err *err)
{
    JsonBuf out = {0};
    ErrCode code;

    if (a->json)
        explain_json(&out, r);
    else
        explain_table(&out, r);
    code = out.oom ? err_set(err, ERR_MEMORY, "out of memory") : cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode explain(const ExplainArgs *a, CliLoaded *l, Err *err)
{
    CliPrompt prompt = {.text = NULL};
    Candidates found = {.rows = NULL};
    ErrCode code = a->prompt != NULL
                       ? cli_prompt_of_text(&prompt, "--prompt", a->prompt, "--prompt-ids", l, err)
                       : cli_prompt_of_ids(&prompt, "--prompt-ids", a->ids, l, err);

    if (code == ERR_OK) {
        const CandidatesOptions options = {.model = &l->model,
                                           .k = l->k,
                                           .kv_type = a->kv_type,
                                           .n_vocab = tokenizer_vocab_size(l->tokenizer),
                                           .prompt = prompt.ids,
                                           .n_prompt = prompt.n_ids,
                                           .with_prompt = a->prompt_tokens,
                                           .n_best = (int)a->n_best,
                                           .max_tokens = (int)a->n_tokens,
                                           .sampling = a->sampling,
                                           .progress = {explain_progress, &l->progress}};

        cli_progress_start(&l->progress, "explaining");
        code = candidates_run(&found, &options, err);
        cli_progress_clear(&l->progress);
        if (code == ERR_OK)
            code = print_report(a, &(ExplainReport){&options, l->tokenizer, &found}, err);
    }
    candidates_free(&found);
    cli_prompt_free(&prompt);
    return code;
}

int cli_explain(int argc, char **argv)
{
    ExplainArgs args;
    CliLoaded loaded = {.tokenizer = NULL};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(explain_help);
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code =
            cli_load_text(&loaded, args.model, args.isa, args.has_type ? &args.type : NULL, &err);
    }
    if (code == ERR_OK)
        code = explain(&args, &loaded, &err);
    cli_unload(&loaded);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
