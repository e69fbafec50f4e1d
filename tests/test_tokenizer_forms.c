/* tests/test_tokenizer_forms.c: the tokenizer of a GGUF file and the ready one of a packed file
 * give what the JSON form gives, and damaged ones are refused. */
#include "tokenizer_rig.h"

#include "common/clock.h"
#include "formats/gguf_write.h"
#include "formats/safetensors_write.h"
#include "tokenizer/hash.h"

#define BLANK "\xc4\xa0"      /* U+0120 */
#define FILE_NAME "model.bin" /* the form is known by the bytes, not by the name */

/* --- writing the two forms --- */

static void write_gguf(const Tokenizer *t, const char *path)
{
    const int n = tokenizer_vocab_size(t), n_merges = tokenizer_n_merges(t);
    int32_t *types = allocate((size_t)n * sizeof types[0]);
    char *text = allocate(MAX_FILE);
    GgufWriter w;
    Err err = {0};

    assert_int_equal(gguf_writer_open(&w, path, GGUF_DEFAULT_ALIGNMENT, &err), ERR_OK);
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

/* A packed file of these parts alone. lead: bytes of a tensor before them. */
static void write_parts(const TokenizerPart *parts, size_t n, const char *text, size_t lead,
                        const char *path)
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
    if (safetensors_writer_open(&w, path, texts, text != NULL ? 2 : 1, tensors, n + 1, &err) !=
        ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(safetensors_writer_data(&w, zeros, lead));
    for (size_t i = 0; i < n; i++)
        assert_true(safetensors_writer_data(&w, parts[i].data, parts[i].n_bytes));
    if (safetensors_writer_finish(&w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void write_packed(const Tokenizer *t, const char *path)
{
    TokenizerPart parts[TOKENIZER_N_PARTS];
    char text[TOKENIZER_TEXT_BYTES];

    tokenizer_parts(t, parts, text);
    write_parts(parts, TOKENIZER_N_PARTS, text, 0, path);
}

/* The same tokenizer in another form, read back from a file. */
static Tokenizer *convert(const Tokenizer *t, void (*write)(const Tokenizer *, const char *))
{
    char path[128];

    path_of(path, FILE_NAME);
    write(t, path);

    Tokenizer *back = load(path);

    assert_int_equal(unlink(path), 0); /* the mapping holds it */
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
    char path[128];
    Err err = {0};

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), 1024);
    assert_string_equal(tokenizer_kind(t), "hf-json");
    tokenizer_free(t);
    t = load(SHAKESPEARE "/config.json");
    assert_int_equal(tokenizer_vocab_size(t), 1024);
    tokenizer_free(t);

    path_of(path, FILE_NAME);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tokenizer_load(&t, path, &err), ERR_IO); /* and does not wait */
    assert_non_null(strstr(err.msg, "not a regular file"));
}

static void the_ready_form_loads_fast(void **state)
{
    enum { ROUNDS = 15 };
    Tokenizer *t = load_gpt2();
    uint64_t best = UINT64_MAX;
    char path[128];

    (void)state;
    path_of(path, FILE_NAME);
    write_packed(t, path);
    tokenizer_free(t);
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t start = clock_now_ns();

        t = load(path);

        const uint64_t took = clock_now_ns() - start;

        best = took < best ? took : best;
        tokenizer_free(t);
    }
    printf("# ready form of GPT-2: %.2f ms\n", (double)best * 1e-6);
    if (timing_counts())
        assert_true(best < 10000000); /* 10 ms: three times what it takes */
}

/* --- refusals --- */

static void assert_refused(ErrCode code, const char *problem)
{
    Tokenizer *t = NULL;
    Err err = {0};
    char path[128];

    path_of(path, FILE_NAME);

    const ErrCode got = tokenizer_load(&t, path, &err);

    if (got == ERR_OK)
        fail_msg("accepted, expected: %s", problem);
    if (strncmp(err.msg, path, strlen(path)) != 0 || strstr(err.msg, problem) == NULL)
        fail_msg("got: %s\nexpected: %s: %s", err.msg, path, problem);
    assert_int_equal(got, code);
    assert_int_equal(err.code, code);
    assert_null(t);
    assert_null(strchr(err.msg, '\n'));
}

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

static GgufSpec base_gguf(void)
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

