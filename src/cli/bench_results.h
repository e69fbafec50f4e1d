/* cli/bench_results.h: what happens with the figures of a bench: they are printed, compared, kept.
 *
 * May include: common. */
#ifndef LLORCH_CLI_BENCH_RESULTS_H
#define LLORCH_CLI_BENCH_RESULTS_H

#include <stdbool.h>

#include "cli/bench_args.h"
#include "cli/bench_baseline.h"
#include "cli/bench_report.h"
#include "common/error.h"

/* All borrowed. */
typedef struct {
    const BenchArgs *args;
    BenchReport *report;
    const BenchMachine *machine;
    const BenchBaseline *baseline; /* read when args names one to compare with */
} BenchResults;

/* *slower: a share is worse than the baseline's by more than allowed. Errors: ERR_IO, ERR_MEMORY,
 * those of bench_compare. */
ErrCode bench_results(const BenchResults *b, bool *slower, Err *err) ERR_CHECK;

#endif
