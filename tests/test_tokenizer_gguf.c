/* tests/test_tokenizer_gguf.c: which tokens the keys of a GGUF file make special, and which keys
 * and values are refused. */
#include "tokenizer_file_rig.h"

static void refuses(const GgufSpec *s, ErrCode code, const char *problem)
{
    write_spec(s);
    assert_refused(code, problem);
}

static void gguf_types_decide_what_is_special(void **state)
{
    static const int32_t want[] = {256, 258, '<', '|', 'e', 'n', 'd'};
    static const char user[] = "<user> x", pad[] = "[PAD999]";
    GgufSpec s = base_gguf();
    Tokenizer *t = load_spec(&s);
    int32_t ids[40];
    size_t n;

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), N_IDS);
    assert_int_equal(tokenizer_end_of_text(t), 259);
    assert_ids(t, "he the<|end", 11, true, want, 7);
    for (int id = 259; id < N_IDS; id++) {
        const char *text = tokenizer_token(t, id, &n);

        assert_int_equal(tokenizer_token_type(t, id), id - 256);
        assert_int_equal(tokenizer_find(t, text, n), -1);
    }
    /* Never made by encoding, whatever is allowed; their text goes through the bytes. */
    assert_int_equal(encode(t, user, sizeof user - 1, true, ids), sizeof user - 1);
    assert_int_equal(encode(t, pad, sizeof pad - 1, true, ids), sizeof pad - 1);
    assert_memory_equal(tokenizer_token(t, 260, &n), user, sizeof user - 1);
    assert_memory_equal(tokenizer_token(t, 261, &n), pad, sizeof pad - 1);
    tokenizer_free(t);
}

static void gguf_keys_that_may_be_absent(void **state)
{
    static const int32_t want[] = {'a', 259};
    GgufSpec s = base_gguf();

    (void)state;
    s.pre = NULL;
    s.bos = s.eos = NO_ID;
    s.n_types = -1; /* then the names tell */

    Tokenizer *t = load_spec(&s);

    assert_int_equal(tokenizer_end_of_text(t), 259);
    assert_ids(t, "a<|endoftext|>", 14, true, want, 2);
    tokenizer_free(t);

    s = base_gguf();
    s.pre = "default";
    s.eos = NO_ID;
    s.bos = 260; /* not what ends a text */
    t = load_spec(&s);
    assert_int_equal(tokenizer_end_of_text(t), 259);
    tokenizer_free(t);

    s.more[3] = "<other>";
    t = load_spec(&s);
    assert_int_equal(tokenizer_end_of_text(t), -1);
    tokenizer_free(t);
}

/* eos_token_id wins over the name, and its own text is what stands for it. */
static void gguf_names_the_end_of_text(void **state)
{
    static const int32_t want[] = {'a', 260, 'b'}, plain[] = {'a', 256};
    GgufSpec s = base_gguf();
    int32_t ids[40];

    (void)state;
    s.eos = 260;

    Tokenizer *t = load_spec(&s);

    assert_int_equal(tokenizer_end_of_text(t), 260);
    assert_ids(t, "a<user> xb", 10, true, want, 3);
    assert_int_equal(encode(t, "<|endoftext|>", 13, true, ids), 13);
    tokenizer_free(t);

    /* An ordinary token, an unused one and an empty one can end a text, but no text makes them. */
    s.eos = 256;
    t = load_spec(&s);
    assert_ids(t, "ahe", 3, true, plain, 2);
    tokenizer_free(t);
    s.eos = 261;
    t = load_spec(&s);
    assert_int_equal(encode(t, "[PAD999]", 8, true, ids), 8);
    tokenizer_free(t);
    s.eos = 260;
    s.more[4] = "";
    t = load_spec(&s);
    assert_ids(t, "ahe", 3, true, plain, 2);
    tokenizer_free(t);
}

static void gguf_bytes_stay_bytes(void **state)
{
    GgufSpec s = base_gguf();

    (void)state;
    /* The byte "!" once more, as a control token: twice the same. */
    s.more[4] = "!";
    s.type[4] = 3;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.tokens[260]: token \"!\": appears twice");
    /* A control character that is no byte's spelling is a token of its own. */
    s.more[4] = "\xe2\x82\xac";

    Tokenizer *t = load_spec(&s);

    assert_int_equal(tokenizer_token_type(t, 260), 3);
    tokenizer_free(t);

    s.control_byte = '!';
    t = load_spec(&s);
    assert_int_equal(tokenizer_token_type(t, '!'), 1);
    assert_int_equal(tokenizer_find(t, "!", 1), '!');
    tokenizer_free(t);
}

