/* checkpoint/capture.c: the observer that copies each stage of the forward pass to its tensor.
 *
 * May include: common, model, cache, layers, kernels, sampling. */
#include "checkpoint/capture.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/tap.h"
#include "layers/attention/scores.h"
#include "sampling/argmax.h"
#include "sampling/softmax.h"

/* Which axes a tensor has: T tokens, D width, H heads, E values of a head, V vocabulary. */
typedef struct {
    const char *name;
    const char *axes;
    TapStage stage; /* TAP_STAGE_COUNT: made after the pass */
} TensorPlan;

static const TensorPlan plans[] = {
    {"embeddings", "TD", TAP_EMBEDDINGS},
    {"checkpoint_01_ln1_output", "TD", TAP_LN_1},
    {"checkpoint_02_q", "THE", TAP_Q},
    {"checkpoint_02_k", "THE", TAP_K},
    {"checkpoint_02_v", "THE", TAP_V},
    {"checkpoint_03_k_cache", "THE", TAP_STAGE_COUNT},
    {"checkpoint_03_v_cache", "THE", TAP_STAGE_COUNT},
    {"checkpoint_04_scores", "HTT", TAP_SCORES},
    {"checkpoint_04_masked", "HTT", TAP_MASKED},
    {"checkpoint_04_probs", "HTT", TAP_PROBS},
    {"checkpoint_05_output", "TD", TAP_ATTN_OUTPUT},
    {"checkpoint_05b_ln2_output", "TD", TAP_LN_2},
    {"checkpoint_06_ffn", "TD", TAP_FFN},
    {"checkpoint_07_block_output", "TD", TAP_BLOCK},
    {"checkpoint_08_ln_f", "TD", TAP_LN_F},
    {"checkpoint_08_logits", "TV", TAP_LOGITS},
    {"checkpoint_09_logits_last", "V", TAP_STAGE_COUNT},
    {"checkpoint_11_probs", "V", TAP_STAGE_COUNT},
};

enum { PLAN_COUNT = sizeof plans / sizeof plans[0] };

/* What the observer needs: tensors by stage, and the outputs of all blocks. */
typedef struct {
    int n_ids;
    int chunk;      /* tokens of one pass */
    float **stages; /* the capture's: [n_layers, TAP_STAGE_COUNT], NULL where nothing is kept */
    size_t stage_cols[TAP_STAGE_COUNT];
    int n_layers;
    const Gpt2Progress *progress; /* may be NULL */
    bool stopped;
} Recorder;

static size_t axis_size(const Gpt2Config *config, char axis, int n_ids)
{
    switch (axis) {
    case 'T':
        return (size_t)n_ids;
    case 'D':
        return (size_t)config->dim;
    case 'H':
        return (size_t)config->n_heads;
    case 'E':
        return (size_t)config->head_dim;
    default:
        return (size_t)config->vocab_size;
    }
}

static CompareView plan_view(const Gpt2Config *config, const char *axes, int n_ids)
{
    CompareView v = {.n_dims = (int)strlen(axes)};

    for (int i = 0; i < v.n_dims; i++)
        v.dims[i] = axis_size(config, axes[i], n_ids);
    return v;
}

static float *writable(const CaptureTensor *t)
{
    union {
        const float *in;
        float *out;
    } p = {.in = t->view.data}; /* the arena's own memory, const for everybody else */

    return p.out;
}

static bool is_row_stage(TapStage stage)
{
    return stage == TAP_SCORES || stage == TAP_MASKED || stage == TAP_PROBS;
}

/* One row of a head and query into [heads, T, T]. */
static void record_row(const Recorder *r, float *dst, const TapEvent *e)
{
    const size_t n_ids = (size_t)r->n_ids;

    assert(e->n_cols <= r->n_ids && e->start_pos < r->n_ids);
    memcpy(dst + ((size_t)e->head * n_ids + (size_t)e->start_pos) * n_ids, e->data,
           (size_t)e->n_cols * sizeof *dst);
}

static void record_rows(float *dst, const TapEvent *e, size_t n_cols)
{
    assert((size_t)e->n_cols == n_cols);
    for (int t = 0; t < e->n_rows; t++)
        memcpy(dst + ((size_t)e->start_pos + (size_t)t) * n_cols, e->data + (size_t)t * e->stride,
               n_cols * sizeof *dst);
}

static void report_progress(Recorder *r, const TapEvent *e)
{
    const double layers = (double)(e->layer + 1) / (double)r->n_layers;
    const double tokens = (double)e->start_pos + layers * (double)e->n_rows;

    if (r->progress != NULL && !r->progress->progress(r->progress->ctx, tokens / (double)r->n_ids))
        r->stopped = true;
}

