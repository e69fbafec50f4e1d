/* checkpoint/compare.h: two tensors, element by element: shape first, then finiteness, then values.
 *
 * May include: nothing. */
#ifndef LLORCH_CHECKPOINT_COMPARE_H
#define LLORCH_CHECKPOINT_COMPARE_H

#include <stddef.h>
#include <stdint.h>

enum {
    COMPARE_MAX_DIMS = 8,
    COMPARE_TEXT_BYTES = 160,
    COMPARE_DECADES = 16, /* of |a - b|: [0] no error, [i] 10^(i-13) up to 10^(i-12); the second
                             and the last are open */
    COMPARE_MAP_ROWS = 32,
    COMPARE_MAP_COLUMNS = 64
};

/* A tensor as the comparison sees it: row-major, contiguous, borrowed. */
typedef struct {
    const float *data;
    int n_dims;
    size_t dims[COMPARE_MAX_DIMS];
    const double *wide; /* instead of data, for a reference computed in double; else NULL */
} CompareView;

typedef enum {
    COMPARE_EQUAL,      /* every element within the tolerance */
    COMPARE_SHAPE,      /* different shapes: nothing else was looked at */
    COMPARE_NOT_FINITE, /* NaN or infinity where a number is needed; index is the first one */
    COMPARE_MASK,  /* minus infinity missing at a masked place, or found elsewhere; index is the
                      first one */
    COMPARE_VALUES /* at least one element beyond the tolerance */
} CompareVerdict;

/* One tensor by itself. Mean, variance (divided by n), least and largest are those of its finite
 * values; NaN when it has none. */
typedef struct {
    double mean, variance, min, max;
    size_t n_nan, n_inf;
} CompareSide;

typedef struct {
    CompareVerdict verdict;
    size_t n;        /* elements compared */
    size_t n_beyond; /* of them beyond the tolerance */
    double worst;    /* largest |a - b| / max(1, |b|): what the tolerance limits (another ratio
                        with compare_allowed) */
    double max_abs;  /* largest |a - b| */
    double max_rel;  /* largest |a - b| / |b| over b != 0; for information only */
    double mean_abs; /* mean |a - b| */
    double rms;      /* sqrt(mean (a - b)^2) */
    double cosine; /* a . b / (|a| |b|) over the elements compared; NaN when one of them is zero */
    uint32_t decades[COMPARE_DECADES]; /* elements by the size of |a - b|; at most 2^32 - 1 each */
    CompareSide sides[2];              /* ours, the reference */
    size_t index;                      /* flat index of the worst element, or of the offender */
    float ours;                        /* a and b there */
    float reference;
} Comparison;

/* Ours (a) against the reference (b): |a - b| <= tolerance * max(1, |b|) everywhere. Numbers are
 * summed in double. */
Comparison compare_tensors(const CompareView *a, const CompareView *b, double tolerance);

/* Ours against the reference, with a bound for each element: |a - b| <= allowed[i]. worst is then
 * the largest |a - b| / allowed[i], infinite where nothing is allowed. */
Comparison compare_allowed(const CompareView *a, const CompareView *b, const double *allowed);

/* As compare_tensors, for scores after the causal mask, [heads, T, P + T]: key j of query i is
 * masked when j > P + i. Exactly those must be minus infinity, in both tensors; all others are
 * compared as above.
 */
Comparison compare_masked(const CompareView *a, const CompareView *b, double tolerance);

/* Bit patterns: COMPARE_EQUAL only when every bit agrees. +0 and -0 differ; so do two NaNs of
 * different payload. */
Comparison compare_bits(const CompareView *a, const CompareView *b);

/* Where the errors of two tensors of one shape are: their last axis across, all others down,
 * reduced to at most COMPARE_MAP_ROWS by COMPARE_MAP_COLUMNS cells that hold their largest |a - b|:
 * 0 where all are equal, else 1 (1e-9 and less) to 255 (1 and more, or not finite on one side
 * only), by the logarithm. */
typedef struct {
    int rows, columns; /* 0 when the shapes differ */
    uint8_t cells[COMPARE_MAP_ROWS * COMPARE_MAP_COLUMNS];
} CompareMap;

void compare_map(CompareMap *map, const CompareView *a, const CompareView *b);

/* A view of n values in one dimension. */
CompareView compare_vector(const float *data, size_t n);

size_t compare_count(const CompareView *v);

/* "[3,17]" for a flat index; "[26,48]" for a shape. */
void compare_place(char out[COMPARE_TEXT_BYTES], const CompareView *v, size_t index);
void compare_shape(char out[COMPARE_TEXT_BYTES], const CompareView *v);

/* What went wrong, in a few words ("shape [1,4,12], reference [2,4,12]"); empty for COMPARE_EQUAL.
 */
void compare_explain(char out[COMPARE_TEXT_BYTES], const Comparison *c, const CompareView *a,
                     const CompareView *b);

#endif
