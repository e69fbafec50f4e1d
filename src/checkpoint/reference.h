/* checkpoint/reference.h: a folder of reference tensors: which prompt they belong to, one tensor by
 * name, the recorded greedy continuation.
 *
 * May include: common, formats, model. */
#ifndef LLORCH_CHECKPOINT_REFERENCE_H
#define LLORCH_CHECKPOINT_REFERENCE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/compare.h"
#include "common/arena.h"
#include "common/error.h"
#include "formats/npy.h"
#include "model/config.h"

enum { REFERENCE_PATH_BYTES = 4096, REFERENCE_MAX_FOLDERS = 2, REFERENCE_NOTE_BYTES = 256 };

/* What a model went on to say at temperature 0: checkpoint_12.json, or checkpoint_10.json (ids
 * only). */
typedef struct {
    const char *file;          /* base name of the file; NULL when there is none */
    const int32_t *prompt_ids; /* [n_prompt] */
    const int32_t *ids;        /* [n_ids], the new ones */
    int n_prompt, n_ids;
    const char *prompt; /* UTF-8 of n_prompt_bytes; NULL when the file does not say */
    const char *text;   /* the same for the new ids */
    size_t n_prompt_bytes, n_text;
} Greedy;

typedef struct {
    char folders[REFERENCE_MAX_FOLDERS][REFERENCE_PATH_BYTES]; /* searched in this order */
    int n_folders;
    bool promptless;    /* a folder was left out because it does not say what its prompt was */
    const int32_t *ids; /* [n_ids]: the prompt of the tensors; owned */
    int n_ids;          /* 0 exactly when n_folders is 0 */
    double temperature; /* of checkpoint_11_probs */
    Greedy greedy_10, greedy_12;
    json_t *json[3 * REFERENCE_MAX_FOLDERS]; /* owned: the texts above point into them */
    int n_json;
    Arena arena;
} Reference;

/* dir: the folder to use; NULL for model_dir/reference/named, then model_dir/reference, as far as
 * they exist. A second folder counts for tensors only when it has the same prompt as the first. The
 * prompt is metadata.json's "tokens", else "prompt_ids" of checkpoint_12.json or
 * checkpoint_10.json.
 *
 * Memory  reference_close.
 * Errors  ERR_IO (dir is no directory), ERR_FORMAT (a JSON file is damaged, its ids lie outside the
 *         vocabulary or context, or metadata.json describes a model of another shape), ERR_MEMORY;
 *         nothing stays allocated. */
ErrCode reference_open(Reference *r, const Gpt2Config *config, const char *model_dir,
                       const char *dir, Err *err) ERR_CHECK;
void reference_close(Reference *r); /* a zeroed Reference is allowed */

typedef enum {
    REFERENCE_FOUND,      /* *npy is loaded: npy_close */
    REFERENCE_ABSENT,     /* no such file */
    REFERENCE_DISTRUSTED, /* a second source (NAME_altname.npy) disagrees with the first */
    REFERENCE_BROKEN      /* the file is there, but cannot be read */
} ReferenceState;

/* The tensor named name ("checkpoint_05_output"), from NAME.npy or, for a checkpoint with a single
 * tensor, from its alias (checkpoint_05.npy). Unless found, note says why not. */
ReferenceState reference_tensor(const Reference *r, const char *name, Npy *npy,
                                char note[REFERENCE_NOTE_BYTES]);

/* Whether there is a file for that tensor, good or bad. */
bool reference_has(const Reference *r, const char *name);

/* A tensor file as the comparison sees it. */
CompareView reference_view(const Npy *npy);

/* Compares as the tensor named name demands: checkpoint_04_masked has its own rule. */
Comparison reference_compare(const char *name, const CompareView *ours,
                             const CompareView *reference, double tolerance);

#endif
