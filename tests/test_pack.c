/* tests/test_pack.c: weights from files to panels and back: every pair of types in both orders,
 * against layouts and roundings written down once more from matrix.h and pack.h. */
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

/* ---- Types ---- */

static void types_have_names_and_sizes(void **state)
{
    KernType type = KERN_F16;

    (void)state;
    for (int t = 0; t < KERN_TYPE_COUNT; t++) {
        assert_true(kern_type_parse(kern_type_name((KernType)t), &type));
        assert_int_equal(type, t);
    }
    assert_true(kern_type_parse("q8_0", &type));
    assert_int_equal(type, KERN_Q8_0);
    assert_true(kern_type_parse("bf16", &type));
    assert_int_equal(type, KERN_BF16);
    assert_false(kern_type_parse("q8_1", &type));
    assert_false(kern_type_parse("", &type));
    assert_false(kern_type_parse("f1", &type));
    assert_int_equal(type, KERN_BF16); /* untouched */

    assert_int_equal(kern_type_for(KERN_Q4_0, 1600), KERN_Q4_0);
    assert_int_equal(kern_type_for(KERN_Q4_0, 1601), KERN_F16);
    assert_int_equal(kern_type_for(KERN_Q8_0, 16), KERN_F16);
    assert_int_equal(kern_type_for(KERN_F32, 31), KERN_F32);
    assert_int_equal(kern_type_for(KERN_BF16, 31), KERN_BF16);

    assert_int_equal(kern_panels_bytes(KERN_F32, 9, 5), 16 * 5 * 4);
    assert_int_equal(kern_panels_bytes(KERN_F16, 9, 5), 16 * 5 * 2);
    assert_int_equal(kern_panels_bytes(KERN_BF16, 8, 5), 8 * 5 * 2);
    assert_int_equal(kern_panels_bytes(KERN_Q8_0, 9, 64), 16 * 64);
    assert_int_equal(kern_panels_bytes(KERN_Q4_0, 9, 64), 16 * 32);
    assert_int_equal(kern_scales_bytes(KERN_F16, 9, 64), 0);
    assert_int_equal(kern_scales_bytes(KERN_Q8_0, 9, 64), 16 * 2 * 2);
    assert_int_equal(kern_scales_bytes(KERN_Q4_0, 16, 32), 16 * 2);

    assert_int_equal(kern_file_bytes(KERN_F32, 3), 12);
    assert_int_equal(kern_file_bytes(KERN_BF16, 3), 6);
    assert_int_equal(kern_file_bytes(KERN_Q8_0, 96), 102);
    assert_int_equal(kern_file_bytes(KERN_Q4_0, 96), 54);
}

/* ---- Widening ---- */

static void every_f16_and_bf16_is_widened_exactly(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        unsigned char bytes[3] = {0, (unsigned char)(h & 255), (unsigned char)(h >> 8)};
        float wide, bf;

        kern_widen(&wide, bytes + 1, KERN_F16, 0, 1); /* odd address on purpose */
        kern_widen(&bf, bytes + 1, KERN_BF16, 0, 1);
        if ((h >> 10 & 31) != 31) {
            assert_true((double)wide == f16_value(h));
            assert_true((signbit(wide) != 0) == (h >> 15 != 0));
        } else {
            assert_int_equal(kern_bits(wide), (h & 0x8000) << 16 | 0x7f800000 | (h & 1023) << 13);
        }
        assert_int_equal(kern_bits(wide), kern_bits(kern_widen_f16((uint16_t)h)));
        assert_int_equal(kern_bits(bf), h << 16);
    }
}

/* Weights in the form of a file with every finite scale and every quant; odd address. */
static unsigned char *random_file(KernType type, size_t n)
{
    const size_t bytes = kern_file_bytes(type, n);
    unsigned char *p = (unsigned char *)malloc(bytes + 1);

    assert_non_null(p);
    p++;
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)next_u32();
    for (size_t i = 0; type == KERN_F32 && i < n; i++) {
        const float x = ldexpf(next_float(), next_int(40) - 30);

        memcpy(p + 4 * i, &x, 4);
    }
    for (size_t i = 0; !kern_is_quantised(type) && type != KERN_F32 && i < n; i++)
        p[2 * i + 1] &= 0xbb; /* one bit of the exponent is 0 */
    for (size_t b = 0; kern_is_quantised(type) && b < n / KERN_BLOCK; b++)
        p[kern_file_bytes(type, KERN_BLOCK) * b + 1] &= 0xbb;
    return p;
}

