/* backend/cpu_backend.c: text, tokens, forward passes, sampling, text again.
 *
 * A job walks through the phases PROMPT (a chunk a step), TOKENS (a token a step) and ENDING (the
 * reason), then IDLE. Sampler, matcher and UTF-8 stage begin anew with each job. The keys and
 * values of a job stay, and the next one takes over those of the tokens that both begin with: a
 * position's keys and values follow from the tokens up to it alone, in whatever chunks they were
 * computed, so the result is the same to the last bit (docs/numerics.md).
 *
 * May include: cache, common, kernels, model, sampling, tokenizer. */
#include "backend/cpu_backend.h"

#include <stdio.h>
#include <string.h>

#include "backend/stop_matcher.h"
#include "cache/kv_cache.h"
#include "common/arena.h"
#include "common/clock.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8_stream.h"

/* The longest prompt in bytes, and so in tokens before the context limit is looked at. */
enum { PROMPT_MAX_BYTES = 4 * BACKEND_MAX_PROMPT_CHARS };

/* Memory gets its pages in pieces, before the first pass or while the worker is idle: the system
 * may take microseconds for one, or milliseconds, and a pass over many heads would wait for all at
 * once.
 */
enum { TOUCH_BYTES = 1 << 16, TOUCH_NS = 500000 };

typedef enum { PHASE_IDLE, PHASE_PROMPT, PHASE_TOKENS, PHASE_ENDING } Phase;

typedef struct {
    Backend base; /* first: a CpuBackend is a Backend */
    Gpt2 model;
    Gpt2Run run;
    Tokenizer *tokenizer;
    TokenizerScratch *scratch;
    Sampler *sampler;
    BackendInfo info;
    char name[GPT2_NAME_BYTES];
    Arena self;    /* holds this struct */
    Arena buffers; /* holds the sampler and what follows */
    /* [PROMPT_MAX_BYTES] each; count_tokens must not touch the prompt of a running job. */
    int32_t *count_ids;
    int32_t *prompt;
    int32_t *cached_ids; /* [n_ctx]: the tokens at positions 0 .. run.cache.length - 1 */
    char *decoded;       /* one token after the UTF-8 stage, and the stage's tail */
    char *text;          /* what the last step gave out */

    bool reuse_prefix;
    size_t n_touched; /* bytes of run.arena that have their pages */

    Phase phase;
    StopReason reason; /* in ENDING */
    int n_prompt, n_prompt_done;
    int n_cached; /* of n_prompt, taken over from the job before */
    int n_limit;  /* tokens that may be generated */
    int n_generated;
    int32_t last_id; /* generated, but not yet computed; -1: run.logits are the next token's */
    Utf8Stream utf8;
    StopMatcher stops;
} CpuBackend;

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
        if (!arena_plan(&total, PROMPT_MAX_BYTES, sizeof(int32_t)))
            return err_set(err, ERR_LIMIT, "job buffers: size overflows");
    if (!arena_plan(&total, (size_t)b->info.n_ctx, sizeof(int32_t)) ||
        !arena_plan(&total, n_decoded, 1) || !arena_plan(&total, n_text, 1))
        return err_set(err, ERR_LIMIT, "job buffers: size overflows");
    if ((code = arena_init(&b->buffers, total, "job buffers", err)) != ERR_OK)
        return code;
    b->sampler = sampler_new(&b->buffers, b->run.k, vocab_size);
    b->count_ids = arena_alloc(&b->buffers, PROMPT_MAX_BYTES, sizeof(int32_t));
    b->prompt = arena_alloc(&b->buffers, PROMPT_MAX_BYTES, sizeof(int32_t));
    b->cached_ids = arena_alloc(&b->buffers, (size_t)b->info.n_ctx, sizeof(int32_t));
    b->decoded = arena_alloc(&b->buffers, n_decoded, 1);
    b->text = arena_alloc(&b->buffers, n_text, 1);
    b->scratch = tokenizer_scratch_new(PROMPT_MAX_BYTES);
    if (b->sampler == NULL || b->count_ids == NULL || b->prompt == NULL || b->cached_ids == NULL ||
        b->decoded == NULL || b->text == NULL || b->scratch == NULL)
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

