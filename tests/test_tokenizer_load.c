/* tests/test_tokenizer_load.c: files of a tokenizer in all their forms, and damaged ones. */
#include "tokenizer_rig.h"

static void base_vocab(char out[MAX_FILE])
{
    const size_t n = 1 + print_bytes(out + 1);

    out[0] = '{';
    (void)snprintf(out + n, MAX_FILE - n,
                   "\"he\": 256, \"" BLANK "t\": 257, \"" BLANK
                   "the\": 258, \"<|endoftext|>\": 259}");
}

static const char base_merges[] = "#version: 0.2\nh e\n" BLANK " t\n" BLANK "t he\n";

static void base_json(char out[MAX_FILE])
{
    char *vocab = allocate(MAX_FILE);

    base_vocab(vocab);
    (void)snprintf(
        out, MAX_FILE,
        "{\"added_tokens\": [{\"id\": 259, \"content\": \"<|endoftext|>\", \"special\": true}], "
        "\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": false}, \"model\": {\"type\": \"BPE\", \"dropout\": null, "
        "\"vocab\": %s, \"merges\": [\"h e\", \"" BLANK " t\", [\"" BLANK "t\", \"he\"]]}}",
        vocab);
    free(vocab);
}

static void assert_loads(void)
{
    static const int32_t want[] = {256, 258};
    Tokenizer *t = load(folder);

    assert_int_equal(tokenizer_vocab_size(t), 260);
    assert_int_equal(tokenizer_end_of_text(t), 259);
    assert_ids(t, "he the", 6, false, want, 2);
    assert_round_trip(t, "he the\xff", 7);
    tokenizer_free(t);
}

/* The file name and the problem must both be in the one line of the message. */
static void assert_refused(ErrCode code, const char *file, const char *problem)
{
    Err err;

    fails_to_load(folder, code, problem, &err);
    if (strstr(err.msg, file) == NULL)
        fail_msg("got: %s\nexpected: %s", err.msg, file);
}

static void accepts_what_files_may_look_like(void **state)
{
    static const char *const merges[] = {
        base_merges,
        "h e\n" BLANK " t\n" BLANK "t he\n",                        /* no version */
        "#version: 0.2\nh e\n" BLANK " t\n" BLANK "t he",           /* no last line feed */
        "#version: 0.2\r\nh e\r\n" BLANK " t\r\n" BLANK "t he\r\n", /* CR LF */
        "\n\nh e\n\n" BLANK " t\n" BLANK "t he\n\n\n",              /* empty lines */
    };
    char *text = allocate(MAX_FILE);

    (void)state;
    base_vocab(text);
    put_file("vocab.json", text, strlen(text));
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++) {
        put_file("merges.txt", merges[i], strlen(merges[i]));
        assert_loads();
    }
    /* Without merges.txt the other form is taken. */
    remove_files(file_names, N_FILE_NAMES);
    put_file("vocab.json", "{}", 2);
    base_json(text);
    put_file("tokenizer.json", text, strlen(text));
    assert_loads();
    /* Early files: no model type, no added tokens; all merges in one spelling. */
    replace(text, MAX_FILE, "\"type\": \"BPE\", ", "");
    replace(text, MAX_FILE, "{\"id\": 259, \"content\": \"<|endoftext|>\", \"special\": true}", "");
    replace(text, MAX_FILE, "[\"" BLANK "t\", \"he\"]", "\"" BLANK "t he\"");
    put_file("tokenizer.json", text, strlen(text));
    assert_loads();
    free(text);
}

