/* tests/checkpoint_10_argmax_sampling.c: temperature below 1e-6 takes the largest logit, the lowest
 * id of equals, and never invents a token out of numbers that are none. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "sampling/argmax.h"
#include "sampling/sampler.h"

enum { MAX_VOCAB = 2048 };

/* One draw of a fresh job. Returns -1 when the sampler refused. */
static int draw(const Kernels *isa, const float *logits, int n, float temperature, uint64_t seed)
{
    SamplingParams params = sampling_defaults();
    Arena arena = {0};
    Sampler *s = NULL;
    size_t total = 0;
    Err err = {0};
    int id = -1;

    if (sampler_plan(&total, n, &err) != ERR_OK ||
        arena_init(&arena, total, "sampler", &err) != ERR_OK ||
        (s = sampler_new(&arena, isa, n)) == NULL)
        check_bail("sampler: %s", err.msg);
    params.temperature = temperature;
    params.seed = seed;
    sampler_reset(s, &params);
    if (sampler_next(s, logits, &id, &err) != ERR_OK)
        id = err.code == ERR_NUMERIC ? -1 : -2;
    arena_free(&arena);
    return id;
}

static int argmax(const float *logits, int n)
{
    Err err = {0};
    int id = -1;

    return sampling_argmax(&id, logits, n, &err) == ERR_OK ? id : -1;
}

/* The definition, in four lines. */
static int lowest_of_largest(const float *x, int n)
{
    int best = 0;

    for (int i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static void on_references(const CheckModel *m)
{
    const CheckRef *logits = check_ref(m, "checkpoint_09_logits_last");
    const CheckRef *rows = check_ref(m, "checkpoint_08_logits");
    const int n = (int)logits->n, want = lowest_of_largest(logits->data, n);
    bool same = true;

    CHECK(argmax(logits->data, n) == want && want < n, "%s: the best token is %d", m->name, want);
    for (int t = 0; t < m->n_ids; t++)
        same = same && argmax(rows->data + t * n, n) == lowest_of_largest(rows->data + t * n, n);
    CHECK(same, "%s: the best token of every row", m->name);
    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        bool three = true;

        for (int i = 0; i < 3; i++)
            three = three && draw(isa, logits->data, n, 0.0f, (uint64_t)i) == want;
        CHECK(three, "%s %s: three runs with three seeds choose it", m->name, isa->name);
        CHECK(draw(isa, logits->data, n, 9.9e-7f, 1) == want,
              "%s %s: a temperature just below 1e-6 is greedy", m->name, isa->name);
    }
}

/* Two tokens that are as good as each other: greedy takes the lower id, a temperature draws both.
 */
static void threshold(const Kernels *isa)
{
    const float logits[4] = {1.0f, 5.0f, 5.0f, -3.0f};
    bool low = true, seen[4] = {false};

    for (uint64_t seed = 0; seed < 64; seed++) {
        const int warm = draw(isa, logits, 4, 1.0f, seed);

        low = low && draw(isa, logits, 4, 0.0f, seed) == 1 &&
              draw(isa, logits, 4, 9.9e-7f, seed) == 1;
        if (warm >= 0)
            seen[warm] = true;
        if (draw(isa, logits, 4, 1e-6f, seed) == 2)
            seen[3] = true;
    }
    CHECK(low, "%s: of equal logits the lowest id", isa->name);
    CHECK(seen[1] && seen[2], "%s: temperature 1 draws both of them", isa->name);
    CHECK(seen[3], "%s: temperature 1e-6 is not greedy", isa->name);
}

static void ties_and_extremes(void)
{
    static float x[MAX_VOCAB];
    const float zeros[3] = {-0.0f, 0.0f, -0.0f};
    const float largest[3] = {-FLT_MAX, FLT_MAX, FLT_MAX};
    bool good = true;

    /* In GPT-2 all logits are negative: the largest in magnitude is the worst token. */
    CHECK(argmax((const float[]){-3.0f, -40.0f, -2.0f}, 3) == 2, "the largest, not in magnitude");
    CHECK(argmax(zeros, 3) == 0, "+0 and -0 are equal");
    CHECK(argmax(largest, 3) == 1, "the largest floats are numbers like others");
    CHECK(argmax(&zeros[1], 1) == 0, "a single logit");
    for (int i = 0; i < MAX_VOCAB; i++)
        x[i] = -1.0f;
    CHECK(argmax(x, MAX_VOCAB) == 0, "all equal: id 0");
    for (int i = 0; i < MAX_VOCAB; i++) {
        x[i] = -0.5f;
        good = good && argmax(x, MAX_VOCAB) == i;
        x[i] = -1.0f;
    }
    CHECK(good, "the largest is found at every place of %d", MAX_VOCAB);
}

static void not_numbers(const Kernels *isa)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int places[] = {0, 1, 15, 16, 17, 510, 511};
    static float x[512];
    bool refused = true, drawn = true;

    for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++)
        for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
            Err err = {0};
            int id = 7;

            for (int i = 0; i < 512; i++)
                x[i] = (float)i;
            x[places[p]] = bad[b];
            refused = refused && sampling_argmax(&id, x, 512, &err) == ERR_NUMERIC && id == 7;
            drawn = drawn && draw(isa, x, 512, 0.0f, 1) == -1 && draw(isa, x, 512, 0.8f, 1) == -1;
        }
    CHECK(refused, "NaN and infinity are refused at every place, no id is stored");
    CHECK(drawn, "%s: the sampler refuses them as well, greedy or not", isa->name);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++)
        on_references(check_model(i));
    ties_and_extremes();
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
        threshold(k);
        not_numbers(k);
    }
    return check_report();
}
