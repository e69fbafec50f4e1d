/* tests/test_gguf_model.c: GGUF models: those that quantize writes give the logits of their source,
 * bit for bit; other writers' types are widened; what is no whole GPT-2 is refused by name. */
#include "model_file_rig.h"

#include "formats/gguf.h"
#include "formats/gguf_write.h"
#include "kernels/pack.h"
#include "model/gpt2_pack.h"
#include "model/weight_source.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"

/* --- quantize --- */

static void quantized_files_equal_the_model_converted_at_load(void **state)
{
    static const char *const models[] = {TINY, SHAKESPEARE};

    (void)state;
    for (int i = 0; i < 2; i++)
        for (int type = 0; type < KERN_TYPE_COUNT; type++) {
            const Gpt2LoadOptions options = {.convert = true, .type = (KernType)type};
            Gpt2 direct, file;

            MUST_RUN(cli_quantize, "quantize", "--model", models[i], "--type", type_names[type],
                     "--out", path_of("a.gguf"));
            load_as(&direct, models[i], &options);
            load_model(&file, path_of("a.gguf"));
            assert_string_equal(direct.types, file.types);
            assert_string_equal(direct.types, file.file_types);
            assert_true(same_logits(&direct, &file));
            gpt2_free(&direct);
            gpt2_free(&file);
        }
}

/* F32 holds what every float file holds: no bit may change. */
static void f32_files_equal_the_model_itself(void **state)
{
    static const char *const models[] = {TINY, SHAKESPEARE};
    Gpt2 direct, file;

    (void)state;
    for (int i = 0; i < 2; i++) {
        MUST_RUN(cli_quantize, "quantize", "--model", models[i], "--type", "f32", "--out",
                 path_of("a.gguf"));
        load_model(&direct, models[i]);
        load_model(&file, path_of("a.gguf"));
        assert_string_equal(file.types, "F32");
        assert_true(same_logits(&direct, &file));
        gpt2_free(&file);

        /* ... and the comparison sees a difference. */
        MUST_RUN(cli_quantize, "quantize", "--model", models[i], "--type", "q8_0", "--out",
                 path_of("a.gguf"));
        load_model(&file, path_of("a.gguf"));
        assert_false(same_logits(&direct, &file));
        gpt2_free(&direct);
        gpt2_free(&file);
    }
}

static void tables_have_the_type_that_was_asked_for(void **state)
{
    const struct {
        const char *type, *tables;
        uint32_t projection, table;
    } cases[] = {{"q4_0", NULL, GGUF_Q4_0, GGUF_Q8_0},
                 {"q4_0", "q4_0", GGUF_Q4_0, GGUF_Q4_0},
                 {"q4_0", "f16", GGUF_Q4_0, GGUF_F16},
                 {"q8_0", NULL, GGUF_Q8_0, GGUF_Q8_0},
                 {"f16", "F32", GGUF_F16, GGUF_F32}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Gguf *g = NULL;
        Err err = {0};

        if (cases[i].tables != NULL)
            MUST_RUN(cli_quantize, "quantize", "--model", SHAKESPEARE, "--type", cases[i].type,
                     "--embedding-type", cases[i].tables, "--out", path_of("a.gguf"));
        else
            MUST_RUN(cli_quantize, "quantize", "--model", SHAKESPEARE, "--type", cases[i].type,
                     "--out", path_of("a.gguf"));
        assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_OK);
        assert_int_equal(gguf_find(g, "blk.3.ffn_up.weight")->type, cases[i].projection);
        assert_int_equal(gguf_find(g, "token_embd.weight")->type, cases[i].table);
        assert_int_equal(gguf_find(g, "position_embd.weight")->type, GGUF_F32);
        assert_int_equal(gguf_find(g, "blk.0.attn_qkv.bias")->type, GGUF_F32);
        gguf_close(g);
    }
}

