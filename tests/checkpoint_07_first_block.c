/* tests/checkpoint_07_first_block.c: a whole block: pre-norm, two plain residuals. Each block is
 * also run on the reference's output of the block before it, so that drift cannot hide a fault. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "layers/transformer.h"

/* x after block l of the model. */
static float *run(const CheckModel *m, const TransformerBlock *b, const Kernels *isa, int layer,
                  const float *in, int n)
{
    Gpt2Run *r = check_run(&m->model, isa, n);
    float *x = check_copy(in, (size_t)n * (size_t)m->model.config.dim);
    Err err = {0};

    if (transformer_forward(b, isa, x, n, 0, layer, &r->cache, &r->room, NULL, &err) != ERR_OK)
        check_bail("transformer_forward: %s", err.msg);
    return x;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const CheckRef *want = check_ref(m, "checkpoint_07_block_output");
    const TransformerBlock *b = &m->model.blocks[0];
    const float *scalar = run(m, b, check_first_isa(), 0, in->data, in->rows);

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const float *got = run(m, b, isa, 0, in->data, in->rows);

        CHECK_CLOSE(got, want->data, want->n, TOL_BLOCK, "%s %s: block 0", m->name, isa->name);
        CHECK_SAME_BITS(run(m, b, isa, 0, in->data, in->rows), got, want->n,
                        "%s %s: the same bits twice", m->name, isa->name);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's bits", m->name, isa->name);
    }
    CHECK_SAME_BITS(check_ref(m, "checkpoint_07_block_00")->data, want->data, want->n,
                    "%s: block_output and block_00 are the same reference", m->name);
}

static void every_block(const CheckModel *m, const Kernels *isa)
{
    static char names[64][32];
    const CheckRef *in = check_ref(m, "embeddings");

    for (int i = 0; i < m->model.config.n_layers; i++) {
        const CheckRef *want;

        snprintf(names[i], sizeof names[i], "checkpoint_07_block_%02d", i);
        want = check_ref(m, names[i]);
        CHECK_CLOSE(run(m, &m->model.blocks[i], isa, i, in->data, in->rows), want->data, want->n,
                    TOL_BLOCK, "%s %s: block %d on the reference's input", m->name, isa->name, i);
        in = want;
    }
}

/* The parts of a block, put together in the wrong way. */
typedef struct {
    const TransformerBlock *b;
    const Kernels *isa;
    Gpt2Run *r;
    int n;
} Parts;

static void norm(const Parts *p, const LayerNorm *ln, float *y, const float *x)
{
    layer_norm_forward(ln, p->isa, y, x, p->n);
}

static float *attend(const Parts *p, const float *x)
{
    float *y = check_buffer((size_t)p->n * (size_t)p->b->ln_1.dim);
    Err err = {0};

    if (attention_forward(&p->b->attention, p->isa, y, x, p->n, 0, 0, &p->r->cache,
                          &p->r->room.attention, NULL, &err) != ERR_OK)
        check_bail("attention_forward: %s", err.msg);
    return y;
}

static float *feed(const Parts *p, const float *x)
{
    float *y = check_buffer((size_t)p->n * (size_t)p->b->ln_1.dim);

    (void)ffn_forward(&p->b->ffn, p->isa, y, x, p->n, 0, p->r->room.hidden,
                      p->r->room.attention.scratch, NULL);
    return y;
}

static float *post_norm(const Parts *p, const float *in, size_t n_values)
{
    float *x = check_copy(in, n_values);

    p->isa->add(x, attend(p, in), n_values);
    norm(p, &p->b->ln_1, x, x);
    p->isa->add(x, feed(p, x), n_values);
    norm(p, &p->b->ln_2, x, x);
    return x;
}

/* residuals: bit 0 the first, bit 1 the second. All of them is the right block. */
static float *with_residuals(const Parts *p, const float *in, size_t n_values, int residuals)
{
    float *h = check_buffer(n_values), *x, *y;

    norm(p, &p->b->ln_1, h, in);
    x = attend(p, h);
    if (residuals & 1)
        p->isa->add(x, in, n_values);
    norm(p, &p->b->ln_2, h, x);
    y = feed(p, h);
    if (residuals & 2)
        p->isa->add(y, x, n_values);
    return y;
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const CheckRef *want = check_ref(m, "checkpoint_07_block_output");
    const TransformerBlock *b = &m->model.blocks[0];
    const Kernels *isa = check_first_isa();
    const Parts p = {b, isa, check_run(&m->model, isa, in->rows), in->rows};
    TransformerBlock wrong = *b;

    CHECK_CLOSE(with_residuals(&p, in->data, in->n, 3), want->data, want->n, TOL_BLOCK,
                "%s: the parts put together by hand", m->name);
    CHECK_NOT_CLOSE(with_residuals(&p, in->data, in->n, 2), want->data, want->n, TOL_BLOCK,
                    "%s caught: first residual missing", m->name);
    CHECK_NOT_CLOSE(with_residuals(&p, in->data, in->n, 1), want->data, want->n, TOL_BLOCK,
                    "%s caught: second residual missing", m->name);
    CHECK_NOT_CLOSE(post_norm(&p, in->data, in->n), want->data, want->n, TOL_BLOCK,
                    "%s caught: norm after the residual", m->name);
    wrong.ln_1 = b->ln_2;
    wrong.ln_2 = b->ln_1;
    CHECK_NOT_CLOSE(run(m, &wrong, isa, 0, in->data, in->rows), want->data, want->n, TOL_BLOCK,
                    "%s caught: ln_1 and ln_2 exchanged", m->name);
    CHECK_NOT_CLOSE(run(m, &m->model.blocks[1], isa, 0, in->data, in->rows), want->data, want->n,
                    TOL_BLOCK, "%s caught: the weights of block 1", m->name);
}

/* Position 0 on its own, then the others in a second call: the cache carries them. */
static void in_two_calls(const CheckModel *m, const Kernels *isa)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const TransformerBlock *b = &m->model.blocks[0];
    const size_t dim = (size_t)m->model.config.dim;
    const float *whole = run(m, b, isa, 0, in->data, in->rows);
    Gpt2Run *r = check_run(&m->model, isa, in->rows);
    float *x = check_copy(in->data, in->n);
    Err err = {0};

    if (transformer_forward(b, isa, x, 1, 0, 0, &r->cache, &r->room, NULL, &err) != ERR_OK ||
        transformer_forward(b, isa, x + dim, in->rows - 1, 1, 0, &r->cache, &r->room, NULL, &err) !=
            ERR_OK)
        check_bail("transformer_forward: %s", err.msg);
    CHECK_SAME_BITS(x, whole, in->n, "%s %s: in two calls the same bits", m->name, isa->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        const CheckModel *m = check_model(i);

        on_references(m);
        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
            every_block(m, k);
            in_two_calls(m, k);
        }
        mistakes(m);
    }
    return check_report();
}
