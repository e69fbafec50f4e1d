/* tests/checkpoint_01_layer_norm.c: LayerNorm, on block 0's ln_1 and on vectors that need no model.
 * A tolerance that accepts a wrong layer proves nothing, so deliberate mistakes must be caught. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "layers/layer_norm.h"

/* S1 to S3: [2, 1024], x = scale * sin(n * step), the argument formed in float. */
static float *sine(float scale, float step)
{
    float *x = check_buffer(2048);

    for (int n = 0; n < 2048; n++)
        x[n] = (float)((double)scale * sin((double)((float)n * step)));
    return x;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const CheckRef *want = check_ref(m, "checkpoint_01_ln1_output");
    const LayerNorm *ln = &m->model.blocks[0].ln_1;
    float *got = check_buffer(want->n), *again = check_buffer(want->n);
    float *x = check_copy(in->data, in->n), *scalar = NULL;

    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
        layer_norm_forward(ln, k, got, x, in->rows);
        layer_norm_forward(ln, k, again, x, in->rows);
        CHECK_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s %s: ln_1 matches the reference",
                    m->name, k->name);
        CHECK_SAME_BITS(again, got, want->n, "%s %s: the same bits twice", m->name, k->name);
        CHECK_SAME_BITS(x, in->data, in->n, "%s %s: the input is not changed", m->name, k->name);
        if (scalar == NULL)
            scalar = check_copy(got, want->n);
        CHECK_SAME_BITS(got, scalar, want->n, "%s %s: the scalar table's bits", m->name, k->name);
        memcpy(again, in->data, in->n * sizeof *again);
        layer_norm_forward(ln, k, again, again, in->rows);
        CHECK_SAME_BITS(again, got, want->n, "%s %s: in place gives the same bits", m->name,
                        k->name);
        layer_norm_forward(ln, k, again, x + (in->rows - 1) * ln->dim, 1);
        CHECK_SAME_BITS(again, got + (in->rows - 1) * ln->dim, (size_t)ln->dim,
                        "%s %s: a row alone gives the same bits", m->name, k->name);
    }
}

/* Before scale and bias the mean is 0 and the variance v / (v + eps). */
static void statistics(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const int dim = m->model.config.dim;
    float *ones = check_buffer((size_t)dim), *zeros = check_buffer((size_t)dim);
    float *y = check_buffer(in->n);
    double worst_mean = 0.0, worst_var = 0.0;

    for (int i = 0; i < dim; i++)
        ones[i] = 1.0f;
    layer_norm_forward(&(LayerNorm){ones, zeros, dim, 1e-5f}, check_first_isa(), y, in->data,
                       in->rows);
    for (int t = 0; t < in->rows; t++) {
        double mean_x = 0.0, var_x = 0.0, mean_y = 0.0, var_y = 0.0;

        for (int i = 0; i < dim; i++) {
            mean_x += (double)in->data[t * dim + i] / dim;
            mean_y += (double)y[t * dim + i] / dim;
        }
        for (int i = 0; i < dim; i++) {
            var_x += pow((double)in->data[t * dim + i] - mean_x, 2.0) / dim;
            var_y += pow((double)y[t * dim + i] - mean_y, 2.0) / dim;
        }
        worst_mean = fmax(worst_mean, fabs(mean_y));
        worst_var = fmax(worst_var, fabs(var_y - var_x / (var_x + 1e-5)));
    }
    CHECK(worst_mean <= 1e-6, "%s: rows have mean 0 before scale and bias (%.2g)", m->name,
          worst_mean);
    CHECK(worst_var <= 1e-6, "%s: rows have variance v / (v + eps) (off by %.2g)", m->name,
          worst_var);
}

/* The layer in double, with the mistakes one can make. */
typedef struct {
    double eps_inside, eps_outside;
    int divisor_less; /* 1: divide by dim - 1 */
} Formula;

