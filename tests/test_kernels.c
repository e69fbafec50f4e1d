/* tests/test_kernels.c: every kernel of every instruction set, bit for bit against definitions
 * written down here once more, straight from docs/numerics.md and without packing. Edge lengths,
 * guard values around outputs, NaN in everything that must not be read. */
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

#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

static uint64_t rng_state = 20240229;

static uint32_t next_u32(void)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 32);
}

/* About normal(0, 1). */
static float next_float(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 4; i++)
        sum += (float)(next_u32() >> 8) * 0x1p-24f;
    return (sum - 2.0f) * 1.7f;
}

static float *new_floats(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof(float) + 127) / 64 * 64);

    assert_non_null(p);
    return p;
}

static float *random_floats(size_t n)
{
    float *p = new_floats(n);

    for (size_t i = 0; i < n; i++)
        p[i] = next_float();
    return p;
}

static void fill(float *p, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        p[i] = value;
}

static void assert_same_bits(const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof(float)) != 0)
            fail_msg("element %zu of %zu: %a, expected %a", i, n, (double)got[i], (double)want[i]);
}

/* ---- Linear ---- */

/* Numerics, linear layer, for w in the order [n][k]. */
static void define_linear(float *y, size_t ldy, const float *w, const float *bias, const float *x,
                          size_t ldx, int m, int n, int k)
{
    for (int t = 0; t < m; t++)
        for (int o = 0; o < n; o++) {
            float sum = bias != NULL ? bias[o] : 0.0f;

            for (int b = 0; b < k; b += 256) {
                float a = 0.0f;

                for (int i = b; i < k && i < b + 256; i++)
                    a = fmaf(w[(size_t)o * (size_t)k + (size_t)i], x[(size_t)t * ldx + (size_t)i],
                             a);
                sum = sum + a;
            }
            y[(size_t)t * ldy + (size_t)o] = sum;
        }
}

static void check_linear(int m, int n, int k, bool with_bias)
{
    const size_t ldx = (size_t)k + 3, ldy = (size_t)n + 5;
    float *w = random_floats((size_t)n * (size_t)k), *bias = random_floats((size_t)n);
    float *x = random_floats((size_t)m * ldx),
          *panels = new_floats(kern_pad((size_t)n) * (size_t)k);
    float *want = new_floats((size_t)m * ldy), *got = new_floats((size_t)m * ldy);
    float *scratch = new_floats(kern_linear_scratch((size_t)m, (size_t)k));
    size_t bad;

    assert_true(kern_pack(panels, w, KERN_F32, KERN_OUT_IN, (size_t)n, (size_t)k, &bad));
    fill(want, (size_t)m * ldy, 12345.0f);
    define_linear(want, ldy, w, with_bias ? bias : NULL, x, ldx, m, n, k);
    for (int i = 0; kernels_available(i) != NULL; i++) {
        const Kernels *kern = kernels_available(i);

        fill(got, (size_t)m * ldy, 12345.0f); /* the gap between rows must survive */
        fill(scratch, kern_linear_scratch((size_t)m, (size_t)k), NAN);
        kern->linear(got, ldy, panels, with_bias ? bias : NULL, x, ldx, m, n, k, scratch);
        assert_same_bits(got, want, (size_t)m * ldy);
        /* Row by row: the size of the batch must not show. */
        for (int t = 0; t < m; t++) {
            fill(got, ldy, 12345.0f);
            kern->linear(got, ldy, panels, with_bias ? bias : NULL, x + (size_t)t * ldx, ldx, 1, n,
                         k, scratch);
            assert_same_bits(got, want + (size_t)t * ldy, ldy);
        }
    }
    free(w), free(bias), free(x), free(panels), free(want), free(got), free(scratch);
}

static void linear_equals_its_definition_for_every_batch(void **state)
{
    static const int batches[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 64};

    (void)state;
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        check_linear(batches[i], 131, 300, true);
}

static void linear_equals_its_definition_for_odd_shapes(void **state)
{
    static const int shapes[][2] = {{1, 1},    {7, 5},     {8, 8},    {9, 255},
                                    {16, 256}, {17, 257},  {31, 511}, {32, 512},
                                    {33, 513}, {57, 1600}, {144, 48}, {257, 64}};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_linear(1, shapes[i][0], shapes[i][1], true);
        check_linear(3, shapes[i][0], shapes[i][1], false);
        check_linear(7, shapes[i][0], shapes[i][1], true);
    }
}

