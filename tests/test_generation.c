/* tests/test_generation.c: whole jobs of the CPU backend on the shipped and the tiny model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/cpu_backend.h"
#include "backend/stop_matcher.h"
#include "common/json.h"
#include "common/text.h"
#include "kernels/kernels.h"
#include "quick.h"
#include "random.h"
#include "stop_rig.h"
#include "tokenizer/tokenizer.h"

#define TINY "tests/data/tiny-gpt2"
#define SHIPPED "models/shakespeare"

enum { MAX_TEXT = 16384, MAX_IDS = 2048 };

/* --- jobs --- */

/* One job's events, concatenated. */
typedef struct {
    char text[MAX_TEXT];
    size_t n_text;
    size_t ends[MAX_IDS + 1]; /* bytes of text after event i */
    int ids[MAX_IDS + 1];
    int n_events; /* tokens, and the one that end of text may add */
    StopReason reason;
    char matched[STOP_MAX_BYTES];
    size_t n_matched;             /* a NUL is a character like others */
    int n_prompt_steps, n_cached; /* last: these depend on the job before, nothing else does */
} Job;

static void assert_same_result(const Job *got, const Job *want)
{
    assert_memory_equal(got, want, offsetof(Job, n_prompt_steps));
}

static Backend *load_with(const CpuBackendOptions *options)
{
    Backend *b = NULL;
    Err err = {0};

    if (cpu_backend_load(&b, options, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return b;
}

static Backend *load(const char *path, const char *isa)
{
    return load_with(&(CpuBackendOptions){.model_path = path, .isa = isa});
}

static BackendRequest request(const char *prompt, int max_tokens)
{
    BackendRequest r = {.prompt = {prompt, strlen(prompt)},
                        .max_tokens = max_tokens,
                        .sampling = sampling_defaults()};

    r.sampling.temperature = 0.0f;
    return r;
}

static void run(Backend *b, const BackendRequest *r, Job *job)
{
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};

    memset(job, 0, sizeof *job);
    if (b->ops->start(b, r, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    job->n_cached = b->ops->n_cached_tokens(b);
    while (step.kind != STEP_END) {
        if (b->ops->step(b, NULL, &step, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        if (step.kind == STEP_PROMPT) {
            assert_int_equal(job->n_events, 0);
            job->n_prompt_steps++;
            continue;
        }
        if (step.kind == STEP_END)
            break;
        assert_true(text_utf8_valid(step.text, step.n_text));
        assert_true(job->n_events < MAX_IDS && job->n_text + step.n_text < MAX_TEXT);
        memcpy(job->text + job->n_text, step.text, step.n_text);
        job->n_text += step.n_text;
        job->ends[job->n_events] = job->n_text;
        job->ids[job->n_events++] = step.id;
    }
    job->reason = step.reason;
    job->n_matched = step.n_matched;
    if (step.reason == STOP_SEQUENCE)
        memcpy(job->matched, step.matched, step.n_matched);
    else
        assert_null(step.matched);
    assert_int_equal(step.n_prompt_done, b->ops->n_prompt_tokens(b));
}

static json_t *recorded(const char *path)
{
    Err err = {0};
    json_t *j = json_parse_file(path, 1 << 20, &err);

    if (j == NULL)
        fail_msg("%s", err.msg);
    return j;
}

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

static void info_describes_the_model(void **state)
{
    const CpuBackendOptions options = {
        .model_path = TINY, .model_name = "other", .max_context = 10, .isa = "scalar"};
    Backend *b = load(TINY, NULL), *named = NULL;
    const BackendInfo *info = b->ops->info(b);
    Err err = {0};

    (void)state;
    assert_string_equal(info->model_name, "tiny-gpt2");
    assert_string_equal(info->tokenizer_kind, "hf-json");
    assert_string_equal(info->quant_kind, "F32");
    assert_int_equal(info->vocab_size, 512);
    assert_int_equal(info->n_ctx, 64);
    assert_true(info->model_bytes > 100000 && info->memory_bytes > info->model_bytes);
    assert_int_equal(cpu_backend_load(&named, &options, &err), ERR_OK);
    assert_string_equal(named->ops->info(named)->model_name, "other");
    assert_int_equal(named->ops->info(named)->n_ctx, 10);
    named->ops->free(named);
    b->ops->free(b);
}

/* --- the end of the context --- */

static void fill_ids(int32_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        ids[i] = 300 + i % 100;
}

static void context_end(void **state)
{
    static Job job;
    Backend *b = load(TINY, NULL);
    int32_t ids[70];
    Err err = {0};

    (void)state;
    fill_ids(ids, 70);
    for (int n = 60; n <= 64; n++) {
        BackendRequest r = request("", 50);

        r.prompt_ids = ids;
        r.n_prompt_ids = (size_t)n;
        run(b, &r, &job);
        assert_int_equal(job.n_events, 64 - n + 1);
        assert_int_equal(job.reason, STOP_MAX_TOKENS);
        r.max_tokens = 2;
        run(b, &r, &job);
        assert_int_equal(job.n_events, n == 64 ? 1 : 2);
    }
    BackendRequest r = request("", 50);
    r.prompt_ids = ids;
    r.n_prompt_ids = 65;
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

/* --- stop strings in jobs --- */

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
    for (int round = 0; round < 60; round++) {
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
    for (int round = 0; round < 100; round++) {
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

/* --- changed copies of the tiny model --- */

static void link_file(const char *dir, const char *name)
{
    char cwd[2048], from[4096], to[4096];

    assert_non_null(getcwd(cwd, sizeof cwd));
    (void)snprintf(from, sizeof from, "%s/" TINY "/%s", cwd, name);
    (void)snprintf(to, sizeof to, "%s/%s", dir, name);
    assert_int_equal(symlink(from, to), 0);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "vocab.json", "merges.txt"};
    char path[4096];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void make_dir(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/llorch-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    link_file(dir, "config.json");
    link_file(dir, "model.safetensors");
}

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
    link_file(dir, "vocab.json");
    link_file(dir, "merges.txt");
    write_file(dir, "generation_config.json", "{\"eos_token_id\": [510, 399]}");
    b = load(dir, NULL);
    run(b, &r, &job);
    assert_int_equal(job.n_events, 3); /* neither sent nor counted */
    assert_int_equal(job.reason, STOP_EOS);
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

/* <|endoftext|> where the model's files name another end: a token without text. */
static void special_tokens_have_no_text(void **state)
{
    static Job job;
    char dir[64];
    int n_seen = 0;

    (void)state;
    make_dir(dir);
    link_file(dir, "vocab.json");
    link_file(dir, "merges.txt");
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

/* vocab.json and merges.txt of the tiny model, less all ids from n on. */
static void write_small_tokenizer(const char *dir, int n)
{
    char *line = NULL, *merges = calloc(1, 65536);
    json_t *vocab = recorded(TINY "/vocab.json");
    size_t room = 0;
    void *next_key;
    const char *key;
    json_t *value;
    FILE *f = fopen(TINY "/merges.txt", "r");

    assert_non_null(f);
    assert_non_null(merges);
    json_object_foreach_safe(vocab, next_key, key, value) if (json_integer_value(value) >= n)
        assert_int_equal(json_object_del(vocab, key), 0);
    for (int i = 0; getline(&line, &room, f) > 0 && i <= n - 256; i++)
        (void)strcat(merges, line);
    (void)fclose(f);
    free(line);
    char *text = json_dumps(vocab, 0);
    write_file(dir, "vocab.json", text);
    write_file(dir, "merges.txt", merges);
    free(text);
    free(merges);
    json_decref(vocab);
}

static void padded_vocabulary(void **state)
{
    static Job job;
    enum { N = 300 };
    const int32_t id_of_padding[] = {N};
    char dir[64];
    Err err = {0};

    (void)state;
    make_dir(dir);
    write_small_tokenizer(dir, N);
    Backend *b = load(dir, NULL);
    assert_int_equal(b->ops->info(b)->vocab_size, N);
    for (int round = 0; round < 40; round++) {
        BackendRequest r = request("my lord", 20);

        r.sampling.temperature = round == 0 ? 0.0f : 2.0f;
        r.sampling.seed = (uint64_t)round;
        run(b, &r, &job);
        assert_int_equal(job.n_events, 20);
        for (int i = 0; i < job.n_events; i++)
            assert_true(job.ids[i] >= 0 && job.ids[i] < N);
    }
    BackendRequest r = request("", 5);
    r.prompt_ids = id_of_padding;
    r.n_prompt_ids = 1;
    assert_int_equal(b->ops->start(b, &r, &err), ERR_USAGE);
    assert_string_equal(err.msg, "prompt id 300 is outside the vocabulary (0..=299)");
    b->ops->free(b);
    remove_dir(dir);
}

static void tokenizer_larger_than_the_model(void **state)
{
    char dir[64];
    Backend *b = NULL;
    Err err = {0};
    json_t *vocab = recorded(TINY "/vocab.json");

    (void)state;
    make_dir(dir);
    link_file(dir, "merges.txt");
    assert_int_equal(json_object_set_new(vocab, "zzzz", json_integer(512)), 0);
    char *text = json_dumps(vocab, 0);
    write_file(dir, "vocab.json", text);
    free(text);
    json_decref(vocab);
    const CpuBackendOptions options = {.model_path = dir};
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_FORMAT);
    assert_null(b);
    assert_non_null(strstr(err.msg, "513 tokens"));
    remove_dir(dir);
}

/* --- cancelling --- */

static bool count_down(void *ctx)
{
    int *left = ctx;

    return --*left >= 0;
}

static bool count_up(void *ctx)
{
    ++*(int *)ctx;
    return true;
}

/* How often a whole job asks whether to go on. It depends on the instruction set. */
static int count_yields(Backend *b, const BackendRequest *r)
{
    int n = 0;
    const Tap tap = {.ctx = &n, .yield = count_up};
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};

    assert_int_equal(b->ops->start(b, r, &err), ERR_OK);
    while (step.kind != STEP_END)
        assert_int_equal(b->ops->step(b, &tap, &step, &err), ERR_OK);
    return n;
}

/* Places in a job to stop it at, from the first yield to the last. */
static int n_cuts(void)
{
    return quick() ? 5 : 17;
}

/* A model whose prompts can take several steps; an emulator needs minutes for those. */
static const char *long_model(void)
{
    return quick() ? TINY : SHIPPED;
}

static int long_prompt(int n)
{
    return quick() ? 40 : n;
}

static void a_cancelled_job_leaves_nothing_behind(void **state)
{
    static Job want, got;
    Backend *b = load(long_model(), NULL);
    BackendRequest r = request("First Citizen:\nBefore we proceed", 20), other;
    int32_t ids[150];
    int n_cancelled = 0;

    (void)state;
    r.sampling.temperature = 1.2f;
    r.sampling.repetition_penalty = 1.3f;
    r.stops[0] = (BackendText){"\x01", 1};
    r.n_stops = 1;
    run(b, &r, &want);
    fill_ids(ids, 150);
    other = request("", quick() ? 20 : 50);
    other.prompt_ids = ids;
    other.n_prompt_ids = (size_t)long_prompt(150);
    other.sampling.repetition_penalty = 2.0f;
    const int n_yields = count_yields(b, &other);
    for (int cut = 0; cut < n_cuts(); cut++) {
        int left = n_yields * cut / n_cuts();
        const Tap tap = {.ctx = &left, .yield = count_down};
        BackendStep step = {.kind = STEP_PROMPT};
        Err err = {0};
        ErrCode code = b->ops->start(b, &other, &err);

        while (code == ERR_OK && step.kind != STEP_END)
            code = b->ops->step(b, &tap, &step, &err);
        n_cancelled += code == ERR_CANCELLED;
        if (code == ERR_CANCELLED) /* the job is over */
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL);
        run(b, &r, &got);
        assert_same_result(&got, &want);

        /* And by cancel between two steps. */
        err = (Err){0};
        assert_int_equal(b->ops->start(b, &other, &err), ERR_OK);
        for (int i = 0; i < cut % 7; i++)
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        b->ops->cancel(b);
        b->ops->cancel(b);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL);
        run(b, &r, &got);
        assert_same_result(&got, &want);
    }
    assert_int_equal(n_cancelled, n_cuts());
    b->ops->free(b);
}

/* A job that is dropped inside a character: its bytes are not those of the next one. */
static void half_characters_are_dropped(void **state)
{
    static Job want, got;
    Backend *b = load(TINY, NULL);
    const BackendRequest r = request("my lord", 10);
    BackendRequest other = request("Speak", 40);
    Err err = {0};

    (void)state;
    run(b, &r, &want);
    other.sampling.temperature = 2.0f;
    for (int round = 0; round < 200; round++) {
        BackendStep step = {.kind = STEP_PROMPT};

        other.sampling.seed = (uint64_t)round;
        assert_int_equal(b->ops->start(b, &other, &err), ERR_OK);
        for (int i = 0; i < 2 + round % 5 && step.kind != STEP_END; i++)
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        run(b, &r, &got);
        assert_same_result(&got, &want);
    }
    b->ops->free(b);
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
            BackendRequest r = request("", 1);

            r.prompt_ids = ids;
            r.n_prompt_ids = (size_t)(n + more);
            run(b, &r, &job);
            assert_int_equal(job.n_prompt_steps,
                             (n + more + CPU_BACKEND_CHUNK - 1) / CPU_BACKEND_CHUNK);
        }
    }
    b->ops->free(b);
}

/* --- prompts that begin like the sequence before --- */

/* One backend that reuses, one that does not, and what the first one's cache must hold. */
typedef struct {
    Backend *reusing, *plain;
    int32_t held[MAX_IDS];
    int n_held, n_ctx;
} Pair;

static Pair pair_load(const char *path, const char *isa)
{
    const CpuBackendOptions plain = {.model_path = path, .isa = isa, .no_prefix_cache = true};
    Pair p = {.reusing = load(path, isa), .plain = load_with(&plain)};

    p.n_ctx = p.plain->ops->info(p.plain)->n_ctx;
    return p;
}

static void pair_free(Pair *p)
{
    p->reusing->ops->free(p->reusing);
    p->plain->ops->free(p->plain);
}

/* The last token of a prompt is always computed. */
static int expected_reuse(const Pair *p, const BackendRequest *r)
{
    int n = 0;

    while (n < p->n_held && n < (int)r->n_prompt_ids - 1 && p->held[n] == r->prompt_ids[n])
        n++;
    return n;
}

static BackendRequest request_ids(const int32_t *ids, int n, int max_tokens)
{
    BackendRequest r = request("", max_tokens);

    r.prompt_ids = ids;
    r.n_prompt_ids = (size_t)n;
    return r;
}

/* The cache after a job of which n_generated tokens came out and all but the last n_open of them
 * were computed. */
static void pair_hold(Pair *p, const BackendRequest *r, const int *generated, int n_generated,
                      int n_open)
{
    p->n_held = 0;
    for (size_t i = 0; i < r->n_prompt_ids; i++)
        p->held[p->n_held++] = r->prompt_ids[i];
    for (int i = 0; i < n_generated - n_open; i++)
        p->held[p->n_held++] = generated[i];
}

/* Runs r on both: the same result, the expected reuse. */
static void pair_run(Pair *p, const BackendRequest *r, Job *job)
{
    static Job want;
    const int expected = expected_reuse(p, r);

    run(p->reusing, r, job);
    run(p->plain, r, &want);
    assert_same_result(job, &want);
    assert_int_equal(job->n_cached, expected);
    assert_int_equal(want.n_cached, 0);
    assert_int_equal(p->reusing->ops->n_prompt_tokens(p->reusing), r->n_prompt_ids);
    assert_int_equal(job->n_prompt_steps,
                     ((int)r->n_prompt_ids - expected + CPU_BACKEND_CHUNK - 1) / CPU_BACKEND_CHUNK);

    const bool extra = job->n_events > 0 && job->ids[job->n_events - 1] < 0;
    const int n = job->n_events - extra;
    pair_hold(p, r, job->ids, n, job->reason == STOP_EOS ? 0 : 1);
}

static BackendRequest sampled(BackendRequest r, uint64_t seed)
{
    r.sampling.temperature = 1.1f;
    r.sampling.top_k = 40;
    r.sampling.top_p = 0.95f;
    r.sampling.repetition_penalty = 1.2f;
    r.sampling.seed = seed;
    return r;
}

enum { BASE_PROMPT = 20, BASE_TOKENS = 12 };

/* Lengths of what a second prompt takes over of the first sequence, and of what follows. */
static const struct {
    int n_same, n_other, n_cached;
} prefix_cases[] = {
    {32, 6, 31}, /* extends: the last generated token was never computed */
    {32, 0, 31}, /* the whole sequence */
    {31, 0, 30}, /* exactly what the cache holds */
    {25, 9, 25}, /* diverges in the generated part */
    {20, 0, 19}, /* equal */
    {20, 5, 20}, /* another continuation of the same prompt */
    {10, 0, 9},  /* shorter */
    {7, 13, 7},  /* diverges in the middle */
    {1, 0, 0},   /* one token */
    {0, 8, 0},   /* nothing in common */
};

static void check_prefix_case(Pair *p, size_t which, bool greedy)
{
    static Job first, second;
    int32_t ids[BASE_PROMPT + BASE_TOKENS + 16];
    const int n_same = prefix_cases[which].n_same, n_other = prefix_cases[which].n_other;

    fill_ids(ids, BASE_PROMPT);
    BackendRequest r = request_ids(ids, BASE_PROMPT, BASE_TOKENS);
    pair_run(p, &r, &first);
    for (int i = 0; i < BASE_TOKENS; i++)
        ids[BASE_PROMPT + i] = first.ids[i];
    for (int i = 0; i < n_other; i++) /* the first one differs from what stood there */
        ids[n_same + i] = n_same + i < BASE_PROMPT + BASE_TOKENS ? (ids[n_same + i] + 1) % 500 : i;
    r = request_ids(ids, n_same + n_other, 15);
    if (!greedy)
        r = sampled(r, which);
    pair_run(p, &r, &second);
    assert_int_equal(second.n_cached, prefix_cases[which].n_cached);
}

static void prefixes_are_reused_without_a_trace(void **state)
{
    (void)state;
    for (int k = 0; kernels_available(k) != NULL; k++) {
        Pair p = pair_load(TINY, kernels_available(k)->name);

        for (size_t i = 0; i < 2 * sizeof prefix_cases / sizeof *prefix_cases; i++)
            check_prefix_case(&p, i / 2, i % 2 == 0);
        pair_free(&p);
    }
}

static void sampling_does_not_follow_the_prefix(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[30];

    (void)state;
    fill_ids(ids, 30);
    for (int round = 0; round < 40; round++) {
        BackendRequest r = request_ids(ids, 30, 20);

        if (round % 4 != 0)
            r = sampled(r, (uint64_t)round);
        if (round % 3 == 0)
            r.sampling.repetition_penalty = 1.7f;
        pair_run(&p, &r, &job);
        assert_int_equal(job.n_cached, round == 0 ? 0 : 29);
    }
    pair_free(&p);
}

/* Starts r on the reusing backend and stops it: at the n_yields-th yield, or, when none ends it, by
 * cancel after n_steps steps. The pair then knows what the cache must hold. Returns whether a step
 * was cut short. */
static bool pair_cancel(Pair *p, const BackendRequest *r, int n_yields, int n_steps)
{
    const Tap tap = {.ctx = &n_yields, .yield = count_down};
    const BackendOps *ops = p->reusing->ops;
    BackendStep step = {.kind = STEP_PROMPT};
    int ids[MAX_IDS] = {0}, n_ids = 0, n_done;
    bool ended = false; /* by end of text: every token was computed */
    Err err = {0};
    ErrCode code = ERR_OK;

    assert_int_equal(ops->start(p->reusing, r, &err), ERR_OK);
    n_done = ops->n_cached_tokens(p->reusing);
    assert_int_equal(n_done, expected_reuse(p, r));
    for (int i = 0; i < n_steps && step.kind != STEP_END; i++) {
        code = ops->step(p->reusing, &tap, &step, &err);
        if (code != ERR_OK)
            break;
        n_done = step.n_prompt_done;
        if (step.kind == STEP_TOKEN && step.id >= 0)
            ids[n_ids++] = step.id;
        ended |= step.kind == STEP_END ? step.reason == STOP_EOS
                                       : step.kind == STEP_TOKEN && step.id < 0;
    }
    ops->cancel(p->reusing);
    assert_true(code == ERR_OK || code == ERR_CANCELLED);
    pair_hold(p, r, ids, n_ids, n_ids > 0 && !ended ? 1 : 0);
    if (n_ids == 0)
        p->n_held = n_done; /* not the whole prompt, perhaps */
    return code == ERR_CANCELLED;
}

static void cancelled_prompts_are_reused(void **state)
{
    static Job job;
    Pair p = pair_load(long_model(), NULL);
    int32_t ids[250];
    int n_partial = 0, n_cut = 0;

    (void)state;
    fill_ids(ids, 250);
    const BackendRequest r = request_ids(ids, long_prompt(250), 6);
    const BackendRequest other = request_ids(ids + 1, long_prompt(100), 2);
    pair_run(&p, &other, &job);
    const int n_yields = count_yields(p.reusing, &r);
    pair_hold(&p, &r, NULL, 0, 0);
    for (int cut = 0; cut < n_cuts(); cut++) {
        pair_run(&p, &other, &job); /* nothing of r is left */
        n_cut += pair_cancel(&p, &r, n_yields * cut / n_cuts(), 1000);
        n_partial += p.n_held > 0 && p.n_held < (int)r.n_prompt_ids;
        pair_run(&p, &r, &job);
    }
    assert_int_equal(n_cut, n_cuts());
    assert_true(quick() || n_partial > 0);    /* a short prompt is a single step */
    for (int steps = 0; steps < 4; steps++) { /* and between two steps */
        pair_run(&p, &other, &job);
        (void)pair_cancel(&p, &r, INT32_MAX, steps);
        pair_run(&p, &r, &job);
    }
    pair_free(&p);
}

static void cancelled_texts_are_reused(void **state)
{
    enum { N_PROMPT = 15, N_NEW = 40 };
    static Job whole, job;
    Pair p = pair_load(long_model(), NULL);
    int32_t ids[N_PROMPT + N_NEW];
    int n_cut = 0;

    (void)state;
    fill_ids(ids, N_PROMPT);
    const BackendRequest r = request_ids(ids, N_PROMPT, N_NEW);
    pair_run(&p, &r, &whole);
    for (int i = 0; i < N_NEW; i++)
        ids[N_PROMPT + i] = whole.ids[i];
    const BackendRequest more = request_ids(ids, N_PROMPT + N_NEW, 5);
    pair_run(&p, &more, &job);
    const int n_yields = count_yields(p.reusing, &r);
    pair_hold(&p, &r, whole.ids, N_NEW, 1);
    for (int cut = 0; cut < n_cuts(); cut++) {
        pair_run(&p, &more, &job);
        n_cut += pair_cancel(&p, &r, n_yields * cut / n_cuts(), 1000);
        pair_run(&p, &more, &job);
        (void)pair_cancel(&p, &r, INT32_MAX, cut * 30 / n_cuts());
    }
    assert_int_equal(n_cut, n_cuts());
    pair_free(&p);
}

static void stopped_texts_are_reused(void **state)
{
    static Job whole, job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[40];

    (void)state;
    fill_ids(ids, 15);
    BackendRequest r = request_ids(ids, 15, 20);
    pair_run(&p, &r, &whole);
    for (int i = 0; i < 20; i++)
        ids[15 + i] = whole.ids[i];
    /* The text of tokens 5 and 6 ends the job; all but the last computed token's are reused. */
    r.stops[0] = (BackendText){whole.text + whole.ends[4], whole.ends[6] - whole.ends[4]};
    r.n_stops = 1;
    pair_run(&p, &r, &job);
    assert_int_equal(job.reason, STOP_SEQUENCE);
    const int n_events = job.n_events;
    const BackendRequest more = request_ids(ids, 35, 8);
    pair_run(&p, &more, &job);
    assert_int_equal(job.n_cached, 15 + n_events - 1);
    pair_free(&p);
}

static void ended_texts_are_reused(void **state)
{
    static Job whole, job;
    char dir[64], eos[64];
    Pair p = pair_load(TINY, NULL);
    int32_t ids[40];

    (void)state;
    fill_ids(ids, 15);
    const BackendRequest r = request_ids(ids, 15, 20);
    pair_run(&p, &r, &whole);
    pair_free(&p);
    for (int i = 0; i < 20; i++)
        ids[15 + i] = whole.ids[i];

    make_dir(dir);
    link_file(dir, "vocab.json");
    link_file(dir, "merges.txt");
    (void)snprintf(eos, sizeof eos, "{\"eos_token_id\": %d}", whole.ids[4]);
    write_file(dir, "generation_config.json", eos);
    p = pair_load(dir, NULL);
    pair_run(&p, &r, &job);
    assert_int_equal(job.reason, STOP_EOS);
    const int n_events = job.n_events; /* each was computed: the end token came out of the last */
    const BackendRequest more = request_ids(ids, 15 + n_events + 3, 4);
    pair_run(&p, &more, &job);
    assert_int_equal(job.n_cached, 15 + n_events);
    pair_free(&p);
    remove_dir(dir);
}

static void a_refused_job_leaves_the_cache_alone(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    int32_t ids[70];
    Err err = {0};

    (void)state;
    fill_ids(ids, 70);
    const BackendRequest r = request_ids(ids, 30, 3), long_one = request_ids(ids, 65, 3);
    pair_run(&p, &r, &job);
    assert_int_equal(p.reusing->ops->start(p.reusing, &long_one, &err), ERR_LIMIT);
    assert_int_equal(p.reusing->ops->n_cached_tokens(p.reusing), 0);
    pair_run(&p, &r, &job);
    assert_int_equal(job.n_cached, 29);
    pair_free(&p);
}

/* Any history: jobs that take over any part of the one before, in all ways to end. */
static void any_sequence_of_jobs(void **state)
{
    static Job job;
    Pair p = pair_load(TINY, NULL);
    uint64_t seed = 23;
    int32_t ids[64];
    long long n_reused = 0;

    (void)state;
    for (int round = 0; round < (quick() ? 100 : 400); round++) {
        const int n = 1 + (int)(next_random(&seed) % (uint32_t)p.n_ctx);
        int n_same = (int)(next_random(&seed) % (uint32_t)(n + 1));

        n_same = n_same < p.n_held ? n_same : p.n_held;
        for (int i = 0; i < n; i++)
            ids[i] = i < n_same ? p.held[i] : (int32_t)(next_random(&seed) % 512);
        const BackendRequest r =
            sampled(request_ids(ids, n, 1 + (int)(next_random(&seed) % 20)), next_random(&seed));
        if (round % 3 == 0) {
            const int yields = (int)(next_random(&seed) % 200);

            (void)pair_cancel(&p, &r, yields, (int)(next_random(&seed) % 12));
        } else {
            pair_run(&p, &r, &job);
            n_reused += job.n_cached;
        }
    }
    assert_true(n_reused > (quick() ? 250 : 1000));
    pair_free(&p);
}

/* The tiny model in dir with elements [first, first + n) of a tensor set to value. */
static void write_changed_weights(const char *dir, const char *name, int first, int n, float value)
{
    FILE *f = fopen(TINY "/model.safetensors", "rb");
    static char data[4 << 20];
    char path[4096];
    uint64_t n_header;
    Err err = {0};

    assert_non_null(f);
    const size_t n_bytes = fread(data, 1, sizeof data, f);
    (void)fclose(f);
    assert_true(n_bytes > 8 && n_bytes < sizeof data);
    memcpy(&n_header, data, sizeof n_header);
    json_t *header = json_parse(data + 8, n_header, "header", &err);
    assert_non_null(header);
    const json_t *tensor = json_object_get(header, name);
    assert_string_equal(json_string_value(json_object_get(tensor, "dtype")), "F32");
    const json_int_t at =
        json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 0));
    for (int i = first; i < first + n; i++)
        memcpy(data + 8 + n_header + at + (json_int_t)sizeof value * i, &value, sizeof value);
    json_decref(header);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0); /* the link, or an earlier file */
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n_bytes, f), n_bytes);
    assert_int_equal(fclose(f), 0);
}

