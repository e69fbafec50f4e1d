/* tests/fuzz/fuzz_completion.c: the body of /v1/completions, /tokenize and /detokenize, from bytes
 * to the answer.
 *
 * What is accepted keeps every range of docs/openai.md, and its lists of ids are those that the
 * JSON library reads. What is refused is answered in the shape of its API, of a size that no
 * request can inflate. Tokens of any bytes are put through what was accepted: the answer is valid
 * JSON, its lists are of one length, and a stream of chunks says the same as the answer in one
 * piece. */
#include "fuzz.h"

#include <math.h>
#include <stdbool.h>

#include "common/text.h"
#include "compat/completion.h"
#include "compat/tokenize.h"

enum {
    N_CTX = 64,
    N_VOCAB = 257,
    END_OF_TEXT = 256,
    MAX_ERROR = 2048,
    MAX_NEW = 12,
    MAX_RUNS = 12
};

/* --- a backend whose tokens are bytes --- */

static int32_t ids[4 * BACKEND_MAX_PROMPT_CHARS];

static const BackendInfo *info(const Backend *b)
{
    static const BackendInfo all = {
        .model_name = "m", .n_ctx = N_CTX, .vocab_size = N_VOCAB, .fingerprint = "0"};

    (void)b;
    return &all;
}

static int count_tokens(Backend *b, BackendText prompt)
{
    (void)b;
    fuzz_touch(prompt.text, prompt.n_bytes);
    return prompt.n_bytes > sizeof ids / sizeof *ids ? -1 : (int)prompt.n_bytes;
}

static const int32_t *tokenize(Backend *b, BackendText text, bool allow_special, size_t *n)
{
    (void)b;
    *n = 0;
    if (text.n_bytes > sizeof ids / sizeof *ids)
        return NULL;
    if (allow_special && text.n_bytes == 13 && memcmp(text.text, "<|endoftext|>", 13) == 0)
        ids[(*n)++] = END_OF_TEXT;
    while (*n < text.n_bytes && (*n == 0 || ids[0] != END_OF_TEXT)) {
        ids[*n] = (unsigned char)text.text[*n];
        (*n)++;
    }
    return ids;
}

static const char *token_text(const Backend *b, int id, size_t *n, bool *special)
{
    static char bytes[256];

    (void)b;
    if (id < 0 || id >= N_VOCAB)
        return NULL;
    if (special != NULL)
        *special = id == END_OF_TEXT;
    *n = id == END_OF_TEXT ? 13 : 1;
    if (id == END_OF_TEXT)
        return "<|endoftext|>";
    bytes[id] = (char)id;
    return &bytes[id];
}

static int no_tokens(const Backend *b)
{
    (void)b;
    return 1;
}

static const BackendOps byte_ops = {.info = info,
                                    .count_tokens = count_tokens,
                                    .tokenize = tokenize,
                                    .token_text = token_text,
                                    .n_prompt_tokens = no_tokens,
                                    .n_cached_tokens = no_tokens};
static Backend bytes_backend = {.ops = &byte_ops};

/* --- what was accepted --- */

static void check_float(float x, float min, float max)
{
    FUZZ_CHECK(isfinite(x) && x >= min && x <= max);
}

static void check_sampling(const SamplingParams *p)
{
    check_float(p->temperature, 0, 2);
    check_float(p->top_p, 0, 1);
    check_float(p->min_p, 0, 1);
    check_float(p->repetition_penalty, 0, 2);
    check_float(p->presence_penalty, -2, 2);
    check_float(p->frequency_penalty, -2, 2);
    FUZZ_CHECK(p->top_k >= 0 && p->top_k <= UINT32_MAX);
    FUZZ_CHECK(p->n_bias >= 0 && p->n_bias <= SAMPLING_MAX_BIAS);
    for (int i = 0; i < p->n_bias; i++) {
        FUZZ_CHECK(p->bias[i].id >= 0 && p->bias[i].id < N_VOCAB);
        check_float(p->bias[i].add, -100, 100);
    }
}

