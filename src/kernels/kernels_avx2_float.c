/* kernels/kernels_avx2_float.c: the linear layer for f32, f16 and bf16 weights.
 *
 * Lanes run over output rows, so each output sees the scalar sequence of operations whatever the
 * tile. Up to STREAM_TOKENS tokens: dot products of four panels that lie far apart, read from
 * memory once. More tokens: tiles of 6 tokens x 2 panels, one block of KERN_KC terms at a time,
 * 16-bit weights widened once per block.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include "kernels/elementary.h"
#include "kernels/kernels_avx2.h"

enum {
    MR = 6,            /* tokens of a tile */
    LINE = 64,         /* bytes of a cache line */
    GROUP = 3,         /* tokens whose sums over four panels fit into registers */
    RUN = 64,          /* terms of four panels that stay in the first cache */
    STREAM_TOKENS = 16 /* up to here the input is plain rows and linear reads four far panels */
};

/* ---- Few tokens ---- */

/* The sums of m tokens and np panels over terms [from, to), taken up from sum and put back there.
 * x: rows k apart. fetch: the next run's weights, RUN terms ahead, are fetched meanwhile. */
ALWAYS_INLINE void run_group(const KernType type, const int m, const int np, const bool fetch,
                             __m256 *sum, const unsigned char *const stream[4], const float *x,
                             size_t k, size_t from, size_t to)
{
    const size_t row_bytes = KERN_PANEL * element_bytes(type);
    const size_t per_line = LINE / row_bytes; /* terms */
    __m256 a[GROUP][4];
    size_t i = from;

    EACH (t, m)
        EACH (p, np)
            a[t][p] = sum[t * np + p];
#define GROUP_STEP(I)                                                                              \
    EACH (p, np) {                                                                                 \
        const __m256 v = load_term(type, stream[p], I);                                            \
                                                                                                   \
        EACH (t, m)                                                                                \
            a[t][p] = _mm256_fmadd_ps(v, _mm256_broadcast_ss(x + (size_t)t * k + (I)), a[t][p]);   \
    }
    for (; i + per_line <= to; i += per_line) {
        if (fetch)
            EACH (p, np)
                _mm_prefetch((const char *)stream[p] + (i + RUN) * row_bytes, _MM_HINT_T0);
        EACH (j, (int)per_line)
            GROUP_STEP(i + (size_t)j)
    }
    for (; i < to; i++)
        GROUP_STEP(i)
#undef GROUP_STEP
    EACH (t, m)
        EACH (p, np)
            sum[t * np + p] = a[t][p];
}

/* np panels that lie far apart, whole dot products: several sequential streams keep the hardware
 * prefetchers busy; one alone reaches two thirds of the speed, adjacent ones less. */
typedef struct {
    float *y; /* [n_tokens][ldy], at output 0 of the call */
    size_t ldy;
    const float *bias;
    const float *x; /* [n_tokens][k] */
    size_t k;
    int n;                          /* outputs of the call */
    int panel[4];                   /* numbers of the panels within the call */
    const unsigned char *stream[4]; /* where they begin */
} Streams;

ALWAYS_INLINE void begin_sums(const int np, const Streams *s, int n_tokens, __m256 *sum)
{
    EACH (p, np) {
        const int o = s->panel[p] * KERN_PANEL;
        const __m256 b = s->bias != NULL ? load_part(s->bias + o, s->n - o) : _mm256_setzero_ps();

        for (int t = 0; t < n_tokens; t++)
            sum[t * np + p] = b;
    }
}

ALWAYS_INLINE void store_sums(const int np, const Streams *s, int n_tokens, const __m256 *sum)
{
    EACH (p, np) {
        const int o = s->panel[p] * KERN_PANEL;

        for (int t = 0; t < n_tokens; t++)
            store_part(s->y + (size_t)t * s->ldy + o, sum[t * np + p], s->n - o);
    }
}

