/* checkpoint/verify_baseline.h: what verify found some time ago, and which errors have grown since.
 *
 * An error has grown when it is more than max_growth times the baseline's and more than the floor:
 * 2^-24 times the largest value of the reference tensor, or of 1 if that is larger. Below it an
 * error is less than half a unit in the last place of a float32 of that size: how much of such
 * errors there is, is chance.
 *
 * Instruction sets and compilers may differ between the two: all give the same bits.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_VERIFY_BASELINE_H
#define LLORCH_CHECKPOINT_VERIFY_BASELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/verify.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

#define VERIFY_MAX_GROWTH 2.0

/* Where a result came from, beyond VerifyMeta. All borrowed. */
typedef struct {
    const char *cpu_name, *flags;
    uint64_t weights; /* model_hash_weights */
} VerifyMachine;

/* Appends a baseline file: a JSON object with the machine and all of verify_json. */
void verify_baseline_json(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta,
                          const VerifyMachine *machine);

/* What is compared of a row. */
typedef enum {
    VERIFY_MAX_ABS,
    VERIFY_RMS,
    VERIFY_LOCAL_MAX_ABS, /* of the stage alone */
    VERIFY_LOCAL_RMS,
    VERIFY_FIGURES
} VerifyFigure;

typedef struct {
    const char *name;
    Verdict verdict;
    double figures[VERIFY_FIGURES]; /* NaN: there is none */
} VerifyBaselineRow;

/* A file that verify --save wrote. Texts live in root. */
typedef struct {
    const char *path; /* borrowed */
    const char *cpu_name, *flags, *weights_hash, *model, *types, *isa, *compiler, *version, *kind;
    const json_t *ids;
    VerifyBaselineRow *rows; /* [n_rows], owned */
    int n_rows;
    Arena arena;
    json_t *root;
} VerifyBaseline;

/* Errors: those of json_parse_file; ERR_FORMAT for JSON that is no such file, or a damaged one;
 * ERR_MEMORY. */
ErrCode verify_baseline_read(VerifyBaseline *b, const char *path, Err *err) ERR_CHECK;
void verify_baseline_free(VerifyBaseline *b); /* a zeroed one is allowed */

/* Whether the file is of this model. name, types and weights: of the model now. Errors:
 * ERR_UNSUPPORTED, "<path>: is of ..., now ...". */
ErrCode verify_baseline_check(const VerifyBaseline *b, const char *name, const char *types,
                              uint64_t weights, Err *err) ERR_CHECK;

typedef enum {
    VERIFY_FAILS,   /* a check that does not hold: beyond its tolerance, or otherwise wrong */
    VERIFY_MISSING, /* a check that was validated then and is not any more */
    VERIFY_GREW,    /* an error that has grown */
    VERIFY_LARGER,  /* an error that is larger, but may be */
    VERIFY_SMALLER,
    VERIFY_NEW /* a check that is validated and was not then */
} VerifyChangeKind;

typedef struct {
    VerifyChangeKind kind;
    const char *name;    /* borrowed from the result or the baseline */
    VerifyFigure figure; /* VERIFY_FIGURES: the row as a whole */
    double then, now, factor;
} VerifyChange;

/* What has changed, the worst first. The first three kinds are failures. */
typedef struct {
    const VerifyBaseline *baseline;
    double max_growth;
    VerifyChange *changes;                /* [n], owned */
    int n, n_failures, n_rows, n_figures; /* compared: rows, figures */
    Arena arena;
} VerifyComparison;

/* b and r must outlive c. Errors: ERR_UNSUPPORTED (another prompt, or another kind of reference),
 * ERR_MEMORY. Memory: verify_comparison_free. */
ErrCode verify_baseline_compare(VerifyComparison *c, const VerifyBaseline *b, const VerifyResult *r,
                                double max_growth, Err *err) ERR_CHECK;
void verify_comparison_free(VerifyComparison *c); /* a zeroed one is allowed */

/* Appends a table and the verdict; or a JSON object. */
void verify_comparison_format(JsonBuf *out, const VerifyComparison *c, bool colour);
void verify_comparison_json(JsonBuf *out, const VerifyComparison *c);

#endif
