/* checkpoint/quantity.c: single layers and whole passes, run the way the recorded values were made.
 *
 * May include: common, model, cache, layers, kernels, tokenizer, eval. */
#include "checkpoint/quantity.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "cache/kv_cache.h"
#include "checkpoint/expect_text.h"
#include "eval/perplexity.h"
#include "kernels/pack.h"
#include "layers/attention/attention.h"
#include "layers/layer_norm.h"
#include "layers/linear.h"

void quantity_token_rows(const Gpt2 *m, const int32_t *ids, int n, float *out)
{
    const size_t dim = (size_t)m->config.dim;

    for (int i = 0; i < n; i++)
        kern_unpack_row(out + (size_t)i * dim, &m->embedding.wte, (size_t)ids[i]);
}

/* Two buffers out of one arena. */
static ErrCode two_buffers(Arena *arena, size_t n_a, float **a, size_t n_b, float **b, Err *err)
{
    size_t total = 0;
    ErrCode code;

    if (!arena_plan(&total, n_a, sizeof **a) || !arena_plan(&total, n_b, sizeof **b))
        return err_set(err, ERR_LIMIT, "a check of %zu values is too large", n_a);
    code = arena_init(arena, total, "recorded values", err);
    if (code != ERR_OK)
        return code;
    *a = arena_alloc(arena, n_a, sizeof **a);
    *b = arena_alloc(arena, n_b, sizeof **b);
    return ERR_OK;
}

ErrCode quantity_layer_norm(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                            Err *err)
{
    const size_t n_values = (size_t)n * (size_t)m->config.dim;
    float *rows, *unused;
    Arena arena = {0};
    const ErrCode code = two_buffers(&arena, n_values, &rows, 0, &unused, err);

    if (code != ERR_OK)
        return code;
    quantity_token_rows(m, ids, n, rows);
    layer_norm_forward(&m->blocks[0].ln_1, k, out, rows, n);
    arena_free(&arena);
    return ERR_OK;
}

ErrCode quantity_c_fc(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                      Err *err)
{
    const size_t dim = (size_t)m->config.dim;
    float *rows, *scratch;
    Arena arena = {0};
    const ErrCode code =
        two_buffers(&arena, (size_t)n * dim, &rows,
                    kern_input_bytes((size_t)n, dim) / sizeof *scratch, &scratch, err);

    if (code != ERR_OK)
        return code;
    quantity_token_rows(m, ids, n, rows);
    (void)linear_forward(&m->blocks[0].ffn.c_fc, k, out, rows, n, scratch, NULL);
    arena_free(&arena);
    return ERR_OK;
}

ErrCode quantity_attention(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                           Err *err)
{
    const size_t n_values = (size_t)n * (size_t)m->config.dim;
    float *rows = NULL, *unused;
    Arena arena = {0};
    Gpt2Run run = {0}; /* for its cache and its room */
    ErrCode code = two_buffers(&arena, n_values, &rows, 0, &unused, err);

    if (code == ERR_OK)
        code = gpt2_run_init(&run, m, k, n, n, KERN_F32, err);
    if (code == ERR_OK) {
        quantity_token_rows(m, ids, n, rows);
        code = attention_forward(&m->blocks[0].attention, k, out, rows, n, 0, 0, &run.cache,
                                 &run.room.attention, NULL, err);
    }
    gpt2_run_free(&run);
    arena_free(&arena);
    return code;
}

/* ---- Whole passes ---- */

typedef struct {
    TapStage stage;
    float *out;
} StageCopy;

static void copy_stage(void *ctx, const TapEvent *e)
{
    const StageCopy *c = ctx;

    if (e->stage != c->stage || e->layer > 0)
        return;
    for (int r = 0; r < e->n_rows; r++)
        memcpy(c->out + (size_t)(e->start_pos + r) * (size_t)e->n_cols,
               e->data + (size_t)r * e->stride, (size_t)e->n_cols * sizeof *c->out);
}

static int chunk_of(int n)
{
    return n < GPT2_MAX_CHUNK ? n : GPT2_MAX_CHUNK;
}

