/* tests/test_determinism.c: verify --determinism: right models agree in all ways, wrong ones are
 * found and named, and the shipped model's logits have the hash that docs/determinism.md gives. */
#include "model_file_rig.h"

#include <math.h>

#include "checkpoint/bits_hash.h"
#include "checkpoint/determinism.h"
#include "checkpoint/greedy.h"
#include "cli/model_copies.h"
#include "common/json.h"
#include "kernels/pack.h"
#include "quick.h"
#include "tokenizer/tokenizer.h"

/* Repeated in docs/determinism.md. A difference means that this build or machine does not compute
 * the documented arithmetic. */
static const uint64_t recorded_hash = 0xbffccc9b740ca9cdu;

/* ---- A model and what is computed with it ---- */

typedef struct {
    Gpt2 model;
    Tokenizer *tokenizer;
    Arena room;
    DeterminismOptions o;
    ModelCopies copies;
    DeterminismResult r;
} Subject;

static const Kernels *best_kernels(void)
{
    int i = 0;

    while (kernels_available(i + 1) != NULL)
        i++;
    return kernels_available(i);
}

/* The standard prompt, on the best table. */
static void open_subject(Subject *s, const char *path, const Gpt2LoadOptions *options)
{
    Err err = {0};

    *s = (Subject){.o = {.runs = 1, .seed = 1, .tables = {best_kernels()}, .n_tables = 1}};
    load_as(&s->model, path, options);
    if (tokenizer_load(&s->tokenizer, path, &err) != ERR_OK ||
        greedy_encode(s->tokenizer, DETERMINISM_PROMPT, strlen(DETERMINISM_PROMPT), &s->room,
                      &s->o.ids, &s->o.n_ids, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(s->o.n_ids >= DETERMINISM_IDS);
    s->o.n_ids = s->model.config.n_ctx < DETERMINISM_IDS ? s->model.config.n_ctx : DETERMINISM_IDS;
    s->copies = (ModelCopies){.model = &s->model, .tokenizer = s->tokenizer};
}

static void add_tables(Subject *s)
{
    for (int i = 0; kernels_available(i) != NULL; i++)
        if (kernels_available(i) != best_kernels())
            s->o.tables[s->o.n_tables++] = kernels_available(i);
}

static void add_copies(Subject *s)
{
    Err err = {0};

    if (model_copies_list(&s->copies, &s->o, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void run(Subject *s)
{
    Err err = {0};

    if (determinism_run(&s->r, &s->model, &s->o, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void close_subject(Subject *s)
{
    model_copies_free(&s->copies);
    assert_int_equal(count_files(false), 0);
    arena_free(&s->room);
    tokenizer_free(s->tokenizer);
    gpt2_free(&s->model);
}

static int all_runs(const DeterminismResult *r)
{
    int n = 0;

    for (int i = 0; i < r->n_rows; i++)
        n += r->rows[i].runs;
    return n;
}

static const DeterminismRow *find(const DeterminismResult *r, const char *way, const char *isa)
{
    for (int i = 0; i < r->n_rows; i++)
        if (strcmp(r->rows[i].way, way) == 0 && strcmp(r->rows[i].isa, isa) == 0)
            return &r->rows[i];
    fail_msg("no way \"%s\" on %s", way, isa);
    return NULL;
}

static void assert_agree(const Subject *s)
{
    for (int i = 0; i < s->r.n_rows; i++) {
        const DeterminismRow *row = &s->r.rows[i];

        if (row->verdict != DETERMINISM_SAME)
            fail_msg("%s, %s: run %d differs at position %d", row->way, row->isa, row->runs,
                     row->position);
        assert_true(row->runs >= 1);
        assert_true(row->hash == s->r.hash);
    }
    assert_true(determinism_holds(&s->r));
}

/* ---- What is right agrees ---- */

static void tiny_model_agrees(void **state)
{
    Subject s;

    (void)state;
    open_subject(&s, TINY, NULL);
    add_tables(&s);
    add_copies(&s);
    assert_int_equal(s.o.n_copies, 2);
    s.o.runs = 100;
    s.o.n_ids = quick() ? 16 : s.o.n_ids;
    run(&s);
    assert_agree(&s);
    assert_int_equal(all_runs(&s.r), 100);
    close_subject(&s);
}

/* Time is short: fewer positions then, but all ways. */
static void shipped_model_agrees(void **state)
{
    Subject s;

    (void)state;
    open_subject(&s, SHAKESPEARE, NULL);
    add_tables(&s);
    add_copies(&s);
    assert_int_equal(s.o.n_copies, 4); /* 16-bit weights are widened exactly */
    if (quick())
        s.o.n_ids = 10;
    run(&s);
    assert_agree(&s);
    if (!quick())
        assert_true(s.r.hash == recorded_hash);
    close_subject(&s);
}

static void all_types_agree_with_their_copies(void **state)
{
    (void)state;
    for (int type = 0; type < KERN_TYPE_COUNT; type++) {
        const Gpt2LoadOptions as = {.convert = true, .type = (KernType)type};
        const bool is_16_bit = type == KERN_F16 || type == KERN_BF16;
        Subject s;

        if (quick() && type != KERN_Q8_0)
            continue;
        open_subject(&s, SHAKESPEARE, &as);
        add_copies(&s);
        assert_int_equal(s.o.n_copies, is_16_bit ? 4 : 2);
        s.o.n_ids = 10;
        run(&s);
        assert_agree(&s);
        close_subject(&s);
    }
}

/* Which cannot be converted while they are loaded. */
static void packed_models_have_all_copies(void **state)
{
    Subject s;

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--out", path_of("a.packed"));
    open_subject(&s, path_of("a.packed"), NULL);
    add_copies(&s);
    assert_int_equal(s.o.n_copies, 4);
    s.o.n_ids = 10;
    run(&s);
    assert_agree(&s);
    (void)unlink(path_of("a.packed"));
    close_subject(&s);
}

/* FNV-1a over the logits of every position, as docs/numerics.md defines it, without
 * determinism_run. */
static void hash_rows(void *ctx, const TapEvent *e)
{
    uint64_t *h = ctx;

    if (e->stage == TAP_LOGITS)
        for (int i = 0; i < e->n_rows; i++)
            *h = bits_hash(*h, e->data + (size_t)i * e->stride, (size_t)e->n_cols);
}

static void shipped_model_has_the_recorded_hash(void **state)
{
    (void)state;
    for (int t = 0; kernels_available(t) != NULL; t++) {
        uint64_t h = bits_hash_start;
        const Tap tap = {.ctx = &h, .observe = hash_rows};
        Gpt2Run pass;
        Subject s;
        Err err = {0};

        open_subject(&s, SHAKESPEARE, NULL);
        if (gpt2_run_init(&pass, &s.model, kernels_available(t), s.o.n_ids, s.o.n_ids, KERN_F32,
                          &err) != ERR_OK ||
            gpt2_forward(&pass, s.o.ids, s.o.n_ids, true, &tap, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        if (h != recorded_hash)
            fail_msg("%s: logits hash %016llx, expected %016llx", kernels_available(t)->name,
                     (unsigned long long)h, (unsigned long long)recorded_hash);
        gpt2_run_free(&pass);
        close_subject(&s);
    }
}

/* ---- What is wrong is found ---- */

/* Plain rows, and sums from the last term to the first. */
static void plain_input(void *input, KernType type, const float *x, size_t ldx, int n_tokens, int k)
{
    float *rows = input;

    (void)type;
    for (int t = 0; t < n_tokens; t++)
        memcpy(rows + (size_t)t * (size_t)k, x + (size_t)t * ldx, (size_t)k * sizeof(float));
}

static void reverse_linear(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                           const float *bias, const void *input, int n_tokens)
{
    float row[1024];
    const size_t k = (size_t)w->k;

    assert_true(k <= 1024);
    for (int o = 0; o < n; o++) {
        kern_unpack_row(row, w, (size_t)(first + o));
        for (int t = 0; t < n_tokens; t++) {
            const float *x = (const float *)input + (size_t)t * k;
            float sum = 0.0f;

            for (size_t i = k; i-- > 0;)
                sum = fmaf(x[i], row[i], sum);
            y[(size_t)t * ldy + (size_t)o] = (bias != NULL ? bias[o] : 0.0f) + sum;
        }
    }
}

static void another_order_of_sums_is_found(void **state)
{
    Kernels reversed = *kernels_available(0);
    Subject s;

    (void)state;
    reversed.name = "reversed";
    reversed.linear_input = plain_input;
    reversed.linear = reverse_linear;
    open_subject(&s, TINY, NULL);
    s.o.tables[s.o.n_tables++] = &reversed;
    run(&s);
    assert_false(determinism_holds(&s.r));
    for (int i = 0; i < s.r.n_rows; i++) {
        const DeterminismRow *row = &s.r.rows[i];

        if (strcmp(row->isa, "reversed") != 0) {
            assert_int_equal(row->verdict, DETERMINISM_SAME);
            continue;
        }
        assert_int_equal(row->verdict, DETERMINISM_DIFFERS);
        assert_int_equal(row->runs, 1);
        assert_int_equal(row->position, 0);
        assert_true(row->n_differ > 1);
        assert_true(row->hash != s.r.hash);
        /* The same number but for its last bits. */
        assert_true(row->ours != row->expected);
        assert_true(fabsf(row->ours - row->expected) < 1e-4f);
    }
    close_subject(&s);
}

/* A cache in which every second time that row STALE of the first layer would be overwritten nothing
 * happens (see TEST_LDFLAGS_test_determinism in the Makefile). */
enum { STALE = 5 };

static struct {
    bool armed;
    int n_writes;
} stale;

ErrCode __real_kv_cache_write(KvCache *c, const Kernels *kernels, int layer, int start,
                              const float *k, const float *v, size_t stride, int n_rows, Err *err);
ErrCode __wrap_kv_cache_write(KvCache *c, const Kernels *kernels, int layer, int start,
                              const float *k, const float *v, size_t stride, int n_rows, Err *err);

static bool was_written(const KvCache *c)
{
    static float k[(STALE + 1) * 64], v[(STALE + 1) * 64];
    const size_t row = (size_t)c->n_heads * (size_t)c->head_dim;

    assert_true(row <= 64);
    kv_cache_read(c, 0, k, v, STALE + 1);
    return k[STALE * row] != 0.0f;
}

static bool is_stale(const KvCache *c, int layer, int start, int n_rows)
{
    return stale.armed && layer == 0 && start <= STALE && start + n_rows > STALE &&
           was_written(c) && stale.n_writes++ % 2 == 0;
}

ErrCode __wrap_kv_cache_write(KvCache *c, const Kernels *kernels, int layer, int start,
                              const float *k, const float *v, size_t stride, int n_rows, Err *err)
{
    const int before = STALE - start;
    const size_t skip = (size_t)(before + 1) * stride;

    if (!is_stale(c, layer, start, n_rows))
        return __real_kv_cache_write(c, kernels, layer, start, k, v, stride, n_rows, err);
    if (before > 0 &&
        __real_kv_cache_write(c, kernels, layer, start, k, v, stride, before, err) != ERR_OK)
        return err->code;
    if (n_rows == before + 1)
        return ERR_OK;
    return __real_kv_cache_write(c, kernels, layer, STALE + 1, k + skip, v + skip, stride,
                                 n_rows - before - 1, err);
}

static void a_stale_row_in_the_cache_is_found(void **state)
{
    DeterminismRow first;
    Subject s;

    (void)state;
    open_subject(&s, TINY, NULL);
    s.o.runs = 200;
    s.o.n_ids = quick() ? 16 : s.o.n_ids;
    stale.armed = true;
    run(&s);
    const char *isa = s.o.tables[0]->name;
    const DeterminismRow *row = find(&s.r, "cache reused", isa);

    assert_false(determinism_holds(&s.r));
    assert_int_equal(row->verdict, DETERMINISM_DIFFERS);
    assert_int_equal(row->position, STALE); /* attends to itself */
    assert_int_equal(find(&s.r, "drafts, some wrong", isa)->verdict, DETERMINISM_DIFFERS);
    /* Who always writes the same there sees nothing of it. */
    assert_int_equal(find(&s.r, "random chunks", isa)->verdict, DETERMINISM_SAME);
    assert_int_equal(find(&s.r, "token by token", isa)->verdict, DETERMINISM_SAME);

    /* The same seed finds the same, and another one not the same way. */
    first = *row;
    stale.n_writes = 0;
    run(&s);
    row = find(&s.r, "cache reused", isa);
    assert_int_equal(row->runs, first.runs);
    assert_int_equal(row->token, first.token);
    assert_true(row->hash == first.hash);
    s.o.seed = 2;
    stale.n_writes = 0;
    run(&s);
    assert_true(find(&s.r, "cache reused", isa)->hash != first.hash);
    stale.armed = false;
    close_subject(&s);
}

static ErrCode open_as_bf16(void *ctx, Gpt2 *m, Err *err)
{
    const Gpt2LoadOptions o = {.convert = true, .type = KERN_BF16};

    return gpt2_load(m, ctx, &o, err);
}

static ErrCode open_never(void *ctx, Gpt2 *m, Err *err)
{
    (void)ctx, (void)m;
    return err_set(err, ERR_UNSUPPORTED, "there is none");
}

static ErrCode open_fails(void *ctx, Gpt2 *m, Err *err)
{
    (void)ctx, (void)m;
    return err_set(err, ERR_IO, "no space");
}

static void a_copy_of_other_values_is_found(void **state)
{
    char path[] = TINY;
    Subject s;
    Err err = {0};

    (void)state;
    open_subject(&s, TINY, NULL);
    s.o.copies[0] = (DeterminismCopy){.name = "bf16", .open = open_as_bf16, .ctx = path};
    s.o.copies[1] = (DeterminismCopy){.name = "none", .open = open_never};
    s.o.n_copies = 2;
    run(&s);
    assert_int_equal(find(&s.r, "bf16", s.o.tables[0]->name)->verdict, DETERMINISM_DIFFERS);
    assert_int_equal(find(&s.r, "none", s.o.tables[0]->name)->verdict, DETERMINISM_NOT_RUN);
    assert_string_equal(find(&s.r, "none", s.o.tables[0]->name)->note, "there is none");
    assert_false(determinism_holds(&s.r));

    /* One that there cannot be proves nothing, but is no difference either; one that should be
     * there and is not is an error. */
    s.o.copies[0] = s.o.copies[1];
    s.o.n_copies = 1;
    run(&s);
    assert_true(determinism_holds(&s.r));
    s.o.copies[0].open = open_fails;
    assert_int_equal(determinism_run(&s.r, &s.model, &s.o, NULL, &err), ERR_IO);
    close_subject(&s);
}

/* ---- Arguments ---- */

static void every_way_is_run_at_least_once(void **state)
{
    Subject s;

    (void)state;
    open_subject(&s, TINY, NULL);
    s.o.n_ids = 1; /* nothing to cut */
    for (int runs = 1; runs <= (quick() ? 10 : 1000); runs *= 10) {
        s.o.runs = runs;
        run(&s);
        assert_agree(&s);
        assert_true(all_runs(&s.r) >= s.r.n_rows);
        if (runs >= 100)
            assert_int_equal(all_runs(&s.r), runs);
    }
    close_subject(&s);
}

static void the_whole_context_can_be_computed(void **state)
{
    Subject s;

    (void)state;
    open_subject(&s, TINY, NULL);
    assert_int_equal(s.o.n_ids, s.model.config.n_ctx);
    run(&s);
    assert_agree(&s);
    close_subject(&s);
}

static bool stop_late(void *ctx, double fraction)
{
    double *last = ctx;

    assert_true(fraction >= *last && fraction <= 1.0);
    *last = fraction;
    return fraction < 0.5;
}

static void nonsense_is_refused_and_a_run_can_be_stopped(void **state)
{
    const int32_t outside[] = {1, 100000};
    double last = 0.0;
    const Gpt2Progress progress = {stop_late, &last};
    DeterminismOptions o;
    Subject s;
    Err err = {0};

    (void)state;
    open_subject(&s, TINY, NULL);
    assert_int_equal(determinism_run(&s.r, &s.model, &s.o, &progress, &err), ERR_CANCELLED);
    assert_true(last >= 0.5);
    o = s.o;
    o.n_ids = 0;
    assert_int_equal(determinism_run(&s.r, &s.model, &o, NULL, &err), ERR_USAGE);
    o.n_ids = s.model.config.n_ctx + 1;
    assert_int_equal(determinism_run(&s.r, &s.model, &o, NULL, &err), ERR_USAGE);
    assert_has(err.msg, "65 tokens");
    o.n_ids = 2;
    o.ids = outside;
    assert_int_equal(determinism_run(&s.r, &s.model, &o, NULL, &err), ERR_USAGE);
    close_subject(&s);
}

/* ---- What is said ---- */

static DeterminismResult example(void)
{
    return (DeterminismResult){
        .n_rows = 3,
        .n_ids = 9,
        .seed = 7,
        .hash = 0xabc,
        .rows = {
            {.way = "one way", .isa = "x", .runs = 4, .hash = 0xabc},
            {.way = "another",
             .isa = "y",
             .runs = 3,
             .hash = 0xdef,
             .verdict = DETERMINISM_DIFFERS,
             .n_differ = 12,
             .position = 5,
             .token = 6,
             .ours = NAN,
             .expected = 1.5f},
            {.way = "third", .isa = "x", .verdict = DETERMINISM_NOT_RUN, .note = "why \"not\""}}};
}

static void the_table_names_the_first_difference(void **state)
{
    DeterminismResult r = example();
    JsonBuf out = {0};

    (void)state;
    determinism_format(&r, &out, false);
    assert_has(out.data, "0000000000000abc  same\n");
    assert_has(out.data, "0000000000000def  DIFFERS\n");
    assert_has(out.data, "\nanother, y: run 3, position 5, logit 6 is nan (nan), "
                         "expected 1.5 (0x1.8p+0); 12 logits differ\n");
    assert_has(out.data, "\nthird, x: not run: why \"not\"\n");
    assert_has(out.data, "\n7 runs in 2 ways, seed 7: 1 way differs; 1 not run\n");
    json_buf_free(&out);
    r.n_rows = 1;
    determinism_format(&r, &out, false);
    assert_has(out.data, "4 runs in 1 ways, seed 7: the logits of all 9 positions have the same "
                         "bits, hash 0000000000000abc\n");
    json_buf_free(&out);
}

static void json_says_the_same(void **state)
{
    const DeterminismResult r = example();
    JsonBuf out = {0};
    Err err = {0};

    (void)state;
    determinism_json(&r, &out);

    json_t *root = json_parse(out.data, out.len, "json", &err);
    const json_t *ways = json_object_get(root, "ways");

    assert_non_null(root);
    assert_true(json_is_false(json_object_get(root, "holds")));
    assert_int_equal(json_array_size(ways), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(ways, 1), "verdict")),
                        "differs");
    const json_t *d = json_object_get(json_array_get(ways, 1), "first_difference");
    assert_int_equal(json_integer_value(json_object_get(d, "position")), 5);
    assert_true(json_is_null(json_object_get(d, "ours")));
    assert_string_equal(json_string_value(json_object_get(json_array_get(ways, 2), "note")),
                        "why \"not\"");
    json_decref(root);
    json_buf_free(&out);
}

static int setup(void **state)
{
    return make_folder(state) != 0 || setenv("TMPDIR", folder, 1) != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_model_agrees),
        cmocka_unit_test(shipped_model_agrees),
        cmocka_unit_test(all_types_agree_with_their_copies),
        cmocka_unit_test(packed_models_have_all_copies),
        cmocka_unit_test(shipped_model_has_the_recorded_hash),
        cmocka_unit_test(another_order_of_sums_is_found),
        cmocka_unit_test(a_stale_row_in_the_cache_is_found),
        cmocka_unit_test(a_copy_of_other_values_is_found),
        cmocka_unit_test(every_way_is_run_at_least_once),
        cmocka_unit_test(the_whole_context_can_be_computed),
        cmocka_unit_test(nonsense_is_refused_and_a_run_can_be_stopped),
        cmocka_unit_test(the_table_names_the_first_difference),
        cmocka_unit_test(json_says_the_same),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("determinism", tests, setup, leave_folder);
}
