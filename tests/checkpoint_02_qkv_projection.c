/* tests/checkpoint_02_qkv_projection.c: queries, keys and values of block 0, from the reference's
 * checkpoint 1, so that an error in LayerNorm does not show up here. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "layers/attention/qkv.h"

typedef struct {
    float *q, *k, *v; /* [T, dim] each, contiguous */
    float *combined;
} Result;

/* The layer's three views, copied out of the combined rows. */
static Result run(const Qkv *l, const Kernels *k, const float *x, int n_tokens, float *scratch)
{
    const size_t dim = (size_t)l->dim, n = (size_t)n_tokens * dim;
    Result r = {check_buffer(n), check_buffer(n), check_buffer(n), check_buffer(3 * n)};
    QkvView view;

    if (!qkv_forward(l, k, &view, r.combined, x, n_tokens, scratch, NULL))
        check_bail("qkv_forward stopped without a tap");
    for (size_t t = 0; t < (size_t)n_tokens; t++) {
        memcpy(r.q + t * dim, view.q + t * view.stride, dim * sizeof *r.q);
        memcpy(r.k + t * dim, view.k + t * view.stride, dim * sizeof *r.k);
        memcpy(r.v + t * dim, view.v + t * view.stride, dim * sizeof *r.v);
    }
    return r;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_01_ln1_output");
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const CheckRef *v = check_ref(m, "checkpoint_02_v");
    const Qkv *l = &m->model.blocks[0].attention.qkv;
    const Result scalar = run(l, check_first_isa(), in->data, in->rows, check_scratch(m, in->rows));
    float *x = check_copy(in->data, in->n);

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const Result got = run(l, isa, x, in->rows, check_scratch(m, in->rows));
        const Result again = run(l, isa, x, in->rows, check_scratch(m, in->rows));

        CHECK_CLOSE(got.q, q->data, q->n, TOL_QKV, "%s %s: q", m->name, isa->name);
        CHECK_CLOSE(got.k, k->data, k->n, TOL_QKV, "%s %s: k", m->name, isa->name);
        CHECK_CLOSE(got.v, v->data, v->n, TOL_QKV, "%s %s: v", m->name, isa->name);
        CHECK_SAME_BITS(again.combined, got.combined, 3 * q->n, "%s %s: the same bits twice",
                        m->name, isa->name);
        CHECK_SAME_BITS(got.combined, scalar.combined, 3 * q->n, "%s %s: the scalar table's bits",
                        m->name, isa->name);
        CHECK_SAME_BITS(x, in->data, in->n, "%s %s: the input is not changed", m->name, isa->name);
        CHECK_NOT_CLOSE(got.q, got.k, q->n, TOL_QKV, "%s %s: q and k differ", m->name, isa->name);
        CHECK_NOT_CLOSE(got.k, got.v, q->n, TOL_QKV, "%s %s: k and v differ", m->name, isa->name);
    }
}

/* Reading the combined rows as q, k, v of head 0, then of head 1, ... */
static float *interleaved_q(const CheckModel *m, const float *combined, int n_tokens)
{
    const Gpt2Config *c = &m->model.config;
    float *q = check_buffer((size_t)n_tokens * (size_t)c->dim);

    for (int t = 0; t < n_tokens; t++)
        for (int h = 0; h < c->n_heads; h++)
            memcpy(q + t * c->dim + h * c->head_dim,
                   combined + t * 3 * c->dim + h * 3 * c->head_dim,
                   (size_t)c->head_dim * sizeof *q);
    return q;
}

