/* checkpoint/determinism.c: see determinism.h.
 *
 * May include: common, kernels, model, cache, sampling. */
#include "checkpoint/determinism.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cache/kv_cache.h"
#include "checkpoint/bits_hash.h"
#include "common/arena.h"
#include "sampling/rng.h"

enum {
    MOST_DRAFTS = 8,  /* tokens of a guess, one of them at least right in the end */
    MOST_AGAIN = 6,   /* positions computed again for the logits of one more */
    FAST_WEIGHT = 8,  /* runs with the first table for each run with another */
    COPY_WEIGHT = 8,  /* of each copy, against one way's SLOW_WEIGHT */
    SLOW_WEIGHT = 1,  /* also for ways that take long or have nothing random */
    SEED_SPACING = 20 /* bits of the number of a run: DETERMINISM_MAX_RUNS fit */
};

/* Random numbers of one run. */
typedef struct {
    uint64_t seed, counter;
} Choice;

typedef struct {
    const DeterminismOptions *o;
    DeterminismResult *r;
    const Gpt2 *m; /* the one that is computed now: the model or a copy of it */
    const Kernels *k;
    int vocab;
    float *want, *got; /* logits of all positions, [n_ids, vocab] */
    int32_t *other;    /* [n_ids]: another sequence */
    Arena arena;
    const Gpt2Progress *progress; /* may be NULL */
    int done, all;                /* shares of the work, in weights */
} Proof;

/* 0 .. n - 1, n >= 1. */
static int choose(Choice *c, int n)
{
    return (int)(rng_bits(c->seed, c->counter++) % (uint64_t)n);
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* ---- One pass ---- */

static size_t n_logits(const Proof *p)
{
    return (size_t)p->o->n_ids * (size_t)p->vocab;
}

static float *logits_row(const Proof *p, int position)
{
    return p->got + (size_t)position * (size_t)p->vocab;
}

static void keep_logits(void *ctx, const TapEvent *e)
{
    const Proof *p = ctx;

    if (e->stage != TAP_LOGITS)
        return;
    for (int i = 0; i < e->n_rows; i++)
        memcpy(logits_row(p, e->start_pos + i), e->data + (size_t)i * e->stride,
               (size_t)p->vocab * sizeof(float));
}

static bool go_on(void *ctx)
{
    const Proof *p = ctx;

    return p->progress == NULL || p->progress->progress == NULL ||
           p->progress->progress(p->progress->ctx, p->all > 0 ? (double)p->done / p->all : 0.0);
}

/* The next n tokens of ids; the logits of every position are kept. */
static ErrCode pass(Proof *p, Gpt2Run *run, const int32_t *ids, int n, Err *err)
{
    const Tap tap = {.ctx = p, .observe = keep_logits, .yield = go_on};

    return gpt2_forward(run, ids + run->cache.length, n, true, &tap, err);
}

/* ids up to position end, in chunks of all sizes, small ones as often as large ones. */
static ErrCode random_chunks(Proof *p, Gpt2Run *run, const int32_t *ids, int end, Choice *c,
                             Err *err)
{
    ErrCode code = ERR_OK;

    while (code == ERR_OK && run->cache.length < end) {
        const int most = 1 + choose(c, least(end - run->cache.length, run->max_chunk));

        code = pass(p, run, ids, 1 + choose(c, most), err);
    }
    return code;
}

/* p->other becomes a sequence that begins with the first keep tokens and has others behind them. */
static void make_other(const Proof *p, int keep, Choice *c)
{
    for (int i = 0; i < p->o->n_ids; i++) {
        const int32_t id = p->o->ids[i];

        p->other[i] = i < keep || p->vocab < 2
                          ? id
                          : (int32_t)((id + 1 + choose(c, p->vocab - 1)) % p->vocab);
    }
}

/* ---- Ways ---- */

/* run is that of the way, used by the runs before; its sequence is forgotten. */
typedef ErrCode Compute(Proof *p, Gpt2Run *run, Choice *c, Err *err);

static ErrCode at_once(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    ErrCode code = ERR_OK;

    (void)c;
    while (code == ERR_OK && run->cache.length < p->o->n_ids)
        code = pass(p, run, p->o->ids, least(p->o->n_ids - run->cache.length, run->max_chunk), err);
    return code;
}

static ErrCode in_chunks(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    return random_chunks(p, run, p->o->ids, p->o->n_ids, c, err);
}

static ErrCode by_token(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    ErrCode code = ERR_OK;

    (void)c;
    while (code == ERR_OK && run->cache.length < p->o->n_ids)
        code = pass(p, run, p->o->ids, 1, err);
    return code;
}

/* Another sequence was there before, which began with the same tokens, or with none of them. */
static ErrCode reuse(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    const int n = p->o->n_ids, keep = choose(c, 4) == 0 ? 0 : choose(c, n);
    ErrCode code;

    make_other(p, keep, c);
    code = random_chunks(p, run, p->other, keep + choose(c, n - keep + 1), c, err);
    if (code == ERR_OK) {
        kv_cache_truncate(&run->cache, least(keep, run->cache.length));
        code = random_chunks(p, run, p->o->ids, n, c, err);
    }
    return code;
}

/* Goes on by guessing: of each guess the right tokens stay, the rest is forgotten. */
static ErrCode drafts(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    const int n = p->o->n_ids;
    ErrCode code = ERR_OK;

    for (int done = 0; code == ERR_OK && done < n;) {
        const int most = least(least(n - done, MOST_DRAFTS), run->max_chunk);
        const int guess = 1 + choose(c, most), right = choose(c, guess + 1);

        make_other(p, done + right, c);
        code = pass(p, run, p->other, guess, err);
        done += right;
        if (code == ERR_OK)
            kv_cache_truncate(&run->cache, done);
    }
    return code;
}

/* As a worker computes: nobody looks at the stages, and only the last position has logits. Each
 * position becomes the last one of a pass that some positions before it are computed again in. */
static ErrCode as_served(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    const Tap tap = {.ctx = p, .yield = go_on};
    ErrCode code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < p->o->n_ids; i++) {
        const int again = choose(c, least(least(i, MOST_AGAIN), run->max_chunk - 1) + 1);

        kv_cache_truncate(&run->cache, i - again);
        code = gpt2_forward(run, p->o->ids + i - again, again + 1, true, &tap, err);
        if (code == ERR_OK)
            memcpy(logits_row(p, i), run->logits, (size_t)p->vocab * sizeof(float));
    }
    return code;
}