/* Up to GROUP tokens: everything in registers, the weights pass through once. */
ALWAYS_INLINE void stream_group(const KernType type, const int m, const int np, const Streams *s)
{
    __m256 sum[GROUP * 4], a[GROUP * 4];

    begin_sums(np, s, m, sum);
    for (size_t k0 = 0; k0 < s->k; k0 += KERN_KC) {
        const size_t k1 = s->k - k0 < KERN_KC ? s->k : k0 + KERN_KC;

        EACH (i, m * np)
            a[i] = _mm256_setzero_ps();
        run_group(type, m, np, false, a, s->stream, s->x, s->k, k0, k1);
        EACH (i, m * np)
            sum[i] = _mm256_add_ps(sum[i], a[i]);
    }
    store_sums(np, s, m, sum);
}

typedef void Run(__m256 *sum, const unsigned char *const stream[4], const float *x, size_t k,
                 size_t from, size_t to);
typedef void Group(const Streams *s);

/* One function each: registers are allotted per function, and these need all of them. */
#define DEFINE_GROUP(TYPE, M, NP)                                                                  \
    static void group_##TYPE##_##M##_##NP(const Streams *s)                                        \
    {                                                                                              \
        stream_group(KERN_##TYPE, M, NP, s);                                                       \
    }                                                                                              \
    static void run_##TYPE##_##M##_##NP(__m256 *sum, const unsigned char *const stream[4],         \
                                        const float *x, size_t k, size_t from, size_t to)          \
    {                                                                                              \
        run_group(KERN_##TYPE, M, NP, false, sum, stream, x, k, from, to);                         \
    }                                                                                              \
    static void fetch_##TYPE##_##M##_##NP(__m256 *sum, const unsigned char *const stream[4],       \
                                          const float *x, size_t k, size_t from, size_t to)        \
    {                                                                                              \
        run_group(KERN_##TYPE, M, NP, true, sum, stream, x, k, from, to);                          \
    }

#define DEFINE_GROUPS(TYPE)                                                                        \
    DEFINE_GROUP(TYPE, 1, 1)                                                                       \
    DEFINE_GROUP(TYPE, 2, 1)                                                                       \
    DEFINE_GROUP(TYPE, 3, 1)                                                                       \
    DEFINE_GROUP(TYPE, 1, 4)                                                                       \
    DEFINE_GROUP(TYPE, 2, 4)                                                                       \
    DEFINE_GROUP(TYPE, 3, 4)

DEFINE_GROUPS(F32)
DEFINE_GROUPS(F16)
DEFINE_GROUPS(BF16)

typedef struct {
    Group *alone; /* all of a dot product */
    Run *run;     /* a part of it ... */
    Run *fetch;   /* ... that fetches the next part */
} GroupKernel;

#define GROUP_KERNEL(TYPE, M, NP)                                                                  \
    {                                                                                              \
        group_##TYPE##_##M##_##NP, run_##TYPE##_##M##_##NP, fetch_##TYPE##_##M##_##NP              \
    }
#define GROUP_KERNELS(TYPE)                                                                        \
    {                                                                                              \
        {GROUP_KERNEL(TYPE, 1, 1), GROUP_KERNEL(TYPE, 2, 1), GROUP_KERNEL(TYPE, 3, 1)},            \
        {                                                                                          \
            GROUP_KERNEL(TYPE, 1, 4), GROUP_KERNEL(TYPE, 2, 4), GROUP_KERNEL(TYPE, 3, 4)           \
        }                                                                                          \
    }

/* By type; one or four panels; tokens - 1. */
static const GroupKernel groups[3][2][GROUP] = {[KERN_F32] = GROUP_KERNELS(F32),
                                                [KERN_F16] = GROUP_KERNELS(F16),
                                                [KERN_BF16] = GROUP_KERNELS(BF16)};

/* More tokens: the first group of a run brings its weights in from memory, the other groups find
 * them in the first cache and fetch the next run. */
ALWAYS_INLINE void stream_groups(const GroupKernel kernel[GROUP], const int np, const Streams *s,
                                 int n_tokens)
{
    const int n_groups = (n_tokens + GROUP - 1) / GROUP;
    __m256 sum[STREAM_TOKENS * 4], a[STREAM_TOKENS * 4];

    begin_sums(np, s, n_tokens, sum);
    for (size_t k0 = 0; k0 < s->k; k0 += KERN_KC) {
        const size_t k1 = s->k - k0 < KERN_KC ? s->k : k0 + KERN_KC;

        for (int i = 0; i < n_tokens * np; i++)
            a[i] = _mm256_setzero_ps();
        for (size_t from = k0; from < k1; from += RUN) {
            const size_t to = k1 - from < RUN ? k1 : from + RUN;

            for (int g = 0; g < n_groups; g++) {
                const int t = part_begin(g, n_groups, n_tokens);
                const int m = part_begin(g + 1, n_groups, n_tokens) - t;

                (t == 0 ? kernel[m - 1].run : kernel[m - 1].fetch)(
                    a + (size_t)t * (size_t)np, s->stream, s->x + (size_t)t * s->k, s->k, from, to);
            }
        }
        for (int i = 0; i < n_tokens * np; i++)
            sum[i] = _mm256_add_ps(sum[i], a[i]);
    }
    store_sums(np, s, n_tokens, sum);
}

static void linear_streams(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                           const float *bias, const float *x, int n_tokens)
{
    const size_t panel_bytes = (size_t)w->k * KERN_PANEL * element_bytes(w->type);
    const unsigned char *panels =
        (const unsigned char *)w->panels + (size_t)(first / KERN_PANEL) * panel_bytes;
    const int n_panels = (n + KERN_PANEL - 1) / KERN_PANEL;
    const int quarter = n_panels / 4;
    Streams s = {.y = y, .ldy = ldy, .bias = bias, .x = x, .k = (size_t)w->k, .n = n};

    for (int i = 0; i < quarter; i++) {
        const GroupKernel *kernel = groups[w->type][1];

        for (int p = 0; p < 4; p++) {
            s.panel[p] = i + p * quarter;
            s.stream[p] = panels + (size_t)s.panel[p] * panel_bytes;
        }
        if (n_tokens <= GROUP)
            kernel[n_tokens - 1].alone(&s);
        else
            stream_groups(kernel, 4, &s, n_tokens);
    }
    for (int i = 4 * quarter; i < n_panels; i++) {
        const GroupKernel *kernel = groups[w->type][0];

        s.panel[0] = i;
        s.stream[0] = panels + (size_t)i * panel_bytes;
        if (n_tokens <= GROUP)
            kernel[n_tokens - 1].alone(&s);
        else
            stream_groups(kernel, 1, &s, n_tokens);
    }
}

/* ---- Many tokens ---- */

/* One block of terms of two panels and some tokens. */
typedef struct {
    float *y; /* where the sums go, rows ldy apart ... */
    size_t ldy;
    const float *from; /* ... and what they are added to, rows ldf apart: y, or the bias */
    size_t ldf;
    int n;               /* outputs that are left from the first panel on */
    const float *w;      /* the block in the first panel ... */
    size_t panel_floats; /* ... and so far on in the second */
    const float *x;      /* packed [n_terms][MR] */
    int n_terms;
    const unsigned char *ahead; /* weights that the next two panels will need: every fourth term
                                   fetches a line of each ... */
    size_t ahead_apart;         /* ... so far apart */
} Tile;

/* m tokens times np panels. */
ALWAYS_INLINE void tile_block(const int m, const int np, const Tile *b)
{
    const unsigned char *ahead = b->ahead;
    const size_t panel_floats = b->panel_floats, ahead_apart = b->ahead_apart;
    const float *w = b->w;
    const int n_terms = b->n_terms;
    const float *x = b->x;
    __m256 a[MR][2], v[2];
    int i = 0;

    EACH (t, m)
        _mm_prefetch((const char *)(b->y + (size_t)t * b->ldy), _MM_HINT_T0);
    EACH (p, np)
        EACH (t, m)
            a[t][p] = _mm256_setzero_ps();
#define TILE_STEP(I)                                                                               \
    do {                                                                                           \
        EACH (p, np)                                                                               \
            v[p] = _mm256_load_ps(w + (size_t)p * panel_floats + (size_t)(I)*KERN_PANEL);          \
        EACH (t, m) {                                                                              \
            const __m256 x_t = _mm256_broadcast_ss(x + (size_t)(I)*MR + t);                        \
                                                                                                   \
            EACH (p, np)                                                                           \
                a[t][p] = _mm256_fmadd_ps(v[p], x_t, a[t][p]);                                     \
        }                                                                                          \
    } while (0)
    for (; i + 4 <= n_terms; i += 4) {
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        _mm_prefetch((const char *)ahead + ahead_apart, _MM_HINT_T0);
        ahead += LINE;
        TILE_STEP(i);
        TILE_STEP(i + 1);
        TILE_STEP(i + 2);
        TILE_STEP(i + 3);
    }
    for (; i < n_terms; i++)
        TILE_STEP(i);
#undef TILE_STEP
    EACH (t, m)
        EACH (p, np) {
            const float *from = b->from + (size_t)t * b->ldf + (size_t)p * KERN_PANEL;
            const int left = b->n - p * KERN_PANEL;

            store_part(b->y + (size_t)t * b->ldy + (size_t)p * KERN_PANEL,
                       _mm256_add_ps(load_part(from, left), a[t][p]), left);
        }
}

#define DEFINE_TILE(M)                                                                             \
    static void tile_##M(const Tile *b)                                                            \
    {                                                                                              \
        if (b->n > KERN_PANEL)                                                                     \
            tile_block(M, 2, b);                                                                   \
        else                                                                                       \
            tile_block(M, 1, b);                                                                   \
    }

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

typedef void TileKernel(const Tile *b);

static TileKernel *const tiles[MR + 1] = {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* A block of one or two panels of a 16-bit type as float32, [2][KERN_KC][8]: once for all tiles. */
ALWAYS_INLINE void widen_panels(const KernType type, float *wide, const unsigned char *w,
                                size_t panel_bytes, int n_terms, int n_panels)
{
    for (int p = 0; p < n_panels; p++)
        for (int i = 0; i < n_terms; i++)
            _mm256_store_ps(wide + ((size_t)p * KERN_KC + (size_t)i) * KERN_PANEL,
                            load_term(type, w + (size_t)p * panel_bytes, (size_t)i));
}

static void widen_block(KernType type, float *wide, const unsigned char *w, size_t panel_bytes,
                        int n_terms, int n_panels)
{
    if (type == KERN_F16)
        widen_panels(KERN_F16, wide, w, panel_bytes, n_terms, n_panels);
    else
        widen_panels(KERN_BF16, wide, w, panel_bytes, n_terms, n_panels);
}

/* All tiles of one block of two panels, outputs o and on; x: the block, packed. */
static void run_tiles(Tile *b, float *y, const float *bias, const float *x, int n_tokens, int k0,
                      int o, size_t block_bytes)
{
    static const float zeros[2 * KERN_PANEL];
    const unsigned char *ahead = b->ahead;
    const int n_tiles = (n_tokens + MR - 1) / MR;
    const size_t tile_bytes = (size_t)b->n_terms / 4 * LINE; /* fetched of each panel by a tile */

    for (int i = 0; i < n_tiles; i++) {
        const int t = part_begin(i, n_tiles, n_tokens);

        b->y = y + (size_t)t * b->ldy + o;
        b->from = k0 > 0 ? b->y : bias != NULL ? bias + o : zeros;
        b->ldf = k0 > 0 ? b->ldy : 0;
        b->x = x + (size_t)i * MR * (size_t)b->n_terms;
        b->ahead = ahead + (size_t)i * tile_bytes % block_bytes;
        tiles[part_begin(i + 1, n_tiles, n_tokens) - t](b);
    }
}

static void linear_tiles(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                         const float *bias, const float *packed, int n_tokens)
{
    const size_t row_bytes = KERN_PANEL * element_bytes(w->type); /* one term of a panel */
    const size_t panel_bytes = (size_t)w->k * row_bytes;
    const unsigned char *panels =
        (const unsigned char *)w->panels + (size_t)(first / KERN_PANEL) * panel_bytes;
    const size_t rows = (size_t)((n_tokens + MR - 1) / MR) * MR;
    float wide[2 * KERN_KC * KERN_PANEL] __attribute__((aligned(LINE)));
    Tile b = {.ldy = ldy, .ahead_apart = panel_bytes};

    for (int k0 = 0; k0 < w->k; k0 += KERN_KC) {
        b.n_terms = kern_block_end(k0, w->k) - k0;
        for (int o = 0; o < n; o += 2 * KERN_PANEL) {
            const unsigned char *at =
                panels + (size_t)(o / KERN_PANEL) * panel_bytes + (size_t)k0 * row_bytes;

            b.n = n - o;
            b.ahead = at + 2 * panel_bytes;
            b.w = (const float *)(const void *)at;
            b.panel_floats = (size_t)w->k * KERN_PANEL;
            if (w->type != KERN_F32) {
                widen_block(w->type, wide, at, panel_bytes, b.n_terms, b.n > KERN_PANEL ? 2 : 1);
                b.w = wide;
                b.panel_floats = (size_t)KERN_KC * KERN_PANEL;
            }
            run_tiles(&b, y, bias, packed + rows * (size_t)k0, n_tokens, k0, o,
                      (size_t)b.n_terms * row_bytes);
        }
    }
}

/* x as [block][tile][k][MR]: a tile's block is read as one short sequential stream. */
static void pack_tiles(float *packed, const float *x, size_t ldx, int n_tokens, int k)
{
    const int n_tiles = (n_tokens + MR - 1) / MR;

    for (int k0 = 0; k0 < k; k0 += KERN_KC) {
        const int k1 = kern_block_end(k0, k);

        for (int tile = 0; tile < n_tiles; tile++) {
            const int t0 = part_begin(tile, n_tiles, n_tokens);
            const int m = part_begin(tile + 1, n_tiles, n_tokens) - t0;

            for (int t = 0; t < m; t++) {
                const float *row = x + (size_t)(t0 + t) * ldx;

                for (int i = k0; i < k1; i++)
                    packed[(size_t)(i - k0) * MR + (size_t)t] = row[i];
            }
            packed += (size_t)(k1 - k0) * MR;
        }
    }
}

void avx2_input_float(void *input, const float *x, size_t ldx, int n_tokens, int k)
{
    float *out = input;

    if (n_tokens > STREAM_TOKENS) {
        pack_tiles(out, x, ldx, n_tokens, k);
        return;
    }
    for (int t = 0; t < n_tokens; t++)
        memcpy(out + (size_t)t * (size_t)k, x + (size_t)t * ldx, (size_t)k * sizeof(float));
}

void avx2_linear_float(float *y, size_t ldy, const KernMatrix *w, int first, int n,
                       const float *bias, const void *input, int n_tokens)
{
    if (n_tokens > STREAM_TOKENS)
        linear_tiles(y, ldy, w, first, n, bias, input, n_tokens);
    else
        linear_streams(y, ldy, w, first, n, bias, input, n_tokens);
}

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2FloatUnused;
#endif