static int64_t integer_of(const Gguf *g, const char *key)
{
    int64_t value = -1;
    Err err = {0};

    if (gguf_integer(g, key, 0, INT32_MAX, &value, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return value;
}

static void assert_text(const Gguf *g, const char *key, const char *want)
{
    GgufText text;
    Err err = {0};

    if (gguf_string(g, key, &text, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(text.n, strlen(want));
    assert_memory_equal(text.text, want, text.n);
}

static void metadata_is_what_readers_expect(void **state)
{
    static const struct {
        const char *type;
        int number;
    } numbers[] = {{"f32", 0}, {"f16", 1}, {"q4_0", 2}, {"q8_0", 7}, {"bf16", 32}};

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        Gguf *g = NULL;
        float eps = 0.0f;
        Err err = {0};

        MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", numbers[i].type, "--out",
                 path_of("a.gguf"));
        assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_OK);
        assert_text(g, "general.architecture", "gpt2");
        assert_text(g, "general.name", "tiny-gpt2");
        assert_int_equal(integer_of(g, "general.file_type"), numbers[i].number);
        assert_int_equal(integer_of(g, "general.quantization_version"), 2);
        assert_int_equal(integer_of(g, "gpt2.context_length"), 64);
        assert_int_equal(integer_of(g, "gpt2.embedding_length"), 48);
        assert_int_equal(integer_of(g, "gpt2.feed_forward_length"), 192);
        assert_int_equal(integer_of(g, "gpt2.block_count"), 3);
        assert_int_equal(integer_of(g, "gpt2.attention.head_count"), 4);
        assert_int_equal(gguf_f32(g, "gpt2.attention.layer_norm_epsilon", &eps, NULL, &err),
                         ERR_OK);
        assert_true(eps == 1e-5f);
        assert_text(g, "tokenizer.ggml.model", "gpt2");
        assert_text(g, "tokenizer.ggml.pre", "gpt-2");
        assert_int_equal(integer_of(g, "tokenizer.ggml.bos_token_id"), 511);
        assert_int_equal(integer_of(g, "tokenizer.ggml.eos_token_id"), 511);
        gguf_close(g);
    }
}

/* Rows first listed by their length, and one row per output. */
static void tensors_lie_as_readers_expect(void **state)
{
    const float *floats;
    const GgufTensor *t;
    Gguf *g = NULL;
    Gpt2 m;
    Err err = {0};

    (void)state;
    MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", "f32", "--out",
             path_of("a.gguf"));
    load_model(&m, TINY);
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_OK);
    t = gguf_find(g, "blk.1.attn_qkv.weight");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 48);
    assert_int_equal(t->dims[1], 144);
    for (size_t row = 0; row < 144; row++) {
        float want[48];

        kern_unpack_row(want, &m.blocks[1].attention.qkv.c_attn.w, row);
        assert_memory_equal(t->data + row * sizeof want, want, sizeof want);
    }
    t = gguf_find(g, "position_embd.weight");
    assert_int_equal(t->dims[0], 48);
    assert_int_equal(t->dims[1], 64);
    assert_memory_equal(t->data, m.embedding.wpe, t->n_bytes);
    t = gguf_find(g, "output_norm.bias");
    assert_int_equal(t->n_dims, 1);
    floats = m.ln_f.beta;
    assert_memory_equal(t->data, floats, t->n_bytes);
    assert_null(gguf_find(g, "output.weight")); /* tied */
    gguf_close(g);
    gpt2_free(&m);
}

static void same_model_same_bytes(void **state)
{
    (void)state;
    MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", "q8_0", "--out",
             path_of("a.gguf"));
    MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", "Q8_0", "--out",
             path_of("b.gguf"));
    assert_same_files("a.gguf", "b.gguf");
}

static void tokenizers_come_along(void **state)
{
    static const char text[] =
        "First Citizen:\nSpeak,  speak. 1623 \xc3\xa9\xe2\x82\xac<|endoftext|>";
    Tokenizer *t[2] = {NULL, NULL};
    int32_t ids[2][sizeof text];
    size_t n[2];
    Err err = {0};

    (void)state;
    MUST_RUN(cli_quantize, "quantize", "--model", SHAKESPEARE, "--type", "q4_0", "--out",
             path_of("a.gguf"));
    for (int i = 0; i < 2; i++) {
        TokenizerScratch *s = tokenizer_scratch_new(sizeof text);

        assert_int_equal(tokenizer_load(&t[i], i == 0 ? SHAKESPEARE : path_of("a.gguf"), &err),
                         ERR_OK);
        n[i] = tokenizer_encode(t[i], s, text, sizeof text - 1, true, ids[i]);
        tokenizer_scratch_free(s);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], n[0] * sizeof ids[0][0]);
    assert_int_equal(tokenizer_end_of_text(t[0]), tokenizer_end_of_text(t[1]));
    for (int i = 0; i < 2; i++)
        tokenizer_free(t[i]);
}