static void check_prompt(const CompletionRequest *r, int i)
{
    BackendRequest run = r->run;

    completion_request_prompt(r, i, &run);
    if (run.prompt_ids == NULL) {
        FUZZ_CHECK(run.prompt.n_bytes > 0 && text_utf8_valid(run.prompt.text, run.prompt.n_bytes));
        FUZZ_CHECK(i >= r->n_checked || run.prompt.n_bytes <= N_CTX);
        return;
    }
    FUZZ_CHECK(run.n_prompt_ids > 0 && run.n_prompt_ids <= N_CTX);
    for (size_t k = 0; k < run.n_prompt_ids; k++)
        FUZZ_CHECK(run.prompt_ids[k] >= 0 && run.prompt_ids[k] < N_VOCAB);
}

static void check_request(const CompletionRequest *r)
{
    FUZZ_CHECK(r->n >= 1 && r->n <= r->best_of && r->best_of <= COMPLETION_MAX_CHOICES);
    FUZZ_CHECK(r->n_prompts >= 1 && r->n_prompts * r->best_of <= COMPLETION_MAX_RUNS);
    FUZZ_CHECK(!r->stream || r->best_of == 1);
    FUZZ_CHECK(r->stream || !r->include_usage);
    FUZZ_CHECK(r->logprobs >= -1 && r->logprobs <= BACKEND_MAX_LOGPROBS);
    FUZZ_CHECK(r->run.max_tokens >= (r->echo ? 0 : 1));
    FUZZ_CHECK(r->run.max_tokens <= BACKEND_MAX_NEW_TOKENS && r->run.score_prompt == r->echo);
    FUZZ_CHECK(r->run.n_stops >= 0 && r->run.n_stops <= BACKEND_MAX_STOPS);
    for (int i = 0; i < r->run.n_stops; i++) {
        const size_t n = text_utf8_count(r->run.stops[i].text, r->run.stops[i].n_bytes);

        FUZZ_CHECK(n >= 1 && n <= BACKEND_MAX_STOP_CHARS);
    }
    check_sampling(&r->run.sampling);
    for (int i = 0; i < r->n_prompts; i++)
        check_prompt(r, i);
}

/* The library alone finds the same ids at the same place. */
static void check_against_library(const CompletionRequest *r, const char *body, size_t n)
{
    Err err;
    json_t *root = json_parse(body, n, "body", &err);
    const json_t *prompt = json_object_get(root, "prompt");
    BackendRequest run = r->run;

    /* It refuses integers that only the seed may have. */
    if (root == NULL) {
        FUZZ_CHECK(r->body.seed.present);
        return;
    }
    for (int i = 0; i < r->n_prompts; i++) {
        const json_t *own = json_is_array(json_array_get(prompt, (size_t)i))
                                ? json_array_get(prompt, (size_t)i)
                                : prompt;

        completion_request_prompt(r, i, &run);
        if (run.prompt_ids == NULL || run.prompt_ids == &r->end_of_text)
            continue;
        FUZZ_CHECK(json_array_size(own) == run.n_prompt_ids);
        for (size_t k = 0; k < run.n_prompt_ids; k++)
            FUZZ_CHECK(json_integer_value(json_array_get(own, k)) == run.prompt_ids[k]);
    }
    json_decref(root);
}

/* --- the answer --- */

static BackendScores scores_of(const Completion *c, unsigned variant)
{
    return (BackendScores){.logprob = -1.0 / (1 + variant % 7),
                           .n_best = c->request.run.n_best,
                           .best = {{(int32_t)(variant % N_VOCAB), -0.01},
                                    {(int32_t)((variant + 1) % N_VOCAB), -4.5},
                                    {(int32_t)((variant + 2) % N_VOCAB), -5},
                                    {(int32_t)((variant + 3) % N_VOCAB), -6},
                                    {(int32_t)((variant + 4) % N_VOCAB), -7}}};
}

