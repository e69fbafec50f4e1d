/* tests/test_sampling_reference.c: whole jobs of the sampler on every instruction set, against a
 * naive version that sorts everything and against the documented ones. */
#include "sampling_rig.h"

#include <math.h>

#include "kernels/elementary.h"
#include "random.h"
#include "sampling/rng.h"

/* --- the naive version --- */

typedef struct {
    float x, p;
    int id;
} Candidate;

typedef struct {
    SamplingParams params;
    int vocab_size, n_draws;
    bool seen[MAX_VOCAB];
} Naive;

static int by_id(const void *a, const void *b)
{
    return ((const Candidate *)a)->id - ((const Candidate *)b)->id;
}

static int by_logit(const void *a, const void *b)
{
    const Candidate *l = a, *r = b;

    return l->x > r->x ? -1 : l->x < r->x ? 1 : by_id(a, b);
}

static int by_probability(const void *a, const void *b)
{
    const Candidate *l = a, *r = b;

    return l->p > r->p ? -1 : l->p < r->p ? 1 : by_id(a, b);
}

static void naive_softmax(Candidate *c, int n)
{
    float m = c[0].x, lane[KERN_LANES] = {0};

    for (int i = 1; i < n; i++)
        m = c[i].x > m ? c[i].x : m;
    for (int i = 0; i < n; i++) {
        c[i].p = kern_exp(c[i].x - m);
        lane[i % KERN_LANES] = lane[i % KERN_LANES] + c[i].p;
    }
    const float inv = 1.0f / kern_fold_lanes(lane);
    for (int i = 0; i < n; i++)
        c[i].p = c[i].p * inv;
}

static float naive_clamp(float x)
{
    return fmaxf(fminf(x, 0x1p126f), -0x1p126f);
}

static uint64_t naive_mass(float p)
{
    return (uint64_t)floor(ldexp((double)p, 52));
}

static int naive_filter(const Naive *s, Candidate *c)
{
    const SamplingParams *p = &s->params;
    int n = s->vocab_size;

    if (p->top_k > 0 && p->top_k < n) {
        qsort(c, (size_t)n, sizeof *c, by_logit);
        n = (int)p->top_k;
        qsort(c, (size_t)n, sizeof *c, by_id);
    }
    naive_softmax(c, n);
    if (p->top_p < 1.0f) {
        uint64_t sum = 0;
        int kept = 0;

        qsort(c, (size_t)n, sizeof *c, by_probability);
        do
            sum += naive_mass(c[kept++].p);
        while (kept < n && sum < naive_mass(p->top_p));
        n = kept;
        qsort(c, (size_t)n, sizeof *c, by_id);
    }
    if (p->min_p > 0.0f) {
        float most = 0.0f;
        int kept = 0;

        for (int i = 0; i < n; i++)
            most = fmaxf(most, c[i].p);
        for (int i = 0; i < n; i++)
            if (c[i].p >= p->min_p * most)
                c[kept++] = c[i];
        n = kept;
    }
    naive_softmax(c, n);
    return n;
}

static int naive_next(Naive *s, const float *logits)
{
    static Candidate c[MAX_VOCAB];
    const float penalty = s->params.repetition_penalty;
    const bool is_greedy = s->params.temperature < 1e-6f;

    for (int i = 0; i < s->vocab_size; i++) {
        float x = is_greedy ? logits[i] : naive_clamp(logits[i] / s->params.temperature);

        if (s->seen[i] && penalty != 0.0f && penalty != 1.0f)
            x = naive_clamp(x > 0.0f ? x / penalty : x * penalty);
        c[i] = (Candidate){.x = x, .id = i};
    }
    int id;
    if (is_greedy) {
        qsort(c, (size_t)s->vocab_size, sizeof *c, by_logit);
        id = c[0].id;
    } else {
        const int n = naive_filter(s, c);
        const double u = rng_uniform(s->params.seed, (uint64_t)s->n_draws++);
        uint64_t sum = 0;

        id = -1;
        for (int i = 0; i < n && ldexp((double)sum, -52) <= u; i++) {
            sum += naive_mass(c[i].p);
            if (naive_mass(c[i].p) > 0)
                id = c[i].id;
        }
    }
    s->seen[id] = true;
    return id;
}

/* --- random jobs --- */

/* Logits of several kinds: spread, full of ties, flat with a few peaks, huge. */
static void random_logits(float *x, int n, uint64_t *seed)
{
    const uint32_t kind = next_random(seed) % 5;

    for (int i = 0; i < n; i++) {
        const int r = (int)(next_random(seed) % 65536) - 32768;

        x[i] = kind == 0   ? (float)r / 3000.0f
               : kind == 1 ? (float)(r % 7)
               : kind == 2 ? (r % 50 == 0 ? 4.0f : 0.0f) + (float)(r % 3) * 1e-6f
               : kind == 3 ? (float)r * 1e33f
                           : (r > 0 ? 0.0f : -0.0f);
    }
}

