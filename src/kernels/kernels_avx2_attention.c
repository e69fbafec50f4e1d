/* kernels/kernels_avx2_attention.c: scores and values, for one query (decoding) or several (a
 * prompt), over an f32 or f16 cache.
 *
 * Keys lie as panels of 8 positions, values as panels of 8 dimensions: lanes run over those, each
 * sum is one chain. One query takes as many panels side by side as there are registers, because it
 * waits for memory; several queries share what they load, in tiles of two panels.
 *
 * May include: kernels. */
#if defined(__x86_64__)

#include "kernels/elementary.h"
#include "kernels/kernels_avx2.h"

enum { SCORE_PANELS = 4, VALUE_PANELS = 4 }; /* of a single query */

/* ---- Scores ---- */

/* m queries times np panels of 8 keys each, apart panels from one to the next. */
ALWAYS_INLINE void score_panels(const KernType type, const int m, const int np, float *s,
                                size_t lds, const float *q, size_t ldq, const unsigned char *keys,
                                int apart, int head_dim, float scale)
{
    const size_t panel_bytes = (size_t)apart * (size_t)head_dim * KERN_PANEL * element_bytes(type);
    __m256 a[KERN_QUERIES][SCORE_PANELS], v[SCORE_PANELS];

    EACH (p, np)
        EACH (t, m)
            a[t][p] = _mm256_setzero_ps();
    for (int d = 0; d < head_dim; d++) {
        EACH (p, np)
            v[p] = load_term(type, keys + (size_t)p * panel_bytes, (size_t)d);
        EACH (t, m) {
            const __m256 b = _mm256_broadcast_ss(q + (size_t)t * ldq + d);

            EACH (p, np)
                a[t][p] = _mm256_fmadd_ps(b, v[p], a[t][p]);
        }
    }
    EACH (t, m)
        EACH (p, np)
            _mm256_storeu_ps(s + (size_t)t * lds + (size_t)(p * apart) * KERN_PANEL,
                             _mm256_mul_ps(_mm256_set1_ps(scale), a[t][p]));
}

ALWAYS_INLINE void scores(const KernType type, const int m, const int np, float *s, size_t lds,
                          const float *q, size_t ldq, const KernHead *head, int n_keys, float scale)
{
    const size_t panel_bytes = (size_t)head->head_dim * KERN_PANEL * element_bytes(type);
    const unsigned char *keys = head->k_panels;
    const int n_panels = (n_keys + m - 1 + KERN_PANEL - 1) / KERN_PANEL;
    const int groups = n_panels / np;
    const bool far = m == 1;

    for (int g = 0; g < groups; g++) {
        const int p = far ? g : g * np;

        score_panels(type, m, np, s + (size_t)p * KERN_PANEL, lds, q, ldq,
                     keys + (size_t)p * panel_bytes, far ? groups : 1, head->head_dim, scale);
    }
    for (int p = groups * np; p < n_panels; p++)
        score_panels(type, m, 1, s + (size_t)p * KERN_PANEL, lds, q, ldq,
                     keys + (size_t)p * panel_bytes, 1, head->head_dim, scale);
}

/* ---- Values ---- */

/* m queries times np panels of 8 dimensions each; dims: what is left from the first of them on. */
ALWAYS_INLINE void value_panels(const KernType type, const int m, const int np, float *o,
                                size_t ldo, const float *e, size_t lde, const float *inv,
                                const unsigned char *values, size_t panel_bytes, int n_keys,
                                int dims)
{
    __m256 a[KERN_QUERIES][VALUE_PANELS], v[VALUE_PANELS];

    EACH (p, np)
        EACH (t, m)
            a[t][p] = _mm256_setzero_ps();
    for (int i = 0; i < n_keys; i++) {
        EACH (p, np)
            v[p] = load_term(type, values + (size_t)p * panel_bytes, (size_t)i);
        EACH (t, m) {
            const __m256 b = _mm256_broadcast_ss(e + (size_t)t * lde + i);

            EACH (p, np)
                a[t][p] = _mm256_fmadd_ps(b, v[p], a[t][p]);
        }
    }
    EACH (t, m) {
        for (int i = n_keys; i < n_keys + t; i++) {
            const __m256 b = _mm256_broadcast_ss(e + (size_t)t * lde + i);

            EACH (p, np)
                a[t][p] = _mm256_fmadd_ps(
                    b, load_term(type, values + (size_t)p * panel_bytes, (size_t)i), a[t][p]);
        }
        EACH (p, np)
            store_part(o + (size_t)t * ldo + (size_t)p * KERN_PANEL,
                       _mm256_mul_ps(_mm256_broadcast_ss(inv + t), a[t][p]), dims - p * KERN_PANEL);
    }
}

