/* model/gpt2_load.c: from a model directory to packed weights: every tensor is found by name, its
 * shape and type are checked, its values must be finite; then it is widened, packed and its file
 * pages are given back.
 *
 * May include: common, kernels, layers, formats. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "formats/safetensors.h"
#include "kernels/pack.h"
#include "layers/attention/scores.h"
#include "model/gpt2.h"

enum { NAME_BYTES = 96 };

typedef struct {
    Gpt2 *m;
    const Safetensors *st;
    bool prefixed; /* names begin with "transformer." */
    const Gpt2Progress *progress;
    size_t done_bytes, total_bytes; /* of packed weights, for the progress */
    bool seen[3];                   /* by KernType */
    Err *err;
} Loader;

static const char *const type_names[] = {
    [KERN_F32] = "F32", [KERN_F16] = "F16", [KERN_BF16] = "BF16"};

/* ---- Finding and checking tensors ---- */

static void shape_text(char *out, size_t size, const size_t *dims, int n_dims)
{
    size_t len = (size_t)snprintf(out, size, "[");

    for (int i = 0; i < n_dims && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%zu", i > 0 ? ", " : "", dims[i]);
    if (len < size)
        (void)snprintf(out + len, size - len, "]");
}

static const StTensor *find(const Loader *l, const char *name)
{
    char full[NAME_BYTES + 16];

    (void)snprintf(full, sizeof full, "%s%s", l->prefixed ? "transformer." : "", name);
    return safetensors_find(l->st, full);
}

static ErrCode kern_type_of(const StTensor *t, KernType *type, Err *err)
{
    switch (t->dtype) {
    case ST_F32:
        *type = KERN_F32;
        return ERR_OK;
    case ST_F16:
        *type = KERN_F16;
        return ERR_OK;
    case ST_BF16:
        *type = KERN_BF16;
        return ERR_OK;
    default:
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s: type %s, expected F32, F16 or BF16",
                       t->file, t->name, t->dtype_name);
    }
}

/* A tensor that must be there, with exactly this shape (cols 0: one dimension). */
static const StTensor *require(Loader *l, const char *name, size_t rows, size_t cols,
                               KernType *type)
{
    const size_t want[2] = {rows, cols};
    const int n_want = cols > 0 ? 2 : 1;
    const StTensor *t = find(l, name);
    char found[128], expected[64];

    if (t == NULL) {
        (void)err_set(l->err, ERR_FORMAT, "%s: tensor %s%s is missing", l->m->dir,
                      l->prefixed ? "transformer." : "", name);
        return NULL;
    }
    if (t->n_dims != n_want || memcmp(t->dims, want, (size_t)n_want * sizeof want[0]) != 0) {
        shape_text(found, sizeof found, t->dims, t->n_dims);
        shape_text(expected, sizeof expected, want, n_want);
        (void)err_set(l->err, ERR_FORMAT, "%s: tensor %s: shape %s, expected %s", t->file, t->name,
                      found, expected);
        return NULL;
    }
    if (kern_type_of(t, type, l->err) != ERR_OK)
        return NULL;
    l->seen[*type] = true;
    return t;
}

static bool not_finite(const Loader *l, const StTensor *t, size_t index)
{
    (void)err_set(l->err, ERR_NUMERIC, "%s: tensor %s: element %zu is not finite", t->file, t->name,
                  index);
    return false;
}

static bool report(Loader *l, size_t bytes)
{
    const Gpt2Progress *p = l->progress;

    l->done_bytes += bytes;
    if (p == NULL || p->progress == NULL ||
        p->progress(p->ctx, (double)l->done_bytes / (double)l->total_bytes))
        return true;
    (void)err_set(l->err, ERR_CANCELLED, "loading was stopped");
    return false;
}

/* ---- Taking tensors over ---- */

static float *take(Loader *l, size_t count)
{
    float *p = arena_alloc(&l->m->arena, count, sizeof(float));

    if (p == NULL)
        (void)err_set(l->err, ERR_MEMORY, "out of memory for weights");
    return p;
}

/* rows x cols as they are; cols 0: a vector. */
static const float *load_plain(Loader *l, const char *name, size_t rows, size_t cols)
{
    const size_t n = cols > 0 ? rows * cols : rows;
    KernType type;
    const StTensor *t = require(l, name, rows, cols, &type);
    float *dst = t != NULL ? take(l, n) : NULL;
    size_t bad;

    if (dst == NULL)
        return NULL;
    if (!kern_copy(dst, t->data, type, n, &bad))
        return not_finite(l, t, bad), NULL;
    safetensors_drop(t);
    return report(l, n * sizeof(float)) ? dst : NULL;
}

