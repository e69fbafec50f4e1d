/* checkpoint/dump.c: what `capture` leaves on disk.
 *
 * May include: common, formats, model, layers, kernels. */
#include "checkpoint/dump.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/new_file.h"
#include "formats/npy.h"
#include "kernels/pack.h"

enum { DUMP_PATH_BYTES = 4096 };

#define DUMP_METADATA "metadata.json"

static ErrCode join(char out[DUMP_PATH_BYTES], const char *dir, const char *name,
                    const char *suffix, Err *err)
{
    const int n = snprintf(out, DUMP_PATH_BYTES, "%s/%s%s", dir, name, suffix);

    if (n < 0 || n >= DUMP_PATH_BYTES)
        return err_set(err, ERR_IO, "%s: %s", dir, strerror(ENAMETOOLONG));
    return ERR_OK;
}

/* mkdir -p. A name that exists is fine here; that it is a writable directory shows with the first
 * file. */
static ErrCode make_dir(const char *dir, Err *err)
{
    char path[DUMP_PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s", dir);
    struct stat st;

    if (n < 1 || n >= DUMP_PATH_BYTES)
        return err_set(err, ERR_IO, "%s: %s", dir, strerror(n < 1 ? ENOENT : ENAMETOOLONG));
    for (char *p = path + 1; *p != '\0'; p++)
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0777);
            *p = '/';
        }
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_IO, "%s: %s", dir, strerror(errno));
    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: %s", dir, strerror(ENOTDIR));
    return ERR_OK;
}

void dump_weight_row(const DumpWeight *w, size_t i, float *out)
{
    const size_t n_cols = w->dims[w->n_dims - 1];

    switch (w->order) {
    case DUMP_PLAIN:
        memcpy(out, w->data + i * n_cols, n_cols * sizeof *out);
        break;
    case DUMP_OUT_IN:
        kern_unpack_row(out, w->matrix, i);
        break;
    case DUMP_IN_OUT: /* row i holds input i of every output */
        kern_unpack_column(out, w->matrix, i);
        break;
    }
}

static DumpWeight vector(int checkpoint, const char *name, const float *data, int n)
{
    return (DumpWeight){name, checkpoint, 1, {(size_t)n, 0}, data, NULL, DUMP_PLAIN};
}

static DumpWeight projection(int checkpoint, const char *name, const Linear *l)
{
    const size_t n_in = (size_t)l->w.k, n_out = (size_t)l->w.n;

    return (DumpWeight){name, checkpoint, 2, {n_in, n_out}, NULL, &l->w, DUMP_IN_OUT};
}

void dump_list_weights(const Gpt2 *m, DumpWeight weights[DUMP_WEIGHTS])
{
    const TransformerBlock *b = &m->blocks[0];
    const Linear *qkv = &b->attention.qkv.c_attn, *merge = &b->attention.output.c_proj;
    const Linear *fc = &b->ffn.c_fc, *proj = &b->ffn.c_proj;
    const size_t dim = (size_t)m->config.dim, n_vocab = (size_t)m->config.vocab_size;
    const DumpWeight all[DUMP_WEIGHTS] = {
        {"token_embeddings", 1, 2, {n_vocab, dim}, NULL, &m->embedding.wte, DUMP_OUT_IN},
        {"position_embeddings",
         1,
         2,
         {(size_t)m->config.n_ctx, dim},
         m->embedding.wpe,
         NULL,
         DUMP_PLAIN},
        vector(1, "h0_ln_1_weight", b->ln_1.gamma, b->ln_1.dim),
        vector(1, "h0_ln_1_bias", b->ln_1.beta, b->ln_1.dim),
        projection(2, "h0_c_attn_weight", qkv),
        vector(2, "h0_c_attn_bias", qkv->bias, qkv->w.n),
        projection(5, "h0_c_proj_weight", merge),
        vector(5, "h0_c_proj_bias", merge->bias, merge->w.n),
        vector(5, "h0_ln_2_weight", b->ln_2.gamma, b->ln_2.dim),
        vector(5, "h0_ln_2_bias", b->ln_2.beta, b->ln_2.dim),
        projection(6, "h0_c_fc_weight", fc),
        vector(6, "h0_c_fc_bias", fc->bias, fc->w.n),
        projection(6, "h0_ffn_c_proj_weight", proj),
        vector(6, "h0_ffn_c_proj_bias", proj->bias, proj->w.n),
    };

    memcpy(weights, all, sizeof all);
}

/* dump_weight_row in the shape that npy_write_rows calls. */
static void npy_row(void *ctx, size_t i, float *out)
{
    const DumpWeight *w = ctx;

    dump_weight_row(w, i, out);
}

