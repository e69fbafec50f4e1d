/* checkpoint/double_pass.c: the walk from the embedding to the logits; double_stages.c has the
 * formulas.
 *
 * May include: common, model. */
#include "checkpoint/double_pass.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/double_stages.h"
#include "checkpoint/double_weights.h"
#include "checkpoint/tolerance.h"
#include "model/weights.h"

typedef struct {
    const Gpt2 *m;
    const Gpt2Config *c;
    const DoubleSink *sink;
    const int32_t *ids;
    size_t n; /* tokens */
    DoubleWeights weights;
    DoubleField x;      /* [n, dim]: the residual stream */
    DoubleField norm;   /* [n, dim]: ln_1, ln_2, ln_f */
    DoubleField wide;   /* [n, 3 dim], then [n, ffn_dim] */
    DoubleField merged; /* [n, dim]: the heads side by side */
    DoubleField branch; /* [n, dim]: what is added to x */
    DoubleField logits; /* [n, vocab] */
    double *q, *k, *v;  /* [n, dim] */
    double *scores;     /* [heads, n, n] */
    double *allowed;    /* of any stage; NULL without allowances */
    double *row, *gain, *bias;
    Arena arena;
    Err *err;
} Pass;

/* ---- Memory ---- */

typedef struct {
    double **place;
    size_t count;
} Place;

enum { N_FIELDS = 6, N_PLACES = 3 * N_FIELDS + 8 };

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Everything the pass needs, in places[0 .. returned). Sizes are products of two dimensions that
 * config_check bounds, and of [heads, n, n]: none overflows. */
static int list_places(Pass *p, Place places[N_PLACES])
{
    const size_t n = p->n, dim = (size_t)p->c->dim, heads = (size_t)p->c->n_heads;
    const size_t vocab = (size_t)p->c->vocab_size, wide = larger(3 * dim, (size_t)p->c->ffn_dim);
    const struct {
        DoubleField *field;
        size_t count;
    } fields[N_FIELDS] = {{&p->x, n * dim},      {&p->norm, n * dim},   {&p->wide, n * wide},
                          {&p->merged, n * dim}, {&p->branch, n * dim}, {&p->logits, n * vocab}};
    const Place plain[] = {
        {&p->q, n * dim}, {&p->k, n * dim}, {&p->v, n * dim}, {&p->scores, heads * n * n},
        {&p->row, wide},  {&p->gain, dim},  {&p->bias, dim}};
    int n_places = 0;

    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        places[n_places++] = plain[i];
    for (int i = 0; i < N_FIELDS; i++) {
        places[n_places++] = (Place){&fields[i].field->value, fields[i].count};
        if (!p->sink->allowances)
            continue;
        places[n_places++] = (Place){&fields[i].field->size, fields[i].count};
        places[n_places++] = (Place){&fields[i].field->var, fields[i].count};
    }
    if (p->sink->allowances)
        places[n_places++] =
            (Place){&p->allowed, larger(larger(n * wide, n * vocab), heads * n * n)};
    return n_places;
}

static ErrCode take_memory(Pass *p, Err *err)
{
    Place places[N_PLACES];
    const int n_places = list_places(p, places);
    size_t total = 0;
    ErrCode code;

    for (int i = 0; i < n_places; i++)
        if (!arena_plan(&total, places[i].count, sizeof(double)))
            return err_set(err, ERR_LIMIT, "the double pass over %zu tokens is too large", p->n);
    code = arena_init(&p->arena, total, "double pass", err);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < n_places; i++) {
        *places[i].place = arena_alloc(&p->arena, places[i].count, sizeof(double));
        if (*places[i].place == NULL)
            return err_set(err, ERR_MEMORY, "double pass: out of memory");
    }
    return ERR_OK;
}

/* ---- Steps ---- */

static ErrCode emit(Pass *p, TapStage stage, int layer, double *data, size_t n_rows, size_t n_cols)
{
    const DoubleTensor tensor = {.stage = stage,
                                 .layer = layer,
                                 .n_rows = n_rows,
                                 .n_cols = n_cols,
                                 .data = data,
                                 .allowed = p->allowed};

    if (p->sink->emit(p->sink->ctx, &tensor))
        return ERR_OK;
    return err_set(p->err, ERR_CANCELLED, "cancelled");
}

/* What the next product takes as its input: exact values. */
static void settle(DoubleField *f)
{
    for (size_t i = 0; f->size != NULL && i < f->n_rows * f->n_cols; i++) {
        f->size[i] = fabs(f->value[i]);
        f->var[i] = 0.0;
    }
}

/* A sum of a and b, rounded once to float32: rows may lie in place. */
static void add(Pass *p, double *sum, const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double before = a[i];

        sum[i] = before + b[i];
        /* The first of two additions left its own rounding in a. */
        if (p->allowed != NULL)
            p->allowed[i] = TOL_LOCAL_SUM * TOL_ROUNDING * (fabs(before) + fabs(sum[i]));
    }
}