/* A projection, [in, out] in the file. */
static const float *load_projection(Loader *l, const char *name, size_t n_in, size_t n_out)
{
    KernType type;
    const StTensor *t = require(l, name, n_in, n_out, &type);
    float *dst = t != NULL ? take(l, kern_pad(n_out) * n_in) : NULL;
    size_t bad;

    if (dst == NULL)
        return NULL;
    if (!kern_pack(dst, t->data, type, KERN_IN_OUT, n_out, n_in, &bad))
        return not_finite(l, t, bad), NULL;
    safetensors_drop(t);
    return report(l, n_in * n_out * sizeof(float)) ? dst : NULL;
}

enum { TABLE_STEP = 1024 }; /* rows packed between two progress calls */

/* An embedding table, [vocab, dim] in the file: the largest tensor, so it is packed in steps. */
static const float *load_table(Loader *l, const char *name, size_t rows, size_t dim)
{
    KernType type;
    const StTensor *t = require(l, name, rows, dim, &type);
    float *dst = t != NULL ? take(l, kern_pad(rows) * dim) : NULL;

    if (dst == NULL)
        return NULL;
    for (size_t r = 0; r < rows; r += TABLE_STEP) {
        const size_t n = rows - r < TABLE_STEP ? rows - r : TABLE_STEP;
        size_t bad;

        if (!kern_pack(dst + r * dim, t->data + r * dim * kern_type_bytes(type), type, KERN_OUT_IN,
                       n, dim, &bad))
            return not_finite(l, t, r * dim + bad), NULL;
        if (!report(l, n * dim * sizeof(float)))
            return NULL;
    }
    safetensors_drop(t);
    return dst;
}

static const char *block_name(char out[NAME_BYTES], int layer, const char *part, const char *kind)
{
    (void)snprintf(out, NAME_BYTES, "h.%d.%s.%s", layer, part, kind);
    return out;
}

static bool load_linear(Loader *l, Linear *lin, int layer, const char *part, int n_in, int n_out)
{
    char name[NAME_BYTES];

    lin->n_in = n_in;
    lin->n_out = n_out;
    lin->panels =
        load_projection(l, block_name(name, layer, part, "weight"), (size_t)n_in, (size_t)n_out);
    if (lin->panels == NULL)
        return false;
    lin->bias = load_plain(l, block_name(name, layer, part, "bias"), (size_t)n_out, 0);
    return lin->bias != NULL;
}

static bool load_norm(Loader *l, LayerNorm *ln, const char *weight, const char *bias)
{
    ln->dim = l->m->config.dim;
    ln->eps = l->m->config.eps;
    ln->gamma = load_plain(l, weight, (size_t)ln->dim, 0);
    if (ln->gamma == NULL)
        return false;
    ln->beta = load_plain(l, bias, (size_t)ln->dim, 0);
    return ln->beta != NULL;
}

static bool load_block_norm(Loader *l, LayerNorm *ln, int layer, const char *part)
{
    char weight[NAME_BYTES], bias[NAME_BYTES];

    return load_norm(l, ln, block_name(weight, layer, part, "weight"),
                     block_name(bias, layer, part, "bias"));
}

static bool load_block(Loader *l, TransformerBlock *b, int layer)
{
    const Gpt2Config *c = &l->m->config;
    Attention *a = &b->attention;

    a->n_heads = c->n_heads;
    a->head_dim = c->head_dim;
    a->scale = scores_scale(c->head_dim, layer, c->scale_attn, c->scale_attn_by_layer);
    a->qkv.dim = c->dim;
    b->ffn.activation = c->activation;
    return load_block_norm(l, &b->ln_1, layer, "ln_1") &&
           load_linear(l, &a->qkv.c_attn, layer, "attn.c_attn", c->dim, 3 * c->dim) &&
           load_linear(l, &a->output.c_proj, layer, "attn.c_proj", c->dim, c->dim) &&
           load_block_norm(l, &b->ln_2, layer, "ln_2") &&
           load_linear(l, &b->ffn.c_fc, layer, "mlp.c_fc", c->dim, c->ffn_dim) &&
           load_linear(l, &b->ffn.c_proj, layer, "mlp.c_proj", c->ffn_dim, c->dim);
}

/* ---- The head ---- */