static void linear_equals_its_definition_for_512_tokens(void **state)
{
    (void)state;
    check_linear(512, 24, 260, true);
}

static void linear_equals_its_definition_for_the_gpt2_vocabulary(void **state)
{
    (void)state;
    check_linear(1, 50257, 20, false);
    check_linear(6, 50257, 9, false);
}

/* ---- Packing ---- */

static double f16_value(unsigned h)
{
    const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    const double magnitude =
        exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);

    return h & 0x8000 ? -magnitude : magnitude;
}

static void every_f16_and_bf16_is_widened_exactly(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        unsigned char bytes[3] = {0, (unsigned char)(h & 255), (unsigned char)(h >> 8)};
        const float wide = kern_widen(bytes + 1, 0, KERN_F16); /* odd address on purpose */
        const float bf = kern_widen(bytes + 1, 0, KERN_BF16);

        if ((h >> 10 & 31) != 31) {
            assert_true((double)wide == f16_value(h));
            assert_true((signbit(wide) != 0) == (h >> 15 != 0));
        } else {
            assert_true(!isfinite(wide));
        }
        assert_int_equal(kern_bits(bf), h << 16);
    }
}

static void check_pack(KernType type, KernOrder order, size_t n, size_t k)
{
    const size_t bytes = kern_type_bytes(type);
    unsigned char *raw = malloc(n * k * bytes + 1);
    unsigned char *src = raw + 1;
    float *panels = new_floats(kern_pad(n) * k), *row = new_floats(k);
    size_t bad = 0;

    assert_non_null(raw);
    for (size_t i = 0; i < n * k; i++) {
        const float f = next_float();
        const uint32_t u = type == KERN_F32 ? kern_bits(f) : next_u32() & 0xbbff; /* finite */

        memcpy(src + i * bytes, &u, bytes);
    }
    fill(panels, kern_pad(n) * k, NAN);
    assert_true(kern_pack(panels, src, type, order, n, k, &bad));
    for (size_t o = 0; o < kern_pad(n); o++) {
        kern_unpack_row(row, panels, o, k);
        for (size_t i = 0; i < k; i++) {
            const size_t at = order == KERN_IN_OUT ? i * n + o : o * k + i;
            const float want = o < n ? kern_widen(src, at, type) : 0.0f;

            assert_same_bits(row + i, &want, 1);
        }
    }
    /* A value that is no number is found and named. */
    for (size_t at = 0; at < n * k; at += n * k / 3 + 1) {
        const uint32_t nan = type == KERN_F32 ? 0x7fc00000u : type == KERN_F16 ? 0x7e00u : 0x7fc0u;
        unsigned char saved[4];

        memcpy(saved, src + at * bytes, bytes);
        memcpy(src + at * bytes, &nan, bytes);
        assert_false(kern_pack(panels, src, type, order, n, k, &bad));
        assert_int_equal(bad, at);
        memcpy(src + at * bytes, saved, bytes);
    }
    free(raw), free(panels), free(row);
}

static void packing_keeps_every_element_in_both_orders(void **state)
{
    static const size_t shapes[][2] = {{1, 1}, {8, 16}, {9, 17}, {144, 48}, {513, 33}, {1030, 600}};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (KernType type = KERN_F32; type <= KERN_BF16; type++) {
            check_pack(type, KERN_IN_OUT, shapes[i][0], shapes[i][1]);
            check_pack(type, KERN_OUT_IN, shapes[i][0], shapes[i][1]);
        }
}

/* ---- Attention ---- */

