/* tests/test_completion.c: OpenAI's completions without a worker: every member that is honoured or
 * refused, what a choice says of its tokens, which choices are the best, and the answers to the
 * byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/completion.h"
#include "compat/models.h"
#include "compat/tokenize.h"
#include "random.h"
#include "stub_backend.h"

enum { N_CTX = 8, MAX_BODY = 64 * 1024 };

static Backend *backend;

/* --- requests --- */

static int parse(CompletionRequest *r, const char *body, JsonBuf *answer)
{
    return completion_request_parse(r, body, strlen(body), backend, answer);
}

static CompletionRequest accepted(const char *body)
{
    JsonBuf answer = {.data = NULL};
    CompletionRequest r;

    if (parse(&r, body, &answer) != 200)
        fail_msg("%s: %s", body, answer.data);
    json_buf_free(&answer);
    return r;
}

/* The answer must be OpenAI's error with these three. param, code: NULL for null. */
static void assert_refused(const char *body, int status, const char *param, const char *code)
{
    JsonBuf answer = {.data = NULL};
    CompletionRequest r;
    Err err;
    const int got = parse(&r, body, &answer);
    json_t *root = json_parse(answer.data, answer.len, "answer", &err);
    const json_t *error = json_object_get(root, "error");
    const char *got_param = json_string_value(json_object_get(error, "param"));
    const char *got_code = json_string_value(json_object_get(error, "code"));

    assert_int_equal(json_object_size(root), 1);
    assert_int_equal(json_object_size(error), 4);
    assert_non_null(json_string_value(json_object_get(error, "message")));
    if (got != status || strcmp(got_param ? got_param : "-", param ? param : "-") != 0 ||
        strcmp(got_code ? got_code : "-", code ? code : "-") != 0)
        fail_msg("%.200s: %d %s", body, got, answer.data);
    json_decref(root);
    json_buf_free(&answer);
}

