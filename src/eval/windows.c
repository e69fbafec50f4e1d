/* eval/windows.c: see windows.h.
 *
 * May include: common, kernels, model, sampling. */
#include "eval/windows.h"

#include <assert.h>

#include "common/arena.h"
#include "sampling/argmax.h"

/* Logits computed in one product: a tile of the kernels, which reads the head's weights once. */
enum { GROUP_ROWS = KERN_TILE_TOKENS };

size_t windows_count(size_t n_ids, int context, int stride)
{
    const size_t n_scored = n_ids - 1, c = (size_t)context, s = (size_t)stride;

    return n_scored <= c ? 1 : 1 + (n_scored - c + s - 1) / s;
}

Window windows_at(size_t n_ids, int context, int stride, size_t i)
{
    const size_t first = i * (size_t)stride, left = n_ids - 1 - first;

    return (Window){.first = first,
                    .n_inputs = left < (size_t)context ? (int)left : context,
                    .first_scored = i == 0 ? 0 : context - stride};
}

/* The state of one windows_run. */
typedef struct {
    const WindowsPlan *p;
    const WindowsSink *sink;
    Gpt2Run runs[WINDOWS_MAX_MODELS];
    float *logits[WINDOWS_MAX_MODELS]; /* [GROUP_ROWS, vocab_size of that model] */
    Arena arena;                       /* owns logits */
    Tap tap;
    size_t done, total; /* inputs times models */
} Walk;

static bool go_on(void *ctx)
{
    const Walk *w = ctx;
    const Gpt2Progress *progress = &w->p->progress;

    return progress->progress == NULL ||
           progress->progress(progress->ctx, (double)w->done / (double)w->total);
}

static ErrCode check_plan(const WindowsPlan *p, Err *err)
{
    assert(p->n_models >= 1 && p->n_models <= WINDOWS_MAX_MODELS);
    if (p->n_ids < 2)
        return err_set(err, ERR_FORMAT, "%zu tokens, expected at least 2: nothing is predicted",
                       p->n_ids);
    for (int i = 0; i < p->n_models; i++)
        if (p->context < 1 || p->context > p->models[i]->config.n_ctx)
            return err_set(err, ERR_USAGE, "context of %d positions: model %s has 1 to %d",
                           p->context, p->models[i]->name, p->models[i]->config.n_ctx);
    if (p->stride < 1 || p->stride > p->context)
        return err_set(err, ERR_USAGE, "stride of %d tokens: 1 to %d (the context) are possible",
                       p->stride, p->context);
    return ERR_OK;
}

static ErrCode open_runs(Walk *w, Err *err)
{
    const WindowsPlan *p = w->p;
    const int chunk = p->context < GPT2_MAX_CHUNK ? p->context : GPT2_MAX_CHUNK;
    size_t total = 0;
    ErrCode code = ERR_OK;

    for (int i = 0; i < p->n_models; i++)
        if (!arena_plan(&total, (size_t)p->models[i]->config.vocab_size,
                        GROUP_ROWS * sizeof *w->logits[i]))
            return err_set(err, ERR_LIMIT, "the logits of this model are too large");
    code = arena_init(&w->arena, total, "logits", err);
    for (int i = 0; code == ERR_OK && i < p->n_models; i++) {
        w->logits[i] = arena_alloc(&w->arena, (size_t)p->models[i]->config.vocab_size,
                                   GROUP_ROWS * sizeof *w->logits[i]);
        code = gpt2_run_init(&w->runs[i], p->models[i], p->k, p->context, chunk, p->kv_type, err);
    }
    return code;
}

static void close_runs(Walk *w)
{
    for (int i = 0; i < w->p->n_models; i++)
        gpt2_run_free(&w->runs[i]);
    arena_free(&w->arena);
}

/* Scores n <= GROUP_ROWS rows of the last pass; the first of them predicts ids[target]. */
static ErrCode score_group(Walk *w, int row, int n, size_t target, Err *err)
{
    const WindowsPlan *p = w->p;
    const float *logits[WINDOWS_MAX_MODELS] = {NULL};

    for (int i = 0; i < p->n_models; i++) {
        const ErrCode code = gpt2_row_logits(&w->runs[i], row, n, w->logits[i], &w->tap, err);

        if (code != ERR_OK)
            return code;
    }
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < p->n_models; i++) {
            const Gpt2 *m = p->models[i];

            logits[i] = w->logits[i] + (size_t)r * (size_t)m->config.vocab_size;
            if (sampling_check_finite(logits[i], p->n_vocab, err) != ERR_OK)
                return err_prefix(err, "model %s, after %zu tokens of the text", m->name,
                                  target + (size_t)r);
        }
        w->sink->row(w->sink->ctx, logits, target + (size_t)r);
    }
    return ERR_OK;
}

static ErrCode run_window(Walk *w, Window window, Err *err)
{
    const WindowsPlan *p = w->p;
    const int32_t *ids = p->ids + window.first;
    int n;

    for (int i = 0; i < p->n_models; i++)
        gpt2_reset(&w->runs[i]);
    for (int start = 0; start < window.n_inputs; start += n) {
        const int left = window.n_inputs - start;

        n = left < w->runs[0].max_chunk ? left : w->runs[0].max_chunk;
        for (int i = 0; i < p->n_models; i++) {
            const ErrCode code = gpt2_forward(&w->runs[i], ids + start, n, false, &w->tap, err);

            if (code != ERR_OK)
                return code;
            w->done += (size_t)n;
        }
        int row = window.first_scored > start ? window.first_scored - start : 0;
        for (int take; row < n; row += take) {
            take = n - row < GROUP_ROWS ? n - row : GROUP_ROWS;
            const ErrCode code =
                score_group(w, row, take, window.first + (size_t)(start + row) + 1, err);

            if (code != ERR_OK)
                return code;
        }
    }
    w->sink->window_end(w->sink->ctx);
    return ERR_OK;
}

ErrCode windows_run(const WindowsPlan *p, const WindowsSink *sink, Err *err)
{
    Walk w = {.p = p, .sink = sink};
    ErrCode code = check_plan(p, err);

    if (code != ERR_OK)
        return code;
    const size_t n_windows = windows_count(p->n_ids, p->context, p->stride);
    const Window last = windows_at(p->n_ids, p->context, p->stride, n_windows - 1);

    w.total = ((n_windows - 1) * (size_t)p->context + (size_t)last.n_inputs) * (size_t)p->n_models;
    w.tap = (Tap){.ctx = &w, .yield = go_on};
    code = open_runs(&w, err);
    for (size_t i = 0; code == ERR_OK && i < n_windows; i++)
        code = run_window(&w, windows_at(p->n_ids, p->context, p->stride, i), err);
    close_runs(&w);
    return code;
}
