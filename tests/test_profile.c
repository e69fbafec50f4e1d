/* tests/test_profile.c: the marks of a pass, what the profile makes of them, the counts of bytes
 * and operations, percentiles, memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "cli/bench_rig.h"
#include "common/clock.h"
#include "kernels/ticks.h"
#include "model/gpt2_random.h"
#include "profile/figures.h"
#include "profile/memory.h"
#include "profile/profile.h"
#include "profile/work.h"

#include "quick.h"

enum { MAX_MARKS = 20000, CONTEXT = 40 };

static void make(Gpt2 *m, const char *shape, KernType type)
{
    Gpt2Config c;
    Err err = {0};

    if (gpt2_shape_parse(&c, shape, &err) != ERR_OK ||
        gpt2_random(m, &c, type, 7, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void make_run(Gpt2Run *run, const Gpt2 *m, KernType kv_type)
{
    const Kernels *k;
    Err err = {0};

    if (kernels_select(&k, NULL, &err) != ERR_OK ||
        gpt2_run_init(run, m, k, m->config.n_ctx, 30, kv_type, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void make_ids(int32_t *ids, int n, const Gpt2 *m)
{
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 37 + 5) % m->config.vocab_size);
}

/* ---- Marks ---- */

typedef struct {
    int part, layer;
} Mark;

typedef struct {
    Mark marks[MAX_MARKS];
    int n;
} Marks;

static void push(Marks *m, int part, int layer)
{
    assert_true(m->n < MAX_MARKS);
    m->marks[m->n++] = (Mark){part, layer};
}

static void record(void *ctx, TapPart part, int layer)
{
    push(ctx, (int)part, layer);
}

/* What a pass is to say, written down from docs/checkpoints and not from the code. */
static void expect_pass(Marks *m, const Gpt2Config *c, int n_tokens, bool logits)
{
    push(m, TAP_PART_EMBEDDING, -1);
    for (int layer = 0; layer < c->n_layers; layer++) {
        push(m, TAP_PART_LN_1, layer);
        push(m, TAP_PART_QKV, layer);
        push(m, TAP_PART_CACHE, layer);
        for (int head = 0; head < c->n_heads; head++)
            for (int left = n_tokens; left > 0; left -= 6) {
                push(m, TAP_PART_SCORES, layer);
                push(m, TAP_PART_SOFTMAX, layer);
                push(m, TAP_PART_VALUES, layer);
            }
        push(m, TAP_PART_C_PROJ, layer);
        push(m, TAP_PART_ADD, layer);
        push(m, TAP_PART_LN_2, layer);
        push(m, TAP_PART_FC, layer);
        push(m, TAP_PART_GELU, layer);
        push(m, TAP_PART_PROJ, layer);
        push(m, TAP_PART_ADD, layer);
    }
    if (logits) {
        push(m, TAP_PART_LN_F, -1);
        push(m, TAP_PART_HEAD, -1);
    }
}

static void compare_marks(const Gpt2 *m, KernType kv_type, int chunk, int n)
{
    static Marks got, want;
    const Tap tap = {.ctx = &got, .mark = record};
    int32_t ids[CONTEXT];
    Gpt2Run run;
    Err err = {0};

    got.n = want.n = 0;
    make_ids(ids, n, m);
    make_run(&run, m, kv_type);
    assert_int_equal(gpt2_prefill(&run, ids, n, chunk, &tap, &err), ERR_OK);
    for (int done = 0; done < n; done += chunk)
        expect_pass(&want, &m->config, n - done < chunk ? n - done : chunk, done + chunk >= n);
    assert_int_equal(got.n, want.n);
    for (int i = 0; i < want.n; i++)
        if (got.marks[i].part != want.marks[i].part || got.marks[i].layer != want.marks[i].layer)
            fail_msg("mark %d of chunks of %d: %s in layer %d, expected %s in layer %d", i, chunk,
                     profile_part_name(got.marks[i].part), got.marks[i].layer,
                     profile_part_name(want.marks[i].part), want.marks[i].layer);
    gpt2_run_free(&run);
}

static void every_part_is_marked_in_order(void **state)
{
    static const char *const shapes[] = {"2,2,64,40,300", "3,1,8,40,50", "1,3,48,40,100"};
    static const int chunks[] = {1, 5, 6, 7, 30};

    (void)state;
    for (int s = 0; s < 3; s++)
        for (int kv = 0; kv < 2; kv++) {
            Gpt2 m;

            make(&m, shapes[s], KERN_F16);
            for (int c = 0; c < 5; c++)
                compare_marks(&m, kv == 0 ? KERN_F32 : KERN_F16, chunks[c], 31);
            gpt2_free(&m);
        }
}

