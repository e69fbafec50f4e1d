/* tests/test_request.c: every row of the request tables of the contract (5.2, 5.3, 7), bodies
 * compared byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stub_backend.h"
#include "worker/job_log.h"
#include "worker/request.h"
#include "worker/validate.h"

enum { N_CTX = 8, MAX_ROWS = 160 };

static Backend *backend;

#define FIXED "\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":1"
#define BAD(message)                                                                               \
    "{\"code\":\"INVALID_REQUEST\",\"message\":\"Invalid request: " message                        \
    "\",\"retriable\":false}"
#define LIST(entries) "{\"errors\":[" entries "]}"
#define ENTRY(field, constraint, message)                                                          \
    "{\"field\":\"" field "\",\"constraint\":\"" constraint "\",\"message\":\"" message "\"}"
#define ENTRY_V(field, constraint, message, value)                                                 \
    "{\"field\":\"" field "\",\"constraint\":\"" constraint "\",\"message\":\"" message            \
    "\",\"value\":\"" value "\"}"

/* answer: the whole body of a rejection; NULL with 200; with 400 "" means: any text that is not a
 * list. */
typedef struct {
    const char *name;
    const char *body;
    int status;
    const char *answer;
} Row;

static const Row rows[] = {
    {"accepts the three required fields", "{" FIXED "}", 200, NULL},
    {"ignores unknown fields", "{" FIXED ",\"other\":[1,{\"a\":null}],\"Stop\":3}", 200, NULL},
    {"accepts NUL in a prompt", "{\"job_id\":\"j\",\"prompt\":\"\\u0000\",\"max_tokens\":1}", 200,
     NULL},
    {"accepts integers where numbers are asked",
     "{" FIXED ",\"temperature\":2,\"top_p\":0,\"min_p\":1}", 200, NULL},
    {"accepts all limits",
     "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":2048,\"temperature\":2.0,\"top_p\":1.0,"
     "\"top_k\":4294967295,"
     "\"repetition_penalty\":2.0,\"min_p\":1.0,\"stop\":[\"a\",\"b\",\"c\",\"d\"],\"seed\":"
     "18446744073709551615}",
     200, NULL},
    {"rounds to float32 before the range test", "{" FIXED ",\"temperature\":2.00000001}", 200,
     NULL},
    {"accepts minus zero", "{" FIXED ",\"temperature\":-0.0}", 200, NULL},
    {"accepts the largest seed however its key is spelled",
     "{" FIXED ",\"\\u0073e\\u0065\\u0064\":18446744073709551615}", 200, NULL},
    {"accepts null for seed", "{" FIXED ",\"seed\":null}", 200, NULL},
    {"accepts a huge integer in an unknown field", "{" FIXED ",\"other\":99999999999999999999}",
     200, NULL},

    {"row 1: empty job_id", "{\"job_id\":\"\",\"prompt\":\"p\",\"max_tokens\":1}", 400,
     LIST(ENTRY_V("job_id", "non_empty", "job_id must not be empty", ""))},
    {"row 2: empty prompt", "{\"job_id\":\"j\",\"prompt\":\"\",\"max_tokens\":1}", 400,
     LIST(ENTRY("prompt", "length(1..=32768)", "prompt must not be empty"))},
    {"row 4: max_tokens 0", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":0}", 400,
     LIST(ENTRY_V("max_tokens", "range(1..=2048)", "max_tokens must be at least 1", "0"))},
    {"row 5: max_tokens 2049", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":2049}", 400,
     LIST(ENTRY_V("max_tokens", "range(1..=2048)", "max_tokens must be at most 2048 (got 2049)",
                  "2049"))},
    {"row 5: max_tokens 4294967295",
     "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":4294967295}", 400,
     LIST(ENTRY_V("max_tokens", "range(1..=2048)",
                  "max_tokens must be at most 2048 (got 4294967295)", "4294967295"))},
    {"row 6: temperature below 0", "{" FIXED ",\"temperature\":-0.1}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at least 0.0 (got -0.1)",
                  "-0.1"))},
    {"row 7: temperature above 2", "{" FIXED ",\"temperature\":2.1}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at most 2.0 (got 2.1)",
                  "2.1"))},
    {"row 7: 3.0 is printed 3", "{" FIXED ",\"temperature\":3.0}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at most 2.0 (got 3)",
                  "3"))},
    {"row 7: the float after 2 is printed in full", "{" FIXED ",\"temperature\":2.0000002}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)",
                  "temperature must be at most 2.0 (got 2.0000002)", "2.0000002"))},
    {"row 7: beyond float32 is printed inf", "{" FIXED ",\"temperature\":1e39}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at most 2.0 (got inf)",
                  "inf"))},
    {"row 6: beyond float32 downwards is printed -inf", "{" FIXED ",\"temperature\":-1e300}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at least 0.0 (got -inf)",
                  "-inf"))},
    {"row 7: a huge integer is a number", "{" FIXED ",\"temperature\":100000000000000000000}", 400,
     LIST(ENTRY_V("temperature", "range(0.0..=2.0)",
                  "temperature must be at most 2.0 (got 100000000000000000000)",
                  "100000000000000000000"))},
    {"row 8: top_p below 0", "{" FIXED ",\"top_p\":-1}", 400,
     LIST(ENTRY_V("top_p", "range(0.0..=1.0)", "top_p must be at least 0.0 (got -1)", "-1"))},
    {"row 8: top_p above 1", "{" FIXED ",\"top_p\":1.5}", 400,
     LIST(ENTRY_V("top_p", "range(0.0..=1.0)", "top_p must be at most 1.0 (got 1.5)", "1.5"))},
    {"row 9: repetition_penalty below 0", "{" FIXED ",\"repetition_penalty\":-0.5}", 400,
     LIST(ENTRY_V("repetition_penalty", "range(0.0..=2.0)",
                  "repetition_penalty must be at least 0.0 (got -0.5)", "-0.5"))},
    {"row 9: repetition_penalty above 2", "{" FIXED ",\"repetition_penalty\":2.5}", 400,
     LIST(ENTRY_V("repetition_penalty", "range(0.0..=2.0)",
                  "repetition_penalty must be at most 2.0 (got 2.5)", "2.5"))},
    {"row 10: five stops", "{" FIXED ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", 400,
     LIST(ENTRY_V("stop", "max_count(4)", "stop must have at most 4 sequences (got 5)", "5"))},
    {"row 11: empty stops, one entry each", "{" FIXED ",\"stop\":[\"\",\"b\",\"\"]}", 400,
     LIST(ENTRY("stop", "non_empty", "stop sequence 0 must not be empty") "," ENTRY(
         "stop", "non_empty", "stop sequence 2 must not be empty"))},
    {"row 13: min_p below 0", "{" FIXED ",\"min_p\":-0.25}", 400,
     LIST(ENTRY_V("min_p", "range(0.0..=1.0)", "min_p must be at least 0.0 (got -0.25)", "-0.25"))},
    {"row 13: min_p above 1", "{" FIXED ",\"min_p\":1.1}", 400,
     LIST(ENTRY_V("min_p", "range(0.0..=1.0)", "min_p must be at most 1.0 (got 1.1)", "1.1"))},
    {"context: nine tokens where eight fit",
     "{\"job_id\":\"j\",\"prompt\":\"a b c d e f g h i\",\"max_tokens\":1}", 400,
     LIST(ENTRY("prompt", "context(1..=8)", "prompt must be at most 8 tokens (got 9)"))},
    {"context: eight tokens fit",
     "{\"job_id\":\"j\",\"prompt\":\"a b c d e f g h\",\"max_tokens\":1}", 200, NULL},
    {"reports all at once: the contract's example",
     "{\"job_id\":\"\",\"prompt\":\"\",\"max_tokens\":0,\"temperature\":3.0}", 400,
     LIST(ENTRY_V("job_id", "non_empty", "job_id must not be empty", "") "," ENTRY(
         "prompt", "length(1..=32768)",
         "prompt must not be empty") "," ENTRY_V("max_tokens", "range(1..=2048)",
                                                 "max_tokens must be at least 1",
                                                 "0") "," ENTRY_V("temperature", "range(0.0..=2.0)",
                                                                  "temperature must be at most 2.0 "
                                                                  "(got 3)",
                                                                  "3"))},
    {"keeps the order of the table, not of the body",
     "{\"min_p\":2,\"stop\":[\"\",\"\",\"\",\"\",\"\"],\"repetition_penalty\":3,\"top_p\":2,"
     "\"temperature\":-1,"
     "\"max_tokens\":0,\"prompt\":\"a b c d e f g h i\",\"job_id\":\"\"}",
     400,
     LIST(ENTRY_V("job_id", "non_empty", "job_id must not be empty", "") "," ENTRY(
         "prompt", "context(1..=8)", "prompt must be at most 8 tokens (got 9)") "," ENTRY_V("max_"
                                                                                            "token"
                                                                                            "s",
                                                                                            "range("
                                                                                            "1..="
                                                                                            "2048)",
                                                                                            "max_"
                                                                                            "tokens"
                                                                                            " must "
                                                                                            "be at "
                                                                                            "least "
                                                                                            "1",
                                                                                            "0") "," ENTRY_V("temperature", "range(0.0..=2.0)", "temperature must be at least 0.0 (got -1)", "-1") "," ENTRY_V("top_p", "range(0.0..=1.0)", "top_p must be at most 1.0 (got 2)", "2") "," ENTRY_V("repetition_penalty", "range(0.0..=2.0)", "repetition_penalty must be at most 2.0 (got 3)", "3") "," ENTRY_V("stop",
                                                                                                                                                                                                                                                                                                                                                                                                               "max_count(4)",
                                                                                                                                                                                                                                                                                                                                                                                                               "stop must have at most 4 sequences (got 5)",
                                                                                                                                                                                                                                                                                                                                                                                                               "5") "," ENTRY("stop", "non_empty", "stop sequence 0 must not be empty") "," ENTRY("stop",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "non_empty", "stop sequence 1 must not be empty") "," ENTRY("stop",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              "non_empty",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              "stop sequence 2 must not be empty") "," ENTRY("stop",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "non_empty", "stop sequence 3 must not be empty") "," ENTRY("stop", "non_empty", "stop sequence 4 must not be empty") "," ENTRY_V("min_p",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "range(0.0..=1.0)",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "min_p must be at most 1.0 (got 2)",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "2"))},

    {"422: array at the top", "[]", 422, BAD("body: expected object, found array")},
    {"422: string at the top", "\"x\"", 422, BAD("body: expected object, found string")},
    {"422: number at the top", "12", 422, BAD("body: expected object, found integer")},
    {"422: null at the top", "null", 422, BAD("body: expected object, found null")},
    {"422: all required fields missing", "{}", 422,
     BAD("job_id: missing, expected string; prompt: missing, expected string; max_tokens: missing, "
         "expected integer")},
    {"422: every field of a wrong type is named",
     "{\"job_id\":1,\"prompt\":[],\"max_tokens\":\"1\",\"temperature\":\"hot\",\"seed\":\"1\","
     "\"top_p\":{},\"top_k\":1.0,"
     "\"repetition_penalty\":true,\"stop\":\"x\",\"min_p\":false}",
     422,
     BAD("job_id: expected string, found integer; prompt: expected string, found array; "
         "max_tokens: expected integer, found string; temperature: expected number, found string; "
         "seed: expected integer, found string; top_p: expected number, found object; "
         "top_k: expected integer, found fractional or too large number; "
         "repetition_penalty: expected number, found boolean; stop: expected array of strings, "
         "found string; "
         "min_p: expected number, found boolean")},
    {"422: null for job_id", "{\"job_id\":null,\"prompt\":\"p\",\"max_tokens\":1}", 422,
     BAD("job_id: expected string, found null")},
    {"422: null for prompt", "{\"job_id\":\"j\",\"prompt\":null,\"max_tokens\":1}", 422,
     BAD("prompt: expected string, found null")},
    {"422: null for max_tokens", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":null}", 422,
     BAD("max_tokens: expected integer, found null")},
    {"422: null for temperature", "{" FIXED ",\"temperature\":null}", 422,
     BAD("temperature: expected number, found null")},
    {"422: null for top_p", "{" FIXED ",\"top_p\":null}", 422,
     BAD("top_p: expected number, found null")},
    {"422: null for top_k", "{" FIXED ",\"top_k\":null}", 422,
     BAD("top_k: expected integer, found null")},
    {"422: null for repetition_penalty", "{" FIXED ",\"repetition_penalty\":null}", 422,
     BAD("repetition_penalty: expected number, found null")},
    {"422: null for stop", "{" FIXED ",\"stop\":null}", 422,
     BAD("stop: expected array of strings, found null")},
    {"422: null for min_p", "{" FIXED ",\"min_p\":null}", 422,
     BAD("min_p: expected number, found null")},
    {"422: null in stop", "{" FIXED ",\"stop\":[\"a\",null]}", 422,
     BAD("stop[1]: expected string, found null")},
    {"422: negative max_tokens", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":-1}", 422,
     BAD("max_tokens: expected integer from 0 to 4294967295, found integer")},
    {"422: fractional max_tokens", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":1.0}", 422,
     BAD("max_tokens: expected integer, found fractional or too large number")},
    {"422: max_tokens beyond 32 bits",
     "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":4294967296}", 422,
     BAD("max_tokens: expected integer from 0 to 4294967295, found integer")},
    {"422: max_tokens beyond 64 bits",
     "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":99999999999999999999}", 422,
     BAD("max_tokens: expected integer, found fractional or too large number")},
    {"422: max_tokens between 2^63 and 2^64",
     "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":18446744073709551615}", 422,
     BAD("max_tokens: expected integer, found fractional or too large number")},
    {"422: negative top_k", "{" FIXED ",\"top_k\":-1}", 422,
     BAD("top_k: expected integer from 0 to 4294967295, found integer")},
    {"422: top_k beyond 32 bits", "{" FIXED ",\"top_k\":4294967296}", 422,
     BAD("top_k: expected integer from 0 to 4294967295, found integer")},
    {"422: negative seed", "{" FIXED ",\"seed\":-1}", 422,
     BAD("seed: expected integer from 0 to 18446744073709551615, found integer")},
    {"422: fractional seed", "{" FIXED ",\"seed\":1.5}", 422,
     BAD("seed: expected integer, found fractional or too large number")},
    {"422: seed 2^64", "{" FIXED ",\"seed\":18446744073709551616}", 422,
     BAD("seed: expected integer, found fractional or too large number")},
    {"422: seed below -2^63", "{" FIXED ",\"seed\":-9223372036854775809}", 422,
     BAD("seed: expected integer, found fractional or too large number")},
    {"422: seed as text",
     "{" FIXED ",\"seed\":\"18446744073709551615\",\"other\":18446744073709551615}", 422,
     BAD("seed: expected integer, found string")},
    {"422 comes before the list", "{\"job_id\":\"\",\"prompt\":\"\",\"max_tokens\":\"0\"}", 422,
     BAD("max_tokens: expected integer, found string")},

    {"400: empty body", "", 400, ""},
    {"400: not JSON", "hello", 400, ""},
    {"400: cut off", "{" FIXED, 400, ""},
    {"400: bytes after the value", "{" FIXED "} x", 400, ""},
    {"400: duplicate key", "{" FIXED ",\"job_id\":\"k\"}", 400, ""},
    {"400: duplicate key, spelled differently", "{" FIXED ",\"job\\u005fid\":\"k\"}", 400, ""},
    {"400: duplicate seed beyond 2^63",
     "{" FIXED ",\"seed\":18446744073709551615,\"seed\":18446744073709551614}", 400, ""},
    {"400: trailing comma", "{" FIXED ",}", 400, ""},
    {"400: NaN", "{" FIXED ",\"temperature\":NaN}", 400, ""},
    {"400: Infinity", "{" FIXED ",\"temperature\":Infinity}", 400, ""},
    {"400: 1e400", "{" FIXED ",\"temperature\":1e400}", 400, ""},
    {"400: leading zero", "{" FIXED ",\"seed\":0123456789012345678901}", 400, ""},
    {"400: single quotes", "{'job_id':'j'}", 400, ""},
    {"400: comment", "{" FIXED "/**/}", 400, ""},
    {"400: byte order mark", "\xef\xbb\xbf{" FIXED "}", 400, ""},
    {"400: raw line feed in a string", "{\"job_id\":\"j\",\"prompt\":\"a\nb\",\"max_tokens\":1}",
     400, ""},
    {"400: invalid UTF-8", "{\"job_id\":\"j\",\"prompt\":\"\xff\",\"max_tokens\":1}", 400, ""},
    {"400: overlong UTF-8", "{\"job_id\":\"j\",\"prompt\":\"\xc0\x80\",\"max_tokens\":1}", 400, ""},
    {"400: lone surrogate", "{\"job_id\":\"j\",\"prompt\":\"\\ud800\",\"max_tokens\":1}", 400, ""},
    {"400: 33 levels deep",
     "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],\"job_id\":\"j\"}",
     400, ""},
};