static void free_file(unsigned char *file)
{
    free(file - 1);
}

static void files_are_widened_from_any_index(void **state)
{
    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++) {
        const size_t unit = kern_is_quantised(type) ? KERN_BLOCK : 1, n = 40 * unit;
        unsigned char *file = random_file(type, n);

        for (size_t first = 0; first < 3; first++)
            for (size_t m = 0; m + first <= 40; m++) {
                float *wide = new_floats(n + 1);

                fill(wide, n + 1, 77.0f);
                kern_widen(wide, file, type, first * unit, m * unit);
                for (size_t i = 0; i <= m * unit; i++) {
                    const float want =
                        i < m * unit ? define_weight(file, type, first * unit + i) : 77.0f;

                    assert_same_bits(wide + i, &want, 1);
                }
                free(wide);
            }
        free_file(file);
    }
}

/* ---- Narrowing ---- */

static void check_f16(float x)
{
    const unsigned want = define_f16(x);

    if (kern_to_f16(x) != want)
        fail_msg("%a to f16: %04x, expected %04x", (double)x, (unsigned)kern_to_f16(x), want);
}

static void f16_is_rounded_to_nearest_even_at_every_border(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        const double low = f16_value(h), high = h == 0x7bff ? 65536 : f16_value(h + 1);
        const float middle = (float)((low + high) / 2);

        for (int sign = -1; sign <= 1; sign += 2) {
            const float s = (float)sign;

            check_f16(s * (float)low);
            check_f16(s * nextafterf((float)low, INFINITY));
            check_f16(s * nextafterf(middle, 0.0f));
            check_f16(s * middle);
            check_f16(s * nextafterf(middle, INFINITY));
        }
    }
    assert_int_equal(define_f16(1.0f), 0x3c00); /* the definition is one */
    assert_int_equal(define_f16(-0x1p-24f), 0x8001);
    assert_int_equal(define_f16(65519.0f), 0x7bff);
    assert_int_equal(define_f16(65520.0f), 0x7c00);
    assert_int_equal(kern_to_f16(INFINITY), 0x7c00);
    assert_int_equal(kern_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(kern_to_f16(NAN) & 0x7fff, 0x7e00);
    assert_int_equal(kern_to_f16(kern_from_bits(0xffffffff)), 0xfe00);
    assert_int_equal(kern_to_f16(3e38f), 0x7c00);
    for (int i = 0; i < 1000000; i++) {
        const float x = kern_from_bits(next_u32());

        if (isfinite(x))
            check_f16(x);
    }
}

static void bf16_is_rounded_to_nearest_even_at_every_border(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++)
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t s = sign << 15, even = h & 1;

            assert_int_equal(kern_to_bf16(kern_from_bits((s | h) << 16)), s | h);
            assert_int_equal(kern_to_bf16(kern_from_bits((s | h) << 16 | 0x7fff)), s | h);
            assert_int_equal(kern_to_bf16(kern_from_bits((s | h) << 16 | 0x8000)), s | (h + even));
            assert_int_equal(kern_to_bf16(kern_from_bits((s | h) << 16 | 0x8001)), s | (h + 1));
        }
    assert_int_equal(kern_to_bf16(-INFINITY), 0xff80);
    assert_true(isnan(kern_widen_bf16(kern_to_bf16(NAN))));
    assert_true(isnan(kern_widen_bf16(kern_to_bf16(kern_from_bits(0x7f800001)))));
}

static void half_types_are_narrowed_for_every_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < 50; n++) {
        float *x = random_floats(n);
        unsigned char f16[101], bf16[101];

        memset(f16, 0x77, sizeof f16);
        memset(bf16, 0x77, sizeof bf16);
        kern_narrow(f16 + 1, x, KERN_F16, n);
        kern_narrow(bf16 + 1, x, KERN_BF16, n);
        for (size_t i = 0; i < n; i++) {
            const uint16_t want = kern_to_bf16(x[i]);

            assert_int_equal(f16[1 + 2 * i] | f16[2 + 2 * i] << 8, define_f16(x[i]));
            assert_memory_equal(bf16 + 1 + 2 * i, &want, 2);
        }
        assert_int_equal(f16[2 * n + 1], 0x77);
        assert_int_equal(bf16[2 * n + 1], 0x77);
        free(x);
    }
}