typedef struct {
    Marks marks;
    int n_yields, stop_at;
} Stopping;

static bool stop(void *ctx)
{
    Stopping *s = ctx;

    return ++s->n_yields < s->stop_at;
}

static void record_stopping(void *ctx, TapPart part, int layer)
{
    push(&((Stopping *)ctx)->marks, (int)part, layer);
}

/* A part that was stopped was not computed. */
static void a_stopped_pass_marks_nothing_more(void **state)
{
    static Stopping s;
    static Marks whole;
    const Tap tap = {.ctx = &s, .mark = record_stopping, .yield = stop};
    int32_t id = 1;
    Gpt2 m;
    Gpt2Run run;
    Err err = {0};

    (void)state;
    make(&m, "2,2,64,40,300", KERN_F32);
    make_run(&run, &m, KERN_F32);
    whole.n = 0;
    expect_pass(&whole, &m.config, 1, true);
    for (int at = 1, last = 0; at <= 13; at++) {
        s.marks.n = s.n_yields = 0;
        s.stop_at = at;
        assert_int_equal(gpt2_forward(&run, &id, 1, true, &tap, &err), ERR_CANCELLED);
        assert_true(s.marks.n >= last && s.marks.n > 0 && s.marks.n < whole.n);
        assert_memory_equal(s.marks.marks, whole.marks, (size_t)s.marks.n * sizeof(Mark));
        last = s.marks.n;
    }
    gpt2_run_free(&run);
    gpt2_free(&m);
}

/* ---- A request with a clock of our own ---- */

static uint64_t fake_ns, fake_step;

/* Every look takes a little longer than the one before, so that no two parts are alike. */
static uint64_t fake_now(void)
{
    fake_step = fake_step % 1009 + 7;
    fake_ns += fake_step;
    return fake_ns;
}