static int parse(Request *r, const char *body, size_t n, JsonBuf *answer)
{
    return request_parse(r, body, n, backend, answer);
}

static void check_row(void **state)
{
    static const char not_json[] =
        "{\"code\":\"INVALID_REQUEST\",\"message\":\"Invalid request: body: ";
    const Row *row = *state;
    JsonBuf answer = {0};
    Request r;
    const int status = parse(&r, row->body, strlen(row->body), &answer);

    if (status == 200)
        request_free(&r);
    assert_int_equal(status, row->status);
    if (row->answer != NULL && row->answer[0] != '\0')
        assert_string_equal(answer.data, row->answer);
    if (row->answer != NULL && row->answer[0] == '\0')
        assert_memory_equal(answer.data, not_json, sizeof not_json - 1);
    json_buf_free(&answer);
}

/* {"job_id":"j","prompt":<n times unit>,"max_tokens":1,"stop":[<n_stop times unit>]} */
static char *long_body(const char *unit, size_t n, size_t n_stop)
{
    char *body = malloc(strlen(unit) * (n + n_stop) + 128);
    char *at = body;

    assert_non_null(body);
    at += sprintf(at, "{\"job_id\":\"j\",\"max_tokens\":1,\"prompt\":\"");
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, "%s", unit);
    at += sprintf(at, "\",\"stop\":[\"");
    for (size_t i = 0; i < n_stop; i++)
        at += sprintf(at, "%s", unit);
    sprintf(at, "\"]}");
    return body;
}

