/* tests/test_eval.c: windows over a text, likelihood and divergence, each against the same computed
 * the long way: a fresh run for every token, fed one token at a time, and sums as in the textbook.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "eval/distribution.h"
#include "eval/divergence.h"
#include "eval/perplexity.h"
#include "quick.h"
#include "sampling/likelihood.h"

static void good(ErrCode code, const Err *err)
{
    if (code != ERR_OK)
        check_bail("%s", err->msg);
}

static const char speech[] =
    "HAMLET:\nTo be, or not to be: that is the question:\nWhether 'tis nobler in the mind to "
    "suffer\nThe slings and arrows of outrageous fortune,\nOr to take arms against a sea of "
    "troubles,\nAnd by opposing end them? To die: to sleep;\nNo more; and by a sleep to say we "
    "end\nThe heart-ache and the thousand natural shocks\nThat flesh is heir to, 'tis a "
    "consummation\nDevoutly to be wish'd. To die, to sleep;\nTo sleep: perchance to dream: ay, "
    "there's the rub;\nFor in that sleep of death what dreams may come\nWhen we have shuffled off "
    "this mortal coil,\nMust give us pause: there's the respect\nThat makes calamity of so long "
    "life;\n";

/* The first n ids of the speech. */
static void speech_ids(const CheckModel *cm, int32_t *ids, size_t n)
{
    TokenizerScratch *scratch = tokenizer_scratch_new(sizeof speech);
    int32_t all[sizeof speech];

    if (tokenizer_encode(cm->tokenizer, scratch, speech, sizeof speech - 1, false, all) < n)
        check_bail("the speech has fewer than %zu tokens", n);
    memcpy(ids, all, n * sizeof *ids);
    tokenizer_scratch_free(scratch);
}

/* ---- Windows ---- */

/* Where the window starts that predicts target: from the definition, not from windows_at. */
static size_t start_of(size_t target, size_t context, size_t stride)
{
    size_t start = 0;

    while (start + context < target)
        start += stride;
    return start;
}

static bool covers(size_t n_ids, int context, int stride)
{
    const size_t n = windows_count(n_ids, context, stride);
    size_t next = 1; /* the token to be predicted */

    for (size_t i = 0; i < n; i++) {
        const Window w = windows_at(n_ids, context, stride, i);

        if (w.n_inputs < 1 || w.n_inputs > context || w.first_scored >= w.n_inputs)
            return false;
        for (int row = w.first_scored; row < w.n_inputs; row++, next++) {
            const size_t before = (size_t)row + 1; /* tokens that predict it */

            if (w.first + (size_t)row + 1 != next ||
                w.first != start_of(next, (size_t)context, (size_t)stride))
                return false;
            if (before < next && before < (size_t)(context - stride) + 1)
                return false;
        }
    }
    return next == n_ids;
}

static void windows_cover(void)
{
    bool all = true;

    for (size_t n_ids = 2; n_ids < 40; n_ids++)
        for (int context = 1; context < 20; context++)
            for (int stride = 1; stride <= context; stride++)
                all = all && covers(n_ids, context, stride);
    CHECK(all, "windows predict every token once, in order, with enough tokens before it");
    CHECK(windows_count(257, 256, 256) == 1 && windows_count(258, 256, 256) == 2 &&
              windows_count(257, 256, 1) == 1 && windows_count(1025, 256, 128) == 7,
          "windows are as many as the text needs");
}

/* ---- Likelihood ---- */

static double naive_log_sum(const float *l, int n)
{
    double sum = 0.0;

    for (int i = 0; i < n; i++)
        sum += exp((double)l[i]); /* the logits of these models are small */
    return log(sum);
}

/* Logits that predict ids[target], one token at a time from the start of its window. */
static const float *naive_logits(Gpt2Run *run, const int32_t *ids, size_t target, size_t context,
                                 size_t stride)
{
    Err err = {0};

    gpt2_reset(run);
    for (size_t i = start_of(target, context, stride); i < target; i++)
        good(gpt2_forward(run, &ids[i], 1, true, NULL, &err), &err);
    return run->logits;
}

