/* cli/bench_baseline.h: what bench found some time ago, and what has become slower or faster since.
 *
 * Only shares are compared, medians over the rounds: what the machine could do at that minute is
 * taken out.
 *
 * May include: common. */
#ifndef LLORCH_CLI_BENCH_BASELINE_H
#define LLORCH_CLI_BENCH_BASELINE_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/bench_report.h"
#include "common/error.h"
#include "common/json.h"

typedef struct {
    const char *type, *name; /* "F16", "decode@512" */
    double share;            /* median, above 0 */
    double least, most;
    int n; /* rounds */
} BenchBaselineCase;

/* A file that bench --save wrote. Texts live in root. */
typedef struct {
    const char *path; /* borrowed */
    const char *cpu_name, *isa, *compiler, *flags, *version, *model, *config, *kv_type;
    BenchBaselineCase *cases; /* [n], owned */
    size_t n;
    json_t *root;
} BenchBaseline;

/* Errors: those of json_parse_file; ERR_FORMAT for JSON that is no such file, or a damaged one;
 * ERR_MEMORY. */
ErrCode bench_baseline_read(BenchBaseline *b, const char *path, Err *err) ERR_CHECK;
void bench_baseline_free(BenchBaseline *b); /* a zeroed one is allowed */

/* Whether figures of this model, these kernels, cache and type of weights can be compared with the
 * file. Errors: ERR_UNSUPPORTED, "<path>: is of ... , now ...". */
ErrCode bench_baseline_check(const BenchBaseline *b, const BenchMachine *now, const char *type,
                             Err *err) ERR_CHECK;

/* One case of both. */
typedef struct {
    const BenchBaselineCase *then; /* borrowed from the baseline */
    const char *type, *name;       /* borrowed from the report, like the figures */
    double share, least, most;
    size_t n;
    double slower; /* percent that the share is worse: above 0 slower, below faster */
} BenchChange;

typedef struct {
    const BenchBaseline *baseline;
    double max_slowdown;               /* percent */
    BenchChange *changes;              /* [n], owned; the worst first */
    size_t n, n_slower, n_faster;      /* by more than max_slowdown */
    const BenchBaselineCase **missing; /* [n_missing], owned: in the baseline only */
    size_t n_missing;
    const BenchResult **added; /* [n_added], owned: in the report only */
    size_t n_added;
} BenchComparison;

/* Errors: ERR_UNSUPPORTED (no case in common), ERR_MEMORY. Memory: bench_comparison_free; b and r
 * must outlive c. */
ErrCode bench_compare(BenchComparison *c, const BenchBaseline *b, const BenchReport *r,
                      double max_slowdown, Err *err) ERR_CHECK;
void bench_comparison_free(BenchComparison *c); /* a zeroed one is allowed */

/* Appends a table and the verdict; or a JSON object. */
void bench_comparison_format(JsonBuf *out, const BenchComparison *c, const BenchMachine *now,
                             bool colour);
void bench_comparison_json(JsonBuf *out, const BenchComparison *c);

#endif
