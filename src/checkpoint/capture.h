/* checkpoint/capture.h: every tensor of checkpoints 1 to 9 and 11 of one prompt, taken from a real
 * forward pass.
 *
 * capture_run hangs an observer on the model's tap; dump.h writes the result, verify.h compares it.
 * Names are those of the reference files without ".npy".
 *
 * May include: common, kernels, model. */
#ifndef LLORCH_CHECKPOINT_CAPTURE_H
#define LLORCH_CHECKPOINT_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/compare.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"

enum { CAPTURE_NAME_BYTES = 40 };

/* Tensors of all layers together take this much at most. */
#define CAPTURE_MAX_BYTES ((size_t)2 << 30)

/* Temperature of checkpoint_11_probs. */
#define CAPTURE_TEMPERATURE 0.8f

typedef struct {
    char name[CAPTURE_NAME_BYTES]; /* "checkpoint_01_ln1_output" */
    CompareView view;              /* shape as in the file; data owned by the capture's arena */
    TapStage stage;                /* TAP_STAGE_COUNT: made after the pass */
    int layer;                     /* -1: outside the blocks */
} CaptureTensor;

typedef struct {
    const Gpt2 *model; /* borrowed */
    const Kernels *k;
    const int32_t *ids; /* [n_ids], owned */
    int n_ids;
    const CaptureTensor *tensors; /* [n_tensors], owned */
    int n_tensors;
    float **stages; /* [n_layers, TAP_STAGE_COUNT], owned, for capture_stage; what lies outside the
                       blocks stands with layer 0 */
    bool finite;    /* the logits of the last row are */
    Arena arena;
    Gpt2Run run; /* as it stands after the prompt: its cache holds n_ids positions, its logits are
                    the last row's */
} Capture;

/* Computes ids[0..n_ids) with every stage observed. The run has room for n_extra further positions
 * (as far as the model's context goes). progress may be NULL.
 *
 * Memory  capture_free.
 * Errors  ERR_USAGE (no ids, more than the model's context, an id outside the vocabulary),
 *         ERR_MEMORY, ERR_LIMIT, ERR_NUMERIC (a logit of the last row is not finite),
 *         ERR_CANCELLED (progress said so); nothing stays allocated. */
ErrCode capture_run(Capture *c, const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_ids,
                    int n_extra, const Gpt2Progress *progress, Err *err) ERR_CHECK;

/* The same, and keeps every stage of every layer for capture_stage. A last row that is not finite
 * is no error here: finite is then false, and checkpoint_11_probs undefined. Errors: also ERR_LIMIT
 * when all that would take more than CAPTURE_MAX_BYTES. */
ErrCode capture_run_all(Capture *c, const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_ids,
                        int n_extra, const Gpt2Progress *progress, Err *err) ERR_CHECK;
void capture_free(Capture *c); /* a zeroed Capture is allowed */

/* The tensor named name; NULL when there is none. */
const CaptureTensor *capture_find(const Capture *c, const char *name);

/* A stage of a layer (any layer for stages outside the blocks): queries, keys and values as [T, H,
 * d], scores, masked and probs as [H, T, T], logits as [T, V], others as [T, D]. data is NULL when
 * it was not kept. */
CompareView capture_stage(const Capture *c, TapStage stage, int layer);

/* Row t of checkpoint_08_logits: [vocab_size]. */
const float *capture_logits(const Capture *c, int t);

#endif
