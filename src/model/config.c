/* model/config.c: reads config.json field by field; what would change the result and is not
 * computed is refused.
 *
 * May include: common. */
#include "model/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mapped_file.h"

enum {
    CONFIG_MAX_BYTES = 256 * 1024 * 1024,
    CONFIG_MAX_VALUES = 100000, /* published files have fewer than 100 */
    CONFIG_DEFAULT_EOS = 50256  /* <|endoftext|> of the published models */
};

/* The object being read and the name of its file, for messages. */
typedef struct {
    const json_t *root;
    const char *what;
    Err *err;
} Fields;

static const struct {
    const char *name;
    Activation activation;
} activations[] = {
    {"gelu_new", ACT_GELU_TANH}, {"gelu_fast", ACT_GELU_TANH}, {"gelu_pytorch_tanh", ACT_GELU_TANH},
    {"gelu", ACT_GELU_ERF},      {"relu", ACT_RELU},           {"silu", ACT_SILU},
    {"tanh", ACT_TANH},
};

/* What v is, as the found part of a message. */
static const char *found(char *out, size_t size, const json_t *v)
{
    if (v == NULL)
        return "missing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        (void)snprintf(
            out, size, "\"%s\"%s", json_string_value(v),
            strlen(json_string_value(v)) < json_string_length(v) ? " with a NUL behind it" : "");
        return out;
    case JSON_INTEGER:
        (void)snprintf(out, size, "%lld", (long long)json_integer_value(v));
        return out;
    case JSON_REAL:
        (void)snprintf(out, size, "a fraction (%.17g)", json_real_value(v));
        return out;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        break;
    }
    return "null";
}

static ErrCode wrong(const Fields *f, ErrCode code, const char *key, const json_t *v,
                     const char *expected)
{
    char text[128];

    return err_set(f->err, code, "%s: %s is %s, expected %s", f->what, key,
                   found(text, sizeof text, v), expected);
}

/* Writers differ: a field without a value is left out by one and null in the file of another. */
static bool is_given(const json_t *v)
{
    return v != NULL && !json_is_null(v);
}

/* Whether v is this text: all of it, a NUL in it does not end it. */
static bool is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && json_string_length(v) == strlen(text) &&
           memcmp(json_string_value(v), text, strlen(text)) == 0;
}

/* An integer that fits int. Its range is checked by config_check, which knows what it stands for.
 */
static ErrCode read_int(const Fields *f, const char *key, int *out)
{
    const json_t *v = json_object_get(f->root, key);

    if (!json_is_integer(v))
        return wrong(f, ERR_FORMAT, key, v, "a positive integer");
    if (json_integer_value(v) > INT_MAX)
        return wrong(f, ERR_LIMIT, key, v, "a positive integer below 2^31");
    /* All negative numbers are equally wrong; their size must not matter. */
    *out = json_integer_value(v) < 0 ? -1 : (int)json_integer_value(v);
    return ERR_OK;
}

static ErrCode read_bool(const Fields *f, const char *key, bool missing, bool *out)
{
    const json_t *v = json_object_get(f->root, key);

    if (is_given(v) && !json_is_boolean(v))
        return wrong(f, ERR_FORMAT, key, v, "true or false");
    *out = is_given(v) ? json_is_true(v) : missing;
    return ERR_OK;
}

/* "gpt2" is not enough: models with code of their own say it too, and mean another forward pass. */
static ErrCode check_classes(const Fields *f)
{
    static const char *const known[] = {"GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel"};
    const json_t *type = json_object_get(f->root, "model_type");
    const json_t *list = json_object_get(f->root, "architectures");
    const json_t *map = json_object_get(f->root, "auto_map");

    if (!json_is_string(type))
        return wrong(f, ERR_FORMAT, "model_type", type, "\"gpt2\"");
    if (!is_text(type, "gpt2"))
        return wrong(f, ERR_UNSUPPORTED, "model_type", type, "\"gpt2\"");
    if (is_given(map))
        return wrong(f, ERR_UNSUPPORTED, "auto_map", map, "none: the model brings its own code");
    if (is_given(list) && !json_is_array(list))
        return wrong(f, ERR_FORMAT, "architectures", list, "a list of strings");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        bool ok = false;

        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            ok = ok || is_text(v, known[k]);
        if (!ok)
            return wrong(f, json_is_string(v) ? ERR_UNSUPPORTED : ERR_FORMAT, "architectures", v,
                         "GPT2LMHeadModel");
    }
    return ERR_OK;
}