static void write_spec(const GgufSpec *s)
{
    int32_t types[N_IDS];
    char path[128], spelled[3];
    GgufWriter w;
    Err err = {0};

    path_of(path, FILE_NAME);
    assert_int_equal(gguf_writer_open(&w, path, GGUF_DEFAULT_ALIGNMENT, &err), ERR_OK);
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

static Tokenizer *load_spec(const GgufSpec *s)
{
    char path[128];

    write_spec(s);
    path_of(path, FILE_NAME);
    return load(path);
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
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.tokens[260]: token \"!\": appears twice");
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
        write_spec(&s);
        assert_refused(cases[i].code, cases[i].problem);
    }
}

static void refuses_gguf_with_other_counts(void **state)
{
    const GgufSpec base = base_gguf();
    GgufSpec s = base;

    (void)state;
    s.bos = 300;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.bos_token_id");
    s = base;
    s.model = NULL;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.model");
    s = base;
    s.n_ids = -1;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.tokens");
    s.n_ids = 0;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.tokens: the vocabulary is empty");
    s = base;
    s.n_merges = -1;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.merges");
    s.n_merges = 0;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.merges: no merges");
    s = base;
    s.n_types = N_IDS - 1;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.token_type: 261 elements, expected one for each of "
                               "262 tokens");
    s = base;
    s.n_ids = s.n_types = 200;
    s.bos = s.eos = NO_ID;
    write_spec(&s);
    assert_refused(ERR_FORMAT, "tokenizer.ggml.tokens: byte 0xc8 has no token");
}

static void refuses_a_million_and_one_tokens(void **state)
{
    enum { N = TOKENIZER_MAX_VOCAB + 1 };
    char path[128], name[16];
    GgufWriter w;
    Err err = {0};

    (void)state;
    path_of(path, FILE_NAME);
    assert_int_equal(gguf_writer_open(&w, path, GGUF_DEFAULT_ALIGNMENT, &err), ERR_OK);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", N);
    for (int i = 0; i < N; i++)
        gguf_writer_add(&w, name, (size_t)sprintf(name, "%d", i));
    gguf_writer_strings(&w, "tokenizer.ggml.merges", 1);
    gguf_writer_add(&w, "1 2", 3);
    assert_int_equal(gguf_writer_finish(&w, &err), ERR_OK);
    assert_refused(ERR_LIMIT, "tokenizer.ggml.tokens: 1000001 tokens, at most 1000000");
}

static Tokenizer *load_written(void)
{
    char path[128];

    path_of(path, FILE_NAME);
    return load(path);
}

/* The whole file at path FILE_NAME; malloc'ed. */
static char *read_back(size_t *n)
{
    char path[128], *data = allocate(MEGABYTE);
    FILE *f;

    path_of(path, FILE_NAME);
    f = fopen(path, "rb");
    assert_non_null(f);
    *n = fread(data, 1, MEGABYTE, f);
    assert_true(feof(f));
    fclose(f);
    return data;
}

static void every_prefix_of_a_gguf_file_is_refused(void **state)
{
    const GgufSpec s = base_gguf();
    char path[128], *data;
    size_t size;
    Err err = {0};

    (void)state;
    write_spec(&s);
    path_of(path, FILE_NAME);
    data = read_back(&size);
    /* Known as GGUF from 4 bytes on; before, it stands for its directory, which has none. */
    for (size_t n = 1; n < size; n += SANITIZED ? 13 : 3) {
        Tokenizer *t = NULL;

        write_file(FILE_NAME, data, n);
        if (tokenizer_load(&t, path, &err) == ERR_OK) {
            assert_true(n > size - GGUF_DEFAULT_ALIGNMENT); /* only padding is missing */
            tokenizer_free(t);
        }
    }
    free(data);
}