static void fill_info(CpuBackend *b, const char *name)
{
    /* A longer name is cut: it is a label, not a path. */
    (void)snprintf(b->name, sizeof b->name, "%s", name != NULL ? name : b->model.name);
    b->info.model_name = b->name;
    b->info.tokenizer_kind = tokenizer_kind(b->tokenizer);
    b->info.quant_kind = b->model.types;
    b->info.isa = b->run.k->name;
    b->info.vocab_size = tokenizer_vocab_size(b->tokenizer);
    b->info.n_ctx = b->run.cache.n_ctx;
    b->info.model_bytes = b->model.weight_bytes;
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

/* --- before a job --- */

static const BackendInfo *backend_info(const Backend *base)
{
    return &((const CpuBackend *)base)->info;
}

static int backend_count_tokens(Backend *base, BackendText prompt)
{
    CpuBackend *b = (CpuBackend *)base;

    if (prompt.n_bytes > PROMPT_MAX_BYTES)
        return -1;
    return (int)tokenizer_encode(b->tokenizer, b->scratch, prompt.text, prompt.n_bytes, false,
                                 b->count_ids);
}

static const int32_t *backend_tokenize(Backend *base, BackendText text, bool allow_special,
                                       size_t *n)
{
    CpuBackend *b = (CpuBackend *)base;

    if (text.n_bytes > PROMPT_MAX_BYTES)
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

static ErrCode take_prompt_ids(CpuBackend *b, const BackendRequest *r, Err *err)
{
    for (size_t i = 0; i < r->n_prompt_ids; i++)
        if (r->prompt_ids[i] < 0 || r->prompt_ids[i] >= b->info.vocab_size)
            return err_set(err, ERR_USAGE, "prompt id %d is outside the vocabulary (0..=%d)",
                           (int)r->prompt_ids[i], b->info.vocab_size - 1);
    if (r->n_prompt_ids > (size_t)b->info.n_ctx)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d tokens (got %zu)", b->info.n_ctx,
                       r->n_prompt_ids);
    /* n_ctx may exceed the buffer in principle: the text limit then bounds ids as well. */
    if (r->n_prompt_ids > PROMPT_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d tokens (got %zu)",
                       PROMPT_MAX_BYTES, r->n_prompt_ids);
    memcpy(b->prompt, r->prompt_ids, r->n_prompt_ids * sizeof *r->prompt_ids);
    b->n_prompt = (int)r->n_prompt_ids;
    return ERR_OK;
}

static ErrCode take_prompt_text(CpuBackend *b, const BackendRequest *r, Err *err)
{
    if (r->prompt.n_bytes > PROMPT_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d bytes (got %zu)",
                       PROMPT_MAX_BYTES, r->prompt.n_bytes);

    const size_t n = tokenizer_encode(b->tokenizer, b->scratch, r->prompt.text, r->prompt.n_bytes,
                                      false, b->prompt);
    if (n > (size_t)b->info.n_ctx)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d tokens (got %zu)", b->info.n_ctx,
                       n);
    b->n_prompt = (int)n;
    return ERR_OK;
}

/* The cache keeps what it counts, whatever ended the job: gpt2_forward writes behind the counted
 * positions only, and counts them once every layer has written them. A pass that was stopped half
 * way leaves rows behind that nobody reads before the next pass writes them again. */
static void backend_cancel(Backend *base)
{
    ((CpuBackend *)base)->phase = PHASE_IDLE;
}

/* How many tokens at the beginning of the prompt are in the cache already. The last one is always
 * computed: the logits of the first new token come from its pass. */
