/* checkpoint/determinism_report.c: what determinism_run found, for people and for programs.
 *
 * May include: common, report. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "checkpoint/determinism.h"
#include "report/terminal.h"

static int count(const DeterminismResult *r, DeterminismVerdict verdict)
{
    int n = 0;

    for (int i = 0; i < r->n_rows; i++)
        n += r->rows[i].verdict == verdict;
    return n;
}

static int all_runs(const DeterminismResult *r)
{
    int n = 0;

    for (int i = 0; i < r->n_rows; i++)
        n += r->rows[i].runs;
    return n;
}

/* ---- Table ---- */

static void add_cells(TermTable *t, const DeterminismRow *row)
{
    const bool same = row->verdict == DETERMINISM_SAME;

    term_table_cell(t, TERM_PLAIN, "%s", row->way);
    term_table_cell(t, TERM_PLAIN, "%s", row->isa);
    if (row->verdict == DETERMINISM_NOT_RUN) {
        term_table_cell(t, TERM_WEAK, "-");
        term_table_cell(t, TERM_WEAK, "-");
        term_table_cell(t, TERM_WEAK, "not run");
        return;
    }
    term_table_cell(t, TERM_PLAIN, "%d", row->runs);
    term_table_cell(t, TERM_PLAIN, "%016" PRIx64, row->hash);
    term_table_cell(t, same ? TERM_GOOD : TERM_BAD, same ? "same" : "DIFFERS");
}

/* Below the table: where a way differs, or why it was not run. */
static void explain(JsonBuf *out, const DeterminismRow *row)
{
    if (row->verdict == DETERMINISM_SAME)
        return;
    json_buf_printf(out, "\n%s, %s: ", row->way, row->isa);
    if (row->verdict == DETERMINISM_NOT_RUN)
        json_buf_printf(out, "not run: %s", row->note);
    else
        json_buf_printf(out,
                        "run %d, position %d, logit %d is %.9g (%a), expected %.9g (%a); %d logits "
                        "differ",
                        row->runs, row->position, row->token, (double)row->ours, (double)row->ours,
                        (double)row->expected, (double)row->expected, row->n_differ);
}

static void format_verdict(JsonBuf *out, const DeterminismResult *r)
{
    const int n_differ = count(r, DETERMINISM_DIFFERS), n_not_run = count(r, DETERMINISM_NOT_RUN);

    json_buf_printf(out, "\n%d runs in %d ways, seed %" PRIu64 ": ", all_runs(r),
                    r->n_rows - n_not_run, r->seed);
    if (n_differ == 0)
        json_buf_printf(out, "the logits of all %d positions have the same bits, hash %016" PRIx64,
                        r->n_ids, r->hash);
    else
        json_buf_printf(out, "%d %s", n_differ, n_differ == 1 ? "way differs" : "ways differ");
    if (n_not_run > 0)
        json_buf_printf(out, "; %d not run", n_not_run);
    json_buf_printf(out, "\n");
}

void determinism_format(const DeterminismResult *r, JsonBuf *out, bool colour)
{
    static const char *const headings[] = {"way", "isa", "runs", "hash of logits", "verdict"};
    TermTable t;

    term_table_begin(&t, headings, "llrll", colour);
    for (int i = 0; i < r->n_rows; i++)
        add_cells(&t, &r->rows[i]);
    term_table_print(&t, out);
    for (int i = 0; i < r->n_rows; i++)
        explain(out, &r->rows[i]);
    if (!determinism_holds(r) || count(r, DETERMINISM_NOT_RUN) > 0)
        json_buf_printf(out, "\n");
    format_verdict(out, r);
}

/* ---- JSON ---- */

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

/* JSON has no NaN: the bits always say it. */
static void add_float(JsonBuf *out, const char *key, float x)
{
    if (isfinite(x))
        json_buf_printf(out, ",\"%s\":%.9g", key, (double)x);
    else
        json_buf_printf(out, ",\"%s\":null", key);
}

static void add_difference(JsonBuf *out, const DeterminismRow *row)
{
    json_buf_printf(out, ",\"first_difference\":{\"run\":%d,\"position\":%d,\"logit\":%d",
                    row->runs, row->position, row->token);
    add_float(out, "ours", row->ours);
    add_float(out, "expected", row->expected);
    json_buf_printf(out, ",\"logits_that_differ\":%d}", row->n_differ);
}

static void add_row(JsonBuf *out, const DeterminismRow *row)
{
    static const char *const verdicts[] = {"same", "differs", "not run"};

    json_buf_printf(out, "{");
    add_string(out, "way", row->way);
    json_buf_printf(out, ",");
    add_string(out, "isa", row->isa);
    json_buf_printf(out, ",");
    add_string(out, "verdict", verdicts[row->verdict]);
    json_buf_printf(out, ",\"runs\":%d", row->runs);
    if (row->verdict != DETERMINISM_NOT_RUN)
        json_buf_printf(out, ",\"hash\":\"%016" PRIx64 "\"", row->hash);
    if (row->verdict == DETERMINISM_DIFFERS)
        add_difference(out, row);
    if (row->note[0] != '\0') {
        json_buf_printf(out, ",");
        add_string(out, "note", row->note);
    }
    json_buf_printf(out, "}");
}

void determinism_json(const DeterminismResult *r, JsonBuf *out)
{
    json_buf_printf(out,
                    "{\"holds\":%s,\"hash\":\"%016" PRIx64 "\",\"positions\":%d,\"runs\":%d,"
                    "\"seed\":%" PRIu64 ",\"ways\":[",
                    determinism_holds(r) ? "true" : "false", r->hash, r->n_ids, all_runs(r),
                    r->seed);
    for (int i = 0; i < r->n_rows; i++) {
        json_buf_printf(out, "%s", i > 0 ? "," : "");
        add_row(out, &r->rows[i]);
    }
    json_buf_printf(out, "]}");
}
