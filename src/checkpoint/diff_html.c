/* checkpoint/diff_html.c: see diff_html.h.
 *
 * May include: common, report. */
#include "checkpoint/diff_html.h"

#include <math.h>
#include <stdio.h>

#include "checkpoint/diff_report.h"
#include "checkpoint/error_chart.h"
#include "report/page.h"

static CellMark mark_of(DiffVerdict verdict)
{
    return verdict == DIFF_AGREE ? CELL_GOOD : CELL_BAD;
}

static void number_cell(JsonBuf *out, double value)
{
    if (isnan(value))
        page_cell(out, CELL_WEAK, "-");
    else
        page_cell(out, CELL_PLAIN, "%.2e", value);
}

static void cosine_cell(JsonBuf *out, double value)
{
    if (isnan(value))
        page_cell(out, CELL_WEAK, "-");
    else
        page_cell(out, CELL_PLAIN, "%.9f", value);
}

static void sides_table(JsonBuf *out, const Comparison *c)
{
    static const char *const headings[] = {"side", "mean", "variance", "min", "max", "NaN", "Inf"};

    page_table_begin(out, headings, "lrrrrrr", 7);
    for (int i = 0; i < 2; i++) {
        const CompareSide *s = &c->sides[i];

        page_row_begin(out);
        page_cell(out, CELL_PLAIN, i == 0 ? "A" : "B");
        page_cell(out, CELL_PLAIN, "%.7g", s->mean);
        page_cell(out, CELL_PLAIN, "%.7g", s->variance);
        page_cell(out, CELL_PLAIN, "%.7g", s->min);
        page_cell(out, CELL_PLAIN, "%.7g", s->max);
        page_cell(out, s->n_nan > 0 ? CELL_BAD : CELL_PLAIN, "%zu", s->n_nan);
        page_cell(out, CELL_PLAIN, "%zu", s->n_inf);
        page_row_end(out);
    }
    page_table_end(out);
}

static void figure_cells(JsonBuf *out, const Diff *d, const TensorDiff *row)
{
    const Comparison *c = &row->figures;
    char text[COMPARE_TEXT_BYTES], rule[DIFF_RULE_BYTES];

    compare_shape(text, &row->shape);
    page_cell(out, CELL_PLAIN, "%s", text);
    diff_rule(rule, d, row);
    page_cell(out, CELL_PLAIN, "%s", rule);
    number_cell(out, c->max_abs);
    compare_place(text, &row->shape, row->max_index);
    page_cell(out, CELL_PLAIN, "%s", c->max_abs > 0.0 ? text : "-");
    number_cell(out, c->max_rel);
    number_cell(out, c->mean_abs);
    number_cell(out, c->rms);
    cosine_cell(out, c->cosine);
    page_cell(out, CELL_PLAIN, "%zu, %zu", c->sides[0].n_nan, c->sides[1].n_nan);
    page_cell(out, CELL_PLAIN, "%zu, %zu", c->sides[0].n_inf, c->sides[1].n_inf);
}

static void tensors_table(JsonBuf *out, const Diff *d)
{
    static const char *const headings[] = {
        "tensor",   "verdict", "shape",  "tolerance", "max abs",  "at",  "max rel",
        "mean abs", "RMS",     "cosine", "NaN A, B",  "Inf A, B", "note"};
    enum { COLUMNS = sizeof headings / sizeof headings[0], FIGURES = COLUMNS - 3 };

    page_table_begin(out, headings, "lllrrlrrrrrrl", COLUMNS);
    for (int i = 0; i < d->n_rows; i++) {
        const TensorDiff *row = &d->rows[i];

        page_row_begin(out);
        page_cell(out, CELL_PLAIN, "%s", row->name);
        page_cell(out, mark_of(row->verdict), "%s", diff_word(row->verdict));
        if (row->verdict != DIFF_NOT_COMPARED)
            figure_cells(out, d, row);
        for (int k = 0; row->verdict == DIFF_NOT_COMPARED && k < FIGURES; k++)
            page_cell(out, CELL_WEAK, "-");
        page_cell(out, CELL_PLAIN, "%s", row->note);
        page_row_end(out);
    }
    page_table_end(out);
}

static void figure_fact(JsonBuf *out, const char *name, double value)
{
    if (isnan(value))
        page_fact(out, name, "-");
    else
        page_fact(out, name, "%.3e", value);
}

/* Of one pair, where a table of one row would only be wide. */
static void figure_facts(JsonBuf *out, const TensorDiff *row)
{
    const Comparison *c = &row->figures;
    char place[COMPARE_TEXT_BYTES];

    page_facts_begin(out);
    compare_shape(place, &row->shape);
    page_fact(out, "shape", "%s, %zu values compared", place, c->n);
    compare_place(place, &row->shape, row->max_index);
    if (c->max_abs > 0.0)
        page_fact(out, "max abs", "%.3e at %s", c->max_abs, place);
    else
        figure_fact(out, "max abs", c->max_abs);
    figure_fact(out, "max rel", c->max_rel);
    figure_fact(out, "mean abs", c->mean_abs);
    figure_fact(out, "RMS", c->rms);
    if (isnan(c->cosine))
        page_fact(out, "cosine", "-");
    else
        page_fact(out, "cosine", "%.12f", c->cosine);
    page_facts_end(out);
}

