/* backend/cpu_backend_job.c: one job: prompt, tokens, the end.
 *
 * A job walks through the phases PROMPT (a chunk a step, and a token of the echo a step), TOKENS (a
 * token a step) and ENDING (the reason), then IDLE. Sampler, matcher and UTF-8 stage begin anew
 * with each job. The keys and values of a job stay, and the next one takes over those of the tokens
 * that both begin with: a position's keys and values follow from the tokens up to it alone, in
 * whatever chunks they were computed, so the result is the same to the last bit (docs/numerics.md).
 *
 * May include: backend, cache, common, kernels, model, sampling, tokenizer. */
#include <string.h>

#include "backend/cpu_backend.h"
#include "backend/cpu_backend_internal.h"
#include "backend/scores.h"
#include "cache/kv_cache.h"

/* --- before a job --- */

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
    if (r->n_prompt_ids > CPU_BACKEND_PROMPT_BYTES)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d tokens (got %zu)",
                       CPU_BACKEND_PROMPT_BYTES, r->n_prompt_ids);
    memcpy(b->prompt, r->prompt_ids, r->n_prompt_ids * sizeof *r->prompt_ids);
    b->n_prompt = (int)r->n_prompt_ids;
    return ERR_OK;
}

static ErrCode take_prompt_text(CpuBackend *b, const BackendRequest *r, Err *err)
{
    if (r->prompt.n_bytes > CPU_BACKEND_PROMPT_BYTES)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d bytes (got %zu)",
                       CPU_BACKEND_PROMPT_BYTES, r->prompt.n_bytes);

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
void cpu_job_cancel(Backend *base)
{
    ((CpuBackend *)base)->phase = PHASE_IDLE;
}

/* How many tokens at the beginning of the prompt are in the cache already. The last one is always
 * computed: the logits of the first new token come from its pass. Scores of the prompt need the
 * passes of all its tokens. */
static int common_prefix(const CpuBackend *b)
{
    const bool reuse = b->reuse_prefix && !(b->echo.wanted && b->want_scores);
    const int n_cached = reuse ? b->run.cache.length : 0;
    int n = 0;

    while (n < n_cached && n < b->n_prompt - 1 && b->prompt[n] == b->cached_ids[n])
        n++;
    return n;
}

static ErrCode check_numbers(const BackendRequest *r, Err *err)
{
    if (r->max_tokens < 1 && !(r->score_prompt && r->max_tokens == 0))
        return err_set(err, ERR_USAGE, "max_tokens must be at least %d (got %d)",
                       r->score_prompt ? 0 : 1, r->max_tokens);
    if (r->want_scores && (r->n_best < 0 || r->n_best > BACKEND_MAX_LOGPROBS))
        return err_set(err, ERR_USAGE, "logprobs must be 0 to %d (got %d)", BACKEND_MAX_LOGPROBS,
                       r->n_best);
    return ERR_OK;
}

/* The ranges of numbers are the caller's matter; an id is an index here. */
static ErrCode check_bias(const CpuBackend *b, const SamplingParams *p, Err *err)
{
    if (p->n_bias < 0 || p->n_bias > SAMPLING_MAX_BIAS)
        return err_set(err, ERR_USAGE, "logit bias must have at most %d tokens (got %d)",
                       SAMPLING_MAX_BIAS, p->n_bias);
    for (int i = 0; i < p->n_bias; i++)
        if (p->bias[i].id < 0 || p->bias[i].id >= b->info.vocab_size)
            return err_set(err, ERR_USAGE, "logit bias: id %d is outside the vocabulary (0..=%d)",
                           (int)p->bias[i].id, b->info.vocab_size - 1);
    return ERR_OK;
}

static ErrCode check_request(CpuBackend *b, const BackendRequest *r, Err *err)
{
    ErrCode code = stop_matcher_init(&b->stops, r->stops, r->n_stops, err);

    if (code == ERR_OK)
        code = r->prompt_ids != NULL ? take_prompt_ids(b, r, err) : take_prompt_text(b, r, err);
    if (code == ERR_OK && b->n_prompt == 0)
        code = err_set(err, ERR_LIMIT, "prompt must not be empty");
    if (code == ERR_OK)
        code = check_numbers(r, err);
    if (code == ERR_OK)
        code = check_bias(b, &r->sampling, err);
    return code;
}