/* The published quantiser of GGUF's Q8_0, one weight after the other. */
static void define_q8(unsigned char block[34], const float *x)
{
    float most = 0.0f, d, id;
    unsigned h;

    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    d = most / 127;
    id = d != 0.0f ? 1 / d : 0.0f;
    h = define_f16(d);
    block[0] = (unsigned char)h, block[1] = (unsigned char)(h >> 8);
    for (int i = 0; i < 32; i++)
        block[2 + i] = (unsigned char)(signed char)(isfinite(id) ? roundf(x[i] * id) : 0.0f);
}

static void define_q4(unsigned char block[18], const float *x)
{
    float most = 0.0f, d, id;
    unsigned h;

    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    d = most / -8;
    id = d != 0.0f ? 1 / d : 0.0f;
    h = define_f16(d);
    block[0] = (unsigned char)h, block[1] = (unsigned char)(h >> 8);
    for (int i = 0; i < 16; i++) {
        const float low = isfinite(id) ? x[i] * id + 8.5f : 8.5f;
        const float high = isfinite(id) ? x[i + 16] * id + 8.5f : 8.5f;

        block[2 + i] = (unsigned char)((int)fminf(low, 15) | (int)fminf(high, 15) << 4);
    }
}

static void check_quantiser(const float *x)
{
    unsigned char got[34], want[34];

    define_q8(want, x);
    kern_narrow(got, x, KERN_Q8_0, 32);
    assert_memory_equal(got, want, 34);
    define_q4(want, x);
    kern_narrow(got, x, KERN_Q4_0, 32);
    assert_memory_equal(got, want, 18);
}

static void quantisers_follow_the_published_rules(void **state)
{
    float x[32];

    (void)state;
    for (int c = 0; c < 20000; c++) {
        const int kind = c % 8;

        for (int i = 0; i < 32; i++)
            x[i] = kind == 0   ? ldexpf(next_float(), next_int(60) - 40)
                   : kind == 1 ? (float)(next_int(511) - 255) * 0.5f /* halves: ties */
                   : kind == 2 ? (float)(next_int(3) - 1)            /* several of the greatest */
                   : kind == 3 ? kern_from_bits(next_u32() & 0x807fffffu) /* subnormal */
                   : kind == 4 ? 0.0f
                   : kind == 5 ? ldexpf(next_float(), -126 + next_int(12))
                               : next_float() * 0.02f;
        if (kind == 1)
            x[next_int(32)] = c % 16 == 1 ? 127.0f : -127.0f;
        check_quantiser(x);
    }
}

/* Values worked out by hand, so that the definitions above are not believed blindly. */
static void quantisers_give_the_known_bytes(void **state)
{
    static const unsigned char q4[18] = {0x00, 0xbc, 0x90, 0x7f}; /* d = -1 */
    unsigned char got[34];
    float x[32] = {0};

    (void)state;
    x[0] = 8.0f;   /* -> -8: nibble 0 */
    x[16] = -1.0f; /* -> 1: nibble 9 */
    x[1] = -7.5f;  /* -> 7.5 + 8.5 = 16: nibble 15, not 16 */
    x[17] = 1.0f;  /* -> -1: nibble 7 */
    kern_narrow(got, x, KERN_Q4_0, 32);
    assert_memory_equal(got, q4, 4);
    for (int i = 4; i < 18; i++)
        assert_int_equal(got[i], 0x88);
    memset(x, 0, sizeof x);
    x[0] = 127.0f, x[1] = -2.5f, x[2] = 2.5f, x[3] = -127.0f, x[4] = 0.49999997f;
    kern_narrow(got, x, KERN_Q8_0, 32);
    assert_int_equal(got[0], 0x00);
    assert_int_equal(got[1], 0x3c);
    assert_int_equal((signed char)got[2], 127);
    assert_int_equal((signed char)got[3], -3); /* away from zero, not to even */
    assert_int_equal((signed char)got[4], 3);
    assert_int_equal((signed char)got[5], -127);
    assert_int_equal((signed char)got[6], 0);
}

