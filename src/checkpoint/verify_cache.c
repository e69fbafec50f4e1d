/* checkpoint/verify_cache.c: checkpoint 3: what the KV cache gives back, in any way of filling it.
 *
 * May include: common, model, cache, kernels, sampling. */
#include "checkpoint/verify_parts.h"

#include "cache/kv_cache.h"
#include "sampling/argmax.h"

enum {
    SINGLE_STEPS =
        32 /* prompts up to this long are repeated token by token, longer ones in small chunks */
};

/* k and v of all layers and of n rows, one layer after the other. */
typedef struct {
    Arena arena;
    float *k, *v; /* [n_layers, n_rows, dim] */
    CompareView k_view, v_view;
} CacheCopy;

static ErrCode copy_cache(CacheCopy *copy, const KvCache *cache, int n_rows, Err *err)
{
    const size_t row = (size_t)cache->n_heads * (size_t)cache->head_dim;
    const size_t layer = (size_t)n_rows * row, n = (size_t)cache->n_layers * layer;
    const CompareView view = {.n_dims = 4,
                              .dims = {(size_t)cache->n_layers, (size_t)n_rows,
                                       (size_t)cache->n_heads, (size_t)cache->head_dim}};
    size_t total = 0;
    ErrCode code;

    if (!arena_plan(&total, n, sizeof(float)) || !arena_plan(&total, n, sizeof(float)))
        return err_set(err, ERR_LIMIT, "a copy of the KV cache is too large");
    code = arena_init(&copy->arena, total, "copy of the KV cache", err);
    if (code != ERR_OK)
        return code;
    copy->k = arena_alloc(&copy->arena, n, sizeof(float));
    copy->v = arena_alloc(&copy->arena, n, sizeof(float));
    if (copy->k == NULL || copy->v == NULL)
        return err_set(err, ERR_MEMORY, "copy of the KV cache: out of memory");
    for (int i = 0; i < cache->n_layers; i++)
        kv_cache_read(cache, i, copy->k + (size_t)i * layer, copy->v + (size_t)i * layer, n_rows);
    copy->k_view = view;
    copy->v_view = view;
    copy->k_view.data = copy->k;
    copy->v_view.data = copy->v;
    return ERR_OK;
}

/* Every row of every layer of two caches; the first tensor that differs is reported. */
static void same_cache(VerdictRow *row, const CacheCopy *a, const CacheCopy *b)
{
    verify_same_bits(row, &a->k_view, &b->k_view);
    if (row->verdict == VERDICT_PASS)
        verify_same_bits(row, &a->v_view, &b->v_view);
}

static void read_back(Verify *v, const char *name, const char *stage, const char *cached)
{
    verify_same_bits(verify_own_row(v, 3, name), &capture_find(&v->capture, cached)->view,
                     &capture_find(&v->capture, stage)->view);
}

/* The next token must only add a row: rows 0..T-1 stay, row T is no longer the zeros of an unused
 * position. */
static ErrCode one_more_step(Verify *v, const CacheCopy *before, Err *err)
{
    VerdictRow *row = verify_own_row(v, 3, "one more step keeps all rows");
    Gpt2Run *run = &v->capture.run;
    CacheCopy after = {.k = NULL};
    int id = 0;
    ErrCode code;

    if (run->cache.length == run->cache.n_ctx) {
        verdict_set_note(row, "the prompt fills the context");
        return ERR_OK;
    }
    code = sampling_argmax(&id, run->logits, v->m->config.vocab_size, err);
    if (code == ERR_OK)
        code = gpt2_forward(run, &(int32_t){id}, 1, false, NULL, err);
    if (code == ERR_OK)
        code = copy_cache(&after, &run->cache, v->capture.n_ids, err);
    if (code == ERR_OK)
        same_cache(row, before, &after);
    arena_free(&after.arena);
    if (code == ERR_OK && row->verdict == VERDICT_PASS)
        verdict_set_bool(row, run->cache.length == v->capture.n_ids + 1,
                         "the cache holds %d rows, expected %d", run->cache.length,
                         v->capture.n_ids + 1);
    return code;
}

/* A fresh cache reads zeros, and the prompt in small pieces fills it with the same bits. */
static ErrCode piece_by_piece(Verify *v, const CacheCopy *whole, Err *err)
{
    const int n_ids = v->capture.n_ids, chunk = n_ids <= SINGLE_STEPS ? 1 : 7;
    VerdictRow *fresh = verify_own_row(v, 3, "unused cache reads zeros");
    VerdictRow *pieces = verify_own_row(
        v, 3, chunk == 1 ? "token by token equals one pass" : "7 tokens a pass equal one pass");
    CacheCopy zeros = {.k = NULL}, copy = {.k = NULL};
    Gpt2Run run = {0};
    ErrCode code = gpt2_run_init(&run, v->m, v->k, n_ids, chunk, KERN_F32, err);

    if (code == ERR_OK)
        code = copy_cache(&zeros, &run.cache, n_ids, err);
    if (code == ERR_OK) {
        const size_t n = compare_count(&zeros.k_view);
        bool all_zero = true;

        for (size_t i = 0; i < n; i++)
            all_zero = all_zero && zeros.k[i] == 0.0f && zeros.v[i] == 0.0f;
        verdict_set_bool(fresh, all_zero, "a fresh cache is not zero");
        code = gpt2_prefill(&run, v->capture.ids, n_ids, chunk, NULL, err);
    }
    if (code == ERR_OK)
        code = copy_cache(&copy, &run.cache, n_ids, err);
    if (code == ERR_OK)
        same_cache(pieces, &copy, whole);
    arena_free(&copy.arena);
    arena_free(&zeros.arena);
    gpt2_run_free(&run);
    return code;
}

ErrCode verify_cache(Verify *v, Err *err)
{
    CacheCopy copy = {.k = NULL};
    ErrCode code = copy_cache(&copy, &v->capture.run.cache, v->capture.n_ids, err);

    read_back(v, "read-back of k equals checkpoint 2", "checkpoint_02_k", "checkpoint_03_k_cache");
    read_back(v, "read-back of v equals checkpoint 2", "checkpoint_02_v", "checkpoint_03_v_cache");
    if (code == ERR_OK)
        code = piece_by_piece(v, &copy, err);
    if (code == ERR_OK)
        code = one_more_step(v, &copy, err);
    arena_free(&copy.arena);
    return code;
}
