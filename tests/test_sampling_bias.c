/* tests/test_sampling_bias.c: logit bias, presence and frequency penalty: the definition
 * (docs/numerics.md, section 7) written down a second time, in front of a sampler that knows none
 * of them. */
#include "sampling_rig.h"

#include <math.h>

#include "random.h"

/* --- the definition --- */

typedef struct {
    SamplingParams params;
    int vocab_size;
    int history[64]; /* ids as they came */
    int n_history;
} Edits;

static float limited(double x)
{
    return (float)(x > 0x1p126 ? 0x1p126 : x < -0x1p126 ? -0x1p126 : x);
}

static void edit(const Edits *e, const float *logits, float *out)
{
    memcpy(out, logits, (size_t)e->vocab_size * sizeof *out);
    for (int i = 0; i < e->params.n_bias; i++) {
        const float sum = out[e->params.bias[i].id] + e->params.bias[i].add;

        out[e->params.bias[i].id] = limited((double)sum);
    }
    for (int id = 0; id < e->vocab_size; id++) {
        int count = 0;

        for (int i = 0; i < e->n_history; i++)
            count += e->history[i] == id;
        const double taken =
            (double)e->params.presence_penalty + count * (double)e->params.frequency_penalty;
        if (count > 0 &&
            (e->params.presence_penalty != 0.0f || e->params.frequency_penalty != 0.0f))
            out[id] = limited((double)(float)((double)out[id] - taken));
    }
}

/* --- random jobs --- */

static float any_of(const float *values, uint32_t n, uint64_t *seed)
{
    return values[next_random(seed) % n];
}

static SamplingParams random_params(SamplingBias *bias, int vocab_size, uint64_t *seed)
{
    static const float penalties[] = {-2.0f, -0.3f, 0.0f, 0.0f, 0.1f, 0.7f, 1.3f, 2.0f};
    static const float temperatures[] = {0.0f, 0.0f, 0.7f, 1.0f, 1.5f};
    SamplingParams p = sampling_defaults();

    p.temperature = any_of(temperatures, 5, seed);
    p.presence_penalty = any_of(penalties, 8, seed);
    p.frequency_penalty = any_of(penalties, 8, seed);
    p.repetition_penalty = next_random(seed) % 2 ? 1.0f : 1.2f;
    p.top_k = next_random(seed) % 3 ? 0 : 5;
    p.top_p = next_random(seed) % 3 ? 1.0f : 0.9f;
    p.seed = next_random(seed);
    p.n_bias = (int)(next_random(seed) % 20);
    for (int i = 0; i < p.n_bias; i++) /* ids may come twice */
        bias[i] = (SamplingBias){(int32_t)(next_random(seed) % (uint32_t)vocab_size),
                                 (float)((int)(next_random(seed) % 2001) - 1000) / 10.0f};
    p.bias = bias;
    return p;
}

static SamplingParams without_edits(SamplingParams p)
{
    p.presence_penalty = p.frequency_penalty = 0.0f;
    p.n_bias = 0;
    p.bias = NULL;
    return p;
}

/* A sampler with edits gives what one without gives for the edited logits: greedy or drawn, with
 * filters and the repetition penalty behind them, on every instruction set. */
static void edits_are_the_definition(void **state)
{
    static float x[MAX_VOCAB], edited[MAX_VOCAB];
    SamplingBias bias[20];
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < 60; round++) {
        const int vocab_size = 1 + (int)(next_random(&seed) % (round % 4 == 0 ? MAX_VOCAB : 30));
        const Kernels *k = kernels_available(round % 2);
        Made m = make_sampler(k != NULL ? k : scalar(), vocab_size);
        Made plain = make_sampler(scalar(), vocab_size);

        for (int job = 0; job < 8; job++) {
            Edits e = {.params = random_params(bias, vocab_size, &seed), .vocab_size = vocab_size};
            const SamplingParams p = without_edits(e.params);

            sampler_reset(m.s, &e.params);
            sampler_reset(plain.s, &p);
            for (int i = 0; i < 40; i++) {
                for (int j = 0; j < vocab_size; j++)
                    x[j] = (float)((int)(next_random(&seed) % 65536) - 32768) *
                           (job == 7 ? 1e34f : 3e-4f);
                edit(&e, x, edited);
                const int id = next(&m, x);
                assert_int_equal(id, next(&plain, edited));
                for (int j = 0; j < vocab_size && j < 10; j++)
                    assert_true(sampler_probability(m.s, j) == sampler_probability(plain.s, j));
                e.history[e.n_history++] = id;
            }
        }
        arena_free(&m.arena);
        arena_free(&plain.arena);
    }
}

/* The penalties must be known to the bit: one that is off by one last place makes another token the
 * largest. */
static void penalties_are_taken_in_double(void **state)
{
    const double taken = (double)0.1f + 3.0 * (double)0.7f;
    const float edited = (float)(5.0 - taken);
    float x[2] = {5.0f, edited};
    SamplingParams p = {.presence_penalty = 0.1f, .frequency_penalty = 0.7f};
    Made m = make_sampler(scalar(), 2);

    (void)state;
    for (int side = 0; side < 2; side++) {
        sampler_reset(m.s, &p);
        for (int i = 0; i < 3; i++)
            assert_int_equal(next(&m, (float[]){50.0f, 0.0f}), 0);
        x[1] = side == 0 ? edited : nextafterf(edited, 9.0f);
        assert_int_equal(next(&m, x), side); /* equal: the lower id */
    }
    arena_free(&m.arena);
}

