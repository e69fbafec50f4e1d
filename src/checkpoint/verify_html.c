/* checkpoint/verify_html.c: see verify_html.h.
 *
 * May include: common, report. */
#include "checkpoint/verify_html.h"

#include <math.h>
#include <stdio.h>

#include "checkpoint/verify_charts.h"
#include "common/text.h"
#include "report/page.h"

enum { IDS_SHOWN = 32, IDS_BYTES = 512, PROMPT_BYTES = 1024 };

/* ---- The run ---- */

static const char *word_of(Verdict verdict)
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

static CellMark mark_of(Verdict verdict)
{
    return verdict == VERDICT_PASS ? CELL_GOOD : verdict == VERDICT_FAIL ? CELL_BAD : CELL_WEAK;
}

static const char *text_or(const char *text, const char *otherwise)
{
    return text != NULL ? text : otherwise;
}

static void prompt_fact(JsonBuf *out, const VerifyMeta *meta)
{
    char text[PROMPT_BYTES];

    if (meta->prompt == NULL)
        return;
    text_escape(text, sizeof text, meta->prompt, meta->n_prompt);
    page_fact(out, "prompt", "%s", text);
}

static void ids_fact(JsonBuf *out, const VerifyMeta *meta)
{
    char text[IDS_BYTES];
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < meta->n_ids && i < IDS_SHOWN && used + 16 < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " %d", (int)meta->ids[i]);
    page_fact(out, "tokens", "%d:%s%s", meta->n_ids, text, meta->n_ids > IDS_SHOWN ? " ..." : "");
}

/* The note of a row stands at the far end of a wide table, so what failed first is said on top. */
static void fault_fact(JsonBuf *out, const VerifyResult *r)
{
    if (r->fault[0] != '\0') {
        page_fact(out, "first fault", "%s", r->fault);
        return;
    }
    for (int i = 0; i < r->table.n_rows; i++) {
        const VerdictRow *row = &r->table.rows[i];

        if (row->verdict != VERDICT_FAIL)
            continue;
        page_fact(out, "first failure", "%s: %s", row->name, row->note);
        return;
    }
}

static void facts(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta)
{
    page_facts_begin(out);
    page_fact(out, "verdict", "%s: %d passed, %d failed, %d not validated",
              word_of(verify_verdict(r)), verdict_count(&r->table, VERDICT_PASS),
              verdict_count(&r->table, VERDICT_FAIL),
              verdict_count(&r->table, VERDICT_NOT_VALIDATED));
    fault_fact(out, r);
    page_fact(out, "model", "%s, weights %s", text_or(meta->model, "-"), text_or(meta->types, "-"));
    prompt_fact(out, meta);
    ids_fact(out, meta);
    page_fact(out, "reference", "%s", text_or(meta->reference, r->reference));
    page_fact(out, "instructions", "%s", text_or(meta->isa, "-"));
    page_fact(out, "program", "llorch-cpud %s, %s", text_or(meta->version, "-"),
              text_or(meta->compiler, "-"));
    page_facts_end(out);
}

/* ---- Tables ---- */

static void number_cell(JsonBuf *out, bool known, double value)
{
    if (!known || isnan(value))
        page_cell(out, CELL_WEAK, "-");
    else
        page_cell(out, CELL_PLAIN, "%.2e", value);
}

static void tolerance_cell(JsonBuf *out, const VerdictRow *row)
{
    if (row->tolerance > 0.0)
        page_cell(out, CELL_PLAIN, "%.3g", row->tolerance);
    else
        page_cell(out, CELL_PLAIN, "exact");
}

static void share_cell(JsonBuf *out, const VerdictRow *row)
{
    if (row->has_local && !isnan(row->local.worst))
        page_cell(out, row->local.worst > 1.0 ? CELL_BAD : CELL_PLAIN, "%.3g", row->local.worst);
    else
        page_cell(out, CELL_WEAK, "-");
}

static void check_row(JsonBuf *out, const VerifyResult *r, const VerdictRow *row)
{
    const Comparison *c = &row->figures;

    page_row_begin(out);
    page_cell(out, CELL_PLAIN, "%d", row->checkpoint);
    page_cell(out, mark_of(row->verdict), "%s", word_of(row->verdict));
    page_cell(out, CELL_PLAIN, "%s", row->name);
    tolerance_cell(out, row);
    number_cell(out, row->measured, c->worst);
    if (r->self)
        share_cell(out, row);
    number_cell(out, row->measured, c->max_abs);
    number_cell(out, row->measured, c->max_rel);
    number_cell(out, row->measured, c->mean_abs);
    number_cell(out, row->measured, c->rms);
    if (row->measured && c->cosine != 0.0 && !isnan(c->cosine))
        page_cell(out, CELL_PLAIN, "%.9f", c->cosine);
    else
        page_cell(out, CELL_WEAK, "-");
    page_cell(out, CELL_PLAIN, "%s", row->measured ? row->place : "-");
    if (row->measured) {
        page_cell(out, CELL_PLAIN, "%.7g", (double)c->ours);
        page_cell(out, CELL_PLAIN, "%.7g", (double)c->reference);
    } else {
        page_cell(out, CELL_WEAK, "-");
        page_cell(out, CELL_WEAK, "-");
    }
    page_cell(out, CELL_PLAIN, "%s", row->note);
    page_row_end(out);
}