static int common_prefix(const CpuBackend *b)
{
    const int n_cached = b->reuse_prefix ? b->run.cache.length : 0;
    int n = 0;

    while (n < n_cached && n < b->n_prompt - 1 && b->prompt[n] == b->cached_ids[n])
        n++;
    return n;
}

static ErrCode backend_start(Backend *base, const BackendRequest *r, Err *err)
{
    CpuBackend *b = (CpuBackend *)base;
    ErrCode code;

    backend_cancel(base);
    b->n_prompt = b->n_cached = 0;
    if ((code = stop_matcher_init(&b->stops, r->stops, r->n_stops, err)) != ERR_OK)
        return code;
    code = r->prompt_ids != NULL ? take_prompt_ids(b, r, err) : take_prompt_text(b, r, err);
    if (code != ERR_OK)
        return code;
    if (b->n_prompt == 0)
        return err_set(err, ERR_LIMIT, "prompt must not be empty");
    if (r->max_tokens < 1)
        return err_set(err, ERR_USAGE, "max_tokens must be at least 1");

    /* The last token needs no position of its own: it is never computed. */
    const int room = b->info.n_ctx - b->n_prompt + 1;
    b->n_limit = r->max_tokens < room ? r->max_tokens : room;
    sampler_reset(b->sampler, &r->sampling);
    b->utf8 = (Utf8Stream){.n_held = 0};
    b->n_prompt_done = b->n_cached = common_prefix(b);
    kv_cache_truncate(&b->run.cache, b->n_cached);
    b->n_generated = 0;
    b->last_id = -1;
    b->reason = STOP_NONE;
    b->phase = PHASE_PROMPT;
    return ERR_OK;
}

/* --- the steps of a job --- */

/* A pass over the next n tokens, which are in the cache afterwards. */
static ErrCode forward(CpuBackend *b, const int32_t *ids, int n, bool want_logits, const Tap *tap,
                       Err *err)
{
    const int start = b->run.cache.length;
    const ErrCode code = gpt2_forward(&b->run, ids, n, want_logits, tap, err);

    if (code == ERR_OK)
        memcpy(b->cached_ids + start, ids, (size_t)n * sizeof *ids);
    return code;
}

/* The next piece of the run's memory gets its pages; false when all of it has them. */
static bool touch_piece(CpuBackend *b)
{
    if (b->n_touched >= b->run.arena.size_bytes)
        return false;
    arena_touch(&b->run.arena, b->n_touched, TOUCH_BYTES);
    b->n_touched += TOUCH_BYTES;
    return true;
}

static ErrCode step_prompt(CpuBackend *b, const Tap *tap, BackendStep *out, Err *err)
{
    const int left = b->n_prompt - b->n_prompt_done;
    const int n = left < CPU_BACKEND_CHUNK ? left : CPU_BACKEND_CHUNK;
    ErrCode code;

    while (touch_piece(b))
        if (!tap_yield(tap))
            return err_set(err, ERR_CANCELLED, "cancelled");
    code = forward(b, b->prompt + b->n_prompt_done, n, n == left, tap, err);
    if (code != ERR_OK)
        return code;
    b->n_prompt_done += n;
    if (n == left)
        b->phase = PHASE_TOKENS;
    out->kind = STEP_PROMPT;
    return ERR_OK;
}

static bool is_end_of_text(const CpuBackend *b, int id)
{
    for (int i = 0; i < b->model.config.n_eos; i++)
        if (b->model.config.eos_ids[i] == id)
            return true;
    return false;
}

/* The bytes of a token as far as they are text: special tokens have none. */
static const char *token_text(const CpuBackend *b, int id, size_t *n)
{
    const char *bytes = tokenizer_token(b->tokenizer, id, n);

    if (tokenizer_is_special(b->tokenizer, id))
        *n = 0;
    return bytes;
}

