/* cli/eval.c: perplexity of a text, and how far two models are apart on it.
 *
 * May include: common, eval, kernels. */
#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/eval_report.h"
#include "cli/loaded.h"
#include "cli/type_option.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mapped_file.h"
#include "eval/perplexity.h"

enum { EVAL_MAX_BYTES = 256 * 1024 * 1024 };

static const char eval_help[] =
    "usage: llorch-cpud eval [--model PATH] --text FILE [OPTION]...\n"
    "\n"
    "Says how well a model predicts a text: perplexity and bits per byte; and how far another "
    "model,\n"
    "or the same in another type, is from it.\n"
    "\n"
    "  --model PATH          model directory, .safetensors, .gguf or packed file (default: the\n"
    "                        shipped model)\n"
    "  --text FILE           the text; - reads standard input, byte for byte\n"
    "  --context N           inputs of a window (default: the model's context)\n"
    "  --stride N            tokens from one window to the next, 1 to the context (default: half "
    "of "
    "it)\n"
    "  --bos                 put <|endoftext|> in front, so that the first token is predicted too\n"
    "  --limit N             only the first N tokens of the text\n"
    "  --type TYPE           hold the weights as f32, f16, bf16, q8_0 or q4_0 (default: as in the\n"
    "                        file)\n"
    "  --kv-type TYPE        hold keys and values as f32 or f16 (default f32)\n"
    "  --against PATH        compare with this model, which must have the same tokens\n"
    "  --against-type TYPE   hold the other model's weights as this type; without --against the\n"
    "                        other model is the same one\n"
    "  --isa NAME            instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --json                one JSON object instead of the table\n"
    "  --help                this text\n"
    "\n"
    "Every token but the first is predicted once, from at least context - stride tokens before it\n"
    "where the text has them. A smaller stride costs more passes and gives every token more of "
    "its\n"
    "past.\n";

enum {
    OPT_MODEL = 256,
    OPT_TEXT,
    OPT_CONTEXT,
    OPT_STRIDE,
    OPT_BOS,
    OPT_LIMIT,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_AGAINST,
    OPT_AGAINST_TYPE,
    OPT_ISA,
    OPT_JSON
};

static const struct option eval_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"text", required_argument, NULL, OPT_TEXT},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"stride", required_argument, NULL, OPT_STRIDE},
    {"bos", no_argument, NULL, OPT_BOS},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"against", required_argument, NULL, OPT_AGAINST},
    {"against-type", required_argument, NULL, OPT_AGAINST_TYPE},
    {"isa", required_argument, NULL, OPT_ISA},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *text, *against, *isa;
    int64_t context, stride, limit; /* 0: not given */
    bool bos, json, help;
    bool has_type, has_against_type;
    KernType type, against_type, kv_type;
} EvalArgs;

