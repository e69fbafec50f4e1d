/* tests/test_fingerprint.c: the number of a model: the same from every kind of file, another one
 * for every other model. */
#include "model_file_rig.h"

#include "backend/cpu_backend.h"
#include "model/fingerprint.h"

#define SHAKESPEARE_F16 "531a1742d2f483aa"

/* What a worker says of the model at path; type NULL: as in the file. */
static void take(char text[FINGERPRINT_BYTES], const char *path, const KernType *type,
                 const char *isa)
{
    const CpuBackendOptions o = {.model_path = path,
                                 .isa = isa,
                                 .has_type = type != NULL,
                                 .type = type != NULL ? *type : KERN_F32};
    Backend *b = NULL;
    Err err = {0};

    if (cpu_backend_load(&b, &o, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    (void)snprintf(text, FINGERPRINT_BYTES, "%s",
                   b->ops->info(b)->fingerprint != NULL ? b->ops->info(b)->fingerprint : "");
    b->ops->free(b);
}

static void assert_taken(const char *path, const char *want)
{
    char text[FINGERPRINT_BYTES];

    take(text, path, NULL, NULL);
    assert_string_equal(text, want);
}

/* On every machine, with every instruction set. */
static void the_shipped_model_has_the_recorded_one(void **state)
{
    char text[FINGERPRINT_BYTES];

    (void)state;
    for (int i = 0; kernels_available(i) != NULL; i++) {
        take(text, SHAKESPEARE, NULL, kernels_available(i)->name);
        assert_string_equal(text, SHAKESPEARE_F16);
    }
}

static void every_kind_of_file_has_the_same_one(void **state)
{
    static const KernType types[] = {KERN_F32, KERN_F16, KERN_Q8_0, KERN_Q4_0};

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const char *name = type_names[types[i]];
        char converted[FINGERPRINT_BYTES];

        take(converted, TINY, &types[i], NULL);
        MUST_RUN(cli_quantize, "quantize", "--model", TINY, "--type", name, "--out",
                 path_of("a.gguf"));
        assert_taken(path_of("a.gguf"), converted);
        MUST_RUN(cli_pack, "pack", "--model", path_of("a.gguf"), "--out", path_of("a.packed"));
        assert_taken(path_of("a.packed"), converted);
        MUST_RUN(cli_pack, "pack", "--model", TINY, "--type", name, "--out", path_of("b.packed"));
        assert_taken(path_of("b.packed"), converted);
        MUST_RUN(cli_pack, "pack", "--model", path_of("b.packed"), "--out", path_of("c.packed"));
        assert_taken(path_of("c.packed"), converted);
    }
}

static void another_type_has_another_one(void **state)
{
    char texts[KERN_TYPE_COUNT][FINGERPRINT_BYTES];

    (void)state;
    for (int type = 0; type < KERN_TYPE_COUNT; type++) {
        const KernType wanted = (KernType)type;

        take(texts[type], TINY, &wanted, NULL);
        assert_int_equal(strlen(texts[type]), FINGERPRINT_BYTES - 1);
        for (int other = 0; other < type; other++)
            assert_string_not_equal(texts[type], texts[other]);
    }
}

/* --- every bit counts --- */

typedef struct {
    unsigned char *at[200];
    size_t n_bytes[200];
    int n;
} Places;

static bool list_place(void *ctx, const WeightSlot *slot)
{
    Places *p = ctx;

    if (slot->matrix == NULL) {
        p->at[p->n] = (unsigned char *)(uintptr_t)*slot->floats;
        p->n_bytes[p->n++] = slot->n * slot->k * sizeof(float);
        return true;
    }
    p->at[p->n] = (unsigned char *)(uintptr_t)slot->matrix->panels;
    p->n_bytes[p->n++] = kern_panels_bytes(slot->matrix->type, slot->n, slot->k);
    if (slot->matrix->scales != NULL) {
        p->at[p->n] = (unsigned char *)(uintptr_t)slot->matrix->scales;
        p->n_bytes[p->n++] = kern_scales_bytes(slot->matrix->type, slot->n, slot->k);
    }
    return true;
}

static void every_weight_counts(void **state)
{
    const Gpt2LoadOptions options = {.convert = true, .type = KERN_Q8_0};
    Places p = {.n = 0};
    Gpt2 m;

    (void)state;
    load_as(&m, SHAKESPEARE, &options); /* rows in whole blocks: with scales */
    const uint64_t before = m.weights_hash;
    fingerprint_weights(&m);
    assert_true(m.weights_hash == before);
    (void)weights_each(&m, list_place, &p);
    assert_true(p.n > 30);
    for (int i = 0; i < p.n; i++) {
        const size_t ends[] = {0, p.n_bytes[i] - 1};

        for (int e = 0; e < 2; e++) {
            p.at[i][ends[e]] ^= 0x80;
            fingerprint_weights(&m);
            assert_true(m.weights_hash != before);
            if (p.n_bytes[i] > 200 && e == 0) { /* two signs of one lane do not cancel out */
                p.at[i][64] ^= 0x80;
                fingerprint_weights(&m);
                assert_true(m.weights_hash != before);
                p.at[i][64] ^= 0x80;
            }
            p.at[i][ends[e]] ^= 0x80;
        }
        i += i > 6 ? 5 : 0;
    }
    gpt2_free(&m);
}

static void the_configuration_counts(void **state)
{
    char text[FINGERPRINT_BYTES], other[FINGERPRINT_BYTES];
    Err err = {0};
    Gpt2 m;

    (void)state;
    load_model(&m, TINY);
    assert_int_equal(fingerprint_text(&m, text, &err), ERR_OK);
    m.config.eps = 2e-5f;
    assert_int_equal(fingerprint_text(&m, other, &err), ERR_OK);
    assert_string_not_equal(text, other);
    m.has_weights_hash = false;
    assert_int_equal(fingerprint_text(&m, other, &err), ERR_OK);
    assert_string_equal(other, "");
    gpt2_free(&m);
}

/* --- packed files of before --- */

static void replace(unsigned char *bytes, size_t n, const char *from, const char *to)
{
    unsigned char *at = memmem(bytes, n, from, strlen(from));

    assert_non_null(at);
    memcpy(at, to, strlen(to));
}

static void a_packed_file_of_before_has_none_until_it_is_packed_again(void **state)
{
    char of_model[FINGERPRINT_BYTES];
    size_t n;

    (void)state;
    take(of_model, TINY, NULL, NULL);
    MUST_RUN(cli_pack, "pack", "--model", TINY, "--out", path_of("a.packed"));
    unsigned char *bytes = read_file(path_of("a.packed"), &n);
    replace(bytes, n, "\"weights_hash\"", "\"weights_none\"");
    write_file(path_of("b.packed"), bytes, n);
    free(bytes);
    assert_taken(path_of("b.packed"), "");
    MUST_RUN(cli_pack, "pack", "--model", path_of("b.packed"), "--out", path_of("c.packed"));
    assert_same_files("a.packed", "c.packed");
    assert_taken(path_of("c.packed"), of_model);
}

static void a_hash_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"weights_hash\":\"zz", "weights_hash\":\"A1",
                                      "weights_hash\":\"-1", "weights_hash\":\"  "};
    size_t n;

    (void)state;
    MUST_RUN(cli_pack, "pack", "--model", TINY, "--out", path_of("a.packed"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned char *bytes = read_file(path_of("a.packed"), &n);

        replace(bytes, n, "weights_hash\":\"", bad[i]);
        write_file(path_of("b.packed"), bytes, n);
        free(bytes);
        assert_refused(path_of("b.packed"), ERR_FORMAT, "its hash of the weights is none");
    }
}