/* Fields that would make it another computation. */
static ErrCode check_refused(const Fields *f)
{
    bool cross = false, upcast = false;
    const json_t *quantized = json_object_get(f->root, "quantization_config");

    /* reorder_and_upcast_attn guards half precision; in float32 the result is the same either way.
     */
    if (read_bool(f, "add_cross_attention", false, &cross) != ERR_OK ||
        read_bool(f, "reorder_and_upcast_attn", false, &upcast) != ERR_OK)
        return f->err->code;
    if (cross)
        return wrong(f, ERR_UNSUPPORTED, "add_cross_attention",
                     json_object_get(f->root, "add_cross_attention"), "false");
    if (is_given(quantized))
        return wrong(f, ERR_UNSUPPORTED, "quantization_config", quantized,
                     "null: quantized weights are not read");
    return ERR_OK;
}

static ErrCode read_activation(const Fields *f, Gpt2Config *c)
{
    const json_t *v = json_object_get(f->root, "activation_function");

    if (is_given(v) && !json_is_string(v))
        return wrong(f, ERR_FORMAT, "activation_function", v, "a string");
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++)
        /* The first is what a file means that names none. */
        if (!is_given(v) || is_text(v, activations[i].name)) {
            c->activation = activations[i].activation;
            c->activation_name = activations[i].name;
            return ERR_OK;
        }
    return wrong(f, ERR_UNSUPPORTED, "activation_function", v,
                 "gelu_new, gelu, gelu_fast, gelu_pytorch_tanh, relu, silu or tanh");
}

static ErrCode read_eps(const Fields *f, Gpt2Config *c)
{
    const json_t *v = json_object_get(f->root, "layer_norm_epsilon");

    if (is_given(v) && !json_is_number(v))
        return wrong(f, ERR_FORMAT, "layer_norm_epsilon", v, "a number");
    const double eps = is_given(v) ? json_number_value(v) : 1e-5;
    /* Compared after rounding: 1e-60 is positive, but not as a float. */
    c->eps = eps <= 1.0 ? (float)eps : 2.0f;
    if (!(c->eps > 0.0f && c->eps <= 1.0f))
        return err_set(f->err, ERR_FORMAT,
                       "%s: layer_norm_epsilon is %g, expected above 0 and at most 1", f->what,
                       eps);
    return ERR_OK;
}

static ErrCode read_sizes(const Fields *f, Gpt2Config *c)
{
    const json_t *inner = json_object_get(f->root, "n_inner");
    /* Older files have both names; n_ctx is the size of the mask buffer there, n_positions that of
     * the table. */
    const char *ctx_key = is_given(json_object_get(f->root, "n_positions")) ||
                                  !is_given(json_object_get(f->root, "n_ctx"))
                              ? "n_positions"
                              : "n_ctx";

    if (read_int(f, "n_layer", &c->n_layers) != ERR_OK ||
        read_int(f, "n_head", &c->n_heads) != ERR_OK || read_int(f, "n_embd", &c->dim) != ERR_OK ||
        read_int(f, ctx_key, &c->n_ctx) != ERR_OK ||
        read_int(f, "vocab_size", &c->vocab_size) != ERR_OK)
        return f->err->code;
    if (is_given(inner))
        return read_int(f, "n_inner", &c->ffn_dim);
    c->ffn_dim = c->dim > 0 && c->dim <= GPT2_MAX_DIM ? 4 * c->dim : 0;
    return ERR_OK;
}

/* Adds one special id; one outside the vocabulary is dropped with a warning, it must never index
 * anything. */
static ErrCode add_eos(const Fields *f, Gpt2Config *c, const char *key, const json_t *v)
{
    if (!json_is_integer(v))
        return wrong(f, ERR_FORMAT, key, v, "an integer, a list of integers or null");
    const json_int_t id = json_integer_value(v);
    if (id < 0 || id >= c->vocab_size) {
        log_line(LOG_WARN, "special token outside the vocabulary is ignored", "s:file", f->what,
                 "s:key", key, "i:id", (long long)id, "i:vocab_size", (long long)c->vocab_size,
                 NULL);
        return ERR_OK;
    }
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == (int)id)
            return ERR_OK;
    c->eos_ids[c->n_eos++] = (int)id;
    return ERR_OK;
}

