/* tests/test_config.c: config.json and generation_config.json, each field that is honoured or
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "model/config.h"

/* A config.json that is right except for what the case adds. */
#define SIZES "\"n_layer\":2,\"n_head\":4,\"n_embd\":48,\"n_positions\":64,\"vocab_size\":512"
#define WITH(more) "{\"model_type\":\"gpt2\"," SIZES "," more "}"
#define BASE "{\"model_type\":\"gpt2\"," SIZES "}"

static ErrCode parse(Gpt2Config *c, const char *text, Err *err)
{
    *err = (Err){ERR_OK, ""};
    memset(c, 0xee, sizeof *c);
    return config_parse(c, text, strlen(text), "m/config.json", err);
}

static Gpt2Config parsed(const char *text)
{
    Gpt2Config c;
    Err err;

    if (parse(&c, text, &err) != ERR_OK)
        fail_msg("%s: %s", text, err.msg);
    return c;
}

static void missing_fields_have_the_published_defaults(void **state)
{
    const Gpt2Config c = parsed(BASE);

    (void)state;
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.n_heads, 4);
    assert_int_equal(c.dim, 48);
    assert_int_equal(c.head_dim, 12);
    assert_int_equal(c.ffn_dim, 192);
    assert_int_equal(c.n_ctx, 64);
    assert_int_equal(c.vocab_size, 512);
    assert_true(c.eps == 1e-5f);
    assert_int_equal(c.activation, ACT_GELU_TANH);
    assert_string_equal(c.activation_name, "gelu_new");
    assert_true(c.scale_attn);
    assert_false(c.scale_attn_by_layer);
    assert_true(c.tied_head);
    assert_int_equal(c.n_eos, 0); /* 50256 is outside this vocabulary */
}

static void honours_every_size_and_switch(void **state)
{
    const Gpt2Config c = parsed(
        "{\"model_type\":\"gpt2\",\"n_layer\":3,\"n_head\":17,\"n_embd\":1088,\"n_positions\":2580,"
        "\"vocab_size\":51200,\"n_inner\":4352,\"layer_norm_epsilon\":0.001,\"scale_attn_weights\":"
        "false,"
        "\"scale_attn_by_inverse_layer_idx\":true,\"reorder_and_upcast_attn\":true,"
        "\"tie_word_embeddings\":false,\"activation_function\":\"gelu\",\"unknown\":{\"x\":[1]}}");

    (void)state;
    assert_int_equal(c.n_heads, 17);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.ffn_dim, 4352);
    assert_int_equal(c.n_ctx, 2580);
    assert_true(c.eps == 0.001f);
    assert_int_equal(c.activation, ACT_GELU_ERF);
    assert_false(c.scale_attn);
    assert_true(c.scale_attn_by_layer);
    assert_false(c.tied_head);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos_ids[0], 50256);
}

static void null_counts_as_missing_where_a_field_is_optional(void **state)
{
    const Gpt2Config c = parsed(WITH("\"activation_function\":null,\"layer_norm_epsilon\":null,"
                                     "\"scale_attn_by_inverse_layer_idx\":null,"
                                     "\"scale_attn_weights\":null,\"tie_word_embeddings\":null"));

    (void)state;
    assert_int_equal(c.activation, ACT_GELU_TANH);
    assert_true(c.eps == 1e-5f);
    assert_true(c.scale_attn && !c.scale_attn_by_layer && c.tied_head);
}

static void n_inner_null_is_four_times_n_embd(void **state)
{
    (void)state;
    assert_int_equal(parsed(WITH("\"n_inner\":null")).ffn_dim, 192);
    assert_int_equal(parsed(WITH("\"n_inner\":37")).ffn_dim, 37);
}