static const struct {
    const char *body, *param, *code;
} refused[] = {
    {"{\"prompt\":\"x\",\"foo\":1}", "foo", "unknown_parameter"},
    {"{\"prompt\":\"x\",\"max_completion_tokens\":1}", "max_completion_tokens",
     "unknown_parameter"},
    {"{\"suffix\":\"x\"}", "suffix", "unsupported_parameter"},
    {"{\"suffix\":1}", "suffix", "invalid_type"},
    {"{\"model\":null}", "model", "invalid_type"},
    {"{\"model\":[7]}", "model", "invalid_type"},
    {"{\"prompt\":1}", "prompt", "invalid_type"},
    {"{\"prompt\":true}", "prompt", "invalid_type"},
    {"{\"prompt\":[]}", "prompt", "empty_array"},
    {"{\"prompt\":[[]]}", "prompt", "empty_array"},
    {"{\"prompt\":[[1],[]]}", "prompt", "empty_array"},
    {"{\"prompt\":[1,\"a\"]}", "prompt", "invalid_type"},
    {"{\"prompt\":[\"a\",[1]]}", "prompt", "invalid_type"},
    {"{\"prompt\":[[1],\"a\"]}", "prompt", "invalid_type"},
    {"{\"prompt\":[[1],[2.0]]}", "prompt", "invalid_type"},
    {"{\"prompt\":[2147483648]}", "prompt", "invalid_value"},
    {"{\"prompt\":[[1],[2,-2147483649]]}", "prompt", "invalid_value"},
    {"{\"prompt\":[1,99999999999999999999]}", "prompt", "invalid_value"},
    {"{\"prompt\":[50257]}", "prompt", "invalid_value"},
    {"{\"prompt\":[[3],[-1]]}", "prompt", "invalid_value"},
    {"{\"prompt\":[1,2,3,4,5,6,7,8,9]}", "prompt", "context_length_exceeded"},
    {"{\"prompt\":[\"a\",\"a b c d e f g h i\"]}", "prompt", "context_length_exceeded"},
    {"{\"max_tokens\":0}", "max_tokens", "integer_below_min_value"},
    {"{\"max_tokens\":0,\"echo\":false}", "max_tokens", "integer_below_min_value"},
    {"{\"max_tokens\":2049}", "max_tokens", "integer_above_max_value"},
    {"{\"max_tokens\":99999999999999999999}", "max_tokens", "integer_above_max_value"},
    {"{\"max_tokens\":-99999999999999999999}", "max_tokens", "integer_below_min_value"},
    {"{\"temperature\":2.1}", "temperature", "decimal_above_max_value"},
    {"{\"temperature\":-0.1}", "temperature", "decimal_below_min_value"},
    {"{\"temperature\":[1]}", "temperature", "invalid_type"},
    {"{\"top_p\":1.5}", "top_p", "decimal_above_max_value"},
    {"{\"n\":0}", "n", "integer_below_min_value"},
    {"{\"n\":9}", "n", "integer_above_max_value"},
    {"{\"best_of\":0}", "best_of", "integer_below_min_value"},
    {"{\"n\":2,\"best_of\":1}", "best_of", "invalid_value"},
    {"{\"n\":2,\"stream\":true}", "n", "invalid_value"},
    {"{\"best_of\":2,\"stream\":true}", "best_of", "invalid_value"},
    {"{\"stream\":\"true\"}", "stream", "invalid_type"},
    {"{\"stream_options\":{}}", "stream_options", "invalid_value"},
    {"{\"stream\":true,\"stream_options\":[1]}", "stream_options", "invalid_type"},
    {"{\"stream\":true,\"stream_options\":{\"include_usage\":\"x\"}}", "stream_options",
     "invalid_type"},
    {"{\"stream\":true,\"stream_options\":{\"other\":1}}", "stream_options", "unknown_parameter"},
    {"{\"stream\":true,\"stream_options\":{\"include_obfuscation\":true}}", "stream_options",
     "unsupported_parameter"},
    {"{\"logprobs\":6}", "logprobs", "integer_above_max_value"},
    {"{\"logprobs\":false}", "logprobs", "invalid_type"},
    {"{\"echo\":1}", "echo", "invalid_type"},
    {"{\"stop\":\"\"}", "stop", "string_below_min_length"},
    {"{\"stop\":[\"a\",\"\"]}", "stop", "string_below_min_length"},
    {"{\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop", "array_above_max_length"},
    {"{\"stop\":[1]}", "stop", "invalid_type"},
    {"{\"stop\":{}}", "stop", "invalid_type"},
    {"{\"presence_penalty\":2.01}", "presence_penalty", "decimal_above_max_value"},
    {"{\"frequency_penalty\":-2.01}", "frequency_penalty", "decimal_below_min_value"},
    {"{\"logit_bias\":[1]}", "logit_bias", "invalid_type"},
    {"{\"logit_bias\":{\"50257\":1}}", "logit_bias", "invalid_value"},
    {"{\"logit_bias\":{\"+1\":1}}", "logit_bias", "invalid_value"},
    {"{\"logit_bias\":{\"00\":1}}", "logit_bias", "invalid_value"},
    {"{\"logit_bias\":{\"12345678901\":1}}", "logit_bias", "invalid_value"},
    {"{\"logit_bias\":{\"1\":-101}}", "logit_bias", "invalid_value"},
    {"{\"logit_bias\":{\"1\":null}}", "logit_bias", "invalid_value"},
    {"{\"seed\":18446744073709551616}", "seed", "invalid_value"},
    {"{\"seed\":-9223372036854775809}", "seed", "invalid_value"},
    {"{\"seed\":1.0}", "seed", "invalid_type"},
    {"{\"user\":[1]}", "user", "invalid_type"},
    {"{\"top_k\":-2}", "top_k", "integer_below_min_value"},
    {"{\"top_k\":4294967296}", "top_k", "integer_above_max_value"},
    {"{\"min_p\":1.01}", "min_p", "decimal_above_max_value"},
    {"{\"repetition_penalty\":2.01}", "repetition_penalty", "decimal_above_max_value"},
    {"[]", NULL, "invalid_type"},
    {"[1]", NULL, "invalid_type"},
    {"\"text\"", NULL, "invalid_type"},
    {"{\"prompt\":\"a\",\"prompt\":\"b\"}", NULL, NULL},
    {"{[1]:2}", NULL, NULL},
    {"", NULL, NULL},
};

static void what_cannot_be_honoured_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_refused(refused[i].body, 400, refused[i].param, refused[i].code);
    assert_refused("{\"model\":\"other\"}", 404, "model", "model_not_found");
    assert_refused("{\"model\":\"stubb\"}", 404, "model", "model_not_found");
}