static void make_changed_dir(char dir[64])
{
    make_dir(dir);
    link_file(dir, "vocab.json");
    link_file(dir, "merges.txt");
}

static void a_numeric_failure_drops_the_cache(void **state)
{
    char dir[64];
    BackendStep step = {.kind = STEP_PROMPT};
    int32_t ids[20];
    Err err = {0};

    (void)state;
    make_changed_dir(dir);
    write_changed_weights(dir, "ln_f.weight", 0, 48, 3e38f); /* no logit is finite */
    Backend *b = load(dir, NULL);
    fill_ids(ids, 20);
    const BackendRequest r = request_ids(ids, 20, 5);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
        assert_int_equal(b->ops->n_cached_tokens(b), 0);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_NUMERIC);
    }
    b->ops->free(b);
    remove_dir(dir);
}

/* An infinite key would have no weight in any sum, and nothing else would show it. */
static void values_beyond_an_f16_cache_end_the_job(void **state)
{
    const struct {
        int element; /* of c_attn.bias, [3 * 48]: queries, keys, values */
        float value;
        const char *message;
    } cases[] = {
        {48 + 5, 1e5f, "a key of 1e+05 is beyond the range of float16; use --kv-type f32"},
        {96 + 47, -7e4f, "a value of -7e+04 is beyond the range of float16; use --kv-type f32"},
    };
    char dir[64], message[256];
    int32_t ids[20];

    (void)state;
    make_changed_dir(dir);
    fill_ids(ids, 20);
    for (int i = 0; i < 2; i++) {
        const BackendRequest r = request_ids(ids, 20, 5);
        Job job;

        write_changed_weights(dir, "h.1.attn.c_attn.bias", cases[i].element, 1, cases[i].value);
        for (int t = 0; kernels_available(t) != NULL; t++) {
            const char *isa = kernels_available(t)->name;
            Backend *f16 =
                load_with(&(CpuBackendOptions){.model_path = dir, .isa = isa, .kv_type = KERN_F16});
            Backend *f32 = load(dir, isa);

            for (int round = 0; round < 2; round++) {
                BackendStep step = {.kind = STEP_PROMPT};
                Err err = {0};

                assert_int_equal(f16->ops->start(f16, &r, &err), ERR_OK);
                assert_int_equal(f16->ops->n_cached_tokens(f16), 0);
                assert_int_equal(f16->ops->step(f16, NULL, &step, &err), ERR_NUMERIC);
                (void)snprintf(message, sizeof message, "KV cache: layer 1, position 0: %.200s",
                               cases[i].message);
                assert_string_equal(err.msg, message);
            }
            run(f32, &r, &job);
            f16->ops->free(f16);
            f32->ops->free(f32);
        }
    }
    remove_dir(dir);
}

