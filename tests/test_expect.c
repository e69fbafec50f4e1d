/* tests/test_expect.c: the code behind `verify --expect`. Its recorded values need published
 * weights; the functions that compute them do not: here they run on the tiny model, against a GPT-2
 * written once more, in double, as plainly as possible. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "checkpoint/expect.h"
#include "checkpoint/quantity.h"
#include "quick.h"

/* ---- GPT-2 in double ---- */

typedef struct {
    const Gpt2 *m;
    int n; /* tokens */
    double *x, *h, *qkv, *merged, *wide;
} Plain;

static double *doubles(size_t n)
{
    /* check_buffer counts floats; two of them hold a double, and 64-byte alignment is enough. */
    return (double *)(void *)check_buffer(2 * n);
}

static Plain plain_new(const Gpt2 *m, int n)
{
    const size_t dim = (size_t)m->config.dim, t = (size_t)n;

    return (Plain){.m = m,
                   .n = n,
                   .x = doubles(t * dim),
                   .h = doubles(t * dim),
                   .qkv = doubles(t * 3 * dim),
                   .merged = doubles(t * dim),
                   .wide = doubles(t * (size_t)m->config.ffn_dim)};
}

static double weight(const Linear *l, int in, int out)
{
    const float *panels = l->w.panels; /* the tiny model is F32 */

    return (double)panels[((size_t)(out / KERN_PANEL) * (size_t)l->w.k + (size_t)in) * KERN_PANEL +
                          (size_t)(out % KERN_PANEL)];
}

static void plain_tokens(Plain *p, const int32_t *ids, bool positions)
{
    const Embedding *e = &p->m->embedding;
    const Linear wte = {.w = e->wte};

    for (int t = 0; t < p->n; t++)
        for (int i = 0; i < e->dim; i++)
            p->x[t * e->dim + i] =
                weight(&wte, i, ids[t]) + (positions ? (double)e->wpe[t * e->dim + i] : 0.0);
}

static void plain_norm(const LayerNorm *ln, double *y, const double *x, int n)
{
    for (int t = 0; t < n; t++, x += ln->dim, y += ln->dim) {
        double mean = 0.0, var = 0.0;

        for (int i = 0; i < ln->dim; i++)
            mean += x[i] / ln->dim;
        for (int i = 0; i < ln->dim; i++)
            var += (x[i] - mean) * (x[i] - mean) / ln->dim;
        for (int i = 0; i < ln->dim; i++)
            y[i] = (x[i] - mean) / sqrt(var + (double)ln->eps) * (double)ln->gamma[i] +
                   (double)ln->beta[i];
    }
}

static void plain_linear(const Linear *l, double *y, const double *x, int n)
{
    for (int t = 0; t < n; t++)
        for (int o = 0; o < l->w.n; o++) {
            double sum = l->bias != NULL ? (double)l->bias[o] : 0.0;

            for (int i = 0; i < l->w.k; i++)
                sum += x[t * l->w.k + i] * weight(l, i, o);
            y[t * l->w.n + o] = sum;
        }
}

/* p->merged = heads of softmax(q k / sqrt(d)) v, then y = c_proj(merged). */
static void plain_attention(Plain *p, const Attention *a, double *y, const double *x)
{
    const int d = a->head_dim, dim = d * a->n_heads;
    double s[64];

    plain_linear(&a->qkv.c_attn, p->qkv, x, p->n);
    memset(p->merged, 0, (size_t)p->n * (size_t)dim * sizeof *p->merged);
    for (int h = 0; h < a->n_heads; h++)
        for (int t = 0; t < p->n; t++) {
            const double *q = p->qkv + t * 3 * dim + h * d;
            double sum = 0.0;

            for (int j = 0; j <= t; j++) {
                s[j] = 0.0;
                for (int i = 0; i < d; i++)
                    s[j] += q[i] * p->qkv[j * 3 * dim + dim + h * d + i];
                s[j] = exp(s[j] / sqrt((double)d));
                sum += s[j];
            }
            for (int j = 0; j <= t; j++)
                for (int i = 0; i < d; i++)
                    p->merged[t * dim + h * d + i] +=
                        s[j] / sum * p->qkv[j * 3 * dim + 2 * dim + h * d + i];
        }
    plain_linear(&a->output.c_proj, y, p->merged, p->n);
}