/* {"MEMBER":[unit,unit,...]} */
static const char *repeated(const char *begin, const char *unit, int n, const char *end)
{
    static char body[MAX_BODY];
    size_t at = (size_t)snprintf(body, sizeof body, "%s", begin);

    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(body + at, sizeof body - at, i == 0 ? "%s" : ",%s", unit);
    assert_true(at + strlen(end) < sizeof body);
    snprintf(body + at, sizeof body - at, "%s", end);
    return body;
}

static void too_many_are_refused(void **state)
{
    char body[32 * 1025 + 64];
    size_t at = (size_t)snprintf(body, sizeof body, "{\"logit_bias\":{");
    CompletionRequest r;

    (void)state;
    assert_refused(repeated("{\"prompt\":[", "\"x\"", 129, "]}"), 400, "prompt",
                   "array_above_max_length");
    assert_refused(repeated("{\"n\":2,\"prompt\":[", "[1]", 65, "]}"), 400, "prompt",
                   "array_above_max_length");
    r = accepted(repeated("{\"n\":2,\"prompt\":[", "[1]", 64, "]}"));
    assert_int_equal(r.n_prompts, 64);
    completion_request_free(&r);
    for (int i = 0; i < 1024; i++)
        at += (size_t)snprintf(body + at, sizeof body - at, "\"%d\":-1.5,", i);
    snprintf(body + at - 1, sizeof body - at, "}}");
    r = accepted(body);
    assert_int_equal(r.run.sampling.n_bias, 1024);
    for (int i = 0; i < 1024; i++) {
        assert_in_range(r.run.sampling.bias[i].id, 0, 1023);
        assert_true(r.run.sampling.bias[i].add == -1.5f);
    }
    completion_request_free(&r);
    snprintf(body + at - 1, sizeof body - at, ",\"1024\":1}}");
    assert_refused(body, 400, "logit_bias", "object_above_max_properties");
}

static void nothing_is_asked_for_by_default(void **state)
{
    static const char *const bodies[] = {
        "{}",
        ("{\"prompt\":null,\"suffix\":null,\"max_tokens\":null,\"temperature\":null,\"top_p\":null,"
         "\"n\":null,\"best_of\":null,\"stream\":null,\"stream_options\":null,\"logprobs\":null,"
         "\"echo\":null,\"stop\":null,\"presence_penalty\":null,\"frequency_penalty\":null,"
         "\"logit_bias\":null,\"seed\":null,\"user\":null,\"top_k\":null,\"min_p\":null,"
         "\"repetition_penalty\":null}"),
        ("{\"model\":\"stub\",\"prompt\":\"\",\"suffix\":\"\",\"stop\":[],\"logit_bias\":{},"
         "\"top_k\":-1,\"user\":\"me\"}"),
        "{\"prompt\":\"<|endoftext|>\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        CompletionRequest r = accepted(bodies[i]);
        BackendRequest run = {.max_tokens = 0};

        completion_request_prompt(&r, 0, &run);
        assert_int_equal(r.n_prompts * 100 + r.n * 10 + r.best_of, 111);
        assert_false(r.stream || r.include_usage || r.echo);
        assert_int_equal(r.logprobs, -1);
        assert_int_equal(r.run.max_tokens, 16);
        assert_int_equal(r.run.n_stops + r.run.sampling.n_bias, 0);
        assert_false(r.run.want_scores || r.run.score_prompt);
        assert_int_equal(r.run.sampling.seed, 42);
        assert_int_equal(run.n_prompt_ids, 1);
        assert_int_equal(run.prompt_ids[0], 50256); /* the end of text */
        completion_request_free(&r);
    }
}