static float pick(const float *values, uint32_t n, uint64_t *seed)
{
    return values[next_random(seed) % n];
}

static SamplingParams random_params(int vocab_size, uint64_t *seed)
{
    static const float temperatures[] = {0.0f, 1e-6f, 0.3f, 0.7f, 1.0f, 1.0f, 1.5f, 2.0f};
    static const float top_ps[] = {0.0f, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f, 0.9999999f, 1.0f, 1.0f};
    static const float min_ps[] = {0.0f, 0.0f, 0.001f, 0.05f, 0.5f, 1.0f};
    static const float penalties[] = {0.0f, 1.0f, 1.0f, 0.5f, 1.1f, 1.3f, 2.0f};
    SamplingParams p = sampling_defaults();

    p.temperature = pick(temperatures, 8, seed);
    p.top_p = pick(top_ps, 9, seed);
    p.min_p = pick(min_ps, 6, seed);
    p.repetition_penalty = pick(penalties, 7, seed);
    p.top_k = next_random(seed) % 2 ? 0 : next_random(seed) % (uint32_t)(vocab_size + 2);
    p.seed = (uint64_t)next_random(seed) << 32 | next_random(seed);
    return p;
}

static void equals_the_naive_version(void **state)
{
    static float x[MAX_VOCAB];
    uint64_t seed = 20240607;

    (void)state;
    for (int round = 0; round < 300; round++) {
        const int vocab_size = 1 + (int)(next_random(&seed) % (round % 4 == 0 ? MAX_VOCAB : 40));
        Made m[2];
        int n_isa = 0;

        for (; n_isa < 2 && kernels_available(n_isa) != NULL; n_isa++)
            m[n_isa] = make_sampler(kernels_available(n_isa), vocab_size);
        for (int job = 0; job < 10; job++) {
            Naive naive = {.params = random_params(vocab_size, &seed), .vocab_size = vocab_size};

            for (int j = 0; j < n_isa; j++)
                sampler_reset(m[j].s, &naive.params);
            for (int i = 0; i < 4; i++) {
                random_logits(x, vocab_size, &seed);
                const int want = naive_next(&naive, x);

                for (int j = 0; j < n_isa; j++)
                    assert_int_equal(next(&m[j], x), want);
            }
        }
        for (int j = 0; j < n_isa; j++)
            arena_free(&m[j].arena);
    }
}

static void jobs_do_not_touch_each_other(void **state)
{
    float x[64];
    uint64_t seed = 3;
    SamplingParams p = sampling_defaults();
    Made used = make_sampler(scalar(), 64), fresh = make_sampler(scalar(), 64);
    SamplingParams other = {.temperature = 0.2f,
                            .top_p = 0.3f,
                            .top_k = 3,
                            .repetition_penalty = 2.0f,
                            .min_p = 0.4f,
                            .seed = 1};

    (void)state;
    random_logits(x, 64, &seed);
    sampler_reset(used.s, &other);
    for (int i = 0; i < 30; i++)
        (void)next(&used, x);
    p.repetition_penalty = 1.7f;
    sampler_reset(used.s, &p);
    sampler_reset(fresh.s, &p);
    for (int i = 0; i < 30; i++)
        assert_int_equal(next(&used, x), next(&fresh, x));
    arena_free(&used.arena);
    arena_free(&fresh.arena);
}

/* --- the documented jobs --- */

static void documented_example(void **state)
{
    /* docs/numerics.md, sampling: 16 logits, two settings, eight tokens each. */
    static const int want_plain[] = {7, 13, 8, 4, 10, 4, 4, 10};
    static const int want_filtered[] = {10, 10, 9, 9, 7, 4, 13, 13};
    float x[16];
    SamplingParams p = sampling_defaults();
    Made m = make_sampler(scalar(), 16);

    (void)state;
    for (int i = 0; i < 16; i++)
        x[i] = (float)(i * i % 17) / 4.0f;
    sampler_reset(m.s, &p);
    for (int i = 0; i < 8; i++)
        assert_int_equal(next(&m, x), want_plain[i]);
    p = (SamplingParams){.temperature = 0.8f,
                         .top_p = 0.95f,
                         .top_k = 8,
                         .repetition_penalty = 1.1f,
                         .min_p = 0.05f,
                         .seed = 7};
    sampler_reset(m.s, &p);
    for (int i = 0; i < 8; i++)
        assert_int_equal(next(&m, x), want_filtered[i]);
    arena_free(&m.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_naive_version),
        cmocka_unit_test(documented_example),
        cmocka_unit_test(jobs_do_not_touch_each_other),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