static void elements_table(JsonBuf *out, const TensorDiff *row)
{
    static const char *const headings[] = {"place", "A", "B", "|A - B|"};

    page_table_begin(out, headings, "lrrr", 4);
    for (int i = 0; i < row->n_elements; i++) {
        const DiffElement *e = &row->elements[i];
        char place[COMPARE_TEXT_BYTES];

        compare_place(place, &row->shape, e->index);
        page_row_begin(out);
        page_cell(out, CELL_PLAIN, "%s", place);
        page_cell(out, CELL_PLAIN, "%.9g", (double)e->a);
        page_cell(out, CELL_PLAIN, "%.9g", (double)e->b);
        number_cell(out, e->error);
        page_row_end(out);
    }
    page_table_end(out);
}

static void facts(JsonBuf *out, const Diff *d)
{
    char verdict[DIFF_VERDICT_BYTES];

    page_facts_begin(out);
    page_fact(out, "A", "%s", d->paths[0]);
    page_fact(out, "B", "%s", d->paths[1]);
    diff_verdict(verdict, d);
    page_fact(out, "verdict", "%s", verdict);
    page_fact(out, "rule", "%s",
              d->options.bits ? "the bits of every value"
                              : "|A - B| <= tolerance * max(1, |B|) for every value");
    if (d->folders && d->prompt_unknown)
        page_fact(out, "prompts", "not both folders say what theirs was");
    for (int side = 0; !d->folders && side < 2; side++)
        if (d->rows[0].rounded[side])
            page_fact(out, side == 0 ? "type of A" : "type of B", "float64, rounded to float32");
    page_facts_end(out);
}

static void bits_paragraph(JsonBuf *out, const TensorDiff *row)
{
    char place[COMPARE_TEXT_BYTES], bits[DIFF_BITS_BYTES];

    if (row->n_bits == 0)
        return;
    compare_place(place, &row->shape, row->first_bits);
    diff_bits_text(bits, row);
    page_paragraph(out, "The bits of %zu values differ, first at %s: %s.", row->n_bits, place,
                   bits);
}

/* The histogram and the worst elements of one tensor. */
static void detail(JsonBuf *out, const TensorDiff *row)
{
    ErrorHistogram h = {{0}};

    error_chart_add(&h, &row->figures);
    page_section(out, "Size of the differences", NULL);
    error_chart_histogram(out, "values by |A - B|: each bar begins at the number below it", &h);
    if (row->n_elements > 0) {
        page_section(out, "Worst elements", "In the order of |A - B| / max(1, |B|).");
        elements_table(out, row);
    }
}

static bool has_map(const TensorDiff *row)
{
    return row->map.rows > 0;
}

static void one_map(JsonBuf *out, const TensorDiff *row)
{
    ErrorHeat stretched;
    ChartHeat heat;

    error_chart_stretch(&stretched, &row->map, &row->shape);
    heat = error_chart_heat(&stretched, row->name, NULL);
    chart_heat(out, &heat);
}

/* The worst tensor is the one that is seen without a script. */
static void maps_of_all(JsonBuf *out, const Diff *d)
{
    ErrorHeat stretched;
    ChartHeat heat;

    error_chart_stretch(&stretched, &d->rows[d->worst].map, &d->rows[d->worst].shape);
    heat = error_chart_heat(&stretched, d->rows[d->worst].name, NULL);
    chart_choice_begin(out, "errors", "tensor", &heat);
    for (int i = 0; i < d->n_rows; i++) {
        if (i == d->worst || !has_map(&d->rows[i]))
            continue;
        error_chart_stretch(&stretched, &d->rows[i].map, &d->rows[i].shape);
        heat = error_chart_heat(&stretched, d->rows[i].name, NULL);
        chart_choice_add(out, &heat);
    }
    chart_choice_end(out);
}

void diff_html(JsonBuf *out, const Diff *d)
{
    static const char map_note[] =
        "Each cell shows the largest difference in it, by the logarithm: the last axis across, all "
        "others down.";
    const TensorDiff *row = d->worst >= 0 ? &d->rows[d->worst] : NULL;

    page_begin(out, "diff", d->folders ? "two folders of tensors" : d->rows[0].name);
    facts(out, d);
    if (d->folders) {
        page_section(out, "Tensors", NULL);
        tensors_table(out, d);
    } else if (row != NULL) {
        page_section(out, "Figures", NULL);
        figure_facts(out, row);
        sides_table(out, &row->figures);
        bits_paragraph(out, row);
    }
    if (row != NULL) {
        page_section(out, "Where the differences are", map_note);
        if (d->folders)
            maps_of_all(out, d);
        else
            one_map(out, row);
        if (d->folders) {
            page_section(out, "The worst tensor", row->name);
            sides_table(out, &row->figures);
            bits_paragraph(out, row);
        }
        detail(out, row);
    }
    page_end(out);
}
