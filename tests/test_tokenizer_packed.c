/* tests/test_tokenizer_packed.c: damaged ready forms of a tokenizer are refused, and those made to
 * be slow are not. */
#include "tokenizer_file_rig.h"

#include "tokenizer/hash.h"

enum { TOKENS, TOKEN_BUCKETS, MERGES, MERGE_BUCKETS, BYTES };
enum { START, N_BYTES, NEXT, TYPE, TOKEN_WORDS = 4 };
enum { LEFT, RIGHT, RESULT, NEXT_MERGE, MERGE_WORDS = 4 };

/* A copy of the parts that may be written to. */
typedef struct {
    TokenizerPart part[TOKENIZER_N_PARTS];
    int32_t *word[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];
} Copy;

static void copy_parts(Copy *c, const Tokenizer *t)
{
    tokenizer_parts(t, c->part, c->text);
    for (int i = 0; i < TOKENIZER_N_PARTS; i++) {
        c->word[i] = allocate(c->part[i].n_bytes);
        memcpy(c->word[i], c->part[i].data, c->part[i].n_bytes);
        c->part[i].data = c->word[i];
    }
}

static void copy_free(Copy *c)
{
    for (int i = 0; i < TOKENIZER_N_PARTS; i++)
        free(c->word[i]);
}

static void write_copy(const Copy *c)
{
    write_parts(c->part, TOKENIZER_N_PARTS, c->text, 0);
}

static void refuses(const Copy *c, ErrCode code, const char *problem)
{
    write_copy(c);
    assert_refused(code, problem);
}

static void base_copy(Copy *c)
{
    const GgufSpec s = base_gguf();
    Tokenizer *t = load_spec(&s);

    copy_parts(c, t);
    tokenizer_free(t);
}

/* Chains the tokens, or the merges, anew under a fixed seed, as an attacker would. */
static void rechain(Copy *c, int items, int seed_number)
{
    const int buckets = items == TOKENS ? TOKEN_BUCKETS : MERGE_BUCKETS;
    const HashSeed seed = hash_seed_fixed(seed_number);
    int bits = 0;

    while ((size_t)1 << bits < c->part[buckets].n)
        bits++;
    memset(c->word[buckets], 0xff, c->part[buckets].n_bytes);
    for (int i = 0; i < (int)c->part[items].n / 4; i++) {
        int32_t *w = c->word[items] + 4 * i;
        const uint64_t key =
            items == TOKENS
                ? hash_bytes(seed, (const char *)c->word[BYTES] + w[START], (size_t)w[N_BYTES])
                : (uint64_t)(uint32_t)w[LEFT] << 32 | (uint32_t)w[RIGHT];
        int32_t *bucket = c->word[buckets] + hash_bucket(seed, key, bits);

        w[items == TOKENS ? NEXT : NEXT_MERGE] = *bucket;
        *bucket = i;
    }
}

