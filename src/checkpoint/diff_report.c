/* checkpoint/diff_report.c: the text for a terminal, and the words that all reports share.
 *
 * May include: common, report. */
#include "checkpoint/diff_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/error_chart.h"
#include "common/text.h"
#include "report/terminal.h"

enum { BAR_COLUMNS = 40, PATH_SHOWN_BYTES = 1024 };

/* ---- Words ---- */

const char *diff_word(DiffVerdict verdict)
{
    static const char *const words[] = {[DIFF_AGREE] = "agree",
                                        [DIFF_DIFFER] = "differ",
                                        [DIFF_NOT_FINITE] = "not finite",
                                        [DIFF_NOT_COMPARED] = "not compared"};

    return words[verdict];
}

void diff_rule(char out[DIFF_RULE_BYTES], const Diff *d, const TensorDiff *row)
{
    if (d->options.bits)
        snprintf(out, DIFF_RULE_BYTES, "equal bits");
    else if (row->tolerance > 0.0)
        snprintf(out, DIFF_RULE_BYTES, "%g", row->tolerance);
    else
        snprintf(out, DIFF_RULE_BYTES, "equal values");
}

void diff_finding(char out[DIFF_FINDING_BYTES], const TensorDiff *row)
{
    /* That note begins with the same words. */
    if (row->verdict == DIFF_AGREE || row->verdict == DIFF_NOT_FINITE)
        snprintf(out, DIFF_FINDING_BYTES, "%s",
                 row->verdict == DIFF_AGREE ? diff_word(row->verdict) : row->note);
    else
        snprintf(out, DIFF_FINDING_BYTES, "%s: %s", diff_word(row->verdict), row->note);
}

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

void diff_bits_text(char out[DIFF_BITS_BYTES], const TensorDiff *row)
{
    char a[TEXT_FLOAT_BYTES], b[TEXT_FLOAT_BYTES];

    text_float(a, float_of(row->bits[0]));
    text_float(b, float_of(row->bits[1]));
    snprintf(out, DIFF_BITS_BYTES, "0x%08x (%s) in A, 0x%08x (%s) in B", (unsigned)row->bits[0], a,
             (unsigned)row->bits[1], b);
}

static void verdict_of_pair(char out[DIFF_VERDICT_BYTES], const Diff *d)
{
    const TensorDiff *row = &d->rows[0];
    char finding[DIFF_FINDING_BYTES];

    diff_finding(finding, row);
    if (row->verdict != DIFF_AGREE)
        snprintf(out, DIFF_VERDICT_BYTES, "%.200s", finding);
    else if (d->options.bits)
        snprintf(out, DIFF_VERDICT_BYTES, "agree: every bit of %zu values", row->figures.n);
    else if (row->tolerance > 0.0)
        snprintf(out, DIFF_VERDICT_BYTES, "agree: |A - B| <= %g * max(1, |B|) for all %zu values",
                 row->tolerance, row->figures.n);
    else
        snprintf(out, DIFF_VERDICT_BYTES, "agree: all %zu values are equal", row->figures.n);
}

void diff_verdict(char out[DIFF_VERDICT_BYTES], const Diff *d)
{
    if (!d->folders)
        verdict_of_pair(out, d);
    else if (diff_count(d, DIFF_AGREE) == d->n_rows)
        snprintf(out, DIFF_VERDICT_BYTES, "agree: all %d tensors", d->n_rows);
    else
        snprintf(
            out, DIFF_VERDICT_BYTES,
            "differ: of %d tensors %d agree, %d differ, %d are not finite, %d were not compared",
            d->n_rows, diff_count(d, DIFF_AGREE), diff_count(d, DIFF_DIFFER),
            diff_count(d, DIFF_NOT_FINITE), diff_count(d, DIFF_NOT_COMPARED));
}

/* ---- Tables ---- */

static void number_cell(TermTable *t, TermStyle style, double value)
{
    if (isnan(value))
        term_table_cell(t, style, "-");
    else
        term_table_cell(t, style, "%.2e", value);
}

static TermStyle style_of(DiffVerdict verdict)
{
    return verdict == DIFF_AGREE ? TERM_GOOD : TERM_BAD;
}

static void print_sides(JsonBuf *out, const Comparison *c, bool colour)
{
    static const char *const headings[] = {"", "mean", "variance", "min", "max", "NaN", "Inf"};
    TermTable t;

    term_table_begin(&t, headings, "lrrrrrr", colour);
    for (int side = 0; side < 2; side++) {
        const CompareSide *s = &c->sides[side];

        term_table_cell(&t, TERM_HEAD, side == 0 ? "A" : "B");
        term_table_cell(&t, TERM_PLAIN, "%.7g", s->mean);
        term_table_cell(&t, TERM_PLAIN, "%.7g", s->variance);
        term_table_cell(&t, TERM_PLAIN, "%.7g", s->min);
        term_table_cell(&t, TERM_PLAIN, "%.7g", s->max);
        term_table_cell(&t, s->n_nan > 0 ? TERM_BAD : TERM_PLAIN, "%zu", s->n_nan);
        term_table_cell(&t, TERM_PLAIN, "%zu", s->n_inf);
    }
    term_table_print(&t, out);
}

