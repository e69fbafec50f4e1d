/* tools/make_model.c: writes a GPT-2 model directory with random weights, for tests and benchmarks
 * of any size: config.json, model.safetensors, vocab.json and merges.txt. The same arguments give
 * the same bytes.
 *
 * usage: make-model --shape NAME|L,H,D,CTX,VOCAB [--dtype f32|f16|bf16] [--seed N] --out DIR
 * [--tokenizer DIR] */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/json.h"
#include "common/mapped_file.h"
#include "common/new_file.h"
#include "formats/safetensors_write.h"
#include "kernels/pack.h"
#include "model/gpt2_random.h"

enum { BYTE_TOKENS = 256, BLOCK_VALUES = 1 << 18, JSON_BYTES = 256 * 1024 * 1024 };

static const struct {
    const char *option, *name, *torch;
    KernType type;
} dtypes[] = {{"f32", "F32", "float32", KERN_F32},
              {"f16", "F16", "float16", KERN_F16},
              {"bf16", "BF16", "bfloat16", KERN_BF16}};

typedef struct {
    Gpt2Config config;
    size_t dtype; /* index into dtypes */
    uint64_t seed;
    const char *out, *tokenizer;
    int end_of_text; /* -1: the tokenizer has none */
} Plan;

/* splitmix64 (Steele, Lea, Flood 2014): one multiply chain per number, any seed is a good one. */
static uint64_t next_u64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

enum { QUANTILES = 4096 };

/* Standard normal values by a table of quantiles with linear interpolation: ten times faster than
 * Box-Muller, which would take longer than writing the file. The tails end at 4.46. */
static void fill_quantiles(float table[QUANTILES + 1])
{
    for (int i = 0; i <= QUANTILES; i++) {
        double p = (double)i / QUANTILES, low = -8.0, high = 8.0;

        p = fmin(fmax(p, 0x1p-18), 1.0 - 0x1p-18);
        for (int step = 0; step < 60; step++) {
            const double middle = 0.5 * (low + high);

            if (0.5 * erfc(-middle / sqrt(2.0)) < p)
                low = middle;
            else
                high = middle;
        }
        table[i] = (float)low;
    }
}

static float normal(const float table[QUANTILES + 1], uint32_t bits)
{
    const uint32_t i = bits >> 20;

    return table[i] + (table[i + 1] - table[i]) * ((float)(bits & 0xfffff) * 0x1p-20f);
}

static ErrCode join(char out[PATH_MAX], const char *dir, const char *name, Err *err)
{
    const int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

    if (n < 0 || n >= PATH_MAX)
        return err_set(err, ERR_IO, "%s/%s: %s", dir, name, strerror(ENAMETOOLONG));
    return ERR_OK;
}

static ErrCode write_file(const char *dir, const char *name, const void *data, size_t n, Err *err)
{
    char path[PATH_MAX];
    NewFile f;

    if (join(path, dir, name, err) != ERR_OK || new_file_open(&f, path, err) != ERR_OK)
        return err->code;
    (void)new_file_write(&f, data, n);
    return new_file_commit(&f, err);
}

static ErrCode write_buffer(const char *dir, const char *name, JsonBuf *b, Err *err)
{
    const ErrCode code = b->oom ? err_set(err, ERR_MEMORY, "%s: out of memory", name)
                                : write_file(dir, name, b->data, b->len, err);

    json_buf_free(b);
    return code;
}

typedef struct {
    char name[64];
    size_t rows, columns; /* columns 0: a vector */
    float mean, spread;
} Tensor;

/* Published layout: matrices as [in, out]. Gains lie near 1; biases are small but never all zero,
 * so that an engine that forgets one is found out. */
