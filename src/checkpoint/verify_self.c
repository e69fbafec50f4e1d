/* checkpoint/verify_self.c: every stage of every layer against the double pass, twice: with the
 * error accumulated from the embedding on, and the error of each stage alone, computed from the
 * engine's own input of it. The second locates a fault at any depth.
 *
 * May include: common, model. */
#include "checkpoint/verify_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/double_pass.h"
#include "checkpoint/tolerance.h"

/* Of the first block, and outside the blocks; deeper ones carry the errors of all before them. */
static const struct {
    const char *name;
    int checkpoint;
    double tolerance;
} stages[TAP_STAGE_COUNT] = {
    [TAP_EMBEDDINGS] = {"embeddings", 1, TOL_EMBEDDING},
    [TAP_LN_1] = {"ln_1", 1, TOL_LAYER_NORM},
    [TAP_Q] = {"queries", 2, TOL_QKV},
    [TAP_K] = {"keys", 2, TOL_QKV},
    [TAP_V] = {"values", 2, TOL_QKV},
    [TAP_SCORES] = {"scores", 4, TOL_SCORES},
    [TAP_MASKED] = {"masked scores", 4, TOL_SCORES},
    [TAP_PROBS] = {"probabilities", 4, TOL_SCORES},
    [TAP_ATTN_OUTPUT] = {"attention output", 5, TOL_ATTENTION},
    [TAP_LN_2] = {"ln_2", 5, TOL_ATTENTION},
    [TAP_FFN] = {"feed-forward output", 6, TOL_FFN},
    [TAP_BLOCK] = {"block output", 7, TOL_BLOCK},
    [TAP_LN_F] = {"ln_f", 8, TOL_LOGITS},
    [TAP_LOGITS] = {"logits", 8, TOL_LOGITS},
};

enum { ROWS_OUTSIDE = 3, ROWS_OF_A_LAYER = TAP_STAGE_COUNT - ROWS_OUTSIDE };

const char *verify_stage_name(TapStage stage)
{
    return stages[stage].name;
}

int verify_stage_checkpoint(TapStage stage)
{
    return stages[stage].checkpoint;
}

int verify_self_rows(int n_layers)
{
    return ROWS_OUTSIDE + n_layers * ROWS_OF_A_LAYER;
}

typedef struct {
    Verify *v;
    bool local;
    int n_done; /* stages seen in this pass; their rows are the first ones of the table */
} Walk;

static bool is_quantised(const Gpt2 *m)
{
    return strchr(m->types, 'Q') != NULL;
}

/* The size of a tensor: root mean square of its finite values, at least 1. */
static double scale_of(const DoubleTensor *t)
{
    const size_t n = t->n_rows * t->n_cols;
    double squares = 0.0;
    size_t n_finite = 0;

    for (size_t i = 0; i < n; i++)
        if (isfinite(t->data[i])) {
            squares += t->data[i] * t->data[i];
            n_finite++;
        }
    return n_finite > 0 ? fmax(1.0, sqrt(squares / (double)n_finite)) : 1.0;
}

static double accumulated_tolerance(const Gpt2 *m, const DoubleTensor *t)
{
    const bool deep = t->layer > 0;

    if (is_quantised(m) && (deep || t->stage > TAP_LN_1))
        return TOL_QUANTISED * scale_of(t);
    return (deep ? TOL_DEEP_BLOCK : stages[t->stage].tolerance) * scale_of(t);
}

static CompareView double_view(const CompareView *ours, const DoubleTensor *t)
{
    CompareView view = *ours;

    view.data = NULL;
    view.wide = t->data;
    return view;
}

static void accumulated(Walk *w, const DoubleTensor *t, const CompareView *ours)
{
    const double tolerance = accumulated_tolerance(w->v->m, t);
    const int checkpoint = stages[t->stage].checkpoint;
    const char *name = stages[t->stage].name;
    const CompareView reference = double_view(ours, t);
    VerdictRow *row = t->layer < 0
                          ? verdict_add(w->v->t, checkpoint, tolerance, "%s", name)
                          : verdict_add(w->v->t, checkpoint, tolerance, "h.%d %s", t->layer, name);
    const Comparison c = t->stage == TAP_MASKED ? compare_masked(ours, &reference, tolerance)
                                                : compare_tensors(ours, &reference, tolerance);

    row->stage = t->stage;
    row->layer = t->layer;
    verdict_set(row, &c, ours, &reference);
    compare_map(&row->map, ours, &reference);
    if (t->stage == TAP_LOGITS) {
        const double *last = t->data + (t->n_rows - 1) * t->n_cols;

        w->v->self_tolerance = tolerance;
        for (size_t i = 0; i < t->n_cols; i++)
            w->v->self_logits[i] = (float)last[i];
    }
}

