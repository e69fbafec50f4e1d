/* worker/request.c: types first (422, every offending field named), then hands over to validate.c
 * for the ranges.
 *
 * May include: common, backend. */
#include "worker/request.h"

#include <string.h>

#include "common/body.h"
#include "worker/validate.h"

enum { DEFAULT_SEED = 42 };

/* Offending fields, collected for one message. */
typedef struct {
    JsonBuf text;
    int n;
} Offenders;

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "fractional or too large number";
    case JSON_NULL:
        return "null";
    default:
        return "boolean";
    }
}

static void offend(Offenders *o, const char *field, const char *expected, const json_t *found)
{
    if (o->n++ > 0)
        json_buf_printf(&o->text, "; ");
    if (found == NULL)
        json_buf_printf(&o->text, "%s: missing, expected %s", field, expected);
    else
        json_buf_printf(&o->text, "%s: expected %s, found %s", field, expected, type_name(found));
}

static BackendText text_of(const json_t *s)
{
    return (BackendText){.text = json_string_value(s), .n_bytes = json_string_length(s)};
}

static void read_string(const json_t *root, const char *field, BackendText *out, Offenders *o)
{
    const json_t *v = json_object_get(root, field);

    if (!json_is_string(v))
        offend(o, field, "string", v);
    else
        *out = text_of(v);
}

static void read_u32(const json_t *root, const char *field, bool required, uint32_t *out,
                     Offenders *o)
{
    const json_t *v = json_object_get(root, field);
    const json_int_t i = json_integer_value(v);

    if (v == NULL && !required)
        return;
    if (!json_is_integer(v))
        offend(o, field, "integer", v);
    else if (i < 0 || i > (json_int_t)UINT32_MAX)
        offend(o, field, "integer from 0 to 4294967295", v);
    else
        *out = (uint32_t)i;
}

static void read_f32(const json_t *root, const char *field, float *out, Offenders *o)
{
    const json_t *v = json_object_get(root, field);

    if (v == NULL)
        return;
    if (!json_is_number(v))
        offend(o, field, "number", v);
    else
        *out = json_is_integer(v) ? (float)json_integer_value(v) : (float)json_real_value(v);
}

static void read_seed(const json_t *root, const BodySeed *big, uint64_t *out, Offenders *o)
{
    const json_t *v = json_object_get(root, "seed");

    if (big->present) {
        *out = big->value;
        return;
    }
    if (v == NULL || json_is_null(v))
        return;
    if (!json_is_integer(v))
        offend(o, "seed", "integer", v);
    else if (json_integer_value(v) < 0)
        offend(o, "seed", "integer from 0 to 18446744073709551615", v);
    else
        *out = (uint64_t)json_integer_value(v);
}

/* Only the first element of a wrong type is named: a list may be as long as the body. */
static void read_stop(const json_t *root, const json_t **out, Offenders *o)
{
    const json_t *list = json_object_get(root, "stop");
    char name[48];

    if (list == NULL)
        return;
    if (!json_is_array(list)) {
        offend(o, "stop", "array of strings", list);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_is_string(json_array_get(list, i)))
            continue;
        snprintf(name, sizeof name, "stop[%zu]", i);
        offend(o, name, "string", json_array_get(list, i));
        return;
    }
    *out = list;
}

void request_error_body(JsonBuf *answer, const char *code, const char *message, bool retriable)
{
    static const struct {
        const char *code, *prefix;
    } kinds[] = {{"INVALID_REQUEST", "Invalid request: "},
                 {"WORKER_UNHEALTHY", "Worker unhealthy: "},
                 {"INTERNAL", "Internal error: "}};
    JsonBuf text = {0};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(code, kinds[i].code) == 0)
            json_buf_printf(&text, "%s", kinds[i].prefix);
    json_buf_printf(&text, "%s", message);
    json_buf_printf(answer, "{\"code\":\"%s\",\"message\":", code);
    json_buf_string(answer, text.data != NULL ? text.data : "", text.len);
    json_buf_printf(answer, ",\"retriable\":%s}", retriable ? "true" : "false");
    answer->oom |= text.oom;
    json_buf_free(&text);
}

