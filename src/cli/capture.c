/* cli/capture.c: writes every tensor of the checkpoints, for one prompt, as .npy files.
 *
 * May include: common, checkpoint, model. */
#include <getopt.h>

#include "checkpoint/capture.h"
#include "checkpoint/dump.h"
#include "cli/cli.h"
#include "cli/loaded.h"
#include "cli/prompt.h"

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

static ErrCode write_capture(CliLoaded *l, const CliPrompt *p, const char *dir, Err *err)
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
    CliPrompt prompt = {.text = NULL};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(capture_help);
    if (code == ERR_OK)
        code = cli_load(&loaded, args.model, args.isa, &err);
    if (code == ERR_OK)
        code = args.ids != NULL
                   ? cli_prompt_of_ids(&prompt, "--ids", args.ids, &loaded, &err)
                   : cli_prompt_of_text(&prompt, "--prompt", args.prompt, "--ids", &loaded, &err);
    if (code == ERR_OK)
        code = write_capture(&loaded, &prompt, args.out, &err);
    cli_prompt_free(&prompt);
    cli_unload(&loaded);
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
