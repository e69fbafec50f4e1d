/* backend/cpu_backend.c: a GPT-2 model and its tokenizer as a backend: loading, and what can be
 * asked at any time. Jobs are in cpu_backend_job.c.
 *
 * May include: backend, common, kernels, model, sampling, tokenizer. */
#include "backend/cpu_backend.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu_backend_internal.h"
#include "common/clock.h"

/* Memory gets its pages in pieces, before the first pass or while the worker is idle: the system
 * may take microseconds for one, or milliseconds, and a pass over many heads would wait for all at
 * once.
 */
enum { TOUCH_BYTES = 1 << 16, TOUCH_NS = 500000 };

/* --- loading --- */

static ErrCode init_buffers(CpuBackend *b, Err *err)
{
    const int vocab_size = b->info.vocab_size;
    const size_t n_token = tokenizer_longest_token(b->tokenizer);
    size_t n_decoded, total = 0;

    /* utf8_stream.h: 3 * (n + 3), and 3 more for the flush that may follow. */
    if (n_token > SIZE_MAX / 4 || !size_mul(3, n_token + 4, &n_decoded) ||
        n_decoded > SIZE_MAX - STOP_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "token of %zu bytes: too long", n_token);

    const size_t n_text = STOP_MAX_BYTES + n_decoded;
    ErrCode code = sampler_plan(&total, vocab_size, err);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < 2; i++) /* count_ids and prompt */
        if (!arena_plan(&total, CPU_BACKEND_PROMPT_BYTES, sizeof(int32_t)))
            return err_set(err, ERR_LIMIT, "job buffers: size overflows");
    if (!arena_plan(&total, (size_t)b->info.n_ctx, sizeof(int32_t)) ||
        !arena_plan(&total, n_decoded, 1) || !arena_plan(&total, n_text, 1) ||
        !arena_plan(&total, (size_t)b->model.config.vocab_size, CPU_BACKEND_ROWS * sizeof(float)))
        return err_set(err, ERR_LIMIT, "job buffers: size overflows");
    if ((code = arena_init(&b->buffers, total, "job buffers", err)) != ERR_OK)
        return code;
    b->sampler = sampler_new(&b->buffers, b->run.k, vocab_size);
    b->count_ids = arena_alloc(&b->buffers, CPU_BACKEND_PROMPT_BYTES, sizeof(int32_t));
    b->prompt = arena_alloc(&b->buffers, CPU_BACKEND_PROMPT_BYTES, sizeof(int32_t));
    b->cached_ids = arena_alloc(&b->buffers, (size_t)b->info.n_ctx, sizeof(int32_t));
    b->decoded = arena_alloc(&b->buffers, n_decoded, 1);
    b->text = arena_alloc(&b->buffers, n_text, 1);
    b->echo.rows = arena_alloc(&b->buffers, (size_t)b->model.config.vocab_size,
                               CPU_BACKEND_ROWS * sizeof(float));
    b->scratch = tokenizer_scratch_new(CPU_BACKEND_PROMPT_BYTES);
    if (b->sampler == NULL || b->count_ids == NULL || b->prompt == NULL || b->cached_ids == NULL ||
        b->decoded == NULL || b->text == NULL || b->echo.rows == NULL || b->scratch == NULL)
        return err_set(err, ERR_MEMORY, "job buffers: out of memory");
    return ERR_OK;
}

static ErrCode load_parts(CpuBackend *b, const CpuBackendOptions *o, Err *err)
{
    const Gpt2LoadOptions options = {
        .convert = o->has_type, .type = o->type, .progress = {o->progress, o->progress_ctx}};
    const Kernels *k;
    ErrCode code;

    if ((code = kernels_select(&k, o->isa, err)) != ERR_OK)
        return code;
    if ((code = gpt2_load(&b->model, o->model_path, &options, err)) != ERR_OK)
        return code;
    if ((code = tokenizer_load(&b->tokenizer, b->model.path, err)) != ERR_OK)
        return code;
    code = gpt2_fit_tokenizer(&b->model, tokenizer_vocab_size(b->tokenizer),
                              tokenizer_end_of_text(b->tokenizer), err);
    if (code != ERR_OK)
        return code;

    int n_ctx = o->max_context > 0 ? o->max_context : b->model.config.n_ctx;
    if (o->enough_context > 0 && o->enough_context < n_ctx)
        n_ctx = o->enough_context;
    return gpt2_run_init(&b->run, &b->model, k, n_ctx, CPU_BACKEND_CHUNK, o->kv_type, err);
}

static ErrCode fill_info(CpuBackend *b, const char *name, Err *err)
{
    const ErrCode code = fingerprint_text(&b->model, b->fingerprint, err);

    /* A longer name is cut: it is a label, not a path. */
    (void)snprintf(b->name, sizeof b->name, "%s", name != NULL ? name : b->model.name);
    b->info.model_name = b->name;
    b->info.tokenizer_kind = tokenizer_kind(b->tokenizer);
    b->info.quant_kind = b->model.types;
    b->info.vocab_size = tokenizer_vocab_size(b->tokenizer);
    b->info.n_ctx = b->run.cache.n_ctx;
    b->info.model_bytes = b->model.weight_bytes;
    b->info.fingerprint = b->fingerprint[0] != '\0' ? b->fingerprint : NULL;
    return code;
}