static void refuses_damaged_tables(void **state)
{
    enum { N_TEXT = 256 + 2 + 2 + 4 + 13 + 8 + 8 };
    static const struct {
        int part, at; /* word; -1: the first bucket in use, -2: the first empty one */
        int32_t value;
        const char *problem;
    } cases[] = {
        {TOKENS, TOKEN_WORDS * 5 + TYPE, 0,
         "packed tokenizer: token 5: type 0, expected 1, 3, 4 or 5"},
        {TOKENS, TOKEN_WORDS * 5 + TYPE, 2, "token 5: type 2"},
        {TOKENS, TOKEN_WORDS * 5 + TYPE, 6, "token 5: type 6"},
        {TOKENS, TOKEN_WORDS * 5 + TYPE, -1, "token 5: type 4294967295"},
        {TOKENS, TOKEN_WORDS * 5 + START, INT32_MAX, "token 5: its text ends at byte 2147483648"},
        {TOKENS, TOKEN_WORDS * 5 + START, -1, "token 5: its text ends at byte 4294967296"},
        {TOKENS, TOKEN_WORDS * 5 + N_BYTES, -1, "token 5: its text ends at byte 4294967300"},
        {TOKENS, TOKEN_WORDS * 0 + N_BYTES, N_TEXT, "token 1: more text than there are bytes"},
        {TOKENS, TOKEN_WORDS * 0 + N_BYTES, N_TEXT + 1, "token 0: its text ends at byte"},
        {TOKENS, TOKEN_WORDS * 5 + N_BYTES, 0, ": token -1, expected 5"},
        {TOKENS, TOKEN_WORDS * 5 + NEXT, 5, "token 5: followed by 5, expected -1"},
        {TOKENS, TOKEN_WORDS * 5 + NEXT, 6, "token 5: followed by 6"},
        {TOKENS, TOKEN_WORDS * 5 + NEXT, INT32_MAX, "token 5: followed by 2147483647"},
        {TOKENS, TOKEN_WORDS * 5 + NEXT, -2, "token 5: followed by -2"},
        {TOKENS, TOKEN_WORDS * 200 + TYPE, 3, "token 200: special, but its text is not valid"},
        {TOKENS, TOKEN_WORDS * 65 + TYPE, 3, "byte 0x41 has no token, expected all 256"},
        {TOKENS, TOKEN_WORDS * 66 + START, 65, "token 66: followed by -1, expected 65"},
        {TOKEN_BUCKETS, 0, N_IDS, "bucket 0: token 262, expected "},
        {TOKEN_BUCKETS, 3, -2, "bucket 3: token -2, expected "},
        {TOKEN_BUCKETS, 511, INT32_MIN, "bucket 511: token -2147483648"},
        {TOKEN_BUCKETS, -1, -1, ": token -1, expected "},
        {TOKEN_BUCKETS, -2, 7, ": token 7, expected -1"},
        {MERGES, MERGE_WORDS * 1 + LEFT, N_IDS, "merge 1: token 262, expected 0 to 261"},
        {MERGES, MERGE_WORDS * 1 + RIGHT, -1, "merge 1: token -1, expected 0 to 261"},
        {MERGES, MERGE_WORDS * 1 + RESULT, INT32_MAX, "merge 1: token 2147483647"},
        {MERGES, MERGE_WORDS * 1 + RESULT, 256, "merge 1: token 256 is not 32 and 116 joined"},
        {MERGES, MERGE_WORDS * 1 + RESULT, 0, "merge 1: token 0 is not 32 and 116 joined"},
        {MERGES, MERGE_WORDS * 1 + NEXT_MERGE, 1, "merge 1: followed by 1, expected -1"},
        {MERGES, MERGE_WORDS * 1 + NEXT_MERGE, -2, "merge 1: followed by -2"},
        {MERGES, MERGE_WORDS * 1 + LEFT, 65, "merge 1: token 257 is not 65 and 116 joined"},
        {MERGE_BUCKETS, 0, 3, "bucket 0: merge 3, expected "},
        {MERGE_BUCKETS, 7, -9, "bucket 7: merge -9, expected "},
        {MERGE_BUCKETS, -1, -1, ": merge -1, expected "},
    };
    Copy c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int at = cases[i].at;

        base_copy(&c);
        assert_int_equal(c.part[BYTES].n, N_TEXT);
        if (at < 0) {
            const bool used = at == -1;

            for (at = 0; (c.word[cases[i].part][at] >= 0) != used; at++)
                continue;
        }
        c.word[cases[i].part][at] = cases[i].value;
        refuses(&c, ERR_FORMAT, cases[i].problem);
        copy_free(&c);
    }
}

/* Damage that is hidden behind chains that are right. */
static void refuses_twins(void **state)
{
    Copy c;

    (void)state;
    base_copy(&c);
    c.word[TOKENS][TOKEN_WORDS * 66 + START] = 65;
    rechain(&c, TOKENS, 0);
    refuses(&c, ERR_FORMAT, "token 66: appears twice");
    copy_free(&c);

    base_copy(&c);
    memcpy(c.word[MERGES] + MERGE_WORDS, c.word[MERGES], MERGE_WORDS * sizeof(int32_t));
    rechain(&c, MERGES, 0);
    refuses(&c, ERR_FORMAT, "merge 1: appears twice");
    copy_free(&c);

    /* A merge of a special token, with its text. */
    base_copy(&c);
    c.word[TOKENS][TOKEN_WORDS * 256 + TYPE] = 5;
    refuses(&c, ERR_FORMAT, "merge 0: token 256 is not 104 and 101 joined");
    copy_free(&c);
}

