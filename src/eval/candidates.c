/* eval/candidates.c: see candidates.h.
 *
 * May include: common, eval, kernels, model, sampling. */
#include "eval/candidates.h"

#include <math.h>

#include "eval/distribution.h"
#include "sampling/argmax.h"
#include "sampling/likelihood.h"

/* Logits of the prompt computed in one product. */
enum { GROUP_ROWS = KERN_TILE_TOKENS };

ErrCode candidates_row(CandidateRow *out, const float *logits, int n, int n_best, int32_t id,
                       Err *err)
{
    int32_t best[CANDIDATES_MAX];
    const ErrCode code = sampling_check_finite(logits, n, err);

    if (code != ERR_OK)
        return code;
    const double log_sum = likelihood_log_sum(logits, n);
    const double log_p = (double)logits[id] - log_sum;

    *out = (CandidateRow){.id = id,
                          .rank = distribution_rank(logits, n, id),
                          .probability = likelihood_exp(log_p),
                          .surprise_bits = fmax(-log_p, 0.0) / log(2.0),
                          .entropy_bits = distribution_entropy(logits, n),
                          .drawn = NAN,
                          .n_best = n_best};
    likelihood_best(logits, n, n_best, best);
    for (int i = 0; i < n_best; i++)
        out->best[i] = (Candidate){best[i], likelihood_exp((double)logits[best[i]] - log_sum)};
    return ERR_OK;
}

typedef struct {
    const CandidatesOptions *o;
    Candidates *out;
    Gpt2Run run;
    Sampler *sampler;
    float *logits; /* [GROUP_ROWS, vocab_size] */
    Tap tap;
    int n_best, n_limit; /* tokens that may be generated */
    int n_done;          /* tokens that were computed or generated */
} Work;

static bool go_on(void *ctx)
{
    const Work *w = ctx;
    const Gpt2Progress *progress = &w->o->progress;

    return progress->progress == NULL ||
           progress->progress(progress->ctx,
                              (double)w->n_done / (double)(w->o->n_prompt + w->n_limit));
}

static ErrCode check_options(const CandidatesOptions *o, Err *err)
{
    if (o->n_prompt < 1)
        return err_set(err, ERR_USAGE, "prompt must not be empty");
    if (o->n_prompt > o->model->config.n_ctx)
        return err_set(err, ERR_USAGE, "prompt must be at most %d tokens (got %d)",
                       o->model->config.n_ctx, o->n_prompt);
    if (o->max_tokens < 1)
        return err_set(err, ERR_USAGE, "max_tokens must be at least 1");
    for (int i = 0; i < o->n_prompt; i++)
        if (o->prompt[i] < 0 || o->prompt[i] >= o->n_vocab)
            return err_set(err, ERR_USAGE, "prompt id %d is outside the vocabulary (0..=%d)",
                           (int)o->prompt[i], o->n_vocab - 1);
    return ERR_OK;
}

static ErrCode open_work(Work *w, Err *err)
{
    const CandidatesOptions *o = w->o;
    const Gpt2Config *c = &o->model->config;
    const int chunk = o->n_prompt < GPT2_MAX_CHUNK ? o->n_prompt : GPT2_MAX_CHUNK;
    const int room = c->n_ctx - o->n_prompt + 1; /* the last token is never computed */
    const size_t vocab = (size_t)c->vocab_size;
    size_t total = 0;
    ErrCode code;

    w->n_best = o->n_best < o->n_vocab ? o->n_best : o->n_vocab;
    w->n_limit = o->max_tokens < room ? o->max_tokens : room;
    w->tap = (Tap){.ctx = w, .yield = go_on};
    const size_t n_rows = (size_t)w->n_limit + (size_t)(o->with_prompt ? o->n_prompt : 0);
    code = sampler_plan(&total, o->n_vocab, err);
    if (code != ERR_OK)
        return code;
    if (!arena_plan(&total, n_rows, sizeof *w->out->rows) ||
        !arena_plan(&total, vocab, GROUP_ROWS * sizeof *w->logits))
        return err_set(err, ERR_LIMIT, "%d tokens of this model are too many", w->n_limit);
    code = arena_init(&w->out->arena, total, "candidates", err);
    if (code != ERR_OK)
        return code;
    w->sampler = sampler_new(&w->out->arena, o->k, o->n_vocab);
    w->out->rows = arena_alloc(&w->out->arena, n_rows, sizeof *w->out->rows);
    w->logits = arena_alloc(&w->out->arena, vocab, GROUP_ROWS * sizeof *w->logits);
    if (w->sampler == NULL || w->out->rows == NULL || w->logits == NULL)
        return err_set(err, ERR_MEMORY, "candidates: out of memory");
    sampler_reset(w->sampler, &o->sampling);
    return gpt2_run_init(&w->run, o->model, o->k, o->n_prompt + w->n_limit - 1, chunk, o->kv_type,
                         err);
}