static void give(Completion *c, StepKind kind, int id, unsigned variant)
{
    static const char *const texts[] = {"", "x", "\xc3\xa9", "\n\""};
    const BackendScores scores = scores_of(c, variant);
    const char *text = texts[variant % 4];
    const BackendStep step = {.kind = kind,
                              .id = id,
                              .text = text,
                              .n_text = strlen(text),
                              .scores = c->request.run.want_scores && id >= 0 ? &scores : NULL};

    completion_add(c, &bytes_backend, &step);
}

static void end_run(Completion *c, unsigned variant)
{
    const BackendScores scores = scores_of(c, variant);
    const StopReason reason = (StopReason)(STOP_MAX_TOKENS + variant % 3);
    const BackendStep step = {.kind = STEP_END,
                              .id = reason == STOP_EOS ? END_OF_TEXT : -1,
                              .scores =
                                  c->request.run.want_scores && reason == STOP_EOS ? &scores : NULL,
                              .reason = reason};

    completion_end_run(c, &bytes_backend, &step);
}

/* Any tokens, the same for the same request. chunks: what a stream would send, one behind the
 * other; NULL: none. */
static void answer(Completion *c, const char *body, size_t n, JsonBuf *chunks)
{
    int n_runs = 0;

    do {
        BackendRequest run;
        unsigned at = (unsigned)(c->prompt * 31 + c->choice);

        completion_run(c, &run);
        for (size_t i = 0; run.score_prompt && i < run.n_prompt_ids; i++)
            give(c, STEP_PROMPT_TOKEN, run.prompt_ids[i], (unsigned)i);
        for (int i = 0; i < run.max_tokens && i < MAX_NEW; i++) {
            const unsigned char byte = (unsigned char)body[at++ % n];
            const BackendStep step = {.kind = STEP_TOKEN};

            give(c, STEP_TOKEN, byte % 19 == 0 ? END_OF_TEXT : byte % 23 == 0 ? -1 : byte, byte);
            if (chunks != NULL && completion_has_chunk(c, &step)) {
                completion_chunk(c, &bytes_backend, chunks);
                json_buf_add(chunks, ",", 1);
            }
        }
        end_run(c, at);
        if (chunks != NULL) {
            completion_chunk(c, &bytes_backend, chunks);
            json_buf_add(chunks, ",", 1);
        }
    } while (completion_next(c) && ++n_runs < MAX_RUNS);
    FUZZ_CHECK(!completion_oom(c) && !completion_too_large(c));
}

static const char *const lists[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};

static void check_choice(const json_t *choice, const CompletionRequest *r)
{
    const json_t *logprobs = json_object_get(choice, "logprobs");
    json_int_t before = 0;

    FUZZ_CHECK(json_is_string(json_object_get(choice, "text")));
    FUZZ_CHECK(json_is_object(logprobs) == (r->logprobs >= 0));
    for (size_t i = 1; i < 4; i++)
        FUZZ_CHECK(json_array_size(json_object_get(logprobs, lists[i])) ==
                   json_array_size(json_object_get(logprobs, lists[0])));
    for (size_t i = 0; i < json_array_size(json_object_get(logprobs, lists[3])); i++) {
        const json_int_t at =
            json_integer_value(json_array_get(json_object_get(logprobs, lists[3]), i));

        FUZZ_CHECK(at >= before);
        before = at;
    }
}

static json_t *parsed(const JsonBuf *text)
{
    Err err;
    json_t *root = json_parse(text->data, text->len, "answer", &err);

    FUZZ_CHECK(root != NULL);
    return root;
}

/* What the chunks of one choice amount to. */
static json_t *joined(const json_t *chunks, size_t index)
{
    json_t *whole = json_pack("{s:s,s:n}", "text", "", "logprobs"), *chunk, *element;
    size_t i, k;

    json_array_foreach(chunks, i, chunk)
    {
        const json_t *part = json_array_get(json_object_get(chunk, "choices"), 0);
        const json_t *logprobs = json_object_get(part, "logprobs");

        /* The chunk of the usage has none. */
        if (part == NULL || json_integer_value(json_object_get(part, "index")) != (json_int_t)index)
            continue;
        json_object_set_new(whole, "text",
                            json_sprintf("%s%s", json_string_value(json_object_get(whole, "text")),
                                         json_string_value(json_object_get(part, "text"))));
        json_object_set(whole, "finish_reason", json_object_get(part, "finish_reason"));
        if (json_is_null(logprobs))
            continue;
        if (json_is_null(json_object_get(whole, "logprobs")))
            json_object_set_new(
                whole, "logprobs",
                json_pack("{s:[],s:[],s:[],s:[]}", lists[0], lists[1], lists[2], lists[3]));
        for (int l = 0; l < 4; l++)
            json_array_foreach(json_object_get(logprobs, lists[l]), k, element) json_array_append(
                json_object_get(json_object_get(whole, "logprobs"), lists[l]), element);
    }
    json_object_set_new(whole, "index", json_integer((json_int_t)index));
    return whole;
}