/* Tokens that share a bucket under the first fixed seed: the table gets the second one, and a file
 * that insists on the first is refused. */
static void colliding_tokens_do_not_make_it_slow(void **state)
{
    enum { N_COLLIDING = HASH_MAX_CHAIN + 1, BITS = 9 };
    static const char base[] = "\"he\": 256, \"" BLANK "t\": 257, \"" BLANK "the\": 258";
    const HashSeed seed = hash_seed_fixed(0);
    char *vocab = allocate(MAX_FILE), name[16];
    size_t n = 1;
    int id = 259;
    Copy c;

    (void)state;
    vocab[0] = '{';
    n += print_bytes(vocab + 1);
    n += (size_t)sprintf(vocab + n, "%s", base);
    for (int i = 0; id < 259 + N_COLLIDING; i++) {
        const size_t n_name = (size_t)sprintf(name, "x%d", i);

        if (hash_bucket(seed, hash_bytes(seed, name, n_name), BITS) == 5)
            n += (size_t)sprintf(vocab + n, ", \"%s\": %d", name, id++);
    }
    vocab[n++] = '}';
    put_file("vocab.json", vocab, n);
    put_file("merges.txt", "h e\n", 4);
    free(vocab);

    Tokenizer *t = load(folder);

    copy_parts(&c, t);
    assert_int_equal(c.part[TOKEN_BUCKETS].n, 1 << BITS);
    assert_non_null(strstr(c.text, "\"token_seed\":1"));
    for (int i = 259; i < id; i++) {
        size_t n_name;
        const char *text = tokenizer_token(t, i, &n_name);

        assert_int_equal(tokenizer_find(t, text, n_name), i);
    }
    tokenizer_free(t);

    rechain(&c, TOKENS, 0);
    replace(c.text, sizeof c.text, "\"token_seed\":1", "\"token_seed\":0");
    refuses(&c, ERR_FORMAT, ": more than 64 in one bucket");
    rechain(&c, TOKENS, 2);
    replace(c.text, sizeof c.text, "\"token_seed\":0", "\"token_seed\":2");
    write_copy(&c);

    Tokenizer *back = load_written();

    assert_int_equal(tokenizer_vocab_size(back), id);
    tokenizer_free(back);
    copy_free(&c);
}

/* The same for merges: all pairs of letters are tokens, those that share a bucket are merges. */
static void colliding_merges_do_not_make_it_slow(void **state)
{
    enum { N_COLLIDING = HASH_MAX_CHAIN + 1, BITS = 8, N_LETTERS = 200 };
    const HashSeed seed = hash_seed_fixed(0);
    char *vocab = allocate(4 * MEGABYTE), *merges = allocate(MAX_FILE), a[3], b[3];
    size_t n = 1, n_text = 0;
    int id = 256, n_merges = 0;
    Copy c;

    (void)state;
    vocab[0] = '{';
    n += print_bytes(vocab + 1);
    n -= 2; /* the comma and blank behind the last one */
    for (int i = 0; i < N_LETTERS * N_LETTERS && n_merges < N_COLLIDING; i++) {
        const uint64_t left = (uint64_t)(i / N_LETTERS + 50),
                       right = (uint64_t)(i % N_LETTERS + 50);

        if (hash_bucket(seed, left << 32 | right, BITS) != 5 || left == '\\' || right == '\\')
            continue;
        (void)spell_byte((int)left, a);
        (void)spell_byte((int)right, b);
        n += (size_t)sprintf(vocab + n, ", \"%s%s\": %d", a, b, id++);
        n_text += (size_t)sprintf(merges + n_text, "%s %s\n", a, b);
        n_merges++;
    }
    assert_int_equal(n_merges, N_COLLIDING);
    vocab[n++] = '}';
    put_file("vocab.json", vocab, n);
    put_file("merges.txt", merges, n_text);
    free(merges);
    free(vocab);

    Tokenizer *t = load(folder);

    copy_parts(&c, t);
    tokenizer_free(t);
    assert_int_equal(c.part[MERGE_BUCKETS].n, 1 << BITS);
    replace(c.text, sizeof c.text, "\"merge_seed\":1", "\"merge_seed\":0");
    rechain(&c, MERGES, 0);
    refuses(&c, ERR_FORMAT, ": more than 64 in one bucket");
    copy_free(&c);
}

