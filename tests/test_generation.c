/* tests/test_generation.c: what whole jobs of the CPU backend say on the shipped and the tiny
 * model: their texts, where stop strings, limits and the end of the text cut them, what is refused.
 */
#include "model_copy_rig.h"

#include "kernels/kernels.h"
#include "quick.h"
#include "random.h"
#include "stop_rig.h"
#include "tokenizer/tokenizer.h"

/* --- texts --- */

static void check_recorded(const char *model, const char *reference, const char *isa)
{
    static Job job;
    json_t *want = recorded(reference);
    const json_t *ids = json_object_get(want, "ids"), *prompt = json_object_get(want, "prompt_ids");
    const char *text = json_string_value(json_object_get(want, "text"));
    Backend *b = load(model, isa);
    const int max_tokens = (int)json_integer_value(json_object_get(want, "max_tokens"));
    const BackendRequest r =
        request(json_string_value(json_object_get(want, "prompt")), max_tokens);
    size_t n_prompt;

    for (int round = 0; round < 2; round++) {
        run(b, &r, &job);
        const int32_t *prompt_ids = cpu_backend_prompt_ids(b, &n_prompt);
        assert_int_equal(n_prompt, json_array_size(prompt));
        for (size_t i = 0; i < n_prompt; i++)
            assert_int_equal(prompt_ids[i], json_integer_value(json_array_get(prompt, i)));
        assert_int_equal(job.n_events, max_tokens);
        for (int i = 0; i < max_tokens; i++)
            assert_int_equal(job.ids[i], json_integer_value(json_array_get(ids, (size_t)i)));
        assert_int_equal(job.n_text, strlen(text));
        assert_memory_equal(job.text, text, job.n_text);
        assert_int_equal(job.reason, STOP_MAX_TOKENS);
    }
    b->ops->free(b);
    json_decref(want);
}

static void recorded_greedy_texts(void **state)
{
    (void)state;
    for (int i = 0; kernels_available(i) != NULL; i++) {
        check_recorded(SHIPPED, SHIPPED "/reference/checkpoint_12.json",
                       kernels_available(i)->name);
        check_recorded(TINY, TINY "/reference/checkpoint_12.json", kernels_available(i)->name);
    }
}

static void prompt_ids_equal_the_text(void **state)
{
    static Job by_text, by_ids;
    Backend *b = load(TINY, NULL);
    BackendRequest r = request("my lord, what news?", 12);
    int32_t ids[64];
    size_t n;

    (void)state;
    run(b, &r, &by_text);
    const int32_t *prompt = cpu_backend_prompt_ids(b, &n);
    assert_true(n > 0 && n <= 64);
    memcpy(ids, prompt, n * sizeof *ids);
    r.prompt_ids = ids;
    r.n_prompt_ids = n;
    run(b, &r, &by_ids);
    assert_memory_equal(by_ids.ids, by_text.ids, sizeof by_ids.ids);
    assert_int_equal(b->ops->count_tokens(b, r.prompt), n);
    b->ops->free(b);
}

/* The text is what the token bytes say, each maximal invalid part replaced, whatever was held on
 * the way. */
static void text_equals_the_bytes_of_the_tokens(void **state)
{
    static Job job;
    static char bytes[MAX_TEXT], want[3 * MAX_TEXT];
    Backend *b = load(TINY, NULL);
    Tokenizer *t = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(tokenizer_load(&t, TINY, &err), ERR_OK);
    for (int round = 0; round < (quick() ? 20 : 100); round++) {
        BackendRequest r = request("Speak", 40);
        size_t n = 0, n_want = 0;

        r.sampling.temperature = 2.0f;
        r.sampling.seed = (uint64_t)round;
        run(b, &r, &job);
        for (int i = 0; i < job.n_events; i++) {
            size_t len = 0;
            const char *p = job.ids[i] >= 0 ? tokenizer_token(t, job.ids[i], &len) : NULL;

            if (len > 0)
                memcpy(bytes + n, p, len);
            n += len;
        }
        for (size_t i = 0, used; i < n; i += used) {
            const bool good = text_utf8_next(bytes + i, n - i, &used) >= 0;

            memcpy(want + n_want, good ? bytes + i : "\xef\xbf\xbd", good ? used : 3);
            n_want += good ? used : 3;
        }
        assert_int_equal(job.n_text, n_want);
        assert_memory_equal(job.text, want, n_want);
    }
    tokenizer_free(t);
    b->ops->free(b);
}

