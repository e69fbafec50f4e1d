/* eval/perplexity.c: see perplexity.h.
 *
 * May include: common, eval, kernels, model, tokenizer. */
#include "eval/perplexity.h"

#include <assert.h>
#include <math.h>

#include "eval/distribution.h"

typedef struct {
    const WindowsPlan *plan;
    WindowMean nll;
} Sum;

static void add_row(void *ctx, const float *const logits[], size_t target)
{
    Sum *s = ctx;

    window_mean_add(&s->nll, distribution_nll(logits[0], s->plan->n_vocab, s->plan->ids[target]));
}

static void end_window(void *ctx)
{
    window_mean_end(&((Sum *)ctx)->nll);
}

ErrCode perplexity_run(WindowMean *nll, const WindowsPlan *plan, Err *err)
{
    Sum sum = {.plan = plan};
    const WindowsSink sink = {&sum, add_row, end_window};
    const ErrCode code = windows_run(plan, &sink, err);

    assert(plan->n_models == 1);
    if (code == ERR_OK)
        *nll = sum.nll;
    return code;
}

size_t perplexity_bytes(const Tokenizer *t, const int32_t *ids, size_t n_ids)
{
    size_t total = 0, n_bytes;

    for (size_t i = 1; i < n_ids; i++) {
        (void)tokenizer_token(t, ids[i], &n_bytes);
        total += n_bytes;
    }
    return total;
}

double perplexity_bits_per_byte(const WindowMean *nll, size_t n_bytes)
{
    return nll->sum / log(2.0) / (double)n_bytes;
}