static void n_ctx_counts_only_without_n_positions(void **state)
{
    (void)state;
    assert_int_equal(parsed(WITH("\"n_ctx\":7")).n_ctx, 64);
    assert_int_equal(parsed("{\"model_type\":\"gpt2\",\"n_layer\":2,\"n_head\":4,\"n_embd\":48,"
                            "\"n_ctx\":7,\"vocab_size\":512}")
                         .n_ctx,
                     7);
}

static void knows_the_activations(void **state)
{
    static const struct {
        const char *name;
        Activation activation;
    } cases[] = {
        {"gelu_new", ACT_GELU_TANH},
        {"gelu_fast", ACT_GELU_TANH},
        {"gelu_pytorch_tanh", ACT_GELU_TANH},
        {"gelu", ACT_GELU_ERF},
        {"relu", ACT_RELU},
        {"silu", ACT_SILU},
        {"tanh", ACT_TANH},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, WITH("\"activation_function\":\"%s\""), cases[i].name);
        const Gpt2Config c = parsed(text);
        assert_int_equal(c.activation, cases[i].activation);
        assert_string_equal(c.activation_name, cases[i].name);
    }
}

static void accepts_known_classes(void **state)
{
    (void)state;
    (void)parsed(WITH("\"architectures\":[\"GPT2LMHeadModel\"]"));
    (void)parsed(WITH("\"architectures\":[\"GPT2Model\",\"GPT2DoubleHeadsModel\"]"));
    (void)parsed(WITH("\"architectures\":null,\"auto_map\":null,\"quantization_config\":null"));
    (void)parsed(WITH("\"add_cross_attention\":false,\"bos_token_id\":null,\"pad_token_id\":5"));
}

typedef struct {
    const char *text;
    ErrCode code;
    const char *message; /* behind "m/config.json: " */
} BadCase;

