/* checkpoint/verdict.c: rows of `verify`, and how they look on a terminal.
 *
 * May include: common, report. */
#include "checkpoint/verdict.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "report/terminal.h"

ErrCode verdict_init(VerdictTable *t, int max_rows, Err *err)
{
    VerdictTable made = {.max_rows = max_rows};
    size_t total = 0;
    ErrCode code;

    if (!arena_plan(&total, (size_t)max_rows, sizeof(VerdictRow)))
        return err_set(err, ERR_LIMIT, "a table of %d rows is too large", max_rows);
    code = arena_init(&made.arena, total, "table of results", err);
    if (code != ERR_OK)
        return code;
    made.rows = arena_alloc(&made.arena, (size_t)max_rows, sizeof *made.rows);
    if (made.rows == NULL)
        return err_set(err, ERR_MEMORY, "table of results: out of memory");
    *t = made;
    return ERR_OK;
}

void verdict_free(VerdictTable *t)
{
    arena_free(&t->arena);
    *t = (VerdictTable){.rows = NULL};
}

VerdictRow *verdict_add(VerdictTable *t, int checkpoint, double tolerance, const char *name, ...)
{
    VerdictRow *row = &t->rows[t->n_rows];
    va_list args;

    assert(t->n_rows < t->max_rows);
    t->n_rows++;
    *row = (VerdictRow){
        .checkpoint = checkpoint, .layer = -1, .stage = TAP_STAGE_COUNT, .tolerance = tolerance};
    va_start(args, name);
    vsnprintf(row->name, sizeof row->name, name, args);
    va_end(args);
    return row;
}

void verdict_set(VerdictRow *row, const Comparison *c, const CompareView *ours,
                 const CompareView *reference)
{
    char text[COMPARE_TEXT_BYTES];

    row->verdict = c->verdict == COMPARE_EQUAL ? VERDICT_PASS : VERDICT_FAIL;
    row->figures = *c;
    row->measured = c->verdict != COMPARE_SHAPE && compare_count(ours) > 0;
    if (row->measured) {
        compare_place(text, ours, c->index);
        snprintf(row->place, sizeof row->place, "%.*s", (int)sizeof row->place - 1, text);
    }
    compare_explain(text, c, ours, reference);
    snprintf(row->note, sizeof row->note, "%s", text);
}

void verdict_set_ids(VerdictRow *row, const int32_t *ours, int n_ours, const int32_t *reference,
                     int n_reference)
{
    const int n = n_ours < n_reference ? n_ours : n_reference;
    Comparison *c = &row->figures;
    int n_differ = 0;

    /* Between ids there is no distance, only equal or not. */
    *c = (Comparison){.n = (size_t)n,
                      .worst = (double)NAN,
                      .max_abs = (double)NAN,
                      .max_rel = (double)NAN,
                      .mean_abs = (double)NAN,
                      .rms = (double)NAN};
    for (int i = n - 1; i >= 0; i--)
        if (ours[i] != reference[i] || i == n - 1) {
            /* Ids stay below a million, so a float holds them exactly. */
            c->index = (size_t)i;
            c->ours = (float)ours[i];
            c->reference = (float)reference[i];
            n_differ += ours[i] != reference[i];
        }
    c->n_beyond = (size_t)n_differ;
    c->verdict = n_differ > 0 ? COMPARE_VALUES : COMPARE_EQUAL;
    row->verdict = n_differ > 0 || n_ours != n_reference ? VERDICT_FAIL : VERDICT_PASS;
    row->measured = n > 0;
    snprintf(row->place, sizeof row->place, "[%zu]", c->index);
    if (n_ours != n_reference)
        verdict_set_note(row, "%d ids, reference %d", n_ours, n_reference);
    else if (n_differ > 0)
        verdict_set_note(row, "%d of %d ids differ, the first at %zu", n_differ, n, c->index);
}