static void pass(Profile *p, Gpt2Run *run, const int32_t *ids, int n, bool logits)
{
    const Tap tap = profile_tap(p);
    Err err = {0};

    profile_pass_begin(p, run->cache.length, n, logits);
    if (gpt2_forward(run, ids, n, logits, &tap, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    profile_pass_end(p);
}

/* n prompt tokens in chunks, then tokens; logits: [vocab] of the last pass, or NULL. */
static void run_request(Profile *p, Gpt2Run *run, const int32_t *ids)
{
    const int n = p->options.n_prompt, chunk = p->options.chunk;

    gpt2_reset(run);
    profile_begin(p);
    profile_stage(p, PROFILE_TOKENIZER);
    for (int done = 0; done < n; done += chunk)
        pass(p, run, ids + done, n - done < chunk ? n - done : chunk, done + chunk >= n);
    for (int i = 0; i < p->options.n_tokens; i++) {
        if (i > 0)
            pass(p, run, ids + n + i - 1, 1, true);
        profile_stage(p, PROFILE_SAMPLING);
        profile_stage(p, PROFILE_TOKENIZER);
        profile_stage(p, PROFILE_HTTP);
        profile_token(p);
        profile_skip(p);
    }
    profile_end(p);
}

typedef struct {
    Gpt2 model;
    Gpt2Run run;
    Profile p;
    int32_t ids[CONTEXT];
} Request;

static Request *make_request(const char *shape, KernType kv_type, const ProfileOptions *o)
{
    Request *r = calloc(1, sizeof *r);
    Err err = {0};

    assert_non_null(r);
    make(&r->model, shape, KERN_F16);
    make_run(&r->run, &r->model, kv_type);
    make_ids(r->ids, CONTEXT, &r->model);
    if (profile_init(&r->p, &r->model, o, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return r;
}

static void free_request(Request *r)
{
    profile_free(&r->p);
    gpt2_run_free(&r->run);
    gpt2_free(&r->model);
    free(r);
}

static uint64_t sum_of_parts(const Profile *p, int phase)
{
    uint64_t ns = 0;

    for (int layer = -1; layer < p->n_layers; layer++)
        for (int part = 0; part < PROFILE_PARTS; part++)
            ns += profile_stat(p, (ProfilePhase)phase, layer, part)->total_ns;
    return ns;
}

static uint64_t sum_of_token(const Profile *p, int token)
{
    uint64_t ns = 0;

    for (int part = 0; part < PROFILE_PARTS; part++)
        ns += p->token_parts[token * PROFILE_PARTS + part];
    return ns;
}

static void check_sums(const Profile *p)
{
    const uint64_t wall = p->end_ns - p->begin_ns - p->skipped_ns;
    uint64_t tokens = 0;

    assert_false(p->overflow);
    assert_int_equal(p->n_tokens, p->options.n_tokens);
    assert_true(p->skipped_ns > 0);
    for (int phase = 0; phase < PROFILE_PHASES; phase++) {
        double shares = 0.0;

        assert_true(sum_of_parts(p, phase) == p->phase_ns[phase]);
        for (int part = 0; part < PROFILE_PARTS; part++)
            shares += profile_row(p, KERN_F32, (ProfilePhase)phase, part, PROFILE_ALL_LAYERS).share;
        assert_true(fabs(shares - 1.0) < 1e-12);
    }
    for (int i = 0; i < p->n_tokens; i++) {
        assert_true(sum_of_token(p, i) == p->token_ns[i]);
        tokens += p->token_ns[i];
    }
    assert_true(tokens == wall);
    assert_true(p->phase_ns[PROFILE_PROMPT] == p->token_ns[0]);
    assert_true(p->phase_ns[PROFILE_PROMPT] + p->phase_ns[PROFILE_DECODE] == wall);
}

static void parts_sum_to_the_wall_time(void **state)
{
    static const int chunks[] = {4, 11, 30};

    (void)state;
    for (int i = 0; i < 3; i++)
        for (int real = 0; real < 2; real++) {
            const ProfileOptions o = {.n_prompt = 22,
                                      .n_tokens = 9,
                                      .chunk = chunks[i],
                                      .now_ns = real ? NULL : fake_now};
            Request *r = make_request("2,2,64,40,300", i % 2 ? KERN_F16 : KERN_F32, &o);

            run_request(&r->p, &r->run, r->ids);
            check_sums(&r->p);
            run_request(&r->p, &r->run, r->ids); /* nothing of the first is left */
            check_sums(&r->p);
            free_request(r);
        }
}

static void calls_are_counted(void **state)
{
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 9, .chunk = 10, .now_ns = fake_now};
    Request *r = make_request("3,2,64,40,300", KERN_F32, &o);
    const Profile *p = &r->p;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    /* Chunks of 10, 10 and 2: groups of 6 queries. */
    assert_int_equal(profile_sum(p, PROFILE_PROMPT, TAP_PART_SCORES).calls, 3 * 2 * (2 + 2 + 1));
    assert_int_equal(profile_stat(p, PROFILE_PROMPT, 1, TAP_PART_VALUES)->calls, 2 * (2 + 2 + 1));
    assert_int_equal(profile_sum(p, PROFILE_PROMPT, TAP_PART_QKV).calls, 3 * 3);
    assert_int_equal(profile_sum(p, PROFILE_PROMPT, TAP_PART_HEAD).calls, 1);
    assert_int_equal(profile_sum(p, PROFILE_PROMPT, PROFILE_TOKENIZER).calls, 2);
    assert_int_equal(profile_sum(p, PROFILE_DECODE, TAP_PART_SCORES).calls, 3 * 2 * 8);
    assert_int_equal(profile_sum(p, PROFILE_DECODE, TAP_PART_ADD).calls, 3 * 2 * 8);
    assert_int_equal(profile_sum(p, PROFILE_DECODE, PROFILE_HTTP).calls, 8);
    assert_int_equal(p->n_passes, 3 + 8);
    assert_int_equal(p->passes[2].start_pos, 20);
    assert_int_equal(p->passes[2].n_tokens, 2);
    assert_true(p->passes[2].logits && !p->passes[1].logits);
    for (int part = 0; part < PROFILE_PARTS; part++) {
        const ProfileStat s = profile_sum(p, PROFILE_DECODE, part);

        assert_true(s.min_ns <= s.max_ns && s.min_ns * s.calls <= s.total_ns &&
                    s.total_ns <= s.max_ns * s.calls);
    }
    free_request(r);
}

static void a_profile_changes_no_bit(void **state)
{
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 9, .chunk = 10, .events = true};
    Err err = {0};

    (void)state;
    for (int kv = 0; kv < 2; kv++) {
        Request *r = make_request("2,2,64,40,300", kv ? KERN_F16 : KERN_F32, &o);
        float with[300];

        run_request(&r->p, &r->run, r->ids);
        memcpy(with, r->run.logits, sizeof with);
        memset(r->run.logits, 0, sizeof with);
        gpt2_reset(&r->run);
        assert_int_equal(gpt2_prefill(&r->run, r->ids, 30, 30, NULL, &err), ERR_OK);
        assert_memory_equal(with, r->run.logits, sizeof with);
        free_request(r);
    }
}

static void more_than_was_planned_is_noticed(void **state)
{
    const ProfileOptions o = {.n_prompt = 3, .n_tokens = 2, .chunk = 3, .now_ns = fake_now};
    Request *r = make_request("1,1,8,40,50", KERN_F32, &o);

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    assert_false(r->p.overflow);
    pass(&r->p, &r->run, r->ids, 1, true);
    assert_true(r->p.overflow);
    run_request(&r->p, &r->run, r->ids);
    assert_false(r->p.overflow);
    profile_token(&r->p);
    assert_true(r->p.overflow);
    free_request(r);
}

/* ---- Yield ---- */

enum { HOOK_NS = 5000000 };

static bool slow_hook(void *ctx)
{
    ++*(int *)ctx;
    fake_ns += HOOK_NS;
    return true;
}

/* Time in the hook is the hook's and no part's; and it is called often enough. */
static void the_hook_has_a_time_of_its_own(void **state)
{
    int n_calls = 0;
    const Tap hook = {.ctx = &n_calls, .yield = slow_hook};
    const ProfileOptions o = {
        .n_prompt = 22, .n_tokens = 9, .chunk = 10, .tap = &hook, .now_ns = fake_now};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    uint64_t calls = 0, ns = 0;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    check_sums(&r->p);
    for (int phase = 0; phase < PROFILE_PHASES; phase++) {
        const ProfileStat s = profile_sum(&r->p, (ProfilePhase)phase, PROFILE_YIELD);

        calls += s.calls;
        ns += s.total_ns;
        for (int part = 0; part < PROFILE_PARTS; part++)
            if (part != PROFILE_YIELD &&
                profile_sum(&r->p, (ProfilePhase)phase, part).max_ns >= HOOK_NS)
                fail_msg("%s has the hook's time", profile_part_name(part));
    }
    assert_true(n_calls > 0 && calls == (uint64_t)n_calls);
    assert_true(ns >= (uint64_t)n_calls * HOOK_NS);
    free_request(r);
}

static void long_products_call_the_hook(void **state)
{
    int n_calls = 0;
    const Tap hook = {.ctx = &n_calls, .yield = slow_hook};
    const ProfileOptions o = {
        .n_prompt = 1, .n_tokens = 1, .chunk = 1, .tap = &hook, .now_ns = fake_now};
    Request *r = make_request("1,1,8,40,50", KERN_F32, &o);
    const Tap tap = profile_tap(&r->p);

    (void)state;
    fake_ns = 0;
    profile_begin(&r->p);
    for (int i = 0; i < 9; i++)
        assert_true(tap_yield(&tap));
    assert_int_equal(n_calls, 3);
    free_request(r);
}

static bool stop_now(void *ctx)
{
    (void)ctx;
    return false;
}

static void the_hook_can_stop_the_pass(void **state)
{
    const Tap hook = {.yield = stop_now};
    const ProfileOptions o = {.n_prompt = 1, .n_tokens = 1, .chunk = 1, .tap = &hook};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    const Tap tap = profile_tap(&r->p);
    Err err = {0};

    (void)state;
    profile_begin(&r->p);
    r->p.yield_ns = 0;
    assert_int_equal(gpt2_forward(&r->run, r->ids, 1, true, &tap, &err), ERR_CANCELLED);
    free_request(r);
}

/* ---- Events ---- */

/* Every event lies behind the one before; those of a part sum to its time. */
static void check_events(const Profile *p, bool merged)
{
    uint64_t parts[PROFILE_PARTS + 1] = {0}, last = p->begin_ns;

    assert_false(p->overflow);
    assert_int_equal(p->merges, merged);
    assert_true(p->n_events <= p->max_events);
    for (size_t i = 0; i < p->n_events; i++) {
        const ProfileEvent *e = &p->events[i];

        assert_true(e->start_ns >= last && e->end_ns > e->start_ns);
        if (e->pass >= 0)
            assert_true(e->start_ns >= p->passes[e->pass].start_ns &&
                        e->end_ns <= p->passes[e->pass].end_ns);
        last = e->end_ns;
        parts[e->part] += e->end_ns - e->start_ns;
    }
    assert_true(last <= p->end_ns);
    for (int part = 0; part < PROFILE_PARTS; part++) {
        const uint64_t ns = profile_sum(p, PROFILE_PROMPT, part).total_ns +
                            profile_sum(p, PROFILE_DECODE, part).total_ns;
        const bool is_attention =
            part == TAP_PART_SCORES || part == TAP_PART_SOFTMAX || part == TAP_PART_VALUES;

        if (merged && is_attention) {
            assert_int_equal(parts[part], 0);
            parts[PROFILE_ATTENTION] -= ns; /* to 0 after all three */
        } else if (part != PROFILE_OTHER) {
            assert_true(parts[part] == ns);
        }
    }
    assert_true(parts[PROFILE_ATTENTION] == 0);
}

static void events_hold_the_same_times(void **state)
{
    (void)state;
    for (int chunk = 1; chunk <= 30; chunk += 7) {
        const ProfileOptions o = {
            .n_prompt = 29, .n_tokens = 9, .chunk = chunk, .events = true, .now_ns = fake_now};
        Request *r = make_request("2,4,64,40,300", KERN_F32, &o);

        run_request(&r->p, &r->run, r->ids);
        check_events(&r->p, false);
        free_request(r);
    }
}

static void attention_is_merged_where_events_would_be_too_many(void **state)
{
    const ProfileOptions o = {
        .n_prompt = 29, .n_tokens = 9, .chunk = 10, .events = true, .now_ns = fake_now};
    Request *r = make_request("2,4,64,40,300", KERN_F32, &o);

    (void)state;
    r->p.merges = true; /* as profile_init decides for a larger model */
    run_request(&r->p, &r->run, r->ids);
    check_events(&r->p, true);
    free_request(r);
}

static void events_are_bounded(void **state)
{
    Gpt2 m = {.config = {.n_layers = 48, .n_heads = 25}};
    ProfileOptions o = {.n_prompt = 900, .n_tokens = 64, .chunk = 96, .events = true};
    Profile p;
    Err err = {0};

    (void)state;
    assert_int_equal(profile_init(&p, &m, &o, &err), ERR_OK);
    assert_false(p.merges);
    profile_free(&p);
    o.n_tokens = 1000;
    assert_int_equal(profile_init(&p, &m, &o, &err), ERR_OK);
    assert_true(p.merges && p.max_events <= PROFILE_MAX_EVENTS);
    profile_free(&p);
    m.config.n_layers = 4000;
    assert_int_equal(profile_init(&p, &m, &o, &err), ERR_LIMIT);
    o.events = false;
    assert_int_equal(profile_init(&p, &m, &o, &err), ERR_OK);
    assert_int_equal(p.max_events, 0);
    profile_free(&p);
}

/* ---- Work ---- */

/* Bytes and operations of a pass of the tiny model, counted one by one where they are touched: F32,
 * 3 layers, 4 heads of 12, feed-forward 192, vocabulary 512. */
typedef struct {
    double bytes[TAP_PART_COUNT], flop[TAP_PART_COUNT];
} Counted;

enum { LAYERS = 3, HEADS = 4, DIM = 48, FFN = 192, VOCAB = 512 };

static void count_linear(Counted *c, int part, int n, int k, int rows, bool bias)
{
    for (int o = 0; o < n; o++) {
        c->bytes[part] += 4.0 * k + (bias ? 4.0 : 0.0);
        for (int t = 0; t < rows; t++) {
            c->bytes[part] += 4.0;
            for (int i = 0; i < k; i++)
                c->flop[part] += 2.0;
        }
    }
    c->bytes[part] += 4.0 * rows * k;
}

static void count_norm(Counted *c, int part, int rows)
{
    c->bytes[part] += 2 * 4.0 * DIM;
    for (int i = 0; i < rows * DIM; i++) {
        c->bytes[part] += 8.0;
        c->flop[part] += 8.0;
    }
}

static void count_attention(Counted *c, int n, int pos, double kv_bytes)
{
    const int parts[] = {TAP_PART_SCORES, TAP_PART_VALUES};

    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < n; t++) {
            const bool last_of_group = t % 6 == 5 || t == n - 1;

            for (int key = 0; key <= pos + t; key++) {
                for (int i = 0; i < 2; i++) {
                    c->bytes[parts[i]] += 4.0; /* the score */
                    c->flop[parts[i]] += 2.0 * DIM / HEADS;
                    if (last_of_group)
                        c->bytes[parts[i]] += kv_bytes * DIM / HEADS;
                }
                c->bytes[TAP_PART_SOFTMAX] += 8.0;
                c->flop[TAP_PART_SOFTMAX] += 4.0;
            }
            for (int i = 0; i < 2; i++)
                c->bytes[parts[i]] += 4.0 * DIM / HEADS; /* query; output */
        }
}

static void count_pass(Counted *c, int n, int pos, double kv_bytes, bool logits)
{
    for (int i = 0; i < n * DIM; i++) {
        c->bytes[TAP_PART_EMBEDDING] += 12.0;
        c->flop[TAP_PART_EMBEDDING] += 1.0;
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        count_norm(c, TAP_PART_LN_1, n);
        count_linear(c, TAP_PART_QKV, 3 * DIM, DIM, n, true);
        c->bytes[TAP_PART_CACHE] += 2.0 * n * DIM * (4.0 + kv_bytes);
        count_attention(c, n, pos, kv_bytes);
        count_linear(c, TAP_PART_C_PROJ, DIM, DIM, n, true);
        for (int i = 0; i < 2 * n * DIM; i++) {
            c->bytes[TAP_PART_ADD] += 12.0;
            c->flop[TAP_PART_ADD] += 1.0;
        }
        count_norm(c, TAP_PART_LN_2, n);
        count_linear(c, TAP_PART_FC, FFN, DIM, n, true);
        c->bytes[TAP_PART_GELU] += 8.0 * n * FFN;
        c->flop[TAP_PART_GELU] += 7.0 * n * FFN;
        count_linear(c, TAP_PART_PROJ, DIM, FFN, n, true);
    }
    if (logits) {
        count_norm(c, TAP_PART_LN_F, 1);
        count_linear(c, TAP_PART_HEAD, VOCAB, DIM, 1, false);
    }
}

static void work_is_that_of_an_independent_count(void **state)
{
    static const int tokens[] = {1, 5, 6, 7, 20}, positions[] = {0, 3, 33};
    Gpt2 m;
    Err err = {0};

    (void)state;
    assert_int_equal(gpt2_load(&m, "tests/data/tiny-gpt2", NULL, &err), ERR_OK);
    for (int i = 0; i < 5 * 3 * 2; i++) {
        const int n = tokens[i % 5], pos = positions[i / 5 % 3];
        const KernType kv = i / 15 ? KERN_F16 : KERN_F32;
        const bool logits = i % 2 == 0;
        Counted c = {{0.0}, {0.0}};

        count_pass(&c, n, pos, kv == KERN_F16 ? 2.0 : 4.0, logits);
        for (int part = 0; part < TAP_PART_COUNT; part++) {
            double bytes = 0.0, flop = 0.0;

            for (int layer = -1; layer < LAYERS; layer++) {
                const ProfileWork w = profile_work(&m, kv, part, layer, n, pos, logits);

                bytes += w.bytes;
                flop += w.flop;
            }
            if (bytes != c.bytes[part] || flop != c.flop[part])
                fail_msg("%s of %d tokens at %d: %g bytes, %g operations; counted %g and %g",
                         profile_part_name(part), n, pos, bytes, flop, c.bytes[part], c.flop[part]);
        }
    }
    gpt2_free(&m);
}

/* Small types have scales, and rows are stored in panels of eight. */
static void work_follows_the_types(void **state)
{
    static const struct {
        KernType type;
        double bits;
    } types[] = {{KERN_F32, 32}, {KERN_F16, 16}, {KERN_BF16, 16}, {KERN_Q8_0, 8.5}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        Gpt2 m;

        make(&m, "2,2,64,40,301", types[i].type);
        const double activations = 4.0 * (64 + 301);
        assert_true(profile_work(&m, KERN_F32, TAP_PART_HEAD, -1, 1, 0, true).bytes ==
                    304 * 64 * types[i].bits / 8 + activations);
        assert_true(profile_work(&m, KERN_F32, TAP_PART_EMBEDDING, -1, 3, 0, true).bytes ==
                    3 * (64 * types[i].bits / 8 + 2 * 4 * 64));
        assert_true(profile_work(&m, KERN_F32, TAP_PART_HEAD, -1, 1, 0, false).bytes == 0.0);
        gpt2_free(&m);
    }
}

static void a_prompts_operations_are_those_of_bench(void **state)
{
    static const int products[] = {TAP_PART_QKV,    TAP_PART_SCORES, TAP_PART_VALUES, TAP_PART_FC,
                                   TAP_PART_C_PROJ, TAP_PART_PROJ,   TAP_PART_HEAD};
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 1, .chunk = 10, .now_ns = fake_now};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    BenchRig rig = {.model = r->model};
    double flop = 0.0;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        flop += profile_phase_work(&r->p, KERN_F32, PROFILE_PROMPT, products[i], PROFILE_ALL_LAYERS)
                    .flop;
    assert_true(flop == bench_prompt_flop(&rig, 22));
    free_request(r);
}

