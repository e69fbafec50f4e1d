/* tests/test_gguf_types.c: tensor types of GGUF. Blocks are put together here from known scales and
 * quants, by the places that the format gives them, and must come back as the exact values of the
 * formulas, rounded once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "formats/gguf_types.h"

enum { BLOCK = 32, SUPER = 256, ROUNDS = 300 };

/* xorshift64*: the same blocks in each run. */
static uint64_t random_state = 0x9e3779b97f4a7c15u;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (unsigned)((random_state * 0x2545f4914f6cdd1du) >> 33) % n;
}

static void put_u16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

/* A finite f16: its bits, and its value by the definition of the format. */
static unsigned random_half(double *value)
{
    const unsigned sign = random_below(2), exponent = random_below(31),
                   mantissa = random_below(1024);
    const double magnitude =
        exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, (int)exponent - 25);

    *value = sign ? -magnitude : magnitude;
    return sign << 15 | exponent << 10 | mantissa;
}

/* Sets bits of byte p[i], which must be clear. */
static void put_bits(unsigned char *p, int i, unsigned shift, unsigned value)
{
    assert_int_equal(p[i] & value << shift, 0);
    assert_true(value << shift < 256);
    p[i] = (unsigned char)(p[i] | value << shift);
}

static void assert_same_bits(const char *type, int i, float got, double want)
{
    const float w = (float)want;

    if (memcmp(&got, &w, sizeof w) != 0 && !(got == 0.0f && w == 0.0f))
        fail_msg("%s: weight %d is %a, expected %a", type, i, (double)got, (double)w);
}

/* Widens one block, which lies at an odd address, and compares it. */
static void check_block(uint32_t id, const unsigned char *block, const double *want, int n)
{
    const GgufType *type = gguf_type(id);
    unsigned char moved[512];
    float got[SUPER + 1];

    assert_int_equal(type->block, n);
    memcpy(moved + 1, block, type->block_bytes);
    got[n] = 7.0f;
    assert_true(gguf_widen(got, moved + 1, id, (size_t)n));
    for (int i = 0; i < n; i++)
        assert_same_bits(type->name, i, got[i], want[i]);
    assert_true(got[n] == 7.0f);
}

/* Q4_0, Q4_1, Q5_0, Q5_1. */
static void blocks_of_32(uint32_t id, unsigned n_bits, bool has_minimum)
{
    const unsigned zero = has_minimum ? 0 : 1u << (n_bits - 1);
    const int quants = 2 + (has_minimum ? 2 : 0) + (n_bits == 5 ? 4 : 0);

    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[64] = {0};
        double want[BLOCK], d, m = 0.0;

        put_u16(block, random_half(&d));
        if (has_minimum)
            put_u16(block + 2, random_half(&m));
        for (int i = 0; i < BLOCK; i++) {
            const unsigned q = random_below(1u << n_bits);

            put_bits(block + quants, i % 16, i < 16 ? 0 : 4, q & 15);
            if (n_bits == 5)
                put_bits(block + quants - 4, i / 8, (unsigned)i % 8, q >> 4);
            want[i] = d * ((double)q - zero) + m;
        }
        check_block(id, block, want, BLOCK);
    }
}

static void widens_blocks_of_32(void **state)
{
    (void)state;
    blocks_of_32(GGUF_Q4_0, 4, false);
    blocks_of_32(GGUF_Q4_1, 4, true);
    blocks_of_32(GGUF_Q5_0, 5, false);
    blocks_of_32(GGUF_Q5_1, 5, true);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[64] = {0};
        double want[BLOCK], d;

        put_u16(block, random_half(&d));
        for (int i = 0; i < BLOCK; i++) {
            const int q = (int)random_below(256) - 128;

            block[2 + i] = (unsigned char)(signed char)q;
            want[i] = d * q;
        }
        check_block(GGUF_Q8_0, block, want, BLOCK);
    }
}

/* Where bits of weight i go when `runs` runs of `length` weights lie side by side in the same
 * bytes, n_bits each. */
static void put_run(unsigned char *p, int i, int length, int runs, unsigned n_bits, unsigned value)
{
    const int group = i / (length * runs), run = i / length % runs;

    put_bits(p, group * length + i % length, (unsigned)run * n_bits, value);
}

