/* checkpoint/dump.h: a capture as a reference folder: one .npy file a tensor, the weights of block
 * 0, metadata.json.
 *
 * May include: common, model. */
#ifndef LLORCH_CHECKPOINT_DUMP_H
#define LLORCH_CHECKPOINT_DUMP_H

#include <stddef.h>

#include "checkpoint/capture.h"
#include "common/error.h"

typedef enum { DUMP_PLAIN, DUMP_IN_OUT, DUMP_OUT_IN } DumpOrder;

enum { DUMP_WEIGHTS = 14 };

/* A weight of block 0 or of the embedding, with the name, shape and orientation of its file. */
typedef struct {
    const char *name; /* "h0_c_attn_weight" */
    int checkpoint;   /* the first one that depends on it */
    int n_dims;       /* 1 or 2 */
    size_t dims[2];
    const float *data;        /* the model's, borrowed ... */
    const KernMatrix *matrix; /* ... or this */
    DumpOrder order;          /* how rows are found there */
} DumpWeight;

void dump_list_weights(const Gpt2 *m, DumpWeight weights[DUMP_WEIGHTS]);

/* Row i of a weight as its file stores it (a vector is one row): the last dims floats. */
void dump_weight_row(const DumpWeight *w, size_t i, float *out);

/* Writes everything into dir, which is made (with its parents) when it is missing. Weights are
 * unpacked row by row, so nothing is held twice. An older metadata.json is removed first and the
 * new one written last: a folder with metadata.json is complete. Each file is written under a
 * temporary name, so none is ever cut short.
 *
 * prompt[0..n_prompt): the text of the ids, for metadata.json; invalid UTF-8 becomes U+FFFD.
 * Errors ERR_IO (message: the path and errno's text), ERR_MEMORY. */
ErrCode dump_write(const Capture *c, const char *dir, const char *prompt, size_t n_prompt,
                   Err *err) ERR_CHECK;

#endif