static void refuses_damaged_texts(void **state)
{
    static const struct {
        const char *find, *with;
        ErrCode code;
        const char *problem;
    } cases[] = {
        {"\"version\":1", "\"version\":2", ERR_UNSUPPORTED,
         "metadata \"tokenizer\": \"version\" is 2, expected 1: pack the model again"},
        {"\"version\":1", "\"version\":0", ERR_FORMAT, "\"version\" is 0"},
        {"\"version\":1", "\"version\":\"1\"", ERR_FORMAT, "\"version\" is not an integer"},
        {"15.0.0", "16.0.0", ERR_UNSUPPORTED, "\"unicode\" is \"16.0.0\", expected \"15.0.0\""},
        {"\"15.0.0\"", "15", ERR_UNSUPPORTED, "\"unicode\" is \"\""},
        {"gguf-bpe", "spiece", ERR_FORMAT,
         "\"kind\" is \"spiece\", expected \"hf-json\" or \"gguf-bpe\""},
        {"\"kind\"", "\"other\"", ERR_FORMAT, "\"kind\" is \"\""},
        {":259", ":262", ERR_FORMAT, "\"end_of_text\" is 262, expected -1 to 261"},
        {":259", ":-2", ERR_FORMAT, "\"end_of_text\" is -2"},
        {":259", ":4294967555", ERR_FORMAT, "\"end_of_text\" is 4294967555"},
        {":259", ":null", ERR_FORMAT, "\"end_of_text\" is not an integer"},
        {"\"token_seed\":0", "\"token_seed\":64", ERR_FORMAT,
         "\"token_seed\" is 64, expected 0 to 63"},
        {"\"token_seed\":0", "\"token_seed\":-1", ERR_FORMAT, "\"token_seed\" is -1"},
        {"\"token_seed\":0", "\"token_seed\":1", ERR_FORMAT, "followed by"},
        {"\"merge_seed\":0", "\"merge_seed\":64", ERR_FORMAT, "\"merge_seed\" is 64"},
        {"\"merge_seed\":0", "\"merge_seed\":3", ERR_FORMAT, "packed tokenizer: "},
        {"{", "[", ERR_FORMAT, "metadata \"tokenizer\""},
        {"}", "", ERR_FORMAT, "metadata \"tokenizer\""},
        {"{", "[[[[[[[[", ERR_FORMAT, "metadata \"tokenizer\""},
    };
    Copy c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        base_copy(&c);
        replace(c.text, sizeof c.text, cases[i].find, cases[i].with);
        refuses(&c, cases[i].code, cases[i].problem);
        copy_free(&c);
    }
}