static void rates_are_work_over_time(void **state)
{
    const ProfileOptions o = {.n_prompt = 22, .n_tokens = 9, .chunk = 10, .now_ns = fake_now};
    Request *r = make_request("2,2,64,40,300", KERN_F32, &o);
    uint64_t ns = 0;

    (void)state;
    run_request(&r->p, &r->run, r->ids);
    const ProfileRow row = profile_row(&r->p, KERN_F32, PROFILE_DECODE, TAP_PART_FC, 1);
    assert_true(row.work.flop == 8.0 * 2 * 64 * 256);
    assert_true(fabs(row.gflop_per_s * (double)row.time.total_ns / row.work.flop - 1.0) < 1e-12);
    assert_true(fabs(row.gb_per_s * (double)row.time.total_ns / row.work.bytes - 1.0) < 1e-12);
    assert_true(profile_row(&r->p, KERN_F32, PROFILE_DECODE, PROFILE_HTTP, -1).gb_per_s == 0.0);
    for (int i = 0; i < 3; i++)
        ns += r->p.passes[i].end_ns - r->p.passes[i].start_ns;
    assert_true(fabs(profile_prompt_rate(&r->p) - 22e9 / (double)ns) < 1e-6);
    ns = 0;
    for (int i = 1; i < 9; i++)
        ns += r->p.token_ns[i];
    assert_true(fabs(profile_decode_rate(&r->p) - 8e9 / (double)ns) < 1e-6);
    free_request(r);
}

