/* model/gpt2_load.c: from a model's files to packed weights: every tensor is found by name, its
 * shape and type are checked, its values must be finite; then it is packed and its file pages are
 * given back.
 *
 * May include: common, formats, kernels. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/model_name.h"
#include "common/text.h"
#include "kernels/pack.h"
#include "model/fingerprint.h"
#include "model/gpt2.h"
#include "model/gpt2_pack.h"
#include "model/weight_source.h"
#include "model/weights.h"

enum {
    STEP_ROWS = 1024,           /* rows packed between two progress calls */
    WIDEN_ROWS = KERN_PANEL * 2 /* rows of a type that kernels do not read, widened at once */
};

typedef struct {
    Gpt2 *m;
    WeightSource source;
    const Gpt2LoadOptions *o;
    size_t planned;     /* bytes of the arena */
    size_t done, total; /* bytes of weights, for the progress */
    Arena room;         /* WIDEN_ROWS widened rows */
    size_t widest;      /* floats of a row that must be widened, 0 for none */
    Err *err;
} Loader;

KernType gpt2_table_type(KernType type)
{
    return type == KERN_Q4_0 ? KERN_Q8_0 : type;
}

/* ---- First walk: everything is there, and how much memory it takes ---- */

static ErrCode require(const Loader *l, const WeightSlot *slot, SourceTensor *t)
{
    return weight_source_require(&l->source, slot->name, slot->n,
                                 slot->kind == WEIGHT_VECTOR ? 0 : slot->k,
                                 slot->kind == WEIGHT_PROJECTION, t, l->err);
}

static KernType wanted_type(const Loader *l, const WeightSlot *slot, const SourceTensor *t)
{
    return weights_type(l->o, slot, t->known ? t->type : KERN_F32);
}

static bool plan_slot(void *ctx, const WeightSlot *slot)
{
    Loader *l = ctx;
    SourceTensor t;
    bool fits;

    if (require(l, slot, &t) != ERR_OK)
        return false;
    fits = weights_plan(&l->planned, slot, wanted_type(l, slot, &t));
    if (slot->matrix != NULL)
        weights_add_type(l->m->file_types, t.type_name);
    if (!t.known && slot->k > l->widest)
        l->widest = slot->k;
    if (!fits)
        (void)err_set(l->err, ERR_LIMIT, "%s: tensor %s is too large", t.file, t.name);
    return fits;
}

/* ---- Second walk: packing ---- */

static bool no_memory(const Loader *l)
{
    (void)err_set(l->err, ERR_MEMORY, "out of memory for weights");
    return false;
}

static bool report(Loader *l, size_t bytes)
{
    const Gpt2Progress *p = &l->o->progress;

    l->done += bytes;
    if (p->progress == NULL || p->progress(p->ctx, (double)l->done / (double)l->total))
        return true;
    (void)err_set(l->err, ERR_CANCELLED, "loading was stopped");
    return false;
}

/* Element index of t is not finite, or becomes so as type. */
static bool refuse_element(const Loader *l, const SourceTensor *t, size_t index, KernType type)
{
    char text[TEXT_FLOAT_BYTES];
    const float value = source_element(t, index);

    text_float(text, value);
    if (!isfinite(value)) /* GGUF's F64 has finite values that are none as float32 */
        (void)err_set(l->err, ERR_NUMERIC, "%s: tensor %s: element %zu is not finite%s", t->file,
                      t->name, index, t->known ? "" : " as F32");
    else
        (void)err_set(l->err, ERR_NUMERIC,
                      "%s: tensor %s: element %zu, %s, is beyond the range of %s", t->file, t->name,
                      index, text, kern_type_name(type));
    return false;
}

static bool load_floats(Loader *l, const WeightSlot *slot, const SourceTensor *t)
{
    const size_t n = slot->n * slot->k;
    float *dst = arena_alloc(&l->m->arena, kern_pad(slot->n) * slot->k, sizeof(float));
    size_t bad = 0;

    if (dst == NULL)
        return no_memory(l);
    if (t->known) {
        if (!kern_copy(dst, t->data, t->type, n, &bad))
            return refuse_element(l, t, bad, KERN_F32);
    } else {
        source_widen(dst, t, 0, n);
        if (!kern_all_finite(dst, n, &bad))
            return refuse_element(l, t, bad, KERN_F32);
    }
    *slot->floats = dst;
    return report(l, n * sizeof(float));
}