static size_t list_tensors(const Gpt2Config *c, Tensor *out)
{
    const size_t dim = (size_t)c->dim, ffn = (size_t)c->ffn_dim;
    const Tensor block[] = {
        {"ln_1.weight", dim, 0, 1.0f, 0.1f},
        {"ln_1.bias", dim, 0, 0.0f, 0.02f},
        {"attn.c_attn.weight", dim, 3 * dim, 0, 0.02f},
        {"attn.c_attn.bias", 3 * dim, 0, 0, 0.02f},
        {"attn.c_proj.weight", dim, dim, 0, 0.02f},
        {"attn.c_proj.bias", dim, 0, 0, 0.02f},
        {"ln_2.weight", dim, 0, 1.0f, 0.1f},
        {"ln_2.bias", dim, 0, 0.0f, 0.02f},
        {"mlp.c_fc.weight", dim, ffn, 0, 0.02f},
        {"mlp.c_fc.bias", ffn, 0, 0, 0.02f},
        {"mlp.c_proj.weight", ffn, dim, 0, 0.02f},
        {"mlp.c_proj.bias", dim, 0, 0, 0.02f},
    };
    size_t n = 0;

    out[n++] = (Tensor){"wte.weight", (size_t)c->vocab_size, dim, 0, 0.02f};
    out[n++] = (Tensor){"wpe.weight", (size_t)c->n_ctx, dim, 0, 0.02f};
    for (int layer = 0; layer < c->n_layers; layer++)
        for (size_t i = 0; i < sizeof block / sizeof block[0]; i++) {
            out[n] = block[i];
            (void)snprintf(out[n].name, sizeof out[n].name, "h.%d.%.40s", layer, block[i].name);
            n++;
        }
    out[n++] = (Tensor){"ln_f.weight", dim, 0, 1.0f, 0.1f};
    out[n++] = (Tensor){"ln_f.bias", dim, 0, 0, 0.02f};
    return n;
}

static size_t tensor_values(const Tensor *t)
{
    return t->rows * (t->columns > 0 ? t->columns : 1);
}

static StNewTensor described(const Tensor *t, const Plan *plan)
{
    return (StNewTensor){.name = t->name,
                         .dtype = dtypes[plan->dtype].name,
                         .n_dims = t->columns > 0 ? 2 : 1,
                         .dims = {t->rows, t->columns}};
}

/* Room for one block of values, before and after encoding. */
typedef struct {
    float table[QUANTILES + 1];
    float values[BLOCK_VALUES];
    unsigned char bytes[BLOCK_VALUES * sizeof(float)];
} Work;

/* Each tensor has its own stream, by its name: a model with more layers begins with the same
 * weights. */
static uint64_t stream_of(uint64_t seed, const char *name)
{
    uint64_t state = seed;

    for (const char *p = name; *p != '\0'; p++)
        state = next_u64(&state) ^ (unsigned char)*p;
    return state;
}

static bool write_tensor(StWriter *out, const Tensor *t, const Plan *plan, Work *w)
{
    const KernType type = dtypes[plan->dtype].type;
    uint64_t state = stream_of(plan->seed, t->name);
    bool ok = true;

    for (size_t left = tensor_values(t); ok && left > 0;) {
        const size_t n = left < BLOCK_VALUES ? left : BLOCK_VALUES;

        for (size_t i = 0; i < n; i += 2) {
            const uint64_t bits = next_u64(&state);

            w->values[i] = t->mean + t->spread * normal(w->table, (uint32_t)(bits >> 32));
            w->values[i + 1] = t->mean + t->spread * normal(w->table, (uint32_t)bits);
        }
        kern_narrow(w->bytes, w->values, type, n);
        ok = safetensors_writer_data(out, w->bytes, kern_file_bytes(type, n));
        left -= n;
    }
    return ok;
}

static ErrCode write_tensors(const Plan *plan, Tensor *tensors, StNewTensor *list, Work *work,
                             Err *err)
{
    static const StNewText format = {"format", "pt", 2};
    const size_t n = list_tensors(&plan->config, tensors);
    char path[PATH_MAX];
    StWriter out;
    ErrCode code = join(path, plan->out, "model.safetensors", err);

    for (size_t i = 0; i < n; i++)
        list[i] = described(&tensors[i], plan);
    if (code == ERR_OK)
        code = safetensors_writer_open(&out, path, &format, 1, list, n, err);
    if (code != ERR_OK)
        return code;
    fill_quantiles(work->table);
    for (size_t i = 0; i < n && write_tensor(&out, &tensors[i], plan, work); i++)
        ;
    return safetensors_writer_finish(&out, err);
}