static void expect_long(const char *unit, size_t n, size_t n_stop, int status, const char *want)
{
    char *body = long_body(unit, n, n_stop);
    JsonBuf answer = {0};
    Request r;
    const int got = parse(&r, body, strlen(body), &answer);

    if (got == 200)
        request_free(&r);
    assert_int_equal(got, status);
    if (want != NULL)
        assert_string_equal(answer.data, want);
    json_buf_free(&answer);
    free(body);
}

static void prompt_length(void **state)
{
    (void)state;
    expect_long("x", 32768, 1, 200, NULL);
    expect_long("x", 32769, 1, 400,
                LIST(ENTRY("prompt", "length(1..=32768)",
                           "prompt must be at most 32768 characters (got 32769)")));
}

static void prompt_length_in_characters(void **state)
{
    (void)state;
    expect_long("\xf0\x9f\x91\x8b", 32768, 1, 200, NULL);
    expect_long("\xf0\x9f\x91\x8b", 32769, 1, 400,
                LIST(ENTRY("prompt", "length(1..=32768)",
                           "prompt must be at most 32768 characters (got 32769)")));
}

static void stop_length(void **state)
{
    (void)state;
    expect_long("y", 1, 100, 200, NULL);
    expect_long("y", 1, 101, 400,
                LIST(ENTRY("stop", "max_length(100)",
                           "stop sequence 0 must be at most 100 characters (got 101)")));
}

