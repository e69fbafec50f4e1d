/* tests/test_exactness_batch.c: a step that computes several sequences at once, each at its own
 * position and with its own cache, gives every one the logits it has alone, bit for bit, in
 * whatever slot it stands: in every type of weights and of cache, on every instruction set
 * (docs/numerics.md).
 *
 * The program computes one sequence at a time; the step is built here from the same layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exactness_rig.h"
#include "layers/attention/scores.h"

/* Steps of a batch; in each a sequence goes on by one to MAX_TOKENS positions. */
enum { MAX_SLOTS = 16, N_STEPS = 2, MAX_TOKENS = 3, N_NEW = N_STEPS * MAX_TOKENS };

/* One sequence: its cache holds the first start positions, the next ones are wanted. */
typedef struct {
    Gpt2Run run;
    int start;
    int32_t ids[N_IDS];
    Logits want; /* of positions start .. start + N_NEW - 1 */
} Sequence;

/* What a sequence computes in one step. */
typedef struct {
    Sequence *sequence;
    int n; /* tokens */
} Slot;

typedef struct {
    const Gpt2 *model;
    KernType kv_type;
    char name[96];
    Sequence sequences[MAX_SLOTS];
    int n_sequences;
    Gpt2Run room;  /* buffers of a step */
    float *logits; /* [MAX_SLOTS * MAX_TOKENS, vocab] */
} Batch;

/* ---- One step of several sequences ---- */

static size_t row(int i, int width)
{
    return (size_t)i * (size_t)width;
}

static int position(const Slot *s)
{
    return s->sequence->run.cache.length;
}

/* All heads of the n queries of one sequence, the first of them at view and merged. */
static void attend(const Attention *a, const Kernels *k, const Slot *s, int layer,
                   const float *queries, size_t stride, float *merged, float *scores)
{
    const KvCache *cache = &s->sequence->run.cache;
    const size_t lds = kern_pad((size_t)cache->n_ctx);
    const int n_keys = position(s) + 1;

    for (int h = 0; h < a->n_heads; h++) {
        float inv[KERN_QUERIES];

        scores_forward(k, scores, lds, queries + row(h, a->head_dim), stride, s->n, cache, layer, h,
                       n_keys, a->scale);
        for (int j = 0; j < s->n; j++)
            inv[j] = scores_softmax(k, scores + (size_t)j * lds, n_keys + j);
        output_values(k, merged + row(h, a->head_dim), row(a->n_heads, a->head_dim), scores, lds,
                      inv, s->n, cache, layer, h, n_keys);
    }
}

static void attention_of_slots(const Attention *a, const Kernels *k, const Slot *slots, int n_slots,
                               int n_rows, int layer, const TransformerRoom *room)
{
    const AttentionRoom *r = &room->attention;
    const int dim = a->n_heads * a->head_dim;
    QkvView view;
    Err err = {0};

    assert_true(qkv_forward(&a->qkv, k, &view, r->combined, room->norm, n_rows, r->scratch, NULL));
    for (int i = 0, at = 0; i < n_slots; at += slots[i++].n) {
        const size_t from = (size_t)at * view.stride;

        assert_int_equal(kv_cache_write(&slots[i].sequence->run.cache, k, layer,
                                        position(slots + i), view.k + from, view.v + from,
                                        view.stride, slots[i].n, &err),
                         ERR_OK);
        attend(a, k, slots + i, layer, view.q + from, view.stride, r->merged + row(at, dim),
               r->rows);
    }
    assert_true(output_forward(&a->output, k, room->branch, r->merged, n_rows, r->scratch, NULL));
}