/* ---- Percentiles ---- */

/* The least value that at least so many percent of all do not exceed. */
static uint64_t by_definition(const uint64_t *x, int n, int percent)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < n; i++) {
        int below = 0;

        for (int j = 0; j < n; j++)
            below += x[j] <= x[i];
        if (below * 100 >= percent * n && x[i] < best)
            best = x[i];
    }
    return best;
}

static void percentiles_are_those_of_the_definition(void **state)
{
    uint64_t x[210], sorted[210];
    uint32_t seed = 3;

    (void)state;
    for (int n = 1; n <= 210; n++) {
        double sum = 0.0;

        for (int i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            x[i] = seed >> (n % 3 == 0 ? 28 : 10); /* with many equal ones now and then */
            sum += (double)x[i];
        }
        memcpy(sorted, x, sizeof x);
        const ProfileLatency l = profile_latency(sorted, n);
        assert_true(l.p50_ns == by_definition(x, n, 50));
        assert_true(l.p95_ns == by_definition(x, n, 95));
        assert_true(l.p99_ns == by_definition(x, n, 99));
        assert_true(l.min_ns == by_definition(x, n, 0));
        assert_true(l.max_ns == by_definition(x, n, 100));
        assert_true(fabs(l.mean_ns - sum / n) <= 1e-9 * sum);
    }
}