static void check_attention(int n_keys, int dim)
{
    const size_t n_ctx = kern_pad((size_t)n_keys), pad = kern_pad((size_t)dim);
    float *q = random_floats((size_t)dim), *e = random_floats((size_t)n_keys);
    float *k_panels = new_floats(n_ctx * (size_t)dim), *v_panels = new_floats(n_ctx * pad);
    float *s = new_floats(n_ctx), *o = new_floats(pad + 8);

    /* Everything beyond the last key is NaN: it may be computed but must not show. */
    fill(k_panels, n_ctx * (size_t)dim, NAN);
    fill(v_panels, n_ctx * pad, NAN);
    for (size_t i = 0; i < (size_t)n_keys; i++)
        for (size_t d = 0; d < (size_t)dim; d++) {
            k_panels[(i / 8 * (size_t)dim + d) * 8 + i % 8] = next_float();
            v_panels[d / 8 * n_ctx * 8 + i * 8 + d % 8] = next_float();
        }
    for (int t = 0; kernels_available(t) != NULL; t++) {
        const Kernels *kern = kernels_available(t);

        kern->attn_scores(s, q, k_panels, n_keys, dim, 0.125f);
        for (size_t i = 0; i < (size_t)n_keys; i++) {
            float a = 0.0f, want;

            for (size_t d = 0; d < (size_t)dim; d++)
                a = fmaf(q[d], k_panels[(i / 8 * (size_t)dim + d) * 8 + i % 8], a);
            want = 0.125f * a;
            assert_same_bits(s + i, &want, 1);
        }
        fill(o, pad + 8, 777.0f);
        kern->attn_values(o, e, v_panels, n_ctx * 8, n_keys, dim, 0.37f);
        for (size_t d = 0; d < pad + 8; d++) {
            float a = 0.0f, want = 777.0f; /* not one element past the head */

            for (size_t i = 0; d < (size_t)dim && i < (size_t)n_keys; i++)
                a = fmaf(e[i], v_panels[d / 8 * n_ctx * 8 + i * 8 + d % 8], a);
            if (d < (size_t)dim)
                want = 0.37f * a;
            assert_same_bits(o + d, &want, 1);
        }
    }
    free(q), free(e), free(k_panels), free(v_panels), free(s), free(o);
}

static void attention_equals_its_definition(void **state)
{
    static const int dims[] = {1, 7, 8, 12, 16, 64, 65, 80, 128};

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (int n = 1; n < 70; n += n < 34 ? 1 : 9)
            check_attention(n, dims[i]);
}

/* ---- Rows ---- */

static float define_fold(const float lane[16])
{
    float l[16];

    memcpy(l, lane, sizeof l);
    for (int j = 0; j < 8; j++)
        l[j] = l[j] + l[j + 8];
    for (int j = 0; j < 4; j++)
        l[j] = l[j] + l[j + 4];
    l[0] = l[0] + l[2];
    l[1] = l[1] + l[3];
    return l[0] + l[1];
}

static void softmax_equals_its_definition(void **state)
{
    (void)state;
    for (int n = 1; n < 80; n++) {
        float *x = random_floats((size_t)n + 1), *e = new_floats((size_t)n + 1);
        float want[80], lane[16] = {0}, m = -INFINITY, sum;

        for (int i = 0; i < n; i++)
            m = fmaxf(m, x[i]);
        for (int i = 0; i < n; i++) {
            want[i] = kern_exp(x[i] - m);
            lane[i % 16] = lane[i % 16] + want[i];
        }
        sum = define_fold(lane);
        for (int t = 0; kernels_available(t) != NULL; t++) {
            float got;

            e[n] = 3.0f;
            got = kernels_available(t)->softmax_exp(e, x, n);
            assert_same_bits(e, want, (size_t)n);
            assert_same_bits(&got, &sum, 1);
            assert_true(e[n] == 3.0f);
            memcpy(e, x, (size_t)n * sizeof(float)); /* in place */
            got = kernels_available(t)->softmax_exp(e, e, n);
            assert_same_bits(e, want, (size_t)n);
            assert_same_bits(&got, &sum, 1);
        }
        free(x), free(e);
    }
}

static void layer_norm_equals_its_definition(void **state)
{
    static const int dims[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 48, 192, 768, 1000, 1600};

    (void)state;
    for (size_t c = 0; c < sizeof dims / sizeof dims[0]; c++) {
        const size_t n = (size_t)dims[c];
        float *x = random_floats(n), *g = random_floats(n), *b = random_floats(n);
        float *want = new_floats(n), *got = new_floats(n + 1);
        float lane[16] = {0}, sq[16] = {0}, mu, r;

        for (size_t i = 0; i < n; i++)
            lane[i % 16] = lane[i % 16] + x[i];
        mu = define_fold(lane) / (float)n;
        for (size_t i = 0; i < n; i++)
            sq[i % 16] = fmaf(x[i] - mu, x[i] - mu, sq[i % 16]);
        r = 1.0f / sqrtf(define_fold(sq) / (float)n + 1e-5f);
        for (size_t i = 0; i < n; i++)
            want[i] = fmaf((x[i] - mu) * r, g[i], b[i]);
        for (int t = 0; kernels_available(t) != NULL; t++) {
            got[n] = 5.0f;
            kernels_available(t)->layer_norm(got, x, g, b, dims[c], 1e-5f);
            assert_same_bits(got, want, n);
            assert_true(got[n] == 5.0f);
        }
        free(x), free(g), free(b), free(want), free(got);
    }
}