static void local(Walk *w, const DoubleTensor *t, const CompareView *ours)
{
    const CompareView reference = double_view(ours, t);
    VerdictRow *row = &w->v->t->rows[w->n_done];
    char text[COMPARE_TEXT_BYTES];
    const Comparison c = t->stage == TAP_MASKED ? compare_masked(ours, &reference, 0.0)
                                                : compare_allowed(ours, &reference, t->allowed);

    row->has_local = true;
    row->local = c;
    compare_place(text, ours, c.index);
    (void)snprintf(row->local_place, sizeof row->local_place, "%.*s",
                   (int)sizeof row->local_place - 1, text);
    if (c.verdict != COMPARE_EQUAL) {
        row->verdict = VERDICT_FAIL;
        compare_explain(text, &c, ours, &reference);
        verdict_set_note(row, "this stage alone: %.150s", text);
    } else if (row->verdict == VERDICT_FAIL) {
        verdict_set_note(row, "carried along; this stage by itself is right");
    }
    /* From here on with the engine's own numbers. */
    for (size_t i = 0; i < t->n_rows * t->n_cols; i++)
        t->data[i] = (double)ours->data[i];
}

static bool compare_stage(void *ctx, const DoubleTensor *t)
{
    Walk *w = ctx;
    const CompareView ours = capture_stage(&w->v->capture, t->stage, t->layer < 0 ? 0 : t->layer);
    const int n_rows = verify_self_rows(w->v->m->config.n_layers);

    if (w->local)
        local(w, t, &ours);
    else
        accumulated(w, t, &ours);
    w->n_done++;
    return verify_progress(w->v, ((w->local ? 1.0 : 0.0) + (double)w->n_done / (double)n_rows) / 2);
}

ErrCode verify_self(Verify *v, Err *err)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    const Capture *c = &v->capture;
    Walk free_running = {.v = v}, local_errors = {.v = v, .local = true};
    const DoubleSink free_sink = {.emit = compare_stage, .ctx = &free_running};
    const DoubleSink local_sink = {.emit = compare_stage, .ctx = &local_errors, .allowances = true};
    ErrCode code = arena_init(&v->self_arena, n_vocab * sizeof(float), "logits", err);

    if (code != ERR_OK)
        return code;
    v->self_logits = arena_alloc(&v->self_arena, n_vocab, sizeof *v->self_logits);
    code = double_pass(v->m, c->ids, c->n_ids, &free_sink, err);
    if (code == ERR_OK)
        code = double_pass(v->m, c->ids, c->n_ids, &local_sink, err);
    return code;
}

/* ---- Which row is to be looked at ---- */

static void describe_fault(VerifyResult *r, const VerdictRow *row)
{
    const Comparison *c = &row->local;
    char where[96];

    if (row->layer >= 0)
        (void)snprintf(where, sizeof where, "layer %d, %s (checkpoint %d)", row->layer,
                       stages[row->stage].name, row->checkpoint);
    else
        (void)snprintf(where, sizeof where, "%s (checkpoint %d)", stages[row->stage].name,
                       row->checkpoint);
    if (c->verdict == COMPARE_EQUAL)
        (void)snprintf(r->fault, sizeof r->fault,
                       "%s: no stage is wrong by itself, but their errors add up to %.3g at %s",
                       where, row->figures.worst, row->place);
    else if (c->verdict != COMPARE_VALUES)
        (void)snprintf(r->fault, sizeof r->fault, "%s: %s", where, row->note);
    else
        (void)snprintf(r->fault, sizeof r->fault,
                       "%s: %zu of %zu values are off by more than rounding allows, the worst %.3g "
                       "times as much, at %s: ours %.8g, expected %.8g",
                       where, c->n_beyond, c->n, c->worst, row->local_place, (double)c->ours,
                       (double)c->reference);
}

void verify_find_fault(VerifyResult *r)
{
    int found = -1;

    for (int i = 0; found < 0 && i < r->table.n_rows; i++)
        if (r->table.rows[i].has_local && r->table.rows[i].local.verdict != COMPARE_EQUAL)
            found = i;
    for (int i = 0; found < 0 && i < r->table.n_rows; i++)
        if (r->table.rows[i].has_local && r->table.rows[i].verdict == VERDICT_FAIL)
            found = i;
    r->first_fault = found;
    if (found >= 0)
        describe_fault(r, &r->table.rows[found]);
}
