/* model/config.h: what config.json says about a GPT-2 model, checked.
 *
 * May include: common, formats, kernels. */
#ifndef LLORCH_MODEL_CONFIG_H
#define LLORCH_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/json.h"
#include "formats/gguf.h"
#include "kernels/activation.h"

enum {
    GPT2_MAX_LAYERS = 1024,
    GPT2_MAX_DIM = 65536,
    GPT2_MAX_FFN = 4 * GPT2_MAX_DIM,
    GPT2_MAX_CTX = 1 << 20,
    GPT2_MAX_VOCAB = 1000000,
    GPT2_MAX_EOS = 16
};

typedef struct {
    int n_layers;
    int n_heads;
    int dim;        /* n_embd; divisible by n_heads */
    int head_dim;   /* dim / n_heads */
    int ffn_dim;    /* n_inner, 4 * dim when null */
    int n_ctx;      /* n_positions */
    int vocab_size; /* rows of wte, possibly padded beyond the tokenizer's */
    float eps;
    Activation activation;
    const char *activation_name; /* static text, as in the file */
    bool scale_attn;             /* scale_attn_weights: divide by sqrt(head_dim) */
    bool scale_attn_by_layer;    /* scale_attn_by_inverse_layer_idx */
    bool tied_head;              /* tie_word_embeddings */
    int eos_ids[GPT2_MAX_EOS];   /* all inside the vocabulary; generation_config.json wins over
                                    config.json */
    int n_eos;                   /* 0: generation ends by length or stop string only */
    bool eos_unnamed; /* neither file says anything and 50256 is no token here: the tokenizer's
                         <|endoftext|> is meant */
} Gpt2Config;

/* Reads dir/config.json and dir/generation_config.json (optional). Every field that changes the
 * computation is honoured, or refused by name. Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED,
 * ERR_LIMIT, ERR_MEMORY; messages
 * "<path>: <key> is <found>, expected <what>". *c is untouched on failure.
 * Warnings (special id outside the vocabulary, ignored) go to the log. */
ErrCode config_load(Gpt2Config *c, const char *dir, Err *err) ERR_CHECK;

/* Parses config.json from memory and checks it. what names the file in messages. */
ErrCode config_parse(Gpt2Config *c, const char *text, size_t n, const char *what,
                     Err *err) ERR_CHECK;

/* Applies generation_config.json from memory to a parsed c: its eos_token_id, if it has one, wins.
 */
ErrCode config_parse_generation(Gpt2Config *c, const char *text, size_t n, const char *what,
                                Err *err) ERR_CHECK;

/* The configuration of a GGUF model; the head counts as tied until its tensors were looked at.
 * Errors: ERR_FORMAT, ERR_UNSUPPORTED (another architecture), ERR_LIMIT, with path and key. */
ErrCode config_from_gguf(Gpt2Config *c, const Gguf *g, const char *path, Err *err) ERR_CHECK;

/* Appends c as config.json has it: config_parse gives the same back, bit for bit. */
void config_json(JsonBuf *out, const Gpt2Config *c);

/* Checks the numbers, by themselves and against each other: "vocab_size must be > 0",
 * "hidden_dim must be divisible by num_heads, found 48 and 5". For every source of a configuration,
 * not only config.json. */
ErrCode config_check(const Gpt2Config *c, Err *err) ERR_CHECK;

/* When the files name no end of text: id, the tokenizer's <|endoftext|> (-1: it has none), is it.
 */
void config_name_eos(Gpt2Config *c, int id);

#endif
