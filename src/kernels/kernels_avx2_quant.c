/* kernels/kernels_avx2_quant.c: the linear layer for Q8_0 and Q4_0 weights with int8 activations.
 *
 * A block of 32 products is summed in integers, exactly, in whatever order suits the machine; then
 * it becomes one float step of the output's chain. Lanes run over output rows.
 *
 * Q8_0: weights and activations are widened to 16 bits and multiplied in pairs (vpmaddwd). Against
 * the 8-bit multiplication this needs no trick with signs, and the widening is shared by all
 * tokens. Q4_0: the nibbles, 0..15, times 8-bit activations (vpmaddubsw); eight such sums fit into
 * 16 bits; what the offset of 8 adds is known for the block and taken off at its end.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include "kernels/elementary.h"
#include "kernels/kernels_avx2.h"

enum {
    LINE = 64,      /* bytes of a cache line */
    MQ = 6,         /* tokens of a tile, as wide as the input is interleaved */
    Q8_BYTES = 256, /* of one block of a panel of 8 rows */
    Q4_BYTES = 128,
    Q8_PAIRS = 16,     /* pairs of terms in a block */
    Q4_GROUPS = 8,     /* groups of four terms in a block */
    Q4_OFFSET = 8,     /* a nibble stands for its value less this */
    STREAM_TOKENS = 3, /* up to here four panels at once, else tiles of two */
    FAR_TOKENS = 12    /* up to here the panels of a group lie far apart */
};

/* ---- Activations ---- */

/* One block of one token for a tile of m tokens: the terms of all tokens side by side.
 *   Q8_0  [16 pairs][m][2] int16
 *   Q4_0  [8 groups][m][4] int8
 * then the scales, [m] float, and for Q4_0 8 * the sum of the block, [m] int32. */
ALWAYS_INLINE size_t tile_block_bytes(KernType type, int m)
{
    return (size_t)m * (type == KERN_Q8_0 ? KERN_BLOCK * 2 + 4 : KERN_BLOCK + 8);
}

/* The bits of eight magnitudes: as integers they are ordered like the magnitudes, NaN last. */
ALWAYS_INLINE __m256i magnitude_bits(__m256 v)
{
    return _mm256_andnot_si256(_mm256_set1_epi32(INT32_MIN), _mm256_castps_si256(v));
}

/* 32 floats to int8 with one scale (numerics, section 3): q in four vectors of eight int32. */
ALWAYS_INLINE float quantise_block(const float *x, __m256i q[4])
{
    __m256 v[4];
    __m256i top;
    __m128i m;
    float d;

    EACH (i, 4)
        v[i] = _mm256_loadu_ps(x + (size_t)i * KERN_PANEL);
    top = _mm256_max_epi32(_mm256_max_epi32(magnitude_bits(v[0]), magnitude_bits(v[1])),
                           _mm256_max_epi32(magnitude_bits(v[2]), magnitude_bits(v[3])));
    m = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    d = kern_input_scale((uint32_t)_mm_cvtsi128_si32(m));
    if (!(d > 0.0f)) {
        EACH (i, 4)
            q[i] = _mm256_setzero_si256();
        return d;
    }
    EACH (i, 4)
        q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(1.0f / d)));
    return d;
}

/* int8 block in order, and the sum of its terms. */
ALWAYS_INLINE int32_t pack_block(int8_t out[KERN_BLOCK], const __m256i q[4])
{
    const __m256i w01 = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xd8);
    const __m256i w23 = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2], q[3]), 0xd8);
    const __m256i b = _mm256_permute4x64_epi64(_mm256_packs_epi16(w01, w23), 0xd8);
    const __m256i s = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));

    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    _mm256_storeu_si256((__m256i *)(void *)out, b);
    return _mm_cvtsi128_si32(h);
}

ALWAYS_INLINE void widen_block(int16_t out[KERN_BLOCK], const int8_t q[KERN_BLOCK])
{
    for (size_t i = 0; i < KERN_BLOCK; i += 16)
        _mm256_storeu_si256(
            (__m256i *)(void *)(out + i),
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(q + i))));
}

