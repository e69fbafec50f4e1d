/* tests/test_packed.c: packed files: what pack writes computes what its source computes, bit for
 * bit, from the mapping itself; damaged and foreign files are refused with what to do. */
#include "model_file_rig.h"

#include <inttypes.h>

#include "common/json.h"
#include "formats/safetensors.h"
#include "formats/safetensors_write.h"
#include "model/gpt2_pack.h"
#include "quick.h"

/* --- pack --- */

static void packed_files_equal_the_model_converted_at_load(void **state)
{
    static const char *const models[] = {TINY, SHAKESPEARE};

    (void)state;
    for (int i = 0; i < 2; i++)
        for (int type = 0; type < KERN_TYPE_COUNT; type++) {
            const Gpt2LoadOptions options = {.convert = true, .type = (KernType)type};
            Gpt2 direct, file;

            MUST_RUN(cli_pack, "pack", "--model", models[i], "--type", type_names[type], "--out",
                     path_of("a.packed"));
            load_as(&direct, models[i], &options);
            load_as(&file, path_of("a.packed"), type % 2 == 0 ? &options : NULL);
            assert_string_equal(direct.types, file.types);
            assert_string_equal(direct.file_types, file.file_types);
            assert_int_equal(direct.weight_bytes, file.weight_bytes);
            assert_int_equal(direct.n_params, file.n_params);
            assert_true(same_logits(&direct, &file));
            gpt2_free(&direct);
            gpt2_free(&file);
        }
}

static void without_a_type_nothing_is_converted(void **state)
{
    Gpt2 direct, file;

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--out", path_of("a.packed"));
    load_model(&direct, SHAKESPEARE);
    load_model(&file, path_of("a.packed"));
    assert_string_equal(file.types, "F16");
    assert_true(same_logits(&direct, &file));
    gpt2_free(&file);

    /* ... and the comparison sees a difference. */
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--type", "bf16", "--out",
             path_of("a.packed"));
    load_model(&file, path_of("a.packed"));
    assert_false(same_logits(&direct, &file));
    gpt2_free(&file);
    gpt2_free(&direct);
}

/* From GGUF, and from a packed file: always the same. */
static void every_form_can_be_packed(void **state)
{
    Gpt2 direct, file;
    const Gpt2LoadOptions options = {.convert = true, .type = KERN_Q4_0};

    (void)state;
    MUST_RUN(cli_quantize, "quantize", "--model", SHAKESPEARE, "--type", "q4_0", "--out",
             path_of("a.gguf"));
    MUST_RUN(cli_pack, "pack", "--model", path_of("a.gguf"), "--out", path_of("a.packed"));
    MUST_RUN(cli_pack, "pack", "--model", path_of("a.packed"), "--out", path_of("b.packed"));
    assert_same_files("a.packed", "b.packed");
    load_as(&direct, SHAKESPEARE, &options);
    load_model(&file, path_of("b.packed"));
    assert_true(same_logits(&direct, &file));
    gpt2_free(&direct);
    gpt2_free(&file);
}

static void embedding_types_are_kept_apart(void **state)
{
    Gpt2 m;

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--type", "q8_0", "--embedding-type", "q4_0",
             "--out", path_of("a.packed"));
    load_model(&m, path_of("a.packed"));
    assert_int_equal(m.embedding.wte.type, KERN_Q4_0);
    assert_int_equal(m.head.w.type, KERN_Q4_0);
    assert_int_equal(m.blocks[0].ffn.c_fc.w.type, KERN_Q8_0);
    gpt2_free(&m);
}

