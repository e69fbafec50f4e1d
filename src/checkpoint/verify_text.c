/* checkpoint/verify_text.c: what a terminal shows of a verification.
 *
 * May include: common, report. */
#include "checkpoint/verify.h"

#include <math.h>

#include "report/terminal.h"

/* Errors of the block outputs: whether they only add up, or one layer makes more of them. */
static void growth(JsonBuf *out, const VerifyResult *r, bool colour)
{
    static const char *const headings[] = {"layer", "max abs", "RMS", "growth"};
    TermTable table;

    if (r->n_growth < 2)
        return;
    json_buf_printf(out, "\nerror of the block outputs\n");
    term_table_begin(&table, headings, "rrrr", colour);
    for (int i = 0; i < r->n_growth; i++) {
        const VerifyGrowth *g = &r->growth[i];

        term_table_cell(&table, TERM_PLAIN, "%d", g->layer);
        term_table_cell(&table, TERM_PLAIN, "%.2e", g->max_abs);
        term_table_cell(&table, TERM_PLAIN, "%.2e", g->rms);
        if (isnan(g->factor))
            term_table_cell(&table, TERM_PLAIN, "-");
        else
            term_table_cell(&table, TERM_PLAIN, "%.2f x", g->factor);
    }
    term_table_print(&table, out);
}

void verify_text(JsonBuf *out, const VerifyResult *r, bool stats, bool colour)
{
    verdict_format(&r->table, out, colour);
    if (stats) {
        json_buf_printf(out, "\nstatistics; value: at the place of the worst error\n");
        verdict_format_statistics(&r->table, out, colour);
    }
    growth(out, r, colour);
    json_buf_printf(out, "\nreference: %s\n", r->reference);
    if (r->first_fault >= 0) {
        term_text(out, colour, TERM_BAD, "first fault: ");
        json_buf_printf(out, "%s\n", r->fault);
    }
    verdict_format_totals(&r->table, out, colour);
}
