/* checkpoint/double_stages.h: the stages of GPT-2 in double precision, as the model is defined, one
 * plain loop each; and how far a float32 engine may be off in each of them.
 *
 * Written for double_pass.h, from the definition of the model alone: nothing is shared with layers/
 * and kernels/, whose results it judges. exp, tanh and erf are those of the C library.
 *
 * May include: common, model, kernels. */
#ifndef LLORCH_CHECKPOINT_DOUBLE_STAGES_H
#define LLORCH_CHECKPOINT_DOUBLE_STAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/double_weights.h"
#include "common/error.h"
#include "kernels/activation.h"
#include "kernels/matrix.h"

/* Rows of values, and what is known of their errors. size and var are NULL when no allowances are
 * wanted. */
typedef struct {
    size_t n_rows, n_cols;
    double *value;
    double *size; /* of each value: the sum of the magnitudes that it was added up from */
    double *var;  /* of each value: the variance of what the engine's rounding within the stage,
                     before  the last product, makes of it */
} DoubleField;

/* y = x W + b. */
typedef struct {
    const char *weight, *bias; /* names; bias NULL: none */
    size_t n, k;               /* outputs, inputs */
    bool projection;           /* else a table: one output a row */
    KernType type;             /* of the engine's weights: 8- and 4-bit ones round the inputs too */
} DoubleLinear;

/* y: [in->n_rows, n]; row: room for the widest row of weights. in->var is used up. Errors: those of
 * double_weights_find, ERR_UNSUPPORTED (the engine holds weights of another type than the file). */
ErrCode double_linear(const DoubleWeights *w, const DoubleLinear *l, DoubleField *y,
                      DoubleField *in, double *row, Err *err) ERR_CHECK;

/* What rounding allows after a product: allowed[0..n_rows * n_cols). */
void double_allow_product(double *allowed, const DoubleField *y);

/* y = (x - mean) / sqrt(variance + eps) * gain + bias, row by row; allowed may be NULL. */
void double_layer_norm(double *y, double *allowed, const double *x, size_t n_rows, size_t n_cols,
                       const double *gain, const double *bias, double eps);

/* s[h, i, j] = scale * q_i . k_j of head h, for all keys. q, k: [n, heads * d]. */
void double_scores(double *s, double *allowed, const double *q, const double *k, size_t n,
                   size_t heads, size_t d, double scale);

/* Minus infinity where the key lies after the query, and softmax over the rest; s: [heads, n, n].
 */
void double_mask(double *s, size_t n, size_t heads);
void double_softmax(double *s, double *allowed, size_t n, size_t heads);

/* o_i = sum_j p[h, i, j] v_j, heads side by side. o: [n, heads * d]. */
void double_values(DoubleField *o, const double *p, const double *v, size_t n, size_t heads,
                   size_t d);

/* In place. */
void double_activation(DoubleField *x, Activation activation);

#endif
