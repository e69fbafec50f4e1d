/* cli/bench_baseline_report.c: a comparison with a baseline, for people and for programs.
 *
 * May include: common, report. */
#include <stdio.h>
#include <string.h>

#include "cli/bench_baseline.h"
#include "common/text.h"
#include "report/terminal.h"

enum { FEW_ROUNDS = 3, SHOWN_BYTES = 1024 };

/* ---- Text ---- */

/* Files come from anywhere: nothing in them may steer the terminal. */
static void add_shown(JsonBuf *out, const char *text)
{
    char shown[SHOWN_BYTES];

    (void)text_escape(shown, sizeof shown, text, strlen(text));
    json_buf_printf(out, "%s", shown);
}

static void add_origin(JsonBuf *out, const BenchComparison *c, const BenchMachine *now)
{
    const BenchBaseline *b = c->baseline;

    json_buf_printf(out, "\ncompared with ");
    add_shown(out, b->path);
    json_buf_printf(out, ": version ");
    add_shown(out, b->version);
    json_buf_printf(out, ", ");
    add_shown(out, b->compiler);
    json_buf_printf(out, " ");
    add_shown(out, b->flags);
    json_buf_printf(out, "\n");
    if (strcmp(b->cpu_name, now->cpu_name) != 0) {
        json_buf_printf(out, "note: the baseline is of another processor, ");
        add_shown(out, b->cpu_name);
        json_buf_printf(out, ": its shares may differ for that reason\n");
    }
}

static const char *verdict(const BenchComparison *c, const BenchChange *change, TermStyle *style)
{
    *style = TERM_PLAIN;
    if (change->slower > c->max_slowdown) {
        *style = TERM_BAD;
        return "SLOWER";
    }
    if (change->slower < -c->max_slowdown) {
        *style = TERM_GOOD;
        return "faster";
    }
    return "same";
}

static void add_table(JsonBuf *out, const BenchComparison *c, bool colour)
{
    static const char *const headings[] = {"type",   "case",   "share then",  "least..most",
                                           "rounds", "now",    "least..most", "rounds",
                                           "slower", "verdict"};
    TermTable t;

    term_table_begin(&t, headings, "llrrrrrrrl", colour);
    for (size_t i = 0; i < c->n; i++) {
        const BenchChange *change = &c->changes[i];
        TermStyle style;
        const char *text = verdict(c, change, &style);

        term_table_cell(&t, TERM_PLAIN, "%s", change->type);
        term_table_cell(&t, TERM_PLAIN, "%s", change->name);
        term_table_cell(&t, TERM_PLAIN, "%.3f", change->then->share);
        term_table_cell(&t, TERM_WEAK, "%.3f..%.3f", change->then->least, change->then->most);
        term_table_cell(&t, TERM_WEAK, "%d", change->then->n);
        term_table_cell(&t, TERM_PLAIN, "%.3f", change->share);
        term_table_cell(&t, TERM_WEAK, "%.3f..%.3f", change->least, change->most);
        term_table_cell(&t, TERM_WEAK, "%zu", change->n);
        term_table_cell(&t, style, "%+.1f %%", change->slower);
        term_table_cell(&t, style, "%s", text);
    }
    term_table_print(&t, out);
}

static void add_names(JsonBuf *out, const BenchComparison *c)
{
    for (size_t i = 0; i < c->n_missing; i++) {
        json_buf_printf(out, "%s", i == 0 ? "not measured now: " : ", ");
        add_shown(out, c->missing[i]->type);
        json_buf_printf(out, " ");
        add_shown(out, c->missing[i]->name);
    }
    json_buf_printf(out, "%s", c->n_missing > 0 ? "\n" : "");
    for (size_t i = 0; i < c->n_added; i++)
        json_buf_printf(out, "%s%s %s", i == 0 ? "not in the baseline: " : ", ", c->added[i]->type,
                        c->added[i]->name);
    json_buf_printf(out, "%s", c->n_added > 0 ? "\n" : "");
}

/* "load" and "memory" are measured once, whatever the rounds. */
static bool has_few_rounds(const BenchComparison *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const BenchChange *change = &c->changes[i];

        if ((change->n < FEW_ROUNDS || change->then->n < FEW_ROUNDS) &&
            strcmp(change->name, "load") != 0 && strcmp(change->name, "memory") != 0)
            return true;
    }
    return false;
}

void bench_comparison_format(JsonBuf *out, const BenchComparison *c, const BenchMachine *now,
                             bool colour)
{
    add_origin(out, c, now);
    add_table(out, c, colour);
    json_buf_printf(out, "\n");
    add_names(out, c);
    if (has_few_rounds(c))
        json_buf_printf(out,
                        "note: fewer than %d rounds on one side: a median of so few says "
                        "little on a busy machine\n",
                        FEW_ROUNDS);
    if (c->n_slower == 0)
        json_buf_printf(out, "none of %zu cases is more than %g %% slower", c->n, c->max_slowdown);
    else
        json_buf_printf(out, "%zu of %zu cases %s more than %g %% slower", c->n_slower, c->n,
                        c->n_slower == 1 ? "is" : "are", c->max_slowdown);
    if (c->n_faster > 0)
        json_buf_printf(out, ", %zu %s faster", c->n_faster, c->n_faster == 1 ? "is" : "are");
    json_buf_printf(out, "\n");
}

/* ---- JSON ---- */

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

static void add_case(JsonBuf *out, const char *type, const char *name)
{
    json_buf_printf(out, "{");
    add_string(out, "type", type);
    json_buf_printf(out, ",");
    add_string(out, "case", name);
}

static void add_change(JsonBuf *out, const BenchComparison *c, const BenchChange *change)
{
    TermStyle style;

    add_case(out, change->type, change->name);
    json_buf_printf(out,
                    ",\"share_then\":%.6g,\"share\":%.6g,\"rounds_then\":%d,\"rounds\":%zu,"
                    "\"slower_percent\":%.4g,",
                    change->then->share, change->share, change->then->n, change->n, change->slower);
    add_string(out, "verdict", verdict(c, change, &style));
    json_buf_printf(out, "}");
}

void bench_comparison_json(JsonBuf *out, const BenchComparison *c)
{
    json_buf_printf(out, "{");
    add_string(out, "baseline", c->baseline->path);
    json_buf_printf(out,
                    ",\"max_slowdown_percent\":%g,\"slower\":%zu,\"faster\":%zu,"
                    "\"cases\":[",
                    c->max_slowdown, c->n_slower, c->n_faster);
    for (size_t i = 0; i < c->n; i++) {
        json_buf_printf(out, "%s", i > 0 ? "," : "");
        add_change(out, c, &c->changes[i]);
    }
    json_buf_printf(out, "],\"missing\":[");
    for (size_t i = 0; i < c->n_missing; i++) {
        json_buf_printf(out, "%s", i > 0 ? "," : "");
        add_case(out, c->missing[i]->type, c->missing[i]->name);
        json_buf_printf(out, "}");
    }
    json_buf_printf(out, "],\"new\":[");
    for (size_t i = 0; i < c->n_added; i++) {
        json_buf_printf(out, "%s", i > 0 ? "," : "");
        add_case(out, c->added[i]->type, c->added[i]->name);
        json_buf_printf(out, "}");
    }
    json_buf_printf(out, "]}");
}
