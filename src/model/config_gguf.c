/* model/config_gguf.c: the configuration that GGUF metadata holds. Architecture "gpt2" leaves no
 * choice of activation and scaling: they are GPT-2's.
 *
 * May include: common, formats. */
#include <limits.h>
#include <string.h>

#include "model/config.h"

static ErrCode check_architecture(const Gguf *g, const char *path, Err *err)
{
    GgufText text;
    ErrCode code = gguf_string(g, "general.architecture", &text, NULL, err);

    if (code != ERR_OK)
        return code;
    if (text.n == 4 && memcmp(text.text, "gpt2", 4) == 0)
        return ERR_OK;
    return err_set(err, ERR_UNSUPPORTED, "%s: general.architecture is %.*s, expected gpt2", path,
                   (int)(text.n < 64 ? text.n : 64), text.text);
}

static ErrCode read_size(const Gguf *g, const char *key, int *out, Err *err)
{
    int64_t n = 0;
    const ErrCode code = gguf_integer(g, key, 1, INT_MAX, &n, NULL, err);

    *out = (int)n;
    return code;
}

/* The vocabulary is what the embedding table has rows. */
static ErrCode read_vocab(const Gguf *g, const char *path, int *out, Err *err)
{
    const GgufTensor *wte = gguf_find(g, "token_embd.weight");

    if (wte == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor token_embd.weight is missing", path);
    if (wte->dims[1] > GPT2_MAX_VOCAB)
        return err_set(err, ERR_LIMIT, "%s: a vocabulary of %zu tokens, at most %d are possible",
                       path, wte->dims[1], GPT2_MAX_VOCAB);
    *out = (int)wte->dims[1];
    return ERR_OK;
}

static ErrCode read_eos(const Gguf *g, Gpt2Config *c, Err *err)
{
    int64_t id = 0;
    bool found = false;
    const ErrCode code =
        gguf_integer(g, "tokenizer.ggml.eos_token_id", 0, c->vocab_size - 1, &id, &found, err);

    if (code == ERR_OK && found) {
        c->eos_ids[0] = (int)id;
        c->n_eos = 1;
    }
    c->eos_unnamed = !found;
    return code;
}

ErrCode config_from_gguf(Gpt2Config *c, const Gguf *g, const char *path, Err *err)
{
    Gpt2Config made = {.activation = ACT_GELU_TANH,
                       .activation_name = "gelu_new",
                       .scale_attn = true,
                       .tied_head = true};
    ErrCode code = check_architecture(g, path, err);

    if (code != ERR_OK ||
        (code = read_size(g, "gpt2.block_count", &made.n_layers, err)) != ERR_OK ||
        (code = read_size(g, "gpt2.attention.head_count", &made.n_heads, err)) != ERR_OK ||
        (code = read_size(g, "gpt2.embedding_length", &made.dim, err)) != ERR_OK ||
        (code = read_size(g, "gpt2.feed_forward_length", &made.ffn_dim, err)) != ERR_OK ||
        (code = read_size(g, "gpt2.context_length", &made.n_ctx, err)) != ERR_OK ||
        (code = read_vocab(g, path, &made.vocab_size, err)) != ERR_OK ||
        (code = gguf_f32(g, "gpt2.attention.layer_norm_epsilon", &made.eps, NULL, err)) != ERR_OK)
        return code;
    if (config_check(&made, err) != ERR_OK)
        return err_prefix(err, "%s", path);
    if ((code = read_eos(g, &made, err)) != ERR_OK)
        return code;
    made.head_dim = made.dim / made.n_heads;
    *c = made;
    return ERR_OK;
}