static void add_equals_its_definition(void **state)
{
    (void)state;
    for (size_t n = 0; n < 40; n++)
        for (int t = 0; kernels_available(t) != NULL; t++) {
            float *x = random_floats(n + 1), *y = random_floats(n + 1), *z = new_floats(n + 1);

            memcpy(z, x, (n + 1) * sizeof(float));
            kernels_available(t)->add(x, y, n);
            for (size_t i = 0; i < n; i++)
                z[i] = z[i] + y[i];
            assert_same_bits(x, z, n + 1);
            free(x), free(y), free(z);
        }
}

/* ---- Elementary functions ---- */

static bool quick(void)
{
    return getenv("LLORCH_TEST_QUICK") != NULL;
}

enum { SWEEP_CHUNK = 4096 };

/* The next inputs of the sweep over the bit patterns 0, 256, 512, ...; infinities and NaN left out.
 */
static int sweep_inputs(uint64_t *pattern, float x[SWEEP_CHUNK])
{
    int n = 0;

    for (; *pattern < 0x100000000u && n < SWEEP_CHUNK; *pattern += 256) {
        const float f = kern_from_bits((uint32_t)*pattern);

        if (isfinite(f))
            x[n++] = f;
    }
    return n;
}

static uint64_t hash_bits(uint64_t h, const float *y, int n)
{
    for (int i = 0; i < n; i++)
        h = (h ^ kern_bits(y[i])) * 1099511628211u;
    return h;
}

static const uint64_t hash_start = 14695981039346656037u;

static uint64_t sweep_table(const Kernels *k, Activation a)
{
    static float x[SWEEP_CHUNK], y[SWEEP_CHUNK];
    uint64_t h = hash_start;
    int n;

    for (uint64_t pattern = 0; (n = sweep_inputs(&pattern, x)) > 0;) {
        k->activation[a](y, x, (size_t)n);
        h = hash_bits(h, y, n);
    }
    return h;
}

/* The hashes are recorded: exp, tanh and the tanh form come from the definition's own page, the
 * others from its first run. Any machine, compiler and instruction set must reproduce them. */
static void functions_give_the_recorded_bits_on_all_2_24_inputs(void **state)
{
    static const struct {
        Activation a;
        uint64_t hash;
    } want[] = {
        {ACT_GELU_TANH, 0x8e0151973aa66f53u}, {ACT_TANH, 0xad130d1a2ceeefc1u},
        {ACT_GELU_ERF, 0x4ea0ca48e17e49e0u},  {ACT_RELU, 0xe112c3c0638a2325u},
        {ACT_SILU, 0xd284971fe338fd39u},
    };

    (void)state;
    if (quick()) {
        print_message("2^24 inputs are left out by LLORCH_TEST_QUICK\n");
        skip();
    }
    for (int t = 0; kernels_available(t) != NULL; t++)
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
            const uint64_t h = sweep_table(kernels_available(t), want[i].a);

            if (h != want[i].hash)
                fail_msg("%s, activation %d: hash %016llx, expected %016llx",
                         kernels_available(t)->name, (int)want[i].a, (unsigned long long)h,
                         (unsigned long long)want[i].hash);
        }
}

static void exp_gives_the_recorded_bits_on_all_2_24_inputs(void **state)
{
    static float x[SWEEP_CHUNK], y[SWEEP_CHUNK];
    uint64_t h = hash_start;
    int n;

    (void)state;
    if (quick()) {
        print_message("2^24 inputs are left out by LLORCH_TEST_QUICK\n");
        skip();
    }
    for (uint64_t pattern = 0; (n = sweep_inputs(&pattern, x)) > 0;) {
        for (int i = 0; i < n; i++)
            y[i] = kern_exp(x[i]);
        h = hash_bits(h, y, n);
    }
    assert_true(h == 0x7321e3aa4482f4dbu);
}

/* Each table's exp, seen through softmax: with the maximum 0 in front, e[i] = exp(x[i]). */
static void exp_of_every_table_equals_the_definition(void **state)
{
    static float x[1025], e[1025];

    (void)state;
    for (int t = 0; kernels_available(t) != NULL; t++)
        for (uint32_t bits = 0x80000000u; bits < 0xff800000u;) {
            int n = 1;

            x[0] = 0.0f;
            for (; n < 1025 && bits < 0xff800000u; bits += quick() ? 65521 : 509)
                x[n++] = kern_from_bits(bits);
            (void)kernels_available(t)->softmax_exp(e, x, n);
            for (int i = 0; i < n; i++) {
                const float want = kern_exp(x[i]);

                assert_same_bits(e + i, &want, 1);
            }
        }
}

