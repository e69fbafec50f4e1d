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

ErrCode cli_load(CliLoaded *l, const char *given, const char *isa, Err *err)
{
    const Gpt2LoadOptions options = {.progress = {cli_loaded_progress, l}};
    char path[CLI_PATH_BYTES];
    ErrCode code = cli_model_path(path, sizeof path, given, err);

    if (code == ERR_OK)
        code = kernels_select(&l->k, cli_isa(isa), err);
    if (code != ERR_OK)
        return code;
    cli_progress_start(&l->progress, "loading the model");
    code = gpt2_load(&l->model, path, &options, err);
    cli_progress_clear(&l->progress);
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

static ErrCode load_text_tokenizer(CliLoaded *l, Err *err)
{
    const ErrCode code = tokenizer_load(&l->tokenizer, l->model.path, err);

    if (code != ERR_OK)
        return code;
    if (tokenizer_vocab_size(l->tokenizer) > l->model.config.vocab_size)
        return err_set(err, ERR_FORMAT, "%s: the tokenizer has %d tokens, the model only %d rows",
                       l->model.path, tokenizer_vocab_size(l->tokenizer),
                       l->model.config.vocab_size);
    config_name_eos(&l->model.config, tokenizer_end_of_text(l->tokenizer));
    return ERR_OK;
}

ErrCode cli_load_text(CliLoaded *l, const char *given, const char *isa, const KernType *type,
                      Err *err)
{
    const Gpt2LoadOptions options = {.convert = type != NULL,
                                     .type = type != NULL ? *type : KERN_F32,
                                     .progress = {text_progress, l}};
    char path[CLI_PATH_BYTES];
    ErrCode code = cli_model_path(path, sizeof path, given, err);

    if (code == ERR_OK)
        code = kernels_select(&l->k, cli_isa(isa), err);
    if (code != ERR_OK)
        return code;
    cli_progress_start(&l->progress, "loading the model");
    code = gpt2_load(&l->model, path, &options, err);
    cli_progress_clear(&l->progress);
    if (code == ERR_OK)
        code = load_text_tokenizer(l, err);
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
