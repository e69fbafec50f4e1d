/* checkpoint/verify_baseline_compare.c: see verify_baseline.h; what has changed.
 *
 * May include: common. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/verify_baseline.h"

/* Half a unit in the last place of a float32 in [1, 2). */
static const double half_ulp = 0x1p-24;

/* Files have nine digits of each figure. */
static const double same_digits = 1e-8;

/* ---- What belongs together ---- */

static ErrCode check_run(const VerifyBaseline *b, const VerifyResult *r, Err *err)
{
    const char *kind = r->self ? "self" : "folder";
    bool same = json_array_size(b->ids) == (size_t)r->capture.n_ids;

    if (strcmp(b->kind, kind) != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: was made with another kind of reference: %.40s, now %s", b->path,
                       b->kind, kind);
    for (size_t i = 0; same && i < json_array_size(b->ids); i++) {
        const json_t *id = json_array_get(b->ids, i);

        same = json_is_integer(id) && json_integer_value(id) == r->capture.ids[i];
    }
    return same ? ERR_OK
                : err_set(err, ERR_UNSUPPORTED,
                          "%s: is of another prompt: %zu tokens, now %d tokens", b->path,
                          json_array_size(b->ids), r->capture.n_ids);
}

/* Both lists are in the same order but for what is new or gone: the search goes on where it was. */
static const VerifyBaselineRow *find_then(const VerifyBaseline *b, const char *name, int *at)
{
    for (int i = 0; i < b->n_rows; i++, *at = (*at + 1) % b->n_rows)
        if (strcmp(b->rows[*at].name, name) == 0)
            return &b->rows[*at];
    return NULL;
}

static const VerdictRow *find_now(const VerdictTable *t, const char *name, int *at)
{
    for (int i = 0; i < t->n_rows; i++, *at = (*at + 1) % t->n_rows)
        if (strcmp(t->rows[*at].name, name) == 0)
            return &t->rows[*at];
    return NULL;
}

/* ---- Figures ---- */

static double now_figure(const VerdictRow *row, VerifyFigure figure)
{
    const bool local = figure >= VERIFY_LOCAL_MAX_ABS;
    const Comparison *c = local ? &row->local : &row->figures;

    if (local ? !row->has_local : !row->measured)
        return NAN;
    return figure == VERIFY_MAX_ABS || figure == VERIFY_LOCAL_MAX_ABS ? c->max_abs : c->rms;
}

static double floor_of(const VerdictRow *row, VerifyFigure figure)
{
    const Comparison *c = figure >= VERIFY_LOCAL_MAX_ABS ? &row->local : &row->figures;

    return half_ulp * fmax(1.0, fmax(fabs(c->sides[1].min), fabs(c->sides[1].max)));
}

static void add_change(VerifyComparison *c, VerifyChangeKind kind, const char *name,
                       VerifyFigure figure, double then, double now)
{
    const double factor = then > 0.0 ? now / then : now > 0.0 ? (double)INFINITY : 1.0;

    c->changes[c->n++] = (VerifyChange){
        .kind = kind, .name = name, .figure = figure, .then = then, .now = now, .factor = factor};
    c->n_failures += kind <= VERIFY_GREW;
}

static void compare_figure(VerifyComparison *c, const VerifyBaselineRow *then,
                           const VerdictRow *now, VerifyFigure figure)
{
    const double a = then->figures[figure], b = now_figure(now, figure);

    if (!isfinite(a) || !isfinite(b)) /* what is not finite fails by its verdict */
        return;
    c->n_figures++;
    if (b > c->max_growth * a && b > floor_of(now, figure))
        add_change(c, VERIFY_GREW, now->name, figure, a, b);
    else if (fabs(b - a) > same_digits * fmax(a, b))
        add_change(c, b > a ? VERIFY_LARGER : VERIFY_SMALLER, now->name, figure, a, b);
}

/* ---- Rows ---- */

static void compare_row(VerifyComparison *c, const VerifyBaselineRow *then, const VerdictRow *now)
{
    const bool was = then != NULL && then->verdict != VERDICT_NOT_VALIDATED;

    if (now->verdict == VERDICT_FAIL)
        add_change(c, VERIFY_FAILS, now->name, VERIFY_FIGURES,
                   then != NULL ? then->figures[VERIFY_MAX_ABS] : (double)NAN,
                   now_figure(now, VERIFY_MAX_ABS));
    if (now->verdict == VERDICT_NOT_VALIDATED && was)
        add_change(c, VERIFY_MISSING, now->name, VERIFY_FIGURES, NAN, NAN);
    if (now->verdict == VERDICT_PASS && !was)
        add_change(c, VERIFY_NEW, now->name, VERIFY_FIGURES, NAN, NAN);
    c->n_rows += was && now->verdict != VERDICT_NOT_VALIDATED;
    for (int i = 0; was && i < VERIFY_FIGURES; i++)
        compare_figure(c, then, now, (VerifyFigure)i);
}

static int worst_first(const void *a, const void *b)
{
    const VerifyChange *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->factor < y->factor) - (x->factor > y->factor);
}

static ErrCode make_room(VerifyComparison *c, int n_then, int n_now, Err *err)
{
    /* Each row fails or is missing or new, and has its figures. */
    const size_t n = ((size_t)n_then + (size_t)n_now) * (VERIFY_FIGURES + 1) + 1;
    size_t bytes = 0;
    ErrCode code;

    if (!arena_plan(&bytes, n, sizeof *c->changes))
        return err_set(err, ERR_LIMIT, "too many rows to compare");
    code = arena_init(&c->arena, bytes, "comparison with a baseline", err);
    if (code != ERR_OK)
        return code;
    c->changes = arena_alloc(&c->arena, n, sizeof *c->changes);
    return c->changes != NULL ? ERR_OK : err_set(err, ERR_MEMORY, "out of memory for a comparison");
}

ErrCode verify_baseline_compare(VerifyComparison *c, const VerifyBaseline *b, const VerifyResult *r,
                                double max_growth, Err *err)
{
    const VerdictTable *t = &r->table;
    int at = 0;
    ErrCode code = check_run(b, r, err);

    *c = (VerifyComparison){.baseline = b, .max_growth = max_growth};
    if (code == ERR_OK)
        code = make_room(c, b->n_rows, t->n_rows, err);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < t->n_rows; i++)
        compare_row(c, find_then(b, t->rows[i].name, &at), &t->rows[i]);
    at = 0;
    for (int i = 0; i < b->n_rows; i++)
        if (b->rows[i].verdict != VERDICT_NOT_VALIDATED &&
            find_now(t, b->rows[i].name, &at) == NULL)
            add_change(c, VERIFY_MISSING, b->rows[i].name, VERIFY_FIGURES, NAN, NAN);
    qsort(c->changes, (size_t)c->n, sizeof *c->changes, worst_first);
    return ERR_OK;
}

void verify_comparison_free(VerifyComparison *c)
{
    arena_free(&c->arena);
    *c = (VerifyComparison){.baseline = NULL};
}