static void stop_length_in_characters(void **state)
{
    (void)state;
    expect_long("\xc3\xa9", 1, 100, 200, NULL);
    expect_long("\xc3\xa9", 1, 101, 400,
                LIST(ENTRY("stop", "max_length(100)",
                           "stop sequence 0 must be at most 100 characters (got 101)")));
}

static void bounds_the_entries(void **state)
{
    char *body = malloc(400000);
    char *at = body;
    JsonBuf answer = {0};
    Request r;
    int n = 0;

    (void)state;
    assert_non_null(body);
    at += sprintf(at, "{" FIXED ",\"stop\":[\"\"");
    for (int i = 0; i < 4000; i++)
        at += sprintf(at, ",\"\"");
    sprintf(at, "]}");
    assert_int_equal(parse(&r, body, strlen(body), &answer), 400);
    for (const char *p = answer.data; (p = strstr(p, "\"field\"")) != NULL; p++)
        n++;
    assert_int_equal(n, 1 + VALIDATE_MAX_STOP_ENTRIES);
    assert_non_null(strstr(answer.data, "(got 4001)"));
    json_buf_free(&answer);
    free(body);
}

static void fills_everything(void **state)
{
    static const char body[] =
        "{\"job_id\":\"id\",\"prompt\":\"a\\u0000b\",\"max_tokens\":7,\"temperature\":0.5,\"seed\":"
        "3,\"top_p\":0.25,"
        "\"top_k\":4294967295,\"repetition_penalty\":1.5,\"min_p\":0.125,\"stop\":[\"x\",\"yz\"]}";
    JsonBuf answer = {0};
    Request r;

    (void)state;
    assert_int_equal(parse(&r, body, sizeof body - 1, &answer), 200);
    assert_int_equal(r.job_id.n_bytes, 2);
    assert_memory_equal(r.job_id.text, "id", 2);
    assert_int_equal(r.run.prompt.n_bytes, 3);
    assert_memory_equal(r.run.prompt.text, "a\0b", 3);
    assert_null(r.run.prompt_ids);
    assert_int_equal(r.run.max_tokens, 7);
    assert_true(r.run.sampling.temperature == 0.5f && r.run.sampling.top_p == 0.25f);
    assert_true(r.run.sampling.repetition_penalty == 1.5f && r.run.sampling.min_p == 0.125f);
    assert_true(r.run.sampling.top_k == INT64_C(4294967295));
    assert_true(r.run.sampling.seed == 3);
    assert_int_equal(r.run.n_stops, 2);
    assert_memory_equal(r.run.stops[1].text, "yz", 2);
    request_free(&r);
    json_buf_free(&answer);
}

