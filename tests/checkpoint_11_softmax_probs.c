/* tests/checkpoint_11_softmax_probs.c: softmax(logits / T), fed with the reference's own logits, so
 * that nothing but this step is measured. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "sampling/softmax.h"

/* The definition in double. */
static void by_formula(float *p, const float *l, int n, double temperature)
{
    double max = (double)l[0], sum = 0.0;

    for (int i = 1; i < n; i++)
        max = fmax(max, (double)l[i]);
    for (int i = 0; i < n; i++)
        sum += exp(((double)l[i] - max) / temperature);
    for (int i = 0; i < n; i++)
        p[i] = (float)(exp(((double)l[i] - max) / temperature) / sum);
}

static double sum_of(const float *p, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)p[i];
    return sum;
}

static int best_of(const float *p, int n)
{
    int best = 0;

    for (int i = 1; i < n; i++)
        best = p[i] > p[best] ? i : best;
    return best;
}

/* The five largest of both, by repeatedly taking the best one away. */
static bool same_top_5(const float *a, const float *b, int n)
{
    float *x = check_copy(a, (size_t)n), *y = check_copy(b, (size_t)n);

    for (int i = 0; i < 5; i++) {
        const int at = best_of(x, n);

        if (best_of(y, n) != at)
            return false;
        x[at] = y[at] = -1.0f;
    }
    return true;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *logits = check_ref(m, "checkpoint_09_logits_last");
    const CheckRef *want = check_ref(m, "checkpoint_11_probs");
    const int n = (int)want->n;
    float *got = check_buffer(want->n), *again = check_buffer(want->n), *scalar = NULL;

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        bool ordered = true, inside = true;

        sampling_softmax(isa, got, logits->data, n, 0.8f);
        sampling_softmax(isa, again, logits->data, n, 0.8f);
        if (scalar == NULL)
            scalar = check_copy(got, want->n);
        CHECK_CLOSE(got, want->data, want->n, TOL_PROBS, "%s %s: temperature 0.8", m->name,
                    isa->name);
        CHECK(same_top_5(got, want->data, n), "%s %s: the same five best tokens", m->name,
              isa->name);
        CHECK_SAME_BITS(again, got, want->n, "%s %s: the same bits twice", m->name, isa->name);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's bits", m->name, isa->name);
        CHECK(fabs(sum_of(got, want->n) - 1.0) <= TOL_PROBS, "%s %s: the sum is 1 (off by %.2g)",
              m->name, isa->name, sum_of(got, want->n) - 1.0);
        for (int i = 0; i < n; i++) {
            inside = inside && got[i] >= 0.0f && got[i] <= 1.0f;
            for (int j = 0; j < n; j++)
                ordered = ordered && !(logits->data[i] > logits->data[j] && got[i] < got[j]);
        }
        CHECK(inside, "%s %s: all in [0, 1]", m->name, isa->name);
        CHECK(ordered, "%s %s: never the other way round than the logits", m->name, isa->name);
        memcpy(again, logits->data, want->n * sizeof *again);
        sampling_softmax(isa, again, again, n, 0.8f);
        CHECK_SAME_BITS(again, got, want->n, "%s %s: in place gives the same bits", m->name,
                        isa->name);
    }
}

static void temperatures(const CheckModel *m, const Kernels *isa)
{
    static const float t[] = {0.5f, 1.0f, 2.0f};
    const CheckRef *logits = check_ref(m, "checkpoint_09_logits_last");
    const int n = (int)logits->n, best = best_of(logits->data, n);
    float *p = check_buffer(logits->n), *want = check_buffer(logits->n), top[3];

    for (int i = 0; i < 3; i++) {
        sampling_softmax(isa, p, logits->data, n, t[i]);
        by_formula(want, logits->data, n, (double)t[i]);
        CHECK_CLOSE(p, want, logits->n, TOL_PROBS, "%s %s: temperature %g", m->name, isa->name,
                    (double)t[i]);
        top[i] = p[best];
    }
    CHECK(top[0] > top[1] && top[1] > top[2], "%s %s: 0.5 sharper, 2 flatter (%.3g %.3g %.3g)",
          m->name, isa->name, (double)top[0], (double)top[1], (double)top[2]);
}

/* As far out as GPT-2's logits and beyond: without the maximum taken off, exp overflows. */
static void extremes(const Kernels *isa)
{
    float far[5] = {1000.0f, 999.0f, -1000.0f, 1000.0f, 0.0f}, p[5], want[5];
    const float low[3] = {-130.0f, -131.0f, -140.0f};

    sampling_softmax(isa, p, far, 5, 1.0f);
    by_formula(want, far, 5, 1.0);
    CHECK_CLOSE(p, want, 5, TOL_PROBS, "%s: logits of 1000 do not overflow", isa->name);
    sampling_softmax(isa, p, low, 3, 1.0f);
    by_formula(want, low, 3, 1.0);
    CHECK_CLOSE(p, want, 3, TOL_PROBS, "%s: logits of -130 do not vanish", isa->name);
    sampling_softmax(isa, p, far, 1, 0.5f);
    CHECK(p[0] == 1.0f, "%s: a single token is certain", isa->name);
    sampling_softmax(isa, p, far, 5, 1e-6f);
    CHECK_CLOSE(p, ((const float[]){0.5f, 0.0f, 0.0f, 0.5f, 0.0f}), 5, TOL_PROBS,
                "%s: temperature 1e-6 shares between equals", isa->name);
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *logits = check_ref(m, "checkpoint_09_logits_last");
    const CheckRef *want = check_ref(m, "checkpoint_11_probs");
    const CheckRef *rows = check_ref(m, "checkpoint_08_logits");
    const int n = (int)want->n;
    float *p = check_buffer(want->n);

    sampling_softmax(check_first_isa(), p, logits->data, n, 1.0f);
    CHECK_NOT_CLOSE(p, want->data, want->n, TOL_PROBS, "%s caught: temperature ignored", m->name);
    by_formula(p, logits->data, n, 1.0 / 0.8);
    CHECK_NOT_CLOSE(p, want->data, want->n, TOL_PROBS, "%s caught: multiplied by temperature",
                    m->name);
    /* Over positions instead of over the vocabulary: column 0 of all rows. */
    for (int i = 0; i < n; i++)
        p[i] = rows->data[(i % m->n_ids) * n];
    sampling_softmax(check_first_isa(), p, p, n, 0.8f);
    CHECK_NOT_CLOSE(p, want->data, want->n, TOL_PROBS, "%s caught: over the wrong axis", m->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
            temperatures(check_model(i), k);
        mistakes(check_model(i));
    }
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        extremes(k);
    return check_report();
}
