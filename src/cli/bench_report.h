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
    const char *cpu_name, *isa, *compiler, *flags, *version, *kv_type;
    const char *shape;  /* as given: a path, or a shape */
    const char *model;  /* its name */
    const char *config; /* hash of its configuration (checkpoint/model_hash.h), 16 digits */
    int cpu, rounds;
} BenchMachine;

/* One more round of a case of a type. */
void bench_report_add(BenchReport *r, const char *type, const char *name, const char *unit,
                      const char *share_of, double value, double share);

/* One more measurement of a probe. */
void bench_report_probe(BenchReport *r, const char *name, const char *unit, double value);

/* The first member of the JSON, so that files can be told apart. */
#define BENCH_FORMAT "llorch-cpud bench 1"

/* Whether less of it is better: of what shares of a step or times of one row count. */
bool bench_lower_is_better(const char *name);

/* The members of the JSON object, without its braces; bench_report_json adds them. */
void bench_report_members(JsonBuf *out, BenchReport *r, const BenchMachine *m);
void bench_report_json(JsonBuf *out, BenchReport *r, const BenchMachine *m);
void bench_report_table(JsonBuf *out, BenchReport *r, const BenchMachine *m);
void bench_report_free(BenchReport *r);

/* The middle of n >= 1 values, or the mean of the middle two; sorts x. */
double bench_median(double *x, size_t n);

#endif