/* ---- Packing ---- */

/* matrix.h's layouts: where the bits of weight (o, i) lie; compares them with the file's. */
static void check_layout(const unsigned char *panels, const uint16_t *scales, KernType type,
                         size_t k, size_t o, size_t i, const unsigned char *row)
{
    const size_t p = o / 8, r = o % 8, blocks = k / 32, b = i / 32, j = i % 32;
    const unsigned char *block = row + b * (type == KERN_Q8_0 ? 34 : 18);

    if (type == KERN_F32) {
        assert_memory_equal(panels + ((p * k + i) * 8 + r) * 4, row + i * 4, 4);
    } else if (!kern_is_quantised(type)) {
        assert_memory_equal(panels + ((p * k + i) * 8 + r) * 2, row + i * 2, 2);
    } else {
        assert_memory_equal(scales + (p * blocks + b) * 8 + r, block, 2);
        if (type == KERN_Q8_0) {
            const size_t at = (((p * blocks + b) * 16 + j / 2) * 8 + r) * 2 + j % 2;

            assert_int_equal(panels[at], block[2 + j]);
        } else {
            const size_t g = j % 16 / 4;
            const size_t at = (((p * blocks + b) * 4 + g) * 8 + r) * 4 + j % 4;
            const int want = j < 16 ? block[2 + j] & 15 : block[2 + j - 16] >> 4;

            assert_int_equal(j < 16 ? panels[at] & 15 : panels[at] >> 4, want);
        }
    }
}

/* Row o of the source in the form of a file of type to. */
static void expected_row(unsigned char *row, KernType to, const unsigned char *src, KernType from,
                         KernOrder order, size_t n, size_t k, size_t o)
{
    float *x = new_floats(k);

    if (from == to && order == KERN_OUT_IN) {
        memcpy(row, src + kern_file_bytes(from, o * k), kern_file_bytes(to, k));
    } else {
        for (size_t i = 0; i < k; i++)
            x[i] = define_weight(src, from, order == KERN_IN_OUT ? i * n + o : o * k + i);
        kern_narrow(row, x, to, k);
    }
    free(x);
}

static void check_packed(const unsigned char *panels, const uint16_t *scales, KernType to,
                         const unsigned char *src, KernType from, KernOrder order, size_t n,
                         size_t k)
{
    const KernMatrix m = {to, (int)n, (int)k, panels, scales};
    const size_t bytes = kern_file_bytes(to, k);
    unsigned char *want = malloc(bytes), *got = new_room(bytes);
    float *row = new_room(k * sizeof(float));

    assert_non_null(want);
    for (size_t o = 0; o < kern_pad(n); o++) {
        if (o < n)
            expected_row(want, to, src, from, order, n, k, o);
        else
            memset(want, 0, bytes);
        kern_unpack_file(got, &m, o);
        assert_memory_equal(got, want, bytes);
        kern_unpack_row(row, &m, o);
        for (size_t i = 0; i < k; i++) {
            const float value = define_weight(want, to, i);

            assert_same_bits(row + i, &value, 1);
            check_layout(panels, scales, to, k, o, i, want);
        }
    }
    for (size_t i = 0; i < k; i += 1 + k / 9) {
        float *column = new_room(n * sizeof(float));

        kern_unpack_column(column, &m, i);
        for (size_t o = 0; o < n; o++) {
            kern_unpack_row(row, &m, o);
            assert_same_bits(column + o, row + i, 1);
        }
        release_room(column, n * sizeof(float));
    }
    free(want), release_room(got, bytes), release_room(row, k * sizeof(float));
}