static void every_member_reaches_the_backend(void **state)
{
    CompletionRequest r = accepted(
        "{\"prompt\":[[5,6],[7]],\"max_tokens\":0,\"temperature\":0.5,\"top_p\":0.25,\"n\":2,"
        "\"best_of\":3,\"logprobs\":4,\"echo\":true,\"stop\":\"s\",\"presence_penalty\":-2,"
        "\"frequency_penalty\":2,\"logit_bias\":{\"50256\":-100},\"seed\":18446744073709551615,"
        "\"top_k\":4294967295,\"min_p\":0.125,\"repetition_penalty\":1.5}");
    const SamplingParams *p = &r.run.sampling;
    BackendRequest run = r.run;

    (void)state;
    assert_int_equal(r.n_prompts, 2);
    assert_int_equal(r.n * 10 + r.best_of, 23);
    assert_int_equal(r.run.max_tokens, 0);
    assert_true(p->temperature == 0.5f && p->top_p == 0.25f && p->min_p == 0.125f);
    assert_true(p->presence_penalty == -2 && p->frequency_penalty == 2);
    assert_true(p->repetition_penalty == 1.5f && p->top_k == 4294967295);
    assert_true(p->seed == UINT64_MAX);
    assert_int_equal(p->n_bias, 1);
    assert_int_equal(p->bias[0].id, 50256);
    assert_true(r.run.want_scores && r.run.score_prompt);
    assert_int_equal(r.run.n_best, 4);
    assert_int_equal(r.run.n_stops, 1);
    assert_memory_equal(r.run.stops[0].text, "s", 1);
    completion_request_prompt(&r, 1, &run);
    assert_int_equal(run.n_prompt_ids, 1);
    assert_int_equal(run.prompt_ids[0], 7);
    completion_request_free(&r);
    r = accepted("{\"seed\":-1,\"stream\":true,\"stream_options\":{\"include_usage\":true,"
                 "\"include_obfuscation\":false}}");
    assert_true(r.run.sampling.seed == UINT64_MAX && r.stream && r.include_usage);
    completion_request_free(&r);
}

/* --- choices --- */

/* Ids are indices; the last one is special. */
static const char *const token_bytes[] = {"A",    " b",   "\xe2", "\x82", "\xac", "\xf0\x9f",
                                          "\x98", "\x80", "\xff", "\"\\", "<s>"};
enum { N_TOKENS = 11, SPECIAL = 10 };

static const char *token_text(const Backend *b, int id, size_t *n, bool *special)
{
    (void)b;
    if (special != NULL)
        *special = id == SPECIAL;
    *n = strlen(token_bytes[id]);
    return token_bytes[id];
}

static const BackendOps token_ops = {.token_text = token_text};
static const Backend tokens = {.ops = &token_ops};

static void add(Choice *c, StepKind kind, int id, const char *text, const BackendScores *scores)
{
    const BackendStep step = {
        .kind = kind, .id = id, .text = text, .n_text = strlen(text), .scores = scores};

    choice_add(c, &tokens, &step, true);
}

static void assert_written(Choice *c, const char *want)
{
    JsonBuf out = {.data = NULL};

    choice_write(c, 0, true, &out);
    assert_string_equal(out.data, want);
    json_buf_free(&out);
}

static void offsets_count_whole_characters(void **state)
{
    Choice c = {.n_chars = 0};
    JsonBuf out = {.data = NULL};
    /* 0xe2 0x82 0xac is one character, 0xff is none and counts as one, 0xf0 0x9f is cut off. */
    const int32_t ids[] = {2, 3, 4, 8, 0, SPECIAL, 5};

    (void)state;
    choice_count_ids(&c, &tokens, ids, 7);
    assert_int_equal(c.n_chars, 1 + 1 + 1 + 3 + 1);
    choice_count_text(&c, (BackendText){.text = "\xe2\x82\xac.", .n_bytes = 4});
    assert_int_equal(c.n_chars, 9);
    add(&c, STEP_TOKEN, 5, "", NULL);
    add(&c, STEP_TOKEN, 6, "", NULL);
    add(&c, STEP_TOKEN, 7, "\xf0\x9f\x98\x80", NULL);
    add(&c, STEP_TOKEN, SPECIAL, "", NULL); /* has no text in what is generated */
    add(&c, STEP_TOKEN, 9, "\"\\", NULL);
    add(&c, STEP_TOKEN, -1, "held", NULL);
    c.reason = STOP_EOS;
    assert_int_equal(c.n_generated, 5);
    choice_write(&c, 3, true, &out);
    assert_string_equal(
        out.data,
        "{\"text\":\"\xf0\x9f\x98\x80\\\"\\\\held\",\"index\":3,\"logprobs\":{\"tokens\":[\"bytes:"
        "\\\\xf0\\\\x9f\",\"bytes:\\\\x98\",\"bytes:\\\\x80\",\"<s>\",\"\\\"\\\\\"],\"token_"
        "logprobs\":[null,null,null,null,null],\"top_logprobs\":[null,null,null,null,null],\"text_"
        "offset\":[9,9,9,10,10]},\"finish_reason\":\"stop\"}");
    json_buf_free(&out);
    choice_free(&c);
}

