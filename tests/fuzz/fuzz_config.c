/* tests/fuzz/fuzz_config.c: a model's configuration, in both forms: config.json, and behind a zero
 * byte, if there is one, generation_config.json; or the metadata of a GGUF file. */
#include "fuzz.h"

#include "common/log.h"
#include "model/config.h"

static void check_config(const Gpt2Config *c)
{
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(config_check(c, &err) == ERR_OK);
    FUZZ_CHECK(c->head_dim > 0 && c->head_dim * c->n_heads == c->dim);
    FUZZ_CHECK(c->n_eos >= 0 && c->n_eos <= GPT2_MAX_EOS && !(c->eos_unnamed && c->n_eos > 0));
    FUZZ_CHECK(c->activation_name != NULL);
}

/* What is written says the same as what was read: "The model's own end of text" apart, which is
 * not known yet. */
static void check_round_trip(const Gpt2Config *c)
{
    Gpt2Config again;
    JsonBuf text = {0};
    Err err = {ERR_OK, ""};

    memset(&again, 0, sizeof again);
    config_json(&text, c);
    FUZZ_CHECK(!text.oom);
    FUZZ_CHECK(config_parse(&again, text.data, text.len, "again", &err) == ERR_OK);
    FUZZ_CHECK(again.n_layers == c->n_layers && again.n_heads == c->n_heads);
    FUZZ_CHECK(again.dim == c->dim && again.head_dim == c->head_dim);
    FUZZ_CHECK(again.ffn_dim == c->ffn_dim && again.n_ctx == c->n_ctx);
    FUZZ_CHECK(again.vocab_size == c->vocab_size && again.activation == c->activation);
    FUZZ_CHECK(memcmp(&again.eps, &c->eps, sizeof c->eps) == 0);
    FUZZ_CHECK(again.scale_attn == c->scale_attn && again.tied_head == c->tied_head);
    FUZZ_CHECK(again.scale_attn_by_layer == c->scale_attn_by_layer && again.n_eos == c->n_eos);
    FUZZ_CHECK(memcmp(again.eos_ids, c->eos_ids, (size_t)c->n_eos * sizeof c->eos_ids[0]) == 0);
    json_buf_free(&text);
}

static void from_gguf(const uint8_t *data, size_t size)
{
    Gguf *g = NULL;
    Gpt2Config c;
    Err err = {ERR_OK, ""};

    if (gguf_parse(&g, data, size, "fuzz.gguf", &err) != ERR_OK)
        return; /* fuzz_gguf looks at that */
    memset(&c, 0, sizeof c);
    const ErrCode code = config_from_gguf(&c, g, "fuzz.gguf", &err);
    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(c.n_layers == 0);
    } else {
        check_config(&c);
        check_round_trip(&c);
    }
    gguf_close(g);
}

static void from_json(const char *text, size_t n, const char *generation, size_t n_generation)
{
    Gpt2Config c;
    Err err = {ERR_OK, ""};

    memset(&c, 0, sizeof c);
    ErrCode code = config_parse(&c, text, n, "config.json", &err);
    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(c.n_layers == 0);
        return;
    }
    check_config(&c);
    check_round_trip(&c);
    if (generation == NULL)
        return;
    code = config_parse_generation(&c, generation, n_generation, "generation_config.json", &err);
    if (code != ERR_OK)
        fuzz_check_refusal(code, &err);
    check_config(&c); /* refused or not: c is whole */
    config_name_eos(&c, c.vocab_size - 1);
    FUZZ_CHECK(!c.eos_unnamed);
    check_config(&c);
    check_round_trip(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    const size_t n = zero == NULL ? size : (size_t)(zero - data);

    log_init(LOG_OFF, NULL);
    if (gguf_begins(data, size))
        from_gguf(data, size);
    else
        from_json((const char *)data, n, zero == NULL ? NULL : (const char *)zero + 1,
                  zero == NULL ? 0 : size - n - 1);
    return 0;
}
