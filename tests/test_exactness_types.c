/* tests/test_exactness_types.c: 16-bit weights are widened exactly, whatever they are stored in: a
 * model in F16 or BF16 equals, bit for bit, the F32 model with the widened values; and the types
 * and caches that are compared elsewhere are really different ones (docs/numerics.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "exactness_rig.h"
#include "formats/safetensors.h"
#include "kernels/elementary.h"
#include "kernels/pack.h"
#include "model/weights.h"

/* ---- The same values in another type of file ---- */

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char path[512], buffer[65536];
    FILE *in, *out;
    size_t n;

    (void)snprintf(path, sizeof path, "%s/%s", from_dir, name);
    in = fopen(path, "rb");
    (void)snprintf(path, sizeof path, "%s/%s", to_dir, name);
    out = fopen(path, "wb");
    assert_non_null(in);
    assert_non_null(out);
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    (void)fclose(in);
}

/* Writes the tensors of st to path as F32. cut: values cut to their upper 16 bits, so that BF16
 * holds them exactly; bf16: those are then stored as BF16. */
static void write_weights(const Safetensors *st, const char *path, bool cut, bool bf16)
{
    size_t n, at = 0, header_bytes = 0, room = 1 << 20;
    const StTensor *t = safetensors_tensors(st, &n);
    char *header = malloc(room);
    const size_t width = bf16 ? 2 : 4;
    FILE *f = fopen(path, "wb");
    uint64_t length;

    assert_non_null(header);
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        const size_t count = t[i].n_bytes / (t[i].dtype == ST_F32 ? 4 : 2);

        header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes,
                                         "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                         i > 0 ? ',' : '{', t[i].name, bf16 ? "BF16" : "F32");
        for (int d = 0; d < t[i].n_dims; d++)
            header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes, "%s%zu",
                                             d > 0 ? "," : "", t[i].dims[d]);
        header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes,
                                         "],\"data_offsets\":[%zu,%zu]}", at, at + count * width);
        at += count * width;
    }
    header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes, "}");
    length = header_bytes;
    assert_int_equal(fwrite(&length, 8, 1, f), 1);
    assert_int_equal(fwrite(header, header_bytes, 1, f), 1);
    for (size_t i = 0; i < n; i++) {
        const KernType type = t[i].dtype == ST_F32   ? KERN_F32
                              : t[i].dtype == ST_F16 ? KERN_F16
                                                     : KERN_BF16;

        for (size_t e = 0; e < t[i].n_bytes / kern_file_bytes(type, 1); e++) {
            float value;
            uint32_t u;

            kern_widen(&value, t[i].data, type, e, 1);
            u = kern_bits(value);
            u = cut ? u & 0xffff0000u : u;
            assert_int_equal(
                fwrite(bf16 ? (unsigned char *)&u + 2 : (unsigned char *)&u, width, 1, f), 1);
        }
    }
    assert_int_equal(fclose(f), 0);
    free(header);
}

/* The F16 model's sequence, computed with its weights rewritten. */
static Logits logits_of_rewritten(const Subject *s, bool cut, bool bf16)
{
    char temp[] = "/tmp/llorch-exactness-XXXXXX", path[600];
    Safetensors *st;
    Err err = {0};
    Logits l;
    Gpt2 m;

    assert_non_null(mkdtemp(temp));
    assert_int_equal(safetensors_open(&st, SHAKESPEARE, &err), ERR_OK);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", temp);
    write_weights(st, path, cut, bf16);
    safetensors_close(st);
    copy_file(SHAKESPEARE, temp, "config.json");
    load_as(&m, temp, KERN_TYPE_COUNT);
    assert_string_equal(m.file_types, bf16 ? "BF16" : "F32");
    assert_string_equal(m.types, m.file_types);
    l = reference(&m, s->kv_type, s->ids, s->n);
    gpt2_free(&m);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/config.json", temp);
    (void)unlink(path);
    (void)rmdir(temp);
    return l;
}

static void f16_file_equals_the_f32_file_with_widened_values(void **state)
{
    const Subject *s = subject(SHAKESPEARE, KERN_F16, KERN_F16);
    Logits got = logits_of_rewritten(s, false, false);

    (void)state;
    assert_string_equal(s->model.file_types, "F16");
    assert_same(&got, &s->want, s->name, "F32 file");
    free(got.rows);
}

static void bf16_file_equals_the_f32_file_with_widened_values(void **state)
{
    const Subject *s = subject(SHAKESPEARE, KERN_F16, KERN_F16);
    Logits f32 = logits_of_rewritten(s, true, false);
    Logits bf16 = logits_of_rewritten(s, true, true);

    (void)state;
    assert_same(&bf16, &f32, s->name, "BF16 file");
    assert_int_not_equal(
        memcmp(f32.rows, s->want.rows, (size_t)f32.n * (size_t)f32.vocab * sizeof(float)), 0);
    free(f32.rows), free(bf16.rows);
}

/* ---- The same values in memory ---- */

/* Matrices of a model in the order of weights_each. */
typedef struct {
    const KernMatrix *of[64];
    int n;
} Matrices;

