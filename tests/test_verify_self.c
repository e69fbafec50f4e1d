/* tests/test_verify_self.c: `verify --reference self` finds deliberate mistakes, and says where: a
 * wrong epsilon, wrong kernels, exchanged weights, in any layer and in every kind of file. And it
 * finds none where there is none. */
#include "model_file_rig.h"

#include <math.h>

#include "checkpoint/double_pass.h"
#include "checkpoint/verify.h"
#include "quick.h"

enum { N_PROMPT = 5, LONG_PROMPT = 200 };

static Gpt2 models[2];
static const char *const model_paths[2] = {TINY, SHAKESPEARE};
static Kernels wrong; /* a copy to be spoilt */
static const Kernels *right;
static const void *target; /* panels of the product that is spoilt */

/* The tiny model alone where programs are slow. */
static int n_models(void)
{
    return quick() ? 1 : 2;
}

static int load_models(void **state)
{
    Err err = {0};

    for (int i = 0; i < n_models(); i++)
        load_model(&models[i], model_paths[i]);
    if (kernels_select(&right, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return rig_setup(state);
}

static int free_models(void **state)
{
    for (int i = 0; i < n_models(); i++)
        gpt2_free(&models[i]);
    return rig_teardown(state);
}

static VerifyResult verify_n(const Gpt2 *m, const Kernels *k, int n_ids)
{
    VerifyOptions options = {.reference = VERIFY_SELF, .n_ids = n_ids};
    int32_t ids[LONG_PROMPT];
    VerifyResult r;
    Err err = {0};

    for (int i = 0; i < n_ids; i++)
        ids[i] = (i * 7919 + 17) % m->config.vocab_size;
    options.ids = ids;
    if (verify_run(&r, m, NULL, k, &options, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(r.self);
    return r;
}

static VerifyResult verify(const Gpt2 *m, const Kernels *k)
{
    return verify_n(m, k, N_PROMPT);
}

/* The first fault is this stage of this layer. Frees the result. */
static void assert_found(VerifyResult r, int layer, const char *stage)
{
    char want[96];

    if (layer >= 0)
        (void)snprintf(want, sizeof want, "layer %d, %s (checkpoint ", layer, stage);
    else
        (void)snprintf(want, sizeof want, "%s (checkpoint ", stage);
    if (strncmp(r.fault, want, strlen(want)) != 0)
        fail_msg("%s, expected %s", r.fault, want);
    assert_int_equal(r.table.rows[r.first_fault].verdict, VERDICT_FAIL);
    assert_int_equal(r.table.rows[r.first_fault].layer, layer);
    assert_int_equal(verify_verdict(&r), VERDICT_FAIL);
    verify_result_free(&r);
}

static void assert_clean(VerifyResult r)
{
    if (r.first_fault >= 0)
        fail_msg("%s", r.fault);
    assert_int_equal(verify_verdict(&r), VERDICT_PASS);
    verify_result_free(&r);
}

/* ---- No fault ---- */

static void every_stage_of_every_layer_has_a_row(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++) {
        const int n_layers = models[i].config.n_layers;
        VerifyResult r = verify(&models[i], right);
        int seen[TAP_STAGE_COUNT] = {0};

        assert_int_equal(r.n_growth, n_layers);
        for (int n = 0; n < r.table.n_rows; n++) {
            const VerdictRow *row = &r.table.rows[n];

            if (!row->has_local)
                continue;
            seen[row->stage]++;
            assert_int_equal(row->verdict, VERDICT_PASS);
            assert_true(row->local.worst <= 1.0 && row->figures.worst <= row->tolerance);
            assert_true(row->map.rows > 0 && row->measured);
        }
        for (int s = 0; s < TAP_STAGE_COUNT; s++)
            assert_int_equal(seen[s], s == TAP_EMBEDDINGS || s >= TAP_LN_F ? 1 : n_layers);
        assert_clean(r);
    }
}

static void no_instruction_set_and_no_long_prompt_has_a_fault(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++)
        for (int n = 0; kernels_available(n) != NULL; n++)
            assert_clean(verify(&models[i], kernels_available(n)));
    assert_clean(verify_n(&models[0], right, models[0].config.n_ctx));
    if (!quick()) /* two passes of the engine */
        assert_clean(verify_n(&models[1], right, LONG_PROMPT));
}

static void the_double_pass_agrees_with_the_recorded_tensors(void **state)
{
    VerifyResult r;
    Err err = {0};

    (void)state;
    for (int i = 0; i < n_models(); i++) {
        const VerifyOptions options = {.keep_all = true};

        if (verify_run(&r, &models[i], NULL, right, &options, NULL, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_false(r.self);
        assert_int_equal(r.first_fault, -1);
        assert_int_equal(r.n_growth, models[i].config.n_layers);
        assert_non_null(capture_stage(&r.capture, TAP_PROBS, models[i].config.n_layers - 1).data);
        verify_result_free(&r);
    }
}

/* ---- A wrong epsilon ---- */

/* The inputs of the tiny model's later norms have a variance of 10 and more, where no value depends
 * on it by more than its rounding (tolerance.h). */
static void a_wrong_epsilon_is_located(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++) {
        Gpt2 *m = &models[i];
        const float eps = m->config.eps;
        const bool tiny = i == 0;

        for (int layer = 0; layer < (tiny ? 2 : m->config.n_layers); layer++) {
            m->blocks[layer].ln_1.eps = 1e-6f;
            assert_found(verify(m, right), layer, "ln_1");
            m->blocks[layer].ln_1.eps = eps;
            m->blocks[layer].ln_2.eps = 1e-6f;
            assert_found(verify(m, right), layer, "ln_2");
            m->blocks[layer].ln_2.eps = eps;
        }
        m->ln_f.eps = 1e-6f;
        if (!tiny)
            assert_found(verify(m, right), -1, "ln_f");
        m->ln_f.eps = eps;
    }
}

/* ---- Wrong kernels ---- */

static void wrong_linear(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                         const float *bias, const void *input, int n_tokens)
{
    right->linear(y, ldy, w, first, n, bias, input, n_tokens);
    if (w->panels == target && first == 0)
        y[5] *= 1.001f;
}

static void one_wrong_lane_of_one_product_is_located(void **state)
{
    (void)state;
    wrong = *right;
    wrong.linear = wrong_linear;
    for (int i = 0; i < n_models(); i++) {
        const TransformerBlock *b = &models[i].blocks[1];

        target = b->attention.qkv.c_attn.w.panels;
        assert_found(verify(&models[i], &wrong), 1, "queries");
        target = b->attention.output.c_proj.w.panels;
        assert_found(verify(&models[i], &wrong), 1, "attention output");
        target = b->ffn.c_fc.w.panels;
        assert_found(verify(&models[i], &wrong), 1, "feed-forward output");
        target = b->ffn.c_proj.w.panels;
        assert_found(verify(&models[i], &wrong), 1, "feed-forward output");
        target = models[i].head.w.panels;
        assert_found(verify(&models[i], &wrong), -1, "logits");
    }
    target = NULL;
}

static void the_other_gelu_is_located(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++) {
        Ffn *ffn = &models[i].blocks[2].ffn;
        const Activation kept = ffn->activation;

        assert_int_equal(kept, ACT_GELU_TANH);
        ffn->activation = ACT_GELU_ERF;
        assert_found(verify(&models[i], right), 2, "feed-forward output");
        ffn->activation = kept;
        wrong = *right;
        wrong.activation[ACT_GELU_TANH] = right->activation[ACT_GELU_ERF];
        assert_found(verify(&models[i], &wrong), 0, "feed-forward output");
    }
}

/* d in place of its root. */
static void wrong_scale(float *s, size_t lds, const float *q, size_t ldq, int n_queries,
                        const KernHead *head, int n_keys, float scale)
{
    right->attn_scores(s, lds, q, ldq, n_queries, head, n_keys, scale * scale);
}

static void wrong_values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                         int n_queries, const KernHead *head, int n_keys)
{
    right->attn_values(o, ldo, e, lde, inv, n_queries, head, n_keys);
    o[(size_t)(n_queries - 1) * ldo + 1] *= 1.001f;
}

static float wrong_softmax(float *e, const float *x, int n)
{
    const float sum = right->softmax_exp(e, x, n);

    return n > 2 ? sum * (1.0f + 0x1p-19f) : sum;
}

/* The variance over n - 1. */
static void wrong_norm(float *y, const float *x, const float *gamma, const float *beta, int dim,
                       float eps)
{
    right->layer_norm(y, x, gamma, beta, dim, eps);
    for (int i = 0; i < dim; i++)
        y[i] = (y[i] - beta[i]) * sqrtf((float)(dim - 1) / (float)dim) + beta[i];
}

static void wrong_add(float *x, const float *y, size_t n)
{
    right->add(x, y, n);
    x[n - 1] = nextafterf(nextafterf(x[n - 1], 9.0f), 9.0f);
}

static void other_wrong_kernels_are_located(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++) {
        const Gpt2 *m = &models[i];

        wrong = *right;
        wrong.attn_scores = wrong_scale;
        assert_found(verify(m, &wrong), 0, "scores");
        wrong = *right;
        wrong.attn_values = wrong_values;
        assert_found(verify(m, &wrong), 0, "attention output");
        wrong = *right;
        wrong.softmax_exp = wrong_softmax;
        assert_found(verify(m, &wrong), 0, "probabilities");
        wrong = *right;
        wrong.layer_norm = wrong_norm;
        assert_found(verify(m, &wrong), 0, "ln_1");
        wrong = *right;
        wrong.add = wrong_add;
        assert_found(verify(m, &wrong), -1, "embeddings");
    }
}