/* <|endoftext|> where the model's files name another end: a token without text. */
static void special_tokens_have_no_text(void **state)
{
    static Job job;
    char dir[64];
    int n_seen = 0;

    (void)state;
    make_dir(dir);
    write_file(dir, "generation_config.json", "{\"eos_token_id\": 510}");
    Backend *b = load(dir, NULL);
    for (int round = 0; round < 400 && n_seen < 3; round++) {
        BackendRequest r = request("my lord", 40);

        r.sampling.temperature = 2.0f;
        r.sampling.seed = (uint64_t)round;
        run(b, &r, &job);
        for (int i = 0; i < job.n_events; i++)
            n_seen += job.ids[i] == 511;
        assert_null(memmem(job.text, job.n_text, "<|endoftext|>", 13));
    }
    assert_true(n_seen > 0);
    b->ops->free(b);
    remove_dir(dir);
}

static void counting_does_not_touch_the_running_job(void **state)
{
    static Job want;
    Backend *b = load(TINY, NULL);
    const BackendRequest r = request("What news, my lord? Speak.", 15);
    const BackendText other = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 30};
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};
    int n = 0;

    (void)state;
    run(b, &r, &want);
    assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
    while (step.kind != STEP_END) {
        assert_true(b->ops->count_tokens(b, other) > 0);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        if (step.kind == STEP_TOKEN)
            assert_int_equal(step.id, want.ids[n++]);
    }
    assert_int_equal(n, want.n_events);
    b->ops->free(b);
}

/* --- prompts, and the end of the context --- */