static void input_token(unsigned char *out, KernType type, const float *x, int t, int m, int k)
{
    for (int j = 0; j < k; j += KERN_BLOCK) {
        int8_t q8[KERN_BLOCK];
        __m256i q[4];
        const float d = quantise_block(x + j, q);
        const int32_t sum = Q4_OFFSET * pack_block(q8, q);

        if (type == KERN_Q8_0) {
            int16_t q16[KERN_BLOCK];

            widen_block(q16, q8);
            for (int i = 0; i < KERN_BLOCK; i += 2)
                memcpy(out + (size_t)i * (size_t)m * 2 + (size_t)t * 4, q16 + i, 4);
            memcpy(out + (size_t)m * KERN_BLOCK * 2 + (size_t)t * 4, &d, sizeof d);
        } else {
            for (int i = 0; i < KERN_BLOCK; i += 4)
                memcpy(out + (size_t)i * (size_t)m + (size_t)t * 4, q8 + i, 4);
            memcpy(out + (size_t)m * KERN_BLOCK + (size_t)t * 4, &d, sizeof d);
            memcpy(out + (size_t)m * (KERN_BLOCK + 4) + (size_t)t * 4, &sum, sizeof sum);
        }
        out += tile_block_bytes(type, m);
    }
}

static int count_tiles(int n_tokens)
{
    return n_tokens <= STREAM_TOKENS ? 1 : (n_tokens + MQ - 1) / MQ;
}

/* [tile][block]: a tile of a token more or less has its own interleaving. */
void avx2_input_quant(void *input, KernType type, const float *x, size_t ldx, int n_tokens, int k)
{
    const int n_tiles = count_tiles(n_tokens);
    unsigned char *out = input;

    for (int i = 0; i < n_tiles; i++) {
        const int t0 = part_begin(i, n_tiles, n_tokens);
        const int m = part_begin(i + 1, n_tiles, n_tokens) - t0;

        for (int t = 0; t < m; t++)
            input_token(out, type, x + (size_t)(t0 + t) * ldx, t, m, k);
        out += (size_t)(k / KERN_BLOCK) * tile_block_bytes(type, m);
    }
}

/* ---- One block ---- */

/* Keeps a sum in its register: gcc would reorder the additions and spill. No instruction. */
#define KEEP(V) __asm__("" : "+x"(V))

ALWAYS_INLINE __m256i broadcast_4(const unsigned char *p)
{
    int32_t four;

    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}