/* --- models that no directory of the repository has: made in memory, brought in by a packed file
 * ---
 */

/* A packed file of m with the tokenizer of TINY. */
static void write_packed(Gpt2 *m, const char *path)
{
    Gpt2PackExtra extra = {.n_parts = TOKENIZER_N_PARTS, .text_key = TOKENIZER_TEXT_KEY};
    const Gpt2Progress progress = {.progress = NULL};
    TokenizerPart parts[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];
    Tokenizer *t = NULL;
    Err err = {0};

    if (tokenizer_load(&t, TINY, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    tokenizer_parts(t, parts, text);
    extra.text = text;
    for (size_t i = 0; i < TOKENIZER_N_PARTS; i++)
        extra.parts[i] = (Gpt2PackPart){parts[i].name, parts[i].dtype, parts[i].n, parts[i].data,
                                        parts[i].n_bytes};
    (void)snprintf(m->file_types, sizeof m->file_types, "F32");
    if (gpt2_pack_write(m, path, &extra, &progress, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    tokenizer_free(t);
}

static void an_own_head_is_kept(void **state)
{
    Gpt2Config c = small_config();
    Gpt2 m, file;

    (void)state;
    c.tied_head = false;
    random_model(&m, &c);
    write_packed(&m, path_of("own.packed"));
    MUST_RUN(cli_quantize, "quantize", "--model", path_of("own.packed"), "--type", "f32", "--out",
             path_of("own.gguf"));
    load_model(&file, path_of("own.gguf"));
    assert_false(file.config.tied_head);
    assert_int_equal(file.n_params, m.n_params);
    assert_true(same_logits(&m, &file));
    gpt2_free(&file);
    gpt2_free(&m);
}

/* wide.gguf has eight rows more than the tokenizer has tokens. */
static void write_wide(void)
{
    Gpt2Config c = small_config();
    Gpt2 m;

    c.vocab_size = 520;
    random_model(&m, &c);
    write_packed(&m, path_of("wide.packed"));
    gpt2_free(&m);
    MUST_RUN(cli_quantize, "quantize", "--model", path_of("wide.packed"), "--type", "f32", "--out",
             path_of("wide.gguf"));
}

static void rows_beyond_the_tokenizer_become_unused_tokens(void **state)
{
    static const char want[] = "[PAD512]";
    GgufArray tokens, types;
    GgufText text = {NULL, 0};
    int32_t type = 0;
    Gguf *g = NULL;
    Err err = {0};

    (void)state;
    write_wide();
    assert_int_equal(gguf_open(&g, path_of("wide.gguf"), &err), ERR_OK);
    assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", GGUF_META_STRING, &tokens, NULL, &err),
                     ERR_OK);
    assert_int_equal(gguf_array(g, "tokenizer.ggml.token_type", GGUF_META_I32, &types, NULL, &err),
                     ERR_OK);
    assert_int_equal(tokens.n, 520);
    assert_int_equal(types.n, 520);
    for (int id = 0; id <= 512; id++) {
        assert_true(gguf_next_string(&tokens, &text));
        assert_true(gguf_next_i32(&types, &type));
    }
    assert_int_equal(text.n, strlen(want));
    assert_memory_equal(text.text, want, text.n);
    assert_int_equal(type, 5);
    gguf_close(g);
}

/* The bytes that a text produces must not depend on the form of the file. */
static void padding_is_no_candidate_for_a_token(void **state)
{
    Tokenizer *t = NULL;
    Err err = {0};

    (void)state;
    write_wide();
    assert_int_equal(tokenizer_load(&t, path_of("wide.gguf"), &err), ERR_OK);
    assert_int_equal(tokenizer_vocab_size(t), 512);
    tokenizer_free(t);
}

static void what_gguf_cannot_express_is_refused(void **state)
{
    const Gpt2Config plain = small_config();
    enum { N_CASES = 7, N_REFUSED = 6 };
    Gpt2Config cases[N_CASES];
    static const char *const parts[] = {"activation_function is gelu,",
                                        "activation_function is relu,",
                                        "scale_attn_weights is false",
                                        "scale_attn_by_inverse_layer_idx is true",
                                        "eos_token_id lists 2 tokens",
                                        "eos_token_id names no token",
                                        ""};

    (void)state;
    for (int i = 0; i < N_CASES; i++)
        cases[i] = plain;
    cases[0].activation = ACT_GELU_ERF;
    cases[0].activation_name = "gelu";
    cases[1].activation = ACT_RELU;
    cases[1].activation_name = "relu";
    cases[2].scale_attn = false;
    cases[3].scale_attn_by_layer = true;
    cases[4].n_eos = 2;
    cases[4].eos_ids[1] = 1;
    cases[5].n_eos = 0;
    cases[6].activation_name = "gelu_pytorch_tanh"; /* the same function: accepted */
    for (int i = 0; i < N_CASES; i++) {
        char message[MESSAGE_BYTES];
        Gpt2 m;

        random_model(&m, &cases[i]);
        write_packed(&m, path_of("odd.packed"));
        gpt2_free(&m);
        assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                     path_of("odd.packed"), "--type", "f32", "--out",
                                     path_of("odd.gguf"), NULL),
                         i < N_REFUSED ? 1 : 0);
        assert_has(message, parts[i]);
        assert_has(message, i < N_REFUSED ? "llorch-cpud pack keeps such models" : "");
        assert_int_equal(access(path_of("odd.gguf"), F_OK), i < N_REFUSED ? -1 : 0);
    }
}

static void wrong_arguments_are_named(void **state)
{
    char message[MESSAGE_BYTES];
    const int before = count_files(false);

    (void)state;
    assert_int_equal(
        run_command(cli_quantize, message, NULL, "quantize", "--out", path_of("x.gguf"), NULL), 2);
    assert_has(message, "--type is missing");
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--type", "f16", NULL),
                     2);
    assert_has(message, "--out FILE is missing");
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model", TINY, "--type",
                                 "q5_0", "--out", path_of("x.gguf"), NULL),
                     2);
    assert_has(message, "--type: q5_0: expected f32, f16, bf16, q8_0 or q4_0");
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model", TINY, "--type",
                                 "f16", "--embedding-type", "q6", "--out", path_of("x.gguf"), NULL),
                     2);
    assert_has(message, "--embedding-type: q6: expected");
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model", TINY, "--type",
                                 "f16", "--out", folder, NULL),
                     2);
    assert_has(message, "is a directory, expected the name of a file");
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model", TINY, "--type",
                                 "f16", "--out", path_of("no/where.gguf"), NULL),
                     1);
    assert_has(message, "no/where.gguf");
    assert_has(message, "No such file or directory");
    MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", "f16", "--out",
             path_of("self.gguf"));
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                 path_of("self.gguf"), "--type", "q8_0", "--out",
                                 path_of("self.gguf"), NULL),
                     2);
    assert_has(message, "is a file of the model; choose another name");
    assert_int_equal(unlink(path_of("self.gguf")), 0);
    assert_int_equal(count_files(false), before);
}