static double naive_nll(const CheckModel *cm, const int32_t *ids, size_t n_ids, int context,
                        int stride)
{
    Gpt2Run *run = check_run(&cm->model, check_first_isa(), context);
    double sum = 0.0;

    for (size_t t = 1; t < n_ids; t++) {
        const float *l = naive_logits(run, ids, t, (size_t)context, (size_t)stride);

        sum += naive_log_sum(l, cm->model.config.vocab_size) - (double)l[ids[t]];
    }
    return sum / (double)(n_ids - 1);
}

static WindowsPlan plan_of(const CheckModel *cm, const int32_t *ids, size_t n_ids, int context,
                           int stride)
{
    return (WindowsPlan){.models = {&cm->model},
                         .n_models = 1,
                         .k = check_first_isa(),
                         .kv_type = KERN_F32,
                         .ids = ids,
                         .n_ids = n_ids,
                         .context = context,
                         .stride = stride,
                         .n_vocab = cm->model.config.vocab_size};
}

static double nll_of(const WindowsPlan *plan)
{
    WindowMean nll = {0};
    Err err = {0};

    good(perplexity_run(&nll, plan, &err), &err);
    if (nll.n != plan->n_ids - 1)
        check_bail("%zu tokens scored, expected %zu", nll.n, plan->n_ids - 1);
    return window_mean_value(&nll);
}

static void likelihood(const CheckModel *cm)
{
    enum { N = 60 };
    static const int shapes[][2] = {{8, 8}, {8, 4}, {8, 1}, {13, 5}, {64, 32}, {1, 1}};
    int32_t ids[N];

    speech_ids(cm, ids, N);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int context = shapes[i][0], stride = shapes[i][1];
        const double want = naive_nll(cm, ids, N, context, stride);

        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
            WindowsPlan plan = plan_of(cm, ids, N, context, stride);

            plan.k = k;
            const double got = nll_of(&plan);
            CHECK(fabs(got - want) < 1e-12,
                  "%s: likelihood in windows of %d, stride %d: %.9f, token by token %.9f", k->name,
                  context, stride, got, want);
        }
    }
    CHECK(fabs(naive_nll(cm, ids, N, 8, 8) - naive_nll(cm, ids, N, 8, 1)) > 1e-6,
          "caught: another stride gives other figures");
    const WindowsPlan whole = plan_of(cm, ids, N, 60, 60), strided = plan_of(cm, ids, N, 60, 7);
    CHECK(nll_of(&whole) == nll_of(&strided), "a text within one window does not see the stride");
}

/* A window of several passes, and whatever the model is: every row of an observed run. */
typedef struct {
    const int32_t *ids;
    float *rows; /* [n, vocab_size] */
} Seen;

static void see(void *ctx, const TapEvent *e)
{
    Seen *s = ctx;

    if (e->stage == TAP_LOGITS)
        memcpy(s->rows + (size_t)e->start_pos * (size_t)e->n_cols, e->data,
               (size_t)e->n_cols * sizeof *s->rows);
}

static float *observed_logits(const Gpt2 *m, const int32_t *ids, int n)
{
    Seen seen = {ids, check_buffer((size_t)n * (size_t)m->config.vocab_size)};
    const Tap tap = {.ctx = &seen, .observe = see};
    Gpt2Run *run = check_run(m, check_first_isa(), n);
    Err err = {0};

    good(gpt2_prefill(run, ids, n, run->max_chunk < 50 ? run->max_chunk : 50, &tap, &err), &err);
    return seen.rows;
}

static void long_window(const CheckModel *cm)
{
    const int n = quick() ? 70 : 200, vocab = cm->model.config.vocab_size;
    int32_t ids[200];
    double want = 0.0;

    speech_ids(cm, ids, (size_t)n);
    const float *rows = observed_logits(&cm->model, ids, n);
    for (int t = 1; t < n; t++) {
        const float *l = rows + (size_t)(t - 1) * (size_t)vocab;

        want += (naive_log_sum(l, vocab) - (double)l[ids[t]]) / (n - 1);
    }
    const WindowsPlan plan = plan_of(cm, ids, (size_t)n, 256, 128);
    const double got = nll_of(&plan);
    CHECK(fabs(got - want) < 1e-12,
          "likelihood of %d tokens in passes of many: %.9f, expected %.9f", n, got, want);
    /* Nonsense would give log(1024) = 6.93, a model that knows English letters but no words 4. */
    CHECK(got > 2.0 && got < 5.0, "the shipped model knows something about the speech");
}