static void context_end(void **state)
{
    static Job job;
    Backend *b = load(TINY, NULL);
    int32_t ids[70];
    Err err = {0};

    (void)state;
    fill_ids(ids, 70);
    for (int n = 60; n <= 64; n++) {
        BackendRequest r = request_ids(ids, n, 50);

        run(b, &r, &job);
        assert_int_equal(job.n_events, 64 - n + 1);
        assert_int_equal(job.reason, STOP_MAX_TOKENS);
        r.max_tokens = 2;
        run(b, &r, &job);
        assert_int_equal(job.n_events, n == 64 ? 1 : 2);
    }
    const BackendRequest r = request_ids(ids, 65, 50);
    assert_int_equal(b->ops->start(b, &r, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "prompt must be at most 64 tokens (got 65)");
    b->ops->free(b);
}

static void refuses_bad_requests(void **state)
{
    Backend *b = load(TINY, NULL);
    BackendRequest r = request("", 5);
    BackendStep step;
    Err err = {0};
    const int32_t bad[] = {1, 512}, negative[] = {-1};
    static char big[4 * BACKEND_MAX_PROMPT_CHARS + 1];

    (void)state;
    assert_int_equal(b->ops->start(b, &r, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "prompt must not be empty");
    r.prompt_ids = bad;
    r.n_prompt_ids = 2;
    assert_int_equal(b->ops->start(b, &r, &err), ERR_USAGE);
    r.prompt_ids = negative;
    r.n_prompt_ids = 1;
    assert_int_equal(b->ops->start(b, &r, &err), ERR_USAGE);
    memset(big, 'a', sizeof big);
    r = request("a", 5);
    r.prompt = (BackendText){big, sizeof big};
    assert_int_equal(b->ops->start(b, &r, &err), ERR_LIMIT);
    assert_int_equal(b->ops->count_tokens(b, r.prompt), -1);
    r.prompt.n_bytes--;
    assert_true(b->ops->count_tokens(b, r.prompt) > 64);
    assert_int_equal(b->ops->start(b, &r, &err), ERR_LIMIT);
    assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL);
    b->ops->free(b);
}

static void long_prompts_go_in_chunks(void **state)
{
    enum { N_CTX = 256 };
    static Job job;
    Backend *b = load_with(&(CpuBackendOptions){.model_path = SHIPPED, .no_prefix_cache = true});
    int32_t ids[N_CTX];

    (void)state;
    fill_ids(ids, N_CTX);
    const int longest = quick() ? CPU_BACKEND_CHUNK : N_CTX;
    for (int n = CPU_BACKEND_CHUNK - 1; n <= longest; n += CPU_BACKEND_CHUNK) {
        for (int more = 0; more < 3 && n + more <= N_CTX; more++) {
            const BackendRequest r = request_ids(ids, n + more, 1);

            run(b, &r, &job);
            assert_int_equal(job.n_prompt_steps,
                             (n + more + CPU_BACKEND_CHUNK - 1) / CPU_BACKEND_CHUNK);
        }
    }
    b->ops->free(b);
}

/* --- stop strings --- */

/* Runs without stop strings, then with the pieces of that text, and compares with what the
 * definition says. */
static void check_job_stops(Backend *b, BackendRequest r, const Job *whole, uint64_t *seed)
{
    static Job job;

    if (whole->n_text == 0)
        return;
    r.n_stops = 1 + (int)(next_random(seed) % BACKEND_MAX_STOPS);
    for (int i = 0; i < r.n_stops; i++) {
        size_t at = next_random(seed) % (uint32_t)whole->n_text;
        const size_t n_chars = 1 + next_random(seed) % 12;

        while (at > 0 && ((unsigned char)whole->text[at] & 0xc0) == 0x80)
            at--;
        size_t end = at;
        for (size_t c = 0, used; c < n_chars && end < whole->n_text; c++, end += used)
            (void)text_utf8_next(whole->text + end, whole->n_text - end, &used);
        r.stops[i] = (BackendText){whole->text + at, end - at};
    }
    const Cut want = naive_cut(whole->text, whole->n_text, r.stops, r.n_stops);
    run(b, &r, &job);
    assert_int_equal(job.reason, STOP_SEQUENCE);
    assert_int_equal(job.n_matched, r.stops[want.matched].n_bytes);
    assert_memory_equal(job.matched, r.stops[want.matched].text, job.n_matched);
    assert_int_equal(job.n_text, want.n_out);
    assert_memory_equal(job.text, whole->text, want.n_out);
    /* One event per token up to the one that completes the string. */
    const size_t stop_end = want.n_out + job.n_matched;
    int n_events = 1;
    while (whole->ends[n_events - 1] < stop_end)
        n_events++;
    assert_int_equal(job.n_events, n_events);
    assert_memory_equal(job.ids, whole->ids, (size_t)n_events * sizeof *job.ids);
    for (int i = 0; i < n_events - 1; i++) {
        const size_t held = naive_held(whole->text, whole->ends[i], r.stops, r.n_stops);

        assert_int_equal(job.ends[i], whole->ends[i] - held);
    }
}

static void stop_strings_across_tokens(void **state)
{
    static Job whole;
    Backend *b = load(TINY, NULL);
    uint64_t seed = 17;
    int n_multibyte = 0;

    (void)state;
    for (int round = 0; round < (quick() ? 10 : 60); round++) {
        BackendRequest r = request("Good morrow", 30);

        r.sampling.temperature = round % 3 == 0 ? 0.8f : 2.0f;
        r.sampling.seed = (uint64_t)round;
        run(b, &r, &whole);
        for (size_t i = 0; i < whole.n_text; i++)
            n_multibyte += ((unsigned char)whole.text[i] & 0x80) != 0;
        for (int i = 0; i < 4; i++)
            check_job_stops(b, r, &whole, &seed);
    }
    /* The tiny model's random texts break characters apart: U+FFFD must have been seen, too. */
    assert_true(n_multibyte > 0);
    b->ops->free(b);
}

static void held_text_is_flushed_with_the_last_token(void **state)
{
    static Job whole, job;
    Backend *b = load(SHIPPED, NULL);
    BackendRequest r = request("First Citizen:\n", 6);
    char stop[64];

    (void)state;
    run(b, &r, &whole);
    assert_true(whole.n_text >= 6 && whole.n_text < 60);
    /* The end of the text, and something that does not follow. */
    memcpy(stop, whole.text + whole.n_text - 5, 5);
    memcpy(stop + 5, "\x01\x02", 2);
    r.stops[0] = (BackendText){stop, 7};
    r.n_stops = 1;
    run(b, &r, &job);
    assert_int_equal(job.n_events, 6);
    assert_int_equal(job.reason, STOP_MAX_TOKENS);
    assert_int_equal(job.n_text, whole.n_text);
    assert_memory_equal(job.text, whole.text, whole.n_text);
    assert_true(job.ends[4] < whole.ends[4]); /* it was held before */
    b->ops->free(b);
}

static void stop_comes_before_the_limit(void **state)
{
    static Job whole, job;
    Backend *b = load(TINY, NULL);
    BackendRequest r = request("my lord", 8);

    (void)state;
    run(b, &r, &whole);
    r.stops[0] = (BackendText){whole.text + whole.ends[2], whole.ends[7] - whole.ends[2]};
    r.n_stops = 1;
    const Cut want = naive_cut(whole.text, whole.n_text, r.stops, 1);
    assert_int_equal(want.n_out, whole.ends[2]); /* only at the very end */
    run(b, &r, &job);
    assert_int_equal(job.reason, STOP_SEQUENCE);
    assert_int_equal(job.n_events, 8);
    assert_int_equal(job.n_text, whole.ends[2]);
    b->ops->free(b);
}

/* --- the end of the text --- */

static void end_of_text(void **state)
{
    static Job whole, job;
    char dir[64];
    Backend *b = load(TINY, NULL);
    BackendRequest r = request("Hello. It's 7 o'clock, my lord;\n  what news?", 20);
    const BackendText held = {" o\x01", 3};

    (void)state;
    run(b, &r, &whole); /* " can" "ut" " o" " herst" ... */
    assert_int_equal(whole.ids[2], 286);
    assert_int_equal(whole.ids[3], 399);
    b->ops->free(b);

    make_dir(dir);
    write_file(dir, "generation_config.json", "{\"eos_token_id\": [510, 399]}");
    b = load(dir, NULL);
    run(b, &r, &job);
    assert_int_equal(job.n_events, 3); /* neither sent nor counted */
    assert_int_equal(job.reason, STOP_EOS);
    assert_int_equal(job.end_id, 399);
    assert_memory_equal(job.text, whole.text, job.n_text);
    assert_int_equal(job.n_text, whole.ends[2]);

    /* Text that is held when the end comes goes out as one more event. */
    r.stops[0] = held;
    r.n_stops = 1;
    run(b, &r, &job);
    assert_int_equal(job.n_events, 4);
    assert_int_equal(job.ids[3], -1);
    assert_int_equal(job.reason, STOP_EOS);
    assert_int_equal(job.n_text, whole.ends[2]);
    assert_int_equal(job.ends[2], whole.ends[1]);

    /* The end of the text comes before the limit. */
    r.n_stops = 0;
    r.max_tokens = 4;
    run(b, &r, &job);
    assert_int_equal(job.reason, STOP_EOS);
    r.max_tokens = 3;
    run(b, &r, &job);
    assert_int_equal(job.reason, STOP_MAX_TOKENS);
    b->ops->free(b);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_greedy_texts),
        cmocka_unit_test(prompt_ids_equal_the_text),
        cmocka_unit_test(context_end),
        cmocka_unit_test(refuses_bad_requests),
        cmocka_unit_test(stop_strings_across_tokens),
        cmocka_unit_test(text_equals_the_bytes_of_the_tokens),
        cmocka_unit_test(held_text_is_flushed_with_the_last_token),
        cmocka_unit_test(end_of_text),
        cmocka_unit_test(special_tokens_have_no_text),
        cmocka_unit_test(stop_comes_before_the_limit),
        cmocka_unit_test(counting_does_not_touch_the_running_job),
        cmocka_unit_test(long_prompts_go_in_chunks),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
