/* model/gpt2_random.c: see gpt2_random.h.
 *
 * May include: common, kernels. */
#include "model/gpt2_random.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/pack.h"
#include "model/weights.h"

/* ---- Shapes ---- */

static bool parse_int(const char **s, char end, int *out)
{
    char *rest;

    if (**s < '0' || **s > '9')
        return false;
    errno = 0;
    const long v = strtol(*s, &rest, 10);
    if (errno != 0 || v > INT_MAX || *rest != end)
        return false;
    *out = (int)v;
    *s = rest + (end != '\0');
    return true;
}

ErrCode gpt2_shape_parse(Gpt2Config *c, const char *text, Err *err)
{
    static const char *const named[][2] = {
        {"gpt2", "12,12,768,1024,50257"},
        {"gpt2-medium", "24,16,1024,1024,50257"},
        {"gpt2-large", "36,20,1280,1024,50257"},
        {"gpt2-xl", "48,25,1600,1024,50257"},
    };
    Gpt2Config made = {.eps = 1e-5f,
                       .activation = ACT_GELU_TANH,
                       .activation_name = "gelu_new",
                       .scale_attn = true,
                       .tied_head = true};
    const char *s = text;

    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (strcmp(text, named[i][0]) == 0)
            s = named[i][1];
    if (!parse_int(&s, ',', &made.n_layers) || !parse_int(&s, ',', &made.n_heads) ||
        !parse_int(&s, ',', &made.dim) || !parse_int(&s, ',', &made.n_ctx) ||
        !parse_int(&s, '\0', &made.vocab_size))
        return err_set(err, ERR_USAGE,
                       "\"%s\": expected gpt2, gpt2-medium, gpt2-large, gpt2-xl or "
                       "LAYERS,HEADS,DIM,CONTEXT,VOCABULARY",
                       text);
    /* A width that is refused must not overflow on the way. */
    made.ffn_dim = made.dim <= GPT2_MAX_DIM ? 4 * made.dim : 1;
    if (config_check(&made, err) != ERR_OK) {
        (void)err_prefix(err, "\"%s\"", text);
        err->code = ERR_USAGE;
        return ERR_USAGE;
    }
    made.head_dim = made.dim / made.n_heads;
    *c = made;
    return ERR_OK;
}

/* ---- Numbers ---- */

/* Weights are drawn from the middles of this many equally likely intervals: one look into a table
 * that fits the first cache, five draws out of 64 bits. The largest is 3.7 deviations away. */
enum { QUANTILES = 4096, QUANTILE_BITS = 12, DRAWS = 5 };

static const double deviation = 0.02;

typedef struct {
    float table[QUANTILES]; /* normal quantiles times deviation, none of them 0 */
    uint64_t state;
} Random;

static void fill_table(float table[QUANTILES])
{
    for (int i = 0; i < QUANTILES; i++) {
        const double p = (i + 0.5) / QUANTILES;
        double low = -8.0, high = 8.0;

        for (int step = 0; step < 60; step++) {
            const double middle = 0.5 * (low + high);

            if (0.5 * erfc(-middle / sqrt(2.0)) < p)
                low = middle;
            else
                high = middle;
        }
        table[i] = (float)(deviation * low);
    }
}

/* splitmix64 (Steele, Lea, Flood 2014): any seed is a good one. */
static uint64_t next_u64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t state_of(uint64_t seed, const char *name)
{
    uint64_t state = seed;

    for (const char *p = name; *p != '\0'; p++)
        state = next_u64(&state) ^ (unsigned char)*p;
    return state;
}

static void draw(Random *r, float *x, size_t n)
{
    size_t i = 0;

    while (i + DRAWS <= n) {
        uint64_t bits = next_u64(&r->state);

        for (int j = 0; j < DRAWS; j++, bits >>= QUANTILE_BITS)
            x[i++] = r->table[bits % QUANTILES];
    }
    for (; i < n; i++)
        x[i] = r->table[next_u64(&r->state) % QUANTILES];
}

/* ---- Weights ---- */

/* Rows that are drawn at once, a multiple of a panel: they stay in the second cache. */
enum { ROWS_AT_ONCE = 2 * KERN_PANEL };

typedef struct {
    Gpt2 *m;
    KernType type;
    uint64_t seed;
    Random random;
    size_t planned, widest; /* bytes of the arena; floats of the longest row */
    Arena room;             /* ROWS_AT_ONCE rows */
    size_t done, total;     /* weights, for the progress */
    const Gpt2Progress *progress;
    Err *err;
} Maker;

static KernType wanted_type(const Maker *g, const WeightSlot *slot)
{
    const Gpt2LoadOptions o = {.convert = true, .type = g->type};

    return weights_type(&o, slot, g->type);
}