typedef struct {
    char text[WEIGHT_NAME_BYTES];
} Name;

static Name name_of(int layer, const char *part)
{
    Name name;

    if (layer >= 0)
        (void)snprintf(name.text, sizeof name.text, "h.%d.%s", layer, part);
    else
        (void)snprintf(name.text, sizeof name.text, "%s", part);
    return name;
}

static ErrCode read_vector(Pass *p, int layer, const char *part, double *out)
{
    const Name name = name_of(layer, part);
    DoubleWeight w;
    const ErrCode code =
        double_weights_find(&p->weights, name.text, (size_t)p->c->dim, 0, false, &w, p->err);

    if (code == ERR_OK)
        double_weights_row(&p->weights, &w, 0, out);
    return code;
}

static ErrCode layer_norm(Pass *p, TapStage stage, int layer, const char *gain, const char *bias)
{
    const size_t dim = (size_t)p->c->dim;
    ErrCode code = read_vector(p, layer, gain, p->gain);

    if (code == ERR_OK)
        code = read_vector(p, layer, bias, p->bias);
    if (code != ERR_OK)
        return code;
    double_layer_norm(p->norm.value, p->allowed, p->x.value, p->n, dim, p->gain, p->bias,
                      (double)p->c->eps);
    code = emit(p, stage, layer, p->norm.value, p->n, dim);
    settle(&p->norm);
    return code;
}

static ErrCode linear(Pass *p, int layer, const char *weight, const char *bias, KernType type,
                      size_t n_out, DoubleField *y, DoubleField *in)
{
    const Name weight_name = name_of(layer, weight), bias_name = name_of(layer, bias);
    const DoubleLinear l = {.weight = weight_name.text,
                            .bias = bias_name.text,
                            .n = n_out,
                            .k = in->n_cols,
                            .projection = true,
                            .type = type};

    return double_linear(&p->weights, &l, y, in, p->row, p->err);
}

static ErrCode embeddings(Pass *p)
{
    const Gpt2Config *c = p->c;
    const size_t dim = (size_t)c->dim;
    DoubleWeight tokens, positions;
    ErrCode code = double_weights_find(&p->weights, "wte.weight", (size_t)c->vocab_size, dim, false,
                                       &tokens, p->err);

    if (code == ERR_OK)
        code = double_weights_find(&p->weights, "wpe.weight", (size_t)c->n_ctx, dim, false,
                                   &positions, p->err);
    for (size_t t = 0; code == ERR_OK && t < p->n; t++) {
        double_weights_row(&p->weights, &tokens, (size_t)p->ids[t], p->x.value + t * dim);
        double_weights_row(&p->weights, &positions, t, p->branch.value + t * dim);
    }
    if (code != ERR_OK)
        return code;
    add(p, p->x.value, p->x.value, p->branch.value, p->n * dim);
    return emit(p, TAP_EMBEDDINGS, -1, p->x.value, p->n, dim);
}

/* One third of c_attn's output by itself: queries, keys or values. */
static ErrCode third(Pass *p, TapStage stage, int layer, double *out, size_t which)
{
    const size_t dim = (size_t)p->c->dim;
    DoubleField part = {.n_rows = p->n, .n_cols = dim, .value = out};

    for (size_t t = 0; t < p->n; t++) {
        const size_t from = (3 * t + which) * dim;

        memcpy(out + t * dim, p->wide.value + from, dim * sizeof *out);
        if (p->allowed != NULL) {
            /* merged is free until the values are weighted. */
            memcpy(p->merged.size + t * dim, p->wide.size + from, dim * sizeof *out);
            memcpy(p->merged.var + t * dim, p->wide.var + from, dim * sizeof *out);
        }
    }
    part.size = p->merged.size;
    part.var = p->merged.var;
    if (p->allowed != NULL)
        double_allow_product(p->allowed, &part);
    return emit(p, stage, layer, out, p->n, dim);
}

static double attention_scale(const Gpt2Config *c, int layer)
{
    const double scale = c->scale_attn ? 1.0 / sqrt((double)c->head_dim) : 1.0;

    return c->scale_attn_by_layer ? scale / (double)(layer + 1) : scale;
}

static ErrCode probabilities(Pass *p, int layer)
{
    const size_t n = p->n, heads = (size_t)p->c->n_heads, d = (size_t)p->c->head_dim;
    ErrCode code;

    double_scores(p->scores, p->allowed, p->q, p->k, n, heads, d, attention_scale(p->c, layer));
    code = emit(p, TAP_SCORES, layer, p->scores, heads * n, n);
    if (code != ERR_OK)
        return code;
    double_mask(p->scores, n, heads);
    if (p->allowed != NULL) /* the mask changes no score */
        memset(p->allowed, 0, heads * n * n * sizeof *p->allowed);
    code = emit(p, TAP_MASKED, layer, p->scores, heads * n, n);
    if (code != ERR_OK)
        return code;
    double_softmax(p->scores, p->allowed, n, heads);
    return emit(p, TAP_PROBS, layer, p->scores, heads * n, n);
}

