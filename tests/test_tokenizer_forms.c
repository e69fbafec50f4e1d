/* tests/test_tokenizer_forms.c: the tokenizer of a GGUF file and the ready one of a packed file
 * give what the JSON form gives. */
#include "tokenizer_file_rig.h"

#include "common/clock.h"

/* --- writing the two forms --- */

static void write_gguf(const Tokenizer *t)
{
    const int n = tokenizer_vocab_size(t), n_merges = tokenizer_n_merges(t);
    int32_t *types = allocate((size_t)n * sizeof types[0]);
    char *text = allocate(MAX_FILE);
    GgufWriter w;
    Err err = {0};

    assert_int_equal(gguf_writer_open(&w, path_of(FILE_NAME), GGUF_DEFAULT_ALIGNMENT, &err),
                     ERR_OK);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_writer_string(&w, "tokenizer.ggml.pre", "gpt-2", 5);
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", (size_t)n);
    for (int id = 0; id < n; id++) {
        types[id] = tokenizer_token_type(t, id);
        gguf_writer_add(&w, text, tokenizer_token_spelled(t, id, text));
    }
    gguf_writer_i32s(&w, "tokenizer.ggml.token_type", types, (size_t)n);
    gguf_writer_strings(&w, "tokenizer.ggml.merges", (size_t)n_merges);
    for (int rank = 0; rank < n_merges; rank++) {
        int left, right;

        tokenizer_merge(t, rank, &left, &right);

        size_t length = tokenizer_token_spelled(t, left, text);

        text[length++] = ' ';
        length += tokenizer_token_spelled(t, right, text + length);
        gguf_writer_add(&w, text, length);
    }
    if (tokenizer_end_of_text(t) >= 0)
        gguf_writer_integer(&w, "tokenizer.ggml.eos_token_id", GGUF_META_U32,
                            (uint64_t)tokenizer_end_of_text(t));
    if (gguf_writer_finish(&w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    free(text);
    free(types);
}

static void write_packed(const Tokenizer *t)
{
    TokenizerPart parts[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];

    tokenizer_parts(t, parts, text);
    write_parts(parts, TOKENIZER_N_PARTS, text, 0);
}

/* The same tokenizer in another form, read back from a file. */
static Tokenizer *convert(const Tokenizer *t, void (*write)(const Tokenizer *))
{
    write(t);

    Tokenizer *back = load_written();

    assert_int_equal(unlink(path_of(FILE_NAME)), 0); /* the mapping holds it */
    return back;
}

/* --- the same results --- */

static void assert_same_tokenizer(const Tokenizer *a, const Tokenizer *b)
{
    assert_int_equal(tokenizer_vocab_size(a), tokenizer_vocab_size(b));
    assert_int_equal(tokenizer_n_merges(a), tokenizer_n_merges(b));
    assert_int_equal(tokenizer_end_of_text(a), tokenizer_end_of_text(b));
    for (int id = 0; id < tokenizer_vocab_size(a); id++) {
        size_t n, m;
        const char *x = tokenizer_token(a, id, &n), *y = tokenizer_token(b, id, &m);

        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        assert_int_equal(tokenizer_token_type(a, id), tokenizer_token_type(b, id));
        assert_int_equal(tokenizer_find(a, x, n), tokenizer_find(b, x, n));
    }
    for (int rank = 0; rank < tokenizer_n_merges(a); rank++) {
        int left[2], right[2];

        tokenizer_merge(a, rank, &left[0], &right[0]);
        tokenizer_merge(b, rank, &left[1], &right[1]);
        assert_int_equal(left[0], left[1]);
        assert_int_equal(right[0], right[1]);
    }
}

/* Runs check on all forms of t, and on a packed file made of the GGUF form. Frees t. */
static void in_all_forms(Tokenizer *t, void (*check)(const Tokenizer *))
{
    Tokenizer *gguf = convert(t, write_gguf), *packed = convert(t, write_packed);
    Tokenizer *packed_gguf = convert(gguf, write_packed);

    assert_string_equal(tokenizer_kind(t), "hf-json");
    assert_string_equal(tokenizer_kind(gguf), "gguf-bpe");
    assert_string_equal(tokenizer_kind(packed), "hf-json");
    assert_string_equal(tokenizer_kind(packed_gguf), "gguf-bpe");
    assert_true(tokenizer_bytes(packed) < tokenizer_bytes(t));
    assert_same_tokenizer(t, gguf);
    assert_same_tokenizer(t, packed);
    assert_same_tokenizer(t, packed_gguf);
    check(gguf);
    check(packed);
    check(packed_gguf);
    tokenizer_free(packed_gguf);
    tokenizer_free(packed);
    tokenizer_free(gguf);
    tokenizer_free(t);
}

static void gpt2_checks(const Tokenizer *t)
{
    assert_int_equal(tokenizer_vocab_size(t), 50257);
    assert_int_equal(tokenizer_end_of_text(t), 50256);
    assert_int_equal(tokenizer_n_merges(t), 50000);
    assert_int_equal(each_line(GPT2 "/vectors.jsonl", t, check_ids), 517);
    assert_int_equal(each_line(GPT2 "/vectors-special.jsonl", t, check_special), 14);
    assert_int_equal(each_line(GPT2 "/vectors-decode.jsonl", t, check_decode), 60);
}

static void gpt2_vectors(void **state)
{
    (void)state;
    in_all_forms(load_gpt2(), gpt2_checks);
}

static void tiny_checks(const Tokenizer *t)
{
    static const int32_t special[] = {64, 511};

    assert_int_equal(each_line(TINY "/reference/tokenizer_vectors.jsonl", t, check_ids), 16);
    assert_ids(t, "a<|endoftext|>", 14, true, special, 2);
}

static void tiny_vectors(void **state)
{
    (void)state;
    in_all_forms(load(TINY), tiny_checks);
}

static void random_texts(const Tokenizer *t)
{
    Tokenizer *json = load(SHAKESPEARE);
    char text[2000];
    int32_t ids[2000];
    uint32_t seed = 11;

    for (int round = 0; round < 300; round++) {
        const size_t n = next_random(&seed) % sizeof text;

        for (size_t i = 0; i < n; i++)
            text[i] = round % 3 == 0 ? (char)next_random(&seed)
                                     : "etaoinshr dlu\n,.'A1"[next_random(&seed) % 19];
        assert_ids(t, text, n, false, ids, encode(json, text, n, false, ids));
        assert_round_trip(t, text, n);
    }
    tokenizer_free(json);
}

static void random_texts_in_all_forms(void **state)
{
    (void)state;
    in_all_forms(load(SHAKESPEARE), random_texts);
}

/* Nothing of the random seed under which the tables were filled is left in them. */
static void the_same_files_make_the_same_parts(void **state)
{
    Tokenizer *a = load(SHAKESPEARE), *b = load(SHAKESPEARE);
    Tokenizer *back = convert(a, write_packed);
    TokenizerPart x[TOKENIZER_N_PARTS], y[TOKENIZER_N_PARTS], z[TOKENIZER_N_PARTS];
    char text_x[TOKENIZER_TEXT_BYTES], text_y[TOKENIZER_TEXT_BYTES], text_z[TOKENIZER_TEXT_BYTES];

    (void)state;
    tokenizer_parts(a, x, text_x);
    tokenizer_parts(b, y, text_y);
    tokenizer_parts(back, z, text_z);
    assert_string_equal(text_x, text_y);
    assert_string_equal(text_x, text_z);
    for (int i = 0; i < TOKENIZER_N_PARTS; i++) {
        assert_int_equal(x[i].n_bytes, y[i].n_bytes);
        assert_int_equal(x[i].n_bytes, z[i].n_bytes);
        assert_memory_equal(x[i].data, y[i].data, x[i].n_bytes);
        assert_memory_equal(x[i].data, z[i].data, x[i].n_bytes);
    }
    tokenizer_free(back);
    tokenizer_free(b);
    tokenizer_free(a);
}

static void spells_tokens_as_files_do(void **state)
{
    Tokenizer *t = load(TINY);
    char out[64], want[3];

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        const char c = (char)byte;
        const size_t n = spell_byte(byte, want);

        assert_int_equal(tokenizer_token_spelled(t, tokenizer_find(t, &c, 1), out), n);
        assert_memory_equal(out, want, n);
    }
    assert_int_equal(tokenizer_token_spelled(t, 511, out), 13);
    assert_memory_equal(out, "<|endoftext|>", 13);
    assert_int_equal(tokenizer_token_type(t, 511), 3);
    assert_int_equal(tokenizer_token_type(t, 0), 1);
    tokenizer_free(t);
}

/* A file that is neither GGUF nor packed stands for its directory. */
static void other_files_stand_for_their_directory(void **state)
{
    Tokenizer *t = load(SHAKESPEARE "/model.safetensors");
    const char *path = path_of(FILE_NAME);
    Err err = {0};

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), 1024);
    assert_string_equal(tokenizer_kind(t), "hf-json");
    tokenizer_free(t);
    t = load(SHAKESPEARE "/config.json");
    assert_int_equal(tokenizer_vocab_size(t), 1024);
    tokenizer_free(t);

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tokenizer_load(&t, path, &err), ERR_IO); /* and does not wait */
    assert_non_null(strstr(err.msg, "not a regular file"));
}

static void the_ready_form_loads_fast(void **state)
{
    enum { ROUNDS = 15 };
    Tokenizer *t = load_gpt2();
    uint64_t best = UINT64_MAX;

    (void)state;
    write_packed(t);
    tokenizer_free(t);
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t start = clock_now_ns();

        t = load_written();

        const uint64_t took = clock_now_ns() - start;

        best = took < best ? took : best;
        tokenizer_free(t);
    }
    printf("# ready form of GPT-2: %.2f ms\n", (double)best * 1e-6);
    if (timing_counts())
        assert_true(best < 10000000); /* 10 ms: three times what it takes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gpt2_vectors, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(tiny_vectors, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(random_texts_in_all_forms, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(the_same_files_make_the_same_parts, make_folder,
                                        leave_folder),
        cmocka_unit_test(spells_tokens_as_files_do),
        cmocka_unit_test_setup_teardown(other_files_stand_for_their_directory, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(the_ready_form_loads_fast, make_folder, leave_folder),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer_forms", tests, NULL, NULL);
}
