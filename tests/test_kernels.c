/* tests/test_kernels.c: attention, sums over rows and elementary functions of every instruction
 * set, bit for bit against definitions written down here once more, straight from docs/numerics.md.
 * Edge lengths, guard values around outputs, NaN in everything that must not be read. The linear
 * layer is tests/test_linear.c, packing tests/test_pack.c. */
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

#include "checkpoint/bits_hash.h"
#include "kernel_rig.h"
#include "kernels/fma_chain.h"

/* ---- Attention ---- */

/* A cache of one head, everything behind its n visible keys NaN: it may be computed, but must not
 * show. key and value: what lies in it, as floats, [n][dim]. */
typedef struct {
    KernHead head;
    size_t k_bytes, v_bytes;
    void *k_panels, *v_panels;
    float *key, *value;
} Cache;

static void store(void *panels, KernType type, size_t index, float x, float *stored)
{
    const uint16_t h = kern_to_f16(x);

    if (type == KERN_F32)
        memcpy((char *)panels + index * 4, &x, 4);
    else
        memcpy((char *)panels + index * 2, &h, 2);
    *stored = type == KERN_F32 ? x : (float)f16_value(h);
}

static Cache new_cache(KernType type, size_t n, size_t dim)
{
    const size_t n_ctx = kern_pad(n) + 16, bytes = type == KERN_F32 ? 4 : 2;
    Cache c = {.head = {.type = type, .v_stride = n_ctx * 8, .head_dim = (int)dim}};

    c.k_bytes = n_ctx * dim * bytes;
    c.v_bytes = n_ctx * kern_pad(dim) * bytes;
    c.head.k_panels = c.k_panels = new_room(c.k_bytes);
    c.head.v_panels = c.v_panels = new_room(c.v_bytes);
    c.key = new_floats(n * dim);
    c.value = new_floats(n * dim);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) {
            store(c.k_panels, type, (i / 8 * dim + d) * 8 + i % 8, next_float(),
                  c.key + i * dim + d);
            store(c.v_panels, type, d / 8 * n_ctx * 8 + i * 8 + d % 8, next_float(),
                  c.value + i * dim + d);
        }
    return c;
}

static void free_cache(Cache *c)
{
    release_room(c->k_panels, c->k_bytes), release_room(c->v_panels, c->v_bytes);
    free(c->key), free(c->value);
}

static void check_scores(const Kernels *kern, const Cache *c, int n_keys, int n_queries)
{
    const size_t dim = (size_t)c->head.head_dim, ldq = dim + 3;
    const size_t pad = kern_pad((size_t)(n_keys + n_queries - 1)), lds = pad + 5;
    float *q = random_floats((size_t)n_queries * ldq), *s = new_floats((size_t)n_queries * lds);

    fill(s, (size_t)n_queries * lds, 777.0f);
    kern->attn_scores(s, lds, q, ldq, n_queries, &c->head, n_keys, 0.123f);
    for (size_t j = 0; j < (size_t)n_queries; j++) {
        for (size_t i = 0; i < (size_t)n_keys + j; i++) {
            float a = 0.0f, want;

            for (size_t d = 0; d < dim; d++)
                a = fmaf(q[j * ldq + d], c->key[i * dim + d], a);
            want = 0.123f * a;
            assert_same_bits(s + j * lds + i, &want, 1);
        }
        for (size_t i = pad; i < lds; i++)
            assert_true(s[j * lds + i] == 777.0f);
    }
    free(q), free(s);
}

static void check_values(const Kernels *kern, const Cache *c, int n_keys, int n_queries)
{
    const size_t dim = (size_t)c->head.head_dim, ldo = dim + 9;
    const size_t lde = kern_pad((size_t)(n_keys + n_queries - 1)) + 2;
    float *e = random_floats((size_t)n_queries * lde), *o = new_floats((size_t)n_queries * ldo);
    float *inv = random_floats((size_t)n_queries);

    for (size_t j = 0; j < (size_t)n_queries; j++)
        fill(e + j * lde + (size_t)n_keys + j, lde - (size_t)n_keys - j, NAN);
    fill(o, (size_t)n_queries * ldo, 777.0f);
    kern->attn_values(o, ldo, e, lde, inv, n_queries, &c->head, n_keys);
    for (size_t j = 0; j < (size_t)n_queries; j++)
        for (size_t d = 0; d < ldo; d++) {
            float a = 0.0f, want = 777.0f; /* not one element past the head */

            for (size_t i = 0; d < dim && i < (size_t)n_keys + j; i++)
                a = fmaf(e[j * lde + i], c->value[i * dim + d], a);
            if (d < dim)
                want = inv[j] * a;
            assert_same_bits(o + j * ldo + d, &want, 1);
        }
    free(e), free(o), free(inv);
}

