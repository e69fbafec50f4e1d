/* checkpoint/double_weights.h: the weights of a model as its file holds them, found by name and
 * read row by row in double precision: nothing here comes from the loaded layers.
 *
 * May include: common, model, kernels. */
#ifndef LLORCH_CHECKPOINT_DOUBLE_WEIGHTS_H
#define LLORCH_CHECKPOINT_DOUBLE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/error.h"
#include "kernels/matrix.h"
#include "model/gpt2.h"
#include "model/weight_source.h"

typedef struct {
    const Gpt2 *m;       /* for its path, or its packed file */
    WeightSource source; /* closed when the file is a packed one */
    float *row;          /* of the widest weight */
    size_t max_row;      /* floats of it */
    Arena arena;
} DoubleWeights;

/* A matrix or a vector (one row) in the order of its file. */
typedef struct {
    SourceTensor tensor;
    KernMatrix panels; /* of a packed file; panels NULL otherwise */
    KernOrder order;   /* KERN_IN_OUT: a row is the weights of one input; else of one output */
    size_t n_rows, row_len;
} DoubleWeight;

/* Opens the model's file again. Errors: those of weight_source_open, ERR_MEMORY. */
ErrCode double_weights_open(DoubleWeights *w, const Gpt2 *m, Err *err) ERR_CHECK;
void double_weights_close(DoubleWeights *w); /* a zeroed one is allowed */

/* The weight called name (model/weights.h): n outputs of k inputs; vectors have k 0, tables and
 * projections as in weight_source_require. Errors: ERR_FORMAT, ERR_UNSUPPORTED: the file is no
 * longer the one that was loaded. */
ErrCode double_weights_find(const DoubleWeights *w, const char *name, size_t n, size_t k,
                            bool projection, DoubleWeight *out, Err *err) ERR_CHECK;

/* Row i in the order of the file: out[0..row_len). Values are exact. */
void double_weights_row(const DoubleWeights *w, const DoubleWeight *weight, size_t i, double *out);

#endif