/* Configuration and end-of-text ids survive what GGUF could not express. */
static void the_whole_configuration_is_kept(void **state)
{
    const Gpt2PackExtra none = {.n_parts = 0};
    const Gpt2Progress silent = {.progress = NULL};
    Gpt2Config c = small_config();
    Gpt2 m, file;
    Err err = {0};

    (void)state;
    c.activation = ACT_GELU_ERF;
    c.activation_name = "gelu";
    c.scale_attn_by_layer = true;
    c.tied_head = false;
    c.eps = 1.1e-5f;
    c.n_eos = 2;
    c.eos_ids[0] = 7;
    c.eos_ids[1] = 9;
    random_model(&m, &c);
    (void)snprintf(m.file_types, sizeof m.file_types, "F32+Q4_K");
    assert_int_equal(gpt2_pack_write(&m, path_of("a.packed"), &none, &silent, &err), ERR_OK);
    load_model(&file, path_of("a.packed"));
    assert_int_equal(file.config.activation, ACT_GELU_ERF);
    assert_string_equal(file.config.activation_name, "gelu");
    assert_true(file.config.scale_attn);
    assert_true(file.config.scale_attn_by_layer);
    assert_false(file.config.tied_head);
    assert_memory_equal(&file.config.eps, &c.eps, sizeof c.eps);
    assert_int_equal(file.config.n_eos, 2);
    assert_int_equal(file.config.eos_ids[1], 9);
    assert_string_equal(file.file_types, "F32+Q4_K");
    assert_true(same_logits(&m, &file));
    gpt2_free(&file);
    gpt2_free(&m);
}

static void weights_stay_in_the_mapping(void **state)
{
    const unsigned char *begin, *end;
    const StTensor *t;
    size_t n;
    Gpt2 m;

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--type", "q8_0", "--out",
             path_of("a.packed"));
    load_model(&m, path_of("a.packed"));
    assert_null(m.arena.base);
    t = safetensors_tensors(m.packed, &n);
    begin = end = t[0].data;
    for (size_t i = 0; i < n; i++) {
        begin = t[i].data < begin ? t[i].data : begin;
        end = t[i].data + t[i].n_bytes > end ? t[i].data + t[i].n_bytes : end;
    }
    for (int i = 0; i < m.config.n_layers; i++) {
        const KernMatrix *w = &m.blocks[i].ffn.c_proj.w;
        const unsigned char *places[] = {w->panels, (const unsigned char *)w->scales,
                                         (const unsigned char *)m.blocks[i].ln_1.gamma,
                                         m.head.w.panels};

        for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
            assert_true(places[k] >= begin && places[k] < end);
            assert_int_equal((uintptr_t)places[k] % 64, 0);
        }
    }
    gpt2_free(&m);
}

static void the_tokenizer_is_in_the_file(void **state)
{
    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--out", path_of("a.packed"));
    assert_same_ids(SHAKESPEARE, path_of("a.packed"), "But, soft! what light");
}

static void another_type_is_refused(void **state)
{
    const Gpt2LoadOptions tables = {.convert_tables = true, .table_type = KERN_F16};
    char message[MESSAGE_BYTES];
    Gpt2 m;
    Err err = {0};

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--type", "q4_0", "--out",
             path_of("a.packed"));
    /* The type it has may be named: the tables' follows from it. */
    MUST_RUN(cli_pack, "pack", "--model", path_of("a.packed"), "--type", "q4_0", "--out",
             path_of("b.packed"));
    assert_int_equal(run_command(cli_pack, message, NULL, "pack", "--model", path_of("a.packed"),
                                 "--type", "f16", "--out", path_of("c.packed"), NULL),
                     2);
    assert_has(message,
               "is packed with wte.weight as Q8_0, not F16: a packed file keeps its types");
    assert_int_equal(access(path_of("c.packed"), F_OK), -1);
    assert_int_equal(gpt2_load(&m, path_of("a.packed"), &tables, &err), ERR_USAGE);
    assert_has(err.msg, "wte.weight as Q8_0, not F16");
}

static void wrong_places_leave_nothing(void **state)
{
    char message[MESSAGE_BYTES];
    const int before = count_files(false);

    (void)state;
    assert_int_equal(run_command(cli_pack, message, NULL, "pack", "--model", TINY, NULL), 2);
    assert_has(message, "--out FILE is missing");
    assert_int_equal(
        run_command(cli_pack, message, NULL, "pack", "--model", TINY, "--out", folder, NULL), 2);
    assert_has(message, "is a directory, expected the name of a file");
    assert_int_equal(
        run_command(cli_pack, message, NULL, "pack", "--model", TINY, "--out", "/dev/null", NULL),
        2);
    assert_has(message, "is no regular file");
    assert_int_equal(run_command(cli_pack, message, NULL, "pack", "--model", TINY, "--out",
                                 path_of("no/where"), NULL),
                     1);
    assert_has(message, "No such file or directory");
    assert_int_equal(run_command(cli_pack, message, NULL, "pack", "--model", path_of("absent"),
                                 "--out", path_of("x"), NULL),
                     1);
    assert_has(message, "absent: No such file or directory");
    assert_int_equal(count_files(false), before);
}