static void widens_q2_k(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[84] = {0};
        double want[SUPER], d, m;

        put_u16(block + 80, random_half(&d));
        put_u16(block + 82, random_half(&m));
        for (int j = 0; j < 16; j++) {
            const unsigned s = random_below(16), t = random_below(16);

            block[j] = (unsigned char)(s | t << 4);
            for (int i = 16 * j; i < 16 * j + 16; i++) {
                const unsigned q = random_below(4);

                put_run(block + 16, i, 32, 4, 2, q);
                want[i] = d * s * q - m * t;
            }
        }
        check_block(GGUF_Q2_K, block, want, SUPER);
    }
}

/* Q3_K's scales A to P as published: byte k holds A + k (low four bits) and I + k (high four) for k
 * < 8; bytes 8 to 11 hold, from the top, two bits each of M I E A, N J F B, O K G C, P L H D. */
static void put_q3_scale(unsigned char *p, int j, unsigned s)
{
    put_bits(p, j & 7, j < 8 ? 0 : 4, s & 15);
    put_bits(p, 8 + (j & 3), 2 * ((unsigned)j >> 2), s >> 4);
}

static void widens_q3_k(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[110] = {0};
        double want[SUPER], d;

        put_u16(block + 108, random_half(&d));
        for (int j = 0; j < 16; j++) {
            const unsigned s = random_below(64);

            put_q3_scale(block + 96, j, s);
            for (int i = 16 * j; i < 16 * j + 16; i++) {
                const unsigned q = random_below(8);

                put_run(block + 32, i, 32, 4, 2, q & 3);
                put_run(block, i, 32, 8, 1, q >> 2);
                want[i] = d * ((double)s - 32) * ((double)q - 4);
            }
        }
        check_block(GGUF_Q3_K, block, want, SUPER);
    }
}

/* The 6-bit scales and minima of Q4_K and Q5_K: the first four of each whole in bytes 0..3 and
 * 4..7, of the last four the low bits in bytes 8..11 and the high bits on top of the others. */
static void put_k_scale(unsigned char *p, int j, unsigned s, unsigned t)
{
    if (j < 4) {
        put_bits(p, j, 0, s);
        put_bits(p, 4 + j, 0, t);
        return;
    }
    put_bits(p, 4 + j, 0, s & 15);
    put_bits(p, 4 + j, 4, t & 15);
    put_bits(p, j - 4, 6, s >> 4);
    put_bits(p, j, 6, t >> 4);
}

static void q4_or_q5_k(uint32_t id, unsigned n_bits)
{
    const int fifth = 16, quants = n_bits == 5 ? 48 : 16;

    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[176] = {0};
        double want[SUPER], d, m;

        put_u16(block, random_half(&d));
        put_u16(block + 2, random_half(&m));
        for (int j = 0; j < 8; j++) {
            const unsigned s = random_below(64), t = random_below(64);

            put_k_scale(block + 4, j, s, t);
            for (int i = 32 * j; i < 32 * j + 32; i++) {
                const unsigned q = random_below(1u << n_bits);

                put_run(block + quants, i, 32, 2, 4, q & 15);
                if (n_bits == 5)
                    put_run(block + fifth, i, 32, 8, 1, q >> 4);
                want[i] = d * s * q - m * t;
            }
        }
        check_block(id, block, want, SUPER);
    }
}

static void widens_q4_k_and_q5_k(void **state)
{
    (void)state;
    q4_or_q5_k(GGUF_Q4_K, 4);
    q4_or_q5_k(GGUF_Q5_K, 5);
}

static void widens_q6_k(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char block[210] = {0};
        double want[SUPER], d;

        put_u16(block + 208, random_half(&d));
        for (int j = 0; j < 16; j++) {
            const int s = (int)random_below(256) - 128;

            block[192 + j] = (unsigned char)(signed char)s;
            for (int i = 16 * j; i < 16 * j + 16; i++) {
                const unsigned q = random_below(64);

                put_run(block, i, 64, 2, 4, q & 15);
                put_run(block + 128, i, 32, 4, 2, q >> 4);
                want[i] = d * s * ((double)q - 32);
            }
        }
        check_block(GGUF_Q6_K, block, want, SUPER);
    }
}

