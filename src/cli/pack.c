/* cli/pack.c: writes a model, its tokenizer included, as the kernels read it, so that serving maps
 * the file and computes.
 *
 * May include: common, model, tokenizer. */
#include <assert.h>

#include "cli/cli.h"
#include "cli/convert.h"
#include "model/gpt2_pack.h"

static_assert((int)TOKENIZER_N_PARTS <= (int)GPT2_PACK_MAX_PARTS, "the tokenizer's parts fit");

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
    Gpt2PackExtra extra = {.n_parts = TOKENIZER_N_PARTS, .text_key = TOKENIZER_TEXT_KEY};
    TokenizerPart parts[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];

    tokenizer_parts(c->tokenizer, parts, text);
    extra.text = text;
    for (size_t i = 0; i < TOKENIZER_N_PARTS; i++)
        extra.parts[i] = (Gpt2PackPart){.name = parts[i].name,
                                        .dtype = parts[i].dtype,
                                        .n = parts[i].n,
                                        .data = parts[i].data,
                                        .n_bytes = parts[i].n_bytes};
    cli_progress_start(&c->progress, "writing the file");
    const ErrCode code = gpt2_pack_write(&c->model, path, &extra, &progress, err);
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
