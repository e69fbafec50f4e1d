/* tests/test_quantize.c: the GGUF files that quantize writes give the logits of their source, bit
 * for bit, and say what readers expect. */
#include "model_file_rig.h"

#include "formats/gguf.h"
#include "kernels/pack.h"
#include "model/gpt2_pack.h"

/* --- models of the repository --- */

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
    (void)state;
    MUST_RUN(cli_quantize, "quantize", "--model", SHAKESPEARE, "--type", "q4_0", "--out",
             path_of("a.gguf"));
    assert_same_ids(SHAKESPEARE, path_of("a.gguf"),
                    "First Citizen:\nSpeak,  speak. 1623 \xc3\xa9\xe2\x82\xac<|endoftext|>");
}

/* --- models made in memory, brought in by a packed file --- */

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
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("quantize", tests, make_folder, leave_folder);
}
