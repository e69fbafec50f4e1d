/* model/weights.c: see weights.h.
 *
 * May include: common, kernels, layers. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "layers/attention/scores.h"

ErrCode weights_begin(Gpt2 *m, Err *err)
{
    const Gpt2Config *c = &m->config;
    size_t bytes = 0;
    ErrCode code;

    if (!arena_plan(&bytes, (size_t)c->n_layers, sizeof(TransformerBlock)))
        return err_set(err, ERR_LIMIT, "too many layers");
    code = arena_init(&m->block_arena, bytes, "model blocks", err);
    if (code != ERR_OK)
        return code;
    m->blocks = arena_alloc(&m->block_arena, (size_t)c->n_layers, sizeof(TransformerBlock));
    if (m->blocks == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for model blocks");
    m->embedding.dim = c->dim;
    m->ln_f = (LayerNorm){.dim = c->dim, .eps = c->eps};
    for (int i = 0; i < c->n_layers; i++) {
        TransformerBlock *b = &m->blocks[i];

        b->ln_1 = b->ln_2 = m->ln_f;
        b->attention.n_heads = c->n_heads;
        b->attention.head_dim = c->head_dim;
        b->attention.scale = scores_scale(c->head_dim, i, c->scale_attn, c->scale_attn_by_layer);
        b->attention.qkv.dim = c->dim;
        b->ffn.activation = c->activation;
    }
    return ERR_OK;
}

/* One walk: the visit, and whether it still goes on. */
typedef struct {
    WeightVisit *visit;
    void *ctx;
    int layer; /* -1: outside the blocks */
    bool on;
} Walk;

static void visit(Walk *w, WeightSlot *slot, const char *name)
{
    if (!w->on)
        return;
    if (w->layer >= 0)
        (void)snprintf(slot->name, sizeof slot->name, "h.%d.%s", w->layer, name);
    else
        (void)snprintf(slot->name, sizeof slot->name, "%s", name);
    w->on = w->visit(w->ctx, slot);
}

static void vector(Walk *w, const char *name, const float **at, int n)
{
    WeightSlot slot = {.kind = WEIGHT_VECTOR, .n = (size_t)n, .k = 1, .floats = at};

    visit(w, &slot, name);
}

static void matrix(Walk *w, WeightKind kind, const char *name, KernMatrix *at, int n, int k)
{
    WeightSlot slot = {.kind = kind, .n = (size_t)n, .k = (size_t)k, .matrix = at};

    at->n = n;
    at->k = k;
    visit(w, &slot, name);
}

static void norm(Walk *w, const char *weight, const char *bias, LayerNorm *ln)
{
    vector(w, weight, &ln->gamma, ln->dim);
    vector(w, bias, &ln->beta, ln->dim);
}

static void linear(Walk *w, const char *weight, const char *bias, Linear *l, int n, int k)
{
    matrix(w, WEIGHT_PROJECTION, weight, &l->w, n, k);
    vector(w, bias, &l->bias, n);
}

static void block(Walk *w, TransformerBlock *b, const Gpt2Config *c)
{
    norm(w, "ln_1.weight", "ln_1.bias", &b->ln_1);
    linear(w, "attn.c_attn.weight", "attn.c_attn.bias", &b->attention.qkv.c_attn, 3 * c->dim,
           c->dim);
    linear(w, "attn.c_proj.weight", "attn.c_proj.bias", &b->attention.output.c_proj, c->dim,
           c->dim);
    norm(w, "ln_2.weight", "ln_2.bias", &b->ln_2);
    linear(w, "mlp.c_fc.weight", "mlp.c_fc.bias", &b->ffn.c_fc, c->ffn_dim, c->dim);
    linear(w, "mlp.c_proj.weight", "mlp.c_proj.bias", &b->ffn.c_proj, c->dim, c->ffn_dim);
}

