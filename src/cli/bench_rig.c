/* cli/bench_rig.c: see bench_rig.h.
 *
 * May include: common, kernels, layers, model, sampling. */
#include "cli/bench_rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu_backend.h"
#include "common/clock.h"
#include "kernels/pack.h"
#include "layers/attention/output.h"
#include "layers/attention/scores.h"
#include "model/weights.h"
#include "sampling/argmax.h"

enum {
    SAMPLE_NS = 20 * 1000 * 1000,
    SOURCE_BYTES = 64 * 1024 * 1024, /* more than the caches hold */
    FMA_ROUNDS = 1 << 16
};

/* ---- Making ---- */

/* Uniform in -1 .. 1, never 0. */
static void fill_random(float *x, size_t n)
{
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes; good enough to multiply */
        x[i] = (float)(int32_t)(state | 0x100u) * 0x1p-31f;
    }
}

static int widest(const Gpt2Config *c)
{
    const int inner = c->ffn_dim > 3 * c->dim ? c->ffn_dim : 3 * c->dim;

    return c->vocab_size > inner ? c->vocab_size : inner;
}

static int deepest(const Gpt2Config *c)
{
    return c->ffn_dim > c->dim ? c->ffn_dim : c->dim;
}

static size_t matrix_bytes(const KernMatrix *w)
{
    return kern_panels_bytes(w->type, (size_t)w->n, (size_t)w->k) +
           kern_scales_bytes(w->type, (size_t)w->n, (size_t)w->k);
}

