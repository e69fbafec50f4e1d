/* tests/test_linear.c: the linear layer of every instruction set and type of weights, bit for bit
 * against the definition written down here once more (docs/numerics.md), on weights in the form of
 * a file, without packing. A batch must not show: M rows give what M calls with one row give. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel_rig.h"

/* One case: weights [n][k] in the form of a file, packed, and inputs [m][k] with a gap between
 * rows. */
typedef struct {
    KernType type;
    int m, n, k;
    size_t ldx, ldy;
    unsigned char *file;
    void *panels;
    uint16_t *scales;
    float *bias, *x, *want;
    KernMatrix matrix;
} Case;

static size_t at(int row, size_t stride, int column)
{
    return (size_t)row * stride + (size_t)column;
}

/* ---- The definition ---- */

static void define_float_row(Case *c, const float *w, int t, float *y)
{
    for (int o = 0; o < c->n; o++) {
        y[o] = c->bias != NULL ? c->bias[o] : 0.0f;
        for (int b = 0; b < c->k; b += 256) {
            float a = 0.0f;

            for (int i = b; i < c->k && i < b + 256; i++)
                a = fmaf(w[at(o, (size_t)c->k, i)], c->x[at(t, c->ldx, i)], a);
            y[o] = y[o] + a;
        }
    }
}

/* x[0 .. 32) to integers; returns their scale. */
static float define_activations(int q[32], const float *x)
{
    float m = 0.0f, d, i;

    for (int k = 0; k < 32; k++)
        m = fmaxf(m, fabsf(x[k]));
    if (m < 0x1p-100f) {
        for (int k = 0; k < 32; k++)
            q[k] = 0;
        return 0.0f;
    }
    d = m / 127;
    i = 1 / d;
    for (int k = 0; k < 32; k++)
        q[k] = (int)nearbyintf(x[k] * i);
    return d;
}

static void define_quantised_row(Case *c, const int *w, const float *d, int t, float *y)
{
    const int n_blocks = c->k / 32;

    for (int o = 0; o < c->n; o++)
        y[o] = 0.0f;
    for (int j = 0; j < n_blocks; j++) {
        int q[32];
        const float dx = define_activations(q, c->x + at(t, c->ldx, j * 32));

        for (int o = 0; o < c->n; o++) {
            int sum = 0;

            for (int i = 0; i < 32; i++)
                sum += w[at(o, (size_t)c->k, j * 32 + i)] * q[i];
            y[o] = fmaf((float)sum, d[at(o, (size_t)n_blocks, j)] * dx, y[o]);
        }
    }
    for (int o = 0; o < c->n; o++)
        y[o] = y[o] + (c->bias != NULL ? c->bias[o] : 0.0f);
}

/* Integers and scales of the blocks of a file. */
static void split_blocks(const Case *c, int *w, float *d)
{
    const size_t step = c->type == KERN_Q8_0 ? 34 : 18;

    for (size_t b = 0; b < (size_t)c->n * (size_t)c->k / 32; b++) {
        const unsigned char *p = c->file + b * step;

        d[b] = (float)f16_value(p[0] | (unsigned)p[1] << 8);
        for (size_t i = 0; i < 32; i++)
            w[b * 32 + i] = c->type == KERN_Q8_0 ? (signed char)p[2 + i]
                            : i < 16             ? (p[2 + i] & 15) - 8
                                                 : (p[2 + i - 16] >> 4) - 8;
    }
}

static void define(Case *c)
{
    const size_t nk = (size_t)c->n * (size_t)c->k;
    float *w = new_floats(nk);
    int *q = malloc(nk * sizeof *q);

    assert_non_null(q);
    if (kern_is_quantised(c->type))
        split_blocks(c, q, w);
    else
        for (size_t i = 0; i < nk; i++)
            w[i] = define_weight(c->file, c->type, i);
    for (int t = 0; t < c->m; t++) {
        float *y = c->want + at(t, c->ldy, 0);

        if (kern_is_quantised(c->type))
            define_quantised_row(c, q, w, t, y);
        else
            define_float_row(c, w, t, y);
    }
    free(w), free(q);
}

