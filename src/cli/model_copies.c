/* cli/model_copies.c: see model_copies.h.
 *
 * May include: common, checkpoint, kernels, model. */
#include "cli/model_copies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/write_model.h"

enum { FILE_BYTES = CLI_PATH_BYTES + 16 };

typedef ErrCode Write(const ModelCopies *c, Gpt2 *m, const char *path, Err *err);

static ErrCode write_gguf(const ModelCopies *c, Gpt2 *m, const char *path, Err *err)
{
    const ErrCode code = write_model_gguf_check(m, err);

    return code == ERR_OK
               ? write_model_gguf(m, c->tokenizer, m->head.w.type, path, &c->progress, err)
               : code;
}

static ErrCode write_packed(const ModelCopies *c, Gpt2 *m, const char *path, Err *err)
{
    return write_model_packed(m, c->tokenizer, path, &c->progress, err);
}

/* Loads from, written by write. A packed file stays mapped without its name. */
static ErrCode through_file(const ModelCopies *c, Gpt2 *m, Gpt2 *from, Write *write,
                            const Gpt2LoadOptions *o, Err *err)
{
    char path[FILE_BYTES];

    (void)snprintf(path, sizeof path, "%s/copy", c->folder);
    ErrCode code = write(c, from, path, err);
    if (code != ERR_OK)
        return code;
    code = gpt2_load(m, path, o, err);
    (void)unlink(path);
    return code;
}

static ErrCode open_gguf(void *ctx, Gpt2 *m, Err *err)
{
    const ModelCopies *c = ctx;
    const Gpt2LoadOptions o = {.progress = c->progress};

    return through_file(c, m, c->model, write_gguf, &o, err);
}

static ErrCode open_packed(void *ctx, Gpt2 *m, Err *err)
{
    const ModelCopies *c = ctx;
    const Gpt2LoadOptions o = {.progress = c->progress};

    return through_file(c, m, c->model, write_packed, &o, err);
}

/* From the file of the model itself, unless that is packed (there is nothing to convert then) or
 * has other types than the model in memory. */
static ErrCode open_f32(void *ctx, Gpt2 *m, Err *err)
{
    const ModelCopies *c = ctx;
    const Gpt2LoadOptions o = {.convert = true, .type = KERN_F32, .progress = c->progress};

    const bool direct =
        c->model->packed == NULL && strcmp(c->model->types, c->model->file_types) == 0;

    return !direct ? through_file(c, m, c->model, write_gguf, &o, err)
                   : gpt2_load(m, c->model->path, &o, err);
}

static ErrCode open_packed_f32(void *ctx, Gpt2 *m, Err *err)
{
    const ModelCopies *c = ctx;
    const Gpt2LoadOptions o = {.progress = c->progress};
    Gpt2 widened = {0};
    ErrCode code = open_f32(ctx, &widened, err);

    if (code == ERR_OK)
        code = through_file(c, m, &widened, write_packed, &o, err);
    gpt2_free(&widened);
    return code;
}

static ErrCode make_folder(ModelCopies *c, Err *err)
{
    const char *tmp = getenv("TMPDIR");
    char name[CLI_PATH_BYTES];
    const int n = snprintf(name, sizeof name, "%s/llorch-copies-XXXXXX",
                           tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");

    if (n < 0 || (size_t)n >= sizeof name)
        return err_set(err, ERR_USAGE, "TMPDIR is longer than %zu bytes", sizeof name);
    if (mkdtemp(name) == NULL)
        return err_set(err, ERR_IO, "%s: %s", name, strerror(errno));
    memcpy(c->folder, name, sizeof c->folder);
    return ERR_OK;
}

static void add(ModelCopies *c, DeterminismOptions *o, const char *name,
                ErrCode (*open)(void *ctx, Gpt2 *m, Err *err))
{
    o->copies[o->n_copies++] = (DeterminismCopy){.name = name, .open = open, .ctx = c};
}

ErrCode model_copies_list(ModelCopies *c, DeterminismOptions *o, Err *err)
{
    const ErrCode code = make_folder(c, err);

    if (code != ERR_OK)
        return code;
    add(c, o, "copy: GGUF, same types", open_gguf);
    add(c, o, "copy: packed, same types", open_packed);
    if (strchr(c->model->types, 'Q') == NULL && strcmp(c->model->types, "F32") != 0) {
        add(c, o, "copy: converted to F32 at load", open_f32);
        add(c, o, "copy: packed as F32", open_packed_f32);
    }
    return ERR_OK;
}

void model_copies_free(ModelCopies *c)
{
    if (c->folder[0] != '\0')
        (void)rmdir(c->folder);
    *c = (ModelCopies){.model = NULL};
}