static void refuses_damaged_gguf(void **state)
{
    static const struct {
        const char *model, *pre, *more, *merge; /* NULL: as it is; more: [0], merge: [2] */
        int type, eos;                          /* 0: as it is; type: of more[0] */
        ErrCode code;
        const char *problem;
    } cases[] = {
        {.model = "llama",
         .code = ERR_UNSUPPORTED,
         .problem = "tokenizer.ggml.model is \"llama\", expected \"gpt2\""},
        {.model = "", .code = ERR_UNSUPPORTED, .problem = "tokenizer.ggml.model is \"\""},
        {.pre = "llama-bpe",
         .code = ERR_UNSUPPORTED,
         .problem = "tokenizer.ggml.pre is \"llama-bpe\", expected \"gpt-2\" or \"default\""},
        {.pre = "gpt-2x", .code = ERR_UNSUPPORTED, .problem = "tokenizer.ggml.pre is"},
        {.type = 6,
         .code = ERR_UNSUPPORTED,
         .problem = "tokenizer.ggml.token_type[256]: type 6 (byte)"},
        {.type = 2,
         .code = ERR_UNSUPPORTED,
         .problem = "tokenizer.ggml.token_type[256]: type 2, expected 1"},
        {.type = -1, .code = ERR_UNSUPPORTED, .problem = "type -1, expected 1"},
        {.type = 0x10001, .code = ERR_UNSUPPORTED, .problem = "type 65537, expected 1"},
        {.more = "\xff",
         .code = ERR_FORMAT,
         .problem = "tokenizer.ggml.tokens[256]: token is not valid UTF-8"},
        {.more = "h",
         .code = ERR_FORMAT,
         .problem = "tokenizer.ggml.tokens[256]: token \"h\": appears twice"},
        {.more = "xx",
         .code = ERR_FORMAT,
         .problem = "tokenizer.ggml.merges[0]: \"h\" and \"e\" joined are not in the vocabulary"},
        {.type = 3,
         .code = ERR_FORMAT, /* "he" is literal then */
         .problem = "tokenizer.ggml.merges[0]: \"h\" and \"e\" joined are not in the vocabulary"},
        {.type = 5, .code = ERR_FORMAT, .problem = "tokenizer.ggml.merges[0]: \"h\" and"},
        {.merge = "h e",
         .code = ERR_FORMAT,
         .problem = "tokenizer.ggml.merges[2]: this merge appears twice"},
        {.merge = "he", .code = ERR_FORMAT, .problem = "tokenizer.ggml.merges[2]: malformed merge"},
        {.merge = "", .code = ERR_FORMAT, .problem = "tokenizer.ggml.merges[2]: malformed merge"},
        {.merge = "h e x", .code = ERR_FORMAT, .problem = "merges[2]: malformed merge"},
        {.merge = "h \xff", .code = ERR_FORMAT, .problem = "merges[2]: merge is not valid UTF-8"},
        {.merge = "zz e",
         .code = ERR_FORMAT,
         .problem = "merges[2]: \"zz\" is not in the vocabulary"},
        {.eos = N_IDS, .code = ERR_FORMAT, .problem = "tokenizer.ggml.eos_token_id"},
        {.eos = -1, .code = ERR_FORMAT, .problem = "tokenizer.ggml.eos_token_id"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        GgufSpec s = base_gguf();

        s.model = cases[i].model != NULL ? cases[i].model : s.model;
        s.pre = cases[i].pre != NULL ? cases[i].pre : s.pre;
        s.more[0] = cases[i].more != NULL ? cases[i].more : s.more[0];
        s.merge[2] = cases[i].merge != NULL ? cases[i].merge : s.merge[2];
        s.type[0] = cases[i].type != 0 ? cases[i].type : s.type[0];
        s.eos = cases[i].eos != 0 ? cases[i].eos : s.eos;
        refuses(&s, cases[i].code, cases[i].problem);
    }
}

static void refuses_gguf_with_other_counts(void **state)
{
    const GgufSpec base = base_gguf();
    GgufSpec s = base;

    (void)state;
    s.bos = 300;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.bos_token_id");
    s = base;
    s.model = NULL;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.model");
    s = base;
    s.n_ids = -1;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.tokens");
    s.n_ids = 0;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.tokens: the vocabulary is empty");
    s = base;
    s.n_merges = -1;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.merges");
    s.n_merges = 0;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.merges: no merges");
    s = base;
    s.n_types = N_IDS - 1;
    refuses(&s, ERR_FORMAT,
            "tokenizer.ggml.token_type: 261 elements, expected one for each of "
            "262 tokens");
    s = base;
    s.n_ids = s.n_types = 200;
    s.bos = s.eos = NO_ID;
    refuses(&s, ERR_FORMAT, "tokenizer.ggml.tokens: byte 0xc8 has no token");
}

static void refuses_a_million_and_one_tokens(void **state)
{
    enum { N = TOKENIZER_MAX_VOCAB + 1 };
    char name[16];
    GgufWriter w;
    Err err = {0};

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path_of(FILE_NAME), GGUF_DEFAULT_ALIGNMENT, &err),
                     ERR_OK);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", N);
    for (int i = 0; i < N; i++)
        gguf_writer_add(&w, name, (size_t)sprintf(name, "%d", i));
    gguf_writer_strings(&w, "tokenizer.ggml.merges", 1);
    gguf_writer_add(&w, "1 2", 3);
    assert_int_equal(gguf_writer_finish(&w, &err), ERR_OK);
    assert_refused(ERR_LIMIT, "tokenizer.ggml.tokens: 1000001 tokens, at most 1000000");
}

static void every_prefix_of_a_gguf_file_is_refused(void **state)
{
    const GgufSpec s = base_gguf();
    unsigned char *data;
    size_t size;
    Err err = {0};

    (void)state;
    write_spec(&s);
    data = read_file(path_of(FILE_NAME), &size);
    /* Known as GGUF from 4 bytes on; before, it stands for its directory, which has none. */
    for (size_t n = 1; n < size; n += SANITIZED ? 13 : 3) {
        Tokenizer *t = NULL;

        put_file(FILE_NAME, data, n);
        if (tokenizer_load(&t, path_of(FILE_NAME), &err) == ERR_OK) {
            assert_true(n > size - GGUF_DEFAULT_ALIGNMENT); /* only padding is missing */
            tokenizer_free(t);
        }
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gguf_types_decide_what_is_special, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(gguf_keys_that_may_be_absent, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(gguf_names_the_end_of_text, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(gguf_bytes_stay_bytes, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_gguf, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_gguf_with_other_counts, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_a_million_and_one_tokens, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(every_prefix_of_a_gguf_file_is_refused, make_folder,
                                        leave_folder),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer_gguf", tests, NULL, NULL);
}
