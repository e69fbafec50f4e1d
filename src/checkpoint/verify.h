/* checkpoint/verify.h: runs a model against its reference tensors, or against the double pass, and
 * against itself: checkpoints 1 to 12, row by row.
 *
 * Knows nothing of HTTP; the tensors come from capture.h, the reference from reference.h or
 * double_pass.h. verify_json.c, verify_html.h and verify_baseline.h show or keep the result.
 *
 * May include: common, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_VERIFY_H
#define LLORCH_CHECKPOINT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/capture.h"
#include "checkpoint/verdict.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* What is computed when neither the caller nor a reference folder names a prompt: the canonical
 * one. */
#define VERIFY_PROMPT "Hello."

/* The value of VerifyOptions.reference that means the double pass. */
#define VERIFY_SELF "self"

enum { VERIFY_TEXT_BYTES = 512 };

typedef struct {
    const char *reference; /* folder, or VERIFY_SELF; NULL: the model's own folder (reference.h),
                              the double pass when it has none */
    const char *expect;    /* NULL, or a name that expect.h knows */
    const int32_t *ids;    /* [n_ids]: the prompt for VERIFY_SELF; NULL: VERIFY_PROMPT */
    int n_ids;
    bool keep_all; /* VerifyResult.capture keeps every stage of every layer; for VERIFY_SELF it
                      does anyway */
} VerifyOptions;

/* How far the output of a block is off, and what the block added to that. */
typedef struct {
    int layer;
    double max_abs, rms;
    double factor; /* rms over that of the layer before; NaN for the first, or after 0 */
} VerifyGrowth;

typedef struct {
    VerdictTable table; /* in the order of the checkpoints; of a double pass in the order
                           of the computation, then the rest */
    Capture capture;    /* of the prompt */
    bool self;          /* the reference was the double pass ... */
    bool fallback;      /* ... because nothing was asked for and there was no folder */
    char reference[VERIFY_TEXT_BYTES]; /* what it was, in words */
    const VerifyGrowth *growth;        /* [n_growth], owned: layers with a measured block output */
    int n_growth;
    int first_fault;               /* of a double pass: the first row whose own stage is wrong; -1:
                                      none, or another kind of reference */
    char fault[VERIFY_TEXT_BYTES]; /* "layer 1, attention output (checkpoint 5): ..."; "" */
    Arena arena;
} VerifyResult;

/* What a report says about the run besides its result. All borrowed. */
typedef struct {
    const char *model;  /* name */
    const char *types;  /* of the weights in memory, "F16" */
    const char *prompt; /* text of the ids, n_prompt bytes of any origin; NULL: unknown */
    size_t n_prompt;
    const int32_t *ids; /* [n_ids] */
    int n_ids;
    const char *isa, *compiler, *version;
    const char *reference; /* VerifyResult.reference */
} VerifyMeta;

/* Fills *r; the table is settled (verdict_settle). tokenizer may be NULL: rows that need text are
 * then not validated. progress may be NULL; it hears of each finished part.
 *
 * Memory  verify_result_free. r->capture refers to m, which must outlive it.
 * Errors  those of reference_open, capture_run, double_pass and expect_run. A reference tensor that
 *         is damaged or a value that is wrong is no error but a row that fails. */
ErrCode verify_run(VerifyResult *r, const Gpt2 *m, const Tokenizer *tokenizer, const Kernels *k,
                   const VerifyOptions *options, const Gpt2Progress *progress, Err *err) ERR_CHECK;
void verify_result_free(VerifyResult *r); /* a zeroed one is allowed */

/* Whether the model is right as far as this shows: VERDICT_FAIL when a row failed, VERDICT_PASS
 * when one passed and none failed. */
Verdict verify_verdict(const VerifyResult *r);

/* Appends one JSON object with everything: the run, all rows with all statistics, growth, counts,
 * verdict. */
void verify_json(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta);

/* Appends what a terminal shows: the table, the growth of the error, the totals. stats: a second
 * table with the statistics of both sides. */
void verify_text(JsonBuf *out, const VerifyResult *r, bool stats, bool colour);

#endif
