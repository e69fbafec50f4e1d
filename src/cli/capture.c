/* cli/capture.c: writes every tensor of the checkpoints, for one prompt, as .npy files.
 *
 * May include: common, checkpoint, model. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/capture.h"
#include "checkpoint/dump.h"
#include "checkpoint/greedy.h"
#include "cli/cli.h"
#include "cli/loaded.h"
#include "common/json.h"

static const char capture_help[] =
    "usage: llorch-cpud capture [--model PATH] (--prompt TEXT | --ids 1,2,3) --out DIR\n"
    "\n"
    "Computes a prompt and writes the tensors of checkpoints 1 to 11, the weights of block 0 and\n"
    "metadata.json, in the format that verify --reference reads.\n"
    "\n"
    "  --model PATH     model directory, .safetensors, .gguf or packed file (default: the\n"
    "                   shipped model)\n"
    "  --prompt TEXT    the text; - reads standard input, byte for byte\n"
    "  --ids LIST       token ids instead of a text, separated by commas\n"
    "  --out DIR        where to; made when it is missing\n"
    "  --isa NAME       instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --help           this text\n";

enum { OPT_MODEL = 256, OPT_PROMPT, OPT_IDS, OPT_OUT, OPT_ISA };

static const struct option capture_options[] = {{"model", required_argument, NULL, OPT_MODEL},
                                                {"prompt", required_argument, NULL, OPT_PROMPT},
                                                {"ids", required_argument, NULL, OPT_IDS},
                                                {"out", required_argument, NULL, OPT_OUT},
                                                {"isa", required_argument, NULL, OPT_ISA},
                                                {"help", no_argument, NULL, 'h'},
                                                {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *prompt, *ids, *out, *isa;
    bool help;
} CaptureArgs;

/* The prompt as text and as ids, whichever of them was given first. */
typedef struct {
    char *stdin_text;   /* owned, or NULL */
    int32_t *given_ids; /* owned, or NULL */
    Arena encoded;
    JsonBuf decoded;
    const char *text;
    size_t n_text;
    const int32_t *ids;
    int n_ids;
} Prompt;

static ErrCode parse_args(CaptureArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (CaptureArgs){.help = false};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", capture_options, NULL)) != -1) {
        switch (option) {
        case OPT_MODEL:
            a->model = optarg;
            break;
        case OPT_PROMPT:
            a->prompt = optarg;
            break;
        case OPT_IDS:
            a->ids = optarg;
            break;
        case OPT_OUT:
            a->out = optarg;
            break;
        case OPT_ISA:
            a->isa = optarg;
            break;
        case 'h':
            a->help = true;
            return ERR_OK;
        default:
            return cli_bad_option(argv, option, err);
        }
    }
    if (optind < argc)
        return cli_no_operands(argc, argv, err);
    if ((a->prompt == NULL) == (a->ids == NULL))
        return err_set(err, ERR_USAGE, "%s: give either --prompt or --ids (see %s %s --help)",
                       argv[0], CLI_PROGRAM, argv[0]);
    if (a->out == NULL || a->out[0] == '\0')
        return err_set(err, ERR_USAGE, "%s: --out DIR is missing (see %s %s --help)", argv[0],
                       CLI_PROGRAM, argv[0]);
    return ERR_OK;
}

static ErrCode ids_of_text(Prompt *p, const CaptureArgs *a, const CliLoaded *l, Err *err)
{
    p->text = a->prompt;
    p->n_text = strlen(a->prompt);
    if (strcmp(a->prompt, "-") == 0) {
        const ErrCode code = cli_read_stdin(&p->stdin_text, &p->n_text, GREEDY_MAX_TEXT_BYTES, err);

        if (code != ERR_OK)
            return code;
        p->text = p->stdin_text;
    }
    if (p->n_text == 0)
        return err_set(err, ERR_USAGE, "--prompt: prompt must not be empty");
    if (l->tokenizer == NULL)
        return err_set(err, ERR_USAGE, "--prompt: the model has no tokenizer; --ids works");
    return greedy_encode(l->tokenizer, p->text, p->n_text, &p->encoded, &p->ids, &p->n_ids, err);
}

/* The text of --ids is only for metadata.json; without a tokenizer it stays empty. */
static ErrCode text_of_ids(Prompt *p, const CaptureArgs *a, const CliLoaded *l, Err *err)
{
    size_t n = 0;
    ErrCode code = cli_parse_ids("--ids", a->ids, l->model.config.vocab_size - 1,
                                 (size_t)l->model.config.n_ctx, &p->given_ids, &n, err);

    if (code != ERR_OK)
        return code;
    p->ids = p->given_ids;
    p->n_ids = (int)n;
    /* A padded vocabulary has ids that no tokenizer knows. */
    if (l->tokenizer != NULL &&
        greedy_text(l->tokenizer, p->ids, p->n_ids, &p->decoded, &(Err){0}) == ERR_OK) {
        p->text = p->decoded.data;
        p->n_text = p->decoded.len;
    }
    return ERR_OK;
}

static void prompt_free(Prompt *p)
{
    free(p->stdin_text);
    free(p->given_ids);
    arena_free(&p->encoded);
    json_buf_free(&p->decoded);
}

static ErrCode write_capture(CliLoaded *l, const Prompt *p, const char *dir, Err *err)
{
    const Gpt2Progress progress = {cli_loaded_progress, l};
    Capture c = {.n_ids = 0};
    ErrCode code;

    cli_progress_start(&l->progress, "computing the prompt");
    code = capture_run(&c, &l->model, l->k, p->ids, p->n_ids, 0, &progress, err);
    cli_progress_clear(&l->progress);
    if (code == ERR_OK)
        code = dump_write(&c, dir, p->text != NULL ? p->text : "", p->n_text, err);
    capture_free(&c);
    return code;
}

int cli_capture(int argc, char **argv)
{
    CaptureArgs args;
    CliLoaded loaded = {.tokenizer = NULL};
    Prompt prompt = {.text = NULL};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(capture_help);
    if (code == ERR_OK)
        code = cli_load(&loaded, args.model, args.isa, &err);
    if (code == ERR_OK)
        code = args.ids != NULL ? text_of_ids(&prompt, &args, &loaded, &err)
                                : ids_of_text(&prompt, &args, &loaded, &err);
    if (code == ERR_OK)
        code = write_capture(&loaded, &prompt, args.out, &err);
    prompt_free(&prompt);
    cli_unload(&loaded);
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