static bool go_on(void *ctx)
{
    const Recorder *r = ctx;

    return !r->stopped;
}

static void observe(void *ctx, const TapEvent *e)
{
    Recorder *r = ctx;
    float *dst = r->stages[(e->layer > 0 ? e->layer : 0) * TAP_STAGE_COUNT + (int)e->stage];

    if (dst != NULL && is_row_stage(e->stage))
        record_row(r, dst, e);
    else if (dst != NULL)
        record_rows(dst, e, r->stage_cols[e->stage]);
    if (e->stage == TAP_BLOCK)
        report_progress(r, e);
}

static ErrCode check_ids(const Gpt2 *m, const int32_t *ids, int n_ids, Err *err)
{
    if (n_ids < 1)
        return err_set(err, ERR_USAGE, "the prompt has no tokens");
    if (n_ids > m->config.n_ctx)
        return err_set(err, ERR_USAGE, "the prompt has %d tokens, the model's context is %d", n_ids,
                       m->config.n_ctx);
    for (int i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocab_size)
            return err_set(err, ERR_USAGE, "token id %d is outside the vocabulary of %d",
                           (int)ids[i], m->config.vocab_size);
    return ERR_OK;
}

static bool plan_tensor(size_t *total, const CompareView *v)
{
    size_t n = 1;

    for (int i = 0; i < v->n_dims; i++)
        if (!size_mul(n, v->dims[i], &n))
            return false;
    return arena_plan(total, n, sizeof(float));
}

static bool is_block_stage(TapStage stage)
{
    return stage > TAP_EMBEDDINGS && stage < TAP_LN_F;
}

/* What only capture_run_all keeps for every layer; block outputs always are. */
static bool is_inner_stage(TapStage stage)
{
    return is_block_stage(stage) && stage != TAP_BLOCK;
}

static bool plan_layers(size_t *total, const Gpt2Config *config, int n_ids)
{
    for (int layer = 1; layer < config->n_layers; layer++)
        for (int i = 0; i < PLAN_COUNT; i++) {
            const CompareView v = plan_view(config, plans[i].axes, n_ids);

            if (is_inner_stage(plans[i].stage) && !plan_tensor(total, &v))
                return false;
        }
    return true;
}

static ErrCode make_arena(Capture *c, bool all, Err *err)
{
    const Gpt2Config *config = &c->model->config;
    const size_t n_layers = (size_t)config->n_layers, n_tensors = (size_t)PLAN_COUNT + n_layers;
    const CompareView block = plan_view(config, "TD", c->n_ids);
    size_t total = 0;
    bool ok = arena_plan(&total, n_tensors, sizeof(CaptureTensor)) &&
              arena_plan(&total, (size_t)c->n_ids, sizeof(int32_t)) &&
              arena_plan(&total, n_layers * TAP_STAGE_COUNT, sizeof(float *)) &&
              (!all || plan_layers(&total, config, c->n_ids));

    for (int i = 0; ok && i < PLAN_COUNT; i++) {
        const CompareView v = plan_view(config, plans[i].axes, c->n_ids);

        ok = plan_tensor(&total, &v);
    }
    for (int i = 0; ok && i < config->n_layers; i++)
        ok = plan_tensor(&total, &block);
    if (!ok)
        return err_set(err, ERR_LIMIT, "the tensors of %d tokens are too large", c->n_ids);
    if (all && total > CAPTURE_MAX_BYTES)
        return err_set(
            err, ERR_LIMIT,
            "every stage of %d layers for %d tokens takes %.1f GiB, at most %.1f GiB are "
            "kept: a shorter prompt works",
            config->n_layers, c->n_ids, (double)total / 0x1p30, (double)CAPTURE_MAX_BYTES / 0x1p30);
    return arena_init(&c->arena, total, "captured tensors", err);
}

static bool add_tensor(Capture *c, CaptureTensor *t, CompareView view, TapStage stage, int layer)
{
    view.data = arena_alloc(&c->arena, compare_count(&view), sizeof(float));
    t->view = view;
    t->stage = stage;
    t->layer = layer;
    c->n_tensors++;
    return view.data != NULL;
}