static void checks_table(JsonBuf *out, const VerifyResult *r)
{
    static const char *const with_share[] = {"#",           "verdict",   "check",   "tolerance",
                                             "worst error", "own share", "max abs", "max rel",
                                             "mean abs",    "RMS",       "cosine",  "place",
                                             "ours",        "reference", "note"};
    static const char *const plain[] = {
        "#",        "verdict", "check",  "tolerance", "worst error", "max abs",   "max rel",
        "mean abs", "RMS",     "cosine", "place",     "ours",        "reference", "note"};

    if (r->self)
        page_table_begin(out, with_share, "rllrrrrrrrrlrrl",
                         sizeof with_share / sizeof *with_share);
    else
        page_table_begin(out, plain, "rllrrrrrrrlrrl", sizeof plain / sizeof *plain);
    for (int i = 0; i < r->table.n_rows; i++)
        check_row(out, r, &r->table.rows[i]);
    page_table_end(out);
}

static void side_row(JsonBuf *out, const char *name, const char *whose, const CompareSide *s)
{
    page_row_begin(out);
    page_cell(out, CELL_PLAIN, "%s", name);
    page_cell(out, CELL_WEAK, "%s", whose);
    page_cell(out, CELL_PLAIN, "%.7g", s->mean);
    page_cell(out, CELL_PLAIN, "%.7g", s->variance);
    page_cell(out, CELL_PLAIN, "%.7g", s->min);
    page_cell(out, CELL_PLAIN, "%.7g", s->max);
    page_cell(out, s->n_nan > 0 ? CELL_BAD : CELL_PLAIN, "%zu", s->n_nan);
    page_cell(out, CELL_PLAIN, "%zu", s->n_inf);
    page_row_end(out);
}

/* Two rows a tensor, one below the other, so that equal columns can be compared by eye. */
static void sides_table(JsonBuf *out, const VerifyResult *r)
{
    static const char *const headings[] = {"check", "side", "mean", "variance",
                                           "min",   "max",  "NaN",  "Inf"};

    page_table_begin(out, headings, "llrrrrrr", sizeof headings / sizeof *headings);
    for (int i = 0; i < r->table.n_rows; i++) {
        const VerdictRow *row = &r->table.rows[i];

        if (row->map.rows == 0)
            continue;
        side_row(out, row->name, "ours", &row->figures.sides[0]);
        side_row(out, "", "reference", &row->figures.sides[1]);
    }
    page_table_end(out);
}

static void growth_table(JsonBuf *out, const VerifyResult *r)
{
    static const char *const headings[] = {"layer", "max abs", "RMS", "growth"};

    page_table_begin(out, headings, "rrrr", sizeof headings / sizeof *headings);
    for (int i = 0; i < r->n_growth; i++) {
        const VerifyGrowth *g = &r->growth[i];

        page_row_begin(out);
        page_cell(out, CELL_PLAIN, "%d", g->layer);
        number_cell(out, true, g->max_abs);
        number_cell(out, true, g->rms);
        if (isnan(g->factor))
            page_cell(out, CELL_WEAK, "-");
        else
            page_cell(out, CELL_PLAIN, "%.2f", g->factor);
        page_row_end(out);
    }
    page_table_end(out);
}

/* ---- The page ---- */

static void errors_by_layer(JsonBuf *out, const VerifyResult *r)
{
    if (r->n_growth == 0)
        return;
    page_section(out, "Errors by layer",
                 r->self ? "The output of each block carries the errors of all stages before it; "
                           "growth is its RMS over that of the layer before. The share is of each "
                           "stage alone, computed in double precision from "
                           "the inputs it had: it finds a wrong stage at any depth."
                         : "The output of each block carries the errors of all stages before it; "
                           "growth is its RMS over that of the layer before.");
    verify_chart_growth(out, r);
    if (r->self)
        verify_chart_stages(out, r);
    growth_table(out, r);
}

static void maps(JsonBuf *out, const VerifyResult *r)
{
    if (verify_chart_worst(r) < 0)
        return;
    page_section(out, "Sizes of the errors",
                 "Values by |ours - reference|; a bar begins at the number below it.");
    verify_chart_histograms(out, r);
    page_section(out, "Where the errors are",
                 "Each cell shows the largest error in it, by the logarithm: the last axis across, "
                 "all others down. First the first fault, or what comes nearest to its tolerance.");
    verify_chart_maps(out, r);
}

static void attention(JsonBuf *out, const VerifyResult *r)
{
    if (capture_stage(&r->capture, TAP_PROBS, 0).data == NULL)
        return;
    page_section(out, "Attention",
                 "Each row is a position of the prompt, from the first on top; its cells show how "
                 "much it looks at the positions up to its own.");
    verify_chart_attention(out, r);
}

void verify_html(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta)
{
    char subtitle[256];

    (void)snprintf(subtitle, sizeof subtitle, "%.200s: %s", text_or(meta->model, "a model"),
                   word_of(verify_verdict(r)));
    page_begin(out, "verify", subtitle);
    facts(out, r, meta);
    errors_by_layer(out, r);
    page_section(out, "Checks",
                 r->self
                     ? "Worst error: the largest |ours - reference| / max(1, |reference|), with "
                       "the errors of all stages before. Own share: this stage alone, as a "
                       "share of what rounding allows; above 1 is a fault."
                     : "Worst error: the largest |ours - reference| / max(1, |reference|), "
                       "which must not exceed the tolerance.");
    checks_table(out, r);
    maps(out, r);
    attention(out, r);
    if (verify_chart_worst(r) >= 0) {
        page_section(out, "Both sides", "Of the finite values of each tensor.");
        sides_table(out, r);
    }
    page_end(out);
}