static void figure(JsonBuf *out, const char *name, double value)
{
    if (isnan(value))
        json_buf_printf(out, "%-9s -", name);
    else
        json_buf_printf(out, "%-9s %.3e", name, value);
}

static void print_figures(JsonBuf *out, const Diff *d, const TensorDiff *row)
{
    const Comparison *c = &row->figures;
    char place[COMPARE_TEXT_BYTES], bits[DIFF_BITS_BYTES];

    figure(out, "max abs", c->max_abs);
    compare_place(place, &row->shape, row->max_index);
    json_buf_printf(out, c->max_abs > 0.0 ? "   at %s\n" : "\n", place);
    figure(out, "worst", c->worst);
    compare_place(place, &row->shape, c->index);
    json_buf_printf(out, c->worst > 0.0 ? "   at %s: |A - B| / max(1, |B|)\n" : "\n", place);
    figure(out, "max rel", c->max_rel);
    json_buf_printf(out, "\n");
    figure(out, "mean abs", c->mean_abs);
    json_buf_printf(out, "\n");
    figure(out, "RMS", c->rms);
    json_buf_printf(out, isnan(c->cosine) ? "\ncosine    -\n" : "\ncosine    %.12f\n", c->cosine);
    if (!d->options.bits)
        return;
    json_buf_printf(out, "bits      %zu of %zu values differ\n", row->n_bits, c->n);
    if (row->n_bits == 0)
        return;
    compare_place(place, &row->shape, row->first_bits);
    diff_bits_text(bits, row);
    json_buf_printf(out, "first     %s: %s\n", place, bits);
}

/* ---- Charts ---- */

/* A bar of at most BAR_COLUMNS, in eighths of a column. */
static void print_bar(JsonBuf *out, uint64_t count, uint64_t most)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const uint64_t length =
        most == 0 ? 0 : (uint64_t)((double)count / (double)most * BAR_COLUMNS * 8.0 + 0.5);
    /* A few among millions must still be seen. */
    const uint64_t shown = count > 0 && length == 0 ? 1 : length;

    for (uint64_t i = 0; i < shown / 8; i++)
        json_buf_printf(out, "█");
    json_buf_printf(out, "%s\n", eighths[shown % 8]);
}

static void print_histogram(JsonBuf *out, const Comparison *c)
{
    ErrorHistogram h = {{0}};
    int bars[COMPARE_DECADES];
    uint64_t most = 0;

    error_chart_add(&h, c);
    const int n = error_chart_bars(&h, bars);
    for (int i = 0; i < n; i++)
        most = h.counts[bars[i]] > most ? h.counts[bars[i]] : most;
    if (n > 0)
        json_buf_printf(out, "\n|A - B| from  values\n");
    for (int i = 0; i < n; i++) {
        json_buf_printf(out, "%12s %7llu  ", error_chart_decade(bars[i]),
                        (unsigned long long)h.counts[bars[i]]);
        print_bar(out, h.counts[bars[i]], most);
    }
}

static void print_heat(JsonBuf *out, const TensorDiff *row, bool colour, int width)
{
    ErrorHeat heat;

    error_chart_stretch(&heat, &row->map, &row->shape);
    if (heat.rows == 0 || row->n_bits == 0)
        return;
    json_buf_printf(out, "\nwhere: the last axis across, all others down%s%s\n",
                    heat.low[0] != '\0' ? "; the faintest: " : "", heat.low);
    term_heat(out, colour, heat.cells, heat.rows, heat.columns, width, "equal", heat.top);
}

static void print_elements(JsonBuf *out, const TensorDiff *row, bool colour)
{
    static const char *const headings[] = {"place", "A", "B", "|A - B|"};
    char place[COMPARE_TEXT_BYTES];
    TermTable t;

    if (row->n_elements == 0)
        return;
    json_buf_printf(out, "\nworst elements, by |A - B| / max(1, |B|)\n");
    term_table_begin(&t, headings, "lrrr", colour);
    for (int i = 0; i < row->n_elements; i++) {
        const DiffElement *e = &row->elements[i];

        compare_place(place, &row->shape, e->index);
        term_table_cell(&t, TERM_PLAIN, "%s", place);
        term_table_cell(&t, TERM_PLAIN, "%.9g", (double)e->a);
        term_table_cell(&t, TERM_PLAIN, "%.9g", (double)e->b);
        number_cell(&t, TERM_PLAIN, e->error);
    }
    term_table_print(&t, out);
}