/* The stages of the layers after the first that no tensor's name stands for. */
static bool make_layers(Capture *c)
{
    const Gpt2Config *config = &c->model->config;

    for (int layer = 1; layer < config->n_layers; layer++)
        for (int i = 0; i < PLAN_COUNT; i++) {
            const CompareView v = plan_view(config, plans[i].axes, c->n_ids);
            float **at = &c->stages[layer * TAP_STAGE_COUNT + (int)plans[i].stage];

            if (!is_inner_stage(plans[i].stage))
                continue;
            *at = arena_alloc(&c->arena, compare_count(&v), sizeof **at);
            if (*at == NULL)
                return false;
        }
    return true;
}

/* All tensors with their memory; those of the stages also go to the recorder. */
static ErrCode make_tensors(Capture *c, Recorder *r, const int32_t *ids, Err *err)
{
    const Gpt2Config *config = &c->model->config;
    const size_t n_layers = (size_t)config->n_layers, n_tensors = (size_t)PLAN_COUNT + n_layers;
    CaptureTensor *t = arena_alloc(&c->arena, n_tensors, sizeof *t);
    int32_t *own_ids = arena_alloc(&c->arena, (size_t)c->n_ids, sizeof *own_ids);

    c->stages = arena_alloc(&c->arena, n_layers * TAP_STAGE_COUNT, sizeof *c->stages);
    if (t == NULL || own_ids == NULL || c->stages == NULL)
        return err_set(err, ERR_MEMORY, "captured tensors: out of memory");
    memcpy(own_ids, ids, (size_t)c->n_ids * sizeof *own_ids);
    c->ids = own_ids;
    c->tensors = t;
    r->stages = c->stages;
    for (int i = 0; i < PLAN_COUNT; i++, t++) {
        snprintf(t->name, sizeof t->name, "%s", plans[i].name);
        if (!add_tensor(c, t, plan_view(config, plans[i].axes, c->n_ids), plans[i].stage,
                        is_block_stage(plans[i].stage) ? 0 : -1))
            return err_set(err, ERR_MEMORY, "captured tensors: out of memory");
        if (plans[i].stage != TAP_STAGE_COUNT) {
            r->stages[plans[i].stage] = writable(t);
            r->stage_cols[plans[i].stage] = compare_count(&t->view) / (size_t)c->n_ids;
        }
    }
    for (int i = 0; i < config->n_layers; i++, t++) {
        snprintf(t->name, sizeof t->name, "checkpoint_07_block_%02d", i);
        if (!add_tensor(c, t, plan_view(config, "TD", c->n_ids), TAP_BLOCK, i))
            return err_set(err, ERR_MEMORY, "captured tensors: out of memory");
        if (i > 0)
            c->stages[i * TAP_STAGE_COUNT + TAP_BLOCK] = writable(t);
    }
    return ERR_OK;
}

/* One layer of complete_scores; row: room for the scores of a query. */
static void complete_layer(Capture *c, int layer, size_t chunk, float *row)
{
    const Gpt2Config *config = &c->model->config;
    float *const *stages = c->stages + layer * TAP_STAGE_COUNT;
    const size_t n = (size_t)c->n_ids, head_dim = (size_t)config->head_dim;

    for (int h = 0; h < config->n_heads; h++)
        for (size_t t = 0; t < n; t++) {
            const float *q = stages[TAP_Q] + t * (size_t)config->dim + (size_t)h * head_dim;
            const size_t at = ((size_t)h * n + t) * n, seen = (t / chunk + 1) * chunk;

            if (seen >= n)
                break;
            scores_forward(c->k, row, 0, q, 0, 1, &c->run.cache, layer, h, c->n_ids,
                           c->model->blocks[layer].attention.scale);
            for (size_t key = seen; key < n; key++) {
                stages[TAP_SCORES][at + key] = row[key];
                stages[TAP_MASKED][at + key] = -INFINITY;
            }
        }
}

/* A pass shows a query only the keys that exist so far; keys of later passes are added here, and
 * masked. Each score is a chain of its own, so these are the bits that one pass over the whole
 * prompt would have given. */
static ErrCode complete_scores(Capture *c, const Recorder *r, Err *err)
{
    const size_t n = kern_pad((size_t)c->n_ids);
    Arena room = {0};
    ErrCode code = arena_init(&room, n * sizeof(float), "scores", err);
    float *row = code == ERR_OK ? arena_alloc(&room, n, sizeof *row) : NULL;

    for (int layer = 0; row != NULL && layer < r->n_layers; layer++)
        if (c->stages[layer * TAP_STAGE_COUNT + TAP_SCORES] != NULL)
            complete_layer(c, layer, (size_t)r->chunk, row);
    arena_free(&room);
    return code;
}