/* --- damaged ready forms --- */

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
    char path[128];

    path_of(path, FILE_NAME);
    write_parts(c->part, TOKENIZER_N_PARTS, c->text, 0, path);
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
        write_copy(&c);
        assert_refused(ERR_FORMAT, cases[i].problem);
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
    write_copy(&c);
    assert_refused(ERR_FORMAT, "token 66: appears twice");
    copy_free(&c);

    base_copy(&c);
    memcpy(c.word[MERGES] + MERGE_WORDS, c.word[MERGES], MERGE_WORDS * sizeof(int32_t));
    rechain(&c, MERGES, 0);
    write_copy(&c);
    assert_refused(ERR_FORMAT, "merge 1: appears twice");
    copy_free(&c);

    /* A merge of a special token, with its text. */
    base_copy(&c);
    c.word[TOKENS][TOKEN_WORDS * 256 + TYPE] = 5;
    write_copy(&c);
    assert_refused(ERR_FORMAT, "merge 0: token 256 is not 104 and 101 joined");
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
    write_file("vocab.json", vocab, n);
    write_file("merges.txt", "h e\n", 4);
    free(vocab);

    Tokenizer *t = load(work_dir);

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
    write_copy(&c);
    assert_refused(ERR_FORMAT, ": more than 64 in one bucket");
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
    write_file("vocab.json", vocab, n);
    write_file("merges.txt", merges, n_text);
    free(merges);
    free(vocab);

    Tokenizer *t = load(work_dir);

    copy_parts(&c, t);
    tokenizer_free(t);
    assert_int_equal(c.part[MERGE_BUCKETS].n, 1 << BITS);
    replace(c.text, sizeof c.text, "\"merge_seed\":1", "\"merge_seed\":0");
    rechain(&c, MERGES, 0);
    write_copy(&c);
    assert_refused(ERR_FORMAT, ": more than 64 in one bucket");
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
        write_copy(&c);
        assert_refused(cases[i].code, cases[i].problem);
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
    char path[128];
    Copy c;

    (void)state;
    path_of(path, FILE_NAME);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        base_copy(&c);

        TokenizerPart *part = &c.part[cases[i].part];

        part->n_bytes = cases[i].n * (cases[i].part == BYTES ? 1 : 4);
        part->n = cases[i].n;
        part->dtype = cases[i].dtype;
        write_copy(&c);
        assert_refused(ERR_FORMAT, cases[i].problem);
        copy_free(&c);
    }
    base_copy(&c);
    write_parts(c.part, TOKENIZER_N_PARTS, NULL, 0, path);
    assert_refused(ERR_FORMAT, "packed tokenizer: no \"tokenizer\" in the metadata");
    write_parts(c.part, TOKENIZER_N_PARTS, c.text, 2, path);
    assert_refused(ERR_FORMAT, "tensor tokenizer.tokens does not lie at a multiple of 4 bytes");
    for (size_t n = 0; n < TOKENIZER_N_PARTS; n++) {
        write_parts(c.part, n, c.text, 0, path);
        assert_refused(ERR_FORMAT, "is missing");
    }
    write_parts(NULL, 0, NULL, 0, path); /* a packed file that carries no tokenizer */
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
    char *data = read_back(&size), *damaged = allocate(size), path[128];

    path_of(path, FILE_NAME);
    for (int round = 0; round < ROUNDS; round++) {
        Tokenizer *t = NULL;
        Err err = {0};

        memcpy(damaged, data, size);
        for (uint32_t k = 1 + next_random(&seed) % 3; k > 0; k--)
            damaged[next_random(&seed) % size] = (char)next_random(&seed);
        write_file(FILE_NAME, damaged, size);
        if (tokenizer_load(&t, path, &err) != ERR_OK) {
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
        cmocka_unit_test_setup_teardown(gpt2_vectors, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(tiny_vectors, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(random_texts_in_all_forms, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(the_same_files_make_the_same_parts, enter_dir, leave_dir),
        cmocka_unit_test(spells_tokens_as_files_do),
        cmocka_unit_test_setup_teardown(other_files_stand_for_their_directory, enter_dir,
                                        leave_dir),
        cmocka_unit_test_setup_teardown(the_ready_form_loads_fast, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(gguf_types_decide_what_is_special, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(gguf_keys_that_may_be_absent, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(gguf_names_the_end_of_text, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(gguf_bytes_stay_bytes, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_damaged_gguf, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_gguf_with_other_counts, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_a_million_and_one_tokens, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(every_prefix_of_a_gguf_file_is_refused, enter_dir,
                                        leave_dir),
        cmocka_unit_test_setup_teardown(refuses_damaged_tables, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_twins, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(colliding_tokens_do_not_make_it_slow, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(colliding_merges_do_not_make_it_slow, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_damaged_texts, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(refuses_damaged_parts, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(random_damage_does_no_harm, enter_dir, leave_dir),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer_forms", tests, NULL, NULL);
}