static void added_tokens_get_their_ids(void **state)
{
    static const int32_t plain[] = {'<', 'p', '>', ' '};
    char *text = allocate(MAX_FILE);
    size_t n;

    (void)state;
    base_json(text);
    /* "!" is a byte that was declared special; " <p>" is a new token, spelled literally. */
    replace(text, MAX_FILE, "\"added_tokens\": [",
            "\"added_tokens\": [{\"id\": 33, \"content\": \"!\", \"special\": true}, "
            "{\"id\": 260, \"content\": \" <p>\", \"special\": true}, ");
    put_file("tokenizer.json", text, strlen(text));

    Tokenizer *t = load(folder);

    assert_int_equal(tokenizer_vocab_size(t), 261);
    assert_int_equal(tokenizer_find(t, "!", 1), 33);
    assert_int_equal(tokenizer_find(t, " <p>", 4), -1);
    assert_memory_equal(tokenizer_token(t, 260, &n), " <p>", 4);
    assert_int_equal(n, 4);
    assert_ids(t, "<p> ", 4, true, plain, 4);
    tokenizer_free(t);
    free(text);
}

typedef struct {
    const char *find, *with; /* in the file to damage */
    ErrCode code;
    const char *problem; /* part of the message */
} Damage;

/* A good file of that name, each damage in turn. */
static void refuses_each(const Damage *cases, size_t n, const char *name, void (*good)(char *))
{
    char *text = allocate(MAX_FILE);

    for (size_t i = 0; i < n; i++) {
        good(text);
        replace(text, MAX_FILE, cases[i].find, cases[i].with);
        put_file(name, text, strlen(text));
        assert_refused(cases[i].code, name, cases[i].problem);
    }
    free(text);
}

static void refuses_damaged_vocabularies(void **state)
{
    static const Damage cases[] = {
        {"\"he\": 256", "\"he\": 260", ERR_FORMAT, "token \"he\": id 260, expected 0 to 259"},
        {"\"he\": 256", "\"he\": 2000000000", ERR_FORMAT, "id 2000000000"},
        {"\"he\": 256", "\"he\": 4294967552", ERR_FORMAT, "id 4294967552"},
        {"\"he\": 256", "\"he\": -1", ERR_FORMAT, "id -1"},
        {"\"he\": 256", "\"he\": 257", ERR_FORMAT, "id 257 belongs to another token"},
        {"\"he\": 256", "\"he\": 256.0", ERR_FORMAT, "token \"he\": id is not an integer"},
        {"\"he\": 256", "\"he\": \"256\"", ERR_FORMAT, "id is not an integer"},
        {"\"he\": 256", "\"he\": true", ERR_FORMAT, "id is not an integer"},
        {"\"he\": 256", "\"he\": 99999999999999999999", ERR_FORMAT, "vocab.json"},
        {"\"he\": 256", "\"he\": 256, \"he\": 256", ERR_FORMAT, "duplicate"},
        {"\"he\": 256", "\"he\": 256, \"h\\u0065\": 256", ERR_FORMAT, "duplicate"},
        {"\"he\": 256", "\"he\": 256, \"\xff\": 260", ERR_FORMAT, "vocab.json"},
        {"\"he\": 256", "\"he\" 256", ERR_FORMAT, "line 1"},
        {"\"A\": 65", "\"Ax\": 65", ERR_FORMAT, "byte 0x41 has no token"},
        {"\"<|endoftext|>\": 259}", "\"<|endoftext|>\": 259", ERR_FORMAT, "line 1"},
        {"259}", "259} x", ERR_FORMAT, "line 1"},
        {"{", "[{", ERR_FORMAT, "vocab.json"},
    };

    (void)state;
    put_file("merges.txt", base_merges, strlen(base_merges));
    refuses_each(cases, sizeof cases / sizeof cases[0], "vocab.json", base_vocab);
    put_file("vocab.json", "[]", 2);
    assert_refused(ERR_FORMAT, "vocab.json", "not a JSON object");
    put_file("vocab.json", "{}", 2);
    assert_refused(ERR_FORMAT, "vocab.json", "the vocabulary is empty");
}