static void widens_every_f16(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 65536; bits++) {
        const unsigned exponent = bits >> 10 & 31, mantissa = bits & 1023;
        unsigned char src[2];
        float got;

        put_u16(src, bits);
        assert_true(gguf_widen(&got, src, GGUF_F16, 1));
        assert_int_equal(signbit(got) != 0, bits >> 15);
        if (exponent == 31)
            assert_true(mantissa == 0 ? isinf(got) : isnan(got));
        else
            assert_true(fabs((double)got) == (exponent == 0
                                                  ? ldexp(mantissa, -24)
                                                  : ldexp(1024 + mantissa, (int)exponent - 25)));
    }
}

static void widens_plain_types(void **state)
{
    static const unsigned char bf16[] = {0x80, 0x3f, 0x00, 0xc0, 0x01, 0x00, 0x80, 0x7f};
    static const unsigned char f32[] = {0, 0, 0x80, 0x3f, 0xcd, 0xcc, 0xcc, 0xbd, 1, 0, 0, 0x80};
    /* 1 + 2^-24 is a tie and goes to even, 1 + 2^-24 + 2^-52 is above it, -2^-149 stays. */
    static const double values[] = {1.0 + 0x1p-24, 1.0 + 0x1p-24 + 0x1p-52, -0x1p-149, 1e300};
    unsigned char f64[sizeof values];
    float got[4];

    (void)state;
    assert_true(gguf_widen(got, bf16, GGUF_BF16, 4));
    assert_true(got[0] == 1.0f && got[1] == -2.0f && got[2] == 0x1p-133f && isinf(got[3]));
    assert_true(gguf_widen(got, f32, GGUF_F32, 3));
    assert_true(got[0] == 1.0f && got[1] == -0.1f && got[2] == -0x1p-149f);
    memcpy(f64, values, sizeof values);
    assert_true(gguf_widen(got, f64, GGUF_F64, 4));
    assert_true(got[0] == 1.0f && got[1] == 1.0f + 0x1p-23f && got[2] == -0x1p-149f &&
                isinf(got[3]));
}

/* Worked out by hand. */
static void widens_hand_made_blocks(void **state)
{
    /* d = 0.5; byte 0 is 0x2f: weight 0 has q 15, weight 16 has q 2. */
    const unsigned char q4_0[18] = {0x00, 0x38, 0x2f, 0x80};
    /* d = 2, m = -1; the fifth bits of weights 0 and 17 are set; byte 1 is 0x31. */
    const unsigned char q5_1[24] = {0x00, 0x40, 0x00, 0xbc, 0x01, 0x00, 0x02, 0x00, 0x00, 0x31};
    const unsigned char q8_0[34] = {0x00, 0x34, 0x80, 0x7f, 0xff};
    unsigned char q6_k[210] = {0};
    float got[SUPER];

    (void)state;
    assert_true(gguf_widen(got, q4_0, GGUF_Q4_0, 32));
    assert_true(got[0] == 3.5f && got[16] == -3.0f); /* (15 - 8) / 2, (2 - 8) / 2 */
    assert_true(got[1] == -4.0f && got[17] == 0.0f); /* 0x80: q 0 and q 8 */
    assert_true(gguf_widen(got, q5_1, GGUF_Q5_1, 32));
    assert_true(got[0] == 31.0f && got[16] == -1.0f); /* 2 * 16 - 1, 2 * 0 - 1 */
    assert_true(got[1] == 1.0f && got[17] == 37.0f);  /* 2 * 1 - 1, 2 * (3 + 16) - 1 */
    assert_true(gguf_widen(got, q8_0, GGUF_Q8_0, 32));
    assert_true(got[0] == -32.0f && got[1] == 31.75f && got[2] == -0.25f); /* d = 1/4 */
    /* d = 1, scale 8 (weights 128..143) is -3; weight 128: low nibble of byte 64 is 5, upper bits
     * 01 of byte 32 of the high part: q = 21. */
    q6_k[64] = 0x05;
    q6_k[128 + 32] = 0x01;
    q6_k[192 + 8] = 0xfd;
    put_u16(q6_k + 208, 0x3c00);
    assert_true(gguf_widen(got, q6_k, GGUF_Q6_K, 256));
    assert_true(got[128] == 33.0f && got[129] == 96.0f && got[0] == 0.0f); /* -3 * (21 - 32) */
}