static ErrCode write_weights(const Plan *plan, Err *err)
{
    const size_t n_max = 4 + 12 * (size_t)plan->config.n_layers;
    Tensor *tensors = malloc(n_max * sizeof *tensors);
    StNewTensor *list = malloc(n_max * sizeof *list);
    Work *work = malloc(sizeof *work);
    ErrCode code;

    if (tensors == NULL || list == NULL || work == NULL)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else
        code = write_tensors(plan, tensors, list, work, err);
    free(tensors);
    free(list);
    free(work);
    return code;
}

/* Tokens longer than this are not made: words of text have about this length. */
enum { TOKEN_BYTES = 12 };

typedef struct {
    unsigned char n;
    char bytes[TOKEN_BYTES]; /* raw bytes, not the letters that stand for them in vocab.json */
} Token;

typedef struct {
    Token *tokens; /* [n_tokens] */
    size_t n_tokens;
    uint32_t *slots; /* open addressing: index into tokens + 1, 0 is empty */
    size_t n_slots;  /* a power of two, more than twice the tokens */
} Vocab;

/* GPT-2 gives every byte a printable character: itself where Latin-1 prints it, else U+0100 and on,
 * in byte order. Fills code points, and bytes in the order of their published ids (printable ones
 * first). */
static void byte_letters(int letter[BYTE_TOKENS], unsigned char by_id[BYTE_TOKENS])
{
    int n_other = 0, n = 0;

    for (int b = 0; b < BYTE_TOKENS; b++) {
        const bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 255 && b != 173);

        letter[b] = prints ? b : 0x100 + n_other++;
        if (prints)
            by_id[n++] = (unsigned char)b;
    }
    for (int b = 0; b < BYTE_TOKENS; b++)
        if (letter[b] >= 0x100)
            by_id[n++] = (unsigned char)b;
}

static void add_letters(JsonBuf *b, const Token *t, const int letter[BYTE_TOKENS])
{
    for (int i = 0; i < t->n; i++) {
        const int c = letter[(unsigned char)t->bytes[i]];
        const char two[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 63))};
        const char one = (char)c;

        if (c < 0x80)
            json_buf_add(b, &one, 1);
        else
            json_buf_add(b, two, 2);
    }
}

static bool same_token(const Token *a, const Token *b)
{
    return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

/* Adds t unless the vocabulary has it. */
static bool vocab_add(Vocab *v, const Token *t)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (int i = 0; i < t->n; i++)
        hash = (hash ^ (unsigned char)t->bytes[i]) * 1099511628211u;
    size_t slot = (hash ^ hash >> 32) & (v->n_slots - 1);
    for (; v->slots[slot] != 0; slot = (slot + 1) & (v->n_slots - 1))
        if (same_token(&v->tokens[v->slots[slot] - 1], t))
            return false;
    v->tokens[v->n_tokens] = *t;
    v->slots[slot] = (uint32_t)++v->n_tokens;
    return true;
}

/* Whether t may be part of a longer token: lower-case letters, and as the left part also a leading
 * space. Only such tokens can come out of text, because text is cut at other characters before it
 * is merged. */
static bool merges(const Token *t, bool left)
{
    for (int i = 0; i < t->n; i++)
        if ((t->bytes[i] < 'a' || t->bytes[i] > 'z') && !(left && i == 0 && t->bytes[i] == ' '))
            return false;
    return true;
}

static const Token *pick(const Vocab *v, uint64_t *state, bool left)
{
    for (;;) {
        const Token *t = &v->tokens[next_u64(state) % v->n_tokens];

        if (merges(t, left))
            return t;
    }
}

/* Joins two random tokens into one that is new: both parts exist, and so does the result, as a
 * merge demands. */
static void add_merge(Vocab *v, uint64_t *state, JsonBuf *text, const int letter[BYTE_TOKENS])
{
    for (;;) {
        const Token *a = pick(v, state, true), *b = pick(v, state, false);
        Token joined;

        if (a->n + b->n > TOKEN_BYTES)
            continue;
        joined.n = (unsigned char)(a->n + b->n);
        memcpy(joined.bytes, a->bytes, a->n);
        memcpy(joined.bytes + a->n, b->bytes, b->n);
        const Token parts[2] = {*a, *b};
        if (!vocab_add(v, &joined))
            continue;
        add_letters(text, &parts[0], letter);
        json_buf_add(text, " ", 1);
        add_letters(text, &parts[1], letter);
        json_buf_add(text, "\n", 1);
        return;
    }
}