/* As gpt2_forward, but the rows belong to n_slots sequences. logits: a row for each token. */
static void step_slots(Batch *b, const Kernels *k, const Slot *slots, int n_slots)
{
    const Gpt2 *m = b->model;
    const int dim = m->config.dim;
    const TransformerRoom *room = &b->room.room;
    float *x = b->room.x;
    int n_rows = 0;

    for (int i = 0; i < n_slots; n_rows += slots[i++].n)
        embedding_forward(&m->embedding, k, x + row(n_rows, dim),
                          slots[i].sequence->ids + position(slots + i), slots[i].n,
                          position(slots + i));
    for (int layer = 0; layer < m->config.n_layers; layer++) {
        const TransformerBlock *t = &m->blocks[layer];

        layer_norm_forward(&t->ln_1, k, room->norm, x, n_rows);
        attention_of_slots(&t->attention, k, slots, n_slots, n_rows, layer, room);
        k->add(x, room->branch, row(n_rows, dim));
        layer_norm_forward(&t->ln_2, k, room->norm, x, n_rows);
        assert_true(ffn_forward(&t->ffn, k, room->branch, room->norm, n_rows, layer, room->hidden,
                                room->attention.scratch, NULL));
        k->add(x, room->branch, row(n_rows, dim));
    }
    layer_norm_forward(&m->ln_f, k, room->norm, x, n_rows);
    assert_true(
        linear_forward(&m->head, k, b->logits, room->norm, n_rows, room->attention.scratch, NULL));
    for (int i = 0; i < n_slots; i++)
        kv_cache_advance(&slots[i].sequence->run.cache, slots[i].n);
}

/* ---- Sequences, each computed alone ---- */

/* The positions before start by the best table; what is wanted by the scalar one, token by token.
 */
static void open_sequence(Sequence *s, const Batch *b, int number)
{
    const Gpt2 *m = b->model;
    Logits all = new_logits(m, m->config.n_ctx);

    s->start = 1 + number * 11 % 48 * (m->config.n_ctx / 64);
    make_ids(s->ids, s->start + N_NEW, m->config.vocab_size, 77u + (uint32_t)number);
    init_run(&s->run, m, best_kernels(), b->kv_type);
    for (int done = 0; done < s->start; done = s->run.cache.length)
        forward(&s->run, s->ids + done, s->start - done < 48 ? s->start - done : 48, NULL);
    s->run.k = kernels_available(0);
    compute(&s->run, &all, s->ids, s->start + N_NEW, 1);
    s->want = new_logits(m, N_NEW);
    memcpy(s->want.rows, logits_row(&all, s->start),
           row(N_NEW, m->config.vocab_size) * sizeof(float));
    free(all.rows);
}

static void open_batch(Batch *b, const Gpt2 *m, const char *dir, KernType kv_type)
{
    memset(b, 0, sizeof *b);
    b->model = m;
    b->kv_type = kv_type;
    (void)snprintf(b->name, sizeof b->name, "%s as %s, %s cache", dir, m->types,
                   kern_type_name(kv_type));
    b->n_sequences = quick() && m->config.dim > 64 ? 2 : MAX_SLOTS;
    for (int i = 0; i < b->n_sequences; i++)
        open_sequence(b->sequences + i, b, i);
    init_run(&b->room, m, best_kernels(), kv_type);
    b->logits = new_logits(m, MAX_SLOTS * MAX_TOKENS).rows;
}

static void close_batch(Batch *b)
{
    for (int i = 0; i < b->n_sequences; i++) {
        gpt2_run_free(&b->sequences[i].run);
        free(b->sequences[i].want.rows);
    }
    gpt2_run_free(&b->room);
    free(b->logits);
}

/* ---- Orders ---- */

/* order[i]: which sequence stands in slot i. The slots move on by one in each step. At most
 * max_tokens of a sequence in one step. */