static bool plan_slot(void *ctx, const WeightSlot *slot)
{
    Maker *g = ctx;

    g->total += slot->n * slot->k;
    if (slot->matrix != NULL && slot->k > g->widest)
        g->widest = slot->k;
    return weights_plan(&g->planned, slot, wanted_type(g, slot));
}

static bool report(Maker *g, size_t n)
{
    const Gpt2Progress *p = g->progress;

    g->done += n;
    if (p == NULL || p->progress == NULL || p->progress(p->ctx, (double)g->done / (double)g->total))
        return true;
    (void)err_set(g->err, ERR_CANCELLED, "making weights was stopped");
    return false;
}

static bool is_gain(const WeightSlot *slot)
{
    const char *end = strrchr(slot->name, '.');

    return slot->kind == WEIGHT_VECTOR && strcmp(end, ".weight") == 0;
}

static bool make_floats(Maker *g, const WeightSlot *slot)
{
    const size_t n = slot->n * slot->k;
    float *x = arena_alloc(&g->m->arena, n, sizeof(float));

    if (x == NULL) {
        (void)err_set(g->err, ERR_MEMORY, "out of memory for weights");
        return false;
    }
    draw(&g->random, x, n);
    for (size_t i = 0; is_gain(slot) && i < n; i++)
        x[i] += 1.0f;
    *slot->floats = x;
    return report(g, n);
}

static bool make_matrix(Maker *g, const WeightSlot *slot)
{
    const KernType type = wanted_type(g, slot);
    float *rows = (float *)(void *)g->room.base;
    WeightPlace at;

    if (!weights_place(&at, &g->m->arena, slot, type)) {
        (void)err_set(g->err, ERR_MEMORY, "out of memory for weights");
        return false;
    }
    for (size_t first = 0; first < slot->n; first += ROWS_AT_ONCE) {
        const size_t n = slot->n - first < ROWS_AT_ONCE ? slot->n - first : ROWS_AT_ONCE;
        size_t bad;

        draw(&g->random, rows, n * slot->k);
        if (!kern_pack(at.panels, at.scales, type, slot->n, slot->k, first, n, rows, KERN_F32,
                       KERN_OUT_IN, &bad)) {
            (void)err_set(g->err, ERR_INTERNAL, "%s: a random weight is not finite", slot->name);
            return false;
        }
        if (!report(g, n * slot->k))
            return false;
    }
    return true;
}

static bool make_slot(void *ctx, const WeightSlot *slot)
{
    Maker *g = ctx;

    g->random.state = state_of(g->seed, slot->name);
    return slot->matrix != NULL ? make_matrix(g, slot) : make_floats(g, slot);
}

/* Memory that is promised but not there ends the process when it is written. */
static ErrCode check_memory(size_t bytes, Err *err)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

    if (pages > 0 && page_bytes > 0 && bytes / (size_t)page_bytes >= (size_t)pages)
        return err_set(err, ERR_LIMIT, "weights of %zu MB, but this machine has %zu MB of memory",
                       bytes / 1000000, (size_t)pages / 1000 * (size_t)page_bytes / 1000);
    return ERR_OK;
}

static ErrCode make_weights(Maker *g)
{
    Gpt2 *m = g->m;
    ErrCode code = weights_begin(m, g->err);

    if (code != ERR_OK)
        return code;
    if (!weights_each(m, plan_slot, g))
        return err_set(g->err, ERR_LIMIT, "a model of this shape is too large");
    code = check_memory(g->planned, g->err);
    if (code == ERR_OK)
        code = arena_init(&m->arena, g->planned, "model weights", g->err);
    if (code == ERR_OK)
        code = arena_init(&g->room, g->widest * ROWS_AT_ONCE * sizeof(float), "rows", g->err);
    if (code == ERR_OK && !weights_each(m, make_slot, g))
        code = g->err->code;
    if (code == ERR_OK)
        weights_finish(m);
    arena_free(&g->room);
    return code;
}

ErrCode gpt2_random(Gpt2 *m, const Gpt2Config *c, KernType type, uint64_t seed,
                    const Gpt2Progress *progress, Err *err)
{
    Gpt2 made = {.config = *c, .name = "random"};
    Maker g = {.m = &made, .type = type, .seed = seed, .progress = progress, .err = err};

    fill_table(g.random.table);
    const ErrCode code = make_weights(&g);
    if (code != ERR_OK) {
        gpt2_free(&made);
        return code;
    }
    memcpy(made.file_types, made.types, sizeof made.file_types);
    *m = made;
    return ERR_OK;
}