static void the_summary_names_the_file(void **state)
{
    char message[MESSAGE_BYTES], output[MESSAGE_BYTES];

    (void)state;
    assert_int_equal(run_command(cli_quantize, message, output, "quantize", "--model", SHAKESPEARE,
                                 "--type", "q4_0", "--out", path_of("sum.gguf"), NULL),
                     0);
    assert_has(output, path_of("sum.gguf"));
    assert_has(output, "1471712 bytes (1.4 MiB), Q8_0+Q4_0, 18.2 % of the weights in f32\n");
}

/* --- files of other writers --- */

typedef struct {
    Gpt2 *m;
    GgufWriter w;
    uint32_t type; /* of the matrices whose rows are whole blocks; the others are F32 */
    bool widened;  /* the values of such blocks, as F32 */
    const char *architecture;
    const char *omit;     /* this tensor is not written */
    const char *misshape; /* this one gets another shape */
    const char *key;      /* this metadata is not written */
    bool copy_head;       /* the token embedding a second time, as output.weight */
    bool change_head;     /* ... with another value */
    const char *damage;   /* row 2 of this tensor begins with ... */
    const void *bytes;    /* ... these */
    size_t n_bytes;
} Plan;

/* Where the f16 scales lie in a block. */
static const struct {
    uint32_t type;
    int scales[2]; /* -1: none */
} scale_places[] = {
    {GGUF_Q4_1, {0, 2}},    {GGUF_Q5_0, {0, -1}}, {GGUF_Q5_1, {0, 2}}, {GGUF_Q2_K, {80, 82}},
    {GGUF_Q3_K, {108, -1}}, {GGUF_Q4_K, {0, 2}},  {GGUF_Q5_K, {0, 2}}, {GGUF_Q6_K, {208, -1}},
    {GGUF_Q8_0, {0, -1}},   {GGUF_Q4_0, {0, -1}},
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static void random_block(unsigned char *block, uint32_t type, uint32_t *random)
{
    const GgufType *t = gguf_type(type);

    for (unsigned i = 0; i < t->block_bytes; i++)
        block[i] = (unsigned char)next_random(random);
    if (type == GGUF_F64)
        memcpy(block, &(double){(double)next_random(random) * 0x1p-20}, sizeof(double));
    for (size_t i = 0; i < sizeof scale_places / sizeof scale_places[0]; i++)
        for (int j = 0; j < 2 && scale_places[i].type == type; j++)
            if (scale_places[i].scales[j] >= 0) /* 2^-11 and less, of either sign */
                block[scale_places[i].scales[j] + 1] =
                    (unsigned char)((next_random(random) & 0x80) | (next_random(random) & 0x0f));
}

static uint32_t type_of(const Plan *p, const WeightSlot *slot)
{
    if (slot->matrix == NULL || slot->k % gguf_type(p->type)->block != 0)
        return GGUF_F32;
    return p->widened ? (uint32_t)GGUF_F32 : p->type;
}

static void name_of(char name[64], const WeightSlot *slot)
{
    weight_source_gguf_name(name, 64, slot->name);
}

static bool is(const char *wanted, const char *name)
{
    return wanted != NULL && strcmp(wanted, name) == 0;
}

static bool list_slot(void *ctx, const WeightSlot *slot)
{
    Plan *p = ctx;
    size_t dims[2] = {slot->kind == WEIGHT_VECTOR ? slot->n : slot->k, slot->n};
    char name[64];

    name_of(name, slot);
    if (is(p->omit, name))
        return true;
    if (is(p->misshape, name))
        dims[slot->kind == WEIGHT_VECTOR ? 0 : 1] += 1;
    gguf_writer_tensor(&p->w, name, type_of(p, slot), slot->kind == WEIGHT_VECTOR ? 1 : 2, dims);
    return true;
}

static void write_row(Plan *p, const WeightSlot *slot, size_t row, bool damaged, uint32_t *random)
{
    const GgufType *t = gguf_type(p->type);
    unsigned char block[512];
    float values[1024];

    assert_true(slot->k <= 1024 && t->block_bytes <= sizeof block);
    if (p->type == GGUF_F32 || slot->k % t->block != 0) {
        kern_unpack_row(values, slot->matrix, row);
        (void)gguf_writer_data(&p->w, values, slot->k * sizeof values[0]);
        return;
    }
    for (size_t i = 0; i < slot->k; i += t->block) {
        random_block(block, p->type, random);
        if (damaged && i == 0)
            memcpy(block, p->bytes, p->n_bytes);
        assert_true(gguf_widen(values, block, p->type, t->block));
        if (p->widened)
            (void)gguf_writer_data(&p->w, values, t->block * sizeof values[0]);
        else
            (void)gguf_writer_data(&p->w, block, t->block_bytes);
    }
}

static bool write_slot(void *ctx, const WeightSlot *slot)
{
    Plan *p = ctx;
    uint32_t random = 1;
    char name[64];

    name_of(name, slot);
    for (size_t i = 0; name[i] != '\0'; i++)
        random = random * 31 + (unsigned char)name[i];
    if (is(p->omit, name))
        return true;
    if (slot->matrix == NULL) {
        (void)gguf_writer_data(&p->w, *slot->floats, slot->n * slot->k * sizeof(float));
        if (is(p->misshape, name)) /* a row, or an element */
            (void)gguf_writer_data(&p->w, *slot->floats, slot->k * sizeof(float));
        return true;
    }
    for (size_t row = 0; row < slot->n + (is(p->misshape, name) ? 1 : 0); row++)
        write_row(p, slot, row < slot->n ? row : 0, row == 2 && is(p->damage, name), &random);
    return true;
}

static void write_integer(Plan *p, const char *key, int value)
{
    if (!is(p->key, key))
        gguf_writer_integer(&p->w, key, GGUF_META_U32, (uint64_t)value);
}

static void write_keys(Plan *p)
{
    const Gpt2Config *c = &p->m->config;
    const char *architecture = p->architecture != NULL ? p->architecture : "gpt2";

    if (!is(p->key, "general.architecture"))
        gguf_writer_string(&p->w, "general.architecture", architecture, strlen(architecture));
    write_integer(p, "gpt2.context_length", c->n_ctx);
    write_integer(p, "gpt2.embedding_length", c->dim);
    write_integer(p, "gpt2.feed_forward_length", c->ffn_dim);
    write_integer(p, "gpt2.block_count", c->n_layers);
    write_integer(p, "gpt2.attention.head_count", c->n_heads);
    if (!is(p->key, "gpt2.attention.layer_norm_epsilon"))
        gguf_writer_f32(&p->w, "gpt2.attention.layer_norm_epsilon", c->eps);
}

static void write_head_copy(Plan *p)
{
    const KernMatrix *wte = &p->m->embedding.wte;
    float row[1024];

    for (int i = 0; i < wte->n; i++) {
        kern_unpack_row(row, wte, (size_t)i);
        if (p->change_head && i == 7)
            row[3] += 1.0f;
        (void)gguf_writer_data(&p->w, row, (size_t)wte->k * sizeof row[0]);
    }
}

static void write_gguf(Plan *p, const char *path)
{
    const size_t head[2] = {(size_t)p->m->config.dim, (size_t)p->m->config.vocab_size};
    Err err = {0};

    if (gguf_writer_open(&p->w, path, GGUF_DEFAULT_ALIGNMENT, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    write_keys(p);
    (void)weights_each(p->m, list_slot, p);
    if (p->copy_head)
        gguf_writer_tensor(&p->w, "output.weight", GGUF_F32, 2, head);
    (void)weights_each(p->m, write_slot, p);
    if (p->copy_head)
        write_head_copy(p);
    if (gguf_writer_finish(&p->w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void other_types_equal_their_values_in_f32(void **state)
{
    Gpt2Config c;
    Gpt2 m, file, values;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, "1,4,256,16,300", &err), ERR_OK);
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof scale_places / sizeof scale_places[0]; i++) {
        const uint32_t type = scale_places[i].type;
        const bool computed = type == GGUF_Q8_0 || type == GGUF_Q4_0;
        const Gpt2LoadOptions as_f32 = {.convert = true, .type = KERN_F32};

        write_gguf(&(Plan){.m = &m, .type = type}, path_of("a.gguf"));
        write_gguf(&(Plan){.m = &m, .type = type, .widened = true}, path_of("b.gguf"));
        load_as(&file, path_of("a.gguf"), computed ? &as_f32 : NULL);
        load_model(&values, path_of("b.gguf"));
        assert_string_equal(file.file_types, gguf_type(type)->name);
        assert_string_equal(file.types, "F32");
        assert_true(same_logits(&file, &values));
        gpt2_free(&file);
        gpt2_free(&values);
    }
    gpt2_free(&m);
}

static void types_without_a_definition_here_are_refused_by_name(void **state)
{
    static const uint32_t types[] = {GGUF_IQ4_XS, GGUF_TQ1_0, GGUF_I8};
    Gpt2Config c;
    Gpt2 m;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, "1,4,256,16,300", &err), ERR_OK);
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const GgufType *t = gguf_type(types[i]);
        const size_t dims[2] = {256, 300};
        static const unsigned char zeros[512];
        Plan p = {.m = &m, .type = types[i]};

        assert_int_equal(gguf_writer_open(&p.w, path_of("a.gguf"), 32, &err), ERR_OK);
        write_keys(&p);
        gguf_writer_tensor(&p.w, "token_embd.weight", types[i], 2, dims);
        for (size_t b = 0; b < dims[0] * dims[1] / t->block; b++)
            (void)gguf_writer_data(&p.w, zeros, t->block_bytes);
        assert_int_equal(gguf_writer_finish(&p.w, &err), ERR_OK);
        assert_refused(path_of("a.gguf"), ERR_UNSUPPORTED, t->name);
        assert_refused(path_of("a.gguf"), ERR_UNSUPPORTED, "token_embd.weight");
    }
    gpt2_free(&m);
}