/* ---- Clock ---- */

static void ticks_go_with_the_clock(void **state)
{
    TickClock c;
    uint64_t last = 0;

    (void)state;
    ticks_begin(&c);
    assert_true(ticks_now_ns(&c) <= clock_now_ns());
    ticks_calibrate(&c);
    for (int i = 0; i < 100000; i++) {
        const uint64_t now = ticks_now_ns(&c);

        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < 20; i++) {
        const uint64_t before = clock_now_ns(), now = ticks_now_ns(&c), after = clock_now_ns();

        /* A thousandth of the time since the beginning, for the rate. */
        const uint64_t slack = (after - c.ns) / 1000 + 2000;
        assert_true(now + slack >= before && now <= after + slack);
    }
}

/* ---- Memory ---- */

static void memory_is_seen(void **state)
{
    enum { MB = 1 << 20 };
    Memory m;
    Arena arena;
    Err err = {0};

    (void)state;
    if (in_valgrind()) {
        print_message("# valgrind's own memory moves\n");
        skip();
    }
    memory_open(&m);
    memory_look(&m, MEMORY_LOAD); /* whatever the first look needs */
    const uint64_t before = m.live_bytes;
    if (m.stages[MEMORY_LOAD].resident_bytes == 0) {
        print_message("/proc/self/statm cannot be read here\n");
        memory_close(&m);
        return;
    }
    assert_int_equal(arena_init(&arena, 32 * MB, "test", &err), ERR_OK);
    memory_look(&m, MEMORY_BUFFERS);
    assert_true(m.live_bytes >= before + 32 * MB && m.live_bytes < before + 64 * MB);
    assert_true(m.stages[MEMORY_BUFFERS].allocated_bytes >= 32 * MB);
    arena_free(&arena);
    memory_look(&m, TAP_PART_QKV);
    assert_true(m.live_bytes < before + 32 * MB);
    assert_int_equal(m.stages[TAP_PART_QKV].allocated_bytes, 0);
    assert_true(m.peak_resident_bytes >= m.stages[MEMORY_BUFFERS].resident_bytes);
    if (mallinfo2().uordblks > 0) { /* the sanitizers have an allocator of their own */
        void *p = malloc(3000);

        assert_non_null(p);
        m.steady = true;
        memory_look(&m, PROFILE_SAMPLING);
        assert_in_range(m.stages[PROFILE_SAMPLING].allocated_bytes, 3000, 3100);
        assert_in_range(m.steady_allocated_bytes, 3000, 3100);
        free(p);
    }
    memory_close(&m);
}