static const BadCase bad[] = {
    {"[]", ERR_FORMAT, "not a JSON object"},
    {"3", ERR_FORMAT, "not a JSON object"},
    {"", ERR_FORMAT, "line 1"},
    {"{", ERR_FORMAT, "line 1"},
    {"{\"model_type\":\"gpt2\",\"model_type\":\"gpt2\"," SIZES "}", ERR_FORMAT, "line 1"},
    /* classes */
    {"{" SIZES "}", ERR_FORMAT, "model_type is missing, expected \"gpt2\""},
    {"{\"model_type\":null," SIZES "}", ERR_FORMAT, "model_type is null, expected \"gpt2\""},
    {"{\"model_type\":\"gpt_neo\"," SIZES "}", ERR_UNSUPPORTED,
     "model_type is \"gpt_neo\", expected \"gpt2\""},
    {"{\"model_type\":\"GPT2\"," SIZES "}", ERR_UNSUPPORTED, "model_type is \"GPT2\""},
    {WITH("\"architectures\":[\"GPT2LMHeadCustomModel\"]"), ERR_UNSUPPORTED,
     "architectures is \"GPT2LMHeadCustomModel\", expected GPT2LMHeadModel"},
    {WITH("\"architectures\":[\"GPT2LMHeadModel\",\"X\"]"), ERR_UNSUPPORTED,
     "architectures is \"X\""},
    {WITH("\"architectures\":[\"GPT2ForSequenceClassification\"]"), ERR_UNSUPPORTED,
     "architectures is"},
    {WITH("\"architectures\":\"GPT2LMHeadModel\""), ERR_FORMAT,
     "architectures is \"GPT2LMHeadModel\", expected a list"},
    {WITH("\"architectures\":[1]"), ERR_FORMAT, "architectures is 1"},
    {WITH("\"auto_map\":{\"AutoModel\":\"x.Y\"}"), ERR_UNSUPPORTED, "auto_map is an object"},
    {WITH("\"add_cross_attention\":true"), ERR_UNSUPPORTED,
     "add_cross_attention is true, expected false"},
    {WITH("\"add_cross_attention\":1"), ERR_FORMAT,
     "add_cross_attention is 1, expected true or false"},
    {WITH("\"quantization_config\":{\"bits\":8}"), ERR_UNSUPPORTED,
     "quantization_config is an object"},
    {WITH("\"reorder_and_upcast_attn\":\"no\""), ERR_FORMAT, "reorder_and_upcast_attn is \"no\""},
    /* activation, epsilon, switches */
    {WITH("\"activation_function\":\"swiglu\""), ERR_UNSUPPORTED,
     "activation_function is \"swiglu\", expected gelu_new, gelu, gelu_fast, gelu_pytorch_tanh, "
     "relu, silu or tanh"},
    {WITH("\"activation_function\":\"GELU\""), ERR_UNSUPPORTED, "activation_function is \"GELU\""},
    {WITH("\"layer_norm_epsilon\":0"), ERR_FORMAT, "layer_norm_epsilon is 0, expected above 0"},
    {WITH("\"layer_norm_epsilon\":-1e-5"), ERR_FORMAT, "layer_norm_epsilon is -1e-05"},
    {WITH("\"layer_norm_epsilon\":1e-60"), ERR_FORMAT, "layer_norm_epsilon is 1e-60"},
    {WITH("\"layer_norm_epsilon\":1e300"), ERR_FORMAT, "layer_norm_epsilon is 1e+300"},
    {WITH("\"layer_norm_epsilon\":\"1e-5\""), ERR_FORMAT,
     "layer_norm_epsilon is \"1e-5\", expected a number"},
    {WITH("\"scale_attn_weights\":1"), ERR_FORMAT,
     "scale_attn_weights is 1, expected true or false"},
    {WITH("\"tie_word_embeddings\":\"true\""), ERR_FORMAT, "tie_word_embeddings is \"true\""},
    {WITH("\"n_inner\":0"), ERR_FORMAT, "ffn_dim must be > 0"},
    {WITH("\"n_inner\":-1"), ERR_FORMAT, "ffn_dim must be > 0"},
    {WITH("\"n_inner\":false"), ERR_FORMAT, "n_inner is false, expected a positive integer"},
    {WITH("\"n_inner\":262145"), ERR_LIMIT, "ffn_dim must be at most 262144, found 262145"},
    /* special ids */
    {WITH("\"eos_token_id\":\"<|endoftext|>\""), ERR_FORMAT,
     "eos_token_id is \"<|endoftext|>\", expected an integer"},
    {WITH("\"eos_token_id\":5.0"), ERR_FORMAT, "eos_token_id is a fraction (5)"},
    {WITH("\"eos_token_id\":true"), ERR_FORMAT, "eos_token_id is true"},
    {WITH("\"eos_token_id\":[1,[2]]"), ERR_FORMAT, "eos_token_id is a list"},
    {WITH("\"eos_token_id\":[1,null]"), ERR_FORMAT, "eos_token_id is null"},
    {WITH("\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]"), ERR_LIMIT,
     "eos_token_id has more than 16 ids"},
    {WITH("\"eos_token_id\":[-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1]"), ERR_LIMIT,
     "eos_token_id has more than 16 ids"}, /* each would be a line of the log */
    {WITH("\"eos_token_ids\":\"1\""), ERR_FORMAT, "eos_token_ids is \"1\""},
    /* a name goes on behind a NUL */
    {"{\"model_type\":\"gpt2\\u0000x\"," SIZES "}", ERR_UNSUPPORTED,
     "model_type is \"gpt2\" with a NUL behind it, expected \"gpt2\""},
    {WITH("\"architectures\":[\"GPT2Model\\u0000\"]"), ERR_UNSUPPORTED,
     "architectures is \"GPT2Model\" with a NUL behind it"},
    {WITH("\"activation_function\":\"relu\\u0000\""), ERR_UNSUPPORTED,
     "activation_function is \"relu\" with a NUL behind it"},
    {WITH("\"bos_token_id\":\"a\""), ERR_FORMAT,
     "bos_token_id is \"a\", expected an integer or null"},
    {WITH("\"pad_token_id\":1.5"), ERR_FORMAT, "pad_token_id is a fraction (1.5)"},
};

