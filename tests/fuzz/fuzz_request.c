/* tests/fuzz/fuzz_request.c: the body of /execute and /cancel, from bytes to a checked request or
 * to the answer that says what is wrong with them.
 *
 * What is accepted keeps every range of the contract (5.2); what is refused is answered with valid
 * JSON in one of its two shapes (5.3 and 8), of a size that no request can inflate. Blanks around
 * the body and a backend that has nothing against it change nothing. The JSON library, asked alone,
 * reads the same texts, and refuses the same bodies, but for integers that it cannot hold. */
#include "fuzz.h"

#include <math.h>
#include <stdbool.h>

#include "common/text.h"
#include "worker/request.h"

enum { N_CTX = 40, MAX_ANSWER = 16 * 1024 };

/* --- a backend that counts bytes as tokens --- */

static const BackendInfo *info(const Backend *b)
{
    static const BackendInfo small = {.n_ctx = N_CTX}, endless = {.n_ctx = 1 << 30};

    return b->ops->n_prompt_tokens == NULL ? &small : &endless;
}

static int count_tokens(Backend *b, BackendText prompt)
{
    (void)b;
    fuzz_touch(prompt.text, prompt.n_bytes);
    return (int)prompt.n_bytes;
}

static int no_tokens(const Backend *b)
{
    (void)b;
    return 0;
}

static const BackendOps small_ops = {.info = info, .count_tokens = count_tokens};
static const BackendOps endless_ops = {
    .info = info, .count_tokens = count_tokens, .n_prompt_tokens = no_tokens};

/* --- what was accepted --- */

static void check_text(BackendText t, size_t min, size_t max)
{
    FUZZ_CHECK(t.text != NULL && text_utf8_valid(t.text, t.n_bytes));
    FUZZ_CHECK(text_utf8_count(t.text, t.n_bytes) >= min);
    FUZZ_CHECK(text_utf8_count(t.text, t.n_bytes) <= max);
}

static void check_float(float x, float max)
{
    FUZZ_CHECK(isfinite(x) && x >= 0 && x <= max);
}

static void check_request(const Request *r)
{
    const SamplingParams *p = &r->run.sampling;

    check_text(r->job_id, 1, SIZE_MAX);
    check_text(r->run.prompt, 1, BACKEND_MAX_PROMPT_CHARS);
    FUZZ_CHECK(r->run.max_tokens >= 1 && r->run.max_tokens <= BACKEND_MAX_NEW_TOKENS);
    FUZZ_CHECK(r->run.n_stops >= 0 && r->run.n_stops <= BACKEND_MAX_STOPS);
    for (int i = 0; i < r->run.n_stops; i++)
        check_text(r->run.stops[i], 1, BACKEND_MAX_STOP_CHARS);
    check_float(p->temperature, 2);
    check_float(p->top_p, 1);
    check_float(p->repetition_penalty, 2);
    check_float(p->min_p, 1);
    FUZZ_CHECK(p->top_k >= 0 && p->top_k <= UINT32_MAX);
}

/* --- what was refused --- */

static int has_text(const json_t *object, const char *key)
{
    const json_t *text = json_object_get(object, key);

    return json_is_string(text) && json_string_length(text) > 0;
}

static void check_entry(const json_t *entry)
{
    const json_t *value = json_object_get(entry, "value");

    FUZZ_CHECK(json_is_object(entry) && json_object_size(entry) == (value != NULL ? 4 : 3));
    FUZZ_CHECK(has_text(entry, "field") && has_text(entry, "constraint"));
    FUZZ_CHECK(has_text(entry, "message") && (value == NULL || json_is_string(value)));
}