/* The model's own work allocates nothing, part by part. */
static void a_pass_allocates_nothing(void **state)
{
    Gpt2 m;
    Gpt2Run run;
    Memory memory;
    int32_t ids[CONTEXT];
    Err err = {0};

    (void)state;
    make(&m, "2,2,64,40,300", KERN_F16);
    make_run(&run, &m, KERN_F32);
    make_ids(ids, CONTEXT, &m);
    memory_open(&memory);
    const Tap tap = memory_tap(&memory, NULL);
    assert_int_equal(gpt2_prefill(&run, ids, 22, 10, &tap, &err), ERR_OK);
    memory.steady = true;
    memory_skip(&memory);
    for (int i = 22; i < CONTEXT; i++)
        assert_int_equal(gpt2_forward(&run, ids + i, 1, true, &tap, &err), ERR_OK);
    assert_int_equal(memory.stages[TAP_PART_PROJ].looks, 2 * (3 + CONTEXT - 22));
    if (mallinfo2().uordblks > 0)
        assert_int_equal(memory.steady_allocated_bytes, 0);
    memory_close(&memory);
    gpt2_run_free(&run);
    gpt2_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_marked_in_order),
        cmocka_unit_test(a_stopped_pass_marks_nothing_more),
        cmocka_unit_test(parts_sum_to_the_wall_time),
        cmocka_unit_test(calls_are_counted),
        cmocka_unit_test(a_profile_changes_no_bit),
        cmocka_unit_test(more_than_was_planned_is_noticed),
        cmocka_unit_test(the_hook_has_a_time_of_its_own),
        cmocka_unit_test(long_products_call_the_hook),
        cmocka_unit_test(the_hook_can_stop_the_pass),
        cmocka_unit_test(events_hold_the_same_times),
        cmocka_unit_test(attention_is_merged_where_events_would_be_too_many),
        cmocka_unit_test(events_are_bounded),
        cmocka_unit_test(work_is_that_of_an_independent_count),
        cmocka_unit_test(work_follows_the_types),
        cmocka_unit_test(a_prompts_operations_are_those_of_bench),
        cmocka_unit_test(rates_are_work_over_time),
        cmocka_unit_test(percentiles_are_those_of_the_definition),
        cmocka_unit_test(ticks_go_with_the_clock),
        cmocka_unit_test(memory_is_seen),
        cmocka_unit_test(a_pass_allocates_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