static void fills_defaults(void **state)
{
    static const char body[] = "{" FIXED "}";
    JsonBuf answer = {0};
    Request r;

    (void)state;
    assert_int_equal(parse(&r, body, sizeof body - 1, &answer), 200);
    assert_true(r.run.sampling.temperature == 1.0f && r.run.sampling.top_p == 1.0f);
    assert_true(r.run.sampling.repetition_penalty == 1.0f && r.run.sampling.min_p == 0.0f);
    assert_true(r.run.sampling.top_k == 0 && r.run.sampling.seed == 42 && r.run.n_stops == 0);
    request_free(&r);
    json_buf_free(&answer);
}

static void expect_seed(const char *extra, uint64_t seed)
{
    char body[256];
    JsonBuf answer = {0};
    Request r;

    snprintf(body, sizeof body, "{%s%s", extra, FIXED "}");
    assert_int_equal(parse(&r, body, strlen(body), &answer), 200);
    assert_true(r.run.sampling.seed == seed);
    request_free(&r);
    json_buf_free(&answer);
}

static void seeds(void **state)
{
    (void)state;
    expect_seed("\"seed\":0,", 0);
    expect_seed("\"seed\":9007199254740993,", UINT64_C(9007199254740993));
    expect_seed("\"seed\":9223372036854775807,", INT64_MAX);
    expect_seed("\"seed\":9223372036854775808,", UINT64_C(1) << 63);
    expect_seed("\"seed\" : 18446744073709551615 ,", UINT64_MAX);
    expect_seed("\"seed\":null,", 42);
}

