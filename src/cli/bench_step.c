/* cli/bench_step.c: see bench_step.h. The layers' own functions, in the order of
 * model/gpt2.c and layers/transformer.c; a test compares the logits.
 *
 * May include: common, layers, model, sampling. */
#include "cli/bench_step.h"

#include "common/clock.h"
#include "layers/attention/scores.h"

typedef struct {
    Gpt2Run *run;
    BenchParts *parts;
    uint64_t last_ns;
} Watch;

/* The time since the last lap goes to *part. */
static void lap(Watch *w, double *part)
{
    const uint64_t now = clock_now_ns();

    *part += (double)(now - w->last_ns) * 1e-9;
    w->last_ns = now;
}

static void product(Watch *w, const Linear *l, float *y, const float *x)
{
    const Kernels *k = w->run->k;
    void *input = w->run->room.attention.scratch;

    k->linear_input(input, l->w.type, x, (size_t)l->w.k, 1, l->w.k);
    lap(w, &w->parts->rest);
    k->linear(y, (size_t)l->w.n, &l->w, 0, l->w.n, l->bias, input, 1);
    lap(w, &w->parts->products);
}

/* Some heads at a time, so that the clock is read seldom: their rows lie where those of several
 * queries would. */
static void attend(Watch *w, const Attention *a, const float *q, int layer, int n_keys)
{
    const Gpt2Run *run = w->run;
    const AttentionRoom *room = &run->room.attention;
    const size_t row = kern_pad((size_t)run->cache.n_ctx);
    const size_t head_dim = (size_t)a->head_dim;

    for (int first = 0; first < a->n_heads; first += KERN_QUERIES) {
        const int left = a->n_heads - first;
        const int n = left < KERN_QUERIES ? left : KERN_QUERIES;
        float inv[KERN_QUERIES];

        lap(w, &w->parts->rest);
        for (int j = 0; j < n; j++)
            scores_forward(run->k, room->rows + (size_t)j * row, row,
                           q + (size_t)(first + j) * head_dim, 0, 1, &run->cache, layer, first + j,
                           n_keys, a->scale);
        lap(w, &w->parts->cache);
        for (int j = 0; j < n; j++)
            inv[j] = scores_softmax(run->k, room->rows + (size_t)j * row, n_keys);
        lap(w, &w->parts->rest);
        for (int j = 0; j < n; j++)
            output_values(run->k, room->merged + (size_t)(first + j) * head_dim, 0,
                          room->rows + (size_t)j * row, row, inv + j, 1, &run->cache, layer,
                          first + j, n_keys);
        lap(w, &w->parts->cache);
    }
}

static ErrCode block(Watch *w, const TransformerBlock *b, int layer, Err *err)
{
    Gpt2Run *run = w->run;
    const TransformerRoom *room = &run->room;
    const Kernels *k = run->k;
    const size_t dim = (size_t)b->ln_1.dim;
    const int pos = run->cache.length;
    float *qkv = room->attention.combined;

    layer_norm_forward(&b->ln_1, k, room->norm, run->x, 1);
    product(w, &b->attention.qkv.c_attn, qkv, room->norm);
    const ErrCode code =
        kv_cache_write(&run->cache, k, layer, pos, qkv + dim, qkv + 2 * dim, 3 * dim, 1, err);
    if (code != ERR_OK)
        return code;
    attend(w, &b->attention, qkv, layer, pos + 1);
    product(w, &b->attention.output.c_proj, room->branch, room->attention.merged);
    k->add(run->x, room->branch, dim);

    layer_norm_forward(&b->ln_2, k, room->norm, run->x, 1);
    product(w, &b->ffn.c_fc, room->hidden, room->norm);
    k->activation[b->ffn.activation](room->hidden, room->hidden, (size_t)b->ffn.c_fc.w.n);
    product(w, &b->ffn.c_proj, room->branch, room->hidden);
    k->add(run->x, room->branch, dim);
    return ERR_OK;
}

ErrCode bench_step(Gpt2Run *run, int32_t id, Sampler *sampler, BenchParts *parts, int *chosen,
                   Err *err)
{
    const Gpt2 *m = run->model;
    Watch w = {.run = run, .parts = parts, .last_ns = clock_now_ns()};
    ErrCode code = ERR_OK;

    if (run->cache.length >= run->cache.n_ctx)
        return err_set(err, ERR_LIMIT, "the context is full");
    embedding_forward(&m->embedding, run->k, run->x, &id, 1, run->cache.length);
    for (int i = 0; code == ERR_OK && i < m->config.n_layers; i++)
        code = block(&w, &m->blocks[i], i, err);
    if (code != ERR_OK)
        return code;
    layer_norm_forward(&m->ln_f, run->k, run->last, run->x, 1);
    product(&w, &m->head, run->logits, run->last);
    kv_cache_advance(&run->cache, 1);
    code = sampler_next(sampler, run->logits, chosen, err);
    lap(&w, &parts->rest);
    return code;
}