/* Overflows that only products of int8 inputs see: the FFN's second matrix, of rows of 192, is the
 * one of this model that Q8_0 and Q4_0 can hold, and its input is nothing but NaN. */
static void rounding_to_int8_does_not_hide_an_overflow(void **state)
{
    static const KernType types[] = {KERN_Q8_0, KERN_Q4_0};
    char dir[64];
    int32_t ids[20];

    (void)state;
    make_changed_dir(dir);
    write_changed_weights(dir, "h.2.ln_2.weight", 0, 48, 3e38f); /* the last layer */
    fill_ids(ids, 20);
    for (int i = 0; i < 2; i++)
        for (int t = 0; kernels_available(t) != NULL; t++) {
            Backend *b = load_with(&(CpuBackendOptions){.model_path = dir,
                                                        .isa = kernels_available(t)->name,
                                                        .has_type = true,
                                                        .type = types[i]});
            const BackendRequest r = request_ids(ids, 20, 5);
            BackendStep step = {.kind = STEP_PROMPT};
            Err err = {0};

            assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
            assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_NUMERIC);
            b->ops->free(b);
        }
    remove_dir(dir);
}

/* --- idle steps --- */

/* Pages of this process that are in memory. */
static long resident_pages(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size, resident;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
    (void)fclose(f);
    return resident;
}