static void refuses_every_wrong_field(void **state)
{
    static const char prefix[] = "m/config.json: ";
    Gpt2Config c, untouched;
    Err err;

    (void)state;
    memset(&untouched, 0xee, sizeof untouched);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (parse(&c, bad[i].text, &err) == ERR_OK)
            fail_msg("accepted: %s", bad[i].text);
        if (err.code != bad[i].code || strncmp(err.msg, prefix, sizeof prefix - 1) != 0 ||
            strncmp(err.msg + sizeof prefix - 1, bad[i].message, strlen(bad[i].message)) != 0)
            fail_msg("%s: %d %s", bad[i].text, (int)err.code, err.msg);
        assert_memory_equal(&c, &untouched, sizeof c);
    }
}

/* Each required size in turn: missing, of another type, zero, negative, too large for int, for 64
 * bits, for us. */
static void refuses_wrong_sizes(void **state)
{
    static const struct {
        const char *key, *name;
        long long max;
    } keys[] = {
        {"n_layer", "num_layers", GPT2_MAX_LAYERS},   {"n_head", "num_heads", GPT2_MAX_DIM},
        {"n_embd", "hidden_dim", GPT2_MAX_DIM},       {"n_positions", "max_seq_len", GPT2_MAX_CTX},
        {"vocab_size", "vocab_size", GPT2_MAX_VOCAB},
    };
    static const char *const wrong_types[] = {"null", "\"2\"", "2.0", "2e0",
                                              "true", "[2]",   "{}",  "0.5"};
    char text[512], want[128], value[32];
    Gpt2Config c;
    Err err;

    (void)state;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (int how = 0; how < 6 + 8; how++) {
            size_t n = (size_t)snprintf(text, sizeof text, "{\"model_type\":\"gpt2\"");

            snprintf(want, sizeof want, "m/config.json: %s is ", keys[k].key);
            if (how == 0)
                value[0] = '\0';
            else if (how == 1 || how == 2)
                snprintf(value, sizeof value, how == 1 ? "0" : "-9223372036854775808");
            else if (how == 3)
                snprintf(value, sizeof value, "%lld", keys[k].max + 1);
            else if (how == 4)
                snprintf(value, sizeof value, "4294967298"); /* 2 after cutting to 32 bits */
            else if (how == 5)
                snprintf(value, sizeof value, "18446744073709551618"); /* 2 after cutting to 64 */
            else
                snprintf(value, sizeof value, "%s", wrong_types[how - 6]);
            if (how == 1 || how == 2)
                snprintf(want, sizeof want, "m/config.json: %s must be > 0", keys[k].name);
            if (how == 3)
                snprintf(want, sizeof want, "m/config.json: %s must be at most %lld, found %s",
                         keys[k].name, keys[k].max, value);
            if (how == 5)
                snprintf(want, sizeof want, "m/config.json: line 1");
            for (size_t j = 0; j < sizeof keys / sizeof keys[0]; j++)
                if (j != k)
                    n += (size_t)snprintf(text + n, sizeof text - n, ",\"%s\":4", keys[j].key);
                else if (how != 0)
                    n += (size_t)snprintf(text + n, sizeof text - n, ",\"%s\":%s", keys[j].key,
                                          value);
            snprintf(text + n, sizeof text - n, "}");
            if (parse(&c, text, &err) == ERR_OK)
                fail_msg("accepted: %s", text);
            if (strncmp(err.msg, want, strlen(want)) != 0)
                fail_msg("%s: %s, expected %s", text, err.msg, want);
        }
    }
}