/* --- damaged files --- */

/* What rewrite does to a packed file before its checksum is made anew. */
typedef struct {
    const char *omit;           /* a tensor */
    const char *rename, *to;    /* one whose name changes */
    const char *retype, *dtype; /* one that gets another element type of the same size */
    const char *flatten;        /* one that loses its shape, not its size */
    bool shift;                 /* all data moves by 4 bytes */
    const char *key, *text;     /* metadata that changes; text NULL: goes */
    bool wrong_sum;
} Change;

enum { MAX_TENSORS = 200 };

static int compare_places(const void *a, const void *b)
{
    const StTensor *x = a, *y = b;

    return (x->data > y->data) - (x->data < y->data);
}

/* As gpt2_pack.c describes it, written a second time. */
static uint64_t fnv(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t sum_of(const StNewTensor *t, size_t offset)
{
    char line[512];
    int n = snprintf(line, sizeof line, "%s %s %zu", t->name, t->dtype, offset);

    for (int i = 0; i < t->n_dims; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %zu", t->dims[i]);
    return fnv(line, (size_t)n);
}

static bool is(const char *wanted, const char *name)
{
    return wanted != NULL && strcmp(wanted, name) == 0;
}

static size_t change_tensors(const Change *c, const StTensor *from, size_t n, StNewTensor *to,
                             const void **data, size_t *sizes)
{
    static const unsigned char zeros[4];
    size_t n_to = 0;

    if (c->shift) {
        to[n_to] = (StNewTensor){"shift", "U8", 1, {4}};
        data[n_to] = zeros;
        sizes[n_to++] = 4;
    }
    for (size_t i = 0; i < n; i++) {
        const StTensor *t = &from[i];
        StNewTensor *out = &to[n_to];

        if (is(c->omit, t->name))
            continue;
        *out = (StNewTensor){.name = is(c->rename, t->name) ? c->to : t->name,
                             .dtype = is(c->retype, t->name) ? c->dtype : t->dtype_name,
                             .n_dims = t->n_dims};
        memcpy(out->dims, t->dims, sizeof t->dims);
        if (is(c->flatten, t->name)) {
            for (int d = 1; d < t->n_dims; d++)
                out->dims[0] *= t->dims[d];
            out->n_dims = 1;
        }
        data[n_to] = t->data;
        sizes[n_to++] = t->n_bytes;
    }
    return n_to;
}

static size_t change_texts(const Change *c, const Safetensors *st, const StNewTensor *tensors,
                           size_t n_tensors, const size_t *sizes, char sum_text[32],
                           StNewText texts[8])
{
    static const char *const keys[] = {"config",    "file_types", "format",      "structure",
                                       "tokenizer", "version",    "weights_hash"};
    size_t n_texts = 0, offset = 0;
    uint64_t sum = c->wrong_sum;

    for (size_t i = 0; i < n_tensors; offset += sizes[i++])
        sum += sum_of(&tensors[i], offset);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t n;
        const char *text = safetensors_metadata(st, keys[i], &n);

        if (is(c->key, keys[i]))
            text = c->text;
        if (text == NULL)
            continue;
        if (strcmp(keys[i], "config") == 0 || strcmp(keys[i], "tokenizer") == 0)
            sum += fnv(text, strlen(text));
        texts[n_texts++] = (StNewText){keys[i], text, strlen(text)};
    }
    (void)snprintf(sum_text, 32, "%016" PRIx64, sum);
    for (size_t i = 0; i < n_texts; i++)
        if (strcmp(texts[i].key, "structure") == 0 && !is(c->key, "structure"))
            texts[i] = (StNewText){"structure", sum_text, strlen(sum_text)};
    return n_texts;
}

/* A copy of the packed file from as to, with the change and a checksum that fits. */
static void rewrite(const char *from, const char *to, const Change *c)
{
    StTensor sorted[MAX_TENSORS];
    StNewTensor tensors[MAX_TENSORS + 1];
    const void *data[MAX_TENSORS + 1];
    size_t sizes[MAX_TENSORS + 1], n;
    StNewText texts[8];
    char sum[32];
    Safetensors *st = NULL;
    StWriter w;
    Err err = {0};

    assert_int_equal(safetensors_open(&st, from, &err), ERR_OK);
    const StTensor *list = safetensors_tensors(st, &n);
    assert_true(n <= MAX_TENSORS);
    memcpy(sorted, list, n * sizeof *list);
    qsort(sorted, n, sizeof sorted[0], compare_places);
    n = change_tensors(c, sorted, n, tensors, data, sizes);
    const size_t n_texts = change_texts(c, st, tensors, n, sizes, sum, texts);
    if (safetensors_writer_open(&w, to, texts, n_texts, tensors, n, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++)
        assert_true(safetensors_writer_data(&w, data[i], sizes[i]));
    if (safetensors_writer_finish(&w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    safetensors_close(st);
}

#define CONFIG(layers, width, rest)                                                                \
    "{\"model_type\":\"gpt2\",\"n_layer\":" layers ",\"n_head\":4,\"n_embd\":" width               \
    ",\"n_inner\":192,\"n_positions\":64,\"vocab_size\":512" rest "}"

/* TINY, its rows of 192 as Q8_0. */
static const char *packed_tiny(void)
{
    MUST_RUN(cli_pack, "pack", "--model", TINY, "--type", "q8_0", "--out", path_of("t.packed"));
    return path_of("t.packed");
}

static void an_unchanged_copy_is_accepted(void **state)
{
    Gpt2 a, b;

    (void)state;
    rewrite(packed_tiny(), path_of("c.packed"), &(Change){.wrong_sum = false});
    load_model(&a, path_of("t.packed"));
    load_model(&b, path_of("c.packed"));
    assert_true(same_logits(&a, &b));
    gpt2_free(&a);
    gpt2_free(&b);
}

static void damaged_files_are_refused(void **state)
{
    static const struct {
        Change change;
        ErrCode code;
        const char *part;
    } cases[] = {
        {{.key = "version", .text = "2"},
         ERR_UNSUPPORTED,
         "packed by another version of this program (expected layout 1); write it again with "
         "llorch-cpud pack"},
        {{.key = "version"}, ERR_UNSUPPORTED, "packed by another version of this program"},
        {{.wrong_sum = true},
         ERR_FORMAT,
         "packed file is damaged: its structure has another checksum; write it again with "
         "llorch-cpud pack"},
        {{.key = "structure"}, ERR_FORMAT, "its structure has another checksum"},
        {{.key = "structure", .text = "0123"}, ERR_FORMAT, "its structure has another checksum"},
        {{.key = "config"}, ERR_FORMAT, "it has no configuration"},
        {{.key = "config", .text = "{"}, ERR_FORMAT, "c.packed"},
        {{.key = "config", .text = "[]"}, ERR_FORMAT, "not a JSON object"},
        {{.key = "config", .text = CONFIG("-1", "48", "")}, ERR_FORMAT, "num_layers must be > 0"},
        {{.key = "config", .text = CONFIG("1024", "48", "")},
         ERR_FORMAT,
         "tensor h.3.ln_1.weight is missing"},
        {{.key = "config", .text = CONFIG("3", "64", "")},
         ERR_FORMAT,
         "tensor wte.weight has another type, shape or alignment"},
        {{.key = "config", .text = CONFIG("3", "48", ",\"tie_word_embeddings\":false")},
         ERR_FORMAT,
         "tensor lm_head.weight is missing"},
        {{.key = "config", .text = CONFIG("3", "48", ",\"activation_function\":\"swish\"")},
         ERR_UNSUPPORTED,
         "activation_function is \"swish\""},
        {{.key = "file_types"}, ERR_FORMAT, "it does not say which types it was made from"},
        {{.key = "file_types", .text = "F16\33[2J"}, ERR_FORMAT, "it does not say which types"},
        {{.key = "weights_hash", .text = "531a"}, ERR_FORMAT, "its hash of the weights is none"},
        {{.omit = "wte.weight"}, ERR_FORMAT, "tensor wte.weight is missing"},
        {{.omit = "h.1.mlp.c_proj.weight.scales"},
         ERR_FORMAT,
         "tensor h.1.mlp.c_proj.weight.scales is missing"},
        {{.omit = "h.2.ln_2.bias"}, ERR_FORMAT, "tensor h.2.ln_2.bias is missing"},
        {{.rename = "wpe.weight", .to = "wpe"}, ERR_FORMAT, "tensor wpe.weight is missing"},
        {{.retype = "wte.weight", .dtype = "I16"},
         ERR_FORMAT,
         "tensor wte.weight has another type, shape or alignment"},
        {{.retype = "h.0.ln_1.weight", .dtype = "I32"},
         ERR_FORMAT,
         "tensor h.0.ln_1.weight has another type, shape or alignment"},
        {{.retype = "h.0.mlp.c_proj.weight.scales", .dtype = "BF16"},
         ERR_FORMAT,
         "tensor h.0.mlp.c_proj.weight.scales has another type, shape or alignment"},
        {{.retype = "h.0.mlp.c_proj.weight", .dtype = "U8"},
         ERR_FORMAT,
         "tensor h.0.mlp.c_proj.weight has another type, shape or alignment"},
        {{.flatten = "h.0.attn.c_attn.weight"},
         ERR_FORMAT,
         "tensor h.0.attn.c_attn.weight has another type, shape or alignment"},
        {{.shift = true}, ERR_FORMAT, "tensor wte.weight has another type, shape or alignment"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rewrite(packed_tiny(), path_of("c.packed"), &cases[i].change);
        assert_refused(path_of("c.packed"), cases[i].code, cases[i].part);
    }
}

/* A quantised matrix whose rows are no whole blocks: 48 weights in the type of Q8_0. */
static void rows_that_are_no_whole_blocks_are_refused(void **state)
{
    (void)state;
    rewrite(packed_tiny(), path_of("a.packed"),
            &(Change){.rename = "wte.weight", .to = "was.wte.weight"});
    rewrite(path_of("a.packed"), path_of("b.packed"),
            &(Change){.rename = "h.0.mlp.c_proj.weight", .to = "wte.weight"});
    assert_refused(path_of("b.packed"), ERR_FORMAT,
                   "tensor wte.weight: rows of a quantised matrix are no whole blocks");
}

/* Loads whatever it is, the tokenizer as well, and uses what loads. */
static bool survives(const char *path)
{
    static const char text[] = "any text, any";
    int32_t ids[sizeof text];
    Tokenizer *t = NULL;
    Gpt2 m;
    Err err = {0};
    bool loaded = false;

    if (gpt2_load(&m, path, NULL, &err) == ERR_OK) {
        loaded = true;
        gpt2_free(&m);
    } else {
        assert_has(err.msg, folder); /* config.json, where it is no packed file any more */
    }
    if (tokenizer_load(&t, path, &err) != ERR_OK)
        return false;

    TokenizerScratch *s = tokenizer_scratch_new(sizeof text);
    const size_t n = tokenizer_encode(t, s, text, sizeof text - 1, true, ids);

    for (size_t i = 0; i < n; i++)
        assert_true(ids[i] >= 0 && ids[i] < tokenizer_vocab_size(t));
    tokenizer_scratch_free(s);
    tokenizer_free(t);
    return loaded;
}

static void cut_files_are_refused(void **state)
{
    size_t n, header;
    unsigned char *bytes = read_file(packed_tiny(), &n);
    const char *path = path_of("cut.packed");

    (void)state;
    header = 8 + bytes[0] + 256u * bytes[1] + 65536u * bytes[2];
    assert_true(header < n);
    write_file(path, bytes, n);
    assert_true(survives(path));
    for (size_t i = n; i > 0;) {
        i = i > header ? (i - 1) / 1000 * 1000 : i - 1;
        assert_int_equal(truncate(path, (off_t)i), 0);
        assert_false(survives(path));
    }
    free(bytes);
}

/* Every byte of the header, and some of the data; what is accepted must be usable. */
static void changed_bytes_do_no_harm(void **state)
{
    static const unsigned char changes[] = {0x01, 0x80, 0xff};
    size_t n, header;
    unsigned char *bytes = read_file(packed_tiny(), &n);
    const char *path = path_of("bad.packed");
    int fd, n_accepted = 0;

    (void)state;
    header = 8 + bytes[0] + 256u * bytes[1] + 65536u * bytes[2];
    write_file(path, bytes, n);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i += i < header ? (quick() ? 5 : 1) : 997) {
        const unsigned char bad = bytes[i] ^ changes[i % sizeof changes];

        assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
        n_accepted += survives(path) && i < header;
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    assert_int_equal(close(fd), 0);
    /* A letter of file_types, perhaps. */
    assert_true(n_accepted < 8);
    free(bytes);
}

/* The tokenizer's arrays are read where they lie, so they are checked anew at each start. */
static void damaged_tokenizer_parts_are_refused(void **state)
{
    static const struct {
        Change change;
        const char *part;
    } cases[] = {
        {{.omit = "tokenizer.tokens"}, "tensor tokenizer.tokens is missing"},
        {{.omit = "tokenizer.merge_buckets"}, "tensor tokenizer.merge_buckets is missing"},
        {{.retype = "tokenizer.bytes", .dtype = "I8"}, "tensor tokenizer.bytes is I8, expected U8"},
        {{.key = "tokenizer"}, "no \"tokenizer\" in the metadata"},
        {{.key = "tokenizer", .text = "{\"version\":1"}, "metadata \"tokenizer\""},
        {{.key = "tokenizer", .text = "{\"version\":9}"}, "\"version\" is 9, expected 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Tokenizer *t = NULL;
        Err err = {0};

        rewrite(packed_tiny(), path_of("c.packed"), &cases[i].change);
        assert_int_not_equal(tokenizer_load(&t, path_of("c.packed"), &err), ERR_OK);
        assert_has(err.msg, path_of("c.packed"));
        assert_has(err.msg, cases[i].part);
        assert_null(t);
    }
}

static void the_file_may_stand_in_a_model_directory(void **state)
{
    size_t n;
    unsigned char *bytes = read_file(TINY "/config.json", &n);
    Tokenizer *t = NULL;
    Gpt2 m;
    Err err = {0};

    (void)state;
    write_file(path_of("config.json"), bytes, n);
    free(bytes);
    MUST_RUN(cli_pack, "pack", "--model", TINY, "--out", path_of("model.safetensors"));
    load_model(&m, folder);
    assert_string_equal(m.path, path_of("model.safetensors"));
    assert_int_equal(tokenizer_load(&t, m.path, &err), ERR_OK);
    tokenizer_free(t);
    gpt2_free(&m);
    assert_int_equal(unlink(path_of("config.json")), 0);
    assert_int_equal(unlink(path_of("model.safetensors")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_files_equal_the_model_converted_at_load),
        cmocka_unit_test(without_a_type_nothing_is_converted),
        cmocka_unit_test(every_form_can_be_packed),
        cmocka_unit_test(embedding_types_are_kept_apart),
        cmocka_unit_test(the_whole_configuration_is_kept),
        cmocka_unit_test(weights_stay_in_the_mapping),
        cmocka_unit_test(the_tokenizer_is_in_the_file),
        cmocka_unit_test(another_type_is_refused),
        cmocka_unit_test(wrong_places_leave_nothing),
        cmocka_unit_test(an_unchanged_copy_is_accepted),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(rows_that_are_no_whole_blocks_are_refused),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(damaged_tokenizer_parts_are_refused),
        cmocka_unit_test(the_file_may_stand_in_a_model_directory),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("packed", tests, make_folder, leave_folder);
}