static void refuses_damaged_parts(void **state)
{
    static const struct {
        int part;
        size_t n; /* elements of the part */
        const char *dtype, *problem;
    } cases[] = {
        {TOKENS, 0, "I32", "tensor tokenizer.tokens: 0 bytes, expected 1 to 1000000 items of 16"},
        {TOKENS, 4 * N_IDS - 1, "I32", "tensor tokenizer.tokens: 4188 bytes"},
        {TOKENS, 4 * N_IDS, "F32", "tensor tokenizer.tokens is F32, expected I32"},
        {TOKENS, 4 * 256, "I32", "tensor tokenizer.token_buckets: 512 items, expected 256"},
        {TOKEN_BUCKETS, 511, "I32", "tensor tokenizer.token_buckets: 511 items, expected 512"},
        {TOKEN_BUCKETS, 256, "I32", "tensor tokenizer.token_buckets: 256 items, expected 512"},
        {MERGES, 0, "I32", "tensor tokenizer.merges: 0 bytes"},
        {MERGES, 4, "I32", "tensor tokenizer.merge_buckets: 8 items, expected 2"},
        {MERGE_BUCKETS, 4, "I32", "tensor tokenizer.merge_buckets: 4 items, expected 8"},
        {BYTES, 0, "U8", "tensor tokenizer.bytes: 0 bytes"},
        {BYTES, 10, "U8", "its text ends at byte 11, but there are 10"},
        {BYTES, 40, "I8", "tensor tokenizer.bytes is I8, expected U8"},
    };
    Copy c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        base_copy(&c);

        TokenizerPart *part = &c.part[cases[i].part];

        part->n_bytes = cases[i].n * (cases[i].part == BYTES ? 1 : 4);
        part->n = cases[i].n;
        part->dtype = cases[i].dtype;
        refuses(&c, ERR_FORMAT, cases[i].problem);
        copy_free(&c);
    }
    base_copy(&c);
    write_parts(c.part, TOKENIZER_N_PARTS, NULL, 0);
    assert_refused(ERR_FORMAT, "packed tokenizer: no \"tokenizer\" in the metadata");
    write_parts(c.part, TOKENIZER_N_PARTS, c.text, 2);
    assert_refused(ERR_FORMAT, "tensor tokenizer.tokens does not lie at a multiple of 4 bytes");
    for (size_t n = 0; n < TOKENIZER_N_PARTS; n++) {
        write_parts(c.part, n, c.text, 0);
        assert_refused(ERR_FORMAT, "is missing");
    }
    write_parts(NULL, 0, NULL, 0); /* a packed file that carries no tokenizer */
    assert_refused(ERR_FORMAT, "packed tokenizer: tensor tokenizer.tokens is missing");
    copy_free(&c);
}

/* Whatever the bytes are: refused in one line, or a tokenizer that can be used. */
static void random_damage_does_no_harm(void **state)
{
    enum { ROUNDS = SANITIZED ? 400 : 3000 };
    const char text[] = "he the <|endoftext|> hehehehehehehehehehehehehehehehehehehehehehe\xff";
    uint32_t seed = 17;
    int n_loaded = 0;
    Copy c;

    (void)state;
    base_copy(&c);
    write_copy(&c);

    size_t size;
    unsigned char *data = read_file(path_of(FILE_NAME), &size), *damaged = allocate(size);

    for (int round = 0; round < ROUNDS; round++) {
        Tokenizer *t = NULL;
        Err err = {0};

        memcpy(damaged, data, size);
        for (uint32_t k = 1 + next_random(&seed) % 3; k > 0; k--)
            damaged[next_random(&seed) % size] = (unsigned char)next_random(&seed);
        put_file(FILE_NAME, damaged, size);
        if (tokenizer_load(&t, path_of(FILE_NAME), &err) != ERR_OK) {
            assert_int_equal(strchr(err.msg, '\n') == NULL && err.msg[0] != '\0', 1);
            continue;
        }
        assert_round_trip(t, text, sizeof text - 1);
        tokenizer_free(t);
        n_loaded++;
    }
    printf("# %d of %d could be used\n", n_loaded, (int)ROUNDS);
    assert_true(n_loaded < ROUNDS);
    free(damaged);
    free(data);
    copy_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(refuses_damaged_tables, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_twins, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(colliding_tokens_do_not_make_it_slow, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(colliding_merges_do_not_make_it_slow, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_texts, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(refuses_damaged_parts, make_folder, leave_folder),
        cmocka_unit_test_setup_teardown(random_damage_does_no_harm, make_folder, leave_folder),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer_packed", tests, NULL, NULL);
}