/* ---- Exchanged weights ---- */

static void exchange(void *a, void *b, size_t n)
{
    unsigned char kept[sizeof(Linear)];

    assert_true(n <= sizeof kept);
    memcpy(kept, a, n);
    memcpy(a, b, n);
    memcpy(b, kept, n);
}

#define EXCHANGED(m, a, b, layer, stage)                                                           \
    do {                                                                                           \
        exchange(&(a), &(b), sizeof(a));                                                           \
        assert_found(verify(m, right), layer, stage);                                              \
        exchange(&(a), &(b), sizeof(a));                                                           \
    } while (0)

static void exchanged_weights_are_located(Gpt2 *m)
{
    TransformerBlock *a = &m->blocks[1], *b = &m->blocks[2];

    EXCHANGED(m, a->attention.output.c_proj.w, b->attention.output.c_proj.w, 1, "attention output");
    EXCHANGED(m, a->attention.output.c_proj.bias, b->attention.output.c_proj.bias, 1,
              "attention output");
    EXCHANGED(m, a->attention.qkv.c_attn.w, b->attention.qkv.c_attn.w, 1, "queries");
    EXCHANGED(m, a->ffn.c_fc.w, b->ffn.c_fc.w, 1, "feed-forward output");
    EXCHANGED(m, a->ffn.c_proj.w, b->ffn.c_proj.w, 1, "feed-forward output");
    EXCHANGED(m, a->ln_1.gamma, b->ln_1.gamma, 1, "ln_1");
    EXCHANGED(m, a->ln_2.beta, b->ln_2.beta, 1, "ln_2");
    EXCHANGED(m, a->ln_2.gamma, m->ln_f.gamma, 1, "ln_2");
}