static void backend_free(Backend *base)
{
    CpuBackend *b = (CpuBackend *)base;
    Arena self = b->self;

    tokenizer_scratch_free(b->scratch);
    arena_free(&b->buffers);
    gpt2_run_free(&b->run);
    tokenizer_free(b->tokenizer);
    gpt2_free(&b->model);
    arena_free(&self);
}

/* --- at any time --- */

static const BackendInfo *backend_info(const Backend *base)
{
    return &((const CpuBackend *)base)->info;
}

static int backend_count_tokens(Backend *base, BackendText prompt)
{
    CpuBackend *b = (CpuBackend *)base;

    if (prompt.n_bytes > CPU_BACKEND_PROMPT_BYTES)
        return -1;
    return (int)tokenizer_encode(b->tokenizer, b->scratch, prompt.text, prompt.n_bytes, false,
                                 b->count_ids);
}

static const int32_t *backend_tokenize(Backend *base, BackendText text, bool allow_special,
                                       size_t *n)
{
    CpuBackend *b = (CpuBackend *)base;

    if (text.n_bytes > CPU_BACKEND_PROMPT_BYTES)
        return NULL;
    *n = tokenizer_encode(b->tokenizer, b->scratch, text.text, text.n_bytes, allow_special,
                          b->count_ids);
    return b->count_ids;
}

static const char *backend_token_text(const Backend *base, int id, size_t *n, bool *special)
{
    const CpuBackend *b = (const CpuBackend *)base;

    if (id < 0 || id >= b->info.vocab_size)
        return NULL;
    if (special != NULL)
        *special = tokenizer_is_special(b->tokenizer, id);
    return tokenizer_token(b->tokenizer, id, n);
}

bool cpu_backend_touch_piece(CpuBackend *b)
{
    if (b->n_touched >= b->run.arena.size_bytes)
        return false;
    arena_touch(&b->run.arena, b->n_touched, TOUCH_BYTES);
    b->n_touched += TOUCH_BYTES;
    return true;
}

static int backend_n_prompt_tokens(const Backend *base)
{
    return ((const CpuBackend *)base)->n_prompt;
}

static int backend_n_cached_tokens(const Backend *base)
{
    return ((const CpuBackend *)base)->n_cached;
}

/* Backs the KV cache and the activations with memory before a job needs them: a long prompt would
 * otherwise wait for its pages, some 10 ms at a time. */
static bool backend_idle(Backend *base)
{
    CpuBackend *b = (CpuBackend *)base;
    const uint64_t begin_ns = clock_now_ns();

    while (clock_now_ns() - begin_ns < TOUCH_NS)
        if (!cpu_backend_touch_piece(b))
            return false;
    return true;
}

const int32_t *cpu_backend_prompt_ids(const Backend *base, size_t *n)
{
    const CpuBackend *b = (const CpuBackend *)base;

    *n = (size_t)b->n_prompt;
    return b->prompt;
}

static const BackendOps cpu_backend_ops = {.info = backend_info,
                                           .count_tokens = backend_count_tokens,
                                           .tokenize = backend_tokenize,
                                           .token_text = backend_token_text,
                                           .start = cpu_job_start,
                                           .step = cpu_job_step,
                                           .cancel = cpu_job_cancel,
                                           .n_prompt_tokens = backend_n_prompt_tokens,
                                           .n_cached_tokens = backend_n_cached_tokens,
                                           .idle = backend_idle,
                                           .free = backend_free};

ErrCode cpu_backend_load(Backend **out, const CpuBackendOptions *o, Err *err)
{
    Arena self = {0};
    size_t total = 0;
    ErrCode code;

    if (!arena_plan(&total, 1, sizeof(CpuBackend)))
        return err_set(err, ERR_INTERNAL, "backend: size overflows");
    if ((code = arena_init(&self, total, "backend", err)) != ERR_OK)
        return code;
    CpuBackend *b = arena_alloc(&self, 1, sizeof *b);
    if (b == NULL) {
        arena_free(&self);
        return err_set(err, ERR_MEMORY, "backend: out of memory");
    }
    b->base.ops = &cpu_backend_ops;
    b->self = self;
    b->phase = PHASE_IDLE;
    b->reuse_prefix = !o->no_prefix_cache;
    if ((code = load_parts(b, o, err)) != ERR_OK)
        goto fail;
    if ((code = fill_info(b, o->model_name, err)) != ERR_OK)
        goto fail;
    if ((code = init_buffers(b, err)) != ERR_OK)
        goto fail;
    b->info.memory_bytes = b->info.model_bytes + tokenizer_bytes(b->tokenizer) +
                           b->run.arena.size_bytes + b->buffers.size_bytes;
    *out = &b->base;
    return ERR_OK;
fail:
    backend_free(&b->base);
    return code;
}