ErrCode cpu_job_start(Backend *base, const BackendRequest *r, Err *err)
{
    CpuBackend *b = (CpuBackend *)base;

    cpu_job_cancel(base);
    b->n_prompt = b->n_cached = 0;
    const ErrCode code = check_request(b, r, err);
    if (code != ERR_OK)
        return code;

    /* The last token needs no position of its own: it is never computed. */
    const int room = b->info.n_ctx - b->n_prompt + 1;
    b->n_limit = r->max_tokens < room ? r->max_tokens : room;
    b->want_scores = r->want_scores;
    b->n_best = r->n_best;
    b->echo = (Echo){.wanted = r->score_prompt, .rows = b->echo.rows};
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

/* Whether the echo has a token to give before more of the prompt is computed. The token behind a
 * position gets its scores from that position's logits, for which the pass over it must be the last
 * one. */
static bool echo_is_due(const CpuBackend *b)
{
    const Echo *e = &b->echo;

    return e->wanted && e->n_given < b->n_prompt &&
           (!b->want_scores || e->n_given <= b->n_prompt_done);
}

/* Logits of the position, and of those behind it as far as they are computed and wanted. */
static ErrCode compute_rows(CpuBackend *b, int position, const Tap *tap, Err *err)
{
    Echo *e = &b->echo;
    const int start = b->n_prompt_done - b->n_last_pass;
    const int end = b->n_prompt_done < b->n_prompt ? b->n_prompt_done : b->n_prompt - 1;

    e->first_row = position;
    e->n_rows = end - position < CPU_BACKEND_ROWS ? end - position : CPU_BACKEND_ROWS;
    return gpt2_row_logits(&b->run, position - start, e->n_rows, e->rows, tap, err);
}

static ErrCode score_prompt_token(CpuBackend *b, const Tap *tap, Err *err)
{
    Echo *e = &b->echo;
    const int position = e->n_given - 1;

    if (position >= e->first_row + e->n_rows) {
        const ErrCode code = compute_rows(b, position, tap, err);
        if (code != ERR_OK)
            return code;
    }
    const size_t row = (size_t)(position - e->first_row);
    return scores_of_row(&b->scores, e->rows + row * (size_t)b->model.config.vocab_size,
                         b->info.vocab_size, b->n_best, b->prompt[e->n_given], err);
}

/* The next token of the prompt. */
static ErrCode step_echo(CpuBackend *b, const Tap *tap, BackendStep *out, Err *err)
{
    Echo *e = &b->echo;
    const int id = (int)b->prompt[e->n_given];
    const bool scored = b->want_scores && e->n_given > 0;
    size_t n_bytes, n;

    if (scored) {
        const ErrCode code = score_prompt_token(b, tap, err);
        if (code != ERR_OK)
            return code;
    }
    const char *bytes = tokenizer_token(b->tokenizer, id, &n_bytes);
    n = utf8_stream_push(&e->utf8, bytes, n_bytes, b->decoded);
    if (++e->n_given == b->n_prompt)
        n += utf8_stream_flush(&e->utf8, b->decoded + n);
    *out = (BackendStep){.kind = STEP_PROMPT_TOKEN,
                         .id = id,
                         .text = b->decoded,
                         .n_text = n,
                         .scores = scored ? &b->scores : NULL};
    return ERR_OK;
}

static ErrCode step_chunk(CpuBackend *b, const Tap *tap, BackendStep *out, Err *err)
{
    const int left = b->n_prompt - b->n_prompt_done;
    const int n = left < CPU_BACKEND_CHUNK ? left : CPU_BACKEND_CHUNK;
    ErrCode code;

    while (cpu_backend_touch_piece(b))
        if (!tap_yield(tap))
            return err_set(err, ERR_CANCELLED, "cancelled");
    code = forward(b, b->prompt + b->n_prompt_done, n, n == left && b->n_limit > 0, tap, err);
    if (code != ERR_OK)
        return code;
    b->n_prompt_done += n;
    b->n_last_pass = n;
    out->kind = STEP_PROMPT;
    return ERR_OK;
}

/* An echo alone, without scores, computes nothing. */
static ErrCode step_prompt(CpuBackend *b, const Tap *tap, BackendStep *out, Err *err)
{
    const bool compute = b->n_limit > 0 || b->want_scores;
    const ErrCode code =
        echo_is_due(b) ? step_echo(b, tap, out, err) : step_chunk(b, tap, out, err);

    if (code != ERR_OK || echo_is_due(b) || (compute && b->n_prompt_done < b->n_prompt))
        return code;
    b->phase = PHASE_TOKENS;
    if (b->n_limit == 0) {
        b->phase = PHASE_ENDING;
        b->reason = STOP_MAX_TOKENS;
    }
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

/* End of text: no token of the text, so the last step tells of it; held text goes out first, as one
 * more event. */
static void end_with_eos(CpuBackend *b, int id, BackendStep *out)
{
    const size_t n_tail = utf8_stream_flush(&b->utf8, b->decoded);
    size_t n = stop_matcher_push(&b->stops, b->decoded, n_tail, b->text);

    /* The tail may complete a stop string, which is then cut off; the reason stays EOS, which comes
     * first. */
    n += stop_matcher_flush(&b->stops, b->text + n);
    b->phase = PHASE_ENDING;
    b->reason = STOP_EOS;
    b->last_id = id;
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
    if (b->want_scores)
        code = scores_of_row(&b->scores, b->run.logits, b->info.vocab_size, b->n_best, id, err);
    if (code != ERR_OK)
        return code;
    if (is_end_of_text(b, id)) {
        end_with_eos(b, id, out);
        return ERR_OK;
    }
    give_token(b, id, out);
    out->scores = b->want_scores ? &b->scores : NULL;
    return ERR_OK;
}

static void step_end(CpuBackend *b, BackendStep *out)
{
    *out = (BackendStep){.kind = STEP_END, .id = -1, .text = "", .reason = b->reason};
    if (b->reason == STOP_EOS) {
        out->id = b->last_id;
        out->scores = b->want_scores ? &b->scores : NULL;
    }
    if (b->reason == STOP_SEQUENCE) {
        out->matched = b->stops.stops[b->stops.matched].text;
        out->n_matched = b->stops.stops[b->stops.matched].n_bytes;
    }
    b->phase = PHASE_IDLE;
}

ErrCode cpu_job_step(Backend *base, const Tap *tap, BackendStep *out, Err *err)
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
        cpu_job_cancel(base);
        /* Logits that are not finite may come from keys and values that are not. */
        if (code != ERR_CANCELLED)
            gpt2_reset(&b->run);
        return code;
    }
    step.n_prompt_done = b->n_prompt_done;
    *out = step;
    return ERR_OK;
}
