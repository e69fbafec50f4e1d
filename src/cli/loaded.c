/* cli/loaded.c: loads what capture, verify, explain and eval work on.
 *
 * May include: common, kernels, model, tokenizer. */
#include "cli/loaded.h"

bool cli_loaded_progress(void *ctx, double fraction)
{
    CliLoaded *l = ctx;

    cli_progress(&l->progress, fraction);
    return true;
}

/* Numbers can be compared without text, so a folder that simply has no tokenizer files is enough.
 */
static ErrCode load_tokenizer(CliLoaded *l, Err *err)
{
    const ErrCode code = tokenizer_load(&l->tokenizer, l->model.path, err);

    if (code != ERR_IO)
        return code;
    (void)fprintf(stderr, CLI_PROGRAM ": without a tokenizer: %s\n", err->msg);
    *err = (Err){.code = ERR_OK};
    return ERR_OK;
}

static ErrCode load_model(CliLoaded *l, const char *given, const char *isa,
                          const Gpt2LoadOptions *options, Err *err)
{
    char path[CLI_PATH_BYTES];
    ErrCode code = cli_model_path(path, sizeof path, given, err);

    if (code == ERR_OK)
        code = kernels_select(&l->k, cli_isa(isa), err);
    if (code != ERR_OK)
        return code;
    cli_progress_start(&l->progress, "loading the model");
    code = gpt2_load(&l->model, path, options, err);
    cli_progress_clear(&l->progress);
    return code;
}

ErrCode cli_load(CliLoaded *l, const char *given, const char *isa, Err *err)
{
    const Gpt2LoadOptions options = {.progress = {cli_loaded_progress, l}};
    ErrCode code = load_model(l, given, isa, &options, err);

    if (code == ERR_OK)
        code = load_tokenizer(l, err);
    if (code != ERR_OK)
        cli_unload(l);
    return code;
}

static bool text_progress(void *ctx, double fraction)
{
    return cli_loaded_progress(ctx, fraction) && !cli_interrupted();
}

ErrCode cli_load_text(CliLoaded *l, const char *given, const char *isa, const KernType *type,
                      Err *err)
{
    const Gpt2LoadOptions options = {.convert = type != NULL,
                                     .type = type != NULL ? *type : KERN_F32,
                                     .progress = {text_progress, l}};
    ErrCode code = load_model(l, given, isa, &options, err);

    if (code == ERR_OK)
        code = tokenizer_load(&l->tokenizer, l->model.path, err);
    if (code == ERR_OK)
        code = gpt2_fit_tokenizer(&l->model, tokenizer_vocab_size(l->tokenizer),
                                  tokenizer_end_of_text(l->tokenizer), err);
    if (code != ERR_OK)
        cli_unload(l);
    return code;
}

void cli_unload(CliLoaded *l)
{
    tokenizer_free(l->tokenizer);
    gpt2_free(&l->model);
    *l = (CliLoaded){.tokenizer = NULL};
}