static void an_echoed_prompt_that_ends_within_a_character_ends_there(void **state)
{
    Choice c = {.n_chars = 0};

    (void)state;
    add(&c, STEP_PROMPT_TOKEN, SPECIAL, "<s>", NULL);
    add(&c, STEP_PROMPT_TOKEN, 2, "\xef\xbf\xbd", NULL);
    add(&c, STEP_TOKEN, 3, "\xef\xbf\xbd", NULL);
    add(&c, STEP_TOKEN, 0, "A", NULL);
    assert_int_equal(c.n_generated, 2);
    assert_written(&c, "{\"text\":\"<s>\xef\xbf\xbd\xef\xbf\xbd"
                       "A\",\"index\":0,\"logprobs\":{\"tokens\":["
                       "\"<s>\",\"bytes:\\\\xe2\",\"bytes:\\\\x82\",\"A\"],\"token_logprobs\":["
                       "null,null,null,null],\"top_logprobs\":[null,null,null,null],"
                       "\"text_offset\":[0,3,4,5]},\"finish_reason\":null}");
    choice_free(&c);
}

static void a_token_begins_behind_the_character_that_it_breaks_off(void **state)
{
    Choice c = {.n_chars = 0};

    (void)state;
    add(&c, STEP_PROMPT_TOKEN, 5, "", NULL); /* f0 9f */
    add(&c, STEP_PROMPT_TOKEN, 0,
        "\xef\xbf\xbd"
        "A",
        NULL);                               /* does not go on with it */
    add(&c, STEP_PROMPT_TOKEN, 2, "", NULL); /* e2 */
    add(&c, STEP_PROMPT_TOKEN, 3, "", NULL); /* 82: goes on */
    add(&c, STEP_TOKEN, 2, "\xef\xbf\xbd", NULL);
    add(&c, STEP_TOKEN, SPECIAL, "", NULL); /* no text, so nothing breaks off */
    add(&c, STEP_TOKEN, 3, "", NULL);
    add(&c, STEP_TOKEN, 5, "\xef\xbf\xbd", NULL);
    assert_written(
        &c, "{\"text\":\"\xef\xbf\xbd"
            "A\xef\xbf\xbd\xef\xbf\xbd\",\"index\":0,\"logprobs\":{\"tokens\":[\"bytes:"
            "\\\\xf0\\\\x9f\",\"A\",\"bytes:\\\\xe2\",\"bytes:\\\\x82\",\"bytes:\\\\xe2\","
            "\"<s>\",\"bytes:\\\\x82\",\"bytes:\\\\xf0\\\\x9f\"],\"token_logprobs\":[null,null,"
            "null,null,null,null,null,null],\"top_logprobs\":[null,null,null,null,"
            "null,null,null,null],\"text_offset\":[0,1,2,2,3,3,3,4]},\"finish_"
            "reason\":null}");
    choice_free(&c);
}

static void the_end_of_the_text_is_a_token_without_text(void **state)
{
    const BackendScores likely = {.logprob = -0.25, .n_best = 1, .best = {{SPECIAL, -0.25}}};
    Choice c = {.n_chars = 0};

    (void)state;
    add(&c, STEP_PROMPT_TOKEN, 0, "A", NULL);
    add(&c, STEP_TOKEN, 2, "", NULL); /* is cut off, and becomes a character in the text */
    add(&c, STEP_TOKEN, -1, "\xef\xbf\xbd", NULL);
    add(&c, STEP_END, SPECIAL, "", &likely);
    c.reason = STOP_EOS;
    assert_int_equal(c.n_generated, 2);
    assert_written(&c, "{\"text\":\"A\xef\xbf\xbd\",\"index\":0,\"logprobs\":{\"tokens\":[\"A\","
                       "\"bytes:\\\\xe2\",\"<s>\"],\"token_logprobs\":[null,null,-0.25],"
                       "\"top_logprobs\":[null,null,{\"<s>\":-0.25}],\"text_offset\":[0,1,2]},"
                       "\"finish_reason\":\"stop\"}");
    choice_free(&c);
    add(&c, STEP_END, SPECIAL, "", &likely);
    assert_true(choice_mean_logprob(&c) == -0.25);
    choice_free(&c);
}