/* Buffers for other numbers of positions and of tokens in a pass. */
static ErrCode other_sizes(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    const int n = p->o->n_ids, n_ctx = n + choose(c, p->m->config.n_ctx - n + 1);
    const int max_chunk = 1 + choose(c, choose(c, 2) == 0 ? 8 : GPT2_MAX_CHUNK);
    Gpt2Run sized = {0};
    ErrCode code = gpt2_run_init(&sized, p->m, p->k, n_ctx, max_chunk, KERN_F32, err);

    (void)run;
    if (code == ERR_OK)
        code = random_chunks(p, &sized, p->o->ids, n, c, err);
    gpt2_run_free(&sized);
    return code;
}

/* A second run computes another sequence in turn with this one. */
static ErrCode two_caches(Proof *p, Gpt2Run *run, Choice *c, Err *err)
{
    const Tap tap = {.ctx = p, .yield = go_on}; /* the other one's logits are not kept */
    const int n = p->o->n_ids;
    Gpt2Run second = {0};
    ErrCode code = gpt2_run_init(&second, p->m, p->k, n, least(n, MOST_DRAFTS), KERN_F32, err);

    make_other(p, 0, c);
    while (code == ERR_OK && run->cache.length < n) {
        const int left = n - second.cache.length;

        if (left > 0)
            code = gpt2_forward(&second, p->other + second.cache.length,
                                1 + choose(c, least(left, second.max_chunk)), true, &tap, err);
        if (code == ERR_OK)
            code = pass(p, run, p->o->ids, 1 + choose(c, least(n - run->cache.length, MOST_DRAFTS)),
                        err);
    }
    gpt2_run_free(&second);
    return code;
}

