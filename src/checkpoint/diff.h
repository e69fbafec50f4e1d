/* checkpoint/diff.h: two .npy files, or two folders of them, tensor by tensor: what `diff` does.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_DIFF_H
#define LLORCH_CHECKPOINT_DIFF_H

#include <stdbool.h>

#include "checkpoint/tensor_diff.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

typedef struct {
    const char *paths[2]; /* A and B; borrowed */
    bool folders;
    DiffOptions options;
    TensorDiff *rows; /* [n_rows], owned; of folders in the order of their names */
    int n_rows;
    int worst;           /* the row to look at first; -1 when none has an error map */
    bool prompt_unknown; /* folders, and not both say what their prompt was */
    JsonBuf names[2];    /* owned */
    Arena arena;
} Diff;

/* Compares A with B. Of two folders all .npy files are compared, matched by name; a name that only
 * one of them has is a row of its own. When both hold a metadata.json, its token lists must agree.
 *
 * Memory  diff_free.
 * Errors  ERR_IO (missing, one file and one folder, a folder without .npy files), those of npy_open
 *         for two files, ERR_FORMAT (damaged metadata.json, different tokens, two files of
 * different shapes), ERR_MEMORY; nothing stays allocated. In folders, what cannot be compared is no
 *         error but a row. */
ErrCode diff_run(Diff *d, const char *a, const char *b, const DiffOptions *options,
                 Err *err) ERR_CHECK;
void diff_free(Diff *d); /* a zeroed Diff is allowed */

/* Rows with this verdict. */
int diff_count(const Diff *d, DiffVerdict verdict);

/* Whether every tensor agrees. If not because there was something that could not be judged (not
 * compared, not finite), err gets one line that names the first such tensor; else it is left alone.
 */
bool diff_agrees(const Diff *d, Err *err);

#endif