/* ---- Cases ---- */

/* How weights and inputs are chosen. */
typedef enum { NORMAL, EXTREME } Kind;

/* Floats whose products cancel, lie half-way between two floats, or are subnormal. */
static float extreme_float(void)
{
    static const float few[] = {0.0f,         -0.0f,      1.0f,      -1.0f,     1.5f,
                                0x1.000002p0, 0x1.8p-12f, 0x1p-12f,  0x1p-24f,  -0x1p-24f,
                                0x1p-70f,     -0x1p-75f,  0x1p-126f, 0x1p-149f, 0x1.fffffep0f};

    switch (next_int(4)) {
    case 0:
        return few[next_int(sizeof few / sizeof few[0])];
    case 1:
        return (float)(next_int(65) - 32); /* small integers: many ties, exact zeros */
    case 2:
        return ldexpf(next_float(), next_int(90) - 80);
    default:
        return next_float();
    }
}

/* Blocks with every kind of scale, and quants at their ends. */
static void extreme_block(unsigned char *block, KernType type)
{
    static const uint16_t scales[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400,
                                      0x2000, 0xa123, 0x3c00, 0x7bff, 0xfbff, 0x1234};
    const size_t n = type == KERN_Q8_0 ? 32 : 16;
    const uint16_t d = scales[next_int(sizeof scales / sizeof scales[0])];
    const int kind = next_int(5);

    memcpy(block, &d, 2);
    for (size_t i = 0; i < n; i++)
        block[2 + i] = kind == 0   ? 0x80
                       : kind == 1 ? 0x7f
                       : kind == 2 ? 0x00
                       : kind == 3 ? 0xff
                                   : (unsigned char)next_u32();
}

/* Blocks of inputs: all at the ends, ties of the rounding, below and at 2^-100, zero. */
static void extreme_inputs(float *x, int n)
{
    const int kind = next_int(7);

    for (int i = 0; i < n; i++)
        switch (kind) {
        case 0:
            x[i] = 3.0f;
            break;
        case 1:
            x[i] = next_int(2) == 0 ? 3.0f : -3.0f;
            break;
        case 2:
            x[i] = i == 0 ? 127.0f : (float)(next_int(253) - 126) + 0.5f;
            break;
        case 3:
            x[i] = i == 5 ? -0x1p-100f : 0x1p-101f;
            break;
        case 4:
            x[i] = 0x1.fffffep-101f;
            break;
        case 5:
            x[i] = 0.0f;
            break;
        default:
            x[i] = ldexpf(next_float(), next_int(20) - 15);
        }
}

static void make_weights(Case *c, Kind kind)
{
    const size_t nk = (size_t)c->n * (size_t)c->k, unit = kern_file_bytes(c->type, KERN_BLOCK);
    float *w = random_floats(nk);
    size_t bad;

    c->file = malloc(kern_file_bytes(c->type, nk));
    assert_non_null(c->file);
    for (size_t i = 0; kind == EXTREME && i < nk; i++)
        w[i] = extreme_float();
    kern_narrow(c->file, w, c->type, nk);
    for (size_t b = 0; kind == EXTREME && kern_is_quantised(c->type) && b < nk / 32; b++)
        extreme_block(c->file + b * unit, c->type);
    free(w);
    c->panels = new_floats(kern_panels_bytes(c->type, (size_t)c->n, (size_t)c->k) / 4);
    c->scales =
        (uint16_t *)new_floats(kern_scales_bytes(c->type, (size_t)c->n, (size_t)c->k) / 4 + 1);
    assert_true(kern_pack(c->panels, c->scales, c->type, (size_t)c->n, (size_t)c->k, 0,
                          (size_t)c->n, c->file, c->type, KERN_OUT_IN, &bad));
    c->matrix =
        (KernMatrix){c->type, c->n, c->k, c->panels, kern_is_quantised(c->type) ? c->scales : NULL};
}

