/* tests/exactness_rig.h: what the tests of whole-model logits share: a model in one type with one
 * type of cache, a sequence, and the logits of all its positions as the scalar table computes them.
 *
 * Include after the standard headers and cmocka.h. Run from the root of the repository. */
#ifndef LLORCH_TESTS_EXACTNESS_RIG_H
#define LLORCH_TESTS_EXACTNESS_RIG_H

#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "quick.h"

#define TINY                                                                                       \
    "tests/data/tiny-gpt2" /* F32; rows of 48 weights stay F16 in the 8- and 4-bit types           \
                            */
#define SHAKESPEARE "models/shakespeare" /* F16; every row can be cut into blocks of 32 */

/* Positions of a sequence: more than a pass takes at most with a cache of F32, else less. */
enum { N_IDS = GPT2_MAX_CHUNK + 8, FEWER_IDS = 110, QUICK_IDS = 40 };

/* ---- Logits ---- */

/* Of every position of one sequence, [n, vocab]. */
typedef struct {
    float *rows;
    int n, vocab;
} Logits;

static inline Logits new_logits(const Gpt2 *m, int n)
{
    const Logits l = {calloc((size_t)n * (size_t)m->config.vocab_size, sizeof(float)), n,
                      m->config.vocab_size};

    assert_non_null(l.rows);
    return l;
}

static inline float *logits_row(const Logits *l, int position)
{
    return l->rows + (size_t)position * (size_t)l->vocab;
}

/* No logits are left from the pass before: a NaN in every element. */
static inline void wipe_logits(Logits *l)
{
    memset(l->rows, 0xff, (size_t)l->n * (size_t)l->vocab * sizeof(float));
}

static inline void keep_logits(void *ctx, const TapEvent *e)
{
    Logits *l = ctx;

    if (e->stage == TAP_LOGITS)
        memcpy(logits_row(l, e->start_pos), e->data, (size_t)l->vocab * sizeof(float));
}

static inline void assert_same_row(const float *got, const float *want, int vocab, int position,
                                   const char *model, const char *way)
{
    if (memcmp(got, want, (size_t)vocab * sizeof(float)) == 0)
        return;
    for (int i = 0; i < vocab; i++)
        if (memcmp(got + i, want + i, sizeof(float)) != 0)
            fail_msg("%s, %s: position %d, token %d: %a, expected %a", model, way, position, i,
                     (double)got[i], (double)want[i]);
}

static inline void assert_same(const Logits *got, const Logits *want, const char *model,
                               const char *way)
{
    assert_int_equal(got->n, want->n);
    for (int i = 0; i < want->n; i++)
        assert_same_row(logits_row(got, i), logits_row(want, i), want->vocab, i, model, way);
}

/* ---- Models ---- */