ALWAYS_INLINE __m256i load_bytes(const unsigned char *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

/* s[t][p]: exact sums of one block, m tokens and np panels. */
ALWAYS_INLINE void block_q8_0(const int m, const int np, __m256i s[][4],
                              const unsigned char *const w[4], const unsigned char *x)
{
    EACH (t, m)
        EACH (p, np)
            s[t][p] = _mm256_setzero_si256();
    for (int i = 0; i < Q8_PAIRS; i++) {
        __m256i v[4];

        EACH (p, np)
            v[p] = _mm256_cvtepi8_epi16(
                _mm_load_si128((const __m128i *)(const void *)(w[p] + (size_t)i * 16)));
        EACH (t, m) {
            const __m256i b = broadcast_4(x + ((size_t)i * (size_t)m + (size_t)t) * 4);

            EACH (p, np) {
                s[t][p] = _mm256_add_epi32(s[t][p], _mm256_madd_epi16(v[p], b));
                KEEP(s[t][p]);
            }
        }
    }
}

ALWAYS_INLINE void block_q4_0(const int m, const int np, __m256i s[][4],
                              const unsigned char *const w[4], const unsigned char *x)
{
    const __m256i low = _mm256_set1_epi8(15);

    EACH (t, m)
        EACH (p, np)
            s[t][p] = _mm256_setzero_si256();
    for (int g = 0; g < Q4_GROUPS / 2; g++) {
        __m256i v[4];

        EACH (p, np)
            v[p] = _mm256_and_si256(load_bytes(w[p] + (size_t)g * 32), low);
        EACH (t, m) {
            const __m256i b = broadcast_4(x + ((size_t)g * (size_t)m + (size_t)t) * 4);

            EACH (p, np) {
                s[t][p] = _mm256_add_epi16(s[t][p], _mm256_maddubs_epi16(v[p], b));
                KEEP(s[t][p]);
            }
        }
        EACH (p, np)
            v[p] = _mm256_and_si256(_mm256_srli_epi16(load_bytes(w[p] + (size_t)g * 32), 4), low);
        EACH (t, m) {
            const __m256i b =
                broadcast_4(x + ((size_t)(g + Q4_GROUPS / 2) * (size_t)m + (size_t)t) * 4);

            EACH (p, np) {
                s[t][p] = _mm256_add_epi16(s[t][p], _mm256_maddubs_epi16(v[p], b));
                KEEP(s[t][p]);
            }
        }
    }
    EACH (t, m) {
        const __m256i offset = broadcast_4(x + (size_t)m * (KERN_BLOCK + 4) + (size_t)t * 4);

        EACH (p, np)
            s[t][p] = _mm256_sub_epi32(_mm256_madd_epi16(s[t][p], _mm256_set1_epi16(1)), offset);
    }
}

/* sum[t][p] = fma((float)s, d_w * d_x, sum[t][p]). */
ALWAYS_INLINE void step_block(const KernType type, const int m, const int np, __m256 sum[][4],
                              const unsigned char *const w[4], const uint16_t *const d[4],
                              const unsigned char *x)
{
    const unsigned char *d_x = x + (size_t)m * (type == KERN_Q8_0 ? KERN_BLOCK * 2 : KERN_BLOCK);
    __m256i s[MQ][4];
    __m256 d_w[4];

    if (type == KERN_Q8_0)
        block_q8_0(m, np, s, w, x);
    else
        block_q4_0(m, np, s, w, x);
    EACH (p, np)
        d_w[p] = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)d[p]));
    EACH (t, m) {
        const __m256 b = _mm256_broadcast_ss((const float *)(const void *)(d_x + (size_t)t * 4));

        EACH (p, np)
            sum[t][p] =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[t][p]), _mm256_mul_ps(d_w[p], b), sum[t][p]);
    }
}

/* ---- All of a dot product ---- */

typedef struct {
    float *y; /* [n_tokens][ldy], at output 0 of the call */
    size_t ldy;
    const float *bias;
    const unsigned char *x; /* the tile */
    int n_blocks;
    int n;                     /* outputs of the call */
    int panel[4];              /* numbers of the panels within the call */
    const unsigned char *w[4]; /* where they begin */
    const uint16_t *d[4];      /* their scales */
} Panels;

/* m tokens times np panels. The chain starts at +0; the bias comes last. */
ALWAYS_INLINE void dot_panels(const KernType type, const int m, const int np, const Panels *a)
{
    const size_t w_step = type == KERN_Q8_0 ? Q8_BYTES : Q4_BYTES;
    const size_t x_step = tile_block_bytes(type, m);
    const unsigned char *x = a->x;
    const unsigned char *w[4];
    const uint16_t *d[4];
    __m256 sum[MQ][4];

    EACH (p, np) {
        w[p] = a->w[p];
        d[p] = a->d[p];
        EACH (t, m)
            sum[t][p] = _mm256_setzero_ps();
    }
    for (int j = 0; j < a->n_blocks; j++) {
        step_block(type, m, np, sum, w, d, x);
        x += x_step;
        EACH (p, np) {
            w[p] += w_step;
            d[p] += KERN_PANEL;
        }
    }
    EACH (p, np) {
        const int o = a->panel[p] * KERN_PANEL;
        const int left = a->n - o;

        EACH (t, m) {
            __m256 v = sum[t][p];

            if (a->bias != NULL)
                v = _mm256_add_ps(v, load_part(a->bias + o, left));
            store_part(a->y + (size_t)t * a->ldy + o, v, left);
        }
    }
}

typedef void Dot(const Panels *a);

