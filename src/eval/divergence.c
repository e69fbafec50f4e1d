/* eval/divergence.c: see divergence.h.
 *
 * May include: common, eval, kernels, model, sampling, tokenizer. */
#include "eval/divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "eval/distribution.h"
#include "sampling/likelihood.h"

DivergenceRow divergence_row(const float *p, const float *q, int n)
{
    const int top_p = distribution_top(p, n), top_q = distribution_top(q, n);
    const double max_p = (double)p[top_p], max_q = (double)q[top_q];
    DivergenceRow row = {.same_top = top_p == top_q};
    double lanes_p[LIKELIHOOD_LANES] = {0.0}, lanes_q[LIKELIHOOD_LANES] = {0.0}, weighted = 0.0;

    /* sum p log(p / q) = sum p ((l_p - l_q) - (log_sum_p - log_sum_q)), in one pass: the log sums
     * do not depend on i. Both rows are taken relative to their maximum, or a common shift would
     * eat the digits. */
    for (int i = 0; i < n; i++) {
        const double lp = (double)p[i] - max_p, lq = (double)q[i] - max_q, e = likelihood_exp(lp);

        lanes_p[i % LIKELIHOOD_LANES] += e;
        lanes_q[i % LIKELIHOOD_LANES] += likelihood_exp(lq);
        weighted += e * (lp - lq);
        row.largest = fmax(row.largest, fabs((double)p[i] - (double)q[i]));
    }
    const double sum_p = likelihood_fold(lanes_p), log_p = likelihood_log(sum_p);
    const double log_q = likelihood_log(likelihood_fold(lanes_q));
    row.log_sums[0] = max_p + log_p; /* likelihood_log_sum */
    row.log_sums[1] = max_q + log_q;
    /* Never negative but for rounding. */
    row.kl = fmax(weighted / sum_p - (log_p - log_q), 0.0);
    return row;
}

typedef struct {
    const WindowsPlan *plan;
    Divergence d;
    double *kl; /* [plan->n_ids - 1], of the tokens so far */
} Sum;

static void add_row(void *ctx, const float *const logits[], size_t target)
{
    Sum *s = ctx;
    const DivergenceRow row = divergence_row(logits[0], logits[1], s->plan->n_vocab);
    const int32_t id = s->plan->ids[target];
    const double first = row.log_sums[0] - (double)logits[0][id];
    const double second = row.log_sums[1] - (double)logits[1][id];

    s->kl[s->d.kl.n] = row.kl;
    window_mean_add(&s->d.nll[0], first);
    window_mean_add(&s->d.nll[1], second);
    window_mean_add(&s->d.loss, second - first);
    window_mean_add(&s->d.kl, row.kl);
    s->d.largest = fmax(s->d.largest, row.largest);
    s->d.n_same_top += row.same_top;
}

static void end_window(void *ctx)
{
    Sum *s = ctx;

    window_mean_end(&s->d.nll[0]);
    window_mean_end(&s->d.nll[1]);
    window_mean_end(&s->d.loss);
    window_mean_end(&s->d.kl);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Nearest rank: the smallest value that at least this share of all is not above. */
static double percentile(const double *sorted, size_t n, size_t percent)
{
    return sorted[(n * percent + 99) / 100 - 1];
}

ErrCode divergence_run(Divergence *out, const WindowsPlan *plan, Err *err)
{
    Sum s = {.plan = plan};
    const WindowsSink sink = {&s, add_row, end_window};
    Arena arena = {0};
    size_t total = 0;
    ErrCode code;

    assert(plan->n_models == 2);
    if (!arena_plan(&total, plan->n_ids, sizeof *s.kl) || plan->n_ids > SIZE_MAX / 100)
        return err_set(err, ERR_LIMIT, "a text of %zu tokens is too long", plan->n_ids);
    code = arena_init(&arena, total, "divergences", err);
    if (code != ERR_OK)
        return code;
    s.kl = arena_alloc(&arena, plan->n_ids, sizeof *s.kl);
    code = windows_run(plan, &sink, err);
    if (code == ERR_OK) {
        qsort(s.kl, s.d.kl.n, sizeof *s.kl, by_value);
        s.d.kl_p50 = percentile(s.kl, s.d.kl.n, 50);
        s.d.kl_p99 = percentile(s.kl, s.d.kl.n, 99);
        s.d.kl_max = s.kl[s.d.kl.n - 1];
        *out = s.d;
    }
    arena_free(&arena);
    return code;
}

static bool same_token(const Tokenizer *a, const Tokenizer *b, int id)
{
    size_t n_a, n_b;
    const char *bytes_a = tokenizer_token(a, id, &n_a), *bytes_b = tokenizer_token(b, id, &n_b);

    return n_a == n_b && memcmp(bytes_a, bytes_b, n_a) == 0;
}

ErrCode divergence_same_tokens(const Tokenizer *a, const Tokenizer *b, const char *name_a,
                               const char *name_b, Err *err)
{
    const int n = tokenizer_vocab_size(a), n_merges = tokenizer_n_merges(a);

    if (tokenizer_vocab_size(b) != n)
        return err_set(err, ERR_FORMAT, "%s has %d tokens, %s has %d: expected the same", name_a, n,
                       name_b, tokenizer_vocab_size(b));
    for (int id = 0; id < n; id++)
        if (!same_token(a, b, id))
            return err_set(err, ERR_FORMAT, "token %d of %s and of %s differ: expected the same",
                           id, name_a, name_b);
    if (tokenizer_n_merges(b) != n_merges)
        return err_set(err, ERR_FORMAT, "%s has %d merges, %s has %d: expected the same", name_a,
                       n_merges, name_b, tokenizer_n_merges(b));
    for (int rank = 0; rank < n_merges; rank++) {
        int left_a, right_a, left_b, right_b;

        tokenizer_merge(a, rank, &left_a, &right_a);
        tokenizer_merge(b, rank, &left_b, &right_b);
        if (left_a != left_b || right_a != right_b)
            return err_set(err, ERR_FORMAT, "merge %d of %s and of %s differ: expected the same",
                           rank, name_a, name_b);
    }
    return ERR_OK;
}