static Case new_case(KernType type, int m, int n, int k, bool with_bias, Kind kind)
{
    Case c = {.type = type, .m = m, .n = n, .k = k};

    c.ldx = (size_t)k + 3, c.ldy = (size_t)n + 5;
    make_weights(&c, kind);
    c.bias = with_bias ? random_floats((size_t)n) : NULL;
    c.x = random_floats((size_t)m * c.ldx);
    for (int t = 0; kind == EXTREME && t < m; t++)
        for (int i = 0; i < k; i += 32)
            if (kern_is_quantised(type))
                extreme_inputs(c.x + at(t, c.ldx, i), 32);
            else
                for (int j = i; j < k && j < i + 32; j++)
                    c.x[at(t, c.ldx, j)] = extreme_float();
    c.want = new_floats((size_t)m * c.ldy);
    fill(c.want, (size_t)m * c.ldy, 12345.0f); /* the gap between rows must survive */
    define(&c);
    return c;
}

static void free_case(Case *c)
{
    free(c->file), free(c->panels), free(c->scales), free(c->bias), free(c->x), free(c->want);
}

/* ---- Comparison ---- */

/* Rows [t, t + m), outputs [first, first + n) of a case, computed alone. */
static void check_part(const Case *c, const Kernels *kern, int t, int m, int first, int n)
{
    const size_t room = kern_input_bytes((size_t)m, (size_t)c->k);
    const size_t ldy = (size_t)n + 5, y_bytes = (size_t)m * ldy * sizeof(float);
    void *input = new_room(room);
    float *y = new_room(y_bytes);

    fill(y, (size_t)m * ldy, 12345.0f);
    kern->linear_input(input, c->type, c->x + at(t, c->ldx, 0), c->ldx, m, c->k);
    kern->linear(y, ldy, &c->matrix, first, n, c->bias != NULL ? c->bias + first : NULL, input, m);
    for (int r = 0; r < m; r++) {
        const float *want = c->want + at(t + r, c->ldy, first), *got = y + at(r, ldy, 0);

        for (int o = 0; o < n + 5; o++) {
            const float w = o < n ? want[o] : 12345.0f;

            if (memcmp(&w, got + o, sizeof w) != 0)
                fail_msg("%s %s, row %d of %d, output %d of %d from %d, k = %d: %a, expected %a",
                         kern->name, kern_type_name(c->type), r, m, o, n, first, c->k,
                         (double)got[o], (double)w);
        }
    }
    release_room(input, room), release_room(y, y_bytes);
}

/* The whole, row by row, and in slices of outputs. */
static void check_case(KernType type, int m, int n, int k, bool with_bias, Kind kind)
{
    Case c = new_case(type, m, n, k, with_bias, kind);

    for (int i = 0; kernels_available(i) != NULL; i++) {
        const Kernels *kern = kernels_available(i);

        check_part(&c, kern, 0, m, 0, n);
        for (int t = 0; m > 1 && t < m; t++)
            check_part(&c, kern, t, 1, 0, n);
        for (int first = 8, part = 5; first < n; first += 8 * (1 + next_int(1 + n / 16))) {
            check_part(&c, kern, 0, m, first, n - first < part ? n - first : part);
            part = 1 + next_int(n);
        }
    }
    free_case(&c);
}

#define COUNT(A) (sizeof(A) / sizeof(A)[0])

static void check_every_batch(KernType type)
{
    static const int batches[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,   10, 11,
                                  12, 13, 14, 15, 16, 17, 24, 64, 192, 512};

    for (size_t i = 0; i < COUNT(batches); i++)
        check_case(type, batches[i], batches[i] < 64 ? 205 : 41, 288, true, NORMAL);
}

static void f32_rows_do_not_see_their_batch(void **state)
{
    (void)state;
    check_every_batch(KERN_F32);
}

static void f16_rows_do_not_see_their_batch(void **state)
{
    (void)state;
    check_every_batch(KERN_F16);
}

static void bf16_rows_do_not_see_their_batch(void **state)
{
    (void)state;
    check_every_batch(KERN_BF16);
}