static bool collect(void *ctx, const WeightSlot *slot)
{
    Matrices *m = ctx;

    if (slot->matrix != NULL) {
        assert_true(m->n < 64);
        m->of[m->n++] = slot->matrix;
    }
    return true;
}

/* Writes the values of from over those of to, which is F32. */
static void widen_matrix(const KernMatrix *to, const KernMatrix *from)
{
    const size_t n = (size_t)from->n, k = (size_t)from->k;
    float *rows = calloc(KERN_PANEL * k, sizeof *rows);

    assert_non_null(rows);
    assert_int_equal(to->type, KERN_F32);
    assert_true(to->n == from->n && to->k == from->k);
    for (size_t o = 0; o < n; o += KERN_PANEL) {
        const size_t some = n - o < KERN_PANEL ? n - o : KERN_PANEL;
        size_t bad;

        for (size_t r = 0; r < some; r++)
            kern_unpack_row(rows + r * k, from, o + r);
        assert_true(kern_pack((void *)(uintptr_t)to->panels, NULL, KERN_F32, n, k, o, some, rows,
                              KERN_F32, KERN_OUT_IN, &bad));
    }
    free(rows);
}

/* The F32 model whose matrices hold what those of m hold. */
static void load_widened(Gpt2 *wide, Gpt2 *m, const char *dir)
{
    Matrices from = {.n = 0}, to = {.n = 0};

    load_as(wide, dir, KERN_F32);
    assert_true(weights_each(m, collect, &from));
    assert_true(weights_each(wide, collect, &to));
    assert_true(from.n == to.n && from.n == 1 + 4 * m->config.n_layers);
    for (int i = 0; i < from.n; i++)
        widen_matrix(to.of[i], from.of[i]);
}

static void check_converted(const char *dir, KernType type, KernType kv_type)
{
    const Subject *s = subject(dir, type, kv_type);
    Logits got = new_logits(&s->model, s->n);
    Gpt2 m, wide;
    Gpt2Run run;

    load_as(&m, dir, type);
    load_widened(&wide, &m, dir);
    for (int t = 0; kernels_available(t) != NULL; t++) {
        const Kernels *k = kernels_available(t);

        init_run(&run, &wide, k, kv_type);
        wipe_logits(&got);
        compute(&run, &got, s->ids, s->n, 60);
        assert_same(&got, &s->want, s->name, k->name);
        gpt2_run_free(&run);
    }
    gpt2_free(&wide);
    gpt2_free(&m);
    free(got.rows);
}

static void converted_models_equal_the_f32_model_with_widened_values(void **state)
{
    (void)state;
    check_converted(TINY, KERN_F16, KERN_F32);
    check_converted(TINY, KERN_F16, KERN_F16);
    check_converted(TINY, KERN_BF16, KERN_F32);
    check_converted(TINY, KERN_BF16, KERN_F16);
    check_converted(SHAKESPEARE, KERN_F16, KERN_F16);
    check_converted(SHAKESPEARE, KERN_BF16, KERN_F32);
}

/* ---- Different models ---- */

static void rows_that_blocks_do_not_fit_stay_f16(void **state)
{
    const Gpt2 *q8 = &subject(TINY, KERN_Q8_0, KERN_F32)->model;
    const Gpt2 *q4 = &subject(TINY, KERN_Q4_0, KERN_F32)->model;

    (void)state;
    assert_int_equal(q8->embedding.wte.type, KERN_F16); /* 48 inputs */
    assert_int_equal(q8->blocks[2].ffn.c_fc.w.type, KERN_F16);
    assert_int_equal(q8->blocks[2].ffn.c_proj.w.type, KERN_Q8_0); /* 192 */
    assert_int_equal(q4->blocks[2].attention.qkv.c_attn.w.type, KERN_F16);
    assert_int_equal(q4->blocks[2].ffn.c_proj.w.type, KERN_Q4_0);
}

/* Were two of them the same, comparing each with itself would prove nothing. */
static void every_type_of_weights_and_of_cache_is_another_model(void **state)
{
    static const KernType kv_types[] = {KERN_F32, KERN_F16};
    enum { N = KERN_TYPE_COUNT * 2 };
    const Subject *s[N];

    (void)state;
    for (int i = 0; i < N; i++)
        s[i] = subject(TINY, (KernType)(i / 2), kv_types[i % 2]);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++)
            if (memcmp(logits_row(&s[i]->want, 9), logits_row(&s[j]->want, 9),
                       (size_t)s[i]->want.vocab * sizeof(float)) == 0)
                fail_msg("%s: the same logits as %s", s[i]->name, s[j]->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_file_equals_the_f32_file_with_widened_values),
        cmocka_unit_test(bf16_file_equals_the_f32_file_with_widened_values),
        cmocka_unit_test(converted_models_equal_the_f32_model_with_widened_values),
        cmocka_unit_test(rows_that_blocks_do_not_fit_stay_f16),
        cmocka_unit_test(every_type_of_weights_and_of_cache_is_another_model),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("exactness_types", tests, NULL, close_subjects);
}
