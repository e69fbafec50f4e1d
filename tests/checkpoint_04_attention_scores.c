/* tests/checkpoint_04_attention_scores.c: scaled scores, causal mask, softmax, from the reference's
 * own q and k. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "layers/attention/scores.h"

/* The three stages of block 0, [heads, T, T] each. */
typedef struct {
    float *scores, *masked, *probs;
} Stages;

typedef struct {
    float scale;     /* what the dot products are multiplied by */
    int extra_keys;  /* keys that a query sees beyond its own position */
    int first_query; /* its position as the mask believes it: P forgotten when 0 */
    bool swap_heads; /* keys of the next head */
} Rule;

static KvCache *cache_of(const float *k, int n_tokens, int n_heads, int head_dim)
{
    KvCache *cache = check_cache(1, n_heads, head_dim, n_tokens);
    Err err = {0};

    if (kv_cache_write(cache, check_first_isa(), 0, 0, k, k, (size_t)n_heads * (size_t)head_dim,
                       n_tokens, &err) != ERR_OK)
        check_bail("cache: %s", err.msg);
    return cache;
}

/* Queries start .. start + n_queries - 1 of q against all keys of the cache. */
static Stages run(const Kernels *isa, const float *q, const KvCache *cache, int start,
                  int n_queries, Rule rule)
{
    const int n_keys = cache->n_ctx, n_heads = cache->n_heads, head_dim = cache->head_dim;
    const size_t n = (size_t)n_heads * (size_t)n_queries * (size_t)n_keys;
    Stages s = {check_buffer(n), check_buffer(n), check_buffer(n)};
    float *row = check_buffer(kern_pad((size_t)n_keys));

    for (int h = 0; h < n_heads; h++)
        for (int t = 0; t < n_queries; t++) {
            const float *query = q + ((start + t) * n_heads + h) * head_dim;
            const size_t at = ((size_t)h * (size_t)n_queries + (size_t)t) * (size_t)n_keys;
            const int head = rule.swap_heads ? (h + 1) % n_heads : h;
            int n_seen = rule.first_query + t + 1 + rule.extra_keys;
            float inv;

            n_seen = n_seen < n_keys ? n_seen : n_keys;
            scores_forward(isa, row, 0, query, 0, 1, cache, 0, head, n_keys, rule.scale);
            memcpy(s.scores + at, row, (size_t)n_keys * sizeof *row);
            scores_forward(isa, row, 0, query, 0, 1, cache, 0, head, n_seen, rule.scale);
            for (int i = 0; i < n_keys; i++)
                s.masked[at + (size_t)i] = i < n_seen ? row[i] : -INFINITY;
            inv = scores_softmax(isa, row, n_seen);
            for (int i = 0; i < n_seen; i++)
                s.probs[at + (size_t)i] = row[i] * inv;
        }
    return s;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const CheckRef *want = check_ref(m, "checkpoint_04_scores");
    const CheckRef *masked = check_ref(m, "checkpoint_04_masked");
    const CheckRef *probs = check_ref(m, "checkpoint_04_probs");
    const Gpt2Config *c = &m->model.config;
    const Rule rule = {.scale = scores_scale(c->head_dim, 0, 1, 0)};
    const KvCache *cache = cache_of(k->data, k->rows, c->n_heads, c->head_dim);
    const Stages scalar = run(check_first_isa(), q->data, cache, 0, q->rows, rule);

    CHECK(rule.scale == m->model.blocks[0].attention.scale,
          "%s: the loaded model scales by 1 / sqrt(head_dim)", m->name);
    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        const Stages got = run(isa, q->data, cache, 0, q->rows, rule);
        const Stages again = run(isa, q->data, cache, 0, q->rows, rule);
        CompareView ours = masked->view;
        ours.data = got.masked;
        const Comparison mask = compare_masked(&ours, &masked->view, TOL_SCORES);

        CHECK_CLOSE(got.scores, want->data, want->n, TOL_SCORES, "%s %s: scaled scores", m->name,
                    isa->name);
        CHECK(mask.verdict == COMPARE_EQUAL,
              "%s %s: minus infinity exactly at masked places (%.2g)", m->name, isa->name,
              mask.worst);
        CHECK_CLOSE(got.probs, probs->data, probs->n, TOL_SCORES, "%s %s: probabilities", m->name,
                    isa->name);
        CHECK_SAME_BITS(again.probs, got.probs, probs->n, "%s %s: the same bits twice", m->name,
                        isa->name);
        CHECK_SAME_BITS(got.scores, scalar.scores, want->n, "%s %s: the scalar table's scores",
                        m->name, isa->name);
        CHECK_SAME_BITS(got.probs, scalar.probs, want->n, "%s %s: the scalar table's probabilities",
                        m->name, isa->name);
    }
}

