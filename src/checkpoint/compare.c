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

static double value_at(const CompareView *v, size_t i)
{
    return v->wide != NULL ? v->wide[i] : (double)v->data[i];
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
    double ab, aa, bb; /* products, for the cosine */
} Sums;

static int decade_of(double diff)
{
    const double decade = diff > 0.0 ? floor(log10(diff)) + 13.0 : 0.0;

    if (!(diff > 0.0))
        return 0;
    return decade < 1.0 ? 1 : decade > COMPARE_DECADES - 1 ? COMPARE_DECADES - 1 : (int)decade;
}

/* unit: the difference that counts as 1. */
static void add_scaled(Comparison *c, Sums *s, size_t i, double a, double b, double unit,
                       double tolerance)
{
    const double size = fabs(b);
    const double diff = fabs(a - b);
    const double scaled = diff > 0.0 ? diff / unit : 0.0;
    uint32_t *decade = &c->decades[decade_of(diff)];

    *decade += *decade < UINT32_MAX;
    s->ab += a * b;
    s->aa += a * a;
    s->bb += b * b;

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
        c->ours = (float)a;
        c->reference = (float)b;
    }
}

static void add_element(Comparison *c, Sums *s, size_t i, double a, double b, double tolerance)
{
    add_scaled(c, s, i, a, b, fmax(fabs(b), 1.0), tolerance);
}

/* Two passes: the one-pass form of the variance loses digits. */
static CompareSide side_of(const CompareView *v, size_t n)
{
    CompareSide side = {.min = (double)INFINITY, .max = -(double)INFINITY};
    double sum = 0.0, squares = 0.0;
    size_t n_finite = 0;

    for (size_t i = 0; i < n; i++) {
        const double x = value_at(v, i);

        side.n_nan += isnan(x) != 0;
        side.n_inf += isinf(x) != 0;
        if (!isfinite(x))
            continue;
        n_finite++;
        sum += x;
        side.min = x < side.min ? x : side.min;
        side.max = x > side.max ? x : side.max;
    }
    if (n_finite == 0) {
        side.mean = side.variance = side.min = side.max = (double)NAN;
        return side;
    }
    side.mean = sum / (double)n_finite;
    for (size_t i = 0; i < n; i++) {
        const double d = value_at(v, i) - side.mean;

        squares += isfinite(d) ? d * d : 0.0;
    }
    side.variance = squares / (double)n_finite;
    return side;
}

static void set_sides(Comparison *c, const CompareView *a, const CompareView *b)
{
    c->sides[0] = side_of(a, compare_count(a));
    c->sides[1] = side_of(b, compare_count(b));
}

static void finish(Comparison *c, const Sums *s)
{
    c->cosine = s->ab / (sqrt(s->aa) * sqrt(s->bb));
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
    Comparison c = {.verdict = verdict,
                    .n_beyond = 1,
                    .worst = nothing,
                    .max_abs = nothing,
                    .max_rel = nothing,
                    .mean_abs = nothing,
                    .rms = nothing,
                    .cosine = nothing,
                    .index = i,
                    .ours = (float)value_at(a, i),
                    .reference = (float)value_at(b, i)};

    set_sides(&c, a, b);
    return c;
}

/* allowed NULL: the tolerance is for every element. */
static Comparison compare_finite(const CompareView *a, const CompareView *b, const double *allowed,
                                 double tolerance)
{
    const size_t n = compare_count(a);
    Comparison c = {.verdict = COMPARE_SHAPE};
    Sums sums = {0};

    if (!same_shape(a, b))
        return c;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(value_at(a, i)) || !isfinite(value_at(b, i)))
            return offender(COMPARE_NOT_FINITE, a, b, i);
    for (size_t i = 0; i < n; i++)
        if (allowed != NULL)
            add_scaled(&c, &sums, i, value_at(a, i), value_at(b, i), allowed[i], tolerance);
        else
            add_element(&c, &sums, i, value_at(a, i), value_at(b, i), tolerance);
    finish(&c, &sums);
    set_sides(&c, a, b);
    return c;
}

Comparison compare_tensors(const CompareView *a, const CompareView *b, double tolerance)
{
    return compare_finite(a, b, NULL, tolerance);
}

Comparison compare_allowed(const CompareView *a, const CompareView *b, const double *allowed)
{
    return compare_finite(a, b, allowed, 1.0);
}

static bool minus_infinity(double x)
{
    return isinf(x) && x < 0.0;
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

        if (minus_infinity(value_at(a, i)) != masked || minus_infinity(value_at(b, i)) != masked)
            return offender(COMPARE_MASK, a, b, i);
        if (!masked && (!isfinite(value_at(a, i)) || !isfinite(value_at(b, i))))
            return offender(COMPARE_NOT_FINITE, a, b, i);
    }
    for (size_t i = 0; i < n; i++)
        if (!is_masked(a, i))
            add_element(&c, &sums, i, value_at(a, i), value_at(b, i), tolerance);
    finish(&c, &sums);
    set_sides(&c, a, b);
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
            add_element(&c, &sums, i, (double)a->data[i], (double)b->data[i], 0.0);
        if (bits_of(a->data[i]) != bits_of(b->data[i]) && n_differ++ == 0)
            first = i;
    }
    finish(&c, &sums);
    set_sides(&c, a, b);
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

static uint8_t cell_of(double a, double b)
{
    const double diff = fabs(a - b);

    if (diff == 0.0 || (!isfinite(a) && !isfinite(b) && isnan(a) == isnan(b) && !(a * b < 0.0)))
        return 0;
    if (!isfinite(diff) || diff >= 1.0)
        return 255;
    return diff <= 1e-9 ? 1 : (uint8_t)(1.0 + 254.0 * (log10(diff) + 9.0) / 9.0);
}

void compare_map(CompareMap *map, const CompareView *a, const CompareView *b)
{
    const size_t n = compare_count(a);
    const size_t columns = a->n_dims > 0 ? a->dims[a->n_dims - 1] : 1;

    *map = (CompareMap){.rows = 0};
    if (!same_shape(a, b) || n == 0)
        return;
    const size_t rows = n / columns;
    map->rows = rows < COMPARE_MAP_ROWS ? (int)rows : COMPARE_MAP_ROWS;
    map->columns = columns < COMPARE_MAP_COLUMNS ? (int)columns : COMPARE_MAP_COLUMNS;
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / columns * (size_t)map->rows / rows;
        const size_t column = i % columns * (size_t)map->columns / columns;
        uint8_t *cell = &map->cells[row * (size_t)map->columns + column];
        const uint8_t value = cell_of(value_at(a, i), value_at(b, i));

        *cell = value > *cell ? value : *cell;
    }
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