#define DEFINE_DOT(TYPE, M, NP)                                                                    \
    static void dot_##TYPE##_##M##_##NP(const Panels *a)                                           \
    {                                                                                              \
        dot_panels(KERN_##TYPE, M, NP, a);                                                         \
    }
#define DEFINE_DOTS(TYPE)                                                                          \
    DEFINE_DOT(TYPE, 1, 1)                                                                         \
    DEFINE_DOT(TYPE, 2, 1)                                                                         \
    DEFINE_DOT(TYPE, 3, 1)                                                                         \
    DEFINE_DOT(TYPE, 4, 1)                                                                         \
    DEFINE_DOT(TYPE, 5, 1)                                                                         \
    DEFINE_DOT(TYPE, 6, 1)                                                                         \
    DEFINE_DOT(TYPE, 1, 4)                                                                         \
    DEFINE_DOT(TYPE, 2, 4)                                                                         \
    DEFINE_DOT(TYPE, 3, 4)                                                                         \
    DEFINE_DOT(TYPE, 3, 2)                                                                         \
    DEFINE_DOT(TYPE, 4, 2)                                                                         \
    DEFINE_DOT(TYPE, 5, 2)                                                                         \
    DEFINE_DOT(TYPE, 6, 2)

DEFINE_DOTS(Q8_0)
DEFINE_DOTS(Q4_0)

#define DOT_ROW(TYPE)                                                                              \
    {                                                                                              \
        {dot_##TYPE##_1_1, dot_##TYPE##_2_1, dot_##TYPE##_3_1,                                     \
         dot_##TYPE##_4_1, dot_##TYPE##_5_1, dot_##TYPE##_6_1},                                    \
            {NULL, NULL, dot_##TYPE##_3_2, dot_##TYPE##_4_2, dot_##TYPE##_5_2, dot_##TYPE##_6_2},  \
        {                                                                                          \
            dot_##TYPE##_1_4, dot_##TYPE##_2_4, dot_##TYPE##_3_4                                   \
        }                                                                                          \
    }

/* By type; one, two or four panels; tokens - 1. Two are for tiles of more than STREAM_TOKENS
 * tokens, which have three at least. */
static Dot *const dots[2][3][MQ] = {DOT_ROW(Q8_0), DOT_ROW(Q4_0)};

static void place_panels(Panels *a, const KernMatrix *w, int first, const int panel[4], int np)
{
    const size_t w_step = w->type == KERN_Q8_0 ? Q8_BYTES : Q4_BYTES;

    for (int p = 0; p < np; p++) {
        const size_t at = (size_t)(first / KERN_PANEL + panel[p]) * (size_t)a->n_blocks;

        a->panel[p] = panel[p];
        a->w[p] = (const unsigned char *)w->panels + at * w_step;
        a->d[p] = w->scales + at * KERN_PANEL;
    }
}

/* np panels for all tokens. */
static void dot_tokens(Panels *a, KernType type, int np, float *y, const unsigned char *input,
                       int n_tokens)
{
    const int n_tiles = count_tiles(n_tokens);

    a->x = input;
    for (int tile = 0; tile < n_tiles; tile++) {
        const int t = part_begin(tile, n_tiles, n_tokens);
        const int m = part_begin(tile + 1, n_tiles, n_tokens) - t;

        a->y = y + (size_t)t * a->ldy;
        dots[type - KERN_Q8_0][np / 2][m - 1](a);
        a->x += (size_t)a->n_blocks * tile_block_bytes(type, m);
    }
}

void avx2_linear_quant(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                       const float *bias, const void *input, int n_tokens)
{
    const int n_panels = (n + KERN_PANEL - 1) / KERN_PANEL;
    const int np = n_tokens <= STREAM_TOKENS ? 4 : 2;
    const int groups = n_panels / np;
    /* Few tokens: panels far apart, as streams from memory. Many: neighbours, for all tiles. */
    const bool far = n_tokens <= FAR_TOKENS;
    Panels a = {.ldy = ldy, .bias = bias, .n_blocks = w->k / KERN_BLOCK, .n = n};

    for (int i = 0; i < groups; i++) {
        const int at = far ? i : i * np, apart = far ? groups : 1;
        const int panel[4] = {at, at + apart, at + 2 * apart, at + 3 * apart};

        place_panels(&a, w, first, panel, np);
        dot_tokens(&a, w->type, np, y, input, n_tokens);
    }
    for (int i = groups * np; i < n_panels; i++) {
        const int one[4] = {i, 0, 0, 0};

        place_panels(&a, w, first, one, 1);
        dot_tokens(&a, w->type, 1, y, input, n_tokens);
    }
}

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2QuantUnused;
#endif