/* --- what users expect --- */

static void a_hundred_bans_and_forces(void **state)
{
    float x[50];
    SamplingBias bias[2] = {{7, -100.0f}, {31, 100.0f}};
    Made m = make_sampler(scalar(), 50);

    (void)state;
    for (int i = 0; i < 50; i++)
        x[i] = (float)(i % 13);
    x[7] = 30.0f;
    x[31] = -30.0f;
    for (int greedy = 0; greedy < 2; greedy++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            SamplingParams p = sampling_defaults();

            p.temperature = greedy ? 0.0f : 1.0f;
            p.seed = seed;
            p.bias = bias;
            p.n_bias = 1;
            sampler_reset(m.s, &p);
            assert_int_not_equal(next(&m, x), 7);
            p.n_bias = 2;
            sampler_reset(m.s, &p);
            assert_int_equal(next(&m, x), 31);
        }
    arena_free(&m.arena);
}

static void the_bias_is_copied_and_forgotten(void **state)
{
    float x[SAMPLING_MAX_BIAS] = {[5] = 1.0f};
    static SamplingBias bias[SAMPLING_MAX_BIAS];
    SamplingParams p = {.bias = bias, .n_bias = SAMPLING_MAX_BIAS};
    Made m = make_sampler(scalar(), SAMPLING_MAX_BIAS);

    (void)state;
    for (int i = 0; i < SAMPLING_MAX_BIAS; i++)
        bias[i] = (SamplingBias){i, (float)i / 100.0f};
    sampler_reset(m.s, &p);
    memset(bias, 0, sizeof bias);
    assert_int_equal(next(&m, x), SAMPLING_MAX_BIAS - 1);
    p.n_bias = 0;
    p.bias = NULL;
    sampler_reset(m.s, &p);
    assert_int_equal(next(&m, x), 5);
    arena_free(&m.arena);
}

static void counts_begin_anew_with_each_job(void **state)
{
    const float x[3] = {1.0f, 0.5f, 0.0f};
    SamplingParams p = {.frequency_penalty = 0.3f};
    Made m = make_sampler(scalar(), 3);

    (void)state;
    for (int job = 0; job < 3; job++) {
        static const int want[] = {0, 0, 1, 0, 1, 0, 2};

        sampler_reset(m.s, &p);
        for (int i = 0; i < 7; i++)
            assert_int_equal(next(&m, x), want[i]);
    }
    arena_free(&m.arena);
}

static void edits_do_not_hide_what_is_not_finite(void **state)
{
    const SamplingBias bias = {1, -100.0f};
    Made m = make_sampler(scalar(), 4);

    (void)state;
    for (int greedy = 0; greedy < 2; greedy++)
        for (int kind = 0; kind < 3; kind++) {
            const float x[4] = {0.0f, kind == 0 ? NAN : kind == 1 ? INFINITY : -INFINITY, 1.0f};
            SamplingParams p = sampling_defaults();
            Err err = {0};
            int id = -1;

            p.temperature = greedy ? 0.0f : 1.0f;
            p.bias = &bias;
            p.n_bias = 1;
            p.presence_penalty = 2.0f;
            sampler_reset(m.s, &p);
            assert_int_equal(sampler_next(m.s, x, &id, &err), ERR_NUMERIC);
            assert_non_null(strstr(err.msg, "token 1"));
        }
    arena_free(&m.arena);
}

static void logits_are_not_modified(void **state)
{
    const SamplingBias bias = {0, 3.0f};
    float x[4] = {1.0f, 2.0f, 3.0f, 4.0f}, before[4];
    SamplingParams p = sampling_defaults();
    Made m = make_sampler(scalar(), 4);

    (void)state;
    p.bias = &bias;
    p.n_bias = 1;
    p.frequency_penalty = 1.0f;
    memcpy(before, x, sizeof x);
    sampler_reset(m.s, &p);
    for (int i = 0; i < 10; i++)
        (void)next(&m, x);
    assert_memory_equal(x, before, sizeof x);
    arena_free(&m.arena);
}

static void documented_example(void **state)
{
    /* docs/numerics.md, sampling: the last two rows of the examples. */
    static const int want[2][8] = {{9, 8, 7, 8, 4, 4, 12, 10}, {4, 7, 10, 4, 8, 9, 4, 7}};
    const SamplingBias bias[2] = {{13, -100.0f}, {2, 1.5f}};
    float x[16];
    SamplingParams p = sampling_defaults();
    Made m = make_sampler(scalar(), 16);

    (void)state;
    for (int i = 0; i < 16; i++)
        x[i] = (float)(i * i % 17) / 4.0f;
    p.bias = bias;
    p.n_bias = 2;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.25f;
    p.seed = 7;
    for (int greedy = 0; greedy < 2; greedy++) {
        p.temperature = greedy ? 0.0f : 0.8f;
        sampler_reset(m.s, &p);
        for (int i = 0; i < 8; i++)
            assert_int_equal(next(&m, x), want[greedy][i]);
    }
    arena_free(&m.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_are_the_definition),
        cmocka_unit_test(penalties_are_taken_in_double),
        cmocka_unit_test(a_hundred_bans_and_forces),
        cmocka_unit_test(the_bias_is_copied_and_forgotten),
        cmocka_unit_test(counts_begin_anew_with_each_job),
        cmocka_unit_test(edits_do_not_hide_what_is_not_finite),
        cmocka_unit_test(logits_are_not_modified),
        cmocka_unit_test(documented_example),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