/* End of text: it is neither sent nor counted; held text goes out first, as one more event. */
static void end_with_eos(CpuBackend *b, BackendStep *out)
{
    const size_t n_tail = utf8_stream_flush(&b->utf8, b->decoded);
    size_t n = stop_matcher_push(&b->stops, b->decoded, n_tail, b->text);

    /* The tail may complete a stop string, which is then cut off; the reason stays EOS, which comes
     * first. */
    n += stop_matcher_flush(&b->stops, b->text + n);
    b->phase = PHASE_ENDING;
    b->reason = STOP_EOS;
    if (n > 0)
        *out = (BackendStep){.kind = STEP_TOKEN, .id = -1, .text = b->text, .n_text = n};
}

/* Text of token id; decides whether it was the last one. */
static void give_token(CpuBackend *b, int id, BackendStep *out)
{
    size_t n_bytes, n;
    const char *bytes = token_text(b, id, &n_bytes);
    const bool at_limit = ++b->n_generated == b->n_limit;

    n = utf8_stream_push(&b->utf8, bytes, n_bytes, b->decoded);
    if (at_limit)
        n += utf8_stream_flush(&b->utf8, b->decoded + n);
    n = stop_matcher_push(&b->stops, b->decoded, n, b->text);
    if (b->stops.matched >= 0) {
        b->reason = STOP_SEQUENCE;
    } else if (at_limit) {
        n += stop_matcher_flush(&b->stops, b->text + n);
        b->reason = STOP_MAX_TOKENS;
    }
    if (b->reason != STOP_NONE)
        b->phase = PHASE_ENDING;
    b->last_id = id;
    *out = (BackendStep){.kind = STEP_TOKEN, .id = id, .text = b->text, .n_text = n};
}

static ErrCode step_token(CpuBackend *b, const Tap *tap, BackendStep *out, Err *err)
{
    ErrCode code;
    int id = 0;

    if (b->last_id >= 0) {
        if ((code = forward(b, &b->last_id, 1, true, tap, err)) != ERR_OK)
            return code;
    }
    /* Only the tokenizer's part of the row: the padding behind it is never chosen. */
    if ((code = sampler_next(b->sampler, b->run.logits, &id, err)) != ERR_OK)
        return code;
    if (is_end_of_text(b, id))
        end_with_eos(b, out);
    else
        give_token(b, id, out);
    return ERR_OK;
}

static void step_end(CpuBackend *b, BackendStep *out)
{
    *out = (BackendStep){.kind = STEP_END, .id = -1, .reason = b->reason};
    if (b->reason == STOP_SEQUENCE) {
        out->matched = b->stops.stops[b->stops.matched].text;
        out->n_matched = b->stops.stops[b->stops.matched].n_bytes;
    }
    b->phase = PHASE_IDLE;
}

static ErrCode backend_step(Backend *base, const Tap *tap, BackendStep *out, Err *err)
{
    CpuBackend *b = (CpuBackend *)base;
    BackendStep step = {.kind = STEP_END, .id = -1};
    ErrCode code = ERR_OK;

    if (b->phase == PHASE_IDLE)
        return err_set(err, ERR_INTERNAL, "step without a job");
    if (b->phase == PHASE_PROMPT)
        code = step_prompt(b, tap, &step, err);
    else if (b->phase == PHASE_TOKENS)
        code = step_token(b, tap, &step, err);
    /* End of text without held text has nothing to send: the end itself is this step. */
    if (code == ERR_OK && b->phase == PHASE_ENDING && step.kind == STEP_END)
        step_end(b, &step);
    if (code != ERR_OK) {
        backend_cancel(base);
        /* Logits that are not finite may come from keys and values that are not. */
        if (code != ERR_CANCELLED)
            gpt2_reset(&b->run);
        return code;
    }
    step.n_prompt_done = b->n_prompt_done;
    *out = step;
    return ERR_OK;
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
        if (!touch_piece(b))
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
                                           .start = backend_start,
                                           .step = backend_step,
                                           .cancel = backend_cancel,
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
    fill_info(b, o->model_name);
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
