/* model/gpt2.c: the forward pass, top to bottom, and the buffers of one sequence.
 *
 * May include: common, kernels, cache, layers. */
#include "model/gpt2.h"

#include <assert.h>
#include <string.h>

/* Scores of one query, all positions: attn_scores writes whole panels. */
static size_t row_floats(int n_ctx)
{
    return kern_pad((size_t)n_ctx);
}

/* The largest input of any linear layer decides linear's scratch. */
static size_t scratch_bytes(const Gpt2Config *c, int max_chunk)
{
    const int widest = c->ffn_dim > c->dim ? c->ffn_dim : c->dim;

    return kern_input_bytes((size_t)max_chunk, (size_t)widest);
}

typedef struct {
    float **place;
    size_t count;
} Buffer;

enum { N_BUFFERS = 10 };

static void list_buffers(Gpt2Run *run, const Gpt2Config *c, int n_ctx, Buffer list[N_BUFFERS])
{
    const size_t rows = (size_t)run->max_chunk;
    const size_t dim = (size_t)c->dim;
    AttentionRoom *a = &run->room.attention;
    const Buffer all[N_BUFFERS] = {
        {&run->x, rows * dim},
        {&run->last, dim},
        {&run->logits, kern_pad((size_t)c->vocab_size)},
        {&run->room.norm, rows * dim},
        {&run->room.branch, rows * dim},
        {&run->room.hidden, rows * (size_t)c->ffn_dim},
        {&a->combined, rows * 3 * dim},
        {&a->merged, rows * dim},
        {&a->rows, KERN_QUERIES * row_floats(n_ctx)},
        {&a->probe, row_floats(n_ctx)},
    };

    memcpy(list, all, sizeof all);
}

static ErrCode check_run(const Gpt2 *m, int n_ctx, int max_chunk, KernType kv_type, Err *err)
{
    if (n_ctx < 1 || n_ctx > m->config.n_ctx)
        return err_set(err, ERR_USAGE, "context of %d positions: model %s has 1 to %d", n_ctx,
                       m->name, m->config.n_ctx);
    if (max_chunk < 1 || max_chunk > GPT2_MAX_CHUNK)
        return err_set(err, ERR_USAGE, "chunk of %d tokens: 1 to %d are possible", max_chunk,
                       GPT2_MAX_CHUNK);
    if (kv_type != KERN_F32 && kv_type != KERN_F16)
        return err_set(err, ERR_USAGE, "KV cache of type %s: F32 and F16 are possible",
                       kern_type_name(kv_type));
    return ERR_OK;
}

ErrCode gpt2_run_init(Gpt2Run *run, const Gpt2 *m, const Kernels *k, int n_ctx, int max_chunk,
                      KernType kv_type, Err *err)
{
    const Gpt2Config *c = &m->config;
    Gpt2Run r = {.model = m, .k = k, .max_chunk = max_chunk};
    Buffer list[N_BUFFERS];
    size_t bytes = 0;
    ErrCode code = check_run(m, n_ctx, max_chunk, kv_type, err);

    if (code != ERR_OK)
        return code;
    list_buffers(&r, c, n_ctx, list);
    for (int i = 0; i < N_BUFFERS; i++)
        if (!arena_plan(&bytes, list[i].count, sizeof(float)))
            return err_set(err, ERR_LIMIT, "the buffers of this model are too large");
    if (!arena_plan(&bytes, scratch_bytes(c, max_chunk), 1))
        return err_set(err, ERR_LIMIT, "the buffers of this model are too large");
    code = kv_cache_plan(&bytes, kv_type, c->n_layers, c->n_heads, c->head_dim, n_ctx, err);
    if (code != ERR_OK)
        return code;
    code = arena_init(&r.arena, bytes, "KV cache and activations", err);
    if (code != ERR_OK)
        return code;
    code = kv_cache_init(&r.cache, &r.arena, kv_type, c->n_layers, c->n_heads, c->head_dim, n_ctx,
                         err);
    for (int i = 0; code == ERR_OK && i < N_BUFFERS; i++) {
        *list[i].place = arena_alloc(&r.arena, list[i].count, sizeof(float));
        if (*list[i].place == NULL)
            code = err_set(err, ERR_MEMORY, "out of memory for activations");
    }
    r.room.attention.scratch = arena_alloc(&r.arena, scratch_bytes(c, max_chunk), 1);
    if (code == ERR_OK && r.room.attention.scratch == NULL)
        code = err_set(err, ERR_MEMORY, "out of memory for activations");
    if (code != ERR_OK) {
        arena_free(&r.arena);
        return code;
    }
    *run = r;
    return ERR_OK;
}

