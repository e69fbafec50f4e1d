/* cli/write_model.c: see write_model.h.
 *
 * Source  the keys, names and padding tokens of GGUF are those of its specification and of the
 *         published GPT-2 converters, so that readers made for their files take ours.
 *
 * May include: common, formats, kernels, model, tokenizer. */
#include "cli/write_model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "formats/gguf_write.h"
#include "kernels/pack.h"
#include "model/gpt2_pack.h"
#include "model/weight_source.h"
#include "model/weights.h"

static_assert((int)TOKENIZER_N_PARTS <= (int)GPT2_PACK_MAX_PARTS, "the tokenizer's parts fit");

/* How GGUF numbers the types of tensors, and of files by the type of most of their weights. */
static const struct {
    uint32_t tensor, file;
} gguf_numbers[KERN_TYPE_COUNT] = {
    [KERN_F32] = {GGUF_F32, 0},   [KERN_F16] = {GGUF_F16, 1},   [KERN_BF16] = {GGUF_BF16, 32},
    [KERN_Q8_0] = {GGUF_Q8_0, 7}, [KERN_Q4_0] = {GGUF_Q4_0, 2},
};

enum { TOKEN_UNUSED = 5, PAD_BYTES = 24 };

/* --- what GGUF's gpt2 can say --- */

static ErrCode cannot_say(const Gpt2 *m, const char *what, Err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: %s, which GGUF's architecture gpt2 cannot express; llorch-cpud pack keeps "
                   "such models",
                   m->path, what);
}

ErrCode write_model_gguf_check(const Gpt2 *m, Err *err)
{
    const Gpt2Config *c = &m->config;
    char what[128];

    if (c->activation != ACT_GELU_TANH) {
        (void)snprintf(what, sizeof what, "activation_function is %s", c->activation_name);
        return cannot_say(m, what, err);
    }
    if (!c->scale_attn)
        return cannot_say(m, "scale_attn_weights is false", err);
    if (c->scale_attn_by_layer)
        return cannot_say(m, "scale_attn_by_inverse_layer_idx is true", err);
    if (c->n_eos > 1) {
        (void)snprintf(what, sizeof what, "eos_token_id lists %d tokens", c->n_eos);
        return cannot_say(m, what, err);
    }
    /* Readers take the tokenizer's end of text for one that is not named. */
    if (c->n_eos == 0 && !c->eos_unnamed)
        return cannot_say(m, "eos_token_id names no token", err);
    return ERR_OK;
}

/* --- metadata --- */

static void add_text(GgufWriter *w, const char *key, const char *text)
{
    gguf_writer_string(w, key, text, strlen(text));
}

static void add_u32(GgufWriter *w, const char *key, int value)
{
    gguf_writer_integer(w, key, GGUF_META_U32, (uint64_t)value);
}

static void add_model(GgufWriter *w, const Gpt2 *m, KernType type)
{
    const Gpt2Config *c = &m->config;
    char name[4 * GPT2_NAME_BYTES];

    (void)text_escape(name, sizeof name, m->name, strlen(m->name));
    add_text(w, "general.architecture", "gpt2");
    add_text(w, "general.type", "model");
    add_text(w, "general.name", name);
    add_u32(w, "gpt2.block_count", c->n_layers);
    add_u32(w, "gpt2.context_length", c->n_ctx);
    add_u32(w, "gpt2.embedding_length", c->dim);
    add_u32(w, "gpt2.feed_forward_length", c->ffn_dim);
    add_u32(w, "gpt2.attention.head_count", c->n_heads);
    gguf_writer_f32(w, "gpt2.attention.layer_norm_epsilon", c->eps);
    add_u32(w, "general.file_type", (int)gguf_numbers[type].file);
    add_u32(w, "general.quantization_version", 2);
}

/* Rows of the table beyond the tokenizer get names that no text has. */
static size_t pad_token(char out[PAD_BYTES], int id)
{
    return (size_t)snprintf(out, PAD_BYTES, "[PAD%d]", id);
}

static void add_tokens(GgufWriter *w, const Tokenizer *t, int n_rows, char *text, int32_t *types)
{
    const int n = tokenizer_vocab_size(t);

    gguf_writer_strings(w, "tokenizer.ggml.tokens", (size_t)n_rows);
    for (int id = 0; id < n; id++) {
        types[id] = tokenizer_token_type(t, id);
        gguf_writer_add(w, text, tokenizer_token_spelled(t, id, text));
    }
    for (int id = n; id < n_rows; id++) {
        char pad[PAD_BYTES];

        types[id] = TOKEN_UNUSED;
        gguf_writer_add(w, pad, pad_token(pad, id));
    }
    gguf_writer_i32s(w, "tokenizer.ggml.token_type", types, (size_t)n_rows);
}

static void add_merges(GgufWriter *w, const Tokenizer *t, char *text)
{
    const int n = tokenizer_n_merges(t);

    gguf_writer_strings(w, "tokenizer.ggml.merges", (size_t)n);
    for (int rank = 0; rank < n; rank++) {
        int left, right;

        tokenizer_merge(t, rank, &left, &right);

        size_t length = tokenizer_token_spelled(t, left, text);

        text[length++] = ' ';
        length += tokenizer_token_spelled(t, right, text + length);
        gguf_writer_add(w, text, length);
    }
}