static void heads_must_divide_the_width(void **state)
{
    Gpt2Config c = parsed(BASE);
    Err err;

    (void)state;
    c.n_heads = 5;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "hidden_dim must be divisible by num_heads, found 48 and 5");
    c.n_heads = 96;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    c = parsed(BASE);
    assert_int_equal(config_check(&c, &err), ERR_OK);
    c.vocab_size = 0;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "vocab_size must be > 0");
    c = parsed(BASE);
    c.eps = 1.0f;
    assert_int_equal(config_check(&c, &err), ERR_OK);
    c.eps = 2.0f;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "layer_norm_epsilon must be at most 1, found 2");
    c.eps = 1.0f / 0.0f;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    c.eps = 0.0f / 0.0f;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "layer_norm_epsilon must be > 0");
    c = parsed(WITH("\"eos_token_id\":511"));
    c.vocab_size = 511;
    assert_int_equal(config_check(&c, &err), ERR_FORMAT);
}

static void check_eos(const char *text, const char *generation, int n, const int *ids)
{
    Gpt2Config c = parsed(text);
    Err err = {ERR_OK, ""};

    if (generation != NULL &&
        config_parse_generation(&c, generation, strlen(generation), "g", &err) != ERR_OK)
        fail_msg("%s: %s", generation, err.msg);
    if (c.n_eos != n)
        fail_msg("%s %s: %d ids, expected %d", text, generation, c.n_eos, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(c.eos_ids[i], ids[i]);
}

static void end_of_text_ids_come_from_the_right_place(void **state)
{
    (void)state;
    log_init(LOG_OFF, NULL);
    check_eos(WITH("\"eos_token_id\":511"), NULL, 1, (int[]){511});
    check_eos(WITH("\"eos_token_id\":[3,1,3,2]"), NULL, 3, (int[]){3, 1, 2});
    check_eos(WITH("\"eos_token_id\":null"), NULL, 0, NULL);
    assert_false(parsed(WITH("\"eos_token_id\":null")).eos_unnamed);
    assert_true(
        parsed(WITH("\"n_inner\":null")).eos_unnamed); /* nothing is said: ask the tokenizer */
    check_eos(WITH("\"eos_token_id\":[]"), NULL, 0, NULL);
    check_eos(WITH("\"eos_token_ids\":[7]"), NULL, 1, (int[]){7});
    check_eos(WITH("\"eos_token_ids\":7"), NULL, 1, (int[]){7});
    check_eos(WITH("\"eos_token_ids\":[7],\"eos_token_id\":8"), NULL, 1, (int[]){8});
    check_eos(WITH("\"eos_token_ids\":[7],\"eos_token_id\":null"), NULL, 1, (int[]){7});
    /* outside the vocabulary: ignored */
    check_eos(WITH("\"eos_token_id\":512"), NULL, 0, NULL);
    check_eos(WITH("\"eos_token_id\":-1"), NULL, 0, NULL);
    check_eos(WITH("\"eos_token_id\":4294967296"), NULL, 0, NULL);
    check_eos(WITH("\"eos_token_id\":[50256,5]"), NULL, 1, (int[]){5});
    /* generation_config.json wins, if it says anything */
    check_eos(WITH("\"eos_token_id\":511"), "{\"eos_token_id\":1}", 1, (int[]){1});
    check_eos(WITH("\"eos_token_id\":511"), "{\"eos_token_id\":[1,2]}", 2, (int[]){1, 2});
    check_eos(WITH("\"eos_token_id\":511"), "{\"eos_token_id\":null}", 0, NULL);
    check_eos(WITH("\"eos_token_id\":511"), "{}", 1, (int[]){511});
    check_eos(WITH("\"eos_token_id\":511"), "{\"bos_token_id\":1}", 1, (int[]){511});
    /* the published default needs a vocabulary that has it */
    check_eos("{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_head\":1,\"n_embd\":1,\"n_positions\":1,"
              "\"vocab_size\":50257}",
              NULL, 1, (int[]){50256});
    check_eos("{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_head\":1,\"n_embd\":1,\"n_positions\":1,"
              "\"vocab_size\":50256}",
              NULL, 0, NULL);
    log_init(LOG_INFO, NULL);
}

static void refuses_wrong_generation_configs(void **state)
{
    static const char *const texts[] = {"[]",
                                        "{",
                                        "{\"eos_token_id\":\"x\"}",
                                        "{\"eos_token_id\":1.0}",
                                        "{\"eos_token_id\":{}}",
                                        "{\"eos_token_id\":1,\"eos_token_id\":1}"};
    Gpt2Config c = parsed(WITH("\"eos_token_id\":511"));
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(config_parse_generation(&c, texts[i], strlen(texts[i]), "g.json", &err),
                         ERR_FORMAT);
        assert_true(strncmp(err.msg, "g.json: ", 8) == 0);
        assert_int_equal(c.n_eos, 1);
        assert_int_equal(c.eos_ids[0], 511);
    }
}

