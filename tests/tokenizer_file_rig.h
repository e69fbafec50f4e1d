/* tests/tokenizer_file_rig.h: writing tokenizers into model files: a GGUF file by its keys, a
 * packed file by its parts. */
#ifndef LLORCH_TESTS_TOKENIZER_FILE_RIG_H
#define LLORCH_TESTS_TOKENIZER_FILE_RIG_H

#include "tokenizer_rig.h"

#include "formats/gguf_write.h"
#include "formats/safetensors_write.h"

#define FILE_NAME "model.bin" /* the form is known by the bytes, not by the name */

static inline void assert_refused(ErrCode code, const char *problem)
{
    const char *path = path_of(FILE_NAME);
    Err err;

    fails_to_load(path, code, problem, &err);
    if (strncmp(err.msg, path, strlen(path)) != 0)
        fail_msg("got: %s\nexpected: %s", err.msg, path);
}

static inline Tokenizer *load_written(void)
{
    return load(path_of(FILE_NAME));
}

/* --- packed --- */

/* A packed file of these parts alone. lead: bytes of a tensor before them. */
static inline void write_parts(const TokenizerPart *parts, size_t n, const char *text, size_t lead)
{
    static const char zeros[8];
    const StNewText texts[] = {
        {TOKENIZER_FORMAT_KEY, TOKENIZER_PACKED_FORMAT, strlen(TOKENIZER_PACKED_FORMAT)},
        {TOKENIZER_TEXT_KEY, text, text != NULL ? strlen(text) : 0}};
    StNewTensor tensors[TOKENIZER_N_PARTS + 1] = {
        {.name = "first", .dtype = "U8", .n_dims = 1, .dims = {lead}}};
    StWriter w;
    Err err = {0};

    for (size_t i = 0; i < n; i++)
        tensors[i + 1] = (StNewTensor){
            .name = parts[i].name, .dtype = parts[i].dtype, .n_dims = 1, .dims = {parts[i].n}};
    if (safetensors_writer_open(&w, path_of(FILE_NAME), texts, text != NULL ? 2 : 1, tensors, n + 1,
                                &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(safetensors_writer_data(&w, zeros, lead));
    for (size_t i = 0; i < n; i++)
        assert_true(safetensors_writer_data(&w, parts[i].data, parts[i].n_bytes));
    if (safetensors_writer_finish(&w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* --- GGUF --- */

/* A GGUF file by its parts. Ids 0 to 255 are the bytes by value. */
enum { N_MORE = 6, N_MERGES = 3, N_IDS = 256 + N_MORE, NO_ID = -1000 };

typedef struct {
    const char *model, *pre; /* NULL: no such key */
    const char *more[N_MORE], *merge[N_MERGES];
    int32_t type[N_MORE];
    int n_ids, n_types, n_merges; /* -1: no such key */
    int bos, eos;                 /* NO_ID: no such key */
    int control_byte;             /* the id of a byte that is a control token; 0: none */
} GgufSpec;

static inline GgufSpec base_gguf(void)
{
    return (GgufSpec){
        .model = "gpt2",
        .pre = "gpt-2",
        .more = {"he", BLANK "t", BLANK "the", "<|endoftext|>", "<user> x", "[PAD999]"},
        .merge = {"h e", BLANK " t", BLANK "t he"},
        .type = {1, 1, 1, 3, 4, 5},
        .n_ids = N_IDS,
        .n_types = N_IDS,
        .n_merges = N_MERGES,
        .bos = 259,
        .eos = 259};
}

static inline void write_spec(const GgufSpec *s)
{
    int32_t types[N_IDS];
    char spelled[3];
    GgufWriter w;
    Err err = {0};

    assert_int_equal(gguf_writer_open(&w, path_of(FILE_NAME), GGUF_DEFAULT_ALIGNMENT, &err),
                     ERR_OK);
    if (s->model != NULL)
        gguf_writer_string(&w, "tokenizer.ggml.model", s->model, strlen(s->model));
    if (s->pre != NULL)
        gguf_writer_string(&w, "tokenizer.ggml.pre", s->pre, strlen(s->pre));
    if (s->n_ids >= 0)
        gguf_writer_strings(&w, "tokenizer.ggml.tokens", (size_t)s->n_ids);
    for (int id = 0; id < s->n_ids; id++) {
        if (id < 256) {
            (void)spell_byte(id, spelled);
            gguf_writer_add(&w, spelled, strlen(spelled));
        } else {
            gguf_writer_add(&w, s->more[id - 256], strlen(s->more[id - 256]));
        }
    }
    for (int id = 0; id < N_IDS; id++)
        types[id] = id >= 256 ? s->type[id - 256] : id > 0 && id == s->control_byte ? 3 : 1;
    if (s->n_types >= 0)
        gguf_writer_i32s(&w, "tokenizer.ggml.token_type", types, (size_t)s->n_types);
    if (s->n_merges >= 0)
        gguf_writer_strings(&w, "tokenizer.ggml.merges", (size_t)s->n_merges);
    for (int i = 0; i < s->n_merges; i++)
        gguf_writer_add(&w, s->merge[i], strlen(s->merge[i]));
    if (s->bos != NO_ID)
        gguf_writer_integer(&w, "tokenizer.ggml.bos_token_id", GGUF_META_I64, (uint64_t)s->bos);
    if (s->eos != NO_ID)
        gguf_writer_integer(&w, "tokenizer.ggml.eos_token_id", GGUF_META_I64, (uint64_t)s->eos);
    if (gguf_writer_finish(&w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline Tokenizer *load_spec(const GgufSpec *s)
{
    write_spec(s);
    return load_written();
}

#endif