void verdict_set_bool(VerdictRow *row, bool holds, const char *note, ...)
{
    va_list args;

    row->verdict = holds ? VERDICT_PASS : VERDICT_FAIL;
    if (holds)
        return;
    va_start(args, note);
    vsnprintf(row->note, sizeof row->note, note, args);
    va_end(args);
}

void verdict_set_note(VerdictRow *row, const char *note, ...)
{
    va_list args;

    va_start(args, note);
    vsnprintf(row->note, sizeof row->note, note, args);
    va_end(args);
}

int verdict_count(const VerdictTable *t, Verdict verdict)
{
    int n = 0;

    for (int i = 0; i < t->n_rows; i++)
        n += t->rows[i].verdict == verdict;
    return n;
}

void verdict_settle(VerdictTable *t)
{
    for (int i = 0; i < t->n_rows; i++)
        if (!t->rows[i].own && t->rows[i].verdict != VERDICT_NOT_VALIDATED)
            return;
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i].own && t->rows[i].verdict == VERDICT_PASS) {
            t->rows[i].verdict = VERDICT_NOT_VALIDATED;
            verdict_set_note(&t->rows[i], "holds, but nothing recorded backs it");
        }
}

/* ---- The table ---- */

enum { CELL_BYTES = 40 };

const char *verdict_text(Verdict verdict)
{
    switch (verdict) {
    case VERDICT_PASS:
        return "pass";
    case VERDICT_FAIL:
        return "FAIL";
    default:
        return "not validated";
    }
}

static TermStyle verdict_style(Verdict verdict)
{
    switch (verdict) {
    case VERDICT_PASS:
        return TERM_GOOD;
    case VERDICT_FAIL:
        return TERM_BAD;
    default:
        return TERM_WEAK;
    }
}

/* "-" for what was not measured, and for what is no number. */
static void number_cell(TermTable *table, bool measured, TermStyle style, double value)
{
    if (measured && !isnan(value))
        term_table_cell(table, style, "%.2e", value);
    else
        term_table_cell(table, TERM_PLAIN, "-");
}

static bool any_local(const VerdictTable *t)
{
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i].has_local)
            return true;
    return false;
}

static void add_row(TermTable *table, const VerdictRow *row, bool local)
{
    const Comparison *c = &row->figures;
    const TermStyle wrong = c->verdict == COMPARE_EQUAL ? TERM_PLAIN : TERM_BAD;

    term_table_cell(table, TERM_PLAIN, "%d", row->checkpoint);
    term_table_cell(table, TERM_PLAIN, "%s", row->name);
    if (row->tolerance > 0.0)
        term_table_cell(table, TERM_PLAIN, "%.3g", row->tolerance);
    else
        term_table_cell(table, TERM_PLAIN, "exact");
    number_cell(table, row->measured, wrong, c->worst);
    number_cell(table, row->measured, TERM_PLAIN, c->max_abs);
    number_cell(table, row->measured, TERM_PLAIN, c->rms);
    term_table_cell(table, TERM_PLAIN, "%s", row->measured ? row->place : "-");
    if (local && row->has_local && !isnan(row->local.worst))
        term_table_cell(table, row->local.worst > 1.0 ? TERM_BAD : TERM_PLAIN,
                        row->local.worst < 1000.0 ? "%.2f" : "%.1e", row->local.worst);
    else if (local)
        term_table_cell(table, TERM_PLAIN, "-");
    term_table_cell(table, verdict_style(row->verdict), "%s", verdict_text(row->verdict));
}

/* The lines of table, each with the note of its row behind it: notes are longer than cells are. */
static void add_with_notes(const VerdictTable *t, const JsonBuf *lines, JsonBuf *out)
{
    const char *line = lines->data;

    for (int i = -1; line != NULL && i < t->n_rows; i++) {
        const char *end = strchr(line, '\n');
        const char *note = i >= 0 ? t->rows[i].note : "";

        if (end == NULL)
            return;
        json_buf_add(out, line, (size_t)(end - line));
        json_buf_printf(out, "%s%s\n", note[0] != '\0' ? ": " : "", note);
        line = end + 1;
    }
}