static void exchanged_weights_are_located_in_both_models(void **state)
{
    (void)state;
    for (int i = 0; i < n_models(); i++)
        exchanged_weights_are_located(&models[i]);
}

static void one_changed_weight_is_located(void **state)
{
    TransformerBlock *b = &models[0].blocks[1];
    const float *const kept = b->ln_1.beta;
    float changed[256];

    (void)state;
    assert_true(b->ln_1.dim <= 256);
    memcpy(changed, kept, (size_t)b->ln_1.dim * sizeof *changed);
    changed[7] += 1e-5f;
    b->ln_1.beta = changed;
    assert_found(verify(&models[0], right), 1, "ln_1");
    changed[7] = NAN; /* from here on everything is */
    {
        VerifyResult r = verify(&models[0], right);

        assert_false(r.capture.finite);
        assert_non_null(strstr(r.fault, "not finite at [0,7]"));
        assert_found(r, 1, "ln_1");
    }
    b->ln_1.beta = kept;
}

/* ---- Every kind of file ---- */

static void check_file(const char *path, bool packed)
{
    Gpt2 m = {.n_params = 0};

    load_model(&m, path);
    assert_true((m.packed != NULL) == packed);
    assert_clean(verify(&m, right));
    exchanged_weights_are_located(&m);
    gpt2_free(&m);
}

static void every_kind_of_file_is_read_back(void **state)
{
    const char *const source = model_paths[n_models() - 1];

    (void)state;
    for (int type = 0; type < KERN_TYPE_COUNT; type++) {
        const char *gguf = path_of("model.gguf"), *packed = path_of("model.packed");

        if (quick() && type != KERN_BF16)
            continue;
        MUST_RUN(cli_quantize, "quantize", "--model", source, "--type", type_names[type], "--out",
                 gguf);
        check_file(gguf, false);
        MUST_RUN(cli_pack, "pack", "--model", gguf, "--out", packed);
        check_file(packed, true);
    }
}

static void weights_that_left_their_file_are_refused(void **state)
{
    char path[PATH_BYTES];
    const VerifyOptions options = {.reference = VERIFY_SELF};
    VerifyResult r;
    Gpt2 m = {.n_params = 0};
    Err err = {0};

    (void)state;
    (void)snprintf(path, sizeof path, "%s", path_of("gone.gguf"));
    MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", "f32", "--out", path);
    load_model(&m, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify_run(&r, &m, NULL, right, &options, NULL, &err), ERR_IO);
    assert_has(err.msg, path);
    gpt2_free(&m);
}