static void plain_block(Plain *p, const TransformerBlock *b)
{
    const size_t n = (size_t)p->n * (size_t)p->m->config.dim;
    const size_t n_wide = (size_t)p->n * (size_t)p->m->config.ffn_dim;

    plain_norm(&b->ln_1, p->h, p->x, p->n);
    plain_attention(p, &b->attention, p->h, p->h);
    for (size_t i = 0; i < n; i++)
        p->x[i] += p->h[i];
    plain_norm(&b->ln_2, p->h, p->x, p->n);
    plain_linear(&b->ffn.c_fc, p->wide, p->h, p->n);
    for (size_t i = 0; i < n_wide; i++)
        p->wide[i] *=
            0.5 * (1.0 + tanh(0.7978845608028654 * (p->wide[i] + 0.044715 * pow(p->wide[i], 3.0))));
    plain_linear(&b->ffn.c_proj, p->h, p->wide, p->n);
    for (size_t i = 0; i < n; i++)
        p->x[i] += p->h[i];
}

/* ln_f in p->h, logits in the result. */
static double *plain_logits(Plain *p, const int32_t *ids)
{
    double *logits = doubles((size_t)p->n * (size_t)p->m->config.vocab_size);

    plain_tokens(p, ids, true);
    for (int i = 0; i < p->m->config.n_layers; i++)
        plain_block(p, &p->m->blocks[i]);
    plain_norm(&p->m->ln_f, p->h, p->x, p->n);
    plain_linear(&p->m->head, logits, p->h, p->n);
    return logits;
}

static float *rounded(const double *x, size_t n)
{
    float *y = check_buffer(n);

    for (size_t i = 0; i < n; i++)
        y[i] = (float)x[i];
    return y;
}

/* ---- The quantities ---- */

static void good(ErrCode code, const Err *err)
{
    if (code != ERR_OK)
        check_bail("%s", err->msg);
}

static void bare_rows(const CheckModel *cm)
{
    static const int32_t ids[] = {39, 511, 7};
    const Gpt2 *m = &cm->model;
    const TransformerBlock *b = &m->blocks[0];
    const size_t dim = (size_t)m->config.dim, wide = (size_t)m->config.ffn_dim;
    Plain p = plain_new(m, 3);
    float *got = check_buffer(3 * wide);
    double *want = doubles(3 * wide);
    Err err = {0};

    plain_tokens(&p, ids, false);
    quantity_token_rows(m, ids, 3, got);
    CHECK_SAME_BITS(got, rounded(p.x, 3 * dim), 3 * dim, "R1: rows of wte without positions");
    plain_norm(&b->ln_1, want, p.x, 3);
    good(quantity_layer_norm(m, check_first_isa(), ids, 3, got, &err), &err);
    CHECK_CLOSE(got, rounded(want, 3 * dim), 3 * dim, 1e-5, "R2: ln_1 of bare rows");
    plain_linear(&b->ffn.c_fc, want, p.x, 3);
    good(quantity_c_fc(m, check_first_isa(), ids, 3, got, &err), &err);
    CHECK_CLOSE(got, rounded(want, 3 * wide), 3 * wide, 1e-5, "R3: c_fc of bare rows");
    plain_attention(&p, &b->attention, want, p.x);
    good(quantity_attention(m, check_first_isa(), ids, 3, got, &err), &err);
    CHECK_CLOSE(got, rounded(want, 3 * dim), 3 * dim, 1e-5, "R4: attention over bare rows");
    plain_tokens(&p, ids, true);
    plain_attention(&p, &b->attention, want, p.x);
    CHECK_NOT_CLOSE(got, rounded(want, 3 * dim), 3 * dim, 1e-3, "R4 caught: with positions");
}