/* Rows [first, first + rows), outputs one after the other in the file. */
static bool pack_rows(Loader *l, const WeightSlot *slot, const SourceTensor *t,
                      const WeightPlace *at, size_t first, size_t rows)
{
    const KernType type = slot->matrix->type;
    size_t bad = 0;

    if (t->known) {
        if (kern_pack(at->panels, at->scales, type, slot->n, slot->k, first, rows,
                      t->data + first * source_row_bytes(t, slot->k), t->type, KERN_OUT_IN, &bad))
            return true;
        return refuse_element(l, t, first * slot->k + bad, type);
    }
    for (size_t r = first; r < first + rows; r += WIDEN_ROWS) {
        const size_t some = first + rows - r < WIDEN_ROWS ? first + rows - r : WIDEN_ROWS;
        float *wide = (float *)(void *)l->room.base;

        source_widen(wide, t, r * slot->k, some * slot->k);
        if (!kern_pack(at->panels, at->scales, type, slot->n, slot->k, r, some, wide, KERN_F32,
                       KERN_OUT_IN, &bad))
            return refuse_element(l, t, r * slot->k + bad, type);
    }
    return true;
}

static bool load_matrix(Loader *l, const WeightSlot *slot, const SourceTensor *t)
{
    const KernType type = wanted_type(l, slot, t);
    WeightPlace at;
    size_t bad = 0, row_bytes;

    if (!weights_place(&at, &l->m->arena, slot, type))
        return no_memory(l);
    if (slot->kind == WEIGHT_PROJECTION && t->order == KERN_IN_OUT) {
        if (!kern_pack(at.panels, at.scales, type, slot->n, slot->k, 0, slot->n, t->data, t->type,
                       KERN_IN_OUT, &bad))
            return refuse_element(l, t, bad, type);
        return report(l, kern_panels_bytes(type, slot->n, slot->k));
    }
    row_bytes = kern_panels_bytes(type, KERN_PANEL, slot->k) / KERN_PANEL;
    for (size_t r = 0; r < slot->n; r += STEP_ROWS) {
        const size_t rows = slot->n - r < STEP_ROWS ? slot->n - r : STEP_ROWS;

        if (!pack_rows(l, slot, t, &at, r, rows) || !report(l, rows * row_bytes))
            return false;
    }
    return true;
}

static bool load_slot(void *ctx, const WeightSlot *slot)
{
    Loader *l = ctx;
    SourceTensor t;

    if (require(l, slot, &t) != ERR_OK)
        return false;
    if (!(slot->matrix == NULL ? load_floats(l, slot, &t) : load_matrix(l, slot, &t)))
        return false;
    l->m->weights_hash = fingerprint_add(l->m->weights_hash, slot);
    weight_source_drop(&l->source, slot->name);
    return true;
}

/* ---- The whole model ---- */

/* A copy of wte is common and fine; a different head in a file that says "tied" deserves a word. */
static void warn_untied(const Loader *l)
{
    const StTensor *head = safetensors_find(l->source.st, "lm_head.weight");
    const StTensor *wte = safetensors_find(
        l->source.st, l->source.prefixed ? "transformer.wte.weight" : "wte.weight");

    if (head == NULL || wte == NULL)
        return;
    if (head->dtype != wte->dtype || head->n_bytes != wte->n_bytes ||
        memcmp(head->data, wte->data, wte->n_bytes) != 0)
        log_line(LOG_WARN,
                 "lm_head.weight differs from wte.weight but tie_word_embeddings is true: the head "
                 "is wte, lm_head.weight is ignored",
                 "s:file", head->file, NULL);
}

/* GGUF does not say whether the head is tied: most writers leave it out then, others store the
 * embedding twice. */
static bool gguf_is_tied(const Gguf *g)
{
    const GgufTensor *head = gguf_find(g, "output.weight");
    const GgufTensor *wte = gguf_find(g, "token_embd.weight");

    return head == NULL ||
           (wte != NULL && head->type == wte->type && head->n_bytes == wte->n_bytes &&
            memcmp(head->data, wte->data, wte->n_bytes) == 0);
}

/* The layers beyond the configured number would be ignored silently: a config that disagrees with
 * its file is refused instead. */
static ErrCode check_layer_count(const Loader *l)
{
    char name[WEIGHT_NAME_BYTES], shown[WEIGHT_NAME_BYTES];

    (void)snprintf(name, sizeof name, "h.%d.ln_1.weight", l->m->config.n_layers);
    memcpy(shown, name, sizeof shown);
    if (l->source.gguf != NULL)
        weight_source_gguf_name(shown, sizeof shown, name);
    if (weight_source_has(&l->source, name))
        return err_set(l->err, ERR_FORMAT, "%s: tensor %s exists, but the model has %d layers",
                       l->source.path, shown, l->m->config.n_layers);
    return ERR_OK;
}

