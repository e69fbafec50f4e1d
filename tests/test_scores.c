/* tests/test_scores.c: log-probabilities of generated tokens and of prompts, and the echo: what the
 * CPU backend gives out is what `eval` says, to the bit, and changes nothing else. */
#include "generation_rig.h"

#include <math.h>

#include "eval/perplexity.h"
#include "model/gpt2.h"
#include "model_copy_rig.h"
#include "quick.h"
#include "sampling/likelihood.h"

enum { MAX_SCORED = 300, MAX_ROW = 1024 };

/* What a job gives beyond a Job. */
typedef struct {
    Job job; /* without what the prompt's tokens give */
    char echo[MAX_TEXT];
    size_t n_echo;
    int prompt_ids[MAX_SCORED], n_prompt;
    BackendScores prompt_scores[MAX_SCORED], scores[MAX_SCORED]; /* [0] of the prompt: none */
    BackendScores end_scores;                                    /* of an end of text */
    int n_yields;                                                /* in steps of the echo */
} Scored;

static bool count_yield(void *ctx)
{
    ++*(int *)ctx;
    return true;
}

static void take_echo(Scored *s, const BackendRequest *r, const BackendStep *step)
{
    assert_true(r->score_prompt && s->job.n_events == 0 && s->n_prompt < MAX_SCORED);
    assert_true(text_utf8_valid(step->text, step->n_text));
    assert_true((step->scores != NULL) == (r->want_scores && s->n_prompt > 0));
    if (step->scores != NULL)
        s->prompt_scores[s->n_prompt] = *step->scores;
    memcpy(s->echo + s->n_echo, step->text, step->n_text);
    s->n_echo += step->n_text;
    s->prompt_ids[s->n_prompt++] = step->id;
}

static void take_token(Scored *s, const BackendRequest *r, const BackendStep *step)
{
    Job *job = &s->job;

    assert_true(!r->score_prompt || s->n_prompt > 0);
    assert_true((step->scores != NULL) == (r->want_scores && step->id >= 0));
    if (step->scores != NULL)
        s->scores[job->n_events] = *step->scores;
    memcpy(job->text + job->n_text, step->text, step->n_text);
    job->n_text += step->n_text;
    job->ends[job->n_events] = job->n_text;
    job->ids[job->n_events++] = step->id;
}

