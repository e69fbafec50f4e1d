/* common/tap.h: what the forward pass tells its caller while it runs: named tensors (observe) and
 * chances to look after sockets and signals (yield), and that a part is done (mark). A NULL Tap, or
 * a NULL member, costs one test.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_TAP_H
#define LLORCH_COMMON_TAP_H

#include <stdbool.h>
#include <stddef.h>

/* The stages of checkpoints 1 to 8, in the order in which a block reaches them. */
typedef enum {
    TAP_EMBEDDINGS,  /* [n_tokens, dim]           wte + wpe */
    TAP_LN_1,        /* [n_tokens, dim]           checkpoint 1 */
    TAP_Q,           /* [n_tokens, heads * d]     checkpoint 2 */
    TAP_K,           /* [n_tokens, heads * d] */
    TAP_V,           /* [n_tokens, heads * d] */
    TAP_SCORES,      /* one row [n_keys] of a head and query: scaled, unmasked; checkpoint 4 */
    TAP_MASKED,      /* the same row, -inf where the key lies after the query */
    TAP_PROBS,       /* the same row after softmax, 0 where masked */
    TAP_ATTN_OUTPUT, /* [n_tokens, dim]           checkpoint 5: after c_proj, before the residual */
    TAP_LN_2,        /* [n_tokens, dim]           checkpoint 5b */
    TAP_FFN,    /* [n_tokens, dim]           checkpoint 6: after mlp.c_proj, before the residual */
    TAP_BLOCK,  /* [n_tokens, dim]           checkpoint 7: output of the block */
    TAP_LN_F,   /* [n_tokens, dim]           checkpoint 8 */
    TAP_LOGITS, /* [n_tokens, vocab]         checkpoint 8 */
    TAP_STAGE_COUNT
} TapStage;

/* The parts that a pass consists of; every moment of it belongs to one. */
typedef enum {
    TAP_PART_EMBEDDING, /* wte + wpe */
    TAP_PART_LN_1,
    TAP_PART_QKV,
    TAP_PART_CACHE,   /* keys and values written */
    TAP_PART_SCORES,  /* of some queries of one head */
    TAP_PART_SOFTMAX, /* exponentials and their sum */
    TAP_PART_VALUES,  /* weighted sum, divided by the sum of the exponentials */
    TAP_PART_C_PROJ,
    TAP_PART_ADD, /* to the residual, twice a block */
    TAP_PART_LN_2,
    TAP_PART_FC,
    TAP_PART_GELU, /* or whatever activation the model has */
    TAP_PART_PROJ,
    TAP_PART_LN_F,
    TAP_PART_HEAD,
    TAP_PART_COUNT
} TapPart;

typedef struct {
    TapStage stage;
    int layer;         /* 0-based; -1 outside the blocks */
    int head;          /* row stages only, else -1 */
    int start_pos;     /* absolute position of row 0 (of the query, for row stages) */
    int n_rows;        /* rows in data */
    int n_cols;        /* values in a row */
    size_t stride;     /* floats from one row to the next */
    const float *data; /* [n_rows, n_cols], valid during the call only */
} TapEvent;

typedef struct {
    void *ctx;
    /* Sees every stage. When set, attention also computes the unmasked scores, which production
     * does not need. */
    void (*observe)(void *ctx, const TapEvent *event);
    /* Called at most a few milliseconds of computing apart. false: stop, the pass returns
     * ERR_CANCELLED. */
    bool (*yield)(void *ctx);
    /* Called when a part has just been computed; layer: -1 outside the blocks. What passed since
     * the mark before is its time. */
    void (*mark)(void *ctx, TapPart part, int layer);
} Tap;

static inline bool tap_yield(const Tap *tap)
{
    return tap == NULL || tap->yield == NULL || tap->yield(tap->ctx);
}

static inline void tap_mark(const Tap *tap, TapPart part, int layer)
{
    if (tap != NULL && tap->mark != NULL)
        tap->mark(tap->ctx, part, layer);
}

static inline bool tap_observes(const Tap *tap)
{
    return tap != NULL && tap->observe != NULL;
}

/* Shows a matrix to the observer, if there is one. */
static inline void tap_emit(const Tap *tap, TapStage stage, int layer, int start_pos, int n_rows,
                            int n_cols, size_t stride, const float *data)
{
    const TapEvent event = {.stage = stage,
                            .layer = layer,
                            .head = -1,
                            .start_pos = start_pos,
                            .n_rows = n_rows,
                            .n_cols = n_cols,
                            .stride = stride,
                            .data = data};

    if (tap_observes(tap))
        tap->observe(tap->ctx, &event);
}

#endif
