/* tests/checkpoint_08_full_logits.c: all blocks, ln_f and the head: logits of every position. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "checkpoint/quantity.h"

static float *stage(const CheckModel *m, const Gpt2 *model, const Kernels *isa, TapStage which,
                    size_t n_values)
{
    float *out = check_buffer(n_values);
    Err err = {0};

    if (quantity_stage(model, isa, m->ids, m->n_ids, which, out, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    return out;
}

static float *logits(const CheckModel *m, const Gpt2 *model, const Kernels *isa)
{
    return stage(m, model, isa, TAP_LOGITS, (size_t)m->n_ids * (size_t)m->model.config.vocab_size);
}

static void on_references(const CheckModel *m)
{
    const CheckRef *want = check_ref(m, "checkpoint_08_logits");
    const CheckRef *want_f = check_ref(m, "checkpoint_08_ln_f");
    const float *scalar = logits(m, &m->model, check_first_isa());

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const float *got = logits(m, &m->model, isa);

        CHECK_CLOSE(stage(m, &m->model, isa, TAP_LN_F, want_f->n), want_f->data, want_f->n,
                    TOL_LOGITS, "%s %s: ln_f", m->name, isa->name);
        CHECK_CLOSE(got, want->data, want->n, TOL_LOGITS, "%s %s: logits of all rows", m->name,
                    isa->name);
        CHECK_SAME_BITS(logits(m, &m->model, isa), got, want->n, "%s %s: the same bits twice",
                        m->name, isa->name);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's bits", m->name, isa->name);
    }
}

/* What a pass went through. */
typedef struct {
    int blocks, heads, last_layer;
    bool in_order;
} Trace;

static void trace_block(void *ctx, const TapEvent *e)
{
    Trace *t = ctx;

    if (e->stage == TAP_LOGITS)
        t->heads += e->n_rows;
    if (e->stage != TAP_BLOCK)
        return;
    t->in_order = t->in_order && e->layer == t->last_layer + 1;
    t->last_layer = e->layer;
    t->blocks++;
}

static void structure(const CheckModel *m, const Kernels *isa)
{
    const Gpt2Config *c = &m->model.config;
    Trace trace = {.last_layer = -1, .in_order = true};
    const Tap tap = {.ctx = &trace, .observe = trace_block};
    Gpt2Run *run = check_run(&m->model, isa, m->n_ids);
    Err err = {0};
    int best = 0;

    if (gpt2_prefill(run, m->ids, m->n_ids, m->n_ids, &tap, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    CHECK(trace.blocks == c->n_layers && trace.in_order, "%s %s: all %d blocks, in order", m->name,
          isa->name, c->n_layers);
    CHECK(trace.heads == m->n_ids, "%s %s: an observer sees the logits of all rows", m->name,
          isa->name);
    for (int i = 1; i < c->vocab_size; i++)
        best = run->logits[i] > run->logits[best] ? i : best;
    CHECK(best < tokenizer_vocab_size(m->tokenizer),
          "%s %s: the best token is one of the tokenizer's", m->name, isa->name);
}

/* Any chunking, and a cache that is reused from a common beginning, gives the same bits. */
static void pieces(const CheckModel *m, const Kernels *isa)
{
    static const int chunks[] = {1, 3, 7};
    const size_t n_vocab = (size_t)m->model.config.vocab_size;
    Gpt2Run *run = check_run(&m->model, isa, m->n_ids);
    const float *last = logits(m, &m->model, isa) + (size_t)(m->n_ids - 1) * n_vocab;
    Err err = {0};

    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        gpt2_reset(run);
        if (gpt2_prefill(run, m->ids, m->n_ids, chunks[i], NULL, &err) != ERR_OK)
            check_bail("%s: %s", m->name, err.msg);
        CHECK_SAME_BITS(run->logits, last, n_vocab, "%s %s: %d tokens a pass, same last row",
                        m->name, isa->name, chunks[i]);
    }
    kv_cache_truncate(&run->cache, m->n_ids / 2);
    if (gpt2_prefill(run, m->ids + m->n_ids / 2, m->n_ids - m->n_ids / 2, m->n_ids, NULL, &err) !=
        ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    CHECK_SAME_BITS(run->logits, last, n_vocab, "%s %s: a reused half of the cache, same last row",
                    m->name, isa->name);
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *want = check_ref(m, "checkpoint_08_logits");
    const CheckRef *last_block;
    const Gpt2Config *c = &m->model.config;
    const Kernels *isa = check_first_isa();
    const size_t n_vocab = (size_t)c->vocab_size, dim = (size_t)c->dim;
    TransformerBlock blocks[16];
    float *no_positions = check_buffer((size_t)c->n_ctx * dim), *bias = check_buffer(n_vocab);
    float *wte = check_buffer(n_vocab * dim), *got = check_buffer(want->n);
    char name[40];
    Gpt2 wrong = m->model;

    CHECK(m->model.head.w.panels == m->model.embedding.wte.panels, "%s: the head is wte itself",
          m->name);
    CHECK(m->model.head.bias == NULL, "%s: the head has no bias", m->name);
    if (c->n_layers > 16)
        check_bail("%s: more than 16 blocks", m->name);
    memcpy(blocks, m->model.blocks, (size_t)c->n_layers * sizeof blocks[0]);
    wrong.blocks = blocks;
    CHECK_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                "%s: the same blocks from another place", m->name);
    blocks[0] = m->model.blocks[1];
    blocks[1] = m->model.blocks[0];
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: blocks 0 and 1 exchanged", m->name);
    wrong = m->model;
    wrong.config.n_layers--;
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: last block left out", m->name);
    wrong = m->model;
    wrong.embedding.wpe = no_positions;
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: positions not added", m->name);
    wrong = m->model;
    wrong.ln_f = m->model.blocks[0].ln_1;
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: another norm in place of ln_f", m->name);
    for (size_t i = 0; i < n_vocab; i++)
        bias[i] = 0.01f;
    wrong = m->model;
    wrong.head.bias = bias;
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: a head with bias", m->name);
    for (size_t i = 0; i < n_vocab; i++)
        kern_unpack_row(wte + i * dim, &m->model.embedding.wte, i);
    wrong = m->model;
    wrong.head = check_linear(wte, KERN_IN_OUT, NULL, c->dim, c->vocab_size);
    CHECK_NOT_CLOSE(logits(m, &wrong, isa), want->data, want->n, TOL_LOGITS,
                    "%s caught: the head read as [in, out]", m->name);

    /* ln_f forgotten: the head on the last block's output. */
    snprintf(name, sizeof name, "checkpoint_07_block_%02d", c->n_layers - 1);
    last_block = check_ref(m, name);
    (void)linear_forward(&m->model.head, isa, got, last_block->data, last_block->rows,
                         check_scratch(m, last_block->rows), NULL);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LOGITS, "%s caught: ln_f forgotten", m->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
            structure(check_model(i), k);
            pieces(check_model(i), k);
        }
        mistakes(check_model(i));
    }
    return check_report();
}
