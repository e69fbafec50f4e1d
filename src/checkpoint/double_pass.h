/* checkpoint/double_pass.h: the forward pass of GPT-2 in double precision, written from the model's
 * definition: what `verify --reference self` judges the engine by.
 *
 * Weights come by name from the model's file, epsilon, activation and scaling from its
 * configuration; nothing comes from the loaded layers but the types of their weights, which decide
 * how much rounding is allowed. It is plain and slow: all tokens at once, one loop a formula.
 *
 * May include: common, model. */
#ifndef LLORCH_CHECKPOINT_DOUBLE_PASS_H
#define LLORCH_CHECKPOINT_DOUBLE_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/tap.h"
#include "model/gpt2.h"

/* A stage of a layer (-1: outside the blocks). Scores, masked and probs have heads * T rows of T;
 * all other stages T rows. */
typedef struct {
    TapStage stage;
    int layer;
    size_t n_rows, n_cols;
    double *data;          /* may be overwritten: what follows is computed from it */
    const double *allowed; /* how far a float32 engine that computes this stage from the same input
                              may be off, element by element (tolerance.h); NULL when not wanted */
} DoubleTensor;

typedef struct {
    bool (*emit)(void *ctx, const DoubleTensor *tensor); /* false: stop, ERR_CANCELLED */
    void *ctx;
    bool allowances;
} DoubleSink;

/* Shows every stage of every layer to the sink, in the order in which they are computed. ids:
 * inside the vocabulary, no more than the model's context.
 *
 * Errors  ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED (the model's file; weights that were
 *         converted when they were loaded), ERR_MEMORY, ERR_LIMIT, ERR_CANCELLED. */
ErrCode double_pass(const Gpt2 *m, const int32_t *ids, int n_ids, const DoubleSink *sink,
                    Err *err) ERR_CHECK;

#endif
