/* tests/test_gguf_model.c: GGUF models of other writers: types that are widened give the logits of
 * their values; what is no whole GPT-2 is refused by name. */
#include "model_file_rig.h"

#include "formats/gguf.h"
#include "formats/gguf_write.h"
#include "kernels/pack.h"
#include "model/weight_source.h"
#include "model/weights.h"

typedef struct {
    Gpt2 *m;
    GgufWriter w;
    uint32_t type; /* of the matrices whose rows are whole blocks; the others are F32 */
    bool widened;  /* the values of such blocks, as F32 */
    const char *architecture;
    const char *omit;     /* this tensor is not written */
    const char *misshape; /* this one gets another shape */
    const char *key;      /* this metadata is not written */
    bool copy_head;       /* the token embedding a second time, as output.weight */
    bool change_head;     /* ... with another value */
    const char *damage;   /* row 2 of this tensor begins with ... */
    const void *bytes;    /* ... these */
    size_t n_bytes;
} Plan;

/* Where the f16 scales lie in a block. */
static const struct {
    uint32_t type;
    int scales[2]; /* -1: none */
} scale_places[] = {
    {GGUF_Q4_1, {0, 2}},    {GGUF_Q5_0, {0, -1}}, {GGUF_Q5_1, {0, 2}}, {GGUF_Q2_K, {80, 82}},
    {GGUF_Q3_K, {108, -1}}, {GGUF_Q4_K, {0, 2}},  {GGUF_Q5_K, {0, 2}}, {GGUF_Q6_K, {208, -1}},
    {GGUF_Q8_0, {0, -1}},   {GGUF_Q4_0, {0, -1}},
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static void random_block(unsigned char *block, uint32_t type, uint32_t *random)
{
    const GgufType *t = gguf_type(type);

    for (unsigned i = 0; i < t->block_bytes; i++)
        block[i] = (unsigned char)next_random(random);
    if (type == GGUF_F64)
        memcpy(block, &(double){(double)next_random(random) * 0x1p-20}, sizeof(double));
    for (size_t i = 0; i < sizeof scale_places / sizeof scale_places[0]; i++)
        for (int j = 0; j < 2 && scale_places[i].type == type; j++)
            if (scale_places[i].scales[j] >= 0) /* 2^-11 and less, of either sign */
                block[scale_places[i].scales[j] + 1] =
                    (unsigned char)((next_random(random) & 0x80) | (next_random(random) & 0x0f));
}

static uint32_t type_of(const Plan *p, const WeightSlot *slot)
{
    if (slot->matrix == NULL || slot->k % gguf_type(p->type)->block != 0)
        return GGUF_F32;
    return p->widened ? (uint32_t)GGUF_F32 : p->type;
}

static void name_of(char name[64], const WeightSlot *slot)
{
    weight_source_gguf_name(name, 64, slot->name);
}

static bool is(const char *wanted, const char *name)
{
    return wanted != NULL && strcmp(wanted, name) == 0;
}

static bool list_slot(void *ctx, const WeightSlot *slot)
{
    Plan *p = ctx;
    size_t dims[2] = {slot->kind == WEIGHT_VECTOR ? slot->n : slot->k, slot->n};
    char name[64];

    name_of(name, slot);
    if (is(p->omit, name))
        return true;
    if (is(p->misshape, name))
        dims[slot->kind == WEIGHT_VECTOR ? 0 : 1] += 1;
    gguf_writer_tensor(&p->w, name, type_of(p, slot), slot->kind == WEIGHT_VECTOR ? 1 : 2, dims);
    return true;
}

static void write_row(Plan *p, const WeightSlot *slot, size_t row, bool damaged, uint32_t *random)
{
    const GgufType *t = gguf_type(p->type);
    unsigned char block[512];
    float values[1024];

    assert_true(slot->k <= 1024 && t->block_bytes <= sizeof block);
    if (p->type == GGUF_F32 || slot->k % t->block != 0) {
        kern_unpack_row(values, slot->matrix, row);
        (void)gguf_writer_data(&p->w, values, slot->k * sizeof values[0]);
        return;
    }
    for (size_t i = 0; i < slot->k; i += t->block) {
        random_block(block, p->type, random);
        if (damaged && i == 0)
            memcpy(block, p->bytes, p->n_bytes);
        assert_true(gguf_widen(values, block, p->type, t->block));
        if (p->widened)
            (void)gguf_writer_data(&p->w, values, t->block * sizeof values[0]);
        else
            (void)gguf_writer_data(&p->w, block, t->block_bytes);
    }
}

static bool write_slot(void *ctx, const WeightSlot *slot)
{
    Plan *p = ctx;
    uint32_t random = 1;
    char name[64];

    name_of(name, slot);
    for (size_t i = 0; name[i] != '\0'; i++)
        random = random * 31 + (unsigned char)name[i];
    if (is(p->omit, name))
        return true;
    if (slot->matrix == NULL) {
        (void)gguf_writer_data(&p->w, *slot->floats, slot->n * slot->k * sizeof(float));
        if (is(p->misshape, name)) /* a row, or an element */
            (void)gguf_writer_data(&p->w, *slot->floats, slot->k * sizeof(float));
        return true;
    }
    for (size_t row = 0; row < slot->n + (is(p->misshape, name) ? 1 : 0); row++)
        write_row(p, slot, row < slot->n ? row : 0, row == 2 && is(p->damage, name), &random);
    return true;
}

static void write_integer(Plan *p, const char *key, int value)
{
    if (!is(p->key, key))
        gguf_writer_integer(&p->w, key, GGUF_META_U32, (uint64_t)value);
}

static void write_keys(Plan *p)
{
    const Gpt2Config *c = &p->m->config;
    const char *architecture = p->architecture != NULL ? p->architecture : "gpt2";

    if (!is(p->key, "general.architecture"))
        gguf_writer_string(&p->w, "general.architecture", architecture, strlen(architecture));
    write_integer(p, "gpt2.context_length", c->n_ctx);
    write_integer(p, "gpt2.embedding_length", c->dim);
    write_integer(p, "gpt2.feed_forward_length", c->ffn_dim);
    write_integer(p, "gpt2.block_count", c->n_layers);
    write_integer(p, "gpt2.attention.head_count", c->n_heads);
    if (!is(p->key, "gpt2.attention.layer_norm_epsilon"))
        gguf_writer_f32(&p->w, "gpt2.attention.layer_norm_epsilon", c->eps);
}

static void write_head_copy(Plan *p)
{
    const KernMatrix *wte = &p->m->embedding.wte;
    float row[1024];

    for (int i = 0; i < wte->n; i++) {
        kern_unpack_row(row, wte, (size_t)i);
        if (p->change_head && i == 7)
            row[3] += 1.0f;
        (void)gguf_writer_data(&p->w, row, (size_t)wte->k * sizeof row[0]);
    }
}

static void write_gguf(Plan *p, const char *path)
{
    const size_t head[2] = {(size_t)p->m->config.dim, (size_t)p->m->config.vocab_size};
    Err err = {0};

    if (gguf_writer_open(&p->w, path, GGUF_DEFAULT_ALIGNMENT, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    write_keys(p);
    (void)weights_each(p->m, list_slot, p);
    if (p->copy_head)
        gguf_writer_tensor(&p->w, "output.weight", GGUF_F32, 2, head);
    (void)weights_each(p->m, write_slot, p);
    if (p->copy_head)
        write_head_copy(p);
    if (gguf_writer_finish(&p->w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* One layer whose rows are whole blocks of every type. */
static void model_of_whole_blocks(Gpt2 *m)
{
    Gpt2Config c;
    Err err = {0};

    assert_int_equal(gpt2_shape_parse(&c, "1,4,256,16,300", &err), ERR_OK);
    random_model(m, &c);
}

static void other_types_equal_their_values_in_f32(void **state)
{
    Gpt2 m, file, values;

    (void)state;
    model_of_whole_blocks(&m);
    for (size_t i = 0; i < sizeof scale_places / sizeof scale_places[0]; i++) {
        const uint32_t type = scale_places[i].type;
        const bool computed = type == GGUF_Q8_0 || type == GGUF_Q4_0;
        const Gpt2LoadOptions as_f32 = {.convert = true, .type = KERN_F32};

        write_gguf(&(Plan){.m = &m, .type = type}, path_of("a.gguf"));
        write_gguf(&(Plan){.m = &m, .type = type, .widened = true}, path_of("b.gguf"));
        load_as(&file, path_of("a.gguf"), computed ? &as_f32 : NULL);
        load_model(&values, path_of("b.gguf"));
        assert_string_equal(file.file_types, gguf_type(type)->name);
        assert_string_equal(file.types, "F32");
        assert_true(same_logits(&file, &values));
        gpt2_free(&file);
        gpt2_free(&values);
    }
    gpt2_free(&m);
}

static void types_without_a_definition_here_are_refused_by_name(void **state)
{
    static const uint32_t types[] = {GGUF_IQ4_XS, GGUF_TQ1_0, GGUF_I8};
    Gpt2 m;
    Err err = {0};

    (void)state;
    model_of_whole_blocks(&m);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const GgufType *t = gguf_type(types[i]);
        const size_t dims[2] = {256, 300};
        static const unsigned char zeros[512];
        Plan p = {.m = &m, .type = types[i]};

        assert_int_equal(gguf_writer_open(&p.w, path_of("a.gguf"), 32, &err), ERR_OK);
        write_keys(&p);
        gguf_writer_tensor(&p.w, "token_embd.weight", types[i], 2, dims);
        for (size_t b = 0; b < dims[0] * dims[1] / t->block; b++)
            (void)gguf_writer_data(&p.w, zeros, t->block_bytes);
        assert_int_equal(gguf_writer_finish(&p.w, &err), ERR_OK);
        assert_refused(path_of("a.gguf"), ERR_UNSUPPORTED, t->name);
        assert_refused(path_of("a.gguf"), ERR_UNSUPPORTED, "token_embd.weight");
    }
    gpt2_free(&m);
}

/* Types that are widened to F32 on the way: the message tells what is no number from what is only
 * too large for the type that was asked for. */
static void elements_of_other_types_are_refused_with_the_reason(void **state)
{
    static const double large = 1e5, huge = 1e300, infinite = 1.0 / 0.0;
    static const uint16_t scale = 0x7b00, scale_inf = 0x7c00;
    const struct {
        uint32_t type;
        const void *bytes;
        size_t n_bytes;
        const char *part;
    } cases[] = {
        {GGUF_F64, &large, 8, ": element 512, 100000, is beyond the range of F16"},
        {GGUF_F64, &huge, 8, ": element 512 is not finite as F32"},
        {GGUF_F64, &infinite, 8, ": element 512 is not finite as F32"},
        {GGUF_Q4_1, &scale, 2, ", is beyond the range of F16"},
        {GGUF_Q4_1, &scale_inf, 2, " is not finite as F32"},
        {GGUF_Q4_K, &scale, 2, ", is beyond the range of F16"},
        {GGUF_Q4_K, &scale_inf, 2, " is not finite as F32"},
    };
    Gpt2 m;

    (void)state;
    model_of_whole_blocks(&m);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[MESSAGE_BYTES];

        write_gguf(&(Plan){.m = &m,
                           .type = cases[i].type,
                           .damage = "blk.0.attn_qkv.weight",
                           .bytes = cases[i].bytes,
                           .n_bytes = cases[i].n_bytes},
                   path_of("a.gguf"));
        assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                     path_of("a.gguf"), "--type", "f16", "--out", path_of("b.gguf"),
                                     NULL),
                         1);
        assert_has(message, "tensor blk.0.attn_qkv.weight: element 5");
        assert_has(message, cases[i].part);
    }
    gpt2_free(&m);
}

static void a_copied_head_counts_as_tied(void **state)
{
    const Gpt2Config c = small_config();
    Gpt2 m, file;

    (void)state;
    random_model(&m, &c);
    write_gguf(&(Plan){.m = &m, .copy_head = true}, path_of("a.gguf"));
    load_model(&file, path_of("a.gguf"));
    assert_true(file.config.tied_head);
    assert_ptr_equal(file.head.w.panels, file.embedding.wte.panels);
    assert_true(same_logits(&m, &file));
    gpt2_free(&file);

    write_gguf(&(Plan){.m = &m, .copy_head = true, .change_head = true}, path_of("a.gguf"));
    load_model(&file, path_of("a.gguf"));
    assert_false(file.config.tied_head);
    assert_false(same_logits(&m, &file));
    gpt2_free(&file);
    gpt2_free(&m);
}

static void incomplete_models_are_refused_by_name(void **state)
{
    const Gpt2Config c = small_config();
    const struct {
        Plan plan;
        ErrCode code;
        const char *part;
    } cases[] = {
        {{.omit = "token_embd.weight"}, ERR_FORMAT, "tensor token_embd.weight is missing"},
        {{.omit = "position_embd.weight"}, ERR_FORMAT, "tensor position_embd.weight is missing"},
        {{.omit = "blk.1.ffn_down.bias"}, ERR_FORMAT, "tensor blk.1.ffn_down.bias is missing"},
        {{.omit = "output_norm.weight"}, ERR_FORMAT, "tensor output_norm.weight is missing"},
        {{.misshape = "blk.0.attn_qkv.weight"},
         ERR_FORMAT,
         "tensor blk.0.attn_qkv.weight: shape [64, 193], expected [64, 192]"},
        {{.misshape = "position_embd.weight"},
         ERR_FORMAT,
         "tensor position_embd.weight: shape [64, 33], expected [64, 32]"},
        {{.misshape = "blk.1.attn_norm.bias"},
         ERR_FORMAT,
         "tensor blk.1.attn_norm.bias: shape [65], expected [64]"},
        {{.architecture = "llama"},
         ERR_UNSUPPORTED,
         "general.architecture is llama, expected gpt2"},
        {{.key = "general.architecture"}, ERR_FORMAT, "general.architecture"},
        {{.key = "gpt2.block_count"}, ERR_FORMAT, "gpt2.block_count"},
        {{.key = "gpt2.attention.head_count"}, ERR_FORMAT, "gpt2.attention.head_count"},
        {{.key = "gpt2.attention.layer_norm_epsilon"},
         ERR_FORMAT,
         "gpt2.attention.layer_norm_epsilon"},
    };
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Plan p = cases[i].plan;

        p.m = &m;
        write_gguf(&p, path_of("a.gguf"));
        assert_refused(path_of("a.gguf"), cases[i].code, cases[i].part);
    }
    gpt2_free(&m);
}

/* Sizes that do not fit each other, or the tensors. */
static void sizes_are_checked(void **state)
{
    const Gpt2Config c = small_config();
    const struct {
        int layers, heads, width, positions;
        const char *part;
    } cases[] = {{1, 4, 64, 32, "blk.1.attn_norm.weight exists, but the model has 1 layers"},
                 {3, 4, 64, 32, "tensor blk.2.attn_norm.weight is missing"},
                 {2, 5, 64, 32, "hidden_dim must be divisible by num_heads, found 64 and 5"},
                 {2, 4, 128, 32, "shape [64, 512], expected [128, 512]"},
                 {2, 4, 64, 33, "tensor position_embd.weight: shape [64, 32], expected [64, 33]"}};
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Gpt2 lies = m;
        Plan p = {.m = &lies};
        Err err = {0};

        assert_int_equal(gguf_writer_open(&p.w, path_of("a.gguf"), 32, &err), ERR_OK);
        lies.config.n_layers = cases[i].layers;
        lies.config.n_heads = cases[i].heads;
        lies.config.dim = cases[i].width;
        lies.config.n_ctx = cases[i].positions;
        write_keys(&p);
        p.m = &m;
        (void)weights_each(&m, list_slot, &p);
        (void)weights_each(&m, write_slot, &p);
        if (gguf_writer_finish(&p.w, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_refused(path_of("a.gguf"), ERR_FORMAT, cases[i].part);
    }
    gpt2_free(&m);
}

static void weights_that_are_not_finite_are_refused(void **state)
{
    const Gpt2Config c = small_config();
    char message[MESSAGE_BYTES];
    Gpt2 m;

    (void)state;
    random_model(&m, &c);
    m.config.eps = 2.0f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_refused(path_of("a.gguf"), ERR_FORMAT, "layer_norm_epsilon must be at most 1, found 2");
    m.config.eps = c.eps;
    ((float *)(uintptr_t)m.embedding.wte.panels)[0] = 1e6f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_int_equal(run_command(cli_quantize, message, NULL, "quantize", "--model",
                                 path_of("a.gguf"), "--type", "f16", "--out", path_of("b.gguf"),
                                 NULL),
                     1);
    assert_has(message, "tensor token_embd.weight: element 0, 1000000, is beyond the range of F16");
    ((float *)(uintptr_t)m.embedding.wte.panels)[0] = 1.0f / 0.0f;
    write_gguf(&(Plan){.m = &m}, path_of("a.gguf"));
    assert_refused(path_of("a.gguf"), ERR_NUMERIC,
                   "tensor token_embd.weight: element 0 is not finite");
    gpt2_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_types_equal_their_values_in_f32),
        cmocka_unit_test(types_without_a_definition_here_are_refused_by_name),
        cmocka_unit_test(elements_of_other_types_are_refused_with_the_reason),
        cmocka_unit_test(a_copied_head_counts_as_tied),
        cmocka_unit_test(incomplete_models_are_refused_by_name),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(weights_that_are_not_finite_are_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("gguf model", tests, make_folder, leave_folder);
}