static void whole_passes(const CheckModel *cm)
{
    const Gpt2 *m = &cm->model;
    const size_t n = (size_t)cm->n_ids, n_vocab = (size_t)m->config.vocab_size;
    const size_t dim = (size_t)m->config.dim;
    Plain p = plain_new(m, cm->n_ids);
    const float *logits = rounded(plain_logits(&p, cm->ids), n * n_vocab);
    float *got = check_buffer(n * n_vocab);
    double mean = 0.0;
    Err err = {0};

    good(quantity_stage(m, check_first_isa(), cm->ids, cm->n_ids, TAP_LOGITS, got, &err), &err);
    CHECK_CLOSE(got, logits, n * n_vocab, 1e-4, "R7 to R13: logits of all rows");
    for (size_t i = 0; i < n * n_vocab; i++)
        mean += (double)logits[i] / (double)(n * n_vocab);
    CHECK(fabs(quantity_mean(got, n * n_vocab) - mean) < 1e-6, "R12: mean of the logits");
    good(quantity_stage(m, check_first_isa(), cm->ids, cm->n_ids, TAP_LN_F, got, &err), &err);
    CHECK_CLOSE(got, rounded(p.h, n * dim), n * dim, 1e-4, "R14: ln_f of all rows");
}

static void loss(const CheckModel *cm)
{
    enum { ROWS = 4, LEN = 64 };
    const Gpt2 *m = &cm->model;
    const int n_vocab = m->config.vocab_size;
    int32_t ids[ROWS * LEN + 1];
    Plain p = plain_new(m, LEN);
    double want = 0.0, shifted = 0.0, got = 0.0;
    Err err = {0};

    good(quantity_text_ids(cm->tokenizer, ids, ROWS * LEN + 1, &err), &err);
    for (int r = 0; r < ROWS; r++) {
        const double *l = plain_logits(&p, ids + r * LEN);

        for (int t = 0; t < LEN; t++) {
            double sum = 0.0;

            for (int i = 0; i < n_vocab; i++)
                sum += exp(l[t * n_vocab + i]);
            want += (log(sum) - l[t * n_vocab + ids[r * LEN + t + 1]]) / (ROWS * LEN);
            shifted += (log(sum) - l[t * n_vocab + ids[r * LEN + t]]) / (ROWS * LEN);
        }
    }
    good(quantity_nll(m, check_first_isa(), ids, ROWS, LEN, &got, &err), &err);
    CHECK(fabs(got - want) < 1e-5, "R15: mean loss of 4 rows of 64 (%.7f, expected %.7f)", got,
          want);
    CHECK(fabs(got - shifted) > 1e-2, "R15 caught: targets not shifted (%.4f)", shifted);
}