typedef struct {
    const char *name;
    Compute *compute;
    int weight;      /* with the first table */
    bool first_only; /* with no other one */
} Way;

/* The first one is what all others must give; those that take long come last. */
static const Way ways[] = {
    {"whole prompt at once", at_once, SLOW_WEIGHT, false},
    {"random chunks", in_chunks, FAST_WEIGHT, false},
    {"token by token", by_token, SLOW_WEIGHT, false},
    {"cache reused", reuse, FAST_WEIGHT, false},
    {"drafts, some wrong", drafts, FAST_WEIGHT, false},
    {"two caches in turn", two_caches, FAST_WEIGHT, false},
    {"other buffer sizes", other_sizes, FAST_WEIGHT, false},
    {"unobserved, as served", as_served, SLOW_WEIGHT, true},
};

enum { N_WAYS = sizeof ways / sizeof ways[0] };

/* ---- One way ---- */

static void find_difference(const Proof *p, DeterminismRow *row)
{
    const size_t n = n_logits(p);

    row->n_differ = 0;
    for (size_t i = 0; i < n; i++)
        if (kern_bits(p->got[i]) != kern_bits(p->want[i]) && row->n_differ++ == 0) {
            row->position = (int)(i / (size_t)p->vocab);
            row->token = (int)(i % (size_t)p->vocab);
            row->ours = p->got[i];
            row->expected = p->want[i];
        }
    row->verdict = row->n_differ == 0 ? DETERMINISM_SAME : DETERMINISM_DIFFERS;
}

static ErrCode one_run(Proof *p, const Way *way, DeterminismRow *row, Gpt2Run *run, Err *err)
{
    const int number = (int)(row - p->r->rows);
    Choice c = {.seed = p->o->seed + ((uint64_t)number << SEED_SPACING) + (uint64_t)row->runs};
    ErrCode code;

    memset(p->got, 0xff, n_logits(p) * sizeof(float)); /* NaN, should a position be left out */
    gpt2_reset(run);
    code = way->compute(p, run, &c, err);
    if (code != ERR_OK)
        return code;
    row->runs++;
    row->hash = bits_hash(bits_hash_start, p->got, n_logits(p));
    if (number == 0 && row->runs == 1) {
        memcpy(p->want, p->got, n_logits(p) * sizeof(float));
        p->r->hash = row->hash;
    }
    find_difference(p, row);
    return ERR_OK;
}

static DeterminismRow *new_row(Proof *p, const char *name)
{
    DeterminismRow *row = &p->r->rows[p->r->n_rows++];

    *row = (DeterminismRow){.way = name, .isa = p->k->name, .verdict = DETERMINISM_SAME};
    return row;
}

/* As many of the runs as the weight asks for, so that all shares add up to all runs. */
static int share(const Proof *p, int weight)
{
    const int64_t begin = (int64_t)p->o->runs * p->done / p->all;
    const int64_t end = (int64_t)p->o->runs * (p->done + weight) / p->all;

    return end > begin ? (int)(end - begin) : 1;
}

static ErrCode run_way(Proof *p, const Way *way, const char *name, int weight, Err *err)
{
    const int n = share(p, weight), begin = p->done;
    DeterminismRow *row = new_row(p, name);
    Gpt2Run run = {0};
    ErrCode code = gpt2_run_init(&run, p->m, p->k, p->o->n_ids, least(p->o->n_ids, GPT2_MAX_CHUNK),
                                 KERN_F32, err);

    for (int i = 0; code == ERR_OK && i < n && row->verdict == DETERMINISM_SAME; i++) {
        code = one_run(p, way, row, &run, err);
        p->done = begin + (int)((int64_t)weight * (i + 1) / n);
    }
    p->done = begin + weight;
    gpt2_run_free(&run);
    return code;
}

/* ---- All ways ---- */