static void by_formula(const LayerNorm *ln, Formula f, const float *x, int rows, float *y)
{
    for (int t = 0; t < rows; t++, x += ln->dim, y += ln->dim) {
        double mean = 0.0, var = 0.0;

        for (int i = 0; i < ln->dim; i++)
            mean += (double)x[i] / ln->dim;
        for (int i = 0; i < ln->dim; i++)
            var += pow((double)x[i] - mean, 2.0) / (ln->dim - f.divisor_less);
        for (int i = 0; i < ln->dim; i++)
            y[i] = (float)(((double)x[i] - mean) / (sqrt(var + f.eps_inside) + f.eps_outside) *
                               (double)ln->gamma[i] +
                           (double)ln->beta[i]);
    }
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *in = check_ref(m, "embeddings");
    const CheckRef *want = check_ref(m, "checkpoint_01_ln1_output");
    const LayerNorm *ln = &m->model.blocks[0].ln_1;
    const Kernels *k = check_first_isa();
    const size_t dim = (size_t)ln->dim;
    float *got = check_buffer(want->n), *gamma = check_copy(ln->gamma, dim);
    float *ones = check_buffer(dim), *zeros = check_buffer(dim), *turned = check_buffer(want->n);
    LayerNorm wrong = *ln;

    by_formula(ln, (Formula){.eps_inside = 1e-5}, in->data, in->rows, got);
    CHECK_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s: the formula in double agrees",
                m->name);
    by_formula(ln, (Formula){.eps_inside = 1e-5, .divisor_less = 1}, in->data, in->rows, got);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: divided by dim - 1",
                    m->name);
    by_formula(ln, (Formula){.eps_outside = 1e-5}, in->data, in->rows, got);
    /* The tiny model's rows vary so much that eps hardly matters there: 5.2e-6. */
    if (strcmp(m->name, "shakespeare") == 0)
        CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: eps outside the root",
                        m->name);
    wrong.eps = 1e-3f;
    layer_norm_forward(&wrong, k, got, in->data, in->rows);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: eps 1e-3", m->name);
    wrong.eps = 1e-6f;
    layer_norm_forward(&wrong, k, got, in->data, in->rows);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: eps 1e-6", m->name);

    wrong = (LayerNorm){.gamma = ln->beta, .beta = ln->gamma, .dim = ln->dim, .eps = ln->eps};
    layer_norm_forward(&wrong, k, got, in->data, in->rows);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: scale and bias exchanged",
                    m->name);
    for (size_t i = 0; i < dim; i++) {
        gamma[i] *= 1.01f;
        ones[i] = 1.0f;
    }
    wrong = (LayerNorm){.gamma = gamma, .beta = ln->beta, .dim = ln->dim, .eps = ln->eps};
    layer_norm_forward(&wrong, k, got, in->data, in->rows);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: scale 1 %% too large",
                    m->name);
    wrong = (LayerNorm){.gamma = ones, .beta = zeros, .dim = ln->dim, .eps = ln->eps};
    layer_norm_forward(&wrong, k, got, in->data, in->rows);
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: scale and bias missing",
                    m->name);

    /* Over tokens instead of over the width. */
    for (int t = 0; t < in->rows; t++)
        for (size_t i = 0; i < dim; i++)
            turned[i * (size_t)in->rows + (size_t)t] = in->data[(size_t)t * dim + i];
    wrong = (LayerNorm){.gamma = ones, .beta = zeros, .dim = in->rows, .eps = ln->eps};
    layer_norm_forward(&wrong, k, turned, turned, ln->dim);
    for (int t = 0; t < in->rows; t++)
        for (size_t i = 0; i < dim; i++)
            got[(size_t)t * dim + i] =
                turned[i * (size_t)in->rows + (size_t)t] * ln->gamma[i] + ln->beta[i];
    CHECK_NOT_CLOSE(got, want->data, want->n, TOL_LAYER_NORM, "%s caught: over the wrong axis",
                    m->name);
}

/* A large mean against the spread: E[x^2] - E[x]^2 in float loses all digits here. */
static void large_mean(void)
{
    const int dim = 1024;
    float *x = sine(1.0f, 0.01f), *want = check_buffer(1024), *got = check_buffer(1024);
    float *ones = check_buffer(1024), *zeros = check_buffer(1024);
    const LayerNorm ln = {ones, zeros, dim, 1e-5f};
    float sum = 0.0f, sum_sq = 0.0f, mean, var;

    for (int i = 0; i < dim; i++) {
        x[i] += 100.0f;
        ones[i] = 1.0f;
        sum += x[i];
        sum_sq += x[i] * x[i];
    }
    by_formula(&ln, (Formula){.eps_inside = 1e-5}, x, 1, want);
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
        layer_norm_forward(&ln, k, got, x, 1);
        CHECK_CLOSE(got, want, 1024, 1e-4, "%s: a mean of 100 loses no digits", k->name);
    }
    mean = sum / (float)dim;
    var = sum_sq / (float)dim - mean * mean;
    for (int i = 0; i < dim; i++)
        got[i] = (x[i] - mean) / sqrtf(var + 1e-5f);
    CHECK_NOT_CLOSE(got, want, 1024, 1e-4, "caught: variance as E[x^2] - E[x]^2 in float");
}

