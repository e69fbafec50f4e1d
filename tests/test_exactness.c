/* tests/test_exactness.c: whole-model logits, bit for bit, in every type of weights and of cache
 * and on every instruction set: whatever the chunking of the prompt, the reuse of the cache or the
 * drafts that were tried, every position's logits are the same, and have the recorded hash
 * (docs/numerics.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/bits_hash.h"
#include "exactness_rig.h"

/* What takes turns where time is short. */
enum { CASE_CHUNKS, CASE_UNOBSERVED, CASE_PREFIX, CASE_DRAFTS, N_CASES };

typedef void Check(const Subject *s, Gpt2Run *run, Logits *got);

/* One property of a subject, on every table. */
static void on_every_table(const Subject *s, Check *check)
{
    Logits got = new_logits(&s->model, s->n);

    for (int t = 0; kernels_available(t) != NULL; t++) {
        Gpt2Run run;

        init_run(&run, &s->model, kernels_available(t), s->kv_type);
        check(s, &run, &got);
        gpt2_run_free(&run);
    }
    free(got.rows);
}

static void assert_way(const Subject *s, const Gpt2Run *run, const Logits *got, const char *way,
                       int number)
{
    char text[80];

    (void)snprintf(text, sizeof text, "%s, %s %d", run->k->name, way, number);
    assert_same(got, &s->want, s->name, text);
}

/* ---- Chunks ---- */

/* The last one takes the sequence whole, or all but the last tokens of it. */
static void chunks_on_table(const Subject *s, Gpt2Run *run, Logits *got)
{
    static const int chunks[] = {64, 7, 1, 2, 3, 5, 96, 100, GPT2_MAX_CHUNK};
    const int n_chunks = (int)(sizeof chunks / sizeof chunks[0]);

    for (int c = 0; c < n_chunks; c++) {
        if (!has_time(s, run->k, CASE_CHUNKS + c * N_CASES, N_CASES * 2))
            continue;
        wipe_logits(got);
        gpt2_reset(run);
        compute(run, got, s->ids, s->n, chunks[c]);
        assert_way(s, run, got, "chunks of", chunks[c]);
    }
}

/* Without an observer, as a worker computes: the logits of each pass's last position. */
static void unobserved_on_table(const Subject *s, Gpt2Run *run, Logits *got)
{
    enum { CHUNK = 11 };

    (void)got;
    if (!has_time(s, run->k, CASE_UNOBSERVED, N_CASES))
        return;
    gpt2_reset(run);
    while (run->cache.length < s->n) {
        const int left = s->n - run->cache.length;

        forward(run, s->ids + run->cache.length, left < CHUNK ? left : CHUNK, NULL);
        assert_same_row(run->logits, logits_row(&s->want, run->cache.length - 1), s->want.vocab,
                        run->cache.length - 1, s->name, "without an observer");
    }
}

static void check_chunks(const Subject *s)
{
    on_every_table(s, chunks_on_table);
    on_every_table(s, unobserved_on_table);
}

static void tiny_model_gives_the_same_bits_in_all_chunks(void **state)
{
    (void)state;
    each_subject(TINY, check_chunks);
}

static void shipped_model_gives_the_same_bits_in_all_chunks(void **state)
{
    (void)state;
    each_subject(SHAKESPEARE, check_chunks);
}

/* ---- Reused prefixes ---- */

/* keep positions stay from another sequence, which began with the same tokens and went on. */
static void reuse_prefix(const Subject *s, Gpt2Run *run, Logits *got, int keep)
{
    const int vocab = s->model.config.vocab_size;
    int32_t other[N_IDS];

    for (int i = 0; i < s->n; i++)
        other[i] = i < keep ? s->ids[i] : (s->ids[i] + 1) % vocab;
    wipe_logits(got);
    gpt2_reset(run);
    compute(run, got, other, s->n, 50);
    kv_cache_truncate(&run->cache, keep);
    compute(run, got, s->ids, s->n, 13);
    assert_way(s, run, got, "reused prefix of", keep);
}

static void prefixes_on_table(const Subject *s, Gpt2Run *run, Logits *got)
{
    const int step = s->n > 64 ? 37 : 9;

    for (int keep = 0; keep < s->n; keep += step)
        if (has_time(s, run->k, CASE_PREFIX + keep / step * N_CASES, N_CASES * 2))
            reuse_prefix(s, run, got, keep);
}

static void check_prefixes(const Subject *s)
{
    on_every_table(s, prefixes_on_table);
}

static void tiny_model_gives_the_same_bits_after_a_reused_prefix(void **state)
{
    (void)state;
    each_subject(TINY, check_prefixes);
}