/* Types that are widened to F32 on the way: the message tells what is no number from what is only
 * too large for the type that was asked for. */
static void elements_of_other_types_are_refused_with_the_reason(void **state)
{
    static const double large = 1e5, huge = 1e300, infinite = 1.0 / 0.0;
    static const uint16_t scale = 0x7b00, scale_inf = 0x7c00;
    const struct {
        uint32_t type;
        const void *bytes;
        size_t n_bytes;
        const char *part;
    } cases[] = {
        {GGUF_F64, &large, 8, ": element 512, 100000, is beyond the range of F16"},
        {GGUF_F64, &huge, 8, ": element 512 is not finite as F32"},
        {GGUF_F64, &infinite, 8, ": element 512 is not finite as F32"},
        {GGUF_Q4_1, &scale, 2, ", is beyond the range of F16"},
        {GGUF_Q4_1, &scale_inf, 2, " is not finite as F32"},
        {GGUF_Q4_K, &scale, 2, ", is beyond the range of F16"},
        {GGUF_Q4_K, &scale_inf, 2, " is not finite as F32"},
    };
    Gpt2Config c;
    Gpt2 m;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_shape_parse(&c, "1,4,256,16,300", &err), ERR_OK);
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[MESSAGE_BYTES];

        write_gguf(&(Plan){.m = &m,
                           .type = cases[i].type,
                           .damage = "blk.0.attn_qkv.weight",
                           .bytes = cases[i].bytes,
                           .n_bytes = cases[i].n_bytes},
                   path_of("a.gguf"));
        assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                     path_of("a.gguf"), "--type", "f16", "--out", path_of("b.gguf"),
                                     NULL),
                         1);
        assert_has(message, "tensor blk.0.attn_qkv.weight: element 5");
        assert_has(message, cases[i].part);
    }
    gpt2_free(&m);
}