static void functions_are_accurate(void **state)
{
    double gelu_tanh = 0, gelu_erf = 0, silu = 0, tanh_ulp = 0;

    (void)state;
    for (double d = -12; d <= 12; d += 0x1p-12) {
        const float x = (float)d;
        const double u = sqrt(2 / acos(-1)) * (d + 0.044715 * d * d * d);

        gelu_tanh = fmax(gelu_tanh, fabs(kern_gelu_tanh(x) - 0.5 * d * (1 + tanh(u))));
        gelu_erf = fmax(gelu_erf, fabs(kern_gelu_erf(x) - 0.5 * d * erfc(-d / sqrt(2))));
        silu = fmax(silu, fabs(kern_silu(x) - d / (1 + exp(-d))));
        if (d != 0)
            tanh_ulp = fmax(tanh_ulp, fabs(kern_tanh(x) / tanh(d) - 1));
    }
    assert_true(gelu_tanh < 5.3e-7);
    assert_true(gelu_erf < 2.5e-7);
    assert_true(silu < 2e-6);
    assert_true(tanh_ulp < 1.5 * 0x1p-23);
    /* The two forms of GELU differ by up to 4.73e-4: a mix-up would not pass here. */
    assert_true(fabs((double)kern_gelu_tanh(2.7f) - (double)kern_gelu_erf(2.7f)) > 4e-4);
    assert_true(fabs((double)kern_gelu_tanh(-3.0f) + 0.00363739) < 1e-7);
    assert_true(fabs((double)kern_gelu_erf(-3.0f) + 0.00404969) < 1e-7);
}

/* Random bit patterns (all exponents, subnormals, cancellation) against the C library's fmaf. */
static void portable_fma_rounds_once(void **state)
{
    const long n = quick() ? 200000 : 5000000;

    (void)state;
    for (long i = 0; i < n; i++) {
        float a = kern_from_bits(next_u32()), b = kern_from_bits(next_u32());
        float c = kern_from_bits(next_u32()), want, got;

        if (i % 2 == 0) { /* c close to -a * b, where the rounding is decided */
            a = next_float(), b = next_float() * 0x1p-70f * (i % 4 == 0 ? 0x1p-60f : 1.0f);
            c = -a * b * (1.0f + (float)(int)(next_u32() % 9) * 0x1p-24f);
        }
        if (!isfinite(a) || !isfinite(b) || !isfinite(c))
            continue;
        want = fmaf(a, b, c);
        got = kern_fma_portable(a, b, c);
        assert_same_bits(&got, &want, 1);
    }
}

static void unknown_instruction_sets_are_refused(void **state)
{
    const Kernels *k = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(kernels_select(&k, "mmx", &err), ERR_USAGE);
    assert_null(k);
    assert_int_equal(kernels_select(&k, "scalar", &err), ERR_OK);
    assert_string_equal(k->name, "scalar");
    assert_int_equal(kernels_select(&k, NULL, &err), ERR_OK);
    assert_int_equal(kernels_check_float_mode(&err), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_equals_its_definition_for_every_batch),
        cmocka_unit_test(linear_equals_its_definition_for_odd_shapes),
        cmocka_unit_test(linear_equals_its_definition_for_512_tokens),
        cmocka_unit_test(linear_equals_its_definition_for_the_gpt2_vocabulary),
        cmocka_unit_test(every_f16_and_bf16_is_widened_exactly),
        cmocka_unit_test(packing_keeps_every_element_in_both_orders),
        cmocka_unit_test(attention_equals_its_definition),
        cmocka_unit_test(softmax_equals_its_definition),
        cmocka_unit_test(layer_norm_equals_its_definition),
        cmocka_unit_test(add_equals_its_definition),
        cmocka_unit_test(functions_give_the_recorded_bits_on_all_2_24_inputs),
        cmocka_unit_test(exp_gives_the_recorded_bits_on_all_2_24_inputs),
        cmocka_unit_test(exp_of_every_table_equals_the_definition),
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(portable_fma_rounds_once),
        cmocka_unit_test(unknown_instruction_sets_are_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
