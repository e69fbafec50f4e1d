/* cli/quantize.c: writes a model as a GGUF file with weights of another type, for this program and
 * others.
 *
 * Source  the keys, names and padding tokens are those of the GGUF specification and of the
 *         published GPT-2 converters, so that readers made for their files take ours.
 *
 * May include: common, formats, kernels, model, tokenizer. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/convert.h"
#include "common/text.h"
#include "formats/gguf_write.h"
#include "kernels/pack.h"
#include "model/weight_source.h"
#include "model/weights.h"

static const char quantize_help[] =
    "usage: llorch-cpud quantize [--model PATH] --type TYPE [--embedding-type TYPE] --out FILE\n"
    "\n"
    "Writes a model as a GGUF file (version 3, architecture gpt2) with weights of another type.\n"
    "\n"
    "  --model PATH            model directory, .safetensors or .gguf file (default: the shipped\n"
    "                          model)\n"
    "  --type TYPE             f32, f16, bf16, q8_0 or q4_0. Norms, biases and positions stay "
    "f32;\n"
    "                          rows that q8_0 and q4_0 cannot cut into blocks of 32 become f16\n"
    "  --embedding-type TYPE   of the token embedding and the head (default: as --type says; q8_0\n"
    "                          for q4_0)\n"
    "  --out FILE              the new file; replaces one of that name once it is complete\n"
    "  --help                  this text\n";

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

static ErrCode check_config(const Gpt2 *m, Err *err)
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

static void add_tokens(GgufWriter *w, const Conversion *c, char *text, int32_t *types)
{
    const int n = tokenizer_vocab_size(c->tokenizer), n_rows = c->model.config.vocab_size;

    gguf_writer_strings(w, "tokenizer.ggml.tokens", (size_t)n_rows);
    for (int id = 0; id < n; id++) {
        types[id] = tokenizer_token_type(c->tokenizer, id);
        gguf_writer_add(w, text, tokenizer_token_spelled(c->tokenizer, id, text));
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

static ErrCode add_tokenizer(GgufWriter *w, const Conversion *c, Err *err)
{
    const Gpt2Config *config = &c->model.config;
    /* A merge is two tokens and a blank, each spelled with at most twice its bytes. */
    char *text = malloc(4 * tokenizer_longest_token(c->tokenizer) + 1);
    int32_t *types = calloc((size_t)config->vocab_size, sizeof *types);
    ErrCode code = ERR_OK;

    if (text == NULL || types == NULL) {
        code = err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
    } else {
        add_text(w, "tokenizer.ggml.model", "gpt2");
        add_text(w, "tokenizer.ggml.pre", "gpt-2");
        add_tokens(w, c, text, types);
        add_merges(w, c->tokenizer, text);
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
    Conversion *c;
    unsigned char *room; /* [ROOM_BYTES]: rows in the form of a file */
    size_t done;
    bool stopped;
} DataWriter;

static bool report(DataWriter *d, size_t n_weights)
{
    d->done += n_weights;
    d->stopped = !convert_progress(d->c, (double)d->done / (double)d->c->model.n_params);
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

static ErrCode write_tensors(GgufWriter *w, Conversion *c, Err *err)
{
    DataWriter d = {.w = w, .c = c, .room = malloc(ROOM_BYTES)};

    if (d.room == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for rows of weights");
    (void)weights_each(&c->model, list_tensor, w);
    (void)weights_each(&c->model, write_tensor, &d); /* gguf_writer_finish says what failed */
    free(d.room);
    return d.stopped ? err_set(err, ERR_CANCELLED, "interrupted") : ERR_OK;
}

static ErrCode write_gguf(Conversion *c, const ConvertArgs *a, Err *err)
{
    GgufWriter w;
    ErrCode code = gguf_writer_open(&w, a->out, GGUF_DEFAULT_ALIGNMENT, err);

    if (code != ERR_OK)
        return code;
    add_model(&w, &c->model, a->type);
    code = add_tokenizer(&w, c, err);
    if (code == ERR_OK) {
        cli_progress_start(&c->progress, "writing the file");
        code = write_tensors(&w, c, err);
        cli_progress_clear(&c->progress);
    }
    if (code == ERR_OK)
        return gguf_writer_finish(&w, err);
    gguf_writer_discard(&w);
    return code;
}

static ErrCode parse_args(ConvertArgs *a, int argc, char **argv, Err *err)
{
    const ErrCode code = convert_parse(a, argc, argv, err);

    if (code == ERR_OK && !a->help && !a->has_type)
        return err_set(err, ERR_USAGE, "%s: --type is missing: f32, f16, bf16, q8_0 or q4_0",
                       argv[0]);
    return code;
}

int cli_quantize(int argc, char **argv)
{
    Conversion c = {.tokenizer = NULL};
    ConvertArgs args;
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(quantize_help);
    cli_catch_interrupt();
    if (code == ERR_OK)
        code = convert_load(&c, &args, &err);
    if (code == ERR_OK)
        code = check_config(&c.model, &err);
    if (code == ERR_OK)
        code = write_gguf(&c, &args, &err);
    if (code == ERR_OK)
        code = convert_print_summary(&c.model, args.out, &err);
    convert_free(&c);
    return convert_status(code, &err);
}