/* From one packed copy to the next. */
static size_t packed_step(const KernMatrix *w)
{
    return (matrix_bytes(w) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

typedef struct {
    const unsigned char *begin, *end;
} Range;

static bool add_range(void *ctx, const WeightSlot *slot)
{
    Range *all = ctx;
    const unsigned char *at = slot->matrix != NULL ? slot->matrix->panels : NULL;

    if (at == NULL)
        return true;
    if (all->begin == NULL || at < all->begin)
        all->begin = at;
    at += kern_panels_bytes(slot->matrix->type, slot->n, slot->k);
    if (all->end == NULL || at > all->end)
        all->end = at;
    return true;
}

/* Every matrix of a token, in the order of a pass; false ends the walk. */
typedef bool LinearVisit(void *ctx, const Linear *l);

static bool each_linear(const Gpt2 *m, LinearVisit *visit, void *ctx)
{
    for (int i = 0; i < m->config.n_layers; i++) {
        const TransformerBlock *b = &m->blocks[i];

        if (!visit(ctx, &b->attention.qkv.c_attn) || !visit(ctx, &b->attention.output.c_proj) ||
            !visit(ctx, &b->ffn.c_fc) || !visit(ctx, &b->ffn.c_proj))
            return false;
    }
    return visit(ctx, &m->head);
}

static bool add_bytes(void *ctx, const Linear *l)
{
    *(size_t *)ctx += matrix_bytes(&l->w);
    return true;
}

/* 0 when the system does not say. */
static size_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long total = 0, resident = 0;

    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    (void)fclose(f);
    return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

static ErrCode fill_cache(BenchRig *r, Err *err)
{
    KvCache *c = &r->run.cache;
    const size_t dim = (size_t)r->model.config.dim;
    float *rows = r->run.room.attention.combined; /* [max_chunk, 3 * dim], as a pass leaves it */
    ErrCode code = ERR_OK;

    fill_random(rows, (size_t)r->run.max_chunk * 3 * dim);
    for (int layer = 0; code == ERR_OK && layer < c->n_layers; layer++)
        for (int at = 0; code == ERR_OK && at < c->n_ctx; at += r->run.max_chunk) {
            const int n = c->n_ctx - at < r->run.max_chunk ? c->n_ctx - at : r->run.max_chunk;

            code = kv_cache_write(c, r->k, layer, at, rows + dim, rows + 2 * dim, 3 * dim, n, err);
        }
    return code;
}

static ErrCode make_room(BenchRig *r, Err *err)
{
    const Gpt2Config *c = &r->model.config;
    const size_t x_floats = BENCH_MAX_BATCH * (size_t)deepest(c);
    const size_t y_floats = BENCH_MAX_BATCH * (size_t)widest(c);
    const size_t input = kern_input_bytes(BENCH_MAX_BATCH, (size_t)deepest(c));
    const KernMatrix *w = &r->model.blocks[0].ffn.c_fc.w;
    const size_t source = (size_t)w->n * (size_t)w->k;
    size_t bytes = 0;
    ErrCode code = sampler_plan(&bytes, c->vocab_size, err);

    if (code != ERR_OK)
        return code;
    r->n_sources = (SOURCE_BYTES - 1) / (source * sizeof(float)) + 1;
    if (!arena_plan(&bytes, (size_t)c->n_ctx, sizeof(int32_t)) ||
        !arena_plan(&bytes, x_floats, sizeof(float)) ||
        !arena_plan(&bytes, y_floats, sizeof(float)) || !arena_plan(&bytes, input, 1) ||
        !arena_plan(&bytes, r->n_sources * source, sizeof(float)) ||
        !arena_plan(&bytes, r->n_sources, packed_step(w)))
        return err_set(err, ERR_LIMIT, "a model of this shape is too large");
    code = arena_init(&r->room, bytes, "benchmark", err);
    if (code != ERR_OK)
        return code;
    r->sampler = sampler_new(&r->room, r->k, c->vocab_size);
    r->ids = arena_alloc(&r->room, (size_t)c->n_ctx, sizeof(int32_t));
    r->x = arena_alloc(&r->room, x_floats, sizeof(float));
    r->y = arena_alloc(&r->room, y_floats, sizeof(float));
    r->scratch = arena_alloc(&r->room, input, 1);
    r->source = arena_alloc(&r->room, r->n_sources * source, sizeof(float));
    r->packed = arena_alloc(&r->room, r->n_sources, packed_step(w));
    if (r->sampler == NULL || r->packed == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the benchmark");
    for (int i = 0; i < c->n_ctx; i++)
        r->ids[i] = (int32_t)(((uint32_t)i * 2654435761u >> 8) % (uint32_t)c->vocab_size);
    fill_random(r->x, x_floats);
    fill_random(r->source, r->n_sources * source);
    arena_touch(&r->room, (size_t)(r->packed - r->room.base), r->n_sources * packed_step(w));
    return ERR_OK;
}

void bench_rig_weights(BenchRig *r)
{
    Range all = {NULL, NULL};

    (void)weights_each(&r->model, add_range, &all);
    r->weights = all.begin;
    r->weights_bytes = (size_t)(all.end - all.begin);
    r->product_bytes = 0;
    (void)each_linear(&r->model, add_bytes, &r->product_bytes);
}

ErrCode bench_rig_init(BenchRig *r, KernType kv_type, Err *err)
{
    const Gpt2Config *c = &r->model.config;
    ErrCode code;

    if (c->n_ctx < BENCH_MIN_CONTEXT)
        return err_set(err, ERR_LIMIT, "a context of %d positions is too short, at least %d",
                       c->n_ctx, BENCH_MIN_CONTEXT);
    bench_rig_weights(r);
    code = gpt2_run_init(&r->run, &r->model, r->k, c->n_ctx, CPU_BACKEND_CHUNK, kv_type, err);
    if (code == ERR_OK)
        code = fill_cache(r, err);
    if (code != ERR_OK)
        return code;
    r->resident_bytes = resident_bytes();
    return make_room(r, err);
}

void bench_rig_free(BenchRig *r)
{
    arena_free(&r->room);
    gpt2_run_free(&r->run);
    gpt2_free(&r->model);
}

/* ---- Bodies ---- */

/* As if n positions had been computed: random numbers or an earlier case filled them. */
static void set_context(BenchRig *r, int n)
{
    gpt2_reset(&r->run);
    kv_cache_advance(&r->run.cache, n);
}

ErrCode bench_decode(BenchRig *r, int n, Err *err)
{
    const int32_t *ids = r->ids + n;
    int chosen;

    set_context(r, n);
    for (int i = 0; i < BENCH_DECODE_TOKENS; i++) {
        ErrCode code = gpt2_forward(&r->run, ids + i, 1, true, &r->tap, err);

        if (code == ERR_OK)
            code = sampling_argmax(&chosen, r->run.logits, r->model.config.vocab_size, err);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

ErrCode bench_prompt(BenchRig *r, int n, Err *err)
{
    gpt2_reset(&r->run);
    return gpt2_prefill(&r->run, r->ids, n, CPU_BACKEND_CHUNK, &r->tap, err);
}

typedef struct {
    BenchRig *rig;
    int n_rows;
} Batch;

static bool multiply(void *ctx, const Linear *l)
{
    const Batch *b = ctx;
    BenchRig *r = b->rig;

    return linear_forward(l, r->k, r->y, r->x, b->n_rows, r->scratch, &r->tap);
}

ErrCode bench_batch(BenchRig *r, int n, Err *err)
{
    Batch b = {.rig = r, .n_rows = n};

    if (!each_linear(&r->model, multiply, &b))
        return err_set(err, ERR_CANCELLED, "cancelled");
    return ERR_OK;
}

ErrCode bench_read_cache(BenchRig *r, int n, Err *err)
{
    const Gpt2Config *c = &r->model.config;
    const AttentionRoom *room = &r->run.room.attention;
    const float inv = 1.0f / (float)n;

    for (int layer = 0; layer < c->n_layers; layer++) {
        for (int head = 0; head < c->n_heads; head++) {
            const size_t column = (size_t)head * (size_t)c->head_dim;

            scores_forward(r->k, room->rows, 0, r->x + column, 0, 1, &r->run.cache, layer, head, n,
                           1.0f);
            output_values(r->k, room->merged + column, 0, room->rows, 0, &inv, 1, &r->run.cache,
                          layer, head, n);
        }
        if (!tap_yield(&r->tap))
            return err_set(err, ERR_CANCELLED, "cancelled");
    }
    return ERR_OK;
}

ErrCode bench_pack(BenchRig *r, int n, Err *err)
{
    const KernMatrix *w = &r->model.blocks[0].ffn.c_fc.w;
    const size_t outputs = (size_t)w->n, inputs = (size_t)w->k;
    const size_t panels = kern_panels_bytes(w->type, outputs, inputs);

    (void)n;
    for (size_t i = 0; i < r->n_sources; i++) {
        unsigned char *to = r->packed + i * packed_step(w);
        size_t bad;

        if (!tap_yield(&r->tap))
            return err_set(err, ERR_CANCELLED, "cancelled");
        if (!kern_pack(to, (uint16_t *)(void *)(to + panels), w->type, outputs, inputs, 0, outputs,
                       r->source + i * outputs * inputs, KERN_F32, KERN_IN_OUT, &bad))
            return err_set(err, ERR_INTERNAL, "a random weight is not finite");
    }
    return ERR_OK;
}

/* ---- Timing ---- */

ErrCode bench_time(double *seconds, BenchRig *r, BenchBody *body, int n, Err *err)
{
    const uint64_t start = clock_now_ns();
    uint64_t passed;
    int calls = 0;

    do {
        const ErrCode code = body(r, n, err);

        if (code != ERR_OK)
            return code;
        calls++;
        passed = clock_now_ns() - start;
    } while (passed < SAMPLE_NS);
    *seconds = (double)passed * 1e-9 / calls;
    return ERR_OK;
}

ErrCode bench_parts(BenchParts *parts, BenchRig *r, int n, const SamplingParams *p, Err *err)
{
    const uint64_t start = clock_now_ns();
    int calls = 0, chosen;

    *parts = (BenchParts){0.0, 0.0, 0.0};
    sampler_reset(r->sampler, p);
    do {
        set_context(r, n);
        for (int i = 0; i < BENCH_DECODE_TOKENS; i++, calls++) {
            const ErrCode code =
                bench_step(&r->run, r->ids[n + i], r->sampler, parts, &chosen, err);

            if (code != ERR_OK)
                return code;
        }
        if (!tap_yield(&r->tap))
            return err_set(err, ERR_CANCELLED, "cancelled");
    } while (clock_now_ns() - start < SAMPLE_NS);
    parts->products /= calls;
    parts->cache /= calls;
    parts->rest /= calls;
    return ERR_OK;
}

void bench_probe_read(const BenchRig *r, double gb_per_s[PROBE_READ_COUNT])
{
    volatile uint64_t sink; /* the reads must not be left out */

    for (int i = 0; i < PROBE_READ_COUNT; i++) {
        const uint64_t start = clock_now_ns();
        uint64_t passed;
        int calls = 0;

        do {
            sink = r->probe->read[i](r->weights, r->weights_bytes);
            calls++;
            passed = clock_now_ns() - start;
        } while (passed < SAMPLE_NS);
        gb_per_s[i] = (double)r->weights_bytes * calls / (double)passed;
    }
    (void)sink;
}

double bench_probe_fma(const BenchRig *r)
{
    const uint64_t start = clock_now_ns();
    volatile float sink;
    uint64_t passed;
    size_t rounds = 0;

    do {
        sink = r->probe->fma(FMA_ROUNDS);
        rounds += FMA_ROUNDS;
        passed = clock_now_ns() - start;
    } while (passed < SAMPLE_NS);
    (void)sink;
    return (double)(rounds * r->probe->flop_per_round) / (double)passed;
}

/* ---- Work ---- */

double bench_cache_bytes(const BenchRig *r, int n_keys)
{
    const Gpt2Config *c = &r->model.config;
    const double element = r->run.cache.type == KERN_F32 ? 4.0 : 2.0;

    return 2.0 * c->n_layers * c->dim * element * n_keys;
}

static bool add_weights(void *ctx, const Linear *l)
{
    *(double *)ctx += (double)l->w.n * (double)l->w.k;
    return true;
}

double bench_prompt_flop(const BenchRig *r, int n)
{
    const Gpt2Config *c = &r->model.config;
    const double head = (double)c->vocab_size * c->dim;
    const double keys = 0.5 * n * (n + 1.0); /* of all queries */
    double all = 0.0;

    (void)each_linear(&r->model, add_weights, &all);
    return 2.0 * (n * (all - head) + head) + 4.0 * c->n_layers * c->dim * keys;
}

double bench_source_bytes(const BenchRig *r)
{
    const KernMatrix *w = &r->model.blocks[0].ffn.c_fc.w;

    return (double)r->n_sources * w->n * w->k * (double)sizeof(float);
}