static void info_says_it_of_every_file(void **state)
{
    char message[MESSAGE_BYTES], output[MESSAGE_BYTES];

    (void)state;
    assert_int_equal(run_command(cli_info, message, output, "info", "--model", SHAKESPEARE, NULL),
                     0);
    assert_has(output, "weights hash       " SHAKESPEARE_F16 "\n");
    MUST_RUN(cli_pack, "pack", "--model", SHAKESPEARE, "--out", path_of("a.packed"));
    size_t n;
    unsigned char *bytes = read_file(path_of("a.packed"), &n);
    replace(bytes, n, "\"weights_hash\"", "\"weights_none\"");
    write_file(path_of("b.packed"), bytes, n);
    free(bytes);
    assert_int_equal(run_command(cli_info, message, output, "info", "--model", path_of("b.packed"),
                                 "--json", NULL),
                     0);
    assert_has(output, "\"weights_hash\":\"" SHAKESPEARE_F16 "\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_model_has_the_recorded_one),
        cmocka_unit_test(every_kind_of_file_has_the_same_one),
        cmocka_unit_test(another_type_has_another_one),
        cmocka_unit_test(every_weight_counts),
        cmocka_unit_test(the_configuration_counts),
        cmocka_unit_test(a_packed_file_of_before_has_none_until_it_is_packed_again),
        cmocka_unit_test(a_hash_that_is_none_is_refused),
        cmocka_unit_test(info_says_it_of_every_file),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, leave_folder);
}
