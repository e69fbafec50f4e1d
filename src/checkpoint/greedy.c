/* checkpoint/greedy.c: what the worker does for a request at temperature 0, in thirty lines.
 *
 * May include: common, model, kernels, sampling, tokenizer. */
#include "checkpoint/greedy.h"

#include <string.h>

#include "sampling/sampler.h"
#include "tokenizer/utf8_stream.h"

static ErrCode make_sampler(Arena *arena, Sampler **out, const Gpt2 *m, const Kernels *k, Err *err)
{
    SamplingParams params = sampling_defaults();
    size_t total = 0;
    ErrCode code = sampler_plan(&total, m->config.vocab_size, err);

    if (code == ERR_OK)
        code = arena_init(arena, total, "sampler", err);
    if (code != ERR_OK)
        return code;
    *out = sampler_new(arena, k, m->config.vocab_size);
    if (*out == NULL)
        return err_set(err, ERR_MEMORY, "sampler: out of memory");
    params.temperature = 0.0f;
    sampler_reset(*out, &params);
    return ERR_OK;
}

static ErrCode generate(Gpt2Run *run, Sampler *s, const int32_t *prompt, int n_prompt, int32_t *ids,
                        int n, Err *err)
{
    ErrCode code = gpt2_prefill(run, prompt, n_prompt, run->max_chunk, NULL, err);

    for (int i = 0; code == ERR_OK && i < n; i++) {
        int id = 0;

        code = sampler_next(s, run->logits, &id, err);
        ids[i] = (int32_t)id;
        if (code == ERR_OK && i + 1 < n)
            code = gpt2_forward(run, &ids[i], 1, true, NULL, err);
    }
    return code;
}

ErrCode greedy_continue(const Gpt2 *m, const Kernels *k, const int32_t *prompt, int n_prompt,
                        int32_t *ids, int n, Err *err)
{
    const int chunk = n_prompt < GPT2_MAX_CHUNK ? n_prompt : GPT2_MAX_CHUNK;
    Sampler *sampler = NULL;
    Arena arena = {0};
    Gpt2Run run = {0};
    ErrCode code;

    if (n_prompt < 1 || n < 1)
        return err_set(err, ERR_USAGE, "%d prompt tokens and %d new ones: at least one of each",
                       n_prompt, n);
    if (n_prompt > m->config.n_ctx || n - 1 > m->config.n_ctx - n_prompt)
        return err_set(err, ERR_LIMIT, "%d prompt tokens and %d new ones exceed a context of %d",
                       n_prompt, n, m->config.n_ctx);
    code = make_sampler(&arena, &sampler, m, k, err);
    if (code == ERR_OK)
        code = gpt2_run_init(&run, m, k, n_prompt + n - 1, chunk, KERN_F32, err);
    if (code == ERR_OK)
        code = generate(&run, sampler, prompt, n_prompt, ids, n, err);
    gpt2_run_free(&run);
    arena_free(&arena);
    return code;
}

ErrCode greedy_text(const Tokenizer *t, const int32_t *ids, int n, JsonBuf *out, Err *err)
{
    Utf8Stream stream = {{0}, 0};
    char whole[4 * 256];

    for (int i = 0; i < n; i++) {
        const char *bytes;
        size_t n_bytes;

        if (ids[i] < 0 || ids[i] >= tokenizer_vocab_size(t))
            return err_set(err, ERR_USAGE, "token id %d: the tokenizer has 0 to %d", (int)ids[i],
                           tokenizer_vocab_size(t) - 1);
        bytes = tokenizer_token(t, ids[i], &n_bytes);
        while (n_bytes > 0) { /* tokens have no longest length, so in pieces */
            const size_t piece = n_bytes < 256 ? n_bytes : 256;

            json_buf_add(out, whole, utf8_stream_push(&stream, bytes, piece, whole));
            bytes += piece;
            n_bytes -= piece;
        }
    }
    json_buf_add(out, whole, utf8_stream_flush(&stream, whole));
    return out->oom ? err_set(err, ERR_MEMORY, "the text of %d tokens: out of memory", n) : ERR_OK;
}

ErrCode greedy_encode(const Tokenizer *t, const char *text, size_t n_bytes, Arena *room,
                      const int32_t **ids, int *n_ids, Err *err)
{
    TokenizerScratch *scratch;
    int32_t *out;
    ErrCode code;

    if (n_bytes > GREEDY_MAX_TEXT_BYTES)
        return err_set(err, ERR_LIMIT, "prompt of %zu bytes, expected at most %d", n_bytes,
                       (int)GREEDY_MAX_TEXT_BYTES);
    code = arena_init(room, (n_bytes + 1) * sizeof *out, "prompt", err);
    if (code != ERR_OK)
        return code;
    out = arena_alloc(room, n_bytes, sizeof *out);
    scratch = tokenizer_scratch_new(n_bytes > 0 ? n_bytes : 1);
    if (scratch == NULL)
        return err_set(err, ERR_MEMORY, "prompt of %zu bytes: out of memory", n_bytes);
    *n_ids = (int)tokenizer_encode(t, scratch, text, n_bytes, false, out);
    *ids = out;
    tokenizer_scratch_free(scratch);
    return ERR_OK;
}