static void make_vocabulary(Vocab *v, int n_tokens, uint64_t seed, JsonBuf *vocab,
                            JsonBuf *merge_text)
{
    int letter[BYTE_TOKENS];
    unsigned char by_id[BYTE_TOKENS];
    uint64_t state = stream_of(seed, "tokenizer");

    byte_letters(letter, by_id);
    for (int i = 0; i < BYTE_TOKENS; i++)
        (void)vocab_add(v, &(Token){1, {(char)by_id[i]}});
    json_buf_printf(merge_text, "#version: 0.2\n");
    for (int i = BYTE_TOKENS; i < n_tokens - 1; i++)
        add_merge(v, &state, merge_text, letter);
    json_buf_printf(vocab, "{");
    for (size_t i = 0; i < v->n_tokens; i++) {
        JsonBuf text = {NULL, 0, 0, 0};

        add_letters(&text, &v->tokens[i], letter);
        vocab->oom = vocab->oom || text.oom;
        if (!text.oom)
            json_buf_string(vocab, text.data, text.len);
        json_buf_printf(vocab, ":%zu,", i);
        json_buf_free(&text);
    }
    json_buf_printf(vocab, "\"<|endoftext|>\":%d}\n", n_tokens - 1);
}

static ErrCode write_tokenizer(Plan *plan, Err *err)
{
    const int n = plan->config.vocab_size;
    JsonBuf vocab = {NULL, 0, 0, 0}, merge_text = {NULL, 0, 0, 0};
    Vocab v = {.n_slots = 1024};

    if (n <= BYTE_TOKENS)
        return err_set(err, ERR_USAGE,
                       "--shape: a vocabulary of %d has no room for %d byte tokens and "
                       "<|endoftext|>",
                       n, (int)BYTE_TOKENS);
    while (v.n_slots < 3 * (size_t)n)
        v.n_slots *= 2;
    v.tokens = malloc((size_t)n * sizeof *v.tokens);
    v.slots = calloc(v.n_slots, sizeof *v.slots);
    if (v.tokens == NULL || v.slots == NULL)
        vocab.oom = 1;
    else
        make_vocabulary(&v, n, plan->seed, &vocab, &merge_text);
    free(v.tokens);
    free(v.slots);
    ErrCode code = write_buffer(plan->out, "vocab.json", &vocab, err);
    if (code == ERR_OK)
        code = write_buffer(plan->out, "merges.txt", &merge_text, err);
    json_buf_free(&merge_text);
    plan->end_of_text = n - 1;
    return code;
}

/* The size of a given vocab.json must fit the shape, and it may know where the text ends. */
static ErrCode check_given_vocabulary(Plan *plan, const char *path, Err *err)
{
    json_t *vocab = json_parse_file(path, JSON_BYTES, err);
    ErrCode code = ERR_OK;

    if (vocab == NULL)
        return err->code;
    const json_t *end = json_object_get(vocab, "<|endoftext|>");
    if (json_object_size(vocab) == 0 || json_object_size(vocab) > (size_t)plan->config.vocab_size)
        code = err_set(err, ERR_USAGE, "%s: %zu tokens, expected 1 to %d as in --shape", path,
                       json_object_size(vocab), plan->config.vocab_size);
    else if (json_is_integer(end) && json_integer_value(end) >= 0 &&
             json_integer_value(end) < plan->config.vocab_size)
        plan->end_of_text = (int)json_integer_value(end);
    json_decref(vocab);
    return code;
}

static ErrCode copy_tokenizer(Plan *plan, Err *err)
{
    static const char *const names[] = {"vocab.json", "merges.txt"};

    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX];
        MappedFile f;

        if (join(path, plan->tokenizer, names[i], err) != ERR_OK ||
            (i == 0 && check_given_vocabulary(plan, path, err) != ERR_OK) ||
            mapped_file_open(&f, path, JSON_BYTES, err) != ERR_OK)
            return err->code;
        const ErrCode code = write_file(plan->out, names[i], f.data, f.size, err);
        mapped_file_close(&f);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

