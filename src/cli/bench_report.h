/* cli/bench_report.h: the figures of a bench, collected round by round, as a table or JSON.
 *
 * May include: common. */
#ifndef LLORCH_CLI_BENCH_REPORT_H
#define LLORCH_CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"

enum { BENCH_NAME_BYTES = 64 };

/* All rounds of one case. */
typedef struct {
    char type[BENCH_NAME_BYTES], name[BENCH_NAME_BYTES]; /* "F16", "decode@512"; no type: a probe */
    const char *unit;                                    /* static */
    const char *share_of;  /* static, for people: what share is a part of; NULL for probes */
    double *value, *share; /* [n], owned */
    size_t n, cap;
} BenchResult;

typedef struct {
    BenchResult *results; /* in the order of their first figures, owned */
    size_t n, cap;
    bool oom; /* a figure was lost; checked once at the end */
} BenchReport;

/* What was measured where: static or borrowed texts. */
typedef struct {
    const char *cpu_name, *isa, *compiler, *version, *shape, *kv_type;
    int cpu, rounds;
} BenchMachine;

/* One more round of a case of a type. */
void bench_report_add(BenchReport *r, const char *type, const char *name, const char *unit,
                      const char *share_of, double value, double share);

/* One more measurement of a probe. */
void bench_report_probe(BenchReport *r, const char *name, const char *unit, double value);

void bench_report_json(JsonBuf *out, BenchReport *r, const BenchMachine *m);
void bench_report_table(JsonBuf *out, BenchReport *r, const BenchMachine *m);
void bench_report_free(BenchReport *r);

/* The middle of n >= 1 values, or the mean of the middle two; sorts x. */
double bench_median(double *x, size_t n);

#endif