static void every_prefix_is_refused(void **state)
{
    static const char text[] = WITH("\"eos_token_id\":[1,2],\"activation_function\":\"relu\"");
    unsigned char *page =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Gpt2Config c;
    Err err;

    (void)state;
    assert_true(page != MAP_FAILED);
    assert_int_equal(mprotect(page + 4096, 4096, PROT_NONE), 0);
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *copy = (char *)page + 4096 - n;

        memcpy(copy, text, n);
        assert_int_equal(config_parse(&c, copy, n, "x", &err), ERR_FORMAT);
    }
    (void)munmap(page, 8192);
}

static char dir[] = "/tmp/llorch-config-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(text, 1, strlen(text), f) == strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void loads_both_files_of_a_directory(void **state)
{
    char path[256];
    Gpt2Config c;
    Err err;

    (void)state;
    assert_int_equal(config_load(&c, dir, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/config.json: No such file"));
    put("config.json", WITH("\"eos_token_id\":5"));
    assert_int_equal(config_load(&c, dir, &err), ERR_OK);
    assert_int_equal(c.eos_ids[0], 5);
    put("generation_config.json", "{\"eos_token_id\":6}");
    assert_int_equal(config_load(&c, dir, &err), ERR_OK);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos_ids[0], 6);
    put("generation_config.json", "{");
    c.n_layers = 77;
    assert_int_equal(config_load(&c, dir, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "/generation_config.json: line 1"));
    assert_int_equal(c.n_layers, 77);
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    unlink(path);
    assert_int_equal(symlink("gone", path), 0);
    assert_int_equal(config_load(&c, dir, &err), ERR_IO);
    unlink(path);
    put("config.json", "version https://git-lfs.github.com/spec/v1\n");
    assert_int_equal(config_load(&c, dir, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "Git LFS"));
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
}

static void loads_real_configs(void **state)
{
    Gpt2Config c;
    Err err;

    (void)state;
    assert_int_equal(config_load(&c, "tests/data/tiny-gpt2", &err), ERR_OK);
    assert_int_equal(c.vocab_size, 512);
    assert_int_equal(c.eos_ids[0], 511);
    assert_int_equal(config_load(&c, "models/shakespeare", &err), ERR_OK);
    assert_int_equal(c.n_heads, 3);
    assert_int_equal(c.ffn_dim, 768);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_fields_have_the_published_defaults),
        cmocka_unit_test(honours_every_size_and_switch),
        cmocka_unit_test(null_counts_as_missing_where_a_field_is_optional),
        cmocka_unit_test(n_inner_null_is_four_times_n_embd),
        cmocka_unit_test(n_ctx_counts_only_without_n_positions),
        cmocka_unit_test(knows_the_activations),
        cmocka_unit_test(accepts_known_classes),
        cmocka_unit_test(refuses_every_wrong_field),
        cmocka_unit_test(refuses_wrong_sizes),
        cmocka_unit_test(heads_must_divide_the_width),
        cmocka_unit_test(end_of_text_ids_come_from_the_right_place),
        cmocka_unit_test(refuses_wrong_generation_configs),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(loads_both_files_of_a_directory),
        cmocka_unit_test(loads_real_configs),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