static void the_token_itself_is_always_among_the_likely_ones(void **state)
{
    const BackendScores among = {.logprob = -0.5, .n_best = 2, .best = {{0, -0.5}, {1, -1.25}}};
    const BackendScores beside = {.logprob = -7, .n_best = 1, .best = {{0, -0.125}}};
    const BackendScores none = {.logprob = -0.1, .n_best = 0};
    Choice c = {.n_chars = 0};

    (void)state;
    add(&c, STEP_TOKEN, 0, "A", &among);
    add(&c, STEP_TOKEN, 1, " b", &beside);
    add(&c, STEP_TOKEN, 0, "A", &none);
    assert_true(fabs(choice_mean_logprob(&c) + 7.6 / 3) < 1e-12);
    assert_written(&c, "{\"text\":\"A bA\",\"index\":0,\"logprobs\":{\"tokens\":[\"A\",\" b\","
                       "\"A\"],\"token_logprobs\":[-0.5,-7,-0.1],\"top_logprobs\":[{\"A\":-0.5,"
                       "\" b\":-1.25},{\"A\":-0.125,\" b\":-7},{\"A\":-0.1}],\"text_offset\":[0,1,"
                       "3]},\"finish_reason\":null}");
    c.reason = STOP_MAX_TOKENS;
    assert_int_equal(choice_size(&c), 0);
    assert_written(&c,
                   "{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"length\"}");
    choice_free(&c);
}

static void numbers_are_written_in_their_shortest_form(void **state)
{
    uint64_t random = 1;
    JsonBuf out = {.data = NULL};

    (void)state;
    for (int i = 0; i < 2000; i++) {
        const uint64_t bits = (uint64_t)next_random(&random) << 32 | next_random(&random);
        double x;
        char text[32];

        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x))
            continue;
        out.len = 0;
        json_buf_double(&out, x);
        assert_true(strtod(out.data, NULL) == x);
        out.len = 0;
        json_buf_int(&out, (long long)bits >> (bits & 63));
        snprintf(text, sizeof text, "%lld", (long long)bits >> (bits & 63));
        assert_string_equal(out.data, text);
    }
    out.len = 0;
    json_buf_double(&out, -0.1);
    json_buf_double(&out, -1e-300);
    json_buf_double(&out, 0);
    json_buf_int(&out, INT64_MIN);
    json_buf_int(&out, 0);
    assert_string_equal(out.data, "-0.1-1e-3000-92233720368547758080");
    json_buf_free(&out);
}

/* --- answers --- */

/* Runs the whole completion on the stub; streamed chunks go to *chunks, one a line. */
static void run_completion(Completion *c, const char *body, JsonBuf *chunks)
{
    const CompletionRequest request = accepted(body);
    BackendRequest run;
    BackendStep step;
    Err err;

    completion_begin(c, &request, "id");
    c->created = 1700000000;
    do {
        completion_run(c, &run);
        assert_int_equal(backend->ops->start(backend, &run, &err), ERR_OK);
        do {
            assert_int_equal(backend->ops->step(backend, NULL, &step, &err), ERR_OK);
            if (step.kind != STEP_TOKEN && step.kind != STEP_PROMPT_TOKEN)
                continue;
            completion_add(c, backend, &step);
            if (chunks != NULL && completion_has_chunk(c, &step)) {
                completion_chunk(c, backend, chunks);
                json_buf_add(chunks, "\n", 1);
            }
        } while (step.kind != STEP_END);
        completion_end_run(c, backend, &step);
        if (chunks != NULL)
            completion_chunk(c, backend, chunks);
    } while (completion_next(c));
    completion_finish(c);
    assert_false(completion_oom(c) || completion_too_large(c));
}

#define HEAD                                                                                       \
    "{\"id\":\"cmpl-id\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":"         \
    "\"stub\",\"system_fingerprint\":\"fp_0123456789abcdef_" LLORCH_VERSION "\",\"choices\":["