static void seeds_beside_look_alikes(void **state)
{
    (void)state;
    expect_seed("\"a\":{\"seed\":18446744073709551614},", 42);
    expect_seed("\"a\":\"\\\"seed\\\":18446744073709551614\",\"seed\":18446744073709551613,",
                UINT64_C(18446744073709551613));
    expect_seed("\"b\":[18446744073709551614,\"seed\"],\"c\":99999999999999999999,\"seed\":"
                "18446744073709551612,",
                UINT64_C(18446744073709551612));
}

static void no_context_limit_while_loading(void **state)
{
    static const char body[] =
        "{\"job_id\":\"j\",\"prompt\":\"a b c d e f g h i\",\"max_tokens\":1}";
    JsonBuf answer = {0};
    Request r;

    (void)state;
    assert_int_equal(request_parse(&r, body, sizeof body - 1, NULL, &answer), 200);
    request_free(&r);
    json_buf_free(&answer);
}

static void every_prefix(void **state)
{
    static const char body[] = "{\"job_id\":\"j\",\"prompt\":\"p\\u00e9\",\"max_tokens\":1,"
                               "\"seed\":18446744073709551615,\"stop\":[\"a\"]}";
    Request r;

    (void)state;
    for (size_t n = 0; n < sizeof body - 1; n++) {
        JsonBuf answer = {0};
        char *copy = malloc(
            n > 0 ? n
                  : 1); /* its end is the end of an allocation: sanitizers see one byte too far */

        assert_non_null(copy);
        memcpy(copy, body, n);
        assert_int_equal(parse(&r, copy, n, &answer), 400);
        json_buf_free(&answer);
        free(copy);
    }
}