static ErrCode take_option(EvalArgs *a, int option, const char *value, Err *err)
{
    switch (option) {
    case OPT_MODEL:
        a->model = value;
        return ERR_OK;
    case OPT_TEXT:
        a->text = value;
        return ERR_OK;
    case OPT_CONTEXT:
        return cli_parse_int("--context", value, 1, INT32_MAX, &a->context, err);
    case OPT_STRIDE:
        return cli_parse_int("--stride", value, 1, INT32_MAX, &a->stride, err);
    case OPT_BOS:
        a->bos = true;
        return ERR_OK;
    case OPT_LIMIT:
        return cli_parse_int("--limit", value, 1, INT32_MAX, &a->limit, err);
    case OPT_TYPE:
        a->has_type = true;
        return type_option_parse(value, &a->type, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(value, &a->kv_type, err);
    case OPT_AGAINST:
        a->against = value;
        return ERR_OK;
    case OPT_AGAINST_TYPE:
        a->has_against_type = true;
        return type_option_parse(value, &a->against_type, err);
    case OPT_ISA:
        a->isa = value;
        return ERR_OK;
    default:
        a->json = true;
        return ERR_OK;
    }
}

static ErrCode parse_args(EvalArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (EvalArgs){.kv_type = KERN_F32};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", eval_options, NULL)) != -1) {
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
    if (a->text == NULL)
        return err_set(err, ERR_USAGE, "%s: --text is missing (see %s %s --help)", argv[0],
                       CLI_PROGRAM, argv[0]);
    return cli_no_operands(argc, argv, err);
}

/* --- the text --- */

static ErrCode encode(const EvalArgs *a, const Tokenizer *t, const char *text, size_t n,
                      EvalText *out, Err *err)
{
    const int eot = tokenizer_end_of_text(t);
    const size_t n_front = a->bos ? 1 : 0, limit = (size_t)a->limit;
    TokenizerScratch *scratch;

    if (n == 0)
        return err_set(err, ERR_FORMAT, "%s: the text is empty", out->name);
    if (a->bos && eot < 0)
        return err_set(err, ERR_UNSUPPORTED, "--bos: the tokenizer has no <|endoftext|>");
    scratch = tokenizer_scratch_new(n);
    out->ids = malloc((n + n_front) * sizeof *out->ids);
    if (scratch == NULL || out->ids == NULL) {
        tokenizer_scratch_free(scratch);
        return err_set(err, ERR_MEMORY, "%s: no memory for the tokens of %zu bytes", out->name, n);
    }
    out->ids[0] = (int32_t)eot;
    out->n_ids = tokenizer_encode(t, scratch, text, n, false, out->ids + n_front);
    tokenizer_scratch_free(scratch);
    if (limit > 0 && out->n_ids > limit)
        out->n_ids = limit;
    out->n_ids += n_front;
    if (out->n_ids < 2)
        return err_set(err, ERR_FORMAT, "%s: 1 token and nothing before it, expected at least 2",
                       out->name);
    out->n_bytes = perplexity_bytes(t, out->ids, out->n_ids);
    return ERR_OK;
}

static ErrCode read_text(const EvalArgs *a, const Tokenizer *t, EvalText *out, Err *err)
{
    MappedFile file = {.data = NULL};
    char *text = NULL;
    size_t n = 0;
    ErrCode code;

    assert(a->text != NULL); /* parse_args */
    if (strcmp(a->text, "-") == 0) {
        out->name = "standard input";
        code = cli_read_stdin(&text, &n, EVAL_MAX_BYTES, err);
        if (code == ERR_OK)
            code = encode(a, t, text, n, out, err);
        free(text);
        return code;
    }
    out->name = a->text;
    code = mapped_file_open(&file, a->text, EVAL_MAX_BYTES, err);
    if (code == ERR_OK)
        code = encode(a, t, (const char *)file.data, file.size, out, err);
    mapped_file_close(&file);
    return code;
}

/* --- the run --- */

typedef struct {
    CliLoaded model, other; /* other: only with --against or --against-type */
    EvalText text;
} EvalInputs;

static bool eval_progress(void *ctx, double fraction)
{
    cli_progress(ctx, fraction);
    return !cli_interrupted();
}

static bool has_other(const EvalArgs *a)
{
    return a->against != NULL || a->has_against_type;
}

static ErrCode load(const EvalArgs *a, EvalInputs *in, Err *err)
{
    const char *path = a->against != NULL ? a->against : a->model;
    ErrCode code = cli_load_text(&in->model, a->model, a->isa, a->has_type ? &a->type : NULL, err);

    if (code != ERR_OK || !has_other(a))
        return code;
    code =
        cli_load_text(&in->other, path, a->isa, a->has_against_type ? &a->against_type : NULL, err);
    if (code != ERR_OK)
        return code;
    return divergence_same_tokens(in->model.tokenizer, in->other.tokenizer, in->model.model.path,
                                  in->other.model.path, err);
}

static WindowsPlan make_plan(const EvalArgs *a, EvalInputs *in)
{
    WindowsPlan plan = {.models = {&in->model.model, &in->other.model},
                        .n_models = has_other(a) ? 2 : 1,
                        .k = in->model.k,
                        .kv_type = a->kv_type,
                        .ids = in->text.ids,
                        .n_ids = in->text.n_ids,
                        .context = (int)a->context,
                        .stride = (int)a->stride,
                        .n_vocab = tokenizer_vocab_size(in->model.tokenizer),
                        .progress = {eval_progress, &in->model.progress}};

    if (plan.context == 0)
        plan.context = plan.models[0]->config.n_ctx;
    if (a->context == 0 && plan.n_models == 2 && plan.models[1]->config.n_ctx < plan.context)
        plan.context = plan.models[1]->config.n_ctx;
    if (plan.stride == 0)
        plan.stride = (plan.context + 1) / 2;
    return plan;
}

static ErrCode print_report(const EvalArgs *a, const EvalReport *r, Err *err)
{
    JsonBuf out = {0};
    ErrCode code;

    if (a->json)
        eval_json(&out, r);
    else
        eval_table(&out, r);
    code = out.oom ? err_set(err, ERR_MEMORY, "out of memory") : cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode evaluate(const EvalArgs *a, EvalInputs *in, Err *err)
{
    const WindowsPlan plan = make_plan(a, in);
    EvalReport report = {.plan = &plan, .text = &in->text, .bos = a->bos};
    const uint64_t start_ns = clock_now_ns();
    ErrCode code;

    cli_progress_start(&in->model.progress, "evaluating");
    if (plan.n_models == 2)
        code = divergence_run(&report.divergence, &plan, err);
    else
        code = perplexity_run(&report.divergence.nll[0], &plan, err);
    cli_progress_clear(&in->model.progress);
    report.seconds = (double)(clock_now_ns() - start_ns) / 1e9;
    return code == ERR_OK ? print_report(a, &report, err) : code;
}

int cli_eval(int argc, char **argv)
{
    EvalArgs args;
    EvalInputs in = {.text = {.ids = NULL}};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(eval_help);
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code = load(&args, &in, &err);
    }
    if (code == ERR_OK)
        code = read_text(&args, in.model.tokenizer, &in.text, &err);
    if (code == ERR_OK)
        code = evaluate(&args, &in, &err);
    free(in.text.ids);
    cli_unload(&in.other);
    cli_unload(&in.model);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
