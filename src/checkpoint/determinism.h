/* checkpoint/determinism.h: the proof that a model's logits do not depend on the way they are
 * computed: the same tokens in many ways, the bits of the logits of every position compared.
 *
 * May include: common, kernels, model. */
#ifndef LLORCH_CHECKPOINT_DETERMINISM_H
#define LLORCH_CHECKPOINT_DETERMINISM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"

/* What is computed when no prompt is given: its first DETERMINISM_IDS tokens. Part of what two
 * machines compare by eye (docs/determinism.md): it never changes. */
#define DETERMINISM_PROMPT                                                                         \
    "Hello. A number that a machine computes should not depend on the weather. Whether a text is " \
    "read in one piece, word by word or in pieces of any size, whether a part of it was seen "     \
    "before, and whoever does the sums: the last bit of every number has to be the same, today, "  \
    "tomorrow, here and elsewhere."

enum {
    DETERMINISM_IDS = 64,
    DETERMINISM_RUNS = 100,
    DETERMINISM_MAX_RUNS = 1000000,
    DETERMINISM_MAX_TABLES = 4,
    DETERMINISM_MAX_COPIES = 8,
    DETERMINISM_MAX_ROWS = 48
};

/* The same values of all weights from another place or in another type. */
typedef struct {
    const char *name; /* static: "GGUF file" */
    /* Opens it; determinism_run closes it with gpt2_free. ERR_UNSUPPORTED: there cannot be such a
     * copy of this model, which err says; the row is then not run. */
    ErrCode (*open)(void *ctx, Gpt2 *m, Err *err);
    void *ctx;
} DeterminismCopy;

typedef struct {
    const int32_t *ids; /* [n_ids], at most the model's context */
    int n_ids;
    int runs; /* shared out among the ways, at least one each */
    uint64_t seed;
    const Kernels *tables[DETERMINISM_MAX_TABLES]; /* most runs are done with the first */
    int n_tables;
    DeterminismCopy copies[DETERMINISM_MAX_COPIES];
    int n_copies;
} DeterminismOptions;

typedef enum { DETERMINISM_SAME, DETERMINISM_DIFFERS, DETERMINISM_NOT_RUN } DeterminismVerdict;

/* One way to compute the logits, and what came out. */
typedef struct {
    const char *way, *isa; /* static */
    DeterminismVerdict verdict;
    int runs;                 /* done; the last one is the one that differs, if any does */
    uint64_t hash;            /* of all logits in order (bits_hash.h), of the last run */
    int n_differ;             /* logits of that run with other bits; the first of them: */
    int position;             /* 0-based */
    int token;                /* which logit */
    float ours;               /* NaN where nothing was computed */
    float expected;           /* what the first way of all gave */
    char note[ERR_MSG_BYTES]; /* why it was not run; else empty */
} DeterminismRow;

typedef struct {
    DeterminismRow rows[DETERMINISM_MAX_ROWS];
    int n_rows, n_ids;
    uint64_t seed, hash; /* hash: of the first way */
} DeterminismResult;

/* Computes o->ids in all ways; what the first one gives (the first table, the whole prompt at once)
 * is what all others must give. A way ends at its first run that differs, the others go on.
 * Deterministic from o->seed. progress may be NULL.
 *
 * Errors: ERR_USAGE (no ids, more than the context, an id outside the vocabulary), ERR_MEMORY,
 * ERR_LIMIT, ERR_NUMERIC, ERR_CANCELLED, those of the copies. A difference is none. */
ErrCode determinism_run(DeterminismResult *r, const Gpt2 *m, const DeterminismOptions *o,
                        const Gpt2Progress *progress, Err *err) ERR_CHECK;

/* Whether no way differs. */
bool determinism_holds(const DeterminismResult *r);

/* Appends the table, one line a way, and the verdict; or the same as a JSON object. */
void determinism_format(const DeterminismResult *r, JsonBuf *out, bool colour);
void determinism_json(const DeterminismResult *r, JsonBuf *out);

#endif
