/* profile/work.c: see work.h. The operations are those of docs/numerics.md.
 *
 * May include: common, kernels, model. */
#include "profile/work.h"

enum { F32 = 4 };

/* The pass that is looked at. */
typedef struct {
    const Gpt2Config *c;
    double tokens, dim;
    double kv_bytes;  /* of one key or value element */
    double keys;      /* that all queries see together */
    double keys_read; /* the same, but once for a group of queries */
} Pass;

static double row_bytes(const KernMatrix *w, size_t n)
{
    return (double)(kern_panels_bytes(w->type, n, (size_t)w->k) +
                    kern_scales_bytes(w->type, n, (size_t)w->k));
}

static Pass pass_of(const Gpt2 *m, KernType kv_type, int n_tokens, int start_pos)
{
    Pass p = {.c = &m->config,
              .tokens = n_tokens,
              .dim = m->config.dim,
              .kv_bytes = kv_type == KERN_F16 ? 2.0 : 4.0};

    p.keys = p.tokens * start_pos + 0.5 * p.tokens * (p.tokens + 1.0);
    for (int t = 0; t < n_tokens; t += KERN_QUERIES) {
        const int n = n_tokens - t < KERN_QUERIES ? n_tokens - t : KERN_QUERIES;

        p.keys_read += start_pos + t + n;
    }
    return p;
}

/* Rows of the two tables. */
static ProfileWork of_embedding(const Gpt2 *m, const Pass *p)
{
    const double table = row_bytes(&m->embedding.wte, KERN_PANEL) / KERN_PANEL;

    return (ProfileWork){p->tokens * (table + 2 * F32 * p->dim), p->tokens * p->dim};
}

/* Sum, difference, square and sum, difference's product with 1 / sqrt and the gain, bias. */
static ProfileWork of_norm(const Pass *p, double rows)
{
    return (ProfileWork){F32 * (2 * rows * p->dim + 2 * p->dim), 8 * rows * p->dim};
}

static ProfileWork of_linear(const Linear *l, double rows)
{
    const double n = l->w.n, k = l->w.k;

    return (ProfileWork){row_bytes(&l->w, (size_t)l->w.n) +
                             F32 * (rows * (n + k) + (l->bias != NULL ? n : 0.0)),
                         2 * rows * n * k};
}

/* Rows of float32 in, keys and values in the cache's type out. */
static ProfileWork of_cache(const Pass *p)
{
    return (ProfileWork){2 * p->tokens * p->dim * (F32 + p->kv_bytes), 0.0};
}

/* Keys and queries in and a row of scores for each head out; or values and scores in, the head's
 * part of a row out. */
static ProfileWork of_attention(const Pass *p)
{
    return (ProfileWork){p->keys_read * p->dim * p->kv_bytes +
                             F32 * (p->tokens * p->dim + p->keys * p->c->n_heads),
                         2 * p->keys * p->dim};
}

/* The largest, difference, exponential, sum. */
static ProfileWork of_softmax(const Pass *p)
{
    const double scores = p->keys * p->c->n_heads;

    return (ProfileWork){2 * F32 * scores, 4 * scores};
}

/* Twice. */
static ProfileWork of_add(const Pass *p)
{
    return (ProfileWork){2 * 3 * F32 * p->tokens * p->dim, 2 * p->tokens * p->dim};
}

static ProfileWork of_activation(const Pass *p, Activation f)
{
    static const double flop[ACT_COUNT] = {
        [ACT_GELU_TANH] = 7, [ACT_GELU_ERF] = 24, [ACT_RELU] = 1, [ACT_SILU] = 3, [ACT_TANH] = 1};
    const double n = p->tokens * p->c->ffn_dim;

    return (ProfileWork){2 * F32 * n, flop[f] * n};
}

static ProfileWork of_block(const TransformerBlock *b, const Pass *p, int part)
{
    switch (part) {
    case TAP_PART_LN_1:
    case TAP_PART_LN_2:
        return of_norm(p, p->tokens);
    case TAP_PART_QKV:
        return of_linear(&b->attention.qkv.c_attn, p->tokens);
    case TAP_PART_CACHE:
        return of_cache(p);
    case TAP_PART_SCORES:
    case TAP_PART_VALUES:
        return of_attention(p);
    case TAP_PART_SOFTMAX:
        return of_softmax(p);
    case TAP_PART_C_PROJ:
        return of_linear(&b->attention.output.c_proj, p->tokens);
    case TAP_PART_ADD:
        return of_add(p);
    case TAP_PART_FC:
        return of_linear(&b->ffn.c_fc, p->tokens);
    case TAP_PART_GELU:
        return of_activation(p, b->ffn.activation);
    case TAP_PART_PROJ:
        return of_linear(&b->ffn.c_proj, p->tokens);
    default:
        return (ProfileWork){0.0, 0.0};
    }
}

ProfileWork profile_work(const Gpt2 *m, KernType kv_type, int part, int layer, int n_tokens,
                         int start_pos, bool logits)
{
    const Pass p = pass_of(m, kv_type, n_tokens, start_pos);

    if (layer >= 0)
        return of_block(&m->blocks[layer], &p, part);
    if (part == TAP_PART_EMBEDDING)
        return of_embedding(m, &p);
    if (part == TAP_PART_LN_F && logits)
        return of_norm(&p, 1.0);
    if (part == TAP_PART_HEAD && logits)
        return of_linear(&m->head, 1.0);
    return (ProfileWork){0.0, 0.0};
}

ProfileWork profile_phase_work(const Profile *p, KernType kv_type, ProfilePhase phase, int part,
                               int layer)
{
    const int first = layer == PROFILE_ALL_LAYERS ? -1 : layer;
    const int last = layer == PROFILE_ALL_LAYERS ? p->n_layers - 1 : layer;
    ProfileWork sum = {0.0, 0.0};

    for (int i = 0; i < p->n_passes; i++) {
        const ProfilePass *pass = &p->passes[i];

        if (pass->phase != phase)
            continue;
        for (int l = first; l <= last; l++) {
            const ProfileWork w = profile_work(p->model, kv_type, part, l, pass->n_tokens,
                                               pass->start_pos, pass->logits);

            sum.bytes += w.bytes;
            sum.flop += w.flop;
        }
    }
    return sum;
}
