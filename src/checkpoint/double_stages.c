/* checkpoint/double_stages.c: see double_stages.h. Allowances: tolerance.h says where their numbers
 * come from.
 *
 * May include: common, model, kernels. */
#include "checkpoint/double_stages.h"

#include <math.h>

#include "checkpoint/tolerance.h"

/* ---- Products ---- */

static void add_products(double *y, const double *w, double x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x * w[i];
}

static void add_sizes(double *size, const double *w, double x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        size[i] += x * fabs(w[i]);
}

static void add_variances(double *var, const double *w, double x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        var[i] += x * (w[i] * w[i]);
}

/* A row of weights that belong to input i: its share of every output. */
static void add_input(DoubleField *y, const DoubleField *in, const double *row, size_t i)
{
    for (size_t t = 0; t < in->n_rows; t++) {
        const size_t at = t * in->n_cols + i, out = t * y->n_cols;

        add_products(y->value + out, row, in->value[at], y->n_cols);
        if (y->size == NULL)
            continue;
        add_sizes(y->size + out, row, in->size[at], y->n_cols);
        if (in->var[at] > 0.0)
            add_variances(y->var + out, row, in->var[at], y->n_cols);
    }
}

/* A row of weights that belong to output o: all of it. */
static void add_output(DoubleField *y, const DoubleField *in, const double *row, size_t o)
{
    for (size_t t = 0; t < in->n_rows; t++) {
        const size_t from = t * in->n_cols, at = t * y->n_cols + o;
        double sum = 0.0, size = 0.0, var = 0.0;

        for (size_t i = 0; i < in->n_cols; i++)
            sum += in->value[from + i] * row[i];
        y->value[at] += sum;
        if (y->size == NULL)
            continue;
        for (size_t i = 0; i < in->n_cols; i++) {
            size += in->size[from + i] * fabs(row[i]);
            var += in->var[from + i] * (row[i] * row[i]);
        }
        y->size[at] += size;
        y->var[at] += var;
    }
}

/* With 8- and 4-bit weights the engine rounds its inputs to int8, blocks of 32 at a time: an error
 * evenly spread over one step, whose variance is step^2 / 12. */
static void add_input_rounding(DoubleField *in)
{
    for (size_t b = 0; b < in->n_rows * in->n_cols; b += KERN_BLOCK) {
        double peak = 0.0;

        for (size_t i = b; i < b + KERN_BLOCK; i++)
            peak = fmax(peak, fabs(in->value[i]));
        for (size_t i = b; i < b + KERN_BLOCK; i++)
            in->var[i] += peak / 127.0 * (peak / 127.0) / 12.0;
    }
}

static ErrCode start_with_bias(const DoubleWeights *w, const DoubleLinear *l, DoubleField *y,
                               double *row, Err *err)
{
    DoubleWeight bias = {.n_rows = 0};

    if (l->bias != NULL) {
        const ErrCode code = double_weights_find(w, l->bias, l->n, 0, false, &bias, err);

        if (code != ERR_OK)
            return code;
        double_weights_row(w, &bias, 0, row);
    }
    for (size_t i = 0; i < y->n_rows * l->n; i++) {
        const double b = l->bias != NULL ? row[i % l->n] : 0.0;

        y->value[i] = b;
        if (y->size != NULL) {
            y->size[i] = fabs(b);
            y->var[i] = 0.0;
        }
    }
    return ERR_OK;
}

/* Weights that were converted when they were loaded are other numbers than the file's: their errors
 * would be the price of the conversion, not faults. */
static ErrCode check_type(const DoubleWeights *w, const DoubleLinear *l, const DoubleWeight *weight,
                          Err *err)
{
    const SourceTensor *t = &weight->tensor;
    const KernType type = weight->panels.panels != NULL ? weight->panels.type
                          : t->known                    ? t->type
                                                        : KERN_F32;

    if (type == l->type)
        return ERR_OK;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: %s was converted from %s to %s when it was loaded; the double pass judges "
                   "weights of the file's own type",
                   w->m->path, l->weight, t->type_name != NULL ? t->type_name : "another type",
                   kern_type_name(l->type));
}

ErrCode double_linear(const DoubleWeights *w, const DoubleLinear *l, DoubleField *y,
                      DoubleField *in, double *row, Err *err)
{
    DoubleWeight weight;
    ErrCode code = double_weights_find(w, l->weight, l->n, l->k, l->projection, &weight, err);

    if (code == ERR_OK)
        code = check_type(w, l, &weight, err);
    y->n_rows = in->n_rows;
    y->n_cols = l->n;
    if (code == ERR_OK)
        code = start_with_bias(w, l, y, row, err);
    if (code != ERR_OK)
        return code;
    if (y->size != NULL && kern_is_quantised(l->type))
        add_input_rounding(in);
    for (size_t i = 0; i < weight.n_rows; i++) {
        double_weights_row(w, &weight, i, row);
        if (weight.order == KERN_IN_OUT)
            add_input(y, in, row, i);
        else
            add_output(y, in, row, i);
    }
    return ERR_OK;
}

