/* checkpoint/verify_charts.c: errors by layer and by size.
 *
 * May include: common, report. */
#include "checkpoint/verify_charts.h"

#include <math.h>
#include <stdio.h>

#include "checkpoint/error_chart.h"
#include "report/chart.h"
#include "report/page.h"

enum { MAX_LINES = 8, CHECKPOINTS = 12 };

static int layer_count(const VerifyResult *r)
{
    return r->capture.model->config.n_layers;
}

/* MAX_LINES lines of n values each, none of them known. The arena is the caller's to free. */
static double *make_lines(JsonBuf *out, Arena *arena, int n)
{
    const size_t count = (size_t)n * MAX_LINES;
    double *y = NULL;

    if (arena_init(arena, count * sizeof *y, "lines of a chart", NULL) == ERR_OK)
        y = arena_alloc(arena, count, sizeof *y);
    for (size_t i = 0; y != NULL && i < count; i++)
        y[i] = (double)NAN;
    out->oom |= y == NULL;
    return y;
}

/* An error that is not a number came from values that are not finite, and stands at the edge. */
static double error_or_edge(double error)
{
    return isnan(error) ? (double)INFINITY : error;
}

static void raise_to(double *y, double value)
{
    if (!(*y >= value))
        *y = value;
}

static bool any_number(const double *y, int n)
{
    for (int i = 0; i < n; i++)
        if (!isnan(y[i]))
            return true;
    return false;
}

/* ---- Errors by layer ---- */

void verify_chart_growth(JsonBuf *out, const VerifyResult *r)
{
    enum { MAX_ABS, RMS, LOCAL, TOLERANCE, LINES };
    static const char *const names[LINES] = {"largest error of the block's output", "its RMS",
                                             "largest error that a stage makes by itself",
                                             "tolerance"};
    const int n = layer_count(r);
    ChartLine lines[LINES];
    ChartAxes axes = {.caption = "Error by layer",
                      .x_label = "layer",
                      .y_label = "|ours - reference|",
                      .n = n,
                      .log_y = true,
                      .limit = (double)NAN};
    Arena arena = {0};
    double *y = make_lines(out, &arena, n);
    int n_lines = 0;
    bool one_tolerance = true;

    for (int i = 0; y != NULL && i < r->n_growth; i++) {
        y[MAX_ABS * n + r->growth[i].layer] = error_or_edge(r->growth[i].max_abs);
        y[RMS * n + r->growth[i].layer] = error_or_edge(r->growth[i].rms);
    }
    for (int i = 0; y != NULL && i < r->table.n_rows; i++) {
        const VerdictRow *row = &r->table.rows[i];

        if (row->layer < 0)
            continue;
        if (row->has_local)
            raise_to(&y[LOCAL * n + row->layer], error_or_edge(row->local.max_abs));
        if (row->stage == TAP_BLOCK && row->measured) {
            one_tolerance &= isnan(axes.limit) || axes.limit == row->tolerance;
            axes.limit = row->tolerance;
            raise_to(&y[TOLERANCE * n + row->layer], row->tolerance);
        }
    }
    /* Where the tolerance differs from layer to layer it is a line of its own. */
    if (!one_tolerance)
        axes.limit = (double)NAN;
    for (int k = 0; y != NULL && k < LINES; k++)
        if (any_number(y + k * n, n) && (k != TOLERANCE || !one_tolerance))
            lines[n_lines++] = (ChartLine){names[k], y + k * n};
    if (n_lines > 0)
        chart_lines(out, &axes, lines, n_lines);
    arena_free(&arena);
}

/* Lines of the second chart: stages of one kind share one. */
static int line_of(TapStage stage)
{
    switch (stage) {
    case TAP_LN_1:
    case TAP_LN_2:
        return 0;
    case TAP_Q:
    case TAP_K:
    case TAP_V:
        return 1;
    case TAP_SCORES:
        return 2;
    case TAP_PROBS:
        return 3;
    case TAP_ATTN_OUTPUT:
        return 4;
    case TAP_FFN:
        return 5;
    case TAP_BLOCK:
        return 6;
    default: /* masked scores are compared exactly */
        return -1;
    }
}

void verify_chart_stages(JsonBuf *out, const VerifyResult *r)
{
    static const char *const names[] = {
        "ln_1, ln_2",       "queries, keys, values", "scores",          "probabilities",
        "attention output", "feed-forward output",   "sum of the block"};
    enum { LINES = sizeof names / sizeof names[0] };
    const int n = layer_count(r);
    const ChartAxes axes = {.caption = "Error of each stage by itself, as a share of what rounding "
                                       "allows: above 1 is a fault",
                            .x_label = "layer",
                            .y_label = "share",
                            .n = n,
                            .log_y = true,
                            .limit = 1.0};
    ChartLine lines[LINES];
    Arena arena = {0};
    double *y = make_lines(out, &arena, n);
    int n_lines = 0;

    for (int i = 0; y != NULL && i < r->table.n_rows; i++) {
        const VerdictRow *row = &r->table.rows[i];
        const int line = line_of(row->stage);

        if (row->has_local && row->layer >= 0 && line >= 0)
            raise_to(&y[line * n + row->layer], error_or_edge(row->local.worst));
    }
    for (int k = 0; y != NULL && k < LINES; k++)
        if (any_number(y + k * n, n))
            lines[n_lines++] = (ChartLine){names[k], y + k * n};
    if (n_lines > 0)
        chart_lines(out, &axes, lines, n_lines);
    arena_free(&arena);
}

/* ---- Histograms ---- */

void verify_chart_histograms(JsonBuf *out, const VerifyResult *r)
{
    static const char *const names[CHECKPOINTS + 1] = {[1] = "embeddings, LayerNorm",
                                                       [2] = "queries, keys, values",
                                                       [3] = "KV cache",
                                                       [4] = "attention scores",
                                                       [5] = "attention output",
                                                       [6] = "feed-forward output",
                                                       [7] = "block output",
                                                       [8] = "logits",
                                                       [9] = "selected logits",
                                                       [10] = "greedy choice",
                                                       [11] = "probabilities",
                                                       [12] = "end to end"};

    page_grid_begin(out);
    for (int checkpoint = 1; checkpoint <= CHECKPOINTS; checkpoint++) {
        ErrorHistogram h = {{0}};
        char caption[96];

        for (int i = 0; i < r->table.n_rows; i++) {
            const VerdictRow *row = &r->table.rows[i];

            if (row->checkpoint == checkpoint && row->measured && !row->own)
                error_chart_add(&h, &row->figures);
        }
        (void)snprintf(caption, sizeof caption, "Checkpoint %d: %s", checkpoint, names[checkpoint]);
        error_chart_histogram(out, caption, &h);
    }
    page_grid_end(out);
}
