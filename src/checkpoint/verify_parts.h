/* checkpoint/verify_parts.h: what the files verify*.c share: the state of one verification and the
 * parts that add rows to it. Internal.
 *
 * May include: common, formats, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_VERIFY_PARTS_H
#define LLORCH_CHECKPOINT_VERIFY_PARTS_H

#include <stdbool.h>

#include "checkpoint/capture.h"
#include "checkpoint/reference.h"
#include "checkpoint/verdict.h"
#include "checkpoint/verify.h"
#include "common/error.h"
#include "formats/npy.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    VerdictTable *t;
    const Gpt2 *m;
    const Tokenizer *tokenizer; /* may be NULL */
    const Kernels *k;
    Reference reference; /* without folders when self is set */
    Capture capture;
    const Gpt2Progress *progress; /* may be NULL */
    double share;                 /* of the progress: what one part is */
    double done;                  /* parts behind us, as a share */
    Arena prompt;                 /* ids of VERIFY_PROMPT, when there is no reference */
    bool self;                    /* the reference is the double pass */
    float *self_logits;           /* [vocab]: its last row, rounded */
    double self_tolerance;        /* of that row */
    Arena self_arena;
} Verify;

/* Says how much of the present part is done. false: stop. */
bool verify_progress(const Verify *v, double fraction);

/* ---- Helpers ---- */

/* Loads a reference tensor; when there is none, the row says why and false is returned. */
bool verify_load_reference(const Verify *v, VerdictRow *row, const char *name, Npy *npy);

/* A row that compares a captured tensor with its file. */
void verify_tensor_row(Verify *v, int checkpoint, double tolerance, const char *name);

/* A row that compares the program with itself, exactly. */
VerdictRow *verify_own_row(Verify *v, int checkpoint, const char *name);

/* Two of our own tensors, bit by bit. */
void verify_same_bits(VerdictRow *row, const CompareView *a, const CompareView *b);

/* ---- Parts, in the order of the checkpoints ---- */

ErrCode verify_tensors_1_and_2(Verify *v, Err *err) ERR_CHECK;
ErrCode verify_cache(Verify *v, Err *err) ERR_CHECK;
ErrCode verify_tensors_3_to_8(Verify *v, Err *err) ERR_CHECK;
ErrCode verify_choice(Verify *v, Err *err) ERR_CHECK;
ErrCode verify_probabilities(Verify *v, Err *err) ERR_CHECK;
ErrCode verify_end_to_end(Verify *v, Err *err) ERR_CHECK;

/* Instead of the tensor rows above: every stage of every layer against the double pass. */
ErrCode verify_self(Verify *v, Err *err) ERR_CHECK;
/* Rows that verify_self adds. */
int verify_self_rows(int n_layers);

/* Sets first_fault and fault. */
void verify_find_fault(VerifyResult *r);

/* Text of a stage for people ("attention output") and its checkpoint. */
const char *verify_stage_name(TapStage stage);
int verify_stage_checkpoint(TapStage stage);

#endif
