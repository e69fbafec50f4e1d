/* tests/test_profile.c: the marks of a pass, and the times and events that the profile makes of
 * them. */
#include "profile_rig.h"

#include <math.h>
#include <string.h>

#include "profile/figures.h"

enum { MAX_MARKS = 20000 };

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

/* ---- Times ---- */

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
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