/* 422 with all offenders, or 200 when there are none. */
static int answer_offenders(Offenders *o, JsonBuf *answer)
{
    const int status = o->text.oom ? 500 : o->n > 0 ? 422 : 200;

    if (status == 500)
        request_error_body(answer, "INTERNAL", "out of memory", true);
    else if (status == 422)
        request_error_body(answer, "INVALID_REQUEST", o->text.data, false);
    json_buf_free(&o->text);
    return status;
}

/* The tree of a body that is a JSON object; else NULL with the answer and its status. Unknown
 * members are ignored. */
static json_t *parse_object(const char *body, size_t n, BodySeed *seed, JsonBuf *answer,
                            int *status)
{
    static const char *const known[] = {"job_id", "prompt", "max_tokens", "temperature",
                                        "seed",   "top_p",  "top_k",      "repetition_penalty",
                                        "stop",   "min_p",  NULL};
    static const BodyRules rules = {.known = known};
    Err err = {.code = ERR_OK};
    Offenders o = {.n = 0};
    Body parsed;

    if (body_parse(&parsed, body, n, &rules, &err) != ERR_OK) {
        const bool memory = err.code == ERR_MEMORY;

        *status = memory ? 500 : 400;
        request_error_body(answer, memory ? "INTERNAL" : "INVALID_REQUEST", err.msg, memory);
        return NULL;
    }
    *seed = parsed.seed;
    if (json_is_object(parsed.root))
        return parsed.root; /* there are no lists */
    offend(&o, "body", "object", parsed.root);
    *status = answer_offenders(&o, answer);
    body_free(&parsed);
    return NULL;
}

static int finish(Request *r, const Request *checked, int status)
{
    if (status == 200)
        *r = *checked;
    else
        json_decref(checked->root);
    return status;
}

int request_parse(Request *r, const char *body, size_t n, Backend *backend, JsonBuf *answer)
{
    Request q = {
        .run.sampling = {
            .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f, .seed = DEFAULT_SEED}};
    SamplingParams *const p = &q.run.sampling;
    const json_t *stop = NULL;
    uint32_t max_tokens = 0, top_k = 0;
    BodySeed seed;
    Offenders o = {.n = 0};
    int status;

    answer->len = 0;
    q.root = parse_object(body, n, &seed, answer, &status);
    if (q.root == NULL)
        return status;
    read_string(q.root, "job_id", &q.job_id, &o);
    read_string(q.root, "prompt", &q.run.prompt, &o);
    read_u32(q.root, "max_tokens", true, &max_tokens, &o);
    read_f32(q.root, "temperature", &p->temperature, &o);
    read_seed(q.root, &seed, &p->seed, &o);
    read_f32(q.root, "top_p", &p->top_p, &o);
    read_u32(q.root, "top_k", false, &top_k, &o);
    read_f32(q.root, "repetition_penalty", &p->repetition_penalty, &o);
    read_stop(q.root, &stop, &o);
    read_f32(q.root, "min_p", &p->min_p, &o);
    p->top_k = (int64_t)top_k;
    status = answer_offenders(&o, answer);
    if (status == 200)
        status = validate_request(&q.run, q.job_id, max_tokens, stop, backend, answer);
    return finish(r, &q, status);
}

int request_parse_cancel(Request *r, const char *body, size_t n, JsonBuf *answer)
{
    Request q = {.root = NULL};
    BodySeed seed;
    Offenders o = {.n = 0};
    int status;

    answer->len = 0;
    q.root = parse_object(body, n, &seed, answer, &status);
    if (q.root == NULL)
        return status;
    read_string(q.root, "job_id", &q.job_id, &o);
    status = answer_offenders(&o, answer);
    if (status == 200)
        status = validate_job_id(q.job_id, answer);
    return finish(r, &q, status);
}

void request_free(Request *r)
{
    json_decref(r->root);
    *r = (Request){.root = NULL};
}