static ErrCode attention(Pass *p, int layer)
{
    const TransformerBlock *b = &p->m->blocks[layer];
    const size_t dim = (size_t)p->c->dim;
    ErrCode code = linear(p, layer, "attn.c_attn.weight", "attn.c_attn.bias",
                          b->attention.qkv.c_attn.w.type, 3 * dim, &p->wide, &p->norm);

    if (code == ERR_OK)
        code = third(p, TAP_Q, layer, p->q, 0);
    if (code == ERR_OK)
        code = third(p, TAP_K, layer, p->k, 1);
    if (code == ERR_OK)
        code = third(p, TAP_V, layer, p->v, 2);
    if (code == ERR_OK)
        code = probabilities(p, layer);
    if (code != ERR_OK)
        return code;
    double_values(&p->merged, p->scores, p->v, p->n, (size_t)p->c->n_heads, (size_t)p->c->head_dim);
    code = linear(p, layer, "attn.c_proj.weight", "attn.c_proj.bias",
                  b->attention.output.c_proj.w.type, dim, &p->branch, &p->merged);
    if (code == ERR_OK && p->allowed != NULL)
        double_allow_product(p->allowed, &p->branch);
    return code == ERR_OK ? emit(p, TAP_ATTN_OUTPUT, layer, p->branch.value, p->n, dim) : code;
}

static ErrCode feed_forward(Pass *p, int layer)
{
    const TransformerBlock *b = &p->m->blocks[layer];
    const size_t dim = (size_t)p->c->dim;
    ErrCode code = linear(p, layer, "mlp.c_fc.weight", "mlp.c_fc.bias", b->ffn.c_fc.w.type,
                          (size_t)p->c->ffn_dim, &p->wide, &p->norm);

    if (code != ERR_OK)
        return code;
    double_activation(&p->wide, p->c->activation);
    code = linear(p, layer, "mlp.c_proj.weight", "mlp.c_proj.bias", b->ffn.c_proj.w.type, dim,
                  &p->branch, &p->wide);
    if (code == ERR_OK && p->allowed != NULL)
        double_allow_product(p->allowed, &p->branch);
    return code == ERR_OK ? emit(p, TAP_FFN, layer, p->branch.value, p->n, dim) : code;
}

static ErrCode block(Pass *p, int layer)
{
    const size_t n = p->n * (size_t)p->c->dim;
    ErrCode code = layer_norm(p, TAP_LN_1, layer, "ln_1.weight", "ln_1.bias");

    if (code == ERR_OK)
        code = attention(p, layer);
    if (code != ERR_OK)
        return code;
    add(p, p->x.value, p->x.value, p->branch.value, n);
    code = layer_norm(p, TAP_LN_2, layer, "ln_2.weight", "ln_2.bias");
    if (code == ERR_OK)
        code = feed_forward(p, layer);
    if (code != ERR_OK)
        return code;
    add(p, p->x.value, p->x.value, p->branch.value, n);
    return emit(p, TAP_BLOCK, layer, p->x.value, p->n, (size_t)p->c->dim);
}

static ErrCode logits(Pass *p)
{
    const bool tied = p->c->tied_head;
    const DoubleLinear head = {.weight = tied ? "wte.weight" : "lm_head.weight",
                               .n = (size_t)p->c->vocab_size,
                               .k = (size_t)p->c->dim,
                               .type = p->m->head.w.type};
    ErrCode code = layer_norm(p, TAP_LN_F, -1, "ln_f.weight", "ln_f.bias");

    if (code == ERR_OK)
        code = double_linear(&p->weights, &head, &p->logits, &p->norm, p->row, p->err);
    if (code == ERR_OK && p->allowed != NULL)
        double_allow_product(p->allowed, &p->logits);
    return code == ERR_OK ? emit(p, TAP_LOGITS, -1, p->logits.value, p->n, head.n) : code;
}

ErrCode double_pass(const Gpt2 *m, const int32_t *ids, int n_ids, const DoubleSink *sink, Err *err)
{
    const size_t n = (size_t)n_ids, dim = (size_t)m->config.dim;
    Pass p = {.m = m, .c = &m->config, .sink = sink, .ids = ids, .n = n, .err = err};
    ErrCode code = double_weights_open(&p.weights, m, err);

    if (code == ERR_OK)
        code = take_memory(&p, err);
    p.norm.n_rows = n;
    p.norm.n_cols = dim;
    if (code == ERR_OK)
        code = embeddings(&p);
    for (int layer = 0; code == ERR_OK && layer < m->config.n_layers; layer++)
        code = block(&p, layer);
    if (code == ERR_OK)
        code = logits(&p);
    arena_free(&p.arena);
    double_weights_close(&p.weights);
    return code;
}
