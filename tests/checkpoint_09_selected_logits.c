/* tests/checkpoint_09_selected_logits.c: what generation looks at is row T-1 of checkpoint 8. */
#include "check.h"
#include "checkpoint/quantity.h"
#include "sampling/argmax.h"

static float *all_rows(const CheckModel *m, const Kernels *isa)
{
    float *out = check_buffer((size_t)m->n_ids * (size_t)m->model.config.vocab_size);
    Err err = {0};

    if (quantity_stage(&m->model, isa, m->ids, m->n_ids, TAP_LOGITS, out, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    return out;
}

static const float *production(const CheckModel *m, const Kernels *isa, int chunk)
{
    Gpt2Run *run = check_run(&m->model, isa, m->n_ids);
    Err err = {0};

    if (gpt2_prefill(run, m->ids, m->n_ids, chunk, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    return run->logits;
}

static int argmax(const float *logits, int n)
{
    Err err = {0};
    int id = -1;

    if (sampling_argmax(&id, logits, n, &err) != ERR_OK)
        check_bail("%s", err.msg);
    return id;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *want = check_ref(m, "checkpoint_09_logits_last");
    const int n_vocab = m->model.config.vocab_size;
    const size_t last = (size_t)(m->n_ids - 1) * (size_t)n_vocab;

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const float *rows = all_rows(m, isa), *got = production(m, isa, m->n_ids);

        CHECK_SAME_BITS(got, rows + last, want->n, "%s %s: bit-equal to row T-1", m->name,
                        isa->name);
        CHECK_SAME_BITS(production(m, isa, 5), rows + last, want->n,
                        "%s %s: bit-equal when the last pass has other rows", m->name, isa->name);
        CHECK_CLOSE(got, want->data, want->n, TOL_LOGITS, "%s %s: the reference's last row",
                    m->name, isa->name);
        CHECK(argmax(got, n_vocab) == argmax(want->data, n_vocab),
              "%s %s: the reference's best token, %d", m->name, isa->name,
              argmax(want->data, n_vocab));
    }
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *want = check_ref(m, "checkpoint_09_logits_last");
    const float *rows = all_rows(m, check_first_isa());
    const size_t n_vocab = want->n, n = (size_t)m->n_ids;

    CHECK_NOT_CLOSE(rows, want->data, n_vocab, TOL_LOGITS, "%s caught: row 0", m->name);
    CHECK_NOT_CLOSE(rows + (n - 2) * n_vocab, want->data, n_vocab, TOL_LOGITS, "%s caught: row T-2",
                    m->name);
    CHECK_NOT_CLOSE(rows + (n - 1) * n_vocab - 1, want->data, n_vocab, TOL_LOGITS,
                    "%s caught: one value too early", m->name);
    CHECK_NOT_CLOSE(rows + (n - 1) * (n_vocab - 1), want->data, n_vocab, TOL_LOGITS,
                    "%s caught: rows taken to be one value shorter", m->name);
}

/* An empty prompt has no last row: it is refused before anything is computed. */
static void empty(const CheckModel *m)
{
    Gpt2Run *run = check_run(&m->model, check_first_isa(), 4);
    Err err = {0};

    CHECK(gpt2_forward(run, m->ids, 0, true, NULL, &err) == ERR_USAGE && run->cache.length == 0,
          "%s: a pass without tokens is refused", m->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        mistakes(check_model(i));
        empty(check_model(i));
    }
    return check_report();
}