static void shipped_model_gives_the_same_bits_after_a_reused_prefix(void **state)
{
    (void)state;
    each_subject(SHAKESPEARE, check_prefixes);
}

/* ---- Drafts ---- */

/* Goes through the sequence by guessing: each pass takes up to eight tokens whose first ones are
 * right, all, some or none. The wrong ones are forgotten, the next pass goes on behind the right
 * ones. Logits of all guessed positions are looked at; those of right ones stay in got. */
static void drafts_on_table(const Subject *s, Gpt2Run *run, Logits *got)
{
    const Tap tap = {.ctx = got, .observe = keep_logits};
    const int vocab = s->model.config.vocab_size;

    if (!has_time(s, run->k, CASE_DRAFTS, N_CASES))
        return;
    wipe_logits(got);
    gpt2_reset(run);
    for (int pass = 0, done = 0; done < s->n; pass++) {
        const int wanted = 2 + pass % 7;
        const int n = s->n - done < wanted ? s->n - done : wanted;
        const int n_right = pass % 3 == 0 ? n : pass * 5 % (n + 1);
        int32_t draft[8];

        for (int i = 0; i < n; i++)
            draft[i] = i < n_right ? s->ids[done + i] : (s->ids[done + i] + 1 + pass) % vocab;
        forward(run, draft, n, &tap);
        done += n_right;
        kv_cache_truncate(&run->cache, done);
    }
    assert_way(s, run, got, "drafts of up to", 8);
}

static void check_drafts(const Subject *s)
{
    on_every_table(s, drafts_on_table);
}

static void positions_of_drafts_have_the_same_bits(void **state)
{
    (void)state;
    each_subject(TINY, check_drafts);
    each_subject(SHAKESPEARE, check_drafts);
}

/* ---- Cancelled passes ---- */

/* Yes or no to going on, from a counter. */
typedef struct {
    int left;
} Patience;

static bool run_out(void *ctx)
{
    Patience *p = ctx;

    return p->left-- > 0;
}

/* However far a pass came before it was stopped, the next one must not notice. */
static void check_cancelled(const Subject *s)
{
    Logits got = new_logits(&s->model, s->n);
    Gpt2Run run;

    init_run(&run, &s->model, best_kernels(), s->kv_type);
    for (int patience = 0;; patience += quick() ? 29 : 1) {
        Patience p = {patience};
        const Tap tap = {.ctx = &p, .yield = run_out};
        Err err = {0};
        const ErrCode code = gpt2_forward(&run, s->ids + 7, 11, true, &tap, &err);

        if (code == ERR_OK) {
            assert_true(patience > 10); /* it was stopped in many places before */
            break;
        }
        assert_int_equal(code, ERR_CANCELLED);
        assert_int_equal(run.cache.length, 0);
        wipe_logits(&got);
        compute(&run, &got, s->ids, s->n, 17);
        assert_way(s, &run, &got, "after a pass cancelled at yield", patience);
        gpt2_reset(&run);
    }
    gpt2_run_free(&run);
    free(got.rows);
}

static void a_cancelled_pass_leaves_no_trace(void **state)
{
    (void)state;
    each_subject(TINY, check_cancelled);
}

/* ---- Yields ---- */

/* How much attention was computed since the last yield, and most of all; and the table that does
 * it. */
static struct {
    const Kernels *k;
    int calls, most;
} attention;

static void counted_values(float *o, size_t ldo, const float *e, size_t lde, const float *inv,
                           int n_queries, const KernHead *head, int n_keys)
{
    attention.k->attn_values(o, ldo, e, lde, inv, n_queries, head, n_keys);
    if (++attention.calls > attention.most)
        attention.most = attention.calls;
}

static bool count_yield(void *ctx)
{
    (void)ctx;
    attention.calls = 0;
    return true;
}

/* The scalar table takes milliseconds for all queries of a head. */
static void attention_yields_after_every_group_of_queries(void **state)
{
    const Tap tap = {.yield = count_yield};
    const Subject *s = subject(TINY, KERN_F32, KERN_F32);
    Kernels counted = *kernels_available(0);
    Gpt2Run run;

    (void)state;
    attention.k = kernels_available(0);
    attention.calls = attention.most = 0;
    counted.attn_values = counted_values;
    init_run(&run, &s->model, &counted, s->kv_type);
    forward(&run, s->ids, 3 * KERN_QUERIES + 1, &tap);
    gpt2_run_free(&run);
    assert_int_equal(attention.most, 1);
}

/* ---- The same bits on every machine ---- */