static void check_attention(KernType type)
{
    static const int dims[] = {1, 7, 8, 20, 64, 65, 80, 128};

    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (int n = 1; n <= 1000; n = n < 40 ? n + 1 : n == 40 ? 257 : n + 743)
            for (int m = 1; m <= KERN_QUERIES; m++) {
                Cache c = new_cache(type, (size_t)(n + m - 1), (size_t)dims[i]);

                for (int t = 0; kernels_available(t) != NULL; t++) {
                    check_scores(kernels_available(t), &c, n, m);
                    check_values(kernels_available(t), &c, n, m);
                }
                free_cache(&c);
            }
}

static void attention_equals_its_definition(void **state)
{
    (void)state;
    check_attention(KERN_F32);
}

static void attention_over_an_f16_cache_equals_its_definition(void **state)
{
    (void)state;
    check_attention(KERN_F16);
}

/* Chains end at each query's own last key: a masked step with weight 0 would turn -0 into +0. */
static void value_chains_keep_negative_zero(void **state)
{
    (void)state;
    for (int t = 0; kernels_available(t) != NULL; t++)
        for (int m = 1; m <= KERN_QUERIES; m++) {
            Cache c = new_cache(KERN_F32, 20, 8);
            float e[KERN_QUERIES][24] = {{0}}, o[KERN_QUERIES][8], inv[KERN_QUERIES];

            /* Each product is too small for a float and negative: -0 from the first step on. */
            for (int j = 0; j < m; j++) {
                inv[j] = 1.0f;
                for (int i = 0; i < 9 + j; i++)
                    e[j][i] = -0x1p-149f;
                for (int i = 9 + j; i < 24; i++)
                    e[j][i] = 0.0f;
            }
            for (size_t i = 0; i < 20 * 8; i++)
                ((float *)c.v_panels)[i] = 0x1p-10f;
            kernels_available(t)->attn_values(o[0], 8, e[0], 24, inv, m, &c.head, 9);
            for (int j = 0; j < m; j++)
                for (int d = 0; d < 8; d++)
                    assert_int_equal(kern_bits(o[j][d]), 0x80000000u);
            free_cache(&c);
        }
}