/* type: of the weights; KERN_TYPE_COUNT leaves them as they are. */
static inline void load_as(Gpt2 *m, const char *path, KernType type)
{
    const Gpt2LoadOptions o = {.convert = type != KERN_TYPE_COUNT, .type = type};
    Err err = {0};

    if (gpt2_load(m, path, &o, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline void make_ids(int32_t *ids, int n, int vocab, uint32_t seed)
{
    uint32_t x = seed;

    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)(x >> 8) % vocab;
    }
}

static inline void init_run(Gpt2Run *run, const Gpt2 *m, const Kernels *k, KernType kv_type)
{
    Err err = {0};

    if (gpt2_run_init(run, m, k, m->config.n_ctx, GPT2_MAX_CHUNK, kv_type, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline void forward(Gpt2Run *run, const int32_t *ids, int n, const Tap *tap)
{
    Err err = {0};

    if (gpt2_forward(run, ids, n, true, tap, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* All logits of ids computed in chunks, from the position on that the cache has reached. */
static inline void compute(Gpt2Run *run, Logits *l, const int32_t *ids, int n, int chunk)
{
    const Tap tap = {.ctx = l, .observe = keep_logits};

    while (run->cache.length < n) {
        const int left = n - run->cache.length;

        forward(run, ids + run->cache.length, left < chunk ? left : chunk, &tap);
    }
}

static inline const Kernels *best_kernels(void)
{
    const Kernels *best = kernels_available(0);

    for (int i = 1; kernels_available(i) != NULL; i++)
        best = kernels_available(i);
    return best;
}

/* What everything else is compared with: the scalar table, one token at a time. */
static inline Logits reference(const Gpt2 *m, KernType kv_type, const int32_t *ids, int n)
{
    Logits l = new_logits(m, n);
    Gpt2Run run;

    init_run(&run, m, kernels_available(0), kv_type);
    compute(&run, &l, ids, n, 1);
    gpt2_run_free(&run);
    return l;
}

/* ---- Subjects ---- */

/* One model, as type, with a cache of kv_type; a sequence of n tokens and its logits. */
typedef struct {
    Gpt2 model;
    KernType type, kv_type;
    int n;
    int32_t ids[N_IDS];
    Logits want;
    char name[160];
} Subject;

static inline void subject_open(Subject *s, const char *dir, KernType type, KernType kv_type)
{
    const int wanted = quick() ? QUICK_IDS : kv_type == KERN_F32 ? N_IDS : FEWER_IDS;

    *s = (Subject){.type = type, .kv_type = kv_type};
    load_as(&s->model, dir, type);
    s->n = s->model.config.n_ctx < wanted ? s->model.config.n_ctx : wanted;
    make_ids(s->ids, s->n, s->model.config.vocab_size, 12345);
    s->want = reference(&s->model, kv_type, s->ids, s->n);
    (void)snprintf(s->name, sizeof s->name, "%s as %s, %s cache", dir, kern_type_name(type),
                   kern_type_name(kv_type));
}

static inline void subject_close(Subject *s)
{
    free(s->want.rows);
    gpt2_free(&s->model);
}

/* All of a program's, opened when they are first asked for, since the scalar table needs half a
 * second for the logits of the shipped model; close_subjects is the teardown of its group. */
static Subject *subjects[2][KERN_TYPE_COUNT][2];

static inline const Subject *subject(const char *dir, KernType type, KernType kv_type)
{
    Subject **s = &subjects[strcmp(dir, TINY) != 0][type][kv_type != KERN_F32];

    if (*s == NULL) {
        *s = malloc(sizeof **s);
        assert_non_null(*s);
        subject_open(*s, dir, type, kv_type);
    }
    return *s;
}

static inline int close_subjects(void **state)
{
    Subject **s = &subjects[0][0][0];

    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof *s; i++)
        if (s[i] != NULL) {
            subject_close(s[i]);
            free(s[i]);
        }
    return 0;
}

/* Whether a model is to be tested as type with a cache of kv_type: where time is short (sanitizers,
 * an emulator) the shipped one as one float and one quantised type only; the tiny one has them all.
 */
static inline bool is_worth_it(const char *dir, KernType type, KernType kv_type)
{
    return !quick() || strcmp(dir, TINY) == 0 ||
           (kv_type == KERN_F32 && (type == KERN_F16 || type == KERN_Q8_0));
}

/* Calls check for every type of weights and of cache. */
static inline void each_subject(const char *dir, void (*check)(const Subject *s))
{
    static const KernType kv_types[] = {KERN_F32, KERN_F16};

    for (int type = 0; type < KERN_TYPE_COUNT; type++)
        for (int kv = 0; kv < 2; kv++)
            if (is_worth_it(dir, (KernType)type, kv_types[kv]))
                check(subject(dir, (KernType)type, kv_types[kv]));
}

/* Whether this table is to run case number i of n on this subject. The scalar table needs a third
 * of a second for each pass over the shipped model, an emulator much more: the cases take turns
 * there.
 */
static inline bool has_time(const Subject *s, const Kernels *k, int i, int n)
{
    const bool slow = s->model.config.dim > 64 && (k != best_kernels() || quick());

    return !slow || ((int)s->type * 2 + (s->kv_type != KERN_F32)) % n == i;
}

#endif
