/* checkpoint/tensor_diff.h: two tensors of equal standing, compared by values or by bits; `diff`
 * shows what is found.
 *
 * May include: nothing. */
#ifndef LLORCH_CHECKPOINT_TENSOR_DIFF_H
#define LLORCH_CHECKPOINT_TENSOR_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/compare.h"

enum { DIFF_NOTE_BYTES = 512, DIFF_MAX_WORST = 1000 };

typedef struct {
    bool bits;          /* every bit must agree; no tolerance */
    bool has_tolerance; /* else that of the tensor's name: tensor_diff_tolerance */
    double tolerance;
    int n_worst; /* elements to list, at most DIFF_MAX_WORST */
} DiffOptions;

typedef enum {
    DIFF_AGREE,
    DIFF_DIFFER,
    DIFF_NOT_FINITE,  /* NaN or infinity where a number is needed */
    DIFF_NOT_COMPARED /* missing on one side, not readable, or of another shape */
} DiffVerdict;

typedef struct {
    size_t index;
    float a, b;
    double error;  /* |a - b|; infinite where one of them is not finite */
    double scaled; /* error / max(1, |b|): what the tolerance limits, and the order of the list */
} DiffElement;

typedef struct {
    const char *name; /* file name without ".npy"; borrowed */
    DiffVerdict verdict;
    bool rounded[2];   /* the file holds float64; compared as float32 */
    double tolerance;  /* 0: equal values */
    CompareView shape; /* without data: for compare_shape and compare_place */
    Comparison figures;
    CompareMap map;
    size_t max_index;      /* where |a - b| is largest */
    size_t n_bits;         /* elements whose bits differ */
    size_t first_bits;     /* the first of them */
    uint32_t bits[2];      /* a and b there */
    DiffElement *elements; /* [n_elements], the worst first; those that differ only */
    int n_elements;
    char
        note[DIFF_NOTE_BYTES]; /* unless they agree: what is wrong, A and B meaning the two sides */
} TensorDiff;

/* The tolerance of a tensor that a checkpoint names ("checkpoint_05_output", and also
 * "checkpoint_05" and "embeddings"), 0 for all other names. checkpoint_11 is held to the logits'
 * tolerance: here the probabilities of each side come from its own logits. */
double tensor_diff_tolerance(const char *name);

/* Fills *d but for rounded; elements: room for options->n_worst, kept in *d. A name that begins
 * with checkpoint_04_masked has minus infinity at masked places (compare_masked). */
void tensor_diff(TensorDiff *d, const char *name, const CompareView *a, const CompareView *b,
                 const DiffOptions *options, DiffElement *elements);

#endif