static ErrCode add_tokenizer(GgufWriter *w, const Tokenizer *t, const Gpt2Config *config, Err *err)
{
    /* A merge is two tokens and a blank, each spelled with at most twice its bytes. */
    char *text = malloc(4 * tokenizer_longest_token(t) + 1);
    int32_t *types = calloc((size_t)config->vocab_size, sizeof *types);
    ErrCode code = ERR_OK;

    if (text == NULL || types == NULL) {
        code = err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
    } else {
        add_text(w, "tokenizer.ggml.model", "gpt2");
        add_text(w, "tokenizer.ggml.pre", "gpt-2");
        add_tokens(w, t, config->vocab_size, text, types);
        add_merges(w, t, text);
        /* GPT-2 begins and ends texts with the same token. */
        if (config->n_eos == 1) {
            add_u32(w, "tokenizer.ggml.bos_token_id", config->eos_ids[0]);
            add_u32(w, "tokenizer.ggml.eos_token_id", config->eos_ids[0]);
        }
    }
    free(text);
    free(types);
    return code;
}

/* --- tensors --- */

/* GGUF lists the length of a row first. */
static bool list_tensor(void *ctx, const WeightSlot *slot)
{
    const size_t dims[2] = {slot->kind == WEIGHT_VECTOR ? slot->n : slot->k, slot->n};
    const KernType type = slot->matrix != NULL ? slot->matrix->type : KERN_F32;
    char name[WEIGHT_NAME_BYTES + 32];

    weight_source_gguf_name(name, sizeof name, slot->name);
    gguf_writer_tensor(ctx, name, gguf_numbers[type].tensor, slot->kind == WEIGHT_VECTOR ? 1 : 2,
                       dims);
    return true;
}

/* Rows are written some at a time: one each would be as many system calls. */
enum { ROOM_BYTES = 1 << 20 };

static_assert(ROOM_BYTES >= GPT2_MAX_FFN * (int)sizeof(float), "one row fits");

typedef struct {
    GgufWriter *w;
    const Gpt2 *m;
    const Gpt2Progress *progress; /* may be NULL */
    unsigned char *room;          /* [ROOM_BYTES]: rows in the form of a file */
    size_t done;
    bool stopped;
} DataWriter;

static bool report(DataWriter *d, size_t n_weights)
{
    const Gpt2Progress *p = d->progress;

    d->done += n_weights;
    d->stopped = p != NULL && p->progress != NULL &&
                 !p->progress(p->ctx, (double)d->done / (double)d->m->n_params);
    return !d->stopped;
}

static bool write_tensor(void *ctx, const WeightSlot *slot)
{
    DataWriter *d = ctx;

    if (slot->matrix == NULL)
        return gguf_writer_data(d->w, *slot->floats, slot->n * slot->k * sizeof(float)) &&
               report(d, slot->n * slot->k);

    const size_t row_bytes = kern_file_bytes(slot->matrix->type, slot->k);
    const size_t at_once = ROOM_BYTES / row_bytes;

    for (size_t row = 0, n; row < slot->n; row += n) {
        n = slot->n - row < at_once ? slot->n - row : at_once;
        for (size_t i = 0; i < n; i++)
            kern_unpack_file(d->room + i * row_bytes, slot->matrix, row + i);
        if (!gguf_writer_data(d->w, d->room, n * row_bytes) || !report(d, n * slot->k))
            return false;
    }
    return true;
}

static ErrCode write_tensors(GgufWriter *w, Gpt2 *m, const Gpt2Progress *progress, Err *err)
{
    DataWriter d = {.w = w, .m = m, .progress = progress, .room = malloc(ROOM_BYTES)};

    if (d.room == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for rows of weights");
    (void)weights_each(m, list_tensor, w);
    (void)weights_each(m, write_tensor, &d); /* gguf_writer_finish says what failed */
    free(d.room);
    return d.stopped ? err_set(err, ERR_CANCELLED, "interrupted") : ERR_OK;
}

ErrCode write_model_gguf(Gpt2 *m, const Tokenizer *t, KernType type, const char *path,
                         const Gpt2Progress *progress, Err *err)
{
    GgufWriter w;
    ErrCode code = gguf_writer_open(&w, path, GGUF_DEFAULT_ALIGNMENT, err);

    if (code != ERR_OK)
        return code;
    add_model(&w, m, type);
    if (t != NULL)
        code = add_tokenizer(&w, t, &m->config, err);
    if (code == ERR_OK)
        code = write_tensors(&w, m, progress, err);
    if (code == ERR_OK)
        return gguf_writer_finish(&w, err);
    gguf_writer_discard(&w);
    return code;
}

/* --- packed --- */

ErrCode write_model_packed(Gpt2 *m, const Tokenizer *t, const char *path,
                           const Gpt2Progress *progress, Err *err)
{
    Gpt2PackExtra extra = {.n_parts = 0};
    TokenizerPart parts[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];

    if (t != NULL) {
        tokenizer_parts(t, parts, text);
        extra.n_parts = TOKENIZER_N_PARTS;
        extra.text_key = TOKENIZER_TEXT_KEY;
        extra.text = text;
    }
    for (size_t i = 0; i < extra.n_parts; i++)
        extra.parts[i] = (Gpt2PackPart){.name = parts[i].name,
                                        .dtype = parts[i].dtype,
                                        .n = parts[i].n,
                                        .data = parts[i].data,
                                        .n_bytes = parts[i].n_bytes};
    return gpt2_pack_write(m, path, &extra, progress, err);
}