void verdict_format(const VerdictTable *t, JsonBuf *out, bool colour)
{
    static const char *const headings[] = {"#",   "check", "tolerance",  "worst error", "max abs",
                                           "RMS", "place", "this stage", "verdict"};
    static const char *const without_local[] = {"#",       "check", "tolerance", "worst error",
                                                "max abs", "RMS",   "place",     "verdict"};
    const bool local = any_local(t);
    JsonBuf lines = {NULL, 0, 0, 0};
    TermTable table;

    term_table_begin(&table, local ? headings : without_local, local ? "rlrrrrlrl" : "rlrrrrll",
                     colour);
    for (int i = 0; i < t->n_rows; i++)
        add_row(&table, &t->rows[i], local);
    term_table_print(&table, &lines);
    if (lines.oom)
        out->oom = 1;
    add_with_notes(t, &lines, out);
    json_buf_free(&lines);
}

static void side_cells(TermTable *table, const char *side, double value, const CompareSide *s)
{
    term_table_cell(table, TERM_PLAIN, "%s", side);
    term_table_cell(table, TERM_PLAIN, "%.7g", value);
    term_table_cell(table, TERM_PLAIN, "%.3g", s->mean);
    term_table_cell(table, TERM_PLAIN, "%.3g", s->variance);
    term_table_cell(table, TERM_PLAIN, "%.3g", s->min);
    term_table_cell(table, TERM_PLAIN, "%.3g", s->max);
    term_table_cell(table, s->n_nan > 0 ? TERM_BAD : TERM_PLAIN, "%zu", s->n_nan);
    term_table_cell(table, TERM_PLAIN, "%zu", s->n_inf);
}

static bool is_of_ids(const Comparison *c)
{
    return c->verdict != COMPARE_NOT_FINITE && c->verdict != COMPARE_MASK && isnan(c->worst);
}

void verdict_format_statistics(const VerdictTable *t, JsonBuf *out, bool colour)
{
    static const char *const headings[] = {"check",    "max rel", "mean abs", "1 - cosine",
                                           "side",     "value",   "mean",     "variance",
                                           "smallest", "largest", "NaN",      "Inf"};
    TermTable table;

    term_table_begin(&table, headings, "lrrrlrrrrrrr", colour);
    for (int i = 0; i < t->n_rows; i++) {
        const VerdictRow *row = &t->rows[i];
        const Comparison *c = &row->figures;

        /* Ids have no statistics, and two of our own tensors have the same. */
        if (!row->measured || row->own || is_of_ids(c))
            continue;
        term_table_cell(&table, TERM_PLAIN, "%s", row->name);
        number_cell(&table, true, TERM_PLAIN, c->max_rel);
        number_cell(&table, true, TERM_PLAIN, c->mean_abs);
        number_cell(&table, true, TERM_PLAIN, fmax(1.0 - c->cosine, 0.0));
        side_cells(&table, "ours", (double)c->ours, &c->sides[0]);
        for (int empty = 0; empty < 4; empty++)
            term_table_cell(&table, TERM_PLAIN, "%s", "");
        side_cells(&table, "reference", (double)c->reference, &c->sides[1]);
    }
    term_table_print(&table, out);
}

void verdict_format_totals(const VerdictTable *t, JsonBuf *out, bool colour)
{
    const int n_failed = verdict_count(t, VERDICT_FAIL);
    const int n_passed = verdict_count(t, VERDICT_PASS);
    char text[96];

    (void)snprintf(text, sizeof text, "%d passed, %d failed, %d not validated", n_passed, n_failed,
                   verdict_count(t, VERDICT_NOT_VALIDATED));
    term_text(out, colour, n_failed > 0 ? TERM_BAD : n_passed > 0 ? TERM_GOOD : TERM_WEAK, text);
    json_buf_add(out, "\n", 1);
}
