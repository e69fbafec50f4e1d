/* checkpoint/tensor_diff.c: see tensor_diff.h.
 *
 * May include: nothing. */
#include "checkpoint/tensor_diff.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/tolerance.h"

#define MASKED_NAME "checkpoint_04_masked"

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* The number behind "checkpoint_" when exactly two digits stand there, else -1. */
static int checkpoint_of(const char *name)
{
    const char *at = name + strlen("checkpoint_");

    if (!begins(name, "checkpoint_") || at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9' ||
        (at[2] >= '0' && at[2] <= '9'))
        return -1;
    return 10 * (at[0] - '0') + (at[1] - '0');
}

double tensor_diff_tolerance(const char *name)
{
    switch (checkpoint_of(name)) {
    case 1:
        return TOL_LAYER_NORM;
    case 2:
        return TOL_QKV;
    case 3:
        return TOL_CACHE;
    case 4:
        return TOL_SCORES;
    case 5:
        return TOL_ATTENTION;
    case 6:
        return TOL_FFN;
    case 7:
        /* checkpoint_07_block_output is block 0's. */
        return begins(name, "checkpoint_07_block_") && !begins(name, "checkpoint_07_block_00") &&
                       !begins(name, "checkpoint_07_block_o")
                   ? TOL_DEEP_BLOCK
                   : TOL_BLOCK;
    case 8:
    case 9:
    case 10:
    case 11:
        return TOL_LOGITS;
    default:
        return strcmp(name, "embeddings") == 0 ? TOL_EMBEDDING : TOL_EXACT;
    }
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 0 for two infinities of one sign and for two NaN, as in compare_map: there is nothing to see. */
static double error_of(float a, float b)
{
    if (a == b || (isnan(a) && isnan(b)))
        return 0.0;
    return isfinite(a) && isfinite(b) ? fabs((double)a - (double)b) : (double)INFINITY;
}

/* Keeps the list sorted; equal ones stay in the order of their index. */
static void list_element(TensorDiff *d, int room, const DiffElement *e)
{
    int at = d->n_elements;

    if (room == 0 || (at == room && !(e->scaled > d->elements[at - 1].scaled)))
        return;
    d->n_elements += at < room;
    at = d->n_elements - 1;
    for (; at > 0 && e->scaled > d->elements[at - 1].scaled; at--)
        d->elements[at] = d->elements[at - 1];
    d->elements[at] = *e;
}

/* What a Comparison does not hold: where |a - b| is largest, the first bits that differ, the worst
 * elements. */
static void look_at_elements(TensorDiff *d, const CompareView *a, const CompareView *b, int room)
{
    const size_t n = compare_count(a);
    double most = 0.0;

    for (size_t i = 0; i < n; i++) {
        const float x = a->data[i], y = b->data[i];
        const double error = error_of(x, y), size = fabs((double)y);

        if (bits_of(x) == bits_of(y))
            continue;
        if (d->n_bits++ == 0) {
            d->first_bits = i;
            d->bits[0] = bits_of(x);
            d->bits[1] = bits_of(y);
        }
        if (error > 0.0) {
            const DiffElement e = {i, x, y, error,
                                   isinf(error) || size <= 1.0 ? error : error / size};

            list_element(d, room, &e);
        }
        if (error > most) {
            most = error;
            d->max_index = i;
        }
    }
}

static void explain(TensorDiff *d, const CompareView *a, const CompareView *b)
{
    const Comparison *c = &d->figures;
    char first[COMPARE_TEXT_BYTES], second[COMPARE_TEXT_BYTES];

    switch (c->verdict) {
    case COMPARE_EQUAL:
        return;
    case COMPARE_SHAPE:
        compare_shape(first, a);
        compare_shape(second, b);
        snprintf(d->note, sizeof d->note, "shape %s in A, %s in B", first, second);
        return;
    case COMPARE_NOT_FINITE:
    case COMPARE_MASK:
        compare_place(first, a, c->index);
        snprintf(d->note, sizeof d->note, "%s at %s: %g in A, %g in B",
                 c->verdict == COMPARE_MASK ? "mask differs" : "not finite", first, (double)c->ours,
                 (double)c->reference);
        return;
    case COMPARE_VALUES:
        snprintf(d->note, sizeof d->note, "%zu of %zu differ", c->n_beyond, c->n);
        return;
    }
}

/* Scores after the mask: [heads, T, P + T] under their name. */
static bool has_mask(const char *name, const CompareView *v)
{
    return begins(name, MASKED_NAME) && v->n_dims == 3 && v->dims[2] >= v->dims[1];
}

static DiffVerdict verdict_of(CompareVerdict verdict)
{
    switch (verdict) {
    case COMPARE_EQUAL:
        return DIFF_AGREE;
    case COMPARE_SHAPE:
        return DIFF_NOT_COMPARED;
    case COMPARE_NOT_FINITE:
        return DIFF_NOT_FINITE;
    default:
        return DIFF_DIFFER;
    }
}

void tensor_diff(TensorDiff *d, const char *name, const CompareView *a, const CompareView *b,
                 const DiffOptions *options, DiffElement *elements)
{
    Comparison *c = &d->figures;

    d->name = name;
    d->tolerance = options->has_tolerance ? options->tolerance : tensor_diff_tolerance(name);
    d->shape = *a;
    d->shape.data = NULL;
    d->elements = elements;
    if (options->bits) {
        d->tolerance = TOL_EXACT;
        *c = compare_bits(a, b);
    } else {
        *c = has_mask(name, a) ? compare_masked(a, b, d->tolerance)
                               : compare_tensors(a, b, d->tolerance);
    }
    d->verdict = verdict_of(c->verdict);
    explain(d, a, b);
    if (c->verdict != COMPARE_SHAPE) {
        compare_map(&d->map, a, b);
        look_at_elements(d, a, b, options->n_worst);
    }
}