static void weights_and_cache(const CheckModel *cm)
{
    const Gpt2 *m = &cm->model;
    const CheckRef *k = check_ref(cm, "checkpoint_02_k"), *x = check_ref(cm, "embeddings");
    const LayerNorm *ln = &m->blocks[0].ln_1;
    const int dim = m->config.dim;
    float *zeros = check_buffer((size_t)dim), largest = 0.0f, gain = 0.0f, got = 0.0f;
    double *want = doubles(x->n), *in = doubles(x->n);
    Err err = {0};
    const LayerNorm bare = {ln->gamma, zeros, ln->dim, ln->eps};
    float shift = 0.0f;

    for (int i = 0; i < dim; i++)
        largest = fmaxf(largest, fabsf(m->blocks[0].attention.qkv.c_attn.bias[i]));
    CHECK(quantity_query_bias(m) == largest && largest > 0.0f, "R16: largest query bias");
    for (size_t i = 0; i < x->n; i++)
        in[i] = (double)x->data[i];
    plain_norm(&bare, want, in, x->rows);
    for (size_t i = 0; i < x->n; i++)
        gain = fmaxf(gain, fabsf((float)want[i]));
    good(quantity_norm_gain(m, check_first_isa(), x->data, x->rows, &got, &err), &err);
    CHECK_CLOSE(&got, &gain, 1, 1e-6, "R18: largest scaled value of ln_1");

    /* R17 is what a cache that starts at row 1 is off by: so write one, and read it back. */
    {
        KvCache *cache = check_cache(1, m->config.n_heads, m->config.head_dim, 3);
        float *back = check_buffer((size_t)(2 * dim)), *v = check_buffer((size_t)(2 * dim));

        good(kv_cache_write(cache, check_first_isa(), 0, 1, k->data, k->data, (size_t)dim, 2, &err),
             &err);
        kv_cache_read(cache, 0, back, v, 2);
        for (int i = 0; i < 2 * dim; i++)
            shift = fmaxf(shift, fabsf(back[i] - k->data[i]));
        CHECK(quantity_cache_shift(k->data, dim) == shift,
              "R17: effect of a cache that starts at 1");
    }
}

/* ---- Names, shapes, text ---- */

static void refusals(const CheckModel *cm)
{
    Gpt2Config gpt2 = {.n_layers = 12,
                       .n_heads = 12,
                       .dim = 768,
                       .ffn_dim = 3072,
                       .n_ctx = 1024,
                       .vocab_size = 50257};
    Err err = {0};

    CHECK(expect_known("gpt2") && expect_known("gpt2-medium") && !expect_known("gpt2-large"),
          "knows gpt2 and gpt2-medium");
    CHECK(expect_check("gpt3", &gpt2, cm->tokenizer, &err) == ERR_USAGE, "refuses another name");
    CHECK(expect_check("gpt2", &cm->model.config, cm->tokenizer, &err) == ERR_FORMAT &&
              strstr(err.msg, "3 layers") != NULL && strstr(err.msg, "12") != NULL,
          "refuses a model of another shape and says both (%s)", err.msg);
    CHECK(expect_check("gpt2-medium", &gpt2, cm->tokenizer, &err) == ERR_FORMAT,
          "refuses gpt2 as gpt2-medium");
    CHECK(expect_check("gpt2", &gpt2, cm->tokenizer, &err) == ERR_UNSUPPORTED,
          "refuses a tokenizer of another size");
    CHECK(expect_check("gpt2", &gpt2, NULL, &err) == ERR_UNSUPPORTED, "refuses to do without one");
}

/* ---- All of it, in the shape of gpt2 ---- */

static const char gpt2_tokenizer[] = "../shared/data/gpt2-tokenizer";

/* A fixed sequence of numbers in [-scale, scale]. */
static float *noise(size_t n, float scale)
{
    float *x = check_buffer(n);
    uint32_t state = 12345;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * scale;
    }
    return x;
}

/* All blocks share one set of weights: only the shape matters here. */
static Gpt2 random_gpt2(TransformerBlock blocks[12])
{
    const size_t dim = 768, wide = 3072, n_vocab = 50257, n_ctx = 1024;
    float *bias = noise(wide, 0.02f), *ones = check_buffer(dim);
    float *matrix = noise(dim * wide, 0.02f), *wte = noise(kern_pad(n_vocab) * dim, 0.1f);
    const Linear attn = {{KERN_F32, 2304, 768, matrix, NULL}, bias};
    const Linear merge = {{KERN_F32, 768, 768, matrix, NULL}, bias};
    const Linear fc = {{KERN_F32, 3072, 768, matrix, NULL}, bias};
    const Linear proj = {{KERN_F32, 768, 3072, matrix, NULL}, bias};
    const KernMatrix table = {KERN_F32, 50257, 768, wte, NULL};
    LayerNorm ln = {ones, bias, 768, 1e-5f};

    for (size_t i = 0; i < dim; i++)
        ones[i] = 1.0f;
    for (int i = 0; i < 12; i++)
        blocks[i] = (TransformerBlock){.ln_1 = ln,
                                       .attention = {.qkv = {attn, 768},
                                                     .output = {merge},
                                                     .n_heads = 12,
                                                     .head_dim = 64,
                                                     .scale = 0.125f},
                                       .ln_2 = ln,
                                       .ffn = {fc, proj, ACT_GELU_TANH}};
    return (Gpt2){.config = {.n_layers = 12,
                             .n_heads = 12,
                             .dim = 768,
                             .head_dim = 64,
                             .ffn_dim = 3072,
                             .n_ctx = 1024,
                             .vocab_size = 50257,
                             .eps = 1e-5f},
                  .embedding = {table, noise(n_ctx * dim, 0.02f), 768},
                  .blocks = blocks,
                  .ln_f = ln,
                  .head = {table, NULL}};
}

