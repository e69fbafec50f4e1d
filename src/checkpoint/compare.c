/* checkpoint/compare.c: the comparison behind every checkpoint: all elements, never a sample.
 *
 * May include: nothing. */
#include "checkpoint/compare.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

size_t compare_count(const CompareView *v)
{
    size_t n = 1;

    for (int i = 0; i < v->n_dims; i++)
        n *= v->dims[i];
    return n;
}

CompareView compare_vector(const float *data, size_t n)
{
    return (CompareView){.data = data, .n_dims = 1, .dims = {n}};
}

static bool same_shape(const CompareView *a, const CompareView *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (int i = 0; i < a->n_dims; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

/* Sums of one comparison, in double so that a million small errors do not vanish. */
typedef struct {
    double sum_abs, sum_sq;
} Sums;

static void add_element(Comparison *c, Sums *s, size_t i, float a, float b, double tolerance)
{
    const double size = fabs((double)b);
    const double diff = fabs((double)a - (double)b);
    const double scaled = diff / (size > 1.0 ? size : 1.0);

    c->n++;
    s->sum_abs += diff;
    s->sum_sq += diff * diff;
    if (diff > c->max_abs)
        c->max_abs = diff;
    if (size > 0.0 && diff / size > c->max_rel)
        c->max_rel = diff / size;
    if (scaled > tolerance)
        c->n_beyond++;
    /* The first element counts even with error 0, so that a place and two values are always there.
     */
    if (c->n == 1 || scaled > c->worst) {
        c->worst = scaled;
        c->index = i;
        c->ours = a;
        c->reference = b;
    }
}

static void finish(Comparison *c, const Sums *s)
{
    if (c->n > 0) {
        c->mean_abs = s->sum_abs / (double)c->n;
        c->rms = sqrt(s->sum_sq / (double)c->n);
    }
    c->verdict = c->n_beyond > 0 ? COMPARE_VALUES : COMPARE_EQUAL;
}

static Comparison offender(CompareVerdict verdict, const CompareView *a, const CompareView *b,
                           size_t i)
{
    const double nothing = (double)NAN;

    return (Comparison){.verdict = verdict,
                        .n_beyond = 1,
                        .worst = nothing,
                        .max_abs = nothing,
                        .max_rel = nothing,
                        .mean_abs = nothing,
                        .rms = nothing,
                        .index = i,
                        .ours = a->data[i],
                        .reference = b->data[i]};
}

Comparison compare_tensors(const CompareView *a, const CompareView *b, double tolerance)
{
    const size_t n = compare_count(a);
    Comparison c = {.verdict = COMPARE_SHAPE};
    Sums sums = {0};

    if (!same_shape(a, b))
        return c;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a->data[i]) || !isfinite(b->data[i]))
            return offender(COMPARE_NOT_FINITE, a, b, i);
    for (size_t i = 0; i < n; i++)
        add_element(&c, &sums, i, a->data[i], b->data[i], tolerance);
    finish(&c, &sums);
    return c;
}

static bool minus_infinity(float x)
{
    return isinf(x) && x < 0.0f;
}

/* Whether element i of [heads, T, P + T] is a key after its query. */
static bool is_masked(const CompareView *v, size_t i)
{
    const size_t n_queries = v->dims[1], n_keys = v->dims[2];
    const size_t key = i % n_keys, query = i / n_keys % n_queries;

    return key > n_keys - n_queries + query;
}

Comparison compare_masked(const CompareView *a, const CompareView *b, double tolerance)
{
    const size_t n = compare_count(a);
    Comparison c = {.verdict = COMPARE_SHAPE};
    Sums sums = {0};

    if (!same_shape(a, b) || a->n_dims != 3 || a->dims[2] < a->dims[1])
        return c;
    for (size_t i = 0; i < n; i++) {
        const bool masked = is_masked(a, i);

        if (minus_infinity(a->data[i]) != masked || minus_infinity(b->data[i]) != masked)
            return offender(COMPARE_MASK, a, b, i);
        if (!masked && (!isfinite(a->data[i]) || !isfinite(b->data[i])))
            return offender(COMPARE_NOT_FINITE, a, b, i);
    }
    for (size_t i = 0; i < n; i++)
        if (!is_masked(a, i))
            add_element(&c, &sums, i, a->data[i], b->data[i], tolerance);
    finish(&c, &sums);
    return c;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

Comparison compare_bits(const CompareView *a, const CompareView *b)
{
    const size_t n = compare_count(a);
    Comparison c = {.verdict = COMPARE_SHAPE};
    Sums sums = {0};
    size_t first = 0, n_differ = 0;

    if (!same_shape(a, b))
        return c;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(a->data[i]) && isfinite(b->data[i]))
            add_element(&c, &sums, i, a->data[i], b->data[i], 0.0);
        if (bits_of(a->data[i]) != bits_of(b->data[i]) && n_differ++ == 0)
            first = i;
    }
    finish(&c, &sums);
    c.n = n;
    c.n_beyond = n_differ;
    c.verdict = n_differ > 0 ? COMPARE_VALUES : COMPARE_EQUAL;
    /* Only the sign of zero, or something not finite: no error to rank by, so the first difference
     * is the place. */
    if (n_differ > 0 && !(c.worst > 0.0)) {
        c.index = first;
        c.ours = a->data[first];
        c.reference = b->data[first];
    }
    return c;
}

static void list_text(char out[COMPARE_TEXT_BYTES], const size_t *values, int n)
{
    size_t used = 0;

    out[used++] = '[';
    for (int i = 0; i < n; i++) {
        const int len =
            snprintf(out + used, COMPARE_TEXT_BYTES - used, i > 0 ? ",%zu" : "%zu", values[i]);

        if (len < 0 || (size_t)len >= COMPARE_TEXT_BYTES - used - 1)
            break;
        used += (size_t)len;
    }
    out[used++] = ']';
    out[used] = '\0';
}

void compare_shape(char out[COMPARE_TEXT_BYTES], const CompareView *v)
{
    list_text(out, v->dims, v->n_dims);
}

void compare_place(char out[COMPARE_TEXT_BYTES], const CompareView *v, size_t index)
{
    size_t at[COMPARE_MAX_DIMS] = {0};

    for (int i = v->n_dims - 1; i >= 0; i--) {
        const size_t dim = v->dims[i] > 0 ? v->dims[i] : 1;

        at[i] = index % dim;
        index /= dim;
    }
    list_text(out, at, v->n_dims);
}

void compare_explain(char out[COMPARE_TEXT_BYTES], const Comparison *c, const CompareView *a,
                     const CompareView *b)
{
    char first[COMPARE_TEXT_BYTES], second[COMPARE_TEXT_BYTES];

    out[0] = '\0';
    switch (c->verdict) {
    case COMPARE_EQUAL:
        break;
    case COMPARE_SHAPE:
        compare_shape(first, a);
        compare_shape(second, b);
        snprintf(out, COMPARE_TEXT_BYTES, "shape %.60s, reference %.60s", first, second);
        break;
    case COMPARE_NOT_FINITE:
    case COMPARE_MASK:
        compare_place(first, a, c->index);
        snprintf(out, COMPARE_TEXT_BYTES, "%s at %.60s: %g, reference %g",
                 c->verdict == COMPARE_MASK ? "mask differs" : "not finite", first, (double)c->ours,
                 (double)c->reference);
        break;
    case COMPARE_VALUES:
        snprintf(out, COMPARE_TEXT_BYTES, "%zu of %zu differ", c->n_beyond, c->n);
        break;
    }
}