/* The weight-free vectors S1, S2, S3 and S7, recomputed in double precision. */
static void vectors(const Kernels *k)
{
    static const float s1[] = {-1.8595886f, -1.8556184f, -1.8516481f, -1.8476778f, -1.8437077f};
    static const float s2[] = {-0.24643147f, -0.23149413f, -0.21655825f, -0.20162538f,
                               -0.18669698f};
    static const float s2_end[] = {1.4681108f, 1.4679084f, 1.4675678f, 1.4670888f, 1.4664718f};
    static const float s3[] = {-0.24642323f, -0.23148638f, -0.216551f, -0.20161863f, -0.18669073f};
    static const float s1_range[] = {0.999370f, -1.859589f, 1.529729f, -2.542431f,
                                     0.975191f, -2.542431f, 1.088756f};
    static const float four[] = {1.0f, 2.0f, 3.0f, 4.0f};
    float *ones = check_buffer(1024), *zeros = check_buffer(1024), *twos = check_buffer(1024);
    float *y = check_buffer(2048);
    const LayerNorm ln = {ones, zeros, 1024, 1e-5f};
    float range[7] = {0}, sums[3] = {0};

    for (int i = 0; i < 1024; i++) {
        ones[i] = 1.0f;
        twos[i] = 2.0f;
    }
    layer_norm_forward(&ln, k, y, sine(0.5f, 0.001f), 2);
    CHECK_CLOSE(y, s1, 5, TOL_LAYER_NORM, "S1 %s: first values", k->name);
    for (int r = 0; r < 2; r++) {
        float *out = range + 3 * r + r; /* var, min, max of row 0; first, var, min, max of row 1 */
        double var = 0.0;
        float min = y[r * 1024], max = min;

        for (int i = 0; i < 1024; i++) {
            var += (double)y[r * 1024 + i] * (double)y[r * 1024 + i] / 1024.0;
            min = fminf(min, y[r * 1024 + i]);
            max = fmaxf(max, y[r * 1024 + i]);
        }
        if (r == 1)
            range[3] = y[1024];
        out[0] = (float)var;
        out[1] = min;
        out[2] = max;
    }
    CHECK_CLOSE(range, s1_range, 7, TOL_LAYER_NORM, "S1 %s: variance and range", k->name);
    layer_norm_forward(&ln, k, y, sine(1.0f, 0.01f), 2);
    CHECK_CLOSE(y, s2, 5, TOL_LAYER_NORM, "S2 %s: first values", k->name);
    CHECK_CLOSE(y + 2043, s2_end, 5, TOL_LAYER_NORM, "S2 %s: last values", k->name);
    layer_norm_forward(&ln, k, y, sine(0.5f, 0.01f), 2);
    CHECK_CLOSE(y, s3, 5, TOL_LAYER_NORM, "S3 %s: first values", k->name);

    layer_norm_forward(&(LayerNorm){ones, zeros, 4, 1e-5f}, k, y, four, 1);
    for (int i = 0; i < 4; i++) {
        sums[0] += y[i] / 4.0f;
        sums[1] += y[i] * y[i] / 4.0f;
    }
    layer_norm_forward(&(LayerNorm){twos, ones, 4, 1e-5f}, k, y, four, 1);
    for (int i = 0; i < 4; i++)
        sums[2] += y[i] / 4.0f;
    CHECK_CLOSE(sums, ((const float[]){0.0f, 1.0f, 1.0f}), 3, 1e-4, "S7 %s: mean and variance",
                k->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        on_references(check_model(i));
        statistics(check_model(i));
        mistakes(check_model(i));
    }
    large_mean();
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        vectors(k);
    return check_report();
}