/* The request, once as it is and once as the stream that it might have been. r is taken. */
static void run(CompletionRequest *r, const char *body, size_t n)
{
    const bool streams = r->best_of == 1;
    JsonBuf chunks = {.data = NULL};
    Completion c;
    json_t *whole, *parts, *choice;
    size_t i;

    r->stream = false;
    completion_begin(&c, r, "fuzz");
    answer(&c, body, n, NULL);
    completion_finish(&c);
    whole = parsed(&c.answer);
    json_array_foreach(json_object_get(whole, "choices"), i, choice) check_choice(choice, r);
    if (streams) {
        CompletionRequest again = c.request;

        c.request = (CompletionRequest){.n_prompts = 0};
        completion_free(&c);
        again.stream = true;
        completion_begin(&c, &again, "fuzz");
        json_buf_add(&chunks, "[", 1);
        answer(&c, body, n, &chunks);
        completion_usage_chunk(&c, &bytes_backend, &chunks);
        json_buf_add(&chunks, "]", 1);
        parts = parsed(&chunks);
        json_array_foreach(json_object_get(whole, "choices"), i, choice)
        {
            json_t *own = joined(parts, i);

            FUZZ_CHECK(json_equal(own, choice));
            json_decref(own);
        }
        json_decref(parts);
    }
    json_decref(whole);
    json_buf_free(&chunks);
    completion_free(&c);
}

/* --- what was refused --- */

static void check_error(int status, const JsonBuf *answer_text, size_t n_members)
{
    json_t *root = parsed(answer_text);
    const json_t *error = json_object_get(root, "error");

    FUZZ_CHECK(answer_text->len <= MAX_ERROR && json_object_size(root) == 1);
    FUZZ_CHECK(json_object_size(error) == n_members);
    FUZZ_CHECK(json_string_length(json_object_get(error, "message")) > 0);
    FUZZ_CHECK(strcmp(json_string_value(json_object_get(error, "type")), "invalid_request_error") ==
               0);
    FUZZ_CHECK(status == 400 || (status == 404 && n_members == 4));
    json_decref(root);
}

static void complete(const char *body, size_t n)
{
    JsonBuf text = {.data = NULL};
    CompletionRequest r;
    int status = completion_request_parse(&r, body, n, &bytes_backend, &text);

    if (status == 200) {
        bool too_long;

        check_request(&r);
        check_against_library(&r, body, n);
        while (completion_request_check(&r, &bytes_backend, &too_long))
            continue;
        if (too_long)
            completion_request_free(&r);
        else
            run(&r, body, n);
    } else {
        check_error(status, &text, 4);
    }
    /* Without a model less is known, so never more is refused. */
    if (completion_request_parse(&r, body, n, NULL, &text) == 200)
        completion_request_free(&r);
    else
        FUZZ_CHECK(status != 200);
    json_buf_free(&text);
}

static void ask_for_tokens(int (*ask)(const char *, size_t, Backend *, JsonBuf *), const char *body,
                           size_t n)
{
    JsonBuf text = {.data = NULL};
    const int status = ask(body, n, &bytes_backend, &text);

    if (status == 200)
        json_decref(parsed(&text));
    else
        check_error(status, &text, 3);
    json_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data;

    complete(body, size);
    ask_for_tokens(tokenize_answer, body, size);
    ask_for_tokens(detokenize_answer, body, size);
    return 0;
}
