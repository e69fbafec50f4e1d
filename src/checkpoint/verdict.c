/* checkpoint/verdict.c: rows of `verify`, and how they look on a terminal.
 *
 * May include: common. */
#include "checkpoint/verdict.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    *row = (VerdictRow){.checkpoint = checkpoint,
                        .layer = -1,
                        .stage = TAP_STAGE_COUNT,
                        .tolerance = tolerance};
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

enum { COLUMNS = 11, CELL_BYTES = 72 };

static const char *const headings[COLUMNS] = {"#",       "check",   "tolerance", "worst error",
                                              "max abs", "max rel", "mean abs",  "RMS",
                                              "place",   "ours",    "reference"};
/* Names and places read from the left, numbers from the right. */
static const bool left[COLUMNS] = {[1] = true, [8] = true};

static void number_cell(char *cell, double value)
{
    if (!isnan(value))
        snprintf(cell, CELL_BYTES, "%.2e", value);
}

static void make_cells(char cells[COLUMNS][CELL_BYTES], const VerdictRow *row)
{
    const Comparison *c = &row->figures;

    for (int i = 0; i < COLUMNS; i++)
        snprintf(cells[i], CELL_BYTES, "-");
    snprintf(cells[0], CELL_BYTES, "%d", row->checkpoint);
    snprintf(cells[1], CELL_BYTES, "%s", row->name);
    if (row->tolerance > 0.0)
        snprintf(cells[2], CELL_BYTES, "%g", row->tolerance);
    else
        snprintf(cells[2], CELL_BYTES, "exact");
    if (!row->measured)
        return;
    number_cell(cells[3], c->worst);
    number_cell(cells[4], c->max_abs);
    number_cell(cells[5], c->max_rel);
    number_cell(cells[6], c->mean_abs);
    number_cell(cells[7], c->rms);
    snprintf(cells[8], CELL_BYTES, "%s", row->place);
    snprintf(cells[9], CELL_BYTES, "%.7g", (double)c->ours);
    snprintf(cells[10], CELL_BYTES, "%.7g", (double)c->reference);
}

static void format_line(JsonBuf *out, char cells[COLUMNS][CELL_BYTES], const int widths[COLUMNS])
{
    for (int i = 0; i < COLUMNS; i++)
        json_buf_printf(out, left[i] ? "%-*s  " : "%*s  ", widths[i], cells[i]);
}

static const char *verdict_text(Verdict verdict)
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

void verdict_format(const VerdictTable *t, JsonBuf *out)
{
    char cells[COLUMNS][CELL_BYTES];
    int widths[COLUMNS];

    for (int i = 0; i < COLUMNS; i++)
        widths[i] = (int)strlen(headings[i]);
    for (int r = 0; r < t->n_rows; r++) {
        make_cells(cells, &t->rows[r]);
        for (int i = 0; i < COLUMNS; i++)
            if ((int)strlen(cells[i]) > widths[i])
                widths[i] = (int)strlen(cells[i]);
    }
    for (int i = 0; i < COLUMNS; i++)
        snprintf(cells[i], CELL_BYTES, "%s", headings[i]);
    format_line(out, cells, widths);
    json_buf_printf(out, "verdict\n");
    for (int r = 0; r < t->n_rows; r++) {
        const VerdictRow *row = &t->rows[r];

        make_cells(cells, row);
        format_line(out, cells, widths);
        json_buf_printf(out, "%s%s%s\n", verdict_text(row->verdict),
                        row->note[0] != '\0' ? ": " : "", row->note);
    }
    json_buf_printf(out, "\n%d passed, %d failed, %d not validated\n",
                    verdict_count(t, VERDICT_PASS), verdict_count(t, VERDICT_FAIL),
                    verdict_count(t, VERDICT_NOT_VALIDATED));
}