static void a_copied_head_counts_as_tied(void **state)
{
    const Gpt2Config c = small_config();
    Gpt2 m, file;

    (void)state;
    random_model(&m, &c);
    write_gguf(&(Plan){.m = &m, .copy_head = true}, path_of("a.gguf"));
    load_model(&file, path_of("a.gguf"));
    assert_true(file.config.tied_head);
    assert_ptr_equal(file.head.w.panels, file.embedding.wte.panels);
    assert_true(same_logits(&m, &file));
    gpt2_free(&file);

    write_gguf(&(Plan){.m = &m, .copy_head = true, .change_head = true}, path_of("a.gguf"));
    load_model(&file, path_of("a.gguf"));
    assert_false(file.config.tied_head);
    assert_false(same_logits(&m, &file));
    gpt2_free(&file);
    gpt2_free(&m);
}

static void incomplete_models_are_refused_by_name(void **state)
{
    const Gpt2Config c = small_config();
    const struct {
        Plan plan;
        ErrCode code;
        const char *part;
    } cases[] = {
        {{.omit = "token_embd.weight"}, ERR_FORMAT, "tensor token_embd.weight is missing"},
        {{.omit = "position_embd.weight"}, ERR_FORMAT, "tensor position_embd.weight is missing"},
        {{.omit = "blk.1.ffn_down.bias"}, ERR_FORMAT, "tensor blk.1.ffn_down.bias is missing"},
        {{.omit = "output_norm.weight"}, ERR_FORMAT, "tensor output_norm.weight is missing"},
        {{.misshape = "blk.0.attn_qkv.weight"},
         ERR_FORMAT,
         "tensor blk.0.attn_qkv.weight: shape [64, 193], expected [64, 192]"},
        {{.misshape = "position_embd.weight"},
         ERR_FORMAT,
         "tensor position_embd.weight: shape [64, 33], expected [64, 32]"},
        {{.misshape = "blk.1.attn_norm.bias"},
         ERR_FORMAT,
         "tensor blk.1.attn_norm.bias: shape [65], expected [64]"},
        {{.architecture = "llama"},
         ERR_UNSUPPORTED,
         "general.architecture is llama, expected gpt2"},
        {{.key = "general.architecture"}, ERR_FORMAT, "general.architecture"},
        {{.key = "gpt2.block_count"}, ERR_FORMAT, "gpt2.block_count"},
        {{.key = "gpt2.attention.head_count"}, ERR_FORMAT, "gpt2.attention.head_count"},
        {{.key = "gpt2.attention.layer_norm_epsilon"},
         ERR_FORMAT,
         "gpt2.attention.layer_norm_epsilon"},
    };
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Plan p = cases[i].plan;

        p.m = &m;
        write_gguf(&p, path_of("a.gguf"));
        assert_refused(path_of("a.gguf"), cases[i].code, cases[i].part);
    }
    gpt2_free(&m);
}