static void check_answer(int status, const JsonBuf *answer)
{
    Err err = {.code = ERR_OK};
    json_t *root = json_parse(answer->data, answer->len, "answer", &err);
    const json_t *errors = json_object_get(root, "errors"), *entry;
    size_t i;

    FUZZ_CHECK(root != NULL && answer->len <= MAX_ANSWER);
    if (errors != NULL) {
        FUZZ_CHECK(status == 400 && json_object_size(root) == 1 && json_array_size(errors) > 0);
        json_array_foreach(errors, i, entry) check_entry(entry);
    } else {
        FUZZ_CHECK(json_object_size(root) == 3 &&
                   json_is_false(json_object_get(root, "retriable")));
        FUZZ_CHECK(strcmp(json_string_value(json_object_get(root, "code")), "INVALID_REQUEST") ==
                   0);
        FUZZ_CHECK(strncmp(json_string_value(json_object_get(root, "message")),
                           "Invalid request: ", 17) == 0);
    }
    json_decref(root);
}

static void check_same_text(BackendText t, const json_t *want)
{
    FUZZ_CHECK(json_is_string(want) && json_string_length(want) == t.n_bytes);
    FUZZ_CHECK(memcmp(json_string_value(want), t.text, t.n_bytes) == 0);
}

/* A run of digits and the like, long enough for an integer that the library refuses, or one that is
 * refused for its length. */
static bool has_long_number(const char *body, size_t n)
{
    size_t run = 0;

    for (size_t i = 0; i < n && run < 19; i++)
        run = body[i] != '\0' && strchr("0123456789.eE+-", body[i]) != NULL ? run + 1 : 0;
    return run >= 19;
}

/* What request_parse made of the body, beside what the library alone makes of it. r: NULL unless
 * accepted. */
static void check_against_library(const char *body, size_t n, int status, const Request *r)
{
    Err err = {.code = ERR_OK};
    json_t *root = json_parse(body, n, "body", &err);
    const json_t *stop = json_object_get(root, "stop");

    FUZZ_CHECK(root != NULL || status == 400 || has_long_number(body, n));
    if (root != NULL && !json_is_object(root))
        FUZZ_CHECK(status == 422 || has_long_number(body, n));
    if (root != NULL && r != NULL) {
        check_same_text(r->job_id, json_object_get(root, "job_id"));
        check_same_text(r->run.prompt, json_object_get(root, "prompt"));
        FUZZ_CHECK(r->run.max_tokens == json_integer_value(json_object_get(root, "max_tokens")));
        FUZZ_CHECK((size_t)r->run.n_stops == json_array_size(stop));
        for (int i = 0; i < r->run.n_stops; i++)
            check_same_text(r->run.stops[i], json_array_get(stop, (size_t)i));
    }
    json_decref(root);
}

static int parse(const char *body, size_t n, Backend *backend)
{
    JsonBuf answer = {.data = NULL};
    Request r;
    const int status = request_parse(&r, body, n, backend, &answer);

    if (status == 200) {
        check_request(&r);
        FUZZ_CHECK(backend == NULL ||
                   r.run.prompt.n_bytes <= (size_t)backend->ops->info(backend)->n_ctx);
        if (backend == NULL)
            check_against_library(body, n, status, &r);
        request_free(&r);
    } else {
        FUZZ_CHECK(status == 400 || status == 422);
        check_answer(status, &answer);
        if (backend == NULL)
            check_against_library(body, n, status, NULL);
    }
    json_buf_free(&answer);
    return status;
}

static void parse_cancel(const char *body, size_t n)
{
    JsonBuf answer = {.data = NULL};
    Request r;
    const int status = request_parse_cancel(&r, body, n, &answer);

    if (status == 200) {
        check_text(r.job_id, 1, SIZE_MAX);
        request_free(&r);
    } else {
        FUZZ_CHECK(status == 400 || status == 422);
        check_answer(status, &answer);
    }
    json_buf_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Backend small = {.ops = &small_ops}, endless = {.ops = &endless_ops};
    const char *body = (const char *)data;
    char *padded = malloc(size + 4);
    const int status = parse(body, size, NULL);
    const int with_small = parse(body, size, &small);

    FUZZ_CHECK(padded != NULL);
    memcpy(padded, " \n", 2);
    memcpy(padded + 2, body, size);
    memcpy(padded + 2 + size, "\t\r", 2);
    FUZZ_CHECK(parse(padded, size + 4, &endless) == status);
    FUZZ_CHECK(with_small == status || (status == 200 && with_small == 400));
    parse_cancel(body, size);
    free(padded);
    return 0;
}