static void idle_steps_back_the_memory(void **state)
{
    static Job want, got;
    Backend *b = load(SHIPPED, NULL);
    const BackendRequest r = request("First Citizen:\n", quick() ? 5 : 30);
    /* Keys and values: 4 layers, 2 * 192 floats a position. */
    const long kv_pages = 4L * 2 * 192 * 4 * 256 / 4096, before = resident_pages();
    int n_steps = 1;

    (void)state;
    while (b->ops->idle(b))
        n_steps++;
    assert_true(n_steps < 100000);
    assert_true(resident_pages() - before >= kv_pages / 2); /* a page of load may have gone */
    assert_false(b->ops->idle(b));
    run(b, &r, &want);
    b->ops->free(b);

    b = load(SHIPPED, NULL);
    run(b, &r, &got); /* before any idle step, and with them in between */
    assert_same_result(&got, &want);
    for (int i = 0; i < n_steps && b->ops->idle(b); i++)
        if (!quick() || i % 64 == 0)
            run(b, &r, &got);
    run(b, &r, &got);
    assert_same_result(&got, &want);
    b->ops->free(b);
}

/* --- loading --- */

static bool stop_loading(void *ctx, double fraction)
{
    double *last = ctx;

    assert_true(fraction >= *last && fraction <= 1.0);
    *last = fraction;
    return fraction < 0.5;
}