/* Rows sum to 1, the first query sees only itself, and a later token changes no earlier row. */
static void properties(const CheckModel *m, const Kernels *isa)
{
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const Gpt2Config *c = &m->model.config;
    const Rule rule = {.scale = scores_scale(c->head_dim, 0, 1, 0)};
    const size_t n = (size_t)q->rows, dim = (size_t)c->dim;
    const Stages got =
        run(isa, q->data, cache_of(k->data, k->rows, c->n_heads, c->head_dim), 0, q->rows, rule);
    float *other_k = check_copy(k->data, k->n), *other_q = check_copy(q->data, q->n);
    Stages other;
    double worst_sum = 0.0;
    bool first = true, same = true;

    for (size_t r = 0; r < (size_t)c->n_heads * n; r++) {
        double sum = 0.0;

        for (size_t i = 0; i < n; i++)
            sum += (double)got.probs[r * n + i];
        worst_sum = fmax(worst_sum, fabs(sum - 1.0));
        for (size_t i = 0; r % n == 0 && i < n; i++)
            first = first && got.probs[r * n + i] == (i == 0 ? 1.0f : 0.0f);
    }
    CHECK(worst_sum <= TOL_PROBS, "%s %s: rows sum to 1 (off by %.2g)", m->name, isa->name,
          worst_sum);
    CHECK(first, "%s %s: row 0 of every head is 1, 0, 0, ...", m->name, isa->name);

    for (size_t i = 0; i < dim; i++) {
        other_k[(n - 1) * dim + i] += 1.0f;
        other_q[(n - 1) * dim + i] -= 1.0f;
    }
    other =
        run(isa, other_q, cache_of(other_k, k->rows, c->n_heads, c->head_dim), 0, q->rows, rule);
    for (size_t h = 0; h < (size_t)c->n_heads; h++)
        same = same && memcmp(other.probs + h * n * n, got.probs + h * n * n,
                              (n - 1) * n * sizeof *got.probs) == 0;
    CHECK(same, "%s %s: a later token changes no earlier row", m->name, isa->name);
}

/* The last three queries alone, at positions P = T - 3 on, as a decode step or a chunk sees them.
 */
static void later_queries(const CheckModel *m, const Kernels *isa)
{
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const CheckRef *probs = check_ref(m, "checkpoint_04_probs");
    const Gpt2Config *c = &m->model.config;
    const size_t n = (size_t)q->rows, rows = 3;
    const KvCache *cache = cache_of(k->data, k->rows, c->n_heads, c->head_dim);
    float *want = check_buffer((size_t)c->n_heads * rows * n);
    Rule rule = {.scale = scores_scale(c->head_dim, 0, 1, 0), .first_query = q->rows - 3};

    for (size_t h = 0; h < (size_t)c->n_heads; h++)
        memcpy(want + h * rows * n, probs->data + (h * n + n - rows) * n, rows * n * sizeof *want);
    CHECK_CLOSE(run(isa, q->data, cache, q->rows - 3, 3, rule).probs, want,
                (size_t)c->n_heads * rows * n, TOL_SCORES, "%s %s: queries at position P", m->name,
                isa->name);
    rule.first_query = 0;
    CHECK_NOT_CLOSE(run(isa, q->data, cache, q->rows - 3, 3, rule).probs, want,
                    (size_t)c->n_heads * rows * n, TOL_SCORES,
                    "%s %s caught: a mask that ignores P", m->name, isa->name);
}