bool weights_each(Gpt2 *m, WeightVisit *visit_slot, void *ctx)
{
    const Gpt2Config *c = &m->config;
    Walk w = {.visit = visit_slot, .ctx = ctx, .layer = -1, .on = true};
    WeightSlot positions = {.kind = WEIGHT_ROWS,
                            .n = (size_t)c->n_ctx,
                            .k = (size_t)c->dim,
                            .floats = &m->embedding.wpe};

    matrix(&w, WEIGHT_TABLE, "wte.weight", &m->embedding.wte, c->vocab_size, c->dim);
    visit(&w, &positions, "wpe.weight");
    for (w.layer = 0; w.layer < c->n_layers; w.layer++)
        block(&w, &m->blocks[w.layer], c);
    w.layer = -1;
    norm(&w, "ln_f.weight", "ln_f.bias", &m->ln_f);
    if (!c->tied_head)
        matrix(&w, WEIGHT_TABLE, "lm_head.weight", &m->head.w, c->vocab_size, c->dim);
    return w.on;
}

KernType weights_type(const Gpt2LoadOptions *o, const WeightSlot *slot, KernType own)
{
    KernType type = own;

    if (slot->kind == WEIGHT_TABLE && o->convert_tables)
        type = o->table_type;
    else if (o->convert)
        type = slot->kind == WEIGHT_TABLE ? gpt2_table_type(o->type) : o->type;
    return kern_type_for(type, slot->k);
}

bool weights_plan(size_t *total, const WeightSlot *slot, KernType type)
{
    size_t elements;

    if (!size_mul(kern_pad(slot->n), slot->k, &elements))
        return false;
    if (slot->matrix == NULL)
        return arena_plan(total, elements, sizeof(float));
    return elements <= SIZE_MAX / 8 && /* no type has more bytes for a weight */
           arena_plan(total, kern_panels_bytes(type, slot->n, slot->k), 1) &&
           arena_plan(total, kern_scales_bytes(type, slot->n, slot->k), 1);
}

bool weights_place(WeightPlace *place, Arena *a, const WeightSlot *slot, KernType type)
{
    const size_t scale_bytes = kern_scales_bytes(type, slot->n, slot->k);

    *place = (WeightPlace){.panels = arena_alloc(a, kern_panels_bytes(type, slot->n, slot->k), 1)};
    if (scale_bytes > 0)
        place->scales = arena_alloc(a, scale_bytes, 1);
    if (place->panels == NULL || (scale_bytes > 0 && place->scales == NULL))
        return false;
    slot->matrix->type = type;
    slot->matrix->panels = place->panels;
    slot->matrix->scales = place->scales;
    return true;
}

void weights_add_type(char text[GPT2_TYPES_BYTES], const char *name)
{
    const size_t len = strlen(text), n = strlen(name);

    for (const char *at = strstr(text, name); at != NULL; at = strstr(at + 1, name))
        if ((at == text || at[-1] == '+') && (at[n] == '\0' || at[n] == '+'))
            return;
    (void)snprintf(text + len, GPT2_TYPES_BYTES - len, "%s%s", len > 0 ? "+" : "", name);
}

static bool count(void *ctx, const WeightSlot *slot)
{
    Gpt2 *m = ctx;

    m->n_params += slot->n * slot->k;
    if (slot->matrix == NULL) {
        m->weight_bytes += slot->n * slot->k * sizeof(float);
        return true;
    }
    m->weight_bytes += kern_panels_bytes(slot->matrix->type, slot->n, slot->k) +
                       kern_scales_bytes(slot->matrix->type, slot->n, slot->k);
    weights_add_type(m->types, kern_type_name(slot->matrix->type));
    return true;
}

void weights_finish(Gpt2 *m)
{
    if (m->config.tied_head)
        m->head.w = m->embedding.wte;
    m->head.bias = NULL;
    m->n_params = 0;
    m->weight_bytes = 0;
    m->types[0] = '\0';
    (void)weights_each(m, count, m);
}