static bool watch_loading(void *ctx, double fraction)
{
    (void)stop_loading(ctx, fraction);
    return true;
}

static void loading_can_be_stopped(void **state)
{
    double last = 0.0;
    CpuBackendOptions options = {
        .model_path = TINY, .progress = stop_loading, .progress_ctx = &last};
    Backend *b = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_CANCELLED);
    assert_null(b);
    last = 0.0;
    options.progress = watch_loading;
    assert_int_equal(cpu_backend_load(&b, &options, &err), ERR_OK);
    assert_true(last == 1.0);
    b->ops->free(b);
}

static void load_errors(void **state)
{
    const CpuBackendOptions bad_isa = {.model_path = TINY, .isa = "mmx"},
                            bad_context = {.model_path = TINY, .max_context = 65},
                            no_model = {.model_path = "tests/data/nothing"};
    Backend *b = NULL;
    Err err = {0};

    (void)state;
    assert_int_equal(cpu_backend_load(&b, &bad_isa, &err), ERR_USAGE);
    assert_int_equal(cpu_backend_load(&b, &bad_context, &err), ERR_USAGE);
    assert_int_equal(cpu_backend_load(&b, &no_model, &err), ERR_IO);
    assert_null(b);
}

static void a_path_to_the_weights_works(void **state)
{
    static Job by_dir, by_file;
    Backend *a = load(TINY, NULL), *b = load(TINY "/model.safetensors", NULL);
    const BackendRequest r = request("my lord", 10);

    (void)state;
    run(a, &r, &by_dir);
    run(b, &r, &by_file);
    assert_same_result(&by_dir, &by_file);
    assert_string_equal(b->ops->info(b)->model_name, "model");
    a->ops->free(a);
    b->ops->free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_greedy_texts),
        cmocka_unit_test(prompt_ids_equal_the_text),
        cmocka_unit_test(info_describes_the_model),
        cmocka_unit_test(context_end),
        cmocka_unit_test(refuses_bad_requests),
        cmocka_unit_test(stop_strings_across_tokens),
        cmocka_unit_test(text_equals_the_bytes_of_the_tokens),
        cmocka_unit_test(held_text_is_flushed_with_the_last_token),
        cmocka_unit_test(end_of_text),
        cmocka_unit_test(special_tokens_have_no_text),
        cmocka_unit_test(stop_comes_before_the_limit),
        cmocka_unit_test(padded_vocabulary),
        cmocka_unit_test(tokenizer_larger_than_the_model),
        cmocka_unit_test(a_cancelled_job_leaves_nothing_behind),
        cmocka_unit_test(half_characters_are_dropped),
        cmocka_unit_test(counting_does_not_touch_the_running_job),
        cmocka_unit_test(long_prompts_go_in_chunks),
        cmocka_unit_test(prefixes_are_reused_without_a_trace),
        cmocka_unit_test(sampling_does_not_follow_the_prefix),
        cmocka_unit_test(cancelled_prompts_are_reused),
        cmocka_unit_test(cancelled_texts_are_reused),
        cmocka_unit_test(stopped_texts_are_reused),
        cmocka_unit_test(ended_texts_are_reused),
        cmocka_unit_test(a_refused_job_leaves_the_cache_alone),
        cmocka_unit_test(any_sequence_of_jobs),
        cmocka_unit_test(a_numeric_failure_drops_the_cache),
        cmocka_unit_test(values_beyond_an_f16_cache_end_the_job),
        cmocka_unit_test(rounding_to_int8_does_not_hide_an_overflow),
        cmocka_unit_test(idle_steps_back_the_memory),
        cmocka_unit_test(loading_can_be_stopped),
        cmocka_unit_test(load_errors),
        cmocka_unit_test(a_path_to_the_weights_works),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