static void widens_several_blocks(void **state)
{
    unsigned char blocks[3 * 18] = {0};
    float got[97] = {0};

    (void)state;
    for (int b = 0; b < 3; b++) {
        put_u16(blocks + 18 * b, 0x3c00u + 0x400u * (unsigned)b); /* 1, 2, 4 */
        memset(blocks + 18 * b + 2, 0x99, 16);
    }
    assert_true(gguf_widen(got, blocks, GGUF_Q4_0, 96));
    for (int i = 0; i < 97; i++)
        assert_true(got[i] == (i < 32 ? 1.0f : i < 64 ? 2.0f : i < 96 ? 4.0f : 0.0f));
    got[0] = 5.0f;
    assert_true(gguf_widen(got, blocks, GGUF_Q4_0, 0));
    assert_true(got[0] == 5.0f);
}

static void passes_on_what_is_not_finite(void **state)
{
    unsigned char block[18] = {0x00, 0x7c, 0x9f};
    float got[32];

    (void)state;
    assert_true(gguf_widen(got, block, GGUF_Q4_0, 32));
    assert_true(isinf(got[0]) && got[0] > 0 && isinf(got[1]) && got[1] < 0);
    block[1] = 0x7e;
    assert_true(gguf_widen(got, block, GGUF_Q4_0, 32));
    assert_true(isnan(got[0]));
}

/* Ids, names and sizes, as the public description of the format lists them. */
static void knows_the_published_types(void **state)
{
    static const struct {
        uint32_t id;
        const char *name;
        unsigned block, bytes;
        bool widened;
    } known[] = {
        {0, "F32", 1, 4, true},          {1, "F16", 1, 2, true},
        {2, "Q4_0", 32, 18, true},       {3, "Q4_1", 32, 20, true},
        {6, "Q5_0", 32, 22, true},       {7, "Q5_1", 32, 24, true},
        {8, "Q8_0", 32, 34, true},       {9, "Q8_1", 0, 0, false},
        {10, "Q2_K", 256, 84, true},     {11, "Q3_K", 256, 110, true},
        {12, "Q4_K", 256, 144, true},    {13, "Q5_K", 256, 176, true},
        {14, "Q6_K", 256, 210, true},    {15, "Q8_K", 256, 292, false},
        {16, "IQ2_XXS", 256, 66, false}, {17, "IQ2_XS", 256, 74, false},
        {18, "IQ3_XXS", 256, 98, false}, {19, "IQ1_S", 256, 50, false},
        {20, "IQ4_NL", 32, 18, false},   {21, "IQ3_S", 256, 110, false},
        {22, "IQ2_S", 256, 82, false},   {23, "IQ4_XS", 256, 136, false},
        {24, "I8", 1, 1, false},         {25, "I16", 1, 2, false},
        {26, "I32", 1, 4, false},        {27, "I64", 1, 8, false},
        {28, "F64", 1, 8, true},         {29, "IQ1_M", 256, 56, false},
        {30, "BF16", 1, 2, true},        {31, "Q4_0_4_4", 0, 0, false},
        {34, "TQ1_0", 256, 54, false},   {35, "TQ2_0", 256, 66, false},
        {39, "MXFP4", 32, 17, false},    {40, "NVFP4", 64, 36, false},
        {41, "Q1_0", 128, 18, false},    {42, "Q2_0", 64, 18, false},
    };
    float got = 5.0f;

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const GgufType *t = gguf_type(known[i].id);

        assert_non_null(t);
        assert_string_equal(t->name, known[i].name);
        assert_int_equal(t->block, known[i].block);
        assert_int_equal(t->block_bytes, known[i].bytes);
        assert_int_equal(t->widen != NULL, known[i].widened);
        if (!known[i].widened)
            assert_false(gguf_widen(&got, "", known[i].id, 0));
    }
    for (uint32_t id = 0; id < 43; id++)
        assert_non_null(gguf_type(id)->name);
    assert_null(gguf_type(43));
    assert_null(gguf_type(UINT32_MAX));
    assert_false(gguf_widen(&got, "", 43, 1));
    assert_false(gguf_widen(&got, "", UINT32_MAX, 1));
    assert_true(got == 5.0f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(widens_plain_types),
        cmocka_unit_test(widens_every_f16),
        cmocka_unit_test(widens_blocks_of_32),
        cmocka_unit_test(widens_q2_k),
        cmocka_unit_test(widens_q3_k),
        cmocka_unit_test(widens_q4_k_and_q5_k),
        cmocka_unit_test(widens_q6_k),
        cmocka_unit_test(widens_hand_made_blocks),
        cmocka_unit_test(widens_several_blocks),
        cmocka_unit_test(passes_on_what_is_not_finite),
        cmocka_unit_test(knows_the_published_types),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
