/* tests/checkpoint_05_attention_output.c: values weighted by the reference's probabilities, heads
 * merged, c_proj; then the whole attention layer; then ln_2 (checkpoint 5b). */
#include <string.h>

#include "check.h"
#include "layers/attention/attention.h"

/* What may be wrong between probabilities and output. */
typedef struct {
    bool interleave_heads; /* column e * heads + n instead of n * head_dim + e */
    bool swap_heads;       /* values of the next head */
    const float *probs;    /* NULL: the reference's */
    const AttentionOutput *layer;
} Variant;

static KvCache *values_of(const CheckModel *m)
{
    const CheckRef *k = check_ref(m, "checkpoint_02_k"), *v = check_ref(m, "checkpoint_02_v");
    const Gpt2Config *c = &m->model.config;
    KvCache *cache = check_cache(1, c->n_heads, c->head_dim, v->rows);
    Err err = {0};

    if (kv_cache_write(cache, check_first_isa(), 0, 0, k->data, v->data, (size_t)c->dim, v->rows,
                       &err) != ERR_OK)
        check_bail("cache: %s", err.msg);
    return cache;
}

static float *merge(const CheckModel *m, const Kernels *isa, Variant variant)
{
    const CheckRef *probs = check_ref(m, "checkpoint_04_probs");
    const Gpt2Config *c = &m->model.config;
    const KvCache *cache = values_of(m);
    const int n = cache->n_ctx;
    const float *p = variant.probs != NULL ? variant.probs : probs->data;
    float *merged = check_buffer((size_t)n * (size_t)c->dim),
          *o = check_buffer((size_t)c->head_dim);

    for (int h = 0; h < c->n_heads; h++)
        for (int t = 0; t < n; t++) {
            const int from = variant.swap_heads ? (h + 1) % c->n_heads : h;
            const int n_keys = variant.probs != NULL ? n : t + 1;

            output_values(isa, o, 0, p + ((size_t)h * (size_t)n + (size_t)t) * (size_t)n, 0,
                          &(const float){1.0f}, 1, cache, 0, from, n_keys);
            for (int e = 0; e < c->head_dim; e++)
                merged[t * c->dim + (variant.interleave_heads ? e * c->n_heads + h
                                                              : h * c->head_dim + e)] = o[e];
        }
    return merged;
}

static float *output(const CheckModel *m, const Kernels *isa, Variant variant)
{
    const int n = m->n_ids;
    const AttentionOutput *l =
        variant.layer != NULL ? variant.layer : &m->model.blocks[0].attention.output;
    float *y = check_buffer((size_t)n * (size_t)m->model.config.dim);

    if (!output_forward(l, isa, y, merge(m, isa, variant), n, check_scratch(m, n), NULL))
        check_bail("output_forward stopped without a tap");
    return y;
}

/* The whole layer on a checkpoint 1 tensor, as the model calls it. */
static float *attention(const CheckModel *m, const Kernels *isa, const float *x, int n)
{
    Gpt2Run *run = check_run(&m->model, isa, n);
    float *y = check_buffer((size_t)n * (size_t)m->model.config.dim);
    Err err = {0};

    if (attention_forward(&m->model.blocks[0].attention, isa, y, x, n, 0, 0, &run->cache,
                          &run->room.attention, NULL, &err) != ERR_OK)
        check_bail("attention_forward: %s", err.msg);
    return y;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_01_ln1_output");
    const CheckRef *want = check_ref(m, "checkpoint_05_output");
    const float *scalar = output(m, check_first_isa(), (Variant){0});
    const float *scalar_whole = attention(m, check_first_isa(), in->data, in->rows);

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const float *got = output(m, isa, (Variant){0});
        const float *whole = attention(m, isa, in->data, in->rows);

        CHECK_CLOSE(got, want->data, want->n, TOL_ATTENTION, "%s %s: values, merge and c_proj",
                    m->name, isa->name);
        CHECK_CLOSE(whole, want->data, want->n, TOL_ATTENTION, "%s %s: the whole attention",
                    m->name, isa->name);
        CHECK_SAME_BITS(attention(m, isa, in->data, in->rows), whole, want->n,
                        "%s %s: the same bits twice", m->name, isa->name);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's output", m->name,
                        isa->name);
        CHECK_SAME_BITS(whole, scalar_whole, want->n, "%s %s: the scalar table's attention",
                        m->name, isa->name);
        CHECK_SAME_BITS(attention(m, isa, in->data, in->rows - 1), whole,
                        want->n - (size_t)m->model.config.dim,
                        "%s %s: one token less changes no row", m->name, isa->name);
    }
}