/* Replaces the end-of-text ids by v: an integer, a list of integers, or null for none. */
static ErrCode set_eos(const Fields *f, Gpt2Config *c, const char *key, const json_t *v)
{
    c->n_eos = 0;
    c->eos_unnamed = false;
    if (json_is_null(v))
        return ERR_OK;
    if (!json_is_array(v))
        return add_eos(f, c, key, v);
    /* Before a word is said about each of them. */
    if (json_array_size(v) > GPT2_MAX_EOS)
        return err_set(f->err, ERR_LIMIT, "%s: %s has more than %d ids", f->what, key,
                       (int)GPT2_MAX_EOS);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (add_eos(f, c, key, json_array_get(v, i)) != ERR_OK)
            return f->err->code;
    return ERR_OK;
}

static ErrCode read_eos(const Fields *f, Gpt2Config *c)
{
    const json_t *one = json_object_get(f->root, "eos_token_id");
    const json_t *old = json_object_get(f->root, "eos_token_ids"); /* files before 2020 */

    if (!is_given(one) && is_given(old))
        return set_eos(f, c, "eos_token_ids", old);
    if (one != NULL)
        return set_eos(f, c, "eos_token_id", one);
    c->eos_unnamed = c->vocab_size <= CONFIG_DEFAULT_EOS;
    if (!c->eos_unnamed) {
        c->eos_ids[0] = CONFIG_DEFAULT_EOS;
        c->n_eos = 1;
    }
    return ERR_OK;
}

/* bos and pad are not used for computing; a wrong type still shows that the file is damaged. */
static ErrCode check_unused_ids(const Fields *f, const Gpt2Config *c)
{
    static const char *const keys[] = {"bos_token_id", "pad_token_id"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *v = json_object_get(f->root, keys[i]);

        if (!is_given(v))
            continue;
        if (!json_is_integer(v))
            return wrong(f, ERR_FORMAT, keys[i], v, "an integer or null");
        if (json_integer_value(v) < 0 || json_integer_value(v) >= c->vocab_size)
            log_line(LOG_WARN, "special token outside the vocabulary is ignored", "s:file", f->what,
                     "s:key", keys[i], "i:id", (long long)json_integer_value(v), "i:vocab_size",
                     (long long)c->vocab_size, NULL);
    }
    return ERR_OK;
}

ErrCode config_check(const Gpt2Config *c, Err *err)
{
    const struct {
        const char *name;
        int value, max;
    } sizes[] = {
        {"vocab_size", c->vocab_size, GPT2_MAX_VOCAB}, {"hidden_dim", c->dim, GPT2_MAX_DIM},
        {"num_layers", c->n_layers, GPT2_MAX_LAYERS},  {"num_heads", c->n_heads, GPT2_MAX_DIM},
        {"max_seq_len", c->n_ctx, GPT2_MAX_CTX},       {"ffn_dim", c->ffn_dim, GPT2_MAX_FFN},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value <= 0)
            return err_set(err, ERR_FORMAT, "%s must be > 0", sizes[i].name);
        if (sizes[i].value > sizes[i].max)
            return err_set(err, ERR_LIMIT, "%s must be at most %d, found %d", sizes[i].name,
                           sizes[i].max, sizes[i].value);
    }
    if (c->dim % c->n_heads != 0)
        return err_set(err, ERR_FORMAT,
                       "hidden_dim must be divisible by num_heads, found %d and %d", c->dim,
                       c->n_heads);
    if (!(c->eps > 0.0f))
        return err_set(err, ERR_FORMAT, "layer_norm_epsilon must be > 0");
    if (c->eps > 1.0f)
        return err_set(err, ERR_FORMAT, "layer_norm_epsilon must be at most 1, found %g",
                       (double)c->eps);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] < 0 || c->eos_ids[i] >= c->vocab_size)
            return err_set(err, ERR_FORMAT, "eos_token_id must be below vocab_size, found %d",
                           c->eos_ids[i]);
    return ERR_OK;
}

static ErrCode read_fields(const Fields *f, Gpt2Config *c)
{
    if (check_classes(f) != ERR_OK || check_refused(f) != ERR_OK || read_sizes(f, c) != ERR_OK ||
        read_activation(f, c) != ERR_OK || read_eps(f, c) != ERR_OK ||
        read_bool(f, "scale_attn_weights", true, &c->scale_attn) != ERR_OK ||
        read_bool(f, "scale_attn_by_inverse_layer_idx", false, &c->scale_attn_by_layer) != ERR_OK ||
        read_bool(f, "tie_word_embeddings", true, &c->tied_head) != ERR_OK)
        return f->err->code;
    /* Before the special ids, which are compared with a vocabulary that must make sense. */
    if (config_check(c, f->err) != ERR_OK)
        return err_prefix(f->err, "%s", f->what);
    if (read_eos(f, c) != ERR_OK || check_unused_ids(f, c) != ERR_OK)
        return f->err->code;
    assert(c->n_heads > 0);
    c->head_dim = c->dim / c->n_heads;
    return ERR_OK;
}