static void check_order(Batch *b, const Kernels *k, const int *order, int n, int max_tokens)
{
    char way[64];

    (void)snprintf(way, sizeof way, "%s, a batch of %d with sequence %d in front", k->name, n,
                   order[0]);
    for (int i = 0; i < n; i++)
        kv_cache_truncate(&b->sequences[order[i]].run.cache, b->sequences[order[i]].start);
    for (int step = 0; step < N_STEPS; step++) {
        Slot slots[MAX_SLOTS];
        const float *got = b->logits;

        for (int i = 0; i < n; i++) {
            const int number = order[(i + step) % n];

            slots[i] = (Slot){b->sequences + number, 1 + (number + step) % max_tokens};
        }
        step_slots(b, k, slots, n);
        for (int i = 0; i < n; i++)
            for (int t = slots[i].n; t > 0; t--, got += b->model->config.vocab_size) {
                const Sequence *s = slots[i].sequence;
                const int at = s->run.cache.length - t;

                assert_same_row(got, logits_row(&s->want, at - s->start), s->want.vocab, at,
                                b->name, way);
            }
    }
}

static void swap(int *a, int *b)
{
    const int kept = *a;

    *a = *b;
    *b = kept;
}

/* The next one in the order of a dictionary; false after the last. */
static bool next_order(int *order, int n)
{
    int i = n - 2, j = n - 1;

    while (i >= 0 && order[i] > order[i + 1])
        i--;
    if (i < 0)
        return false;
    while (order[j] < order[i])
        j--;
    swap(order + i, order + j);
    for (int a = i + 1, z = n - 1; a < z; a++, z--)
        swap(order + a, order + z);
    return true;
}

/* Up to four sequences in all orders. More: each in each slot, with changing neighbours. */
static void check_size(Batch *b, const Kernels *k, int n, int max_tokens)
{
    int order[MAX_SLOTS];

    for (int i = 0; i < n; i++)
        order[i] = i;
    if (n <= 4) {
        do
            check_order(b, k, order, n, max_tokens);
        while (next_order(order, n));
        return;
    }
    for (int first = 0; first < n; first++) {
        for (int i = 0; i < n; i++)
            order[i] = (first + i * 5) % n; /* 5 has no factor in common with 7 and 16 */
        check_order(b, k, order, n, max_tokens);
    }
}

/* ---- Tests ---- */

/* Where time is short: one order of all sequences, with drafts. */
static void check_table(Batch *b, const Kernels *k, bool slow)
{
    static const int sizes[] = {2, 3, 4, 7, 16};
    static const int backwards[] = {6, 5, 4, 3, 2, 1, 0};

    if (slow) {
        const int n = b->n_sequences < 7 ? b->n_sequences : 7;

        check_order(b, k, backwards + 7 - n, n, MAX_TOKENS);
        return;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_size(b, k, sizes[i], 1);
        check_size(b, k, sizes[i], MAX_TOKENS);
    }
}

static void check_model(const char *dir)
{
    static const KernType kv_types[] = {KERN_F32, KERN_F16};
    static Batch b;

    for (int type = 0; type < KERN_TYPE_COUNT; type++) {
        Gpt2 m;

        load_as(&m, dir, (KernType)type);
        for (int kv = 0; kv < 2; kv++) {
            if (!is_worth_it(dir, (KernType)type, kv_types[kv]))
                continue;
            open_batch(&b, &m, dir, kv_types[kv]);
            for (int t = 0; kernels_available(t) != NULL; t++) {
                const Kernels *k = kernels_available(t);

                check_table(&b, k, quick() || (m.config.dim > 64 && k != best_kernels()));
            }
            close_batch(&b);
        }
        gpt2_free(&m);
    }
}

static void sequences_of_the_tiny_model_do_not_notice_each_other(void **state)
{
    (void)state;
    check_model(TINY);
}

static void sequences_of_the_shipped_model_do_not_notice_each_other(void **state)
{
    (void)state;
    check_model(SHAKESPEARE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_of_the_tiny_model_do_not_notice_each_other),
        cmocka_unit_test(sequences_of_the_shipped_model_do_not_notice_each_other),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("exactness_batch", tests, NULL, NULL);
}
