/* cli/pack.c: writes a model, its tokenizer included, as the kernels read it, so that serving maps
 * the file and computes.
 *
 * May include: common, model. */
#include "cli/cli.h"
#include "cli/convert.h"
#include "cli/write_model.h"

static const char pack_help[] =
    "usage: llorch-cpud pack [--model PATH] [--type TYPE] [--embedding-type TYPE] --out FILE\n"
    "\n"
    "Writes a model as one packed file: the weights as the kernels read them, the configuration\n"
    "and the tokenizer. Workers that serve it are ready at once, and share its memory.\n"
    "\n"
    "  --model PATH            model directory, .safetensors, .gguf or packed file (default: the\n"
    "                          shipped model)\n"
    "  --type TYPE             f32, f16, bf16, q8_0 or q4_0 (default: as in the model)\n"
    "  --embedding-type TYPE   of the token embedding and the head (default: as --type says; q8_0\n"
    "                          for q4_0)\n"
    "  --out FILE              the new file; replaces one of that name once it is complete\n"
    "  --help                  this text\n";

static ErrCode write_packed(Conversion *c, const char *path, Err *err)
{
    const Gpt2Progress progress = {convert_progress, c};

    cli_progress_start(&c->progress, "writing the file");
    const ErrCode code = write_model_packed(&c->model, c->tokenizer, path, &progress, err);
    cli_progress_clear(&c->progress);
    return code;
}

int cli_pack(int argc, char **argv)
{
    Conversion c = {.tokenizer = NULL};
    ConvertArgs args;
    Err err = {0};
    ErrCode code = convert_parse(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(pack_help);
    cli_catch_interrupt();
    if (code == ERR_OK)
        code = convert_load(&c, &args, &err);
    if (code == ERR_OK)
        code = write_packed(&c, args.out, &err);
    if (code == ERR_OK)
        code = convert_print_summary(&c.model, args.out, &err);
    convert_free(&c);
    return convert_status(code, &err);
}