static void padding(const CheckModel *cm)
{
    int32_t ids[30];

    speech_ids(cm, ids, 30);
    for (int t = 0; t < 30; t++)
        ids[t] %= 200;
    const WindowsPlan plan = plan_of(cm, ids, 30, 30, 30);
    WindowsPlan fewer = plan;
    fewer.n_vocab = 200;
    CHECK(nll_of(&fewer) < nll_of(&plan), "rows behind the tokenizer's tokens have no probability");
}

static void row_logits(const CheckModel *cm)
{
    enum { N = 30 };
    const size_t vocab = (size_t)cm->model.config.vocab_size;
    int32_t ids[N];
    float *got = check_buffer(17 * vocab);
    Err err = {0};

    speech_ids(cm, ids, N);
    const float *want = observed_logits(&cm->model, ids, N);
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
        Gpt2Run *run = check_run(&cm->model, k, N);

        good(gpt2_forward(run, ids, N, false, NULL, &err), &err);
        good(gpt2_row_logits(run, 5, 17, got, NULL, &err), &err);
        CHECK_SAME_BITS(got, want + 5 * vocab, 17 * vocab,
                        "%s, %s: logits of several rows at once are those of each", cm->name,
                        k->name);
        good(gpt2_row_logits(run, N - 1, 1, got, NULL, &err), &err);
        CHECK_SAME_BITS(got, want + (N - 1) * vocab, vocab, "%s, %s: and of the last one", cm->name,
                        k->name);
    }
}

/* ---- Means ---- */

static void means(void)
{
    static const double values[] = {1, 2, 3, 4, 10, 0.5};
    static const int sizes[] = {3, 2, 1};
    const double mean = 20.5 / 6;
    double squares = 0.0;
    WindowMean m = {0};

    CHECK(isnan(window_mean_value(&m)) && isnan(window_mean_error(&m)), "no values, no mean");
    for (int w = 0, at = 0; w < 3; w++) {
        double sum = 0.0;

        for (int i = 0; i < sizes[w]; i++, at++) {
            window_mean_add(&m, values[at]);
            sum += values[at] - mean;
        }
        window_mean_end(&m);
        squares += sum * sum;
        if (w == 0)
            CHECK(isnan(window_mean_error(&m)), "one window has no error");
    }
    window_mean_end(&m);
    CHECK(fabs(window_mean_value(&m) - mean) < 1e-15 && m.n_windows == 3, "mean of all values");
    CHECK(fabs(window_mean_error(&m) - sqrt(squares * 3 / 2) / 6) < 1e-14,
          "standard error over windows of different sizes");
}

/* ---- Divergence ---- */

static double naive_kl(const float *p, const float *q, int n)
{
    const double log_p = naive_log_sum(p, n), log_q = naive_log_sum(q, n);
    double kl = 0.0;

    for (int i = 0; i < n; i++)
        kl += exp((double)p[i] - log_p) * (((double)p[i] - log_p) - ((double)q[i] - log_q));
    return kl;
}

