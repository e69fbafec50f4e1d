/* checkpoint/verdict.h: the table that `verify` fills: one row a check, with its figures and its
 * verdict.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_VERDICT_H
#define LLORCH_CHECKPOINT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/compare.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "common/tap.h"

typedef enum {
    VERDICT_NOT_VALIDATED, /* nothing to compare with; never a pass */
    VERDICT_PASS,
    VERDICT_FAIL
} Verdict;

enum { VERDICT_NAME_BYTES = 64, VERDICT_NOTE_BYTES = 256, VERDICT_PLACE_BYTES = 40 };

typedef struct {
    int checkpoint;                /* 1 to 12 */
    int layer;                     /* -1: outside the blocks */
    TapStage stage;                /* TAP_STAGE_COUNT: none of them */
    char name[VERDICT_NAME_BYTES]; /* the tensor, or what was checked; no other row has it */
    Verdict verdict;
    double tolerance; /* 0: exact */
    bool own;      /* compares the program with itself: proves nothing as long as nothing else was
                      validated */
    bool measured; /* figures holds numbers and place is set */
    Comparison figures;
    char place[VERDICT_PLACE_BYTES]; /* "[3,17]" */
    CompareMap map;                  /* of the two tensors in figures; rows 0: none */
    /* Against the double pass: the error of this stage alone, computed from our own input of it,
     * while figures is the error accumulated from the embedding on. worst is a share of what
     * rounding allows there (tolerance.h): more than 1 is a fault. */
    bool has_local;
    Comparison local;
    char local_place[VERDICT_PLACE_BYTES];
    char note[VERDICT_NOTE_BYTES]; /* why not validated, or what failed; may be empty */
} VerdictRow;

typedef struct {
    VerdictRow *rows; /* [n_rows], owned */
    int n_rows, max_rows;
    Arena arena;
} VerdictTable;

/* Errors: ERR_MEMORY. */
ErrCode verdict_init(VerdictTable *t, int max_rows, Err *err) ERR_CHECK;
void verdict_free(VerdictTable *t); /* a zeroed table is allowed */

/* A new row, not validated so far. There must be room for it. name is a printf format. */
VerdictRow *verdict_add(VerdictTable *t, int checkpoint, double tolerance, const char *name, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets the row to what a comparison found: figures, place, verdict and, unless it passed, the note.
 */
void verdict_set(VerdictRow *row, const Comparison *c, const CompareView *ours,
                 const CompareView *reference);

/* Compares ids one by one, exactly; place and values of the row then are an index and the two ids.
 */
void verdict_set_ids(VerdictRow *row, const int32_t *ours, int n_ours, const int32_t *reference,
                     int n_reference);

/* A yes-or-no check without figures. note: printf format of what to say when it does not hold. */
void verdict_set_bool(VerdictRow *row, bool holds, const char *note, ...)
    __attribute__((format(printf, 3, 4)));

/* Says why the row is not validated. */
void verdict_set_note(VerdictRow *row, const char *note, ...) __attribute__((format(printf, 2, 3)));

/* To be called once all rows are there: own checks that hold are not validated when no other row
 * passed or failed. */
void verdict_settle(VerdictTable *t);

int verdict_count(const VerdictTable *t, Verdict verdict);

/* "pass", "FAIL", "not validated": static text. */
const char *verdict_text(Verdict verdict);

/* Appends the table, one line a row; a second table with the statistics of both sides of every
 * tensor that was compared with a reference; the line of totals. */
void verdict_format(const VerdictTable *t, JsonBuf *out, bool colour);
void verdict_format_statistics(const VerdictTable *t, JsonBuf *out, bool colour);
void verdict_format_totals(const VerdictTable *t, JsonBuf *out, bool colour);

#endif