static void check_pack(KernType to, KernType from, KernOrder order, size_t n, size_t k)
{
    const size_t panels_bytes = kern_panels_bytes(to, n, k);
    const size_t scales_bytes = kern_scales_bytes(to, n, k);
    unsigned char *src = random_file(from, n * k), *panels = new_room(panels_bytes);
    uint16_t *scales = new_room(scales_bytes);
    size_t bad = 0;

    assert_true(kern_pack(panels, scales, to, n, k, 0, n, src, from, order, &bad));
    check_packed(panels, scales, to, src, from, order, n, k);
    if (order == KERN_OUT_IN) { /* the same in pieces of 16 rows */
        memset(panels, 0xff, panels_bytes);
        memset(scales, 0xff, scales_bytes);
        for (size_t o = 0; o < n; o += 16)
            assert_true(kern_pack(panels, scales, to, n, k, o, n - o < 16 ? n - o : 16,
                                  src + kern_file_bytes(from, o * k), from, order, &bad));
        check_packed(panels, scales, to, src, from, order, n, k);
    }
    free_file(src), release_room(panels, panels_bytes), release_room(scales, scales_bytes);
}

/* random_file's f32 reach 2^10, bf16 beyond f16: only what all types can hold is narrowed. */
static bool fits(KernType to, KernType from)
{
    return from != KERN_BF16 || to == KERN_BF16 || to == KERN_F32;
}

static void packing_keeps_every_element_for_every_pair_of_types(void **state)
{
    static const size_t shapes[][2] = {{1, 1},   {8, 16},    {9, 17},   {7, 32},     {144, 48},
                                       {40, 64}, {513, 33},  {131, 96}, {65, 544},   {19, 1056},
                                       {9, 513}, {1030, 64}, {16, 512}, {1041, 130}, {72, 160}};

    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (KernType to = KERN_F32; to < KERN_TYPE_COUNT; to++)
            for (KernType from = KERN_F32; from < KERN_TYPE_COUNT; from++) {
                const size_t n = shapes[s][0], k = shapes[s][1];

                if (!fits(to, from) || kern_type_for(to, k) != to || kern_type_for(from, k) != from)
                    continue;
                check_pack(to, from, KERN_OUT_IN, n, k);
                if (!kern_is_quantised(from))
                    check_pack(to, from, KERN_IN_OUT, n, k);
            }
}

/* ---- What is refused ---- */

/* Sets weight at of a float file. */
static void set_weight(unsigned char *file, KernType type, size_t at, uint32_t bits)
{
    memcpy(file + kern_file_bytes(type, at), &bits, kern_file_bytes(type, 1));
}

static void check_refused(KernType to, KernType from, KernOrder order, uint32_t bits)
{
    const size_t n = 27, k = 544, panels_bytes = kern_panels_bytes(to, n, k);
    unsigned char *src = random_file(from, n * k), *panels = new_room(panels_bytes), saved[4];
    uint16_t *scales = new_room(kern_scales_bytes(to, n, k));
    size_t bad = 0;

    for (int c = 0; c < 2; c++) {
        const size_t unit = kern_file_bytes(from, 1), i = c == 0 ? 4999 : n * k - 1;

        memcpy(saved, src + i * unit, unit);
        set_weight(src, from, i, bits);
        assert_false(kern_pack(panels, scales, to, n, k, 0, n, src, from, order, &bad));
        assert_int_equal(bad, i);
        memcpy(src + i * unit, saved, unit);
        assert_true(kern_pack(panels, scales, to, n, k, 0, n, src, from, order, &bad));
    }
    free_file(src), release_room(panels, panels_bytes);
    release_room(scales, kern_scales_bytes(to, n, k));
}

static void what_is_no_number_is_refused_by_name(void **state)
{
    (void)state;
    for (KernType to = KERN_F32; to < KERN_TYPE_COUNT; to++)
        for (KernOrder order = KERN_IN_OUT; order <= KERN_OUT_IN; order++) {
            check_refused(to, KERN_F32, order, 0x7fc00000);
            check_refused(to, KERN_F32, order, 0xff800000);
            check_refused(to, KERN_F32, order, 0x7f800001);
            check_refused(to, KERN_F16, order, 0x7c00);
            check_refused(to, KERN_F16, order, 0xfe00);
            if (fits(to, KERN_BF16)) {
                check_refused(to, KERN_BF16, order, 0xff80);
                check_refused(to, KERN_BF16, order, 0x7fc0);
            }
        }
}

static uint32_t bits_of(float x)
{
    return kern_bits(x);
}

