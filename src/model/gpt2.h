/* model/gpt2.h: a GPT-2 model: its weights (Gpt2), one sequence being computed (Gpt2Run), the
 * forward pass.
 *
 * May include: common, formats, kernels, cache, layers. */
#ifndef LLORCH_MODEL_GPT2_H
#define LLORCH_MODEL_GPT2_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/kv_cache.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/tap.h"
#include "formats/safetensors.h"
#include "kernels/kernels.h"
#include "layers/embedding.h"
#include "layers/layer_norm.h"
#include "layers/linear.h"
#include "layers/transformer.h"
#include "model/config.h"

enum { GPT2_NAME_BYTES = 256, GPT2_MAX_CHUNK = 192, GPT2_TYPES_BYTES = 64 };

typedef struct {
    Gpt2Config config;
    Embedding embedding;
    TransformerBlock *blocks; /* [n_layers] */
    LayerNorm ln_f;
    Linear head;           /* no bias; shares wte's panels when tied */
    Arena block_arena;     /* owns blocks */
    Arena arena;           /* owns the weights; empty when they are mapped */
    Safetensors *packed;   /* of a packed file: the weights lie in its mapping; else NULL */
    size_t weight_bytes;   /* of packed weights, in the arena or mapped */
    size_t n_params;       /* a tied head counts once */
    bool has_weights_hash; /* not of a packed file of an earlier version */
    uint64_t weights_hash; /* fingerprint.h */
    char file_types[GPT2_TYPES_BYTES]; /* types of the matrices in the file: "F16", "F32+Q4_K" */
    char types[GPT2_TYPES_BYTES];      /* the same in memory: "F16", "Q4_0+Q8_0" */
    char path[4096];                   /* as given */
    char name[GPT2_NAME_BYTES];        /* base name of a directory, stem of a file */
} Gpt2;

/* Called now and then during long work. */
typedef struct {
    bool (*progress)(void *ctx, double fraction); /* may be NULL; false: stop, ERR_CANCELLED */
    void *ctx;
} Gpt2Progress;

/* Zero is the default of all fields. */
typedef struct {
    bool convert; /* the projections become type, the tables what gpt2_table_type says; else
                     everything keeps the type it has in the file */
    KernType type;
    bool convert_tables; /* token embedding and head become table_type */
    KernType table_type;
    Gpt2Progress progress;
} Gpt2LoadOptions;

/* The type of the token embedding and the head when the projections are asked for as type: the
 * same, but Q8_0 for Q4_0. Four bits there cost much more than they save: every logit is one of its
 * products, and every input one of its rows. */
KernType gpt2_table_type(KernType type);

/* Loads a model: a Hugging Face directory, or the directory of a .safetensors file (config.json and
 * weights); a .gguf file; a packed file (gpt2_pack.h), which is mapped and stays so. Otherwise
 * weights are checked (names, shapes, finite values) and packed, and the file is let go. o may be
 * NULL.
 *
 * Types  F32, F16, BF16, Q8_0 and Q4_0 stay what they are; other types of GGUF become F32. Rows
 * that Q8_0 and Q4_0 cannot cut into blocks become F16. Norms, biases and positions are F32 always.
 * Errors  ERR_USAGE (path too long), ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED, ERR_LIMIT (sizes),
 * ERR_MEMORY, ERR_NUMERIC, ERR_CANCELLED; nothing stays allocated.
 * Memory  gpt2_free. */
ErrCode gpt2_load(Gpt2 *m, const char *path, const Gpt2LoadOptions *o, Err *err) ERR_CHECK;
void gpt2_free(Gpt2 *m); /* a zeroed Gpt2 is allowed */

/* A loaded model gets its tokenizer's numbers: how many tokens it has, and the id that ends a text
 * (-1: none), which counts when the model's files name none. Errors: ERR_FORMAT (more tokens than
 * rows). */
ErrCode gpt2_fit_tokenizer(Gpt2 *m, int n_tokens, int end_of_text, Err *err) ERR_CHECK;

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
 * max_chunk tokens. kv_type: KERN_F32, or KERN_F16 for a cache of half the size.
 * Errors: ERR_USAGE (n_ctx, max_chunk or kv_type out of range), ERR_MEMORY, ERR_LIMIT. */
ErrCode gpt2_run_init(Gpt2Run *run, const Gpt2 *m, const Kernels *k, int n_ctx, int max_chunk,
                      KernType kv_type, Err *err) ERR_CHECK;
void gpt2_run_free(Gpt2Run *run); /* a zeroed run is allowed */

/* Forgets the sequence: the next pass starts at position 0. */
void gpt2_reset(Gpt2Run *run);

/* One pass over ids at positions cache.length .. cache.length + n - 1.
 *
 * want_logits  run->logits gets the last position's row. An observer (tap->observe) sees every
 * stage, and then the logits of every row, whatever want_logits says.
 * Errors       ERR_USAGE (n not in 1..max_chunk, id outside the vocabulary), ERR_LIMIT (context
 * full), ERR_NUMERIC (a key or value beyond the range of an f16 cache), ERR_CANCELLED. The cache
 * keeps its length on every error, so the same ids can be tried again. */
ErrCode gpt2_forward(Gpt2Run *run, const int32_t *ids, int n, bool want_logits, const Tap *tap,
                     Err *err) ERR_CHECK;

/* A prompt of any length in passes of at most chunk tokens (<= max_chunk), logits of the last
 * position. */
ErrCode gpt2_prefill(Gpt2Run *run, const int32_t *ids, int n, int chunk, const Tap *tap,
                     Err *err) ERR_CHECK;

/* Logits of rows first .. first + n - 1 of the last pass, several in one product: out: [n,
 * vocab_size], the bits that an observer would see. To be called before anything else is done with
 * the run. Errors: ERR_CANCELLED. */
ErrCode gpt2_row_logits(Gpt2Run *run, int first, int n, float *out, const Tap *tap,
                        Err *err) ERR_CHECK;

#endif