/* Never prefixed: published files hold "lm_head.weight" beside "transformer.*". */
static const StTensor *lm_head(const Loader *l)
{
    return safetensors_find(l->st, "lm_head.weight");
}

/* A copy of wte is common and fine; a different head in a file that says "tied" deserves a word. */
static void warn_untied(const Loader *l)
{
    const StTensor *head = lm_head(l);
    const StTensor *wte = find(l, "wte.weight");

    if (head == NULL || wte == NULL)
        return;
    if (head->dtype != wte->dtype || head->n_bytes != wte->n_bytes ||
        memcmp(head->data, wte->data, wte->n_bytes) != 0)
        log_line(LOG_WARN,
                 "lm_head.weight differs from wte.weight but tie_word_embeddings is true: the head "
                 "is wte, lm_head.weight is ignored",
                 "s:file", head->file, NULL);
}

static bool load_head(Loader *l)
{
    Gpt2 *m = l->m;
    const Gpt2Config *c = &m->config;

    m->head.n_in = c->dim;
    m->head.n_out = c->vocab_size;
    if (c->tied_head) {
        m->head.panels = m->embedding.wte;
        return true;
    }
    if (lm_head(l) == NULL) {
        (void)err_set(l->err, ERR_FORMAT,
                      "%s: tensor lm_head.weight is missing, but tie_word_embeddings is false",
                      m->dir);
        return false;
    }
    l->prefixed = false;
    m->head.panels = load_table(l, "lm_head.weight", (size_t)c->vocab_size, (size_t)c->dim);
    return m->head.panels != NULL;
}

/* ---- The whole model ---- */

static bool plan_linear(size_t *bytes, size_t *params, size_t n_in, size_t n_out)
{
    size_t floats, real;

    if (!size_mul(kern_pad(n_out), n_in, &floats) || !size_mul(n_out, n_in, &real) ||
        !arena_plan(bytes, floats, sizeof(float)) || !arena_plan(bytes, n_out, sizeof(float)))
        return false;
    *params += real + n_out;
    return true;
}

static bool plan_vectors(size_t *bytes, size_t *params, size_t count, size_t n)
{
    *params += count * n;
    for (size_t i = 0; i < count; i++)
        if (!arena_plan(bytes, n, sizeof(float)))
            return false;
    return true;
}

/* Bytes of all packed weights and number of parameters. Every product is checked: the numbers come
 * from a file. */
static bool plan(const Gpt2Config *c, size_t *bytes, size_t *params)
{
    const size_t dim = (size_t)c->dim, ffn = (size_t)c->ffn_dim;
    const size_t vocab = (size_t)c->vocab_size;
    size_t block = 0, block_params = 0, all, table, heads = c->tied_head ? 1 : 2;

    if (!plan_vectors(&block, &block_params, 4, dim) ||
        !plan_linear(&block, &block_params, dim, 3 * dim) ||
        !plan_linear(&block, &block_params, dim, dim) ||
        !plan_linear(&block, &block_params, dim, ffn) ||
        !plan_linear(&block, &block_params, ffn, dim) ||
        !size_mul(block, (size_t)c->n_layers, &all) || !size_mul(kern_pad(vocab), dim, &table))
        return false;
    *bytes = 0;
    *params = block_params * (size_t)c->n_layers + heads * vocab * dim + (size_t)c->n_ctx * dim;
    if (!arena_plan(bytes, (size_t)c->n_layers, sizeof(TransformerBlock)) ||
        !arena_plan(bytes, all, 1) || !arena_plan(bytes, (size_t)c->n_ctx * dim, sizeof(float)) ||
        !plan_vectors(bytes, params, 2, dim))
        return false;
    for (size_t i = 0; i < heads; i++)
        if (!arena_plan(bytes, table, sizeof(float)))
            return false;
    return true;
}

static bool load_all(Loader *l)
{
    Gpt2 *m = l->m;
    const Gpt2Config *c = &m->config;

    m->blocks = arena_alloc(&m->arena, (size_t)c->n_layers, sizeof(TransformerBlock));
    if (m->blocks == NULL) {
        (void)err_set(l->err, ERR_MEMORY, "out of memory for weights");
        return false;
    }
    if (c->tied_head)
        warn_untied(l);
    m->embedding.dim = c->dim;
    m->embedding.wte = load_table(l, "wte.weight", (size_t)c->vocab_size, (size_t)c->dim);
    if (m->embedding.wte == NULL)
        return false;
    m->embedding.wpe = load_plain(l, "wpe.weight", (size_t)c->n_ctx, (size_t)c->dim);
    if (m->embedding.wpe == NULL)
        return false;
    for (int i = 0; i < c->n_layers; i++)
        if (!load_block(l, &m->blocks[i], i))
            return false;
    return load_norm(l, &m->ln_f, "ln_f.weight", "ln_f.bias") && load_head(l);
}

