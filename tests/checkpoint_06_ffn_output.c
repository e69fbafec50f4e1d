/* tests/checkpoint_06_ffn_output.c: the feed-forward part of block 0, from the reference's ln_2. */
#include <string.h>

#include "check.h"
#include "layers/ffn.h"

static float *run(const CheckModel *m, const Ffn *f, const Kernels *isa, const float *x, int n)
{
    float *y = check_buffer((size_t)n * (size_t)f->c_proj.w.n);
    float *hidden = check_buffer((size_t)n * (size_t)f->c_fc.w.n);

    if (!ffn_forward(f, isa, y, x, n, 0, hidden, check_scratch(m, n), NULL))
        check_bail("ffn_forward stopped without a tap");
    return y;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_05b_ln2_output");
    const CheckRef *want = check_ref(m, "checkpoint_06_ffn");
    const Ffn *f = &m->model.blocks[0].ffn;
    const float *scalar = run(m, f, check_first_isa(), in->data, in->rows);
    float *x = check_copy(in->data, in->n);

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const float *got = run(m, f, isa, x, in->rows);

        CHECK_CLOSE(got, want->data, want->n, TOL_FFN, "%s %s: feed-forward", m->name, isa->name);
        CHECK_SAME_BITS(run(m, f, isa, x, in->rows), got, want->n, "%s %s: the same bits twice",
                        m->name, isa->name);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's bits", m->name, isa->name);
        CHECK_SAME_BITS(x, in->data, in->n, "%s %s: the input is not changed", m->name, isa->name);
        CHECK_SAME_BITS(run(m, f, isa, x, 1), got, (size_t)m->model.config.dim,
                        "%s %s: a token alone gives the same bits", m->name, isa->name);
    }
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "checkpoint_05b_ln2_output");
    const CheckRef *attention = check_ref(m, "checkpoint_05_output");
    const CheckRef *want = check_ref(m, "checkpoint_06_ffn");
    const Ffn *right = &m->model.blocks[0].ffn;
    const Linear *fc = &right->c_fc, *proj = &right->c_proj;
    const Kernels *isa = check_first_isa();
    const int n = in->rows;
    static const struct {
        Activation activation;
        const char *what;
    } others[] = {{ACT_GELU_ERF, "GELU in the erf form"},
                  {ACT_RELU, "ReLU instead of GELU"},
                  {ACT_SILU, "SiLU instead of GELU"},
                  {ACT_TANH, "tanh instead of GELU"}};
    Ffn wrong = *right;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        wrong.activation = others[i].activation;
        CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                        "%s caught: %s", m->name, others[i].what);
    }
    CHECK_NOT_CLOSE(run(m, right, isa, attention->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: checkpoint 5 as input", m->name);
    wrong = *right;
    wrong.c_fc.bias = NULL;
    CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: c_fc without bias", m->name);
    wrong = *right;
    wrong.c_proj.bias = NULL;
    CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: c_proj without bias", m->name);
    wrong = *right;
    wrong.c_fc = check_linear(check_unpack(fc), KERN_OUT_IN, fc->bias, fc->w.k, fc->w.n);
    CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: c_fc read as [out, in]", m->name);
    wrong = *right;
    wrong.c_proj = check_linear(check_unpack(proj), KERN_OUT_IN, proj->bias, proj->w.k, proj->w.n);
    CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: c_proj read as [out, in]", m->name);
    wrong = *right;
    wrong.c_fc.w.n /= 2;
    wrong.c_proj =
        check_linear(check_unpack(proj), KERN_IN_OUT, proj->bias, wrong.c_fc.w.n, proj->w.n);
    CHECK_NOT_CLOSE(run(m, &wrong, isa, in->data, n), want->data, want->n, TOL_FFN,
                    "%s caught: half the width", m->name);
}

/* Known GELU values: the tanh form is right, the erf form is the mix-up. */
static void gelu(const Kernels *isa)
{
    static const float x[] = {-3.0f, -2.0f, -1.0f, -0.5f, 0.0f, 0.5f, 1.0f, 2.0f, 3.0f};
    static const float by_tanh[] = {-0.00363739f, -0.04540231f, -0.15880801f, -0.15428599f, 0.0f,
                                    0.34571401f,  0.84119199f,  1.95459769f,  2.99636261f};
    static const float by_erf[] = {-0.00404969f, -0.04550026f, -0.15865525f, -0.15426877f, 0.0f,
                                   0.34573123f,  0.84134475f,  1.95449974f,  2.99595031f};
    float *got = check_buffer(9);

    isa->activation[ACT_GELU_TANH](got, x, 9);
    CHECK_CLOSE(got, by_tanh, 9, 1e-6, "%s: GELU in the tanh form", isa->name);
    CHECK_NOT_CLOSE(got, by_erf, 9, 1e-5, "%s: which is not the erf form", isa->name);
    isa->activation[ACT_GELU_ERF](got, x, 9);
    CHECK_CLOSE(got, by_erf, 9, 1e-6, "%s: GELU in the erf form", isa->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        CHECK(check_model(i)->model.blocks[0].ffn.activation == ACT_GELU_TANH,
              "%s: gelu_new is the tanh form", check_model(i)->name);
        on_references(check_model(i));
        mistakes(check_model(i));
    }
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        gelu(k);
    return check_report();
}