static void run_scored(Backend *b, const BackendRequest *r, Scored *s)
{
    BackendStep step = {.kind = STEP_PROMPT};
    const Tap tap = {.ctx = &s->n_yields, .yield = count_yield};
    Err err = {0};

    memset(s, 0, sizeof *s);
    if (b->ops->start(b, r, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    s->job.n_cached = b->ops->n_cached_tokens(b);
    while (step.kind != STEP_END) {
        const int before = s->n_yields;

        if (b->ops->step(b, &tap, &step, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        if (step.kind != STEP_PROMPT_TOKEN)
            s->n_yields = before;
        if (step.kind == STEP_PROMPT)
            s->job.n_prompt_steps++;
        else if (step.kind == STEP_PROMPT_TOKEN)
            take_echo(s, r, &step);
        else if (step.kind == STEP_TOKEN)
            take_token(s, r, &step);
        else
            assert_true((step.scores != NULL) == (r->want_scores && step.reason == STOP_EOS));
    }
    if (step.scores != NULL)
        s->end_scores = *step.scores;
    s->job.reason = step.reason;
    s->job.end_id = step.id;
    s->job.n_matched = step.n_matched;
    if (step.reason == STOP_SEQUENCE)
        memcpy(s->job.matched, step.matched, step.n_matched);
}

/* Where any model will do: the small one, and a prompt that fits into its context, where programs
 * are slow. */
static Backend *load_some(void)
{
    return load(quick() ? TINY : SHIPPED, NULL);
}

static int prompt_tokens(int n)
{
    return quick() ? n / 4 : n;
}

static BackendRequest scored(BackendRequest r, int n_best, bool echo)
{
    r.want_scores = true;
    r.n_best = n_best;
    r.score_prompt = echo;
    return r;
}

/* --- against the model, position by position --- */

/* Rows of the prompts' positions, which all begin alike, are computed once. */
typedef struct {
    Gpt2 model;
    Gpt2Run run;
    float rows[MAX_SCORED][MAX_ROW];
    int n_rows;
} Direct;

static const Kernels *fastest(void)
{
    const Kernels *k = kernels_available(0);

    for (int i = 1; kernels_available(i) != NULL; i++)
        k = kernels_available(i);
    return k;
}

static void direct_open(Direct *d, const char *path, const CpuBackendOptions *o)
{
    const Gpt2LoadOptions options = {.convert = o->has_type, .type = o->type};
    Err err = {0};

    d->n_rows = 0;
    if (gpt2_load(&d->model, path, &options, &err) != ERR_OK ||
        gpt2_run_init(&d->run, &d->model, fastest(), d->model.config.n_ctx, 1, o->kv_type, &err) !=
            ERR_OK)
        fail_msg("%s", err.msg);
}

static void direct_close(Direct *d)
{
    gpt2_run_free(&d->run);
    gpt2_free(&d->model);
}

/* The scores must be those of row logits[0..n_vocab). */
static void check_scores(const BackendScores *s, const float *logits, int n_vocab, int n_best,
                         int id)
{
    const double log_sum = likelihood_log_sum(logits, n_vocab);

    assert_true(s->logprob == (double)logits[id] - log_sum);
    assert_int_equal(s->n_best, n_best);
    for (int i = 0; i < n_best; i++) {
        int n_before = 0;

        for (int j = 0; j < n_vocab; j++)
            n_before += logits[j] > logits[s->best[i].id] ||
                        (logits[j] == logits[s->best[i].id] && j < s->best[i].id);
        assert_int_equal(n_before, i);
        assert_true(s->best[i].logprob == (double)logits[s->best[i].id] - log_sum);
    }
}

/* Logits behind token id at the end of what was computed. */
static const float *direct_row(Direct *d, int id)
{
    const int32_t next = (int32_t)id;
    Err err = {0};

    assert_int_equal(gpt2_forward(&d->run, &next, 1, true, NULL, &err), ERR_OK);
    return d->run.logits;
}

static void check_job(Direct *d, int n_vocab, const Scored *s, int n_best)
{
    kv_cache_truncate(&d->run.cache, d->n_rows);
    for (; d->n_rows < s->n_prompt; d->n_rows++)
        memcpy(d->rows[d->n_rows], direct_row(d, s->prompt_ids[d->n_rows]),
               (size_t)n_vocab * sizeof(float));
    for (int i = 1; i < s->n_prompt; i++)
        check_scores(&s->prompt_scores[i], d->rows[i - 1], n_vocab, n_best, s->prompt_ids[i]);
    kv_cache_truncate(&d->run.cache, s->n_prompt);
    for (int i = 0; i < s->job.n_events && s->job.ids[i] >= 0; i++)
        check_scores(&s->scores[i],
                     i == 0 ? d->rows[s->n_prompt - 1] : direct_row(d, s->job.ids[i - 1]), n_vocab,
                     n_best, s->job.ids[i]);
}

/* lengths: increasing. Prompts around one chunk, two, and single tokens; drawn with everything that
 * changes logits, none of which may show in the scores. */
static void check_options(const char *path, const CpuBackendOptions *o, const int *lengths, int n)
{
    static Scored s;
    const SamplingBias bias = {5, 30.0f};
    Backend *b = load_with(o);
    const int n_vocab = b->ops->info(b)->vocab_size;
    int32_t ids[MAX_SCORED];
    static Direct d;

    assert_true(n_vocab <= MAX_ROW);
    fill_ids(ids, MAX_SCORED);
    direct_open(&d, path, o);
    for (int i = 0; i < n; i++) {
        BackendRequest r = scored(request_ids(ids, lengths[i], 8), i % 6, true);

        r.sampling = sampling_defaults();
        r.sampling.top_k = 20;
        r.sampling.bias = &bias;
        r.sampling.n_bias = 1;
        r.sampling.presence_penalty = 1.5f;
        r.sampling.temperature = 1.3f;
        run_scored(b, &r, &s);
        assert_int_equal(s.n_prompt, lengths[i]);
        assert_int_equal(s.job.n_cached, 0);
        check_job(&d, n_vocab, &s, r.n_best);
    }
    direct_close(&d);
    b->ops->free(b);
}

static void scores_are_those_of_each_position(void **state)
{
    static const int lengths[] = {1, 2, 13, 14, 96, 97, 109, 191, 192, 193, 200};
    static const int few[] = {1, 2, 13, 14, 50};

    (void)state;
    for (int i = 0; kernels_available(i) != NULL; i++) {
        const Kernels *k = kernels_available(i);
        const CpuBackendOptions o = {.model_path = quick() ? TINY : SHIPPED, .isa = k->name};

        if (quick())
            check_options(TINY, &o, few, 5);
        else
            check_options(SHIPPED, &o, lengths, k != fastest() ? 6 : 11);
    }
}

static void in_every_type_of_weights_and_cache(void **state)
{
    static const int lengths[] = {5, 30};

    (void)state;
    for (int type = 0; type < KERN_TYPE_COUNT; type++)
        for (int f16 = 0; f16 < 2; f16++) {
            const CpuBackendOptions o = {.model_path = TINY,
                                         .has_type = true,
                                         .type = (KernType)type,
                                         .kv_type = f16 ? KERN_F16 : KERN_F32};

            check_options(TINY, &o, lengths, 2);
        }
}

/* --- against eval --- */

static void an_echo_sums_to_what_eval_says(void **state)
{
    static Scored s;
    const char *text = "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the "
                       "east, and Juliet is the sun.\n";
    const BackendRequest r = scored(request(text, 0), 0, true);
    Backend *b = load(SHIPPED, NULL);
    int32_t ids[MAX_SCORED];
    WindowMean nll = {0};
    Err err = {0};
    double sum = 0.0;
    static Direct d;

    (void)state;
    run_scored(b, &r, &s);
    assert_int_equal(s.job.n_events, 0);
    assert_int_equal(s.job.reason, STOP_MAX_TOKENS);
    for (int i = 0; i < s.n_prompt; i++) {
        ids[i] = s.prompt_ids[i];
        sum -= s.prompt_scores[i].logprob;
    }
    direct_open(&d, SHIPPED, &(CpuBackendOptions){0});
    const WindowsPlan plan = {.models = {&d.model},
                              .n_models = 1,
                              .k = fastest(),
                              .ids = ids,
                              .n_ids = (size_t)s.n_prompt,
                              .context = d.model.config.n_ctx,
                              .stride = d.model.config.n_ctx,
                              .n_vocab = b->ops->info(b)->vocab_size};
    if (perplexity_run(&nll, &plan, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(nll.sum == sum && nll.n == (size_t)s.n_prompt - 1);
    direct_close(&d);
    b->ops->free(b);
}

/* --- nothing else changes --- */

static void scores_and_echo_change_no_token(void **state)
{
    static Scored plain, other;
    Backend *b = load_some();
    int32_t ids[120];

    (void)state;
    fill_ids(ids, 120);
    for (int i = 0; i < 12; i++) {
        BackendRequest r =
            i % 2 == 0 ? request("JULIET:\nO Romeo", 30) : request_ids(ids, prompt_tokens(120), 20);

        r.sampling.temperature = i < 4 ? 0.0f : 1.0f;
        r.sampling.seed = (uint64_t)i;
        r.stops[0] = (BackendText){"the", 3};
        r.n_stops = i % 3 == 0;
        run_scored(b, &r, &plain);
        for (int variant = 1; variant < 4; variant++) {
            BackendRequest v = scored(r, variant, (variant & 2) != 0);

            v.want_scores = (variant & 1) != 0;
            run_scored(b, &v, &other);
            assert_same_result(&other.job, &plain.job);
            assert_int_equal(other.n_prompt, variant & 2 ? b->ops->n_prompt_tokens(b) : 0);
        }
    }
    b->ops->free(b);
}

/* The passes of a scored echo leave what the next job can take over. */
static void the_cache_is_good_afterwards(void **state)
{
    static Scored first, second, fresh;
    Backend *b = load_some(), *c = load_some();
    const int n = prompt_tokens(100);
    int32_t ids[150];

    (void)state;
    fill_ids(ids, 150);
    for (int max_tokens = 0; max_tokens < 5; max_tokens += 4) {
        const BackendRequest echo = scored(request_ids(ids, n, max_tokens), 2, true);
        const BackendRequest next = scored(request_ids(ids, n * 3 / 2, 10), 3, false);

        run_scored(b, &echo, &first);
        assert_int_equal(first.job.n_cached, 0);
        run_scored(b, &next, &second);
        assert_true(second.job.n_cached >= n);
        run_scored(c, &next, &fresh);
        assert_same_result(&second.job, &fresh.job);
        assert_memory_equal(second.scores, fresh.scores, sizeof fresh.scores);
        run_scored(b, &echo, &second); /* which takes nothing over */
        assert_int_equal(second.job.n_cached, 0);
        assert_memory_equal(second.prompt_scores, first.prompt_scores, sizeof first.prompt_scores);
    }
    b->ops->free(b);
    c->ops->free(c);
}

typedef struct {
    int left;
} Patience;

static bool run_out(void *ctx)
{
    return ((Patience *)ctx)->left-- > 0;
}

static void an_echo_can_be_stopped_anywhere(void **state)
{
    static Scored want, got;
    Backend *b = load_some();
    int32_t ids[100];
    bool through = false;

    (void)state;
    fill_ids(ids, 100);
    const BackendRequest r = scored(request_ids(ids, prompt_tokens(100), 2), 5, true);
    run_scored(b, &r, &want);
    for (int n = 0; !through; n = n * 5 / 4 + 1) {
        Patience patience = {n};
        const Tap tap = {.ctx = &patience, .yield = run_out};
        BackendStep step = {.kind = STEP_PROMPT};
        ErrCode code = ERR_OK;
        Err err = {0};

        assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
        while (code == ERR_OK && step.kind != STEP_END)
            code = b->ops->step(b, &tap, &step, &err);
        through = code == ERR_OK;
        if (!through)
            assert_int_equal(code, ERR_CANCELLED);
        run_scored(b, &r, &got);
        assert_same_result(&got.job, &want.job);
        assert_memory_equal(got.prompt_scores, want.prompt_scores, sizeof want.prompt_scores);
    }
    b->ops->free(b);
}

/* With held text, too, which goes out in a step of its own before. */
static void an_end_of_text_has_the_scores_of_its_position(void **state)
{
    static Scored whole, ended;
    char dir[64];
    Backend *b = load(TINY, NULL);
    BackendRequest r =
        scored(request("Hello. It's 7 o'clock, my lord;\n  what news?", 20), 3, true);

    (void)state;
    run_scored(b, &r, &whole);
    assert_int_equal(whole.job.ids[3], 399);
    b->ops->free(b);
    make_dir(dir);
    write_file(dir, "generation_config.json", "{\"eos_token_id\": 399}");
    b = load(dir, NULL);
    for (int n_stops = 0; n_stops < 2; n_stops++) {
        r.stops[0] = (BackendText){" o\x01", 3};
        r.n_stops = n_stops;
        run_scored(b, &r, &ended);
        assert_int_equal(ended.job.n_events, 3 + n_stops);
        assert_int_equal(ended.job.end_id, 399);
        assert_memory_equal(&ended.end_scores, &whole.scores[3], sizeof whole.scores[3]);
    }
    b->ops->free(b);
    remove_dir(dir);
}

/* One product of many rows would keep a probe waiting. */
static void scoring_yields_within_its_products(void **state)
{
    static Scored s;
    Backend *b = load(SHIPPED, NULL);
    int32_t ids[100];

    (void)state;
    fill_ids(ids, 100);
    const BackendRequest r = scored(request_ids(ids, 100, 0), 0, true);
    run_scored(b, &r, &s);
    assert_true(s.n_yields >= 99 / 12);
    b->ops->free(b);
}

/* --- the echo's text --- */

static void an_echo_is_the_prompt(void **state)
{
    static const char *const prompts[] = {"Speak, my lord.", " a  b\n\nc ",
                                          "h\xc3\xa9las \xe2\x82\xac!", "\xf0\x9f\x98\x80",
                                          "<|endoftext|> spelled out"};
    static Scored s;
    Backend *b = load(SHIPPED, NULL);

    (void)state;
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++)
        for (int max_tokens = 0; max_tokens < 3; max_tokens += 2) {
            BackendRequest r = request(prompts[i], max_tokens);

            r.score_prompt = true;
            run_scored(b, &r, &s);
            assert_int_equal(s.n_echo, strlen(prompts[i]));
            assert_memory_equal(s.echo, prompts[i], s.n_echo);
            assert_int_equal(s.job.n_events, max_tokens);
            assert_int_equal(s.job.n_prompt_steps, max_tokens > 0); /* else: nothing is computed */
        }
    b->ops->free(b);
}

static void an_echo_of_ids_spells_out_all_of_them(void **state)
{
    static Scored s;
    Backend *b = load(SHIPPED, NULL);
    BackendRequest r = request("\xc3\xa9", 1);
    int32_t ids[3];
    size_t n;

    (void)state;
    /* Half a character, the end of text, the other half: each half becomes U+FFFD. */
    const int32_t *found = b->ops->tokenize(b, (BackendText){"<|endoftext|>", 13}, true, &n);
    assert_int_equal(n, 1);
    ids[1] = found[0];
    found = b->ops->tokenize(b, (BackendText){"\xc3", 1}, false, &n);
    assert_int_equal(n, 1);
    ids[0] = found[0];
    found = b->ops->tokenize(b, (BackendText){"\xa9", 1}, false, &n);
    assert_int_equal(n, 1);
    ids[2] = found[0];
    r = request_ids(ids, 3, 1);
    r.score_prompt = true;
    run_scored(b, &r, &s);
    assert_int_equal(s.n_echo, 3 + 13 + 3);
    assert_memory_equal(s.echo, "\xef\xbf\xbd<|endoftext|>\xef\xbf\xbd", s.n_echo);
    b->ops->free(b);
}

/* --- refusals --- */

static void refused(Backend *b, const BackendRequest *r, ErrCode code, const char *says)
{
    BackendStep step;
    Err err = {0};

    assert_int_equal(b->ops->start(b, r, &err), code);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_INTERNAL); /* no job */
}

static void refuses_what_it_cannot_do(void **state)
{
    Backend *b = load(TINY, NULL);
    const int vocab_size = b->ops->info(b)->vocab_size;
    static SamplingBias bias[SAMPLING_MAX_BIAS + 1];
    BackendRequest r = request("hello", 0);

    (void)state;
    refused(b, &r, ERR_USAGE, "max_tokens must be at least 1 (got 0)");
    r.want_scores = true;
    refused(b, &r, ERR_USAGE, "max_tokens must be at least 1");
    r.score_prompt = true;
    r.max_tokens = -1;
    refused(b, &r, ERR_USAGE, "max_tokens must be at least 0 (got -1)");
    r.max_tokens = 1;
    r.n_best = BACKEND_MAX_LOGPROBS + 1;
    refused(b, &r, ERR_USAGE, "logprobs must be 0 to 5 (got 6)");
    r.n_best = -1;
    refused(b, &r, ERR_USAGE, "(got -1)");
    r.n_best = 0;
    r.sampling.bias = bias;
    r.sampling.n_bias = SAMPLING_MAX_BIAS + 1;
    refused(b, &r, ERR_USAGE, "at most 1024");
    r.sampling.n_bias = 2;
    bias[1].id = vocab_size;
    refused(b, &r, ERR_USAGE, "outside the vocabulary");
    bias[1].id = -1;
    refused(b, &r, ERR_USAGE, "id -1 is outside");
    b->ops->free(b);
}

/* --- tokens --- */

static void tokens_have_bytes(void **state)
{
    const char *text = "Speak <|endoftext|> h\xc3\xa9";
    Backend *b = load(SHIPPED, NULL);
    const int vocab_size = b->ops->info(b)->vocab_size;
    int n_special = 0;

    (void)state;
    for (int allow = 0; allow < 2; allow++) {
        char joined[64];
        size_t n, at = 0, n_bytes;
        bool special, any = false;
        const int32_t *ids = b->ops->tokenize(b, (BackendText){text, strlen(text)}, allow == 1, &n);

        assert_non_null(ids);
        for (size_t i = 0; i < n; i++) {
            const char *bytes = b->ops->token_text(b, (int)ids[i], &n_bytes, &special);

            memcpy(joined + at, bytes, n_bytes);
            at += n_bytes;
            any = any || special;
        }
        assert_int_equal(at, strlen(text));
        assert_memory_equal(joined, text, at);
        assert_true(any == (allow == 1));
    }
    for (int id = 0; id < vocab_size; id++) {
        bool special;
        size_t n;

        assert_non_null(b->ops->token_text(b, id, &n, &special));
        n_special += special;
        if (special)
            assert_memory_equal(b->ops->token_text(b, id, &n, NULL), "<|endoftext|>", n);
    }
    assert_int_equal(n_special, 1);
    b->ops->free(b);
}

static void refuses_ids_and_texts_beyond_its_limits(void **state)
{
    Backend *b = load(TINY, NULL);
    const size_t most = 4 * (size_t)BACKEND_MAX_PROMPT_CHARS;
    char *text = malloc(most + 1);
    size_t n = 7;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', most + 1);
    assert_null(b->ops->token_text(b, -1, &n, NULL));
    assert_null(b->ops->token_text(b, b->ops->info(b)->vocab_size, &n, NULL));
    assert_null(b->ops->tokenize(b, (BackendText){text, most + 1}, false, &n));
    assert_non_null(b->ops->tokenize(b, (BackendText){text, 3000}, false, &n));
    assert_non_null(b->ops->tokenize(b, (BackendText){text, 0}, false, &n));
    assert_int_equal(n, 0);
    free(text);
    b->ops->free(b);
}

static void tokenizing_does_not_disturb_a_job(void **state)
{
    static Scored want, got;
    Backend *b = load(SHIPPED, NULL);
    const BackendRequest r = scored(request("What news, my lord?", 10), 2, true);
    BackendStep step = {.kind = STEP_PROMPT};
    Err err = {0};
    size_t n;

    (void)state;
    run_scored(b, &r, &want);
    assert_int_equal(b->ops->start(b, &r, &err), ERR_OK);
    memset(&got, 0, sizeof got);
    while (step.kind != STEP_END) {
        (void)b->ops->tokenize(b, (BackendText){"quite another text", 18}, true, &n);
        assert_int_equal(b->ops->step(b, NULL, &step, &err), ERR_OK);
        if (step.kind == STEP_PROMPT_TOKEN || step.kind == STEP_TOKEN) {
            char text[64];
            const size_t n_text = step.n_text;

            assert_true(n_text <= sizeof text);
            memcpy(text, step.text, n_text);
            (void)b->ops->tokenize(b, (BackendText){"and one more", 12}, true, &n);
            assert_memory_equal(step.text, text, n_text);
            if (step.kind == STEP_PROMPT_TOKEN)
                take_echo(&got, &r, &step);
            else
                take_token(&got, &r, &step);
        }
    }
    assert_memory_equal(got.job.ids, want.job.ids, sizeof want.job.ids);
    assert_memory_equal(got.scores, want.scores, sizeof want.scores);
    assert_memory_equal(got.prompt_scores, want.prompt_scores, sizeof want.prompt_scores);
    b->ops->free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_each_position),
        cmocka_unit_test(in_every_type_of_weights_and_cache),
        cmocka_unit_test(an_echo_sums_to_what_eval_says),
        cmocka_unit_test(scores_and_echo_change_no_token),
        cmocka_unit_test(the_cache_is_good_afterwards),
        cmocka_unit_test(an_echo_can_be_stopped_anywhere),
        cmocka_unit_test(an_end_of_text_has_the_scores_of_its_position),
        cmocka_unit_test(scoring_yields_within_its_products),
        cmocka_unit_test(an_echo_is_the_prompt),
        cmocka_unit_test(an_echo_of_ids_spells_out_all_of_them),
        cmocka_unit_test(refuses_what_it_cannot_do),
        cmocka_unit_test(tokens_have_bytes),
        cmocka_unit_test(refuses_ids_and_texts_beyond_its_limits),
        cmocka_unit_test(tokenizing_does_not_disturb_a_job),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