static void wrong_weights(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_01_ln1_output");
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const Kernels *isa = check_first_isa();
    const Qkv right = m->model.blocks[0].attention.qkv;
    float *scratch = check_scratch(m, in->rows), *w = check_unpack(&right.c_attn);
    Qkv wrong = right;

    wrong.c_attn.bias = NULL;
    CHECK_NOT_CLOSE(run(&wrong, isa, in->data, in->rows, scratch).q, q->data, q->n, TOL_QKV,
                    "%s caught: no bias (q)", m->name);
    CHECK_NOT_CLOSE(run(&wrong, isa, in->data, in->rows, scratch).k, k->data, k->n, TOL_QKV,
                    "%s caught: no bias (k)", m->name);

    wrong.c_attn =
        check_linear(w, KERN_IN_OUT, right.c_attn.bias, right.c_attn.w.k, right.c_attn.w.n);
    CHECK_CLOSE(run(&wrong, isa, in->data, in->rows, scratch).q, q->data, q->n, TOL_QKV,
                "%s: weights unpacked and packed again give the same", m->name);
    wrong.c_attn =
        check_linear(w, KERN_OUT_IN, right.c_attn.bias, right.c_attn.w.k, right.c_attn.w.n);
    CHECK_NOT_CLOSE(run(&wrong, isa, in->data, in->rows, scratch).q, q->data, q->n, TOL_QKV,
                    "%s caught: weights read as [out, in]", m->name);
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_01_ln1_output");
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *v = check_ref(m, "checkpoint_02_v");
    const Gpt2Config *c = &m->model.config;
    const Result good = run(&m->model.blocks[0].attention.qkv, check_first_isa(), in->data,
                            in->rows, check_scratch(m, in->rows));
    const CompareView other = {
        .data = good.q,
        .n_dims = 3,
        .dims = {(size_t)in->rows, (size_t)c->n_heads * 2, (size_t)c->head_dim / 2}};
    const Comparison shape = compare_tensors(&other, &q->view, TOL_QKV);

    wrong_weights(m);
    CHECK_NOT_CLOSE(good.k, q->data, q->n, TOL_QKV, "%s caught: thirds in the order k, q, v",
                    m->name);
    CHECK_NOT_CLOSE(good.k, v->data, v->n, TOL_QKV, "%s caught: thirds in the order q, v, k",
                    m->name);
    CHECK_NOT_CLOSE(interleaved_q(m, good.combined, in->rows), q->data, q->n, TOL_QKV,
                    "%s caught: q, k, v interleaved per head", m->name);
    CHECK(shape.verdict == COMPARE_SHAPE,
          "%s caught: twice the heads of half the width, by the shape", m->name);
}

/* S4: D 1024, W[c][o] = 0.1 sin((o + c) 0.01), b[o] = 0.1 cos(o 0.01), x as S1. */
static void vector(const Kernels *isa)
{
    static const float q0[] = {2.8825936f, 2.8443441f, 2.8058101f, 2.7669956f, 2.7279043f};
    static const float k0[] = {0.7970390f, 0.8441097f, 0.8910960f, 0.9379931f, 0.9847965f};
    static const float v0[] = {-3.9756640f, -4.0019679f, -4.0278716f, -4.0533725f, -4.0784681f};
    static const float row1[] = {7.6753348f,  7.6416277f,  -2.8374562f,
                                 -2.7585981f, -3.7840080f, -3.8584479f};
    enum { D = 1024 };
    float *w = check_buffer((size_t)D * 3 * D), *b = check_buffer(3 * D), *x = check_buffer(2 * D);
    float got[6], largest = 0.0f;
    Qkv l = {.dim = D};
    Result r;

    for (int i = 0; i < D; i++)
        for (int o = 0; o < 3 * D; o++)
            w[(size_t)i * 3 * D + (size_t)o] = (float)(0.1 * sin((double)((float)(o + i) * 0.01f)));
    for (int o = 0; o < 3 * D; o++)
        b[o] = (float)(0.1 * cos((double)((float)o * 0.01f)));
    for (int n = 0; n < 2 * D; n++)
        x[n] = (float)(0.5 * sin((double)((float)n * 0.001f)));
    l.c_attn = check_linear(w, KERN_IN_OUT, b, D, 3 * D);
    r = run(&l, isa, x, 2, check_buffer(kern_input_bytes(2, D) / sizeof(float)));
    CHECK_CLOSE(r.q, q0, 5, TOL_QKV, "S4 %s: q of row 0", isa->name);
    CHECK_CLOSE(r.k, k0, 5, TOL_QKV, "S4 %s: k of row 0", isa->name);
    CHECK_CLOSE(r.v, v0, 5, TOL_QKV, "S4 %s: v of row 0", isa->name);
    for (int i = 0; i < 2; i++) {
        got[i] = r.q[D + i];
        got[2 + i] = r.k[D + i];
        got[4 + i] = r.v[D + i];
    }
    CHECK_CLOSE(got, row1, 6, TOL_QKV, "S4 %s: row 1", isa->name);
    for (int i = 0; i < 6 * D; i++)
        largest = fmaxf(largest, fabsf(r.combined[i]));
    CHECK_CLOSE(&largest, &(const float){8.3675f}, 1, TOL_QKV, "S4 %s: largest magnitude",
                isa->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        mistakes(check_model(i));
    }
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        vector(k);
    return check_report();
}
