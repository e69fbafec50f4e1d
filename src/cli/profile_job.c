/* cli/profile_job.c: see profile_job.h.
 *
 * May include: backend, common, model, profile, sampling, tokenizer, worker. */
#include "cli/profile_job.h"

#include <string.h>

#include "backend/cpu_backend.h"
#include "common/clock.h"
#include "tokenizer/utf8_stream.h"
#include "worker/events.h"

/* ---- Room ---- */

static size_t longest_token(const Tokenizer *t)
{
    size_t longest = 0;

    for (int id = 0; t != NULL && id < tokenizer_vocab_size(t); id++) {
        size_t n;

        (void)tokenizer_token(t, id, &n);
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Rows of the model beyond the tokenizer's ids are no candidates, as when serving. */
static int n_candidates(const ProfileJob *job)
{
    return job->tokenizer != NULL ? tokenizer_vocab_size(job->tokenizer)
                                  : job->rig->model.config.vocab_size;
}

static ErrCode check_prompt(ProfileJob *job, Err *err)
{
    const Gpt2Config *c = &job->rig->model.config;

    if (n_candidates(job) > c->vocab_size)
        return err_set(err, ERR_FORMAT, "%s: the tokenizer has %d tokens, the model only %d rows",
                       job->rig->model.path, n_candidates(job), c->vocab_size);
    for (int i = 0; i < job->n_prompt; i++)
        if (job->prompt_ids[i] < 0 || job->prompt_ids[i] >= n_candidates(job))
            return err_set(err, ERR_USAGE, "prompt id %d is outside the vocabulary (0..=%d)",
                           (int)job->prompt_ids[i], n_candidates(job) - 1);
    if (job->n_prompt < 1)
        return err_set(err, ERR_LIMIT, "prompt must not be empty");
    if (job->n_prompt > c->n_ctx)
        return err_set(err, ERR_LIMIT, "prompt must be at most %d tokens (got %d)", c->n_ctx,
                       job->n_prompt);
    if (job->n_tokens > c->n_ctx - job->n_prompt + 1)
        job->n_tokens = c->n_ctx - job->n_prompt + 1; /* the last token needs no position */
    return ERR_OK;
}

static ErrCode make_room(ProfileJob *job, Err *err)
{
    const size_t n_tokens = (size_t)job->n_tokens;
    const size_t n_text = 3 * (longest_token(job->tokenizer) + 3); /* utf8_stream.h */
    const size_t n_prompt = job->prompt != NULL ? job->n_prompt_bytes : 0;
    size_t bytes = 0;
    ErrCode code = sampler_plan(&bytes, n_candidates(job), err);

    if (code != ERR_OK)
        return code;
    if (!arena_plan(&bytes, n_tokens, sizeof(int32_t)) ||
        !arena_plan(&bytes, n_tokens, sizeof(uint64_t)) ||
        !arena_plan(&bytes, n_tokens, sizeof(uint64_t)) ||
        !arena_plan(&bytes, n_prompt, sizeof(int32_t)) || !arena_plan(&bytes, n_text, 1))
        return err_set(err, ERR_LIMIT, "a request of this size is too large");
    if ((code = arena_init(&job->room, bytes, "request", err)) != ERR_OK)
        return code;
    job->sampler = sampler_new(&job->room, job->rig->k, n_candidates(job));
    job->ids = arena_alloc(&job->room, n_tokens, sizeof(int32_t));
    job->times = arena_alloc(&job->room, n_tokens, sizeof(uint64_t));
    job->sorted = arena_alloc(&job->room, n_tokens, sizeof(uint64_t));
    if (job->prompt != NULL)
        job->prompt_ids = arena_alloc(&job->room, n_prompt, sizeof(int32_t));
    job->text = arena_alloc(&job->room, n_text, 1);
    if (job->sampler == NULL || job->ids == NULL || job->times == NULL || job->sorted == NULL ||
        job->prompt_ids == NULL || job->text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the request");
    return ERR_OK;
}

ErrCode profile_job_init(ProfileJob *job, KernType kv_type, Err *err)
{
    ErrCode code;

    job->wire = (ProfileWire){.out = -1, .in = -1};
    if (job->prompt != NULL) {
        job->scratch = tokenizer_scratch_new(job->n_prompt_bytes > 0 ? job->n_prompt_bytes : 1);
        if (job->scratch == NULL)
            return err_set(err, ERR_MEMORY, "prompt of %zu bytes: out of memory",
                           job->n_prompt_bytes);
    }
    if ((code = make_room(job, err)) != ERR_OK)
        return code;
    if (job->prompt != NULL)
        job->n_prompt = (int)tokenizer_encode(job->tokenizer, job->scratch, job->prompt,
                                              job->n_prompt_bytes, false, job->prompt_ids);
    if ((code = check_prompt(job, err)) != ERR_OK)
        return code;
    code = gpt2_run_init(&job->rig->run, &job->rig->model, job->rig->k,
                         job->n_prompt + job->n_tokens - 1, CPU_BACKEND_CHUNK, kv_type, err);
    if (code != ERR_OK)
        return code;
    arena_touch(&job->rig->run.arena, 0, job->rig->run.arena.size_bytes); /* as serve does */
    return profile_wire_open(&job->wire, err);
}

void profile_job_free(ProfileJob *job)
{
    profile_wire_close(&job->wire);
    json_buf_free(&job->event);
    tokenizer_scratch_free(job->scratch);
    arena_free(&job->room);
}

/* ---- Run ---- */

static void end_stage(const ProfileWatch *w, int stage)
{
    if (w->profile != NULL)
        profile_stage(w->profile, stage);
    else if (w->memory != NULL)
        memory_look(w->memory, stage);
}

static ErrCode pass(ProfileJob *job, const ProfileWatch *w, const Tap *tap, const int32_t *ids,
                    int n, bool logits, Err *err)
{
    ErrCode code;

    if (w->profile != NULL)
        profile_pass_begin(w->profile, job->rig->run.cache.length, n, logits);
    code = gpt2_forward(&job->rig->run, ids, n, logits, tap, err);
    if (w->profile != NULL)
        profile_pass_end(w->profile);
    return code;
}

static ErrCode compute_prompt(ProfileJob *job, const ProfileWatch *w, const Tap *tap, Err *err)
{
    ErrCode code = ERR_OK;

    if (job->prompt != NULL) {
        (void)tokenizer_encode(job->tokenizer, job->scratch, job->prompt, job->n_prompt_bytes,
                               false, job->prompt_ids);
        end_stage(w, PROFILE_TOKENIZER);
    }
    for (int done = 0; code == ERR_OK && done < job->n_prompt; done += CPU_BACKEND_CHUNK) {
        const int left = job->n_prompt - done;
        const int n = left < CPU_BACKEND_CHUNK ? left : CPU_BACKEND_CHUNK;

        code = pass(job, w, tap, job->prompt_ids + done, n, n == left, err);
    }
    return code;
}

/* Whole characters of the token, [returned]; special tokens have no text. */
static size_t text_of(ProfileJob *job, int id, Utf8Stream *stream)
{
    size_t n;
    const char *bytes = tokenizer_token(job->tokenizer, id, &n);

    if (tokenizer_find(job->tokenizer, bytes, n) != id)
        n = 0;
    return utf8_stream_push(stream, bytes, n, job->text);
}

/* From logits to bytes on their way. */
static ErrCode give_token(ProfileJob *job, const ProfileWatch *w, int i, Utf8Stream *stream,
                          Err *err)
{
    size_t n_text = 0;
    int id = 0;
    ErrCode code = sampler_next(job->sampler, job->rig->run.logits, &id, err);

    if (code != ERR_OK)
        return code;
    end_stage(w, PROFILE_SAMPLING);
    job->ids[i] = (int32_t)id;
    if (job->tokenizer != NULL) {
        n_text = text_of(job, id, stream);
        end_stage(w, PROFILE_TOKENIZER);
    }
    job->event.len = 0;
    events_token(&job->event, job->text, n_text, (uint32_t)i);
    if (job->event.oom)
        return err_set(err, ERR_MEMORY, "out of memory for an event");
    code = profile_wire_send(&job->wire, job->event.data, job->event.len, err);
    end_stage(w, PROFILE_HTTP);
    return code;
}

/* The other end reads, which is the client's work. */
static ErrCode end_token(ProfileJob *job, const ProfileWatch *w, int i, Err *err)
{
    if (w->profile != NULL)
        profile_token(w->profile);
    job->times[i] = clock_now_ns() - job->start_ns;
    const ErrCode code = profile_wire_drain(&job->wire, err);
    job->start_ns = clock_now_ns();
    if (w->profile != NULL)
        profile_skip(w->profile);
    if (w->memory != NULL) {
        memory_skip(w->memory);
        w->memory->steady = true;
    }
    return code;
}

static ErrCode run_request(ProfileJob *job, const ProfileWatch *w, const Tap *tap, Err *err)
{
    Utf8Stream stream = {.n_held = 0};
    ErrCode code = compute_prompt(job, w, tap, err);

    for (int i = 0; code == ERR_OK && i < job->n_tokens; i++) {
        if (i > 0)
            code = pass(job, w, tap, &job->ids[i - 1], 1, true, err);
        if (code == ERR_OK)
            code = give_token(job, w, i, &stream, err);
        if (code == ERR_OK)
            code = end_token(job, w, i, err);
    }
    return code;
}

ErrCode profile_job_run(ProfileJob *job, const ProfileWatch *w, Err *err)
{
    Tap tap = {.yield = NULL};
    ErrCode code;

    gpt2_reset(&job->rig->run);
    sampler_reset(job->sampler, &job->sampling);
    if (w->profile != NULL)
        tap = profile_tap(w->profile);
    else if (w->memory != NULL)
        tap = memory_tap(w->memory, w->tap);
    else if (w->tap != NULL)
        tap = *w->tap;
    job->start_ns = clock_now_ns();
    if (w->profile != NULL)
        profile_begin(w->profile);
    code = run_request(job, w, &tap, err);
    if (w->profile != NULL)
        profile_end(w->profile);
    return code;
}

void profile_job_text(ProfileJob *job, JsonBuf *out)
{
    Utf8Stream stream = {.n_held = 0};

    if (job->tokenizer == NULL)
        return;
    for (int i = 0; i < job->n_tokens; i++) {
        const size_t n = text_of(job, job->ids[i], &stream);

        json_buf_add(out, job->text, n);
    }
    json_buf_add(out, job->text, utf8_stream_flush(&stream, job->text));
}
