/* checkpoint/verify_baseline_report.c: a comparison with a baseline, for people and for programs.
 *
 * May include: common, report. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/verify_baseline.h"
#include "common/text.h"
#include "report/terminal.h"

enum { MOST_LINES = 40, SHOWN_BYTES = 1024 };

static const char *const figure_names[VERIFY_FIGURES + 1] = {[VERIFY_MAX_ABS] = "max abs",
                                                             [VERIFY_RMS] = "RMS",
                                                             [VERIFY_LOCAL_MAX_ABS] =
                                                                 "max abs, this stage",
                                                             [VERIFY_LOCAL_RMS] = "RMS, this stage",
                                                             [VERIFY_FIGURES] = "-"};

static const char *const kind_names[] = {
    [VERIFY_FAILS] = "fails",   [VERIFY_MISSING] = "missing", [VERIFY_GREW] = "grew",
    [VERIFY_LARGER] = "larger", [VERIFY_SMALLER] = "smaller", [VERIFY_NEW] = "new"};

/* ---- Text ---- */

/* Files come from anywhere: nothing in them may steer the terminal. */
static void add_shown(JsonBuf *out, const char *before, const char *text)
{
    char shown[SHOWN_BYTES];

    (void)text_escape(shown, sizeof shown, text, strlen(text));
    json_buf_printf(out, "%s%s", before, shown);
}

static void add_origin(JsonBuf *out, const VerifyBaseline *b)
{
    add_shown(out, "\ncompared with ", b->path);
    add_shown(out, ": version ", b->version);
    add_shown(out, ", ", b->compiler);
    add_shown(out, " ", b->flags);
    add_shown(out, ", kernels ", b->isa);
    add_shown(out, ", ", b->cpu_name);
    json_buf_printf(out, "\n");
}

static TermStyle style_of(VerifyChangeKind kind)
{
    return kind <= VERIFY_GREW ? TERM_BAD : kind == VERIFY_SMALLER ? TERM_GOOD : TERM_PLAIN;
}

static void number_cell(TermTable *t, const char *format, double x)
{
    char text[40];

    (void)snprintf(text, sizeof text, format, x);
    term_table_cell(t, TERM_PLAIN, "%s", isnan(x) ? "-" : text);
}

static void add_cells(TermTable *t, const VerifyChange *change)
{
    const TermStyle style = style_of(change->kind);

    term_table_cell(t, TERM_PLAIN, "%s", change->name);
    term_table_cell(t, TERM_PLAIN, "%s", figure_names[change->figure]);
    number_cell(t, "%.2e", change->then);
    number_cell(t, "%.2e", change->now);
    number_cell(t, "%.2f x", isfinite(change->factor) ? change->factor : (double)NAN);
    term_table_cell(t, style, "%s", kind_names[change->kind]);
}

/* The worst change of each check, failures first; printed: the names so far. */
static bool is_shown(const char *const *printed, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(printed[i], name) == 0)
            return true;
    return false;
}

static void add_table(JsonBuf *out, const VerifyComparison *c, bool colour)
{
    static const char *const headings[] = {"check", "worst figure", "then",
                                           "now",   "growth",       "verdict"};
    const char *printed[MOST_LINES];
    int n = 0, n_left = 0;
    TermTable t;

    if (c->n == 0)
        return;
    term_table_begin(&t, headings, "llrrrl", colour);
    for (int i = 0; i < c->n; i++) {
        if (is_shown(printed, n, c->changes[i].name))
            continue;
        if (n == MOST_LINES) {
            n_left++;
            continue;
        }
        printed[n++] = c->changes[i].name;
        add_cells(&t, &c->changes[i]);
    }
    term_table_print(&t, out);
    if (n_left > 0)
        json_buf_printf(out, "... and %d more changes of other checks (--json has all)\n", n_left);
    json_buf_printf(out, "\n");
}

void verify_comparison_format(JsonBuf *out, const VerifyComparison *c, bool colour)
{
    int moved = 0;

    for (int i = 0; i < c->n; i++)
        moved += c->changes[i].figure != VERIFY_FIGURES;
    add_origin(out, c->baseline);
    add_table(out, c, colour);
    json_buf_printf(out, "%d checks with %d figures compared: ", c->n_rows, c->n_figures);
    if (moved == 0)
        json_buf_printf(out, "all figures are the same");
    else
        json_buf_printf(out, "%d moved", moved);
    if (c->n_failures == 0)
        json_buf_printf(out, "; nothing fails, is missing or grew beyond %g x\n", c->max_growth);
    else
        json_buf_printf(out,
                        "; FAILURES: %d (a check that fails or is missing, a figure beyond %g x)\n",
                        c->n_failures, c->max_growth);
}

/* ---- JSON ---- */

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

static void add_number(JsonBuf *out, const char *key, double x)
{
    if (isfinite(x))
        json_buf_printf(out, ",\"%s\":%.9g", key, x);
    else
        json_buf_printf(out, ",\"%s\":null", key);
}

static void add_change(JsonBuf *out, const VerifyChange *change)
{
    json_buf_printf(out, "{");
    add_string(out, "name", change->name);
    json_buf_printf(out, ",");
    add_string(out, "verdict", kind_names[change->kind]);
    if (change->figure != VERIFY_FIGURES) {
        json_buf_printf(out, ",");
        add_string(out, "figure", figure_names[change->figure]);
    }
    add_number(out, "then", change->then);
    add_number(out, "now", change->now);
    add_number(out, "factor", change->factor);
    json_buf_printf(out, "}");
}

void verify_comparison_json(JsonBuf *out, const VerifyComparison *c)
{
    json_buf_printf(out, "{");
    add_string(out, "baseline", c->baseline->path);
    json_buf_printf(out,
                    ",\"max_growth\":%g,\"checks\":%d,\"figures\":%d,\"failures\":%d,"
                    "\"changes\":[",
                    c->max_growth, c->n_rows, c->n_figures, c->n_failures);
    for (int i = 0; i < c->n; i++) {
        json_buf_printf(out, "%s", i > 0 ? "," : "");
        add_change(out, &c->changes[i]);
    }
    json_buf_printf(out, "]}");
}