static ErrCode write_config(const Plan *plan, Err *err)
{
    const Gpt2Config *c = &plan->config;
    JsonBuf b = {NULL, 0, 0, 0};

    json_buf_printf(&b, "{\n  \"activation_function\": \"gelu_new\",\n"
                        "  \"architectures\": [\"GPT2LMHeadModel\"],\n");
    if (plan->end_of_text >= 0)
        json_buf_printf(&b, "  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n", plan->end_of_text,
                        plan->end_of_text);
    else
        json_buf_printf(&b, "  \"bos_token_id\": null,\n  \"eos_token_id\": null,\n");
    json_buf_printf(&b,
                    "  \"layer_norm_epsilon\": 1e-05,\n  \"model_type\": \"gpt2\",\n"
                    "  \"n_ctx\": %d,\n  \"n_embd\": %d,\n  \"n_head\": %d,\n  \"n_inner\": null,\n"
                    "  \"n_layer\": %d,\n  \"n_positions\": %d,\n  \"tie_word_embeddings\": true,\n"
                    "  \"torch_dtype\": \"%s\",\n  \"vocab_size\": %d\n}\n",
                    c->n_ctx, c->dim, c->n_heads, c->n_layers, c->n_ctx, dtypes[plan->dtype].torch,
                    c->vocab_size);
    return write_buffer(plan->out, "config.json", &b, err);
}

static ErrCode parse_arguments(Plan *plan, int argc, char **argv, Err *err)
{
    static const struct option options[] = {
        {"shape", required_argument, NULL, 's'},     {"dtype", required_argument, NULL, 'd'},
        {"seed", required_argument, NULL, 'n'},      {"out", required_argument, NULL, 'o'},
        {"tokenizer", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    const char *shape = NULL, *dtype = "f32", *seed = "1";
    char *rest;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        const char **target = c == 's'   ? &shape
                              : c == 'd' ? &dtype
                              : c == 'n' ? &seed
                              : c == 'o' ? &plan->out
                              : c == 't' ? &plan->tokenizer
                                         : NULL;

        if (target == NULL)
            return err_set(err, ERR_USAGE, "bad arguments");
        *target = optarg;
    }
    if (optind != argc || shape == NULL || plan->out == NULL)
        return err_set(err, ERR_USAGE,
                       "--shape and --out are needed, and nothing behind the options");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtype, dtypes[i].option) == 0)
            plan->dtype = i;
    if (strcmp(dtype, dtypes[plan->dtype].option) != 0)
        return err_set(err, ERR_USAGE, "--dtype: \"%s\", expected f32, f16 or bf16", dtype);
    errno = 0;
    plan->seed = strtoull(seed, &rest, 10);
    if (errno != 0 || seed[0] < '0' || seed[0] > '9' || *rest != '\0')
        return err_set(err, ERR_USAGE, "--seed: \"%s\", expected 0 to 18446744073709551615", seed);
    if (gpt2_shape_parse(&plan->config, shape, err) != ERR_OK)
        (void)err_prefix(err, "--shape");
    return err->code;
}

static ErrCode make_model(Plan *plan, Err *err)
{
    if (mkdir(plan->out, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_IO, "%s: %s", plan->out, strerror(errno));
    ErrCode code = plan->tokenizer != NULL ? copy_tokenizer(plan, err) : write_tokenizer(plan, err);
    if (code == ERR_OK)
        code = write_config(plan, err);
    return code == ERR_OK ? write_weights(plan, err) : code;
}

int main(int argc, char **argv)
{
    Plan plan = {.end_of_text = -1};
    Err err = {ERR_OK, ""};

    if (parse_arguments(&plan, argc, argv, &err) == ERR_OK && make_model(&plan, &err) == ERR_OK)
        return 0;
    fprintf(stderr, "make-model: %s\n", err.msg);
    if (err.code == ERR_USAGE)
        fprintf(stderr, "usage: make-model --shape NAME|L,H,D,CTX,VOCAB [--dtype f32|f16|bf16] "
                        "[--seed N] --out DIR [--tokenizer DIR]\n");
    return err.code == ERR_USAGE ? 2 : 1;
}