static void an_answer_is_this_to_the_byte(void **state)
{
    Completion c;

    (void)state;
    run_completion(&c, "{\"prompt\":[\"a\",\"cached=1 x\"],\"n\":2,\"max_tokens\":1}", NULL);
    assert_string_equal(
        c.answer.data,
        HEAD "{\"text\":\"STUB\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"length\"},"
             "{\"text\":\"STUB\",\"index\":1,\"logprobs\":null,\"finish_reason\":\"length\"},"
             "{\"text\":\"STUB\",\"index\":2,\"logprobs\":null,\"finish_reason\":\"length\"},"
             "{\"text\":\"STUB\",\"index\":3,\"logprobs\":null,\"finish_reason\":\"length\"}],"
             "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,"
             "\"prompt_tokens_details\":{\"cached_tokens\":1}}}");
    completion_free(&c);
}

static void a_stream_is_this_to_the_byte(void **state)
{
    JsonBuf chunks = {.data = NULL};
    Completion c;

    (void)state;
    run_completion(&c,
                   "{\"prompt\":\"text=x|y end=eos\",\"stream\":true,\"stream_options\":"
                   "{\"include_usage\":true}}",
                   &chunks);
    assert_string_equal(
        chunks.data,
        HEAD "{\"text\":\"x\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}],\"usage\":null"
             "}\n" HEAD "{\"text\":\"y\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}],"
             "\"usage\":null}\n" HEAD "{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_"
             "reason\":\"stop\"}],\"usage\":null}");
    chunks.len = 0;
    completion_usage_chunk(&c, backend, &chunks);
    assert_string_equal(chunks.data,
                        HEAD "],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3,\"total_"
                             "tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":0}}}");
    json_buf_free(&chunks);
    completion_free(&c);
}

/* The choices are handed in with these sums over two tokens each; 0: without a token. */
static void best_are(const double *sums, int n, const char *const *want)
{
    const BackendStep end = {.kind = STEP_END, .id = -1};
    char body[64];
    Completion c;
    CompletionRequest request;

    snprintf(body, sizeof body, "{\"n\":%d,\"best_of\":4}", n);
    request = accepted(body);
    completion_begin(&c, &request, "id");
    for (int i = 0; i < 4; i++) {
        const char text[] = {(char)('a' + i), '\0'};

        json_buf_add(&c.now.text, text, 1);
        c.now.n_generated = sums[i] < 0 ? 2 : 0;
        c.now.logprob = sums[i];
        completion_end_run(&c, backend, &end);
        (void)completion_next(&c);
    }
    completion_finish(&c);
    for (int i = 0; i < n; i++) {
        char choice[64];

        snprintf(choice, sizeof choice, "{\"text\":\"%s\",\"index\":%d,", want[i], i);
        if (strstr(c.answer.data, choice) == NULL)
            fail_msg("%s is not in %s", choice, c.answer.data);
    }
    completion_free(&c);
}

static void the_best_come_first_and_equal_ones_in_their_order(void **state)
{
    (void)state;
    best_are((const double[]){-3, -1, -2, -4}, 2, (const char *const[]){"b", "c"});
    best_are((const double[]){-3, -1, -1, -1}, 3, (const char *const[]){"b", "c", "d"});
    best_are((const double[]){-1, -1, -1, -1}, 1, (const char *const[]){"a"});
    /* No token is no certainty. */
    best_are((const double[]){0, -9, 0, -8}, 3, (const char *const[]){"d", "b", "a"});
    best_are((const double[]){0, 0, 0, 0}, 1, (const char *const[]){"a"});
}

static void an_answer_cannot_grow_without_end(void **state)
{
    static char text[1 << 20];
    const CompletionRequest request = accepted("{}");
    const BackendStep step = {.kind = STEP_TOKEN, .text = text, .n_text = sizeof text};
    Completion c;
    int n = 0;

    (void)state;
    memset(text, 'x', sizeof text);
    completion_begin(&c, &request, "id");
    for (; !completion_too_large(&c); n++)
        completion_add(&c, backend, &step);
    assert_int_equal(n, 65);
    completion_free(&c);
}