static ErrCode read_config(Loader *l, bool directory)
{
    Gpt2 *m = l->m;
    char dir[sizeof m->path];
    ErrCode code = ERR_OK;

    if (l->source.gguf != NULL) {
        code = config_from_gguf(&m->config, l->source.gguf, m->path, l->err);
        if (code == ERR_OK)
            m->config.tied_head = gguf_is_tied(l->source.gguf);
        return code;
    }
    model_dir_of(dir, sizeof dir, m->path);
    if (!directory)
        code = config_load(&m->config, dir, l->err);
    if (code == ERR_OK && m->config.tied_head)
        warn_untied(l);
    if (code == ERR_OK && !m->config.tied_head && !weight_source_has(&l->source, "lm_head.weight"))
        code = err_set(l->err, ERR_FORMAT,
                       "%s: tensor lm_head.weight is missing, but tie_word_embeddings is false",
                       l->source.path);
    return code;
}

static ErrCode load_weights(Loader *l)
{
    Gpt2 *m = l->m;
    size_t room;
    ErrCode code = check_layer_count(l);

    if (code != ERR_OK || (code = weights_begin(m, l->err)) != ERR_OK)
        return code;
    if (!weights_each(m, plan_slot, l))
        return l->err->code;
    code = arena_init(&m->arena, l->planned, "model weights", l->err);
    if (code == ERR_OK && l->widest > 0)
        code = size_mul(l->widest, WIDEN_ROWS * sizeof(float), &room)
                   ? arena_init(&l->room, room, "widened rows", l->err)
                   : err_set(l->err, ERR_LIMIT, "%s: rows are too long", m->path);
    l->total = l->planned;
    if (code == ERR_OK && !weights_each(m, load_slot, l))
        code = l->err->code;
    if (code == ERR_OK) {
        m->has_weights_hash = true;
        weights_finish(m);
    }
    arena_free(&l->room);
    return code;
}

/* A packed file, which may be the model.safetensors of a directory: its own path is the one that
 * leads to the tokenizer in it. */
static ErrCode load_packed(Gpt2 *m, const Gpt2LoadOptions *o, Err *err)
{
    size_t n;
    const StTensor *t = safetensors_tensors(m->packed, &n);

    if (n > 0 && strlen(t[0].file) < sizeof m->path)
        memcpy(m->path, t[0].file, strlen(t[0].file) + 1);
    return gpt2_load_packed(m, o, err);
}

static ErrCode load_files(Gpt2 *m, const Gpt2LoadOptions *o, bool directory, Err *err)
{
    Loader l = {.m = m, .o = o, .err = err};
    ErrCode code;

    /* A directory without config.json is no model, whatever else it lacks. */
    if (directory && (code = config_load(&m->config, m->path, err)) != ERR_OK)
        return code;
    code = weight_source_open(&l.source, m->path, err);

    if (code == ERR_OK && l.source.st != NULL && gpt2_is_packed(l.source.st)) {
        m->packed = l.source.st;
        l.source.st = NULL;
        code = load_packed(m, o, err);
    } else if (code == ERR_OK && (code = read_config(&l, directory)) == ERR_OK) {
        code = load_weights(&l);
    }
    weight_source_close(&l.source);
    return code;
}

ErrCode gpt2_load(Gpt2 *m, const char *path, const Gpt2LoadOptions *o, Err *err)
{
    static const Gpt2LoadOptions defaults = {.convert = false};
    Gpt2 loaded = {.n_params = 0};
    struct stat sb;
    ErrCode code;

    if (strlen(path) >= sizeof loaded.path)
        return err_set(err, ERR_USAGE, "model path is longer than %zu bytes",
                       sizeof loaded.path - 1);
    if (stat(path, &sb) != 0)
        return err_set(err, ERR_IO, "%s: %m", path);
    memcpy(loaded.path, path, strlen(path) + 1);
    model_name_of(loaded.name, sizeof loaded.name, path);
    code = load_files(&loaded, o != NULL ? o : &defaults, S_ISDIR(sb.st_mode), err);
    if (code != ERR_OK) {
        gpt2_free(&loaded);
        return code;
    }
    *m = loaded;
    return ERR_OK;
}

ErrCode gpt2_fit_tokenizer(Gpt2 *m, int n_tokens, int end_of_text, Err *err)
{
    if (n_tokens > m->config.vocab_size)
        return err_set(err, ERR_FORMAT, "%s: the tokenizer has %d tokens, the model only %d rows",
                       m->path, n_tokens, m->config.vocab_size);
    config_name_eos(&m->config, end_of_text);
    return ERR_OK;
}

void gpt2_free(Gpt2 *m)
{
    arena_free(&m->block_arena);
    arena_free(&m->arena);
    safetensors_close(m->packed);
    memset(m, 0, sizeof *m);
}