static void divergence_rows(void)
{
    enum { N = 100 };
    float p[N], q[N], shifted[N];
    uint32_t state = 7;

    for (int i = 0; i < N; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (float)(state >> 8) / 16777216.0f * 12.0f - 6.0f;
        state = state * 1664525u + 1013904223u;
        q[i] = p[i] + (float)(state >> 8) / 16777216.0f - 0.5f;
        shifted[i] = q[i] + 1024.0f; /* exact but for the last bits */
    }
    const DivergenceRow self = divergence_row(p, p, N), row = divergence_row(p, q, N);
    const DivergenceRow back = divergence_row(q, p, N), far = divergence_row(p, shifted, N);
    float largest = 0.0f;

    for (int i = 0; i < N; i++)
        largest = fmaxf(largest, fabsf(p[i] - q[i]));
    CHECK(self.kl == 0.0 && self.largest == 0.0 && self.same_top,
          "a row is not at all apart from itself");
    CHECK(row.kl > 0.0 && fabs(row.kl - naive_kl(p, q, N)) < 1e-14,
          "KL divergence of two rows: %.12f, expected %.12f", row.kl, naive_kl(p, q, N));
    CHECK(fabs(back.kl - naive_kl(q, p, N)) < 1e-14 && back.kl != row.kl,
          "KL divergence is not symmetric");
    CHECK(fabs(far.kl - row.kl) < 1e-4, "a common shift of all logits is no divergence");
    CHECK(fabs(row.largest - (double)largest) < 1e-6 && far.largest > 1000.0,
          "the largest difference is of the logits as they are");
    CHECK(fabs(row.log_sums[0] - likelihood_log_sum(p, N)) < 1e-14 &&
              fabs(far.log_sums[1] - likelihood_log_sum(shifted, N)) < 1e-12,
          "log sums on the way");

    const float a[2] = {100.0f, -100.0f}, b[2] = {-100.0f, 100.0f};
    const DivergenceRow opposite = divergence_row(a, b, 2);
    CHECK(fabs(opposite.kl - 200.0) < 1e-12 && !opposite.same_top,
          "two opposite certainties: 200 nats");
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void two_models(const CheckModel *cm)
{
    enum { N = 121 };
    const int vocab = cm->model.config.vocab_size;
    int32_t ids[N];
    double kl[N - 1], sum = 0.0, nll[2] = {0.0, 0.0}, largest = 0.0;
    size_t n_same = 0;
    Divergence d;
    float *gamma = check_buffer((size_t)cm->model.config.dim);
    Gpt2 other = cm->model;
    Err err = {0};

    speech_ids(cm, ids, N);
    for (int i = 0; i < cm->model.config.dim; i++)
        gamma[i] = cm->model.ln_f.gamma[i] * (i % 2 == 0 ? 1.25f : 0.8f);
    other.ln_f.gamma = gamma;
    WindowsPlan plan = plan_of(cm, ids, N, 32, 16);
    const double alone = nll_of(&plan);

    plan.n_models = 2;
    plan.models[1] = &other;
    good(divergence_run(&d, &plan, &err), &err);
    Gpt2Run *runs[2] = {check_run(&cm->model, plan.k, 32), check_run(&other, plan.k, 32)};
    for (size_t t = 1; t < N; t++) {
        const float *p = naive_logits(runs[0], ids, t, 32, 16);
        const float *q = naive_logits(runs[1], ids, t, 32, 16);

        kl[t - 1] = naive_kl(p, q, vocab);
        sum += kl[t - 1];
        nll[0] += naive_log_sum(p, vocab) - (double)p[ids[t]];
        nll[1] += naive_log_sum(q, vocab) - (double)q[ids[t]];
        n_same += distribution_top(p, vocab) == distribution_top(q, vocab);
        for (int i = 0; i < vocab; i++)
            largest = fmax(largest, fabs((double)p[i] - (double)q[i]));
    }
    qsort(kl, N - 1, sizeof *kl, by_value);
    CHECK(fabs(window_mean_value(&d.kl) - sum / (N - 1)) < 1e-12 && sum > 0.0,
          "mean KL divergence of another model: %.9f", window_mean_value(&d.kl));
    /* 120 tokens: the 60th and the 119th of them. */
    CHECK(fabs(d.kl_p50 - kl[59]) < 1e-12 && fabs(d.kl_p99 - kl[118]) < 1e-12 &&
              fabs(d.kl_max - kl[119]) < 1e-12,
          "median, p99 and largest KL divergence: %.6f, %.6f, %.6f", d.kl_p50, d.kl_p99, d.kl_max);
    CHECK(d.n_same_top == n_same && n_same < N - 1, "same top token: %zu of %d", d.n_same_top,
          N - 1);
    CHECK(d.largest == largest, "largest logit difference: %.6f", d.largest);
    CHECK(fabs(d.nll[0].sum - nll[0]) < 1e-9 && fabs(d.nll[1].sum - nll[1]) < 1e-9,
          "likelihood of both on the way");
    CHECK(fabs(d.loss.sum - (nll[1] - nll[0])) < 1e-9, "and how much the second one loses");
    CHECK(fabs(window_mean_value(&d.nll[0]) - alone) < 1e-12,
          "which for the first one is what it is alone");

    plan.models[1] = &cm->model;
    good(divergence_run(&d, &plan, &err), &err);
    CHECK(d.kl_max == 0.0 && d.kl.sum == 0.0 && d.largest == 0.0 && d.n_same_top == N - 1 &&
              d.loss.sum == 0.0,
          "a model is not at all apart from itself");
}

/* ---- Refusals ---- */

static bool stop(void *ctx, double fraction)
{
    int *calls = ctx;

    return fraction >= 0.0 && fraction <= 1.0 && ++*calls < 10;
}

static ErrCode fails(const WindowsPlan *plan, Err *err)
{
    WindowMean nll = {.n = 77};
    const ErrCode code = perplexity_run(&nll, plan, err);

    return nll.n == 77 ? code : ERR_OK; /* untouched on failure */
}

static void refusals(const CheckModel *cm)
{
    int32_t ids[30];
    int calls = 0;
    Err err = {0};

    speech_ids(cm, ids, 30);
    WindowsPlan plan = plan_of(cm, ids, 30, 8, 9);
    CHECK(fails(&plan, &err) == ERR_USAGE && strstr(err.msg, "stride of 9") != NULL,
          "a stride above the context is refused");
    plan = plan_of(cm, ids, 30, 8, 0);
    CHECK(fails(&plan, &err) == ERR_USAGE, "and one of 0");
    plan = plan_of(cm, ids, 30, 65, 8);
    CHECK(fails(&plan, &err) == ERR_USAGE && strstr(err.msg, "1 to 64") != NULL,
          "a context above the model's is refused");
    plan = plan_of(cm, ids, 1, 8, 8);
    CHECK(fails(&plan, &err) == ERR_FORMAT, "a single token has nothing to predict");
    plan = plan_of(cm, ids, 30, 8, 4);
    ids[20] = cm->model.config.vocab_size;
    CHECK(fails(&plan, &err) == ERR_USAGE, "an id outside the vocabulary is refused");
    speech_ids(cm, ids, 30);
    plan.progress = (Gpt2Progress){stop, &calls};
    CHECK(fails(&plan, &err) == ERR_CANCELLED && calls == 10, "progress can stop it");

    float *gamma = check_buffer((size_t)cm->model.config.dim);
    Gpt2 broken = cm->model;
    gamma[3] = NAN;
    broken.ln_f.gamma = gamma;
    plan = plan_of(cm, ids, 30, 8, 4);
    plan.models[0] = &broken;
    CHECK(fails(&plan, &err) == ERR_NUMERIC && strstr(err.msg, "after 1 tokens") != NULL &&
              strstr(err.msg, "NaN") != NULL,
          "logits that are no numbers are refused: %s", err.msg);
}

static void tokenizers(const CheckModel *tiny, const CheckModel *shipped)
{
    Err err = {0};

    CHECK(divergence_same_tokens(tiny->tokenizer, tiny->tokenizer, "a", "b", &err) == ERR_OK,
          "a tokenizer agrees with itself");
    CHECK(divergence_same_tokens(tiny->tokenizer, shipped->tokenizer, "a", "b", &err) ==
                  ERR_FORMAT &&
              strcmp(err.msg, "a has 512 tokens, b has 1024: expected the same") == 0,
          "other tokens are refused");
}

static void bytes(const CheckModel *cm)
{
    int32_t ids[100];
    const WindowMean nll = {.sum = 10.0 * log(2.0), .n = 5};
    size_t n_bytes, total = 0;

    speech_ids(cm, ids, 100);
    for (int i = 1; i < 100; i++) {
        (void)tokenizer_token(cm->tokenizer, ids[i], &n_bytes);
        total += n_bytes;
    }
    CHECK(perplexity_bytes(cm->tokenizer, ids, 100) == total && total > 100,
          "the bytes of all tokens but the first");
    CHECK(fabs(perplexity_bits_per_byte(&nll, 20) - 0.5) < 1e-15, "bits per byte");
}

int main(void)
{
    const CheckModel *tiny = check_model(0), *shipped = check_model(1);

    windows_cover();
    means();
    divergence_rows();
    likelihood(tiny);
    long_window(shipped);
    padding(tiny);
    row_logits(tiny);
    row_logits(shipped);
    two_models(tiny);
    refusals(tiny);
    tokenizers(tiny, shipped);
    bytes(shipped);
    return check_report();
}