/* Random weights must fail every recorded value: none of them passes by itself. */
static void wrong_weights(void)
{
    TransformerBlock blocks[12];
    VerdictTable table = {.rows = NULL};
    const Kernels *isa = NULL;
    Tokenizer *t = NULL;
    struct stat st;
    Gpt2 m;
    Err err = {0};
    int n_values = 0;

    if (stat(gpt2_tokenizer, &st) != 0 || kernels_available(1) == NULL || quick()) {
        /* 124 million parameters: minutes with scalar kernels or a sanitizer. */
        check_skip(stat(gpt2_tokenizer, &st) != 0 ? "no ../shared" : "slow here",
                   "random weights fail every recorded value");
        return;
    }
    good(kernels_select(&isa, NULL, &err), &err);
    good(tokenizer_load(&t, gpt2_tokenizer, &err), &err);
    m = random_gpt2(blocks);
    good(expect_check("gpt2", &m.config, t, &err), &err);
    good(verdict_init(&table, EXPECT_MAX_ROWS, &err), &err);
    good(expect_run(&table, "gpt2", &m, t, isa, &err), &err);
    for (int i = 0; i < table.n_rows; i++) {
        const VerdictRow *row = &table.rows[i];
        const bool by_itself = row->own || strstr(row->name, "prompt ids") != NULL;

        CHECK(row->verdict == (by_itself ? VERDICT_PASS : VERDICT_FAIL), "random weights %s: %s",
              by_itself ? "pass" : "fail", row->name);
        n_values += row->name[0] == 'R';
    }
    CHECK(n_values == 18, "all of R1 to R18 are there");
    verdict_free(&table);
    tokenizer_free(t);
}

static void gpt2_text(void)
{
    static const int32_t start[] = {50256, 5962, 22307, 25, 198, 8421, 356, 5120, 597, 2252};
    int32_t ids[257];
    int64_t sum = 0;
    int n_ends = 0;
    Tokenizer *t = NULL;
    struct stat st;
    Err err = {0};

    if (stat(gpt2_tokenizer, &st) != 0) {
        check_skip("no ../shared", "R15: ids of the recorded text");
        return;
    }
    good(tokenizer_load(&t, gpt2_tokenizer, &err), &err);
    good(quantity_text_ids(t, ids, 257, &err), &err);
    CHECK(memcmp(ids, start, sizeof start) == 0,
          "R15: the recorded text begins with the known ids");
    for (int i = 0; i < 257; i++) {
        sum += ids[i];
        n_ends += ids[i] == 50256;
    }
    /* Counted with another tokenizer. */
    CHECK(n_ends == 10 && sum == 1329742, "R15: all 257 ids (%d ends of text, sum %lld)", n_ends,
          (long long)sum);
    tokenizer_free(t);
}

int main(void)
{
    const CheckModel *tiny = check_model(0);

    bare_rows(tiny);
    whole_passes(tiny);
    loss(tiny);
    weights_and_cache(tiny);
    refusals(tiny);
    gpt2_text();
    wrong_weights();
    return check_report();
}