static void q8_0_rows_do_not_see_their_batch(void **state)
{
    (void)state;
    check_every_batch(KERN_Q8_0);
}

static void q4_0_rows_do_not_see_their_batch(void **state)
{
    (void)state;
    check_every_batch(KERN_Q4_0);
}

/* Batches that leave each remainder of a tile, and more than one tile. */
static const int some_batches[] = {1, 2, 3, 5, 6, 13};

static void every_number_of_inputs_is_exact(void **state)
{
    static const int ks[] = {1, 7, 31, 32, 64, 255, 256, 257, 288, 1600, 4096};

    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++)
        for (size_t i = 0; i < COUNT(ks); i++)
            for (size_t b = 0; b < COUNT(some_batches); b++)
                if (kern_type_for(type, (size_t)ks[i]) == type)
                    check_case(type, some_batches[b], ks[i] > 1000 ? 17 : 33, ks[i], b % 2 == 0,
                               NORMAL);
}

static void every_number_of_outputs_is_exact(void **state)
{
    static const int ns[] = {1, 7, 8, 9, 16, 23, 24, 25, 31, 32, 33, 65, 96, 257, 777};

    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++)
        for (size_t i = 0; i < COUNT(ns); i++)
            for (size_t b = 0; b < COUNT(some_batches); b++)
                check_case(type, some_batches[b], ns[i], 64, b % 2 == 1, NORMAL);
}

/* As many outputs as GPT-2 has tokens: streams lie far apart, the last panel holds one row. */
static void the_gpt2_vocabulary_is_exact(void **state)
{
    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++) {
        Case c = new_case(type, 6, 50257, 32, false, NORMAL);

        for (int i = 0; kernels_available(i) != NULL; i++)
            for (int m = 1; m <= 6; m += m == 1 ? 1 : 4)
                check_part(&c, kernels_available(i), 6 - m, m, 0, 50257);
        free_case(&c);
    }
}

/* Ties and subnormals for the float types; for the others quants of -128 against inputs at +-127,
 * zero blocks, scales of every kind, inputs around 2^-100. */
static void extreme_values_are_exact(void **state)
{
    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++)
        for (size_t b = 0; b < COUNT(some_batches); b++) {
            check_case(type, some_batches[b], 41, 288, false, EXTREME);
            check_case(type, some_batches[b], 41, 1600, true, EXTREME);
        }
}

/* Every weight -128 (Q8_0) or -8 (Q4_0), every input at the same end: the largest sums there are.
 */
static void the_largest_sums_do_not_overflow(void **state)
{
    static const unsigned char quants[] = {0x80, 0x7f, 0x00, 0xff, 0x88};

    (void)state;
    for (KernType type = KERN_Q8_0; type <= KERN_Q4_0; type++)
        for (size_t q = 0; q < COUNT(quants); q++)
            for (int sign = -1; sign <= 1; sign += 2) {
                Case c = new_case(type, 13, 40, 4096, false, NORMAL);
                const size_t n_blocks = 40 * 4096 / 32, unit = kern_file_bytes(type, KERN_BLOCK);
                size_t bad;

                for (size_t i = 0; i < n_blocks * unit; i++)
                    if (i % unit >= 2)
                        c.file[i] = quants[q];
                assert_true(kern_pack(c.panels, c.scales, type, 40, 4096, 0, 40, c.file, type,
                                      KERN_OUT_IN, &bad));
                fill(c.x, 13 * c.ldx, (float)sign);
                define(&c);
                for (int i = 0; kernels_available(i) != NULL; i++)
                    for (int m = 1; m <= 13; m++)
                        check_part(&c, kernels_available(i), 0, m, 0, 40);
                free_case(&c);
            }
}