static ErrCode run_copy(Proof *p, const DeterminismCopy *copy, Err *err)
{
    const Gpt2 *const m = p->m;
    Gpt2 opened = {0};
    ErrCode code = copy->open(copy->ctx, &opened, err);

    if (code == ERR_UNSUPPORTED) {
        DeterminismRow *row = new_row(p, copy->name);

        row->verdict = DETERMINISM_NOT_RUN;
        (void)snprintf(row->note, sizeof row->note, "%s", err->msg);
        *err = (Err){.code = ERR_OK};
        p->done += COPY_WEIGHT;
        return ERR_OK;
    }
    if (code != ERR_OK)
        return code;
    p->m = &opened;
    if (opened.config.vocab_size != m->config.vocab_size || opened.config.n_ctx != m->config.n_ctx)
        code = err_set(err, ERR_FORMAT, "%s: has another shape than the model", copy->name);
    else
        code = run_way(p, &ways[1], copy->name, COPY_WEIGHT, err);
    p->m = m;
    gpt2_free(&opened);
    return code;
}

static ErrCode run_table(Proof *p, int table, Err *err)
{
    ErrCode code = ERR_OK;

    p->k = p->o->tables[table];
    for (int i = 0; code == ERR_OK && i < N_WAYS; i++)
        if (table == 0 || !ways[i].first_only)
            code =
                run_way(p, &ways[i], ways[i].name, table == 0 ? ways[i].weight : SLOW_WEIGHT, err);
    return code;
}

static int all_weights(const DeterminismOptions *o)
{
    int n = COPY_WEIGHT * o->n_copies;

    for (int i = 0; i < N_WAYS; i++)
        n += ways[i].weight + (ways[i].first_only ? 0 : SLOW_WEIGHT * (o->n_tables - 1));
    return n;
}

static ErrCode make_room(Proof *p, Err *err)
{
    const size_t n_ids = (size_t)p->o->n_ids;
    size_t n, bytes = 0;
    ErrCode code;

    if (!size_mul(n_ids, (size_t)p->vocab, &n) || !arena_plan(&bytes, n, sizeof(float)) ||
        !arena_plan(&bytes, n, sizeof(float)) || !arena_plan(&bytes, n_ids, sizeof(int32_t)))
        return err_set(err, ERR_LIMIT, "the logits of %d positions are too large", p->o->n_ids);
    code = arena_init(&p->arena, bytes, "logits of all positions", err);
    if (code != ERR_OK)
        return code;
    p->want = arena_alloc(&p->arena, n, sizeof(float));
    p->got = arena_alloc(&p->arena, n, sizeof(float));
    p->other = arena_alloc(&p->arena, n_ids, sizeof(int32_t));
    if (p->want == NULL || p->got == NULL || p->other == NULL)
        return err_set(err, ERR_MEMORY, "logits of all positions: out of memory");
    return ERR_OK;
}

static ErrCode check_options(const Gpt2 *m, const DeterminismOptions *o, Err *err)
{
    if (o->n_ids < 1)
        return err_set(err, ERR_USAGE, "the prompt has no tokens");
    if (o->n_ids > m->config.n_ctx)
        return err_set(err, ERR_USAGE, "the prompt has %d tokens, the model's context is %d",
                       o->n_ids, m->config.n_ctx);
    return ERR_OK;
}

ErrCode determinism_run(DeterminismResult *r, const Gpt2 *m, const DeterminismOptions *o,
                        const Gpt2Progress *progress, Err *err)
{
    Proof p = {.o = o, .r = r, .m = m, .vocab = m->config.vocab_size, .progress = progress};
    ErrCode code = check_options(m, o, err);

    *r = (DeterminismResult){.n_ids = o->n_ids, .seed = o->seed};
    p.all = all_weights(o);
    if (code == ERR_OK)
        code = make_room(&p, err);
    if (code == ERR_OK)
        code = run_table(&p, 0, err);
    for (int i = 0; code == ERR_OK && i < o->n_copies; i++)
        code = run_copy(&p, &o->copies[i], err);
    for (int i = 1; code == ERR_OK && i < o->n_tables; i++)
        code = run_table(&p, i, err);
    arena_free(&p.arena);
    return code;
}

bool determinism_holds(const DeterminismResult *r)
{
    for (int i = 0; i < r->n_rows; i++)
        if (r->rows[i].verdict == DETERMINISM_DIFFERS)
            return false;
    return true;
}
