/* cli/bench_args.h: the command line of bench.
 *
 * May include: common, kernels. */
#ifndef LLORCH_CLI_BENCH_ARGS_H
#define LLORCH_CLI_BENCH_ARGS_H

#include <stdbool.h>

#include "common/error.h"
#include "kernels/matrix.h"

enum { BENCH_ANY_CPU = -1 };

typedef enum {
    BENCH_GROUP_DECODE,
    BENCH_GROUP_STEP,
    BENCH_GROUP_CACHE,
    BENCH_GROUP_BATCH,
    BENCH_GROUP_PROMPT,
    BENCH_GROUP_LOAD,
    BENCH_GROUP_MEMORY,
    BENCH_GROUP_COUNT
} BenchGroup;

typedef struct {
    const char *model, *shape, *isa;
    KernType types[KERN_TYPE_COUNT]; /* in the order given */
    int n_types;                     /* 0: the model's own */
    KernType kv_type;
    bool groups[BENCH_GROUP_COUNT];
    int rounds, cpu;
    const char *save, *compare; /* baselines: files, or NULL */
    double max_slowdown;        /* percent that a share may be worse than the baseline's */
    bool json, help;
} BenchArgs;

extern const char bench_help[];

/* Errors: ERR_USAGE. */
ErrCode bench_args_parse(BenchArgs *a, int argc, char **argv, Err *err) ERR_CHECK;

#endif