void double_allow_product(double *allowed, const DoubleField *y)
{
    for (size_t i = 0; i < y->n_rows * y->n_cols; i++)
        allowed[i] =
            TOL_LOCAL_PRODUCT * TOL_ROUNDING * y->size[i] + TOL_LOCAL_SIGMAS * sqrt(y->var[i]);
}

/* ---- LayerNorm ---- */

void double_layer_norm(double *y, double *allowed, const double *x, size_t n_rows, size_t n_cols,
                       const double *gain, const double *bias, double eps)
{
    for (size_t t = 0; t < n_rows; t++, x += n_cols, y += n_cols) {
        double sum = 0.0, squares = 0.0, magnitudes = 0.0;

        for (size_t i = 0; i < n_cols; i++) {
            sum += x[i];
            magnitudes += fabs(x[i]);
        }
        const double mean = sum / (double)n_cols, size = magnitudes / (double)n_cols;
        for (size_t i = 0; i < n_cols; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        const double r = 1.0 / sqrt(squares / (double)n_cols + eps);

        for (size_t i = 0; allowed != NULL && i < n_cols; i++)
            allowed[t * n_cols + i] =
                TOL_ROUNDING *
                (TOL_LOCAL_NORM * fabs((x[i] - mean) * r * gain[i]) +
                 TOL_LOCAL_MEAN * (fabs(x[i]) + size) * r * fabs(gain[i]) + 2.0 * fabs(bias[i]));
        for (size_t i = 0; i < n_cols; i++)
            y[i] = (x[i] - mean) * r * gain[i] + bias[i];
    }
}

/* ---- Attention ---- */

void double_scores(double *s, double *allowed, const double *q, const double *k, size_t n,
                   size_t heads, size_t d, double scale)
{
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                const double *a = q + (i * heads + h) * d, *b = k + (j * heads + h) * d;
                const size_t at = (h * n + i) * n + j;
                double sum = 0.0, size = 0.0;

                for (size_t e = 0; e < d; e++) {
                    sum += a[e] * b[e];
                    size += fabs(a[e] * b[e]);
                }
                s[at] = scale * sum;
                if (allowed != NULL)
                    allowed[at] = TOL_LOCAL_PRODUCT * TOL_ROUNDING * scale * size;
            }
}

void double_mask(double *s, size_t n, size_t heads)
{
    for (size_t row = 0; row < heads * n; row++)
        for (size_t key = row % n + 1; key < n; key++)
            s[row * n + key] = -(double)INFINITY;
}

void double_softmax(double *s, double *allowed, size_t n, size_t heads)
{
    for (size_t row = 0; row < heads * n; row++, s += n) {
        double max = s[0], sum = 0.0;

        for (size_t j = 1; j < n; j++)
            max = s[j] > max ? s[j] : max;
        for (size_t j = 0; j < n; j++)
            sum += exp(s[j] - max);
        for (size_t j = 0; j < n; j++) {
            const double below = max - s[j], p = exp(-below) / sum;

            /* A difference of scores is rounded, and that goes through exp. */
            if (allowed != NULL)
                allowed[row * n + j] =
                    p > 0.0 ? TOL_ROUNDING * p * (TOL_LOCAL_EXP + 2.0 * below) + TOL_LOCAL_TINY
                            : 0.0;
            s[j] = p;
        }
    }
}

void double_values(DoubleField *o, const double *p, const double *v, size_t n, size_t heads,
                   size_t d)
{
    o->n_rows = n;
    o->n_cols = heads * d;
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < heads; h++)
            for (size_t e = 0; e < d; e++) {
                const double *weights = p + (h * n + i) * n;
                const size_t column = h * d + e, at = i * heads * d + column;
                double sum = 0.0, size = 0.0;

                for (size_t j = 0; j < n; j++) {
                    sum += weights[j] * v[j * heads * d + column];
                    size += fabs(weights[j] * v[j * heads * d + column]);
                }
                o->value[at] = sum;
                if (o->size != NULL) {
                    o->size[at] = size;
                    o->var[at] = TOL_ROUNDING * size * (TOL_ROUNDING * size);
                }
            }
}

/* ---- Activation ---- */

static double activate(double x, Activation activation)
{
    const double root_2_by_pi = 0.7978845608028654; /* sqrt(2 / pi) */

    switch (activation) {
    case ACT_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(root_2_by_pi * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF:
        return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    case ACT_RELU:
        return x > 0.0 ? x : 0.0;
    case ACT_SILU:
        return x / (1.0 + exp(-x));
    default:
        return tanh(x);
    }
}

void double_activation(DoubleField *x, Activation activation)
{
    /* No activation is steeper than 1.13, GELU's at x = 1.4. */
    const double steepest = 1.13;

    for (size_t i = 0; i < x->n_rows * x->n_cols; i++) {
        const double before = x->value[i];

        x->value[i] = activate(before, activation);
        if (x->size == NULL)
            continue;
        const double sum = TOL_ROUNDING * x->size[i];
        const double own = TOL_LOCAL_ACTIVATION * TOL_ROUNDING * fabs(before);

        x->var[i] = steepest * steepest * (x->var[i] + sum * sum) + own * own;
        x->size[i] = fabs(x->value[i]);
    }
}
