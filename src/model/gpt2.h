/* model/gpt2.h: a GPT-2 model: its weights (Gpt2), one sequence being computed (Gpt2Run), the
 * forward pass.
 *
 * May include: common, kernels, cache, layers. */
#ifndef LLORCH_MODEL_GPT2_H
#define LLORCH_MODEL_GPT2_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/kv_cache.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "layers/embedding.h"
#include "layers/layer_norm.h"
#include "layers/linear.h"
#include "layers/transformer.h"
#include "model/config.h"

enum { GPT2_NAME_BYTES = 256, GPT2_MAX_CHUNK = 128 };

typedef struct {
    Gpt2Config config;
    Embedding embedding;
    TransformerBlock *blocks; /* [n_layers] */
    LayerNorm ln_f;
    Linear head;                /* no bias; shares wte's panels when tied */
    Arena arena;                /* owns every weight and the blocks */
    size_t n_params;            /* as counted in the file, a tied head once */
    char dtypes[64];            /* weight types found in the file: "F16", "F32+BF16" */
    char dir[4096];             /* model directory */
    char name[GPT2_NAME_BYTES]; /* base name of the directory, or stem of the file */
} Gpt2;

typedef struct {
    bool (*progress)(void *ctx,
                     double fraction); /* may be NULL; false stops the load with ERR_CANCELLED */
    void *ctx;
} Gpt2Progress;

/* Loads a Hugging Face directory, or the directory of a .safetensors file: config.json, weights
 * checked (names, shapes, finite values), widened to float32 and packed. The file mapping is gone
 * afterwards.
 *
 * Errors  ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED, ERR_MEMORY, ERR_CANCELLED; nothing stays allocated.
 * Memory  gpt2_free. */
ErrCode gpt2_load(Gpt2 *m, const char *path, const Gpt2Progress *progress, Err *err) ERR_CHECK;
void gpt2_free(Gpt2 *m); /* a zeroed Gpt2 is allowed */

typedef struct {
    const Gpt2 *model; /* borrowed */
    const Kernels *k;
    KvCache cache;
    TransformerRoom room;
    float *x;      /* [max_chunk, dim] */
    float *last;   /* [dim]: ln_f of one row */
    float *logits; /* [vocab_size, padded]: the result of the last pass that was asked for logits */
    int max_chunk; /* tokens of one pass at most */
    Arena arena;   /* owns all of the above */
} Gpt2Run;

/* All buffers for sequences of at most n_ctx positions (1 .. the model's) and passes of at most
 * max_chunk tokens. Errors: ERR_USAGE (n_ctx out of range), ERR_MEMORY, ERR_LIMIT. */
ErrCode gpt2_run_init(Gpt2Run *run, const Gpt2 *m, const Kernels *k, int n_ctx, int max_chunk,
                      Err *err) ERR_CHECK;
void gpt2_run_free(Gpt2Run *run); /* a zeroed run is allowed */

/* Forgets the sequence: the next pass starts at position 0. */
void gpt2_reset(Gpt2Run *run);

/* One pass over ids at positions cache.length .. cache.length + n - 1.
 *
 * want_logits  run->logits gets the last position's row. An observer (tap->observe) sees every
 * stage, and then the logits of every row, whatever want_logits says. Errors       ERR_USAGE (n not
 * in 1..max_chunk, id outside the vocabulary), ERR_LIMIT (context full), ERR_CANCELLED. The cache
 * keeps its length on every error, so the same ids can be tried again. */
ErrCode gpt2_forward(Gpt2Run *run, const int32_t *ids, int n, bool want_logits, const Tap *tap,
                     Err *err) ERR_CHECK;

/* A prompt of any length in passes of at most chunk tokens (<= max_chunk), logits of the last
 * position. */
ErrCode gpt2_prefill(Gpt2Run *run, const int32_t *ids, int n, int chunk, const Tap *tap,
                     Err *err) ERR_CHECK;

#endif