ErrCode quantity_stage(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, TapStage stage,
                       float *out, Err *err)
{
    StageCopy copy = {stage, out};
    const Tap tap = {.ctx = &copy, .observe = copy_stage};
    Gpt2Run run = {0};
    ErrCode code = gpt2_run_init(&run, m, k, n, chunk_of(n), KERN_F32, err);

    assert(stage != TAP_SCORES && stage != TAP_MASKED && stage != TAP_PROBS);
    if (code == ERR_OK)
        code = gpt2_prefill(&run, ids, n, chunk_of(n), &tap, err);
    gpt2_run_free(&run);
    return code;
}

ErrCode quantity_nll(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_rows, int row_len,
                     double *nll, Err *err)
{
    WindowMean mean = {0};
    const WindowsPlan plan = {.models = {m},
                              .n_models = 1,
                              .k = k,
                              .kv_type = KERN_F32,
                              .ids = ids,
                              .n_ids = (size_t)n_rows * (size_t)row_len + 1,
                              .context = row_len,
                              .stride = row_len,
                              .n_vocab = m->config.vocab_size};
    const ErrCode code = perplexity_run(&mean, &plan, err);

    if (code == ERR_OK)
        *nll = window_mean_value(&mean);
    return code;
}

/* ---- Text, weights, sums ---- */

ErrCode quantity_text_ids(const Tokenizer *t, int32_t *ids, int n, Err *err)
{
    int32_t speech[sizeof expect_text];
    const int eot = tokenizer_end_of_text(t);
    TokenizerScratch *scratch;
    const char *at = expect_text;
    int n_ids = 0;

    if (eot < 0)
        return err_set(err, ERR_UNSUPPORTED, "the tokenizer has no <|endoftext|>");
    scratch = tokenizer_scratch_new(sizeof expect_text);
    if (scratch == NULL)
        return err_set(err, ERR_MEMORY, "recorded text: out of memory");
    while (n_ids < n && *at != '\0') {
        const char *blank = strstr(at, "\n\n");
        const size_t n_bytes = blank != NULL ? (size_t)(blank - at) + 2 : strlen(at);
        const size_t n_speech = tokenizer_encode(t, scratch, at, n_bytes, false, speech);

        ids[n_ids++] = (int32_t)eot;
        for (size_t i = 0; i < n_speech && n_ids < n; i++)
            ids[n_ids++] = speech[i];
        at += n_bytes;
    }
    tokenizer_scratch_free(scratch);
    if (n_ids < n)
        return err_set(err, ERR_FORMAT, "the recorded text has %d tokens, expected %d", n_ids, n);
    return ERR_OK;
}

float quantity_query_bias(const Gpt2 *m)
{
    const float *bias = m->blocks[0].attention.qkv.c_attn.bias;
    float max = 0.0f;

    for (int i = 0; i < m->config.dim; i++)
        max = fmaxf(max, fabsf(bias[i]));
    return max;
}

float quantity_cache_shift(const float *k, int dim)
{
    float max = 0.0f;

    for (int i = 0; i < dim; i++) {
        max = fmaxf(max, fabsf(k[i]));
        max = fmaxf(max, fabsf(k[i] - k[dim + i]));
    }
    return max;
}

ErrCode quantity_norm_gain(const Gpt2 *m, const Kernels *k, const float *x, int n, float *gain,
                           Err *err)
{
    const size_t dim = (size_t)m->config.dim, n_values = (size_t)n * dim;
    LayerNorm ln = m->blocks[0].ln_1;
    float *y, *zeros, max = 0.0f;
    Arena arena = {0};
    const ErrCode code = two_buffers(&arena, n_values, &y, dim, &zeros, err);

    if (code != ERR_OK)
        return code;
    ln.beta = zeros; /* an arena starts zeroed */
    layer_norm_forward(&ln, k, y, x, n);
    for (size_t i = 0; i < n_values; i++)
        max = fmaxf(max, fabsf(y[i]));
    *gain = max;
    arena_free(&arena);
    return ERR_OK;
}

double quantity_mean(const float *x, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / (double)n;
}