/* Numerics, section 2: a 16-bit model is the f32 model that holds the widened values. */
static void half_types_equal_their_widened_weights(void **state)
{
    const int m = 7, n = 57, k = 300;

    (void)state;
    for (KernType type = KERN_F16; type <= KERN_BF16; type++) {
        Case c = new_case(type, m, n, k, true, NORMAL);
        const size_t nk = (size_t)n * (size_t)k;
        float *wide = new_floats(nk), *panels = new_floats(kern_pad((size_t)n) * (size_t)k);
        const KernMatrix f32 = {KERN_F32, n, k, panels, NULL};
        size_t bad;

        kern_widen(wide, c.file, type, 0, nk);
        assert_true(kern_pack(panels, NULL, KERN_F32, (size_t)n, (size_t)k, 0, (size_t)n, wide,
                              KERN_F32, KERN_OUT_IN, &bad));
        c.type = KERN_F32;
        c.matrix = f32;
        for (int i = 0; kernels_available(i) != NULL; i++)
            check_part(&c, kernels_available(i), 0, m, 0, n); /* wanted: the 16-bit definition */
        free(wide), free(panels);
        free_case(&c);
    }
}

/* Whether a row of outputs is nothing but NaN. */
static bool all_nan(const float *y, int n)
{
    for (int o = 0; o < n; o++)
        if (!isnan(y[o]))
            return false;
    return true;
}

/* Row t of m holds one bad input: all its outputs are NaN, the other rows keep their bits. */
static void check_bad_input(const Case *c, const Kernels *kern, int m, int t)
{
    const size_t room = kern_input_bytes((size_t)m, (size_t)c->k);
    const size_t y_bytes = (size_t)m * c->ldy * sizeof(float);
    void *input = new_room(room);
    float *y = new_room(y_bytes);

    kern->linear_input(input, c->type, c->x, c->ldx, m, c->k);
    kern->linear(y, c->ldy, &c->matrix, 0, c->n, c->bias, input, m);
    for (int r = 0; r < m; r++) {
        if (r == t && !all_nan(y + at(r, c->ldy, 0), c->n))
            fail_msg("%s %s, %d tokens: a bad input does not show in row %d", kern->name,
                     kern_type_name(c->type), m, r);
        if (r != t)
            assert_same_bits(y + at(r, c->ldy, 0), c->want + at(r, c->ldy, 0), (size_t)c->n);
    }
    release_room(input, room), release_room(y, y_bytes);
}

/* Rounding to integers must not hide that an earlier sum overflowed: at every place of a block. */
static void inputs_that_are_no_numbers_give_no_numbers(void **state)
{
    static const uint32_t bad[] = {0x7fc00000, 0xffc00000, 0x7f800000,
                                   0xff800000, 0x7f800001, 0xffffffff};

    (void)state;
    for (KernType type = KERN_Q8_0; type <= KERN_Q4_0; type++) {
        Case c = new_case(type, 13, 41, 96, true, NORMAL);

        for (size_t b = 0; b < COUNT(some_batches); b++)
            for (int place = 0; place < 32; place++)
                for (size_t i = 0; i < COUNT(bad); i++) {
                    const int t = next_int(some_batches[b]);
                    float *x = c.x + at(t, c.ldx, 32 + place), kept = *x;

                    *x = kern_from_bits(bad[i]);
                    for (int table = 0; kernels_available(table) != NULL; table++)
                        check_bad_input(&c, kernels_available(table), some_batches[b], t);
                    *x = kept;
                }
        free_case(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_rows_do_not_see_their_batch),
        cmocka_unit_test(f16_rows_do_not_see_their_batch),
        cmocka_unit_test(bf16_rows_do_not_see_their_batch),
        cmocka_unit_test(q8_0_rows_do_not_see_their_batch),
        cmocka_unit_test(q4_0_rows_do_not_see_their_batch),
        cmocka_unit_test(every_number_of_inputs_is_exact),
        cmocka_unit_test(every_number_of_outputs_is_exact),
        cmocka_unit_test(the_gpt2_vocabulary_is_exact),
        cmocka_unit_test(extreme_values_are_exact),
        cmocka_unit_test(the_largest_sums_do_not_overflow),
        cmocka_unit_test(half_types_equal_their_widened_weights),
        cmocka_unit_test(inputs_that_are_no_numbers_give_no_numbers),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
