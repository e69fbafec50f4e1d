/* cli/quantize.c: writes a model as a GGUF file with weights of another type, for this program and
 * others.
 *
 * May include: common, model. */
#include "cli/cli.h"
#include "cli/convert.h"
#include "cli/write_model.h"

static const char quantize_help[] =
    "usage: llorch-cpud quantize [--model PATH] --type TYPE [--embedding-type TYPE] --out FILE\n"
    "\n"
    "Writes a model as a GGUF file (version 3, architecture gpt2) with weights of another type.\n"
    "\n"
    "  --model PATH            model directory, .safetensors or .gguf file (default: the shipped\n"
    "                          model)\n"
    "  --type TYPE             f32, f16, bf16, q8_0 or q4_0. Norms, biases and positions stay "
    "f32;\n"
    "                          rows that q8_0 and q4_0 cannot cut into blocks of 32 become f16\n"
    "  --embedding-type TYPE   of the token embedding and the head (default: as --type says; q8_0\n"
    "                          for q4_0)\n"
    "  --out FILE              the new file; replaces one of that name once it is complete\n"
    "  --help                  this text\n";

static ErrCode write_gguf(Conversion *c, const ConvertArgs *a, Err *err)
{
    const Gpt2Progress progress = {convert_progress, c};

    cli_progress_start(&c->progress, "writing the file");
    const ErrCode code = write_model_gguf(&c->model, c->tokenizer, a->type, a->out, &progress, err);
    cli_progress_clear(&c->progress);
    return code;
}

static ErrCode parse_args(ConvertArgs *a, int argc, char **argv, Err *err)
{
    const ErrCode code = convert_parse(a, argc, argv, err);

    if (code == ERR_OK && !a->help && !a->has_type)
        return err_set(err, ERR_USAGE, "%s: --type is missing: f32, f16, bf16, q8_0 or q4_0",
                       argv[0]);
    return code;
}

int cli_quantize(int argc, char **argv)
{
    Conversion c = {.tokenizer = NULL};
    ConvertArgs args;
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(quantize_help);
    cli_catch_interrupt();
    if (code == ERR_OK)
        code = convert_load(&c, &args, &err);
    if (code == ERR_OK)
        code = write_model_gguf_check(&c.model, &err);
    if (code == ERR_OK)
        code = write_gguf(&c, &args, &err);
    if (code == ERR_OK)
        code = convert_print_summary(&c.model, args.out, &err);
    convert_free(&c);
    return convert_status(code, &err);
}