/* Reads the parsed root into *c, which stays untouched on failure, and gives root back. */
static ErrCode take_config(Gpt2Config *c, json_t *root, const char *what, Err *err)
{
    Gpt2Config made;
    const Fields f = {root, what, err};

    memset(&made, 0, sizeof made);
    if (root == NULL)
        return err->code;
    const ErrCode code = json_is_object(root)
                             ? read_fields(&f, &made)
                             : err_set(err, ERR_FORMAT, "%s: not a JSON object", what);
    json_decref(root);
    if (code == ERR_OK)
        *c = made;
    return code;
}

static ErrCode take_generation(Gpt2Config *c, json_t *root, const char *what, Err *err)
{
    Gpt2Config made = *c;
    const Fields f = {root, what, err};
    ErrCode code = ERR_OK;

    if (root == NULL)
        return err->code;
    const json_t *eos = json_object_get(root, "eos_token_id");
    if (!json_is_object(root))
        code = err_set(err, ERR_FORMAT, "%s: not a JSON object", what);
    else if (eos != NULL)
        code = set_eos(&f, &made, "eos_token_id", eos);
    json_decref(root);
    if (code == ERR_OK)
        *c = made;
    return code;
}

ErrCode config_parse(Gpt2Config *c, const char *text, size_t n, const char *what, Err *err)
{
    Err own = {ERR_OK, ""};

    if (err == NULL)
        err = &own;
    return take_config(c, json_parse_bounded(text, n, CONFIG_MAX_VALUES, what, err), what, err);
}

ErrCode config_parse_generation(Gpt2Config *c, const char *text, size_t n, const char *what,
                                Err *err)
{
    Err own = {ERR_OK, ""};

    if (err == NULL)
        err = &own;
    return take_generation(c, json_parse_bounded(text, n, CONFIG_MAX_VALUES, what, err), what, err);
}

static ErrCode join(char out[PATH_MAX], const char *dir, const char *name, Err *err)
{
    const int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

    if (n < 0 || n >= PATH_MAX)
        return err_set(err, ERR_IO, "%s/%s: %s", dir, name, strerror(ENAMETOOLONG));
    return ERR_OK;
}

static json_t *parse_file(const char *path, Err *err)
{
    return json_parse_file_bounded(path, CONFIG_MAX_BYTES, CONFIG_MAX_VALUES, err);
}

ErrCode config_load(Gpt2Config *c, const char *dir, Err *err)
{
    char path[PATH_MAX];
    Gpt2Config made;
    Err own = {ERR_OK, ""};

    if (err == NULL)
        err = &own;
    if (join(path, dir, "config.json", err) != ERR_OK)
        return err->code;
    ErrCode code = take_config(&made, parse_file(path, err), path, err);
    if (code != ERR_OK || (code = join(path, dir, "generation_config.json", err)) != ERR_OK)
        return code;
    if (mapped_file_is_there(path))
        code = take_generation(&made, parse_file(path, err), path, err);
    if (code == ERR_OK)
        *c = made;
    return code;
}

void config_json(JsonBuf *out, const Gpt2Config *c)
{
    json_buf_printf(out,
                    "{\"model_type\":\"gpt2\",\"n_layer\":%d,\"n_head\":%d,\"n_embd\":%d,"
                    "\"n_inner\":%d,\"n_positions\":%d,\"vocab_size\":%d,"
                    "\"layer_norm_epsilon\":%.17g,\"activation_function\":\"%s\",",
                    c->n_layers, c->n_heads, c->dim, c->ffn_dim, c->n_ctx, c->vocab_size,
                    (double)c->eps, c->activation_name);
    json_buf_printf(out,
                    "\"scale_attn_weights\":%s,\"scale_attn_by_inverse_layer_idx\":%s,"
                    "\"tie_word_embeddings\":%s,",
                    c->scale_attn ? "true" : "false", c->scale_attn_by_layer ? "true" : "false",
                    c->tied_head ? "true" : "false");
    json_buf_printf(out, "\"eos_token_id\":[");
    for (int i = 0; i < c->n_eos; i++)
        json_buf_printf(out, "%s%d", i > 0 ? "," : "", c->eos_ids[i]);
    json_buf_printf(out, "]}");
}

void config_name_eos(Gpt2Config *c, int id)
{
    if (!c->eos_unnamed || id < 0 || id >= c->vocab_size)
        return;
    c->eos_ids[0] = id;
    c->n_eos = 1;
    c->eos_unnamed = false;
}
