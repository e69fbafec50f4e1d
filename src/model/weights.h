/* model/weights.h: every weight of a model by name: the one list for all who load, write or make
 * them.
 *
 * May include: common, kernels, layers. */
#ifndef LLORCH_MODEL_WEIGHTS_H
#define LLORCH_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "kernels/matrix.h"
#include "model/gpt2.h"

enum { WEIGHT_NAME_BYTES = 64 };

typedef enum {
    WEIGHT_VECTOR,     /* [n] float32 */
    WEIGHT_ROWS,       /* [n, k] float32, row-major: the position table */
    WEIGHT_PROJECTION, /* n outputs of k inputs, packed */
    WEIGHT_TABLE       /* n rows of k, packed: token embedding, head */
} WeightKind;

typedef struct {
    WeightKind kind;
    char name[WEIGHT_NAME_BYTES]; /* "h.3.attn.c_attn.weight", without any prefix */
    size_t n, k;                  /* k 1 for vectors */
    const float **floats;         /* where a vector or rows belong */
    KernMatrix *matrix;           /* where a packed weight belongs; n and k are filled in */
} WeightSlot;

/* Called for each weight, in the order in which a pass reads them, embeddings first; the head only
 * when it is not tied. Returning false ends the walk. */
typedef bool WeightVisit(void *ctx, const WeightSlot *slot);

/* Takes memory for the blocks and fills in everything that follows from m->config: sizes, scales,
 * activations. Errors: ERR_MEMORY, ERR_LIMIT. */
ErrCode weights_begin(Gpt2 *m, Err *err) ERR_CHECK;

/* Visits every weight of a model that weights_begin prepared; false when a visit returned false. */
bool weights_each(Gpt2 *m, WeightVisit *visit, void *ctx);

/* The type that a packed weight is to have in memory: what o asks for, else own; F16 where rows are
 * no whole blocks. */
KernType weights_type(const Gpt2LoadOptions *o, const WeightSlot *slot, KernType own);

/* Adds the memory of a weight to *total; type: of a packed one. False when it would overflow. */
bool weights_plan(size_t *total, const WeightSlot *slot, KernType type) ERR_CHECK;

typedef struct {
    void *panels;
    uint16_t *scales; /* NULL when the type has none */
} WeightPlace;

/* Takes the memory of a packed weight of type from a, and lets slot->matrix point to it. False when
 * it does not fit. */
bool weights_place(WeightPlace *place, Arena *a, const WeightSlot *slot, KernType type) ERR_CHECK;

/* After every slot is filled: the tied head, n_params, weight_bytes, types. */
void weights_finish(Gpt2 *m);

/* Adds name to text ("F16+Q8_0") unless it is there. */
void weights_add_type(char text[GPT2_TYPES_BYTES], const char *name);

#endif