static void what_is_longer_than_can_be_counted_at_once_is_counted_later(void **state)
{
    static char body[256 * 1024];
    size_t at = (size_t)snprintf(body, sizeof body, "{\"prompt\":[\"a\"");
    CompletionRequest r;
    bool too_long;
    int n = 0;

    (void)state;
    for (int i = 0; i < 80; i++)
        at += (size_t)snprintf(body + at, sizeof body - at, ",\"%02000d\"", 1);
    at += (size_t)snprintf(body + at, sizeof body - at, ",\"1 2 3 4 5 6 7 8 9\"]}");
    r = accepted(body);
    assert_int_equal(r.n_checked, 1 + COMPLETION_CHECKED_BYTES / 2000);
    for (; completion_request_check(&r, backend, &too_long); n++)
        continue;
    assert_true(too_long);
    assert_int_equal(r.n_checked, 82);
    completion_request_free(&r);
}

/* --- models and tokens --- */

static void names_in_a_path_are_decoded(void **state)
{
    static const char *const good[] = {"a/b%c", "a%2Fb%c", "a%2fb%25c", "%61/b%c"};
    static const char *const bad[] = {"", "a", "a/b", "a/b%c%", "a/b%cc", "a%2", "a%00b%c"};
    const BackendInfo info = {.model_name = "a/b%c", .n_ctx = 5};
    JsonBuf out = {.data = NULL};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        out.len = 0;
        assert_int_equal(models_one(&out, &info, 7, good[i]), 200);
        assert_string_equal(out.data, "{\"id\":\"a/b%c\",\"object\":\"model\",\"created\":7,"
                                      "\"owned_by\":\"llorch-cpud\",\"max_model_len\":5}");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(models_one(&out, &info, 7, bad[i]), 404);
    json_buf_free(&out);
}

static void assert_tokenize(const char *body, int status, const char *want)
{
    JsonBuf answer = {.data = NULL};

    assert_int_equal(tokenize_answer(body, strlen(body), backend, &answer), status);
    assert_string_equal(answer.data, want);
    json_buf_free(&answer);
}

#define LLAMA(message)                                                                             \
    "{\"error\":{\"code\":400,\"message\":\"" message "\",\"type\":\"invalid_request_error\"}}"

static void tokenize_answers_as_llama_does(void **state)
{
    (void)state;
    assert_tokenize("{\"content\":\"\",\"model\":1}", 200, "{\"tokens\":[]}");
    assert_tokenize("{\"content\":\"<|endoftext|>\"}", 200, "{\"tokens\":[50256]}");
    assert_tokenize("{\"content\":\"<|endoftext|>\",\"with_pieces\":true,\"add_special\":true}",
                    200, "{\"tokens\":[{\"id\":50256,\"piece\":\"<|endoftext|>\"}]}");
    assert_tokenize("{}", 400, LLAMA("content is missing, expected a string"));
    assert_tokenize("[3]", 400, LLAMA("body: expected an object"));
    assert_tokenize("{\"content\":5}", 400,
                    LLAMA("Invalid type for 'content': expected a string, but got an integer "
                          "instead."));
}

static int new_backend(void **state)
{
    (void)state;
    backend = stub_backend_new("stub", N_CTX);
    return backend == NULL;
}

static int free_backend(void **state)
{
    (void)state;
    backend->ops->free(backend);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_honoured_is_refused_by_name),
        cmocka_unit_test(too_many_are_refused),
        cmocka_unit_test(nothing_is_asked_for_by_default),
        cmocka_unit_test(every_member_reaches_the_backend),
        cmocka_unit_test(offsets_count_whole_characters),
        cmocka_unit_test(an_echoed_prompt_that_ends_within_a_character_ends_there),
        cmocka_unit_test(a_token_begins_behind_the_character_that_it_breaks_off),
        cmocka_unit_test(the_end_of_the_text_is_a_token_without_text),
        cmocka_unit_test(the_token_itself_is_always_among_the_likely_ones),
        cmocka_unit_test(numbers_are_written_in_their_shortest_form),
        cmocka_unit_test(an_answer_is_this_to_the_byte),
        cmocka_unit_test(a_stream_is_this_to_the_byte),
        cmocka_unit_test(the_best_come_first_and_equal_ones_in_their_order),
        cmocka_unit_test(an_answer_cannot_grow_without_end),
        cmocka_unit_test(what_is_longer_than_can_be_counted_at_once_is_counted_later),
        cmocka_unit_test(names_in_a_path_are_decoded),
        cmocka_unit_test(tokenize_answers_as_llama_does),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, new_backend, free_backend);
}
