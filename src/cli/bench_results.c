/* cli/bench_results.c: see bench_results.h.
 *
 * May include: common, report. */
#include "cli/bench_results.h"

#include "cli/cli.h"
#include "report/output.h"
#include "report/terminal.h"

/* c: NULL for no baseline. */
static void format_all(const BenchResults *b, const BenchComparison *c, JsonBuf *out)
{
    if (!b->args->json) {
        bench_report_table(out, b->report, b->machine);
        if (c != NULL)
            bench_comparison_format(out, c, b->machine, term_wants_colour());
        return;
    }
    json_buf_printf(out, "{");
    bench_report_members(out, b->report, b->machine);
    if (c != NULL) {
        json_buf_printf(out, ",\"comparison\":");
        bench_comparison_json(out, c);
    }
    json_buf_printf(out, "}\n");
}

static ErrCode print_all(const BenchResults *b, const BenchComparison *c, Err *err)
{
    JsonBuf out = {0};
    ErrCode code;

    format_all(b, c, &out);
    code = out.oom ? err_set(err, ERR_MEMORY, "out of memory") : cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode save(const BenchResults *b, Err *err)
{
    JsonBuf out = {0};

    bench_report_json(&out, b->report, b->machine);
    const ErrCode code = report_write(b->args->save, &out, err);
    json_buf_free(&out);
    return code;
}

ErrCode bench_results(const BenchResults *b, bool *slower, Err *err)
{
    const BenchArgs *a = b->args;
    BenchComparison c = {.baseline = NULL};
    ErrCode code =
        b->report->oom ? err_set(err, ERR_MEMORY, "out of memory for the figures") : ERR_OK;

    if (code == ERR_OK && a->compare != NULL)
        code = bench_compare(&c, b->baseline, b->report, a->max_slowdown, err);
    if (code == ERR_OK)
        code = print_all(b, a->compare != NULL ? &c : NULL, err);
    if (code == ERR_OK && a->save != NULL)
        code = save(b, err);
    *slower = c.n_slower > 0;
    bench_comparison_free(&c);
    return code;
}