void gpt2_run_free(Gpt2Run *run)
{
    arena_free(&run->arena);
    memset(run, 0, sizeof *run);
}

void gpt2_reset(Gpt2Run *run)
{
    kv_cache_truncate(&run->cache, 0);
}

static ErrCode check_pass(const Gpt2Run *run, const int32_t *ids, int n, Err *err)
{
    const int vocab = run->model->config.vocab_size;

    if (n < 1 || n > run->max_chunk)
        return err_set(err, ERR_USAGE, "a pass of %d tokens: 1 to %d are possible", n,
                       run->max_chunk);
    if (n > run->cache.n_ctx - run->cache.length)
        return err_set(err, ERR_LIMIT, "%d tokens after %d do not fit into a context of %d", n,
                       run->cache.length, run->cache.n_ctx);
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return err_set(err, ERR_USAGE, "token id %d: the vocabulary has 0 to %d", (int)ids[i],
                           vocab - 1);
    return ERR_OK;
}

/* Final LayerNorm and head of one row of x, into run->logits. false: the yield asked to stop. */
static bool logits_of_row(Gpt2Run *run, int row, const Tap *tap)
{
    const Gpt2 *m = run->model;
    const float *x = run->x + (size_t)row * (size_t)m->config.dim;

    layer_norm_forward(&m->ln_f, run->k, run->last, x, 1);
    tap_mark(tap, TAP_PART_LN_F, -1);
    if (!linear_forward(&m->head, run->k, run->logits, run->last, 1, run->room.attention.scratch,
                        tap))
        return false;
    tap_mark(tap, TAP_PART_HEAD, -1);
    return true;
}

/* With an observer every row's logits are computed and shown, else only the last one's. */
static bool finish_pass(Gpt2Run *run, int n, int start_pos, bool want_logits, const Tap *tap)
{
    const Gpt2Config *c = &run->model->config;
    int first = n;

    if (tap_observes(tap))
        first = 0;
    else if (want_logits)
        first = n - 1;
    for (int row = first; row < n; row++) {
        if (!logits_of_row(run, row, tap))
            return false;
        tap_emit(tap, TAP_LN_F, -1, start_pos + row, 1, c->dim, (size_t)c->dim, run->last);
        tap_emit(tap, TAP_LOGITS, -1, start_pos + row, 1, c->vocab_size, (size_t)c->vocab_size,
                 run->logits);
    }
    return true;
}

ErrCode gpt2_forward(Gpt2Run *run, const int32_t *ids, int n, bool want_logits, const Tap *tap,
                     Err *err)
{
    const Gpt2 *m = run->model;
    const int start_pos = run->cache.length;
    const int dim = m->config.dim;
    ErrCode code = check_pass(run, ids, n, err);

    if (code != ERR_OK)
        return code;
    embedding_forward(&m->embedding, run->k, run->x, ids, n, start_pos);
    tap_mark(tap, TAP_PART_EMBEDDING, -1);
    tap_emit(tap, TAP_EMBEDDINGS, -1, start_pos, n, dim, (size_t)dim, run->x);

    for (int layer = 0; layer < m->config.n_layers; layer++) {
        code = transformer_forward(&m->blocks[layer], run->k, run->x, n, start_pos, layer,
                                   &run->cache, &run->room, tap, err);
        if (code != ERR_OK)
            return code;
    }
    if (!finish_pass(run, n, start_pos, want_logits, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    kv_cache_advance(&run->cache, n);
    return ERR_OK;
}

ErrCode gpt2_prefill(Gpt2Run *run, const int32_t *ids, int n, int chunk, const Tap *tap, Err *err)
{
    for (int done = 0; done < n; done += chunk) {
        const int take = n - done < chunk ? n - done : chunk;
        const ErrCode code = gpt2_forward(run, ids + done, take, done + take == n, tap, err);

        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

ErrCode gpt2_row_logits(Gpt2Run *run, int first, int n, float *out, const Tap *tap, Err *err)
{
    const Gpt2 *m = run->model;

    assert(first >= 0 && n >= 1 && n <= run->max_chunk - first);
    layer_norm_forward(&m->ln_f, run->k, run->room.norm,
                       run->x + (size_t)first * (size_t)m->config.dim, n);
    if (!linear_forward(&m->head, run->k, out, run->room.norm, n, run->room.attention.scratch, tap))
        return err_set(err, ERR_CANCELLED, "cancelled");
    return ERR_OK;
}