static void to_f16_equals_its_definition(void **state)
{
    enum { N = 4096 };
    static float x[N];
    static uint16_t h[N + 1];

    (void)state;
    for (int t = 0; kernels_available(t) != NULL; t++) {
        const Kernels *kern = kernels_available(t);

        for (size_t n = 0; n <= 40; n++) { /* every remainder */
            float *few = random_floats(n);

            memset(h, 0x55, sizeof h);
            kern->to_f16(h, few, n);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(h[i], define_f16(few[i]));
            assert_int_equal(h[n], 0x5555);
            free(few);
        }
        /* Each f16, the border to its successor, and both neighbours of that. */
        for (unsigned bits = 0; bits < 0x10000; bits += N / 4) {
            for (unsigned i = 0; i < N; i++) {
                const unsigned value = bits + i / 4, next = value + 1;
                const double low = f16_value(value);
                const double high =
                    (next & 0x7c00) == 0x7c00 ? copysign(65536, low) : f16_value(next);
                const float border = (float)((low + high) / 2);

                x[i] = (value & 0x7c00) == 0x7c00 ? copysignf(INFINITY, value & 0x8000 ? -1 : 1)
                       : i % 4 == 0               ? (float)low
                       : i % 4 == 1               ? border
                       : i % 4 == 2               ? nextafterf(border, 0.0f)
                                                  : nextafterf(border, copysignf(1e9f, border));
            }
            kern->to_f16(h, x, N);
            for (unsigned i = 0; i < N; i++)
                if (isinf(x[i]))
                    assert_int_equal(h[i], x[i] < 0 ? 0xfc00 : 0x7c00);
                else if (h[i] != define_f16(x[i]))
                    fail_msg("%s: %a to f16: %04x, expected %04x", kern->name, (double)x[i],
                             (unsigned)h[i], define_f16(x[i]));
        }
    }
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

static uint64_t sweep_table(const Kernels *k, Activation a)
{
    static float x[SWEEP_CHUNK], y[SWEEP_CHUNK];
    uint64_t h = bits_hash_start;
    int n;

    for (uint64_t pattern = 0; (n = sweep_inputs(&pattern, x)) > 0;) {
        k->activation[a](y, x, (size_t)n);
        h = bits_hash(h, y, (size_t)n);
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
    uint64_t h = bits_hash_start;
    int n;

    (void)state;
    if (quick()) {
        print_message("2^24 inputs are left out by LLORCH_TEST_QUICK\n");
        skip();
    }
    for (uint64_t pattern = 0; (n = sweep_inputs(&pattern, x)) > 0;) {
        for (int i = 0; i < n; i++)
            y[i] = kern_exp(x[i]);
        h = bits_hash(h, y, (size_t)n);
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

/* ---- The portable fma ---- */

typedef struct {
    float a, b, c;
} Terms;

/* Random bit patterns: every exponent, subnormals, overflow. */
static Terms random_terms(void)
{
    const Terms t = {kern_from_bits(next_u32()), kern_from_bits(next_u32()),
                     kern_from_bits(next_u32())};

    return t;
}

/* c close to -a * b, also where the result is subnormal. */
static Terms cancelling_terms(void)
{
    Terms t = {next_float(), ldexpf(next_float(), -next_int(145)), 0.0f};

    t.c = -t.a * t.b * (1.0f + (float)next_int(9) * 0x1p-24f);
    return t;
}

static float either_sign(float x)
{
    return next_int(2) == 0 ? x : -x;
}

/* Sums at the middle between two floats or off it by less than double can tell: a * b is half a
 * last place of c, or that times 1 - 2^-46, or a little more or less; with c from the largest float
 * down to subnormals, where the last place is 2^-149. */
static Terms half_way_terms(void)
{
    static const float near_one[] = {1.0f, 0x1.000002p0f, 0x1.fffffcp-1f, 0x1.0004p0f,
                                     0x1.fff8p-1f};
    const bool small = next_int(8) == 0;
    const int half = small ? -150 : -150 + next_int(255); /* exponent of half a last place */
    const int split = next_int(half < -100 ? 60 : 40);
    Terms t;

    t.a = either_sign(ldexpf(near_one[next_int(5)], half + split));
    t.b = ldexpf(near_one[next_int(5)], -split);
    t.c = ldexpf((float)((1 << 23) + (int)(next_u32() >> 9)), half + 1);
    if (next_int(8) == 0)
        t.c = ldexpf((float)((1 << 24) - 1), half + 1);
    if (small && next_int(4) != 0)
        t.c = kern_from_bits(next_int(4) == 0 ? 0x007fffff : next_u32() >> 9); /* subnormal */
    t.c = either_sign(t.c);
    return t;
}

/* a * b has 25 bits, the last one set: it lies in the middle, and a tiny c decides. */
static Terms half_way_products(void)
{
    const int scale = next_int(100) - 50;
    Terms t;

    t.a = (float)(2897 + 2 * next_int(599)); /* two odd numbers from 2^11.5 to 2^12, */
    t.b = either_sign((float)(2 * (2897 + 2 * next_int(599)) + 2 * next_int(2) - 1));
    t.a = ldexpf(t.a, scale);
    t.c = ldexpf(next_float(), scale - 20 - next_int(60));
    return t;
}

static void portable_fma_rounds_once_on_2_24_inputs(void **state)
{
    const long n = quick() ? 300000 : (1L << 24) + (1L << 22);

    (void)state;
    for (long i = 0; i < n; i++) {
        const Terms t = i % 8 == 0   ? random_terms()
                        : i % 8 == 1 ? cancelling_terms()
                        : i % 8 == 2 ? half_way_products()
                                     : half_way_terms();
        float want, got;

        if (!isfinite(t.a) || !isfinite(t.b) || !isfinite(t.c))
            continue;
        want = fmaf(t.a, t.b, t.c);
        got = kern_fma_portable(t.a, t.b, t.c);
        if (memcmp(&got, &want, sizeof got) != 0)
            fail_msg("fma(%a, %a, %a): %a, expected %a", (double)t.a, (double)t.b, (double)t.c,
                     (double)got, (double)want);
    }
}

/* The chains of the scalar table, which take a short way where that is exact: terms that make each
 * step cancel, tie or leave the normal range, mixed with ordinary ones. */
static void portable_chains_round_once(void **state)
{
    enum { N = CHAIN_STEPS };
    static float w[N][KERN_PANEL], x[N], a[KERN_PANEL], want[KERN_PANEL];
    static ChainWeights wide;
    const int n_cases = quick() ? 2000 : 40000;

    (void)state;
    for (int c = 0; c < n_cases; c++) {
        const int n = 1 + next_int(c % 2 == 0 ? N : 4), kind = c % 5;
        const int base = -42 - next_int(28); /* products around the smallest normal float */

        for (int r = 0; r < KERN_PANEL; r++)
            want[r] = a[r] = c % 3 == 0   ? 0.0f
                             : c % 7 == 0 ? ldexpf(next_float(), 126)
                                          : ldexpf(next_float(), -next_int(140));
        for (int i = 0; i < n; i++) {
            x[i] = kind == 0   ? next_float()
                   : kind == 1 ? (float)(next_int(31) - 15)
                   : kind == 2 ? ldexpf(next_float(), -next_int(150))
                   : kind == 3 ? ldexpf(next_float(), base)
                               : ldexpf(next_float(), next_int(60));
            for (int r = 0; r < KERN_PANEL; r++)
                w[i][r] = kind == 1   ? (float)(next_int(31) - 15) * 0x1p-20f
                          : kind == 3 ? ldexpf(next_float(), base)
                          : kind == 2 ? kern_from_bits(next_u32() & 0xbfffffffu)
                                      : next_float();
            if (kind == 4) /* the last step ties with what came before */
                w[i][next_int(KERN_PANEL)] = 0x1p-24f;
        }
        for (int i = 1; kind == 3 && i < n; i += 2) { /* every second step cancels the one before */
            x[i] = -x[i - 1];
            for (int r = 0; r < KERN_PANEL; r++)
                w[i][r] = nextafterf(w[i - 1][r], 1.0f);
        }
        for (int i = 0; i < n; i++)
            for (int r = 0; r < KERN_PANEL; r++)
                want[r] = fmaf(w[i][r], x[i], want[r]);
        chain_load(&wide, w, KERN_F32, n);
        chain_run(a, &wide, x, n);
        assert_same_bits(a, want, KERN_PANEL);
    }
}

/* Rounding to an integer, by addition: as nearbyint. */
static void integers_are_rounded_to_nearest_even(void **state)
{
    (void)state;
    for (int i = -300; i <= 300; i++) {
        const float half = (float)i * 0.5f;

        assert_int_equal(kern_round_even(half), (int)nearbyintf(half));
        assert_int_equal(kern_round_even(nextafterf(half, 1e9f)),
                         (int)nearbyintf(nextafterf(half, 1e9f)));
        assert_int_equal(kern_round_even(nextafterf(half, -1e9f)),
                         (int)nearbyintf(nextafterf(half, -1e9f)));
    }
    assert_int_equal(kern_round_even(2097151.5f), 2097152);
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
        cmocka_unit_test(attention_equals_its_definition),
        cmocka_unit_test(attention_over_an_f16_cache_equals_its_definition),
        cmocka_unit_test(value_chains_keep_negative_zero),
        cmocka_unit_test(to_f16_equals_its_definition),
        cmocka_unit_test(softmax_equals_its_definition),
        cmocka_unit_test(layer_norm_equals_its_definition),
        cmocka_unit_test(add_equals_its_definition),
        cmocka_unit_test(functions_give_the_recorded_bits_on_all_2_24_inputs),
        cmocka_unit_test(exp_gives_the_recorded_bits_on_all_2_24_inputs),
        cmocka_unit_test(exp_of_every_table_equals_the_definition),
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(portable_fma_rounds_once_on_2_24_inputs),
        cmocka_unit_test(portable_chains_round_once),
        cmocka_unit_test(integers_are_rounded_to_nearest_even),
        cmocka_unit_test(unknown_instruction_sets_are_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