static void cancel_bodies(void **state)
{
    static const Row cancels[] = {
        {"", "{\"job_id\":\"a\",\"other\":1}", 200, NULL},
        {"", "{\"job_id\":\"\"}", 400,
         LIST(ENTRY_V("job_id", "non_empty", "job_id must not be empty", ""))},
        {"", "{}", 422, BAD("job_id: missing, expected string")},
        {"", "{\"job_id\":7}", 422, BAD("job_id: expected string, found integer")},
        {"", "{\"job_id\":null}", 422, BAD("job_id: expected string, found null")},
        {"", "[]", 422, BAD("body: expected object, found array")},
        {"", "x", 400, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cancels / sizeof *cancels; i++) {
        JsonBuf answer = {0};
        Request r;
        const int status =
            request_parse_cancel(&r, cancels[i].body, strlen(cancels[i].body), &answer);

        if (status == 200) {
            assert_memory_equal(r.job_id.text, "a", 1);
            request_free(&r);
        }
        assert_int_equal(status, cancels[i].status);
        if (cancels[i].answer != NULL)
            assert_string_equal(answer.data, cancels[i].answer);
        json_buf_free(&answer);
    }
}

static void expect_mode(SamplingParams p, const char *mode, const char *warning)
{
    char text[JOB_LOG_MODE_BYTES];
    const char *got = job_log_warning(&p);

    job_log_mode(text, &p);
    assert_string_equal(text, mode);
    assert_true((got == NULL) == (warning == NULL));
    if (warning != NULL)
        assert_non_null(strstr(got, warning));
}

static void sampling_modes(void **state)
{
    (void)state;
    expect_mode((SamplingParams){.temperature = 0, .top_p = 1, .repetition_penalty = 1}, "greedy",
                NULL);
    expect_mode((SamplingParams){.temperature = 0.7f, .top_p = 1, .repetition_penalty = 1},
                "stochastic(temp=0.70)", NULL);
    expect_mode((SamplingParams){.temperature = 0.7f,
                                 .top_p = 0.9f,
                                 .top_k = 50,
                                 .repetition_penalty = 1.1f,
                                 .min_p = 0.05f},
                "stochastic(temp=0.70, top_p=0.90, top_k=50, rep_penalty=1.10, min_p=0.05)", NULL);
    expect_mode(
        (SamplingParams){.temperature = 1, .top_p = 0.4f, .top_k = 9, .repetition_penalty = 1},
        "stochastic(temp=1.00, top_p=0.40, top_k=9)", "restrictive");
    expect_mode(
        (SamplingParams){.temperature = 0.4f, .top_p = 1, .repetition_penalty = 1, .min_p = 0.6f},
        "stochastic(temp=0.40, min_p=0.60)", "conflicting");
}

int main(void)
{
    static const struct CMUnitTest others[] = {
        {"row 3: prompt of 32768 passes, of 32769 does not", prompt_length, NULL, NULL, NULL},
        {"row 3: characters are counted, not bytes", prompt_length_in_characters, NULL, NULL, NULL},
        {"row 12: stop of 100 passes, of 101 does not", stop_length, NULL, NULL, NULL},
        {"row 12: characters are counted, not bytes", stop_length_in_characters, NULL, NULL, NULL},
        {"bounds the entries of a hostile stop list", bounds_the_entries, NULL, NULL, NULL},
        {"fills every field", fills_everything, NULL, NULL, NULL},
        {"fills the defaults", fills_defaults, NULL, NULL, NULL},
        {"takes seeds over the whole u64 range", seeds, NULL, NULL, NULL},
        {"is not misled by what looks like a seed", seeds_beside_look_alikes, NULL, NULL, NULL},
        {"leaves the context limit out while the model loads", no_context_limit_while_loading, NULL,
         NULL, NULL},
        {"refuses every prefix of a valid body", every_prefix, NULL, NULL, NULL},
        {"cancel: bodies", cancel_bodies, NULL, NULL, NULL},
        {"log: sampling modes and warnings", sampling_modes, NULL, NULL, NULL},
    };
    struct CMUnitTest tests[MAX_ROWS];
    const size_t n_rows = sizeof rows / sizeof *rows, n_others = sizeof others / sizeof *others;
    size_t n = 0;
    int failed;

    cmocka_set_message_output(CM_OUTPUT_TAP);
    backend = stub_backend_new("stub", N_CTX);
    if (backend == NULL || n_rows + n_others > MAX_ROWS)
        return 1;
    for (; n < n_rows; n++) {
        Row *row = malloc(sizeof *row); /* cmocka's state is not const */

        if (row == NULL)
            return 1;
        *row = rows[n];
        tests[n] = (struct CMUnitTest){row->name, check_row, NULL, NULL, row};
    }
    for (size_t i = 0; i < n_others; i++)
        tests[n++] = others[i];
    failed = _cmocka_run_group_tests("request", tests, n, NULL, NULL);
    for (size_t i = 0; i < n_rows; i++)
        free(tests[i].initial_state);
    backend->ops->free(backend);
    return failed == 0 ? 0 : 1;
}