/* Probabilities as they are without a causal mask: the softmax of the unmasked scores. */
static float *unmasked_probs(const CheckModel *m, const Kernels *isa)
{
    const CheckRef *scores = check_ref(m, "checkpoint_04_scores");
    const int n = (int)scores->view.dims[2];
    float *p = check_copy(scores->data, scores->n);

    for (size_t r = 0; r < scores->n / (size_t)n; r++) {
        const float inv = 1.0f / isa->softmax_exp(p + r * (size_t)n, p + r * (size_t)n, n);

        for (int i = 0; i < n; i++)
            p[r * (size_t)n + (size_t)i] *= inv;
    }
    return p;
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *want = check_ref(m, "checkpoint_05_output");
    const Kernels *isa = check_first_isa();
    const Linear *l = &m->model.blocks[0].attention.output.c_proj;
    const float *w = check_unpack(l);
    const size_t dim = (size_t)l->w.n, last = want->n - dim;
    const AttentionOutput transposed = {check_linear(w, KERN_OUT_IN, l->bias, l->w.k, l->w.n)};
    AttentionOutput no_bias = {*l};
    const float *unmasked = output(m, isa, (Variant){.probs = unmasked_probs(m, isa)});

    no_bias.c_proj.bias = NULL;
    CHECK_NOT_CLOSE(output(m, isa, (Variant){.layer = &transposed}), want->data, want->n,
                    TOL_ATTENTION, "%s caught: c_proj transposed, which has no other shape",
                    m->name);
    CHECK_NOT_CLOSE(output(m, isa, (Variant){.layer = &no_bias}), want->data, want->n,
                    TOL_ATTENTION, "%s caught: c_proj without bias", m->name);
    CHECK_NOT_CLOSE(output(m, isa, (Variant){.interleave_heads = true}), want->data, want->n,
                    TOL_ATTENTION, "%s caught: heads merged element by element", m->name);
    CHECK_NOT_CLOSE(output(m, isa, (Variant){.swap_heads = true}), want->data, want->n,
                    TOL_ATTENTION, "%s caught: values of another head", m->name);
    CHECK_NOT_CLOSE(merge(m, isa, (Variant){0}), want->data, want->n, TOL_ATTENTION,
                    "%s caught: c_proj forgotten", m->name);
    /* The defect of the first recorded tensors: only the last row sees every key anyway. */
    CHECK_NOT_CLOSE(unmasked, want->data, dim, TOL_ATTENTION, "%s caught: no causal mask, in row 0",
                    m->name);
    CHECK_CLOSE(unmasked + last, want->data + last, dim, TOL_ATTENTION,
                "%s: without a mask the last row alone would pass", m->name);
}

/* Checkpoint 5b: ln_2 of embeddings + attention. */
static void second_norm(const CheckModel *m)
{
    const CheckRef *x = check_ref(m, "embeddings"), *a = check_ref(m, "checkpoint_05_output");
    const CheckRef *want = check_ref(m, "checkpoint_05b_ln2_output");
    const TransformerBlock *b = &m->model.blocks[0];

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        float *sum = check_copy(x->data, x->n), *got = check_buffer(want->n);

        isa->add(sum, a->data, x->n);
        layer_norm_forward(&b->ln_2, isa, got, sum, x->rows);
        CHECK_CLOSE(got, want->data, want->n, TOL_ATTENTION, "%s %s: 5b, ln_2 of the sum", m->name,
                    isa->name);
        layer_norm_forward(&b->ln_2, isa, got, a->data, x->rows);
        CHECK_NOT_CLOSE(got, want->data, want->n, TOL_ATTENTION,
                        "%s %s caught: 5b without the residual", m->name, isa->name);
        layer_norm_forward(&b->ln_1, isa, got, sum, x->rows);
        CHECK_NOT_CLOSE(got, want->data, want->n, TOL_ATTENTION, "%s %s caught: 5b with ln_1",
                        m->name, isa->name);
    }
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        mistakes(check_model(i));
        second_norm(check_model(i));
    }
    return check_report();
}