static float *find_data(const Capture *c, const char *name)
{
    const CaptureTensor *t = capture_find(c, name);

    assert(t != NULL);
    return writable(t);
}

/* The tensors that no stage carries: what the cache gives back, the last row, its probabilities. */
static ErrCode derive_tensors(Capture *c, const Recorder *r, bool must_be_finite, Err *err)
{
    const int n_vocab = c->model->config.vocab_size;
    float *last = find_data(c, "checkpoint_09_logits_last");

    memcpy(find_data(c, "checkpoint_07_block_00"), c->stages[TAP_BLOCK],
           (size_t)c->n_ids * (size_t)c->model->config.dim * sizeof(float));
    kv_cache_read(&c->run.cache, 0, find_data(c, "checkpoint_03_k_cache"),
                  find_data(c, "checkpoint_03_v_cache"), c->n_ids);
    /* The row that generation would use, not a copy out of checkpoint 8: checkpoint 9 compares the
     * two. */
    memcpy(last, c->run.logits, (size_t)n_vocab * sizeof *last);
    c->finite = sampling_check_finite(last, n_vocab, err) == ERR_OK;
    if (!c->finite && must_be_finite) {
        (void)err_prefix(err, "last position");
        return ERR_NUMERIC;
    }
    if (!c->finite)
        *err = (Err){.code = ERR_OK};
    else
        sampling_softmax(c->k, find_data(c, "checkpoint_11_probs"), last, n_vocab,
                         CAPTURE_TEMPERATURE);
    return complete_scores(c, r, err);
}

static ErrCode run(Capture *c, bool all, const Gpt2 *m, const Kernels *k, const int32_t *ids,
                   int n_ids, int n_extra, const Gpt2Progress *progress, Err *err)
{
    const int chunk = n_ids < GPT2_MAX_CHUNK ? n_ids : GPT2_MAX_CHUNK;
    Recorder recorder = {
        .n_ids = n_ids, .chunk = chunk, .n_layers = m->config.n_layers, .progress = progress};
    const Tap tap = {.ctx = &recorder, .observe = observe, .yield = go_on};
    Capture made = {.model = m, .k = k, .n_ids = n_ids};
    ErrCode code = check_ids(m, ids, n_ids, err);

    if (code != ERR_OK)
        return code;
    if ((code = make_arena(&made, all, err)) == ERR_OK)
        code = make_tensors(&made, &recorder, ids, err);
    if (code == ERR_OK && all && !make_layers(&made))
        code = err_set(err, ERR_MEMORY, "captured tensors: out of memory");
    if (code == ERR_OK)
        code = gpt2_run_init(&made.run, m, k,
                             n_extra < m->config.n_ctx - n_ids ? n_ids + n_extra : m->config.n_ctx,
                             chunk, KERN_F32, err);
    if (code == ERR_OK)
        code = gpt2_prefill(&made.run, ids, n_ids, chunk, &tap, err);
    if (code == ERR_OK)
        code = derive_tensors(&made, &recorder, !all, err);
    if (code != ERR_OK) {
        capture_free(&made);
        return code;
    }
    *c = made;
    return ERR_OK;
}

ErrCode capture_run(Capture *c, const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_ids,
                    int n_extra, const Gpt2Progress *progress, Err *err)
{
    return run(c, false, m, k, ids, n_ids, n_extra, progress, err);
}

ErrCode capture_run_all(Capture *c, const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_ids,
                        int n_extra, const Gpt2Progress *progress, Err *err)
{
    return run(c, true, m, k, ids, n_ids, n_extra, progress, err);
}

void capture_free(Capture *c)
{
    gpt2_run_free(&c->run);
    arena_free(&c->arena);
    *c = (Capture){0};
}

const CaptureTensor *capture_find(const Capture *c, const char *name)
{
    for (int i = 0; i < c->n_tensors; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return &c->tensors[i];
    return NULL;
}

CompareView capture_stage(const Capture *c, TapStage stage, int layer)
{
    CompareView v = {.n_dims = 0};

    for (int i = 0; i < PLAN_COUNT; i++)
        if (plans[i].stage == stage)
            v = plan_view(&c->model->config, plans[i].axes, c->n_ids);
    v.data = c->stages[(is_block_stage(stage) ? layer : 0) * TAP_STAGE_COUNT + (int)stage];
    return v;
}

const float *capture_logits(const Capture *c, int t)
{
    const size_t n_vocab = (size_t)c->model->config.vocab_size;

    return find_data(c, "checkpoint_08_logits") + (size_t)t * n_vocab;
}