static void mistakes(const CheckModel *m)
{
    const CheckRef *q = check_ref(m, "checkpoint_02_q"), *k = check_ref(m, "checkpoint_02_k");
    const CheckRef *want = check_ref(m, "checkpoint_04_scores");
    const CheckRef *masked = check_ref(m, "checkpoint_04_masked");
    const CheckRef *probs = check_ref(m, "checkpoint_04_probs");
    const Gpt2Config *c = &m->model.config;
    const Kernels *isa = check_first_isa();
    const KvCache *cache = cache_of(k->data, k->rows, c->n_heads, c->head_dim);
    const float scale = scores_scale(c->head_dim, 0, 1, 0);
    const Stages right = run(isa, q->data, cache, 0, q->rows, (Rule){.scale = scale});
    const struct {
        Rule rule;
        const char *what;
    } scores[] = {{{.scale = scale * scale}, "divided by head_dim"},
                  {{.scale = 1.0f / sqrtf((float)c->dim)}, "divided by sqrt(width)"},
                  {{.scale = 1.0f}, "not scaled"},
                  {{.scale = 2.0f * scale}, "scaled for a quarter of head_dim"},
                  {{.scale = scale, .swap_heads = true}, "keys of another head"}};
    const Stages unmasked = run(isa, q->data, cache, 0, q->rows, (Rule){scale, q->rows, 0, false});
    const Stages one_more = run(isa, q->data, cache, 0, q->rows, (Rule){scale, 1, 0, false});
    const CompareView shape = masked->view;
    CompareView ours = shape;
    float *doubled = check_copy(right.scores, want->n);

    for (size_t i = 0; i < sizeof scores / sizeof scores[0]; i++)
        CHECK_NOT_CLOSE(run(isa, q->data, cache, 0, q->rows, scores[i].rule).scores, want->data,
                        want->n, TOL_SCORES, "%s caught: %s", m->name, scores[i].what);
    for (size_t i = 0; i < want->n; i++)
        doubled[i] *= 2.0f;
    CHECK_CLOSE(run(isa, q->data, cache, 0, q->rows, scores[3].rule).scores, doubled, want->n, 1e-6,
                "%s: that one is exactly 2 times too large", m->name);

    CHECK_NOT_CLOSE(unmasked.probs, probs->data, probs->n, TOL_SCORES, "%s caught: no causal mask",
                    m->name);
    ours.data = unmasked.masked;
    CHECK(compare_masked(&ours, &shape, TOL_SCORES).verdict == COMPARE_MASK,
          "%s caught: no causal mask, by the missing minus infinity", m->name);
    CHECK_NOT_CLOSE(one_more.probs, probs->data, probs->n, TOL_SCORES,
                    "%s caught: a query that sees the next key", m->name);
    ours.data = one_more.masked;
    CHECK(compare_masked(&ours, &shape, TOL_SCORES).verdict == COMPARE_MASK,
          "%s caught: a query that sees the next key, by the mask", m->name);
    ours.data = right.scores;
    CHECK(compare_masked(&ours, &shape, TOL_SCORES).verdict == COMPARE_MASK,
          "%s caught: scores where masked scores belong", m->name);
}

/* S6: q = 0.5 sin(n 0.001), k = 0.3 cos(n 0.001), [2, 12, 64], unmasked. */
static void vector(const Kernels *isa)
{
    static const float first[] = {0.03774923f, 0.02604232f, 0.85968002f, 0.59935216f,
                                  0.11382677f, 0.07401662f, 0.90765431f, 0.59229058f,
                                  0.18804192f, 0.11396004f, 0.94759773f, 0.57553816f};
    enum { N = 2 * 12 * 64, SCORES = 12 * 2 * 2 };
    float *q = check_buffer(N), *k = check_buffer(N), range[2];
    Stages s;

    for (int n = 0; n < N; n++) {
        q[n] = (float)(0.5 * sin((double)((float)n * 0.001f)));
        k[n] = (float)(0.3 * cos((double)((float)n * 0.001f)));
    }
    s = run(isa, q, cache_of(k, 2, 12, 64), 0, 2, (Rule){.scale = scores_scale(64, 0, 1, 0)});
    CHECK_CLOSE(s.scores, first, 12, TOL_SCORES, "S6 %s: heads 0 to 2", isa->name);
    range[0] = range[1] = s.scores[0];
    for (int i = 1; i < SCORES; i++) {
        range[0] = fminf(range[0], s.scores[i]);
        range[1] = fmaxf(range[1], s.scores[i]);
    }
    CHECK_CLOSE(range, ((const float[]){0.02604232f, 1.01617101f}), 2, TOL_SCORES, "S6 %s: range",
                isa->name);
}

static void scales(void)
{
    CHECK(scores_scale(64, 5, 1, 0) == 0.125f, "the scale of head_dim 64 is exactly 1/8");
    CHECK(scores_scale(64, 3, 1, 1) == 0.125f / 4.0f, "by layer: divided by layer + 1");
    CHECK(scores_scale(64, 3, 0, 0) == 1.0f, "scale_attn_weights off: 1");
    CHECK(scores_scale(64, 3, 0, 1) == 0.25f, "off and by layer: 1 / (layer + 1)");
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        const CheckModel *m = check_model(i);

        on_references(m);
        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
            properties(m, k);
            later_queries(m, k);
        }
        mistakes(m);
    }
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        vector(k);
    scales();
    return check_report();
}