ALWAYS_INLINE void values(const KernType type, const int m, const int np, float *o, size_t ldo,
                          const float *e, size_t lde, const float *inv, const KernHead *head,
                          int n_keys)
{
    const size_t panel_bytes = head->v_stride * element_bytes(type);
    const unsigned char *panels = head->v_panels;
    const int head_dim = head->head_dim;
    int d = 0;

    for (; d + np * KERN_PANEL <= head_dim; d += np * KERN_PANEL)
        value_panels(type, m, np, o + d, ldo, e, lde, inv,
                     panels + (size_t)(d / KERN_PANEL) * panel_bytes, panel_bytes, n_keys,
                     head_dim - d);
    for (; d < head_dim; d += KERN_PANEL)
        value_panels(type, m, 1, o + d, ldo, e, lde, inv,
                     panels + (size_t)(d / KERN_PANEL) * panel_bytes, panel_bytes, n_keys,
                     head_dim - d);
}

/* ---- One function for each number of queries ---- */

typedef void Scores(float *s, size_t lds, const float *q, size_t ldq, const KernHead *head,
                    int n_keys, float scale);
typedef void Values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                    const KernHead *head, int n_keys);

#define DEFINE_ATTENTION(TYPE, M, SCORE_NP, VALUE_NP)                                              \
    static void scores_##TYPE##_##M(float *s, size_t lds, const float *q, size_t ldq,              \
                                    const KernHead *head, int n_keys, float scale)                 \
    {                                                                                              \
        scores(KERN_##TYPE, M, SCORE_NP, s, lds, q, ldq, head, n_keys, scale);                     \
    }                                                                                              \
    static void values_##TYPE##_##M(float *o, size_t ldo, const float *e, size_t lde,              \
                                    const float *inv, const KernHead *head, int n_keys)            \
    {                                                                                              \
        values(KERN_##TYPE, M, VALUE_NP, o, ldo, e, lde, inv, head, n_keys);                       \
    }

#define DEFINE_ATTENTIONS(TYPE)                                                                    \
    DEFINE_ATTENTION(TYPE, 1, SCORE_PANELS, VALUE_PANELS)                                          \
    DEFINE_ATTENTION(TYPE, 2, 2, 2)                                                                \
    DEFINE_ATTENTION(TYPE, 3, 2, 2)                                                                \
    DEFINE_ATTENTION(TYPE, 4, 2, 2)                                                                \
    DEFINE_ATTENTION(TYPE, 5, 2, 2)                                                                \
    DEFINE_ATTENTION(TYPE, 6, 2, 2)

DEFINE_ATTENTIONS(F32)
DEFINE_ATTENTIONS(F16)

#define ATTENTION_ROW(NAME)                                                                        \
    {                                                                                              \
        NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5, NAME##_6                                 \
    }

static Scores *const all_scores[2][KERN_QUERIES] = {
    [KERN_F32] = ATTENTION_ROW(scores_F32), [KERN_F16] = ATTENTION_ROW(scores_F16)};
static Values *const all_values[2][KERN_QUERIES] = {
    [KERN_F32] = ATTENTION_ROW(values_F32), [KERN_F16] = ATTENTION_ROW(values_F16)};

void avx2_attn_scores(float *s, size_t lds, const float *q, size_t ldq, int n_queries,
                      const KernHead *head, int n_keys, float scale)
{
    all_scores[head->type][n_queries - 1](s, lds, q, ldq, head, n_keys, scale);
}

void avx2_attn_values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                      int n_queries, const KernHead *head, int n_keys)
{
    all_values[head->type][n_queries - 1](o, ldo, e, lde, inv, head, n_keys);
}

#else
/* Another processor family: nothing to compile, but ISO C wants a declaration. */
typedef int KernelsAvx2AttentionUnused;
#endif