static void refuses_damaged_merges(void **state)
{
    static const Damage cases[] = {
        /* find is the whole file here */
        {"#version: 0.2\n", NULL, ERR_FORMAT, "merges.txt: no merges"},
        {"\n\n", NULL, ERR_FORMAT, "merges.txt: no merges"},
        {"#version: 0.2\nh e\nhe\n", NULL, ERR_FORMAT,
         "line 3: malformed merge \"he\", expected two"},
        {"h e x\n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {"h  e\n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {" h e\n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {"h e \n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {" \n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {"h\te\n", NULL, ERR_FORMAT, "line 1: malformed merge"},
        {"h e\n#version: 0.2\n", NULL, ERR_FORMAT,
         "line 2: \"#version:\" is not in the vocabulary"},
        {"\xef\xbb\xbfh e\n", NULL, ERR_FORMAT, "line 1"},
        {"zz e\n", NULL, ERR_FORMAT, "line 1: \"zz\" is not in the vocabulary"},
        {"h \xe2\x82\xac\n", NULL, ERR_FORMAT, "is not in the vocabulary"},
        {"e h\n", NULL, ERR_FORMAT, "\"e\" and \"h\" joined are not in the vocabulary"},
        {"<|endoftext|> h\n", NULL, ERR_FORMAT, "is not in the vocabulary"},
        {"h e\n" BLANK " t\nh e\n", NULL, ERR_FORMAT, "line 3: this merge appears twice"},
        {"h \xff\n", NULL, ERR_FORMAT, "line 1: merge is not valid UTF-8"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", NULL, ERR_FORMAT,
         "LFS"},
    };
    char *text = allocate(2 * MAX_FILE);

    (void)state;
    base_vocab(text);
    put_file("vocab.json", text, strlen(text));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file("merges.txt", cases[i].find, strlen(cases[i].find));
        assert_refused(cases[i].code, "merges.txt", cases[i].problem);
    }
    put_file("merges.txt", "h \0e\n", 5);
    assert_refused(ERR_FORMAT, "merges.txt", "line 1: NUL byte");
    memset(text, 'h', 2 * MAX_FILE);
    put_file("merges.txt", text, 2 * MAX_FILE);
    assert_refused(ERR_LIMIT, "merges.txt", "line 1: merge of 131072 bytes, at most 65536");
    text[MAX_FILE] = ' ';
    put_file("merges.txt", text, MAX_FILE + 2);
    assert_refused(ERR_LIMIT, "merges.txt", "line 1: merge of 65538 bytes, at most 65536");
    put_file("merges.txt", "", 0);
    assert_refused(ERR_FORMAT, "merges.txt", "empty");
    free(text);
}

static void refuses_damaged_tokenizer_json(void **state)
{
    static const Damage cases[] = {
        {"\"BPE\"", "\"WordPiece\"", ERR_UNSUPPORTED, "model.type is not \"BPE\""},
        {"\"BPE\"", "7", ERR_UNSUPPORTED, "model.type is not \"BPE\""},
        {"\"dropout\": null", "\"dropout\": 0.1", ERR_UNSUPPORTED, "model.dropout"},
        {"\"dropout\": null", "\"ignore_merges\": true", ERR_UNSUPPORTED, "model.ignore_merges"},
        {"\"dropout\": null", "\"end_of_word_suffix\": \"</w>\"", ERR_UNSUPPORTED,
         "end_of_word_suffix"},
        {"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}", ERR_UNSUPPORTED,
         "normalizer"},
        {"\"add_prefix_space\": false", "\"add_prefix_space\": true", ERR_UNSUPPORTED,
         "pre_tokenizer"},
        {"\"add_prefix_space\": false", "\"use_regex\": false", ERR_UNSUPPORTED, "pre_tokenizer"},
        {"\"ByteLevel\"", "\"Whitespace\"", ERR_UNSUPPORTED, "pre_tokenizer"},
        {"\"pre_tokenizer\"", "\"other\"", ERR_UNSUPPORTED, "pre_tokenizer"},
        {"\"model\"", "\"other\"", ERR_FORMAT, "no object \"model\""},
        {"\"vocab\"", "\"other\"", ERR_FORMAT, "no object \"model.vocab\""},
        {"\"merges\"", "\"other\"", ERR_FORMAT, "no array \"model.merges\""},
        {"\"added_tokens\": [", "\"added_tokens\": {}, \"x\": [", ERR_FORMAT,
         "\"added_tokens\" is not"},
        {"\"id\": 259", "\"id\": 258", ERR_FORMAT, "id 258, but 259 in the vocabulary"},
        {"\"id\": 259", "\"id\": 259.5", ERR_FORMAT, "added_tokens[0]"},
        {"\"content\"", "\"other\"", ERR_FORMAT, "added_tokens[0]"},
        {"\"added_tokens\": [", "\"added_tokens\": [5, ", ERR_FORMAT, "added_tokens[0]"},
        {"\"added_tokens\": [",
         "\"added_tokens\": [{\"id\": 50257, \"content\": \"<p>\", \"special\": true}, ",
         ERR_FORMAT, "token \"<p>\": id 50257, expected 0 to 260"},
        {"\"added_tokens\": [",
         "\"added_tokens\": [{\"id\": 260, \"content\": \"word\", \"special\": false}, ",
         ERR_UNSUPPORTED, "added token \"word\" is not special"},
        {"\"added_tokens\": [",
         "\"added_tokens\": [{\"id\": 260, \"content\": \"<p>\", \"special\": true}, "
         "{\"id\": 261, \"content\": \"<p>\", \"special\": true}, ",
         ERR_FORMAT, "token \"<p>\": appears twice"},
        {"\"h e\"", "\"he\"", ERR_FORMAT, "merges[0]: malformed merge"},
        {"\"h e\"", "7", ERR_FORMAT, "merges[0]: malformed merge"},
        {"\"h e\"", "null", ERR_FORMAT, "merges[0]: malformed merge"},
        {"\"h e\"", "\"h \\u0000e\"", ERR_FORMAT, "merges[0]: NUL byte"},
        {", [\"" BLANK "t\", \"he\"]", ", [\"" BLANK "t\", \"he\", \"x\"]", ERR_FORMAT,
         "merges[2]: malformed"},
        {", [\"" BLANK "t\", \"he\"]", ", [\"" BLANK "t\"]", ERR_FORMAT, "merges[2]: malformed"},
        {", [\"" BLANK "t\", \"he\"]", ", [\"" BLANK "t\", \"\"]", ERR_FORMAT,
         "merges[2]: malformed"},
        {", [\"" BLANK "t\", \"he\"]", ", [\"" BLANK "t\", 7]", ERR_FORMAT, "merges[2]: malformed"},
        {", [\"" BLANK "t\", \"he\"]", ", \"h e\"", ERR_FORMAT,
         "merges[2]: this merge appears twice"},
        {"[\"h e\", \"" BLANK " t\", [\"" BLANK "t\", \"he\"]]", "[]", ERR_FORMAT, "no merges"},
        {"\"A\": 65", "\"Ax\": 65", ERR_FORMAT, "byte 0x41 has no token"},
        {"\"he\": 256", "\"he\": 257", ERR_FORMAT, "id 257 belongs to another token"},
    };

    (void)state;
    refuses_each(cases, sizeof cases / sizeof cases[0], "tokenizer.json", base_json);
}

static void refuses_files_that_are_none(void **state)
{
    char *text = allocate(MAX_FILE);

    (void)state;
    assert_refused(ERR_IO, folder,
                   "no tokenizer: neither vocab.json with merges.txt nor tokenizer.json");
    put_file("spiece.model", "x", 1);
    assert_refused(ERR_UNSUPPORTED, "spiece.model", "SentencePiece");

    base_vocab(text);
    put_file("vocab.json", text, strlen(text));

    const char *path = path_of("merges.txt");

    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(ERR_IO, "merges.txt", ": ");
    assert_int_equal(rmdir(path), 0);

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(ERR_IO, "merges.txt", ": "); /* and does not wait for a writer */
    assert_int_equal(unlink(path), 0);

    assert_int_equal(symlink(path_of("not-there"), path), 0);
    assert_refused(ERR_IO, "merges.txt", "No such file");
    free(text);
}

static void searches_the_parent_too(void **state)
{
    char *text = allocate(MAX_FILE);
    Tokenizer *t = NULL;
    Err err = {0};

    (void)state;
    base_json(text);
    put_file("tokenizer.json", text, strlen(text));

    const char *inner = path_of("spiece.model"); /* a name that leave_folder removes */

    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(tokenizer_load(&t, inner, &err), ERR_OK);
    assert_int_equal(tokenizer_vocab_size(t), 260);
    tokenizer_free(t);
    free(text);
}

static void refuses_a_million_and_one_tokens(void **state)
{
    enum { N = TOKENIZER_MAX_VOCAB + 1 };
    char *text = allocate((size_t)N * 20);
    size_t n = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(text + n, "%s\"%d\":%d", i == 0 ? "{" : ",", i, i);
    text[n++] = '}';
    put_file("vocab.json", text, n);
    put_file("merges.txt", base_merges, strlen(base_merges));
    assert_refused(ERR_LIMIT, "vocab.json", "1000001 tokens, at most 1000000");
    free(text);
}

/* A key with U+0000 is kept as U+FFFF (common/json.c): neither may become a token, whose text would
 * be another one than the file says. */
static void refuses_nul_in_a_token(void **state)
{
    char *text = allocate(MAX_FILE);

    (void)state;
    base_vocab(text);
    replace(text, MAX_FILE, "\"<|endoftext|>\"", "\"a\\u0000b\"");
    put_file("vocab.json", text, strlen(text));
    put_file("merges.txt", base_merges, strlen(base_merges));
    assert_refused(ERR_FORMAT, "vocab.json", "U+0000 or U+FFFF in it");
    free(text);
}

/* 256 MiB of these would take eleven gigabytes. */
static void refuses_a_file_of_too_many_values(void **state)
{
    const size_t n = 3 * (5 * TOKENIZER_MAX_VOCAB) + 1;
    char *text = allocate(n);

    (void)state;
    text[0] = '[';
    for (size_t i = 1; i < n; i += 3)
        memcpy(text + i, "[],", 3);
    text[n - 1] = ']';
    put_file("tokenizer.json", text, n);
    assert_refused(ERR_LIMIT, "tokenizer.json", "more than 5000000 values");
    free(text);
}

/* No prefix crashes, and each is refused with one line; a valid one loads the same again
 * afterwards. */
static void refuses_every_prefix(const char *name, void (*good)(char *))
{
    char *text = allocate(MAX_FILE);
    Err err = {0};

    good(text);
    for (size_t n = 0; n < strlen(text); n += SANITIZED ? 13 : 3) {
        Tokenizer *t = NULL;

        put_file(name, text, n);
        assert_int_not_equal(tokenizer_load(&t, folder, &err), ERR_OK);
        assert_null(t);
    }
    put_file(name, text, strlen(text));
    assert_loads();
    free(text);
}

static void every_prefix_is_refused(void **state)
{
    (void)state;
    put_file("merges.txt", base_merges, strlen(base_merges));
    refuses_every_prefix("vocab.json", base_vocab);
    remove_files(file_names, N_FILE_NAMES);
    refuses_every_prefix("tokenizer.json", base_json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(accepts_what_files_may_look_like, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(added_tokens_get_their_ids, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_vocabularies, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_merges, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_tokenizer_json, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_files_that_are_none, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(searches_the_parent_too, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_a_million_and_one_tokens, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(refuses_nul_in_a_token, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_a_file_of_too_many_values, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(every_prefix_is_refused, make_folder, leave_folder),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer_load", tests, NULL, NULL);
}