static ErrCode add_row(Work *w, const float *logits, int32_t id, Err *err)
{
    Candidates *out = w->out;

    return candidates_row(&out->rows[out->n_rows++], logits, w->o->n_vocab, w->n_best, id, err);
}

/* Rows of the prompt's tokens that the last pass predicts; it began at position start. */
static ErrCode look_back(Work *w, int start, int n, Err *err)
{
    const int last = w->o->n_prompt - 1; /* predicts the first new token */
    const size_t vocab = (size_t)w->o->model->config.vocab_size;
    const int n_rows = start + n > last ? last - start : n;
    ErrCode code = ERR_OK;

    for (int row = 0; code == ERR_OK && row < n_rows; row += GROUP_ROWS) {
        const int take = n_rows - row < GROUP_ROWS ? n_rows - row : GROUP_ROWS;

        code = gpt2_row_logits(&w->run, row, take, w->logits, &w->tap, err);
        for (int r = 0; code == ERR_OK && r < take; r++)
            code =
                add_row(w, w->logits + (size_t)r * vocab, w->o->prompt[start + row + r + 1], err);
    }
    return code;
}

static ErrCode read_prompt(Work *w, Err *err)
{
    const CandidatesOptions *o = w->o;
    ErrCode code = ERR_OK;
    int n;

    for (int start = 0; code == ERR_OK && start < o->n_prompt; start += n) {
        const int left = o->n_prompt - start;

        n = left < w->run.max_chunk ? left : w->run.max_chunk;
        code = gpt2_forward(&w->run, o->prompt + start, n, n == left, &w->tap, err);
        if (code == ERR_OK && o->with_prompt)
            code = look_back(w, start, n, err);
        w->n_done += n;
    }
    w->out->n_prompt_rows = w->out->n_rows;
    return code;
}

static bool is_end_of_text(const Gpt2Config *c, int id)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id)
            return true;
    return false;
}

static ErrCode generate(Work *w, Err *err)
{
    Candidates *out = w->out;
    int32_t id = 0;

    for (int i = 0; i < w->n_limit && !out->ended; i++, w->n_done++) {
        ErrCode code = ERR_OK;
        int chosen = 0;

        if (i > 0)
            code = gpt2_forward(&w->run, &id, 1, true, &w->tap, err);
        if (code == ERR_OK)
            code = sampler_next(w->sampler, w->run.logits, &chosen, err);
        id = (int32_t)chosen;
        if (code == ERR_OK)
            code = add_row(w, w->run.logits, id, err);
        if (code != ERR_OK)
            return code;
        out->rows[out->n_rows - 1].drawn = (double)sampler_probability(w->sampler, chosen);
        out->ended = is_end_of_text(&w->o->model->config, chosen);
    }
    return ERR_OK;
}

ErrCode candidates_run(Candidates *out, const CandidatesOptions *o, Err *err)
{
    Work w = {.o = o, .out = out};
    ErrCode code = check_options(o, err);

    *out = (Candidates){.rows = NULL};
    if (code == ERR_OK)
        code = open_work(&w, err);
    if (code == ERR_OK)
        code = read_prompt(&w, err);
    if (code == ERR_OK)
        code = generate(&w, err);
    gpt2_run_free(&w.run);
    return code;
}

void candidates_free(Candidates *c)
{
    arena_free(&c->arena);
    *c = (Candidates){.rows = NULL};
}