/* Sizes that do not fit each other, or the tensors. */
static void sizes_are_checked(void **state)
{
    const Gpt2Config c = small_config();
    const struct {
        int layers, heads, width, positions;
        const char *part;
    } cases[] = {{1, 4, 64, 32, "blk.1.attn_norm.weight exists, but the model has 1 layers"},
                 {3, 4, 64, 32, "tensor blk.2.attn_norm.weight is missing"},
                 {2, 5, 64, 32, "hidden_dim must be divisible by num_heads, found 64 and 5"},
                 {2, 4, 128, 32, "shape [64, 512], expected [128, 512]"},
                 {2, 4, 64, 33, "tensor position_embd.weight: shape [64, 32], expected [64, 33]"}};
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Gpt2 lies = m;
        Plan p = {.m = &lies};
        Err err = {0};

        assert_int_equal(gguf_writer_open(&p.w, path_of("a.gguf"), 32, &err), ERR_OK);
        lies.config.n_layers = cases[i].layers;
        lies.config.n_heads = cases[i].heads;
        lies.config.dim = cases[i].width;
        lies.config.n_ctx = cases[i].positions;
        write_keys(&p);
        p.m = &m;
        (void)weights_each(&m, list_slot, &p);
        (void)weights_each(&m, write_slot, &p);
        if (gguf_writer_finish(&p.w, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_refused(path_of("a.gguf"), ERR_FORMAT, cases[i].part);
    }
    gpt2_free(&m);
}

static void weights_that_are_not_finite_are_refused(void **state)
{
    const Gpt2Config c = small_config();
    char message[MESSAGE_BYTES];
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    m.config.eps = 2.0f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_refused(path_of("a.gguf"), ERR_FORMAT, "layer_norm_epsilon must be at most 1, found 2");
    m.config.eps = c.eps;
    ((float *)(uintptr_t)m.embedding.wte.panels)[0] = 1e6f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                 path_of("a.gguf"), "--type", "f16", "--out", path_of("b.gguf"),
                                 NULL),
                     1);
    assert_has(message, "tensor token_embd.weight: element 0, 1000000, is beyond the range of F16");
    ((float *)(uintptr_t)m.embedding.wte.panels)[0] = 1.0f / 0.0f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_refused(path_of("a.gguf"), ERR_NUMERIC,
                   "tensor token_embd.weight: element 0 is not finite");
    gpt2_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantized_files_equal_the_model_converted_at_load),
        cmocka_unit_test(f32_files_equal_the_model_itself),
        cmocka_unit_test(tables_have_the_type_that_was_asked_for),
        cmocka_unit_test(metadata_is_what_readers_expect),
        cmocka_unit_test(tensors_lie_as_readers_expect),
        cmocka_unit_test(same_model_same_bytes),
        cmocka_unit_test(tokenizers_come_along),
        cmocka_unit_test(an_own_head_is_kept),
        cmocka_unit_test(rows_beyond_the_tokenizer_become_unused_tokens),
        cmocka_unit_test(padding_is_no_candidate_for_a_token),
        cmocka_unit_test(what_gguf_cannot_express_is_refused),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(the_summary_names_the_file),
        cmocka_unit_test(other_types_equal_their_values_in_f32),
        cmocka_unit_test(types_without_a_definition_here_are_refused_by_name),
        cmocka_unit_test(elements_of_other_types_are_refused_with_the_reason),
        cmocka_unit_test(a_copied_head_counts_as_tied),
        cmocka_unit_test(incomplete_models_are_refused_by_name),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(weights_that_are_not_finite_are_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("gguf model", tests, make_folder, leave_folder);
}