/* The layers beyond n_layer would be ignored silently: a config that disagrees with its file is
 * refused instead. */
static ErrCode check_layer_count(const Loader *l)
{
    char name[NAME_BYTES];

    if (find(l, block_name(name, l->m->config.n_layers, "ln_1", "weight")) != NULL)
        return err_set(l->err, ERR_FORMAT, "%s: tensor %s exists, but config.json says n_layer %d",
                       l->m->dir, name, l->m->config.n_layers);
    return ERR_OK;
}

static void dtype_text(Gpt2 *m, const bool seen[3])
{
    m->dtypes[0] = '\0';
    for (int t = 0; t < 3; t++)
        if (seen[t]) {
            const size_t len = strlen(m->dtypes);

            (void)snprintf(m->dtypes + len, sizeof m->dtypes - len, "%s%s", len > 0 ? "+" : "",
                           type_names[t]);
        }
}

static ErrCode load_weights(Gpt2 *m, const char *path, const Gpt2Progress *progress, Err *err)
{
    Loader l = {.m = m, .progress = progress, .err = err};
    Safetensors *st = NULL;
    size_t bytes = 0;
    ErrCode code = safetensors_open(&st, path, err);

    if (code != ERR_OK)
        return code;
    l.st = st;
    l.prefixed = safetensors_find(st, "transformer.wte.weight") != NULL;
    code = check_layer_count(&l);
    if (code == ERR_OK && (!plan(&m->config, &bytes, &m->n_params)))
        code = err_set(err, ERR_LIMIT, "%s: the sizes in config.json are too large", m->dir);
    /* Before memory is asked for: the file must be able to hold these parameters. */
    if (code == ERR_OK && m->n_params > safetensors_file_bytes(st) / 2)
        code = err_set(err, ERR_FORMAT,
                       "%s: config.json describes %zu parameters, the weight files hold %zu bytes",
                       m->dir, m->n_params, safetensors_file_bytes(st));
    if (code == ERR_OK)
        code = arena_init(&m->arena, bytes, "model weights", err);
    if (code == ERR_OK) {
        l.total_bytes = m->n_params * sizeof(float);
        if (!load_all(&l))
            code = err->code;
        dtype_text(m, l.seen);
    }
    safetensors_close(st);
    return code;
}

/* dir: the model's directory; name: its base name, or the stem of a file that was named. */
static ErrCode resolve_path(Gpt2 *m, const char *path, Err *err)
{
    char copy[sizeof m->dir];
    struct stat sb;
    char *base, *real;

    if (strlen(path) >= sizeof copy)
        return err_set(err, ERR_USAGE, "model path is longer than %zu bytes", sizeof copy - 1);
    if (stat(path, &sb) != 0)
        return err_set(err, ERR_IO, "%s: %m", path);
    memcpy(copy, path, strlen(path) + 1);
    if (S_ISDIR(sb.st_mode)) {
        memcpy(m->dir, path, strlen(path) + 1);
        /* "models/x/" and "." have no useful base name as written. */
        real = realpath(path, NULL);
        (void)snprintf(m->name, sizeof m->name, "%s", real != NULL ? basename(real) : path);
        free(real);
        return ERR_OK;
    }
    (void)snprintf(m->dir, sizeof m->dir, "%s", dirname(copy));
    memcpy(copy, path, strlen(path) + 1);
    base = basename(copy);
    (void)snprintf(m->name, sizeof m->name, "%s", base);
    base = strrchr(m->name, '.');
    if (base != NULL && base != m->name)
        *base = '\0';
    return ERR_OK;
}

ErrCode gpt2_load(Gpt2 *m, const char *path, const Gpt2Progress *progress, Err *err)
{
    Gpt2 loaded = {0};
    ErrCode code = resolve_path(&loaded, path, err);

    if (code == ERR_OK)
        code = config_load(&loaded.config, loaded.dir, err);
    if (code == ERR_OK)
        code = load_weights(&loaded, path, progress, err);
    if (code != ERR_OK) {
        arena_free(&loaded.arena);
        return code;
    }
    *m = loaded;
    return ERR_OK;
}

void gpt2_free(Gpt2 *m)
{
    arena_free(&m->arena);
    memset(m, 0, sizeof *m);
}