static void what_the_type_cannot_hold_is_refused_by_name(void **state)
{
    (void)state;
    for (KernOrder order = KERN_IN_OUT; order <= KERN_OUT_IN; order++) {
        check_refused(KERN_F16, KERN_F32, order, bits_of(65520.0f));
        check_refused(KERN_F16, KERN_F32, order, bits_of(-1e20f));
        check_refused(KERN_BF16, KERN_F32, order, bits_of(0x1.ffp127f));
        check_refused(KERN_Q8_0, KERN_F32, order, bits_of(65520.0f * 127.0f));
        check_refused(KERN_Q4_0, KERN_F32, order, bits_of(-65520.0f * 8.0f));
        check_refused(KERN_F16, KERN_BF16, order, 0x4780); /* 65536 */
    }
}

static void scales_that_are_no_numbers_are_refused(void **state)
{
    const size_t n = 9, k = 1024;

    (void)state;
    for (KernType from = KERN_Q8_0; from <= KERN_Q4_0; from++)
        for (KernType to = KERN_F32; to < KERN_TYPE_COUNT; to++) {
            unsigned char *src = random_file(from, n * k);
            const size_t panels_bytes = kern_panels_bytes(to, n, k), block = 200;
            void *panels = new_room(panels_bytes);
            uint16_t *scales = new_room(kern_scales_bytes(to, n, k));
            size_t bad = 0;

            src[kern_file_bytes(from, block * 32) + 1] = 0xfc;
            assert_false(kern_pack(panels, scales, to, n, k, 0, n, src, from, KERN_OUT_IN, &bad));
            assert_int_equal(bad, block * 32);
            free_file(src), release_room(panels, panels_bytes);
            release_room(scales, kern_scales_bytes(to, n, k));
        }
}

static void copies_are_widened_and_checked(void **state)
{
    (void)state;
    for (KernType type = KERN_F32; type < KERN_TYPE_COUNT; type++) {
        const size_t n = 1056;
        unsigned char *src = random_file(type, n);
        float *dst = new_room(n * sizeof(float));
        size_t bad = 0;

        assert_true(kern_copy(dst, src, type, n, &bad));
        for (size_t i = 0; i < n; i++) {
            const float want = define_weight(src, type, i);

            assert_same_bits(dst + i, &want, 1);
        }
        if (kern_is_quantised(type))
            src[kern_file_bytes(type, 960) + 1] = 0x7c;
        else
            set_weight(src, type, 960,
                       type == KERN_F32   ? 0x7f800000
                       : type == KERN_F16 ? 0x7c00
                                          : 0x7f80);
        assert_false(kern_copy(dst, src, type, n, &bad));
        assert_int_equal(bad, 960);
        free_file(src), release_room(dst, n * sizeof(float));
    }
}

static void floats_are_looked_through_for_what_is_no_number(void **state)
{
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001};
    float x[77];
    size_t bad = 0;

    (void)state;
    fill(x, 77, -0x1.fffffep127f); /* the largest there is */
    for (size_t n = 0; n <= 77; n++)
        assert_true(kern_all_finite(x, n, &bad));
    for (size_t at = 0; at < 77; at++)
        for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
            fill(x, 77, 1.0f);
            x[at] = kern_from_bits(bits[i]);
            assert_true(kern_all_finite(x, at, &bad));
            assert_false(kern_all_finite(x, 77, &bad));
            assert_int_equal(bad, at);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_names_and_sizes),
        cmocka_unit_test(every_f16_and_bf16_is_widened_exactly),
        cmocka_unit_test(files_are_widened_from_any_index),
        cmocka_unit_test(f16_is_rounded_to_nearest_even_at_every_border),
        cmocka_unit_test(bf16_is_rounded_to_nearest_even_at_every_border),
        cmocka_unit_test(half_types_are_narrowed_for_every_length),
        cmocka_unit_test(quantisers_follow_the_published_rules),
        cmocka_unit_test(quantisers_give_the_known_bytes),
        cmocka_unit_test(packing_keeps_every_element_for_every_pair_of_types),
        cmocka_unit_test(what_is_no_number_is_refused_by_name),
        cmocka_unit_test(what_the_type_cannot_hold_is_refused_by_name),
        cmocka_unit_test(scales_that_are_no_numbers_are_refused),
        cmocka_unit_test(copies_are_widened_and_checked),
        cmocka_unit_test(floats_are_looked_through_for_what_is_no_number),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