/* The hash is that of the first HASH_IDS positions, or of the whole context where it is shorter. */
enum { HASH_IDS = 120 };

/* Recorded once; a difference means that this build or machine does not compute the documented
 * arithmetic. docs/numerics.md repeats them. */
static const struct {
    const char *dir;
    KernType type, kv_type;
    uint64_t hash;
} recorded[] = {
    {TINY, KERN_F32, KERN_F32, 0xba4ad6b8d09c1b07u},
    {TINY, KERN_F16, KERN_F32, 0x5834bc7b664826a6u},
    {TINY, KERN_BF16, KERN_F32, 0xbbc940dc49bc029fu},
    {TINY, KERN_Q8_0, KERN_F32, 0x330a9a14a8e8193au},
    {TINY, KERN_Q4_0, KERN_F32, 0x63dc94ea597f67e4u},
    {TINY, KERN_F32, KERN_F16, 0xac401d8010d56a69u},
    {TINY, KERN_F16, KERN_F16, 0x1225c691520f9d0fu},
    {TINY, KERN_BF16, KERN_F16, 0x2d073e22e980b6e7u},
    {TINY, KERN_Q8_0, KERN_F16, 0x394cc8428ccae164u},
    {TINY, KERN_Q4_0, KERN_F16, 0x33c9d77c4545d461u},
    {SHAKESPEARE, KERN_F32, KERN_F32, 0x1221f82dc8ed609fu},
    {SHAKESPEARE, KERN_F16, KERN_F32, 0x1221f82dc8ed609fu}, /* its own type: widened exactly */
    {SHAKESPEARE, KERN_BF16, KERN_F32, 0x1f66e6fb340f6ec9u},
    {SHAKESPEARE, KERN_Q8_0, KERN_F32, 0x791ee95b1e0c5a4eu},
    {SHAKESPEARE, KERN_Q4_0, KERN_F32, 0x1414c9da25311596u},
    {SHAKESPEARE, KERN_F16, KERN_F16, 0x294e302105d73042u},
};

/* FNV-1a over the bits of all logits, computed by one table. */
static uint64_t hash_model(const Gpt2 *m, const Kernels *k, KernType kv_type)
{
    const int n = m->config.n_ctx < HASH_IDS ? m->config.n_ctx : HASH_IDS;
    Logits l = new_logits(m, n);
    int32_t ids[HASH_IDS];
    Gpt2Run run;

    make_ids(ids, n, m->config.vocab_size, 12345);
    init_run(&run, m, k, kv_type);
    compute(&run, &l, ids, n, 60);
    const uint64_t h = bits_hash(bits_hash_start, l.rows, (size_t)n * (size_t)l.vocab);
    gpt2_run_free(&run);
    free(l.rows);
    return h;
}

static void logits_have_the_recorded_hash(void **state)
{
    int n_wrong = 0;

    (void)state;
    for (size_t i = 0; i < sizeof recorded / sizeof recorded[0]; i++) {
        Gpt2 m;

        if (!is_worth_it(recorded[i].dir, recorded[i].type, recorded[i].kv_type))
            continue;
        load_as(&m, recorded[i].dir, recorded[i].type);
        for (int t = 0; kernels_available(t) != NULL; t++) {
            const Kernels *k = kernels_available(t);
            const uint64_t got = hash_model(&m, k, recorded[i].kv_type);

            if (got != recorded[i].hash) {
                n_wrong++;
                print_message("%s as %s, %s cache, %s: logits hash %016llx, expected %016llx\n",
                              recorded[i].dir, kern_type_name(recorded[i].type),
                              kern_type_name(recorded[i].kv_type), k->name, (unsigned long long)got,
                              (unsigned long long)recorded[i].hash);
            }
        }
        gpt2_free(&m);
    }
    assert_int_equal(n_wrong, 0);
}

/* Arguments: the one test to run (tests/exact_builds runs the hash alone in builds of all kinds).
 */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_have_the_recorded_hash),
        cmocka_unit_test(tiny_model_gives_the_same_bits_in_all_chunks),
        cmocka_unit_test(shipped_model_gives_the_same_bits_in_all_chunks),
        cmocka_unit_test(tiny_model_gives_the_same_bits_after_a_reused_prefix),
        cmocka_unit_test(shipped_model_gives_the_same_bits_after_a_reused_prefix),
        cmocka_unit_test(positions_of_drafts_have_the_same_bits),
        cmocka_unit_test(a_cancelled_pass_leaves_no_trace),
        cmocka_unit_test(attention_yields_after_every_group_of_queries),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("exactness", tests, NULL, close_subjects);
}