static ErrCode write_weights(const Gpt2 *m, const char *dir, float *room, Err *err)
{
    DumpWeight weights[DUMP_WEIGHTS];
    char path[DUMP_PATH_BYTES];
    ErrCode code = ERR_OK;

    dump_list_weights(m, weights);
    for (int i = 0; code == ERR_OK && i < DUMP_WEIGHTS; i++) {
        DumpWeight *w = &weights[i];

        code = join(path, dir, w->name, ".npy", err);
        if (code == ERR_OK && w->n_dims == 1)
            code = npy_write(path, w->data, 1, w->dims, err);
        else if (code == ERR_OK)
            code = npy_write_rows(path, w->dims[0], w->dims[1], npy_row, w, room, err);
    }
    return code;
}

static ErrCode write_tensors(const Capture *c, const char *dir, Err *err)
{
    char path[DUMP_PATH_BYTES];

    for (int i = 0; i < c->n_tensors; i++) {
        const CaptureTensor *t = &c->tensors[i];
        ErrCode code = join(path, dir, t->name, ".npy", err);

        if (code == ERR_OK)
            code = npy_write(path, t->view.data, t->view.n_dims, t->view.dims, err);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

static void metadata_text(JsonBuf *b, const Capture *c, const char *prompt, size_t n_prompt)
{
    const Gpt2Config *config = &c->model->config;
    DumpWeight weights[DUMP_WEIGHTS];

    json_buf_printf(b, "{\n \"model\": ");
    json_buf_string(b, c->model->name, strlen(c->model->name));
    json_buf_printf(b, ",\n \"source\": \"llorch-cpud %s, float32, %s kernels\"", LLORCH_VERSION,
                    c->k->name);
    json_buf_printf(b, ",\n \"prompt\": ");
    json_buf_string(b, prompt, n_prompt);
    json_buf_printf(b, ",\n \"tokens\": [");
    for (int i = 0; i < c->n_ids; i++)
        json_buf_printf(b, "%s%d", i > 0 ? ", " : "", (int)c->ids[i]);
    json_buf_printf(b,
                    "],\n \"hidden_size\": %d,\n \"n_heads\": %d,\n \"head_dim\": %d,\n"
                    " \"n_layers\": %d,\n \"vocab_size\": %d,\n \"temperature\": %g,\n"
                    " \"files\": [\n",
                    config->dim, config->n_heads, config->head_dim, config->n_layers,
                    config->vocab_size, (double)CAPTURE_TEMPERATURE);
    for (int i = 0; i < c->n_tensors; i++)
        json_buf_printf(b, "  \"%s.npy\",\n", c->tensors[i].name);
    dump_list_weights(c->model, weights);
    for (int i = 0; i < DUMP_WEIGHTS; i++)
        json_buf_printf(b, "  \"%s.npy\"%s\n", weights[i].name, i + 1 < DUMP_WEIGHTS ? "," : "");
    json_buf_printf(b, " ]\n}\n");
}

static ErrCode write_text(const char *path, const char *data, size_t n, Err *err)
{
    NewFile f;
    const ErrCode code = new_file_open(&f, path, err);

    if (code != ERR_OK)
        return code;
    (void)new_file_write(&f, data, n);
    return new_file_commit(&f, err);
}

static ErrCode write_metadata(const Capture *c, const char *path, const char *prompt,
                              size_t n_prompt, Err *err)
{
    JsonBuf text = {0};
    ErrCode code;

    metadata_text(&text, c, prompt, n_prompt);
    if (text.oom)
        code = err_set(err, ERR_MEMORY, "%s: out of memory", path);
    else
        code = write_text(path, text.data, text.len, err);
    json_buf_free(&text);
    return code;
}

ErrCode dump_write(const Capture *c, const char *dir, const char *prompt, size_t n_prompt, Err *err)
{
    const Gpt2Config *config = &c->model->config;
    const int widest = config->ffn_dim > 3 * config->dim ? config->ffn_dim : 3 * config->dim;
    char metadata[DUMP_PATH_BYTES];
    Arena room = {0};
    ErrCode code = join(metadata, dir, DUMP_METADATA, "", err);

    if (code == ERR_OK)
        code = make_dir(dir, err);
    if (code == ERR_OK && unlink(metadata) != 0 && errno != ENOENT)
        code = err_set(err, ERR_IO, "%s: %s", metadata, strerror(errno));
    if (code == ERR_OK)
        code = arena_init(&room, (size_t)widest * sizeof(float), "one row of weights", err);
    if (code != ERR_OK)
        return code;
    code = write_tensors(c, dir, err);
    if (code == ERR_OK)
        code = write_weights(c->model, dir, arena_alloc(&room, (size_t)widest, sizeof(float)), err);
    arena_free(&room);
    if (code == ERR_OK)
        code = write_metadata(c, metadata, prompt, n_prompt, err);
    return code;
}