static void converted_weights_are_refused(void **state)
{
    const Gpt2LoadOptions as_f16 = {.convert = true, .type = KERN_F16};
    const VerifyOptions options = {.reference = VERIFY_SELF};
    VerifyResult r;
    Gpt2 m = {.n_params = 0};
    Err err = {0};

    (void)state;
    load_as(&m, TINY, &as_f16);
    assert_int_equal(verify_run(&r, &m, NULL, right, &options, NULL, &err), ERR_UNSUPPORTED);
    assert_has(err.msg, "h.0.attn.c_attn.weight was converted from F32 to F16");
    gpt2_free(&m);
}

/* ---- Bounds ---- */

static void too_long_a_prompt_is_refused(void **state)
{
    static int32_t ids[1024];
    const Gpt2 m = {.config = {.n_layers = 48,
                               .n_heads = 25,
                               .dim = 1600,
                               .head_dim = 64,
                               .ffn_dim = 6400,
                               .n_ctx = 1024,
                               .vocab_size = 50257}};
    Capture c;
    Err err = {0};

    (void)state;
    assert_int_equal(capture_run_all(&c, &m, right, ids, 1024, 0, NULL, &err), ERR_LIMIT);
    assert_has(err.msg, "1024 tokens");
    assert_has(err.msg, "at most 2.0 GiB");
}

static bool stop_at_once(void *ctx, double fraction)
{
    (void)ctx;
    return fraction < 0.05;
}

static void it_can_be_stopped(void **state)
{
    const VerifyOptions options = {.reference = VERIFY_SELF};
    const Gpt2Progress progress = {stop_at_once, NULL};
    VerifyResult r;
    Err err = {0};

    (void)state;
    assert_int_equal(verify_run(&r, &models[0], NULL, right, &options, &progress, &err),
                     ERR_CANCELLED);
}

/* ---- What is said about it ---- */

static void the_fault_is_the_last_thing_said(void **state)
{
    const VerifyMeta meta = {.model = "tiny", .prompt = "a\"b", .n_prompt = 3, .isa = "none"};
    JsonBuf text = {0}, json = {0};
    VerifyResult r;
    json_t *root;
    Err err = {0};

    (void)state;
    models[0].blocks[1].ffn.activation = ACT_GELU_ERF;
    r = verify(&models[0], right);
    models[0].blocks[1].ffn.activation = ACT_GELU_TANH;
    verify_text(&text, &r, true, false);
    assert_has(text.data, "\nfirst fault: layer 1, feed-forward output (checkpoint 6): ");
    assert_has(text.data, "\nreference: double precision, weights from the model's file\n");
    assert_has(text.data, "FAIL: this stage alone: ");
    assert_has(text.data, "error of the block outputs\n");
    verify_json(&json, &r, &meta);
    root = json_parse(json.data, json.len, "verify", &err);
    if (root == NULL)
        fail_msg("%s", err.msg);
    assert_string_equal(json_string_value(json_object_get(root, "verdict")), "fail");
    assert_string_equal(json_string_value(json_object_get(root, "prompt")), "a\"b");
    assert_int_equal(json_array_size(json_object_get(root, "rows")), r.table.n_rows);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(root, "first_fault"), "text")), r.fault);
    json_decref(root);
    json_buf_free(&json);
    json_buf_free(&text);
    verify_result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stage_of_every_layer_has_a_row),
        cmocka_unit_test(no_instruction_set_and_no_long_prompt_has_a_fault),
        cmocka_unit_test(the_double_pass_agrees_with_the_recorded_tensors),
        cmocka_unit_test(a_wrong_epsilon_is_located),
        cmocka_unit_test(one_wrong_lane_of_one_product_is_located),
        cmocka_unit_test(the_other_gelu_is_located),
        cmocka_unit_test(other_wrong_kernels_are_located),
        cmocka_unit_test(exchanged_weights_are_located_in_both_models),
        cmocka_unit_test(one_changed_weight_is_located),
        cmocka_unit_test(every_kind_of_file_is_read_back),
        cmocka_unit_test(weights_that_left_their_file_are_refused),
        cmocka_unit_test(converted_weights_are_refused),
        cmocka_unit_test(too_long_a_prompt_is_refused),
        cmocka_unit_test(it_can_be_stopped),
        cmocka_unit_test(the_fault_is_the_last_thing_said),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, load_models, free_models);
}