/* ---- The whole ---- */

static void print_paths(JsonBuf *out, const Diff *d)
{
    char shown[PATH_SHOWN_BYTES];

    for (int side = 0; side < 2; side++) {
        text_escape(shown, sizeof shown, d->paths[side], strlen(d->paths[side]));
        json_buf_printf(out, "%c  %s%s\n", side == 0 ? 'A' : 'B', shown,
                        !d->folders && d->rows[0].rounded[side] ? " (float64, rounded to float32)"
                                                                : "");
    }
}

static void print_pair(JsonBuf *out, const Diff *d, bool colour, int width)
{
    const TensorDiff *row = &d->rows[0];
    char shape[COMPARE_TEXT_BYTES], rule[DIFF_RULE_BYTES];

    compare_shape(shape, &row->shape);
    diff_rule(rule, d, row);
    json_buf_printf(out, "   shape %s, %s %s\n\n", shape,
                    row->tolerance > 0.0 ? "tolerance" : "demanded:", rule);
    print_sides(out, &row->figures, colour);
    json_buf_printf(out, "\n");
    print_figures(out, d, row);
    print_histogram(out, &row->figures);
    print_heat(out, row, colour, width);
    print_elements(out, row, colour);
}

static void print_row(TermTable *t, const Diff *d, const TensorDiff *row)
{
    const Comparison *c = &row->figures;
    const bool compared = row->verdict != DIFF_NOT_COMPARED;
    const double nothing = (double)NAN;
    char rule[DIFF_RULE_BYTES], place[COMPARE_TEXT_BYTES], finding[DIFF_FINDING_BYTES];

    diff_rule(rule, d, row);
    compare_place(place, &row->shape, row->max_index);
    term_table_cell(t, TERM_PLAIN, "%s", row->name);
    term_table_cell(t, TERM_PLAIN, "%s", compared ? rule : "-");
    number_cell(t, TERM_PLAIN, compared ? c->max_abs : nothing);
    term_table_cell(t, TERM_PLAIN, "%s", compared && c->max_abs > 0.0 ? place : "-");
    number_cell(t, TERM_PLAIN, compared ? c->max_rel : nothing);
    number_cell(t, TERM_PLAIN, compared ? c->mean_abs : nothing);
    number_cell(t, TERM_PLAIN, compared ? c->rms : nothing);
    if (compared && !isnan(c->cosine))
        term_table_cell(t, TERM_PLAIN, "%.9f", c->cosine);
    else
        term_table_cell(t, TERM_PLAIN, "-");
    diff_finding(finding, row);
    term_table_cell(t, style_of(row->verdict), "%s", finding);
}

static void print_folders(JsonBuf *out, const Diff *d, bool colour, int width)
{
    static const char *const headings[] = {"tensor",   "tolerance", "max abs", "at",     "max rel",
                                           "mean abs", "RMS",       "cosine",  "verdict"};
    TermTable t;

    if (d->prompt_unknown)
        json_buf_printf(out, "   without metadata.json on both sides: the prompts may differ\n");
    json_buf_printf(out, "\n");
    term_table_begin(&t, headings, "lrrlrrrrl", colour);
    for (int i = 0; i < d->n_rows; i++)
        print_row(&t, d, &d->rows[i]);
    term_table_print(&t, out);
    if (d->worst < 0 || d->rows[d->worst].n_bits == 0)
        return;
    const TensorDiff *row = &d->rows[d->worst];
    char name[PATH_SHOWN_BYTES];
    text_escape(name, sizeof name, row->name, strlen(row->name));
    json_buf_printf(out, "\nthe worst: %s\n", name);
    if (d->options.bits) {
        char place[COMPARE_TEXT_BYTES], bits[DIFF_BITS_BYTES];

        compare_place(place, &row->shape, row->first_bits);
        diff_bits_text(bits, row);
        json_buf_printf(out, "first difference at %s: %s\n", place, bits);
    }
    print_heat(out, row, colour, width);
    print_elements(out, row, colour);
}

void diff_print(JsonBuf *out, const Diff *d, bool colour, int width)
{
    char verdict[DIFF_VERDICT_BYTES];

    print_paths(out, d);
    if (d->folders)
        print_folders(out, d, colour, width);
    else
        print_pair(out, d, colour, width);
    diff_verdict(verdict, d);
    json_buf_printf(out, "\n");
    term_text(out, colour, diff_count(d, DIFF_AGREE) == d->n_rows ? TERM_GOOD : TERM_BAD, verdict);
    json_buf_printf(out, "\n");
}
