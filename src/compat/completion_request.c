/* compat/completion_request.c: every member of OpenAI's schema is read, or refused; null is the
 * default everywhere but for the model.
 *
 * May include: common, backend, sampling. */
#include "compat/completion_request.h"

#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "compat/api_error.h"

enum { MAX_BIAS_KEY = 10 };

static void read_model(FieldReader *reader, Backend *backend)
{
    const json_t *v = json_object_get(reader->body->root, "model");
    const char *own = backend != NULL ? backend->ops->info(backend)->model_name : NULL;
    char shown[128];

    if (v == NULL || reader->status != 0)
        return;
    if (!field_is_text(v)) {
        field_wrong_type(reader, "model", "a string", v);
        return;
    }
    if (own == NULL || (strlen(own) == json_string_length(v) &&
                        memcmp(own, json_string_value(v), json_string_length(v)) == 0))
        return;
    text_escape(shown, sizeof shown, json_string_value(v), json_string_length(v));
    field_fail(reader, 404, "model", "model_not_found",
               "The model '%s' does not exist. This worker has '%.100s'.", shown, own);
}

static void add_stop(FieldReader *reader, CompletionRequest *r, const json_t *v)
{
    const BackendText t = {.text = json_string_value(v), .n_bytes = json_string_length(v)};
    size_t n_chars;

    if (!field_is_text(v)) {
        field_wrong_type(reader, "stop", "a string or an array of strings", v);
        return;
    }
    n_chars = text_utf8_count(t.text, t.n_bytes);
    if (n_chars < 1 || n_chars > BACKEND_MAX_STOP_CHARS)
        field_fail(reader, 400, "stop",
                   n_chars < 1 ? "string_below_min_length" : "string_above_max_length",
                   "Invalid 'stop': expected strings of 1 to %d characters, but got one of %zu "
                   "instead.",
                   (int)BACKEND_MAX_STOP_CHARS, n_chars);
    else
        r->run.stops[r->run.n_stops++] = t;
}

static void read_stop(FieldReader *reader, CompletionRequest *r)
{
    const json_t *v = field_get(reader, "stop"), *element;
    size_t i;

    if (v == NULL)
        return;
    if (!json_is_array(v)) {
        add_stop(reader, r, v);
        return;
    }
    if (json_array_size(v) > BACKEND_MAX_STOPS)
        field_fail(reader, 400, "stop", "array_above_max_length",
                   "Invalid 'stop': array too long. Expected an array with maximum length %d, but "
                   "got an array with length %zu instead.",
                   (int)BACKEND_MAX_STOPS, json_array_size(v));
    json_array_foreach(v, i, element)
    {
        if (reader->status != 0)
            return;
        add_stop(reader, r, element);
    }
}

/* -1: not an id as JSON would spell it. */
static int64_t bias_id(const char *key)
{
    const size_t n = strspn(key, "0123456789");

    if (n == 0 || n > MAX_BIAS_KEY || key[n] != '\0' || (key[0] == '0' && n > 1))
        return -1;
    return strtoll(key, NULL, 10);
}

static void add_bias(FieldReader *reader, CompletionRequest *r, const char *key, const json_t *v,
                     int64_t vocab_size)
{
    const int64_t id = bias_id(key);
    const double add = json_number_value(v);
    char shown[40];

    text_escape(shown, sizeof shown, key, strlen(key));
    if (id < 0 || id >= vocab_size)
        field_fail(reader, 400, "logit_bias", "invalid_value",
                   "Invalid 'logit_bias': key '%s' is not a token id of this model (0 to %lld).",
                   shown, (long long)vocab_size - 1);
    else if (!json_is_number(v) || !(add >= -100 && add <= 100))
        field_fail(reader, 400, "logit_bias", "invalid_value",
                   "Invalid 'logit_bias': the value of '%s' is not a number from -100 to 100.",
                   shown);
    else
        json_buf_add(&r->bias_bytes,
                     (const char *)&(SamplingBias){.id = (int32_t)id, .add = (float)add},
                     sizeof(SamplingBias));
}

static void read_logit_bias(FieldReader *reader, CompletionRequest *r, const Backend *backend)
{
    json_t *v = field_get(reader, "logit_bias"), *value;
    const char *key;

    if (v == NULL)
        return;
    if (!json_is_object(v)) {
        field_wrong_type(reader, "logit_bias", "an object", v);
        return;
    }
    if (json_object_size(v) > SAMPLING_MAX_BIAS)
        field_fail(reader, 400, "logit_bias", "object_above_max_properties",
                   "Invalid 'logit_bias': expected at most %d token ids, but got %zu instead.",
                   (int)SAMPLING_MAX_BIAS, json_object_size(v));
    json_object_foreach(v, key, value)
    {
        if (reader->status != 0)
            return;
        add_bias(reader, r, key, value,
                 backend != NULL ? backend->ops->info(backend)->vocab_size : INT32_MAX);
    }
    r->run.sampling.n_bias = (int)(r->bias_bytes.len / sizeof(SamplingBias));
    r->run.sampling.bias = (const SamplingBias *)(const void *)r->bias_bytes.data;
}

static void read_seed(FieldReader *reader, uint64_t *seed)
{
    const json_t *v = field_get(reader, "seed");

    if (v == NULL)
        return;
    if (reader->body->seed.present)
        *seed = reader->body->seed.value;
    else if (json_is_integer(v))
        *seed = (uint64_t)json_integer_value(v); /* negative ones are seeds as well */
    else if (field_is_huge(v))
        field_fail(reader, 400, "seed", "invalid_value",
                   "Invalid 'seed': expected an integer from -2^63 to 2^64 - 1, but got %.17g "
                   "instead.",
                   json_real_value(v));
    else
        field_wrong_type(reader, "seed", "an integer", v);
}

static void read_suffix(FieldReader *reader)
{
    const json_t *v = field_text(reader, "suffix");

    if (json_string_length(v) > 0)
        field_fail(reader, 400, "suffix", "unsupported_parameter",
                   "Unsupported parameter: 'suffix' is not supported with this model.");
}

static void read_sampling(FieldReader *reader, CompletionRequest *r, const Backend *backend)
{
    SamplingParams *p = &r->run.sampling;
    int64_t top_k = 0;

    field_float(reader, "temperature", 0, 2, &p->temperature);
    field_float(reader, "top_p", 0, 1, &p->top_p);
    field_float(reader, "presence_penalty", -2, 2, &p->presence_penalty);
    field_float(reader, "frequency_penalty", -2, 2, &p->frequency_penalty);
    read_logit_bias(reader, r, backend);
    read_seed(reader, &p->seed);
    field_int(reader, "top_k", -1, UINT32_MAX, &top_k); /* -1 and 0: off, as elsewhere */
    field_float(reader, "min_p", 0, 1, &p->min_p);
    field_float(reader, "repetition_penalty", 0, 2, &p->repetition_penalty);
    p->top_k = top_k < 0 ? 0 : top_k;
}

static void read_stream(FieldReader *reader, CompletionRequest *r)
{
    json_t *v;

    field_bool(reader, "stream", &r->stream);
    v = field_get(reader, "stream_options");
    if (v == NULL)
        return;
    if (!json_is_object(v)) {
        field_wrong_type(reader, "stream_options", "an object", v);
    } else if (!r->stream) {
        field_fail(reader, 400, "stream_options", "invalid_value",
                   "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    } else {
        static const char *const known[] = {"include_usage", "include_obfuscation", NULL};
        const Body inner = {.root = v};
        FieldReader options = {.body = &inner};
        bool obfuscation = false;

        field_check_known(&options, known);
        field_bool(&options, "include_usage", &r->include_usage);
        field_bool(&options, "include_obfuscation", &obfuscation);
        if (obfuscation)
            field_fail(&options, 400, "include_obfuscation", "unsupported_parameter",
                       "Unsupported parameter: 'include_obfuscation' is not supported.");
        if (options.status != 0)
            field_fail(reader, options.status, "stream_options", options.code, "%s",
                       options.message);
    }
}

static void read_choices(FieldReader *reader, CompletionRequest *r)
{
    int64_t n = 1, best_of;

    field_int(reader, "n", 1, COMPLETION_MAX_CHOICES, &n);
    best_of = n;
    field_int(reader, "best_of", 1, COMPLETION_MAX_CHOICES, &best_of);
    if (best_of < n)
        field_fail(reader, 400, "best_of", "invalid_value",
                   "Invalid 'best_of': expected at least 'n', which is %d, but got %d instead.",
                   (int)n, (int)best_of);
    if (r->stream && best_of > 1)
        field_fail(reader, 400, n > 1 ? "n" : "best_of", "invalid_value",
                   "Invalid '%s': more than one choice cannot be streamed.",
                   n > 1 ? "n" : "best_of");
    r->n = (int)n;
    r->best_of = (int)best_of;
    if (reader->status == 0 && r->n_prompts * r->best_of > COMPLETION_MAX_RUNS)
        field_fail(reader, 400, "prompt", "array_above_max_length",
                   "Too many completions: %d prompts times %d choices, expected at most %d.",
                   r->n_prompts, r->best_of, (int)COMPLETION_MAX_RUNS);
}

static void read_all(FieldReader *reader, CompletionRequest *r, Backend *backend)
{
    static const char *const known[] = {"model",
                                        "prompt",
                                        "suffix",
                                        "max_tokens",
                                        "temperature",
                                        "top_p",
                                        "n",
                                        "best_of",
                                        "stream",
                                        "stream_options",
                                        "logprobs",
                                        "echo",
                                        "stop",
                                        "presence_penalty",
                                        "frequency_penalty",
                                        "logit_bias",
                                        "seed",
                                        "user",
                                        "top_k",
                                        "min_p",
                                        "repetition_penalty",
                                        NULL};
    int64_t max_tokens = COMPLETION_DEFAULT_TOKENS, logprobs = -1;

    field_check_known(reader, known);
    read_model(reader, backend);
    completion_read_prompts(reader, r, backend);
    read_suffix(reader);
    field_bool(reader, "echo", &r->echo);
    field_int(reader, "max_tokens", r->echo ? 0 : 1, BACKEND_MAX_NEW_TOKENS, &max_tokens);
    read_sampling(reader, r, backend);
    read_stream(reader, r);
    read_choices(reader, r);
    field_int(reader, "logprobs", 0, BACKEND_MAX_LOGPROBS, &logprobs);
    read_stop(reader, r);
    (void)field_text(reader, "user"); /* who asks: nothing depends on it */
    r->logprobs = (int)logprobs;
    r->run.max_tokens = (int)max_tokens;
    r->run.score_prompt = r->echo;
    r->run.want_scores = logprobs >= 0 || r->best_of > r->n;
    r->run.n_best = logprobs > 0 ? (int)logprobs : 0;
}

/* The tree of a body, or what is wrong with it as a whole. */
static void parse_body(FieldReader *reader, Body *body, const char *text, size_t n)
{
    static const BodyRules rules = {.take_lists = true};
    Err err = {.code = ERR_OK};

    if (body_parse(body, text, n, &rules, &err) == ERR_MEMORY)
        field_fail(reader, 500, NULL, NULL, "out of memory");
    else if (err.code != ERR_OK)
        field_fail(reader, 400, NULL, NULL, "We could not parse the JSON body of your request: %s",
                   err.msg);
    else if (!json_is_object(body->root) || body_is_list(body->root))
        field_fail(reader, 400, NULL, "invalid_type",
                   "Invalid type for the body: expected an object.");
}

int completion_request_parse(CompletionRequest *r, const char *body, size_t n, Backend *backend,
                             JsonBuf *answer)
{
    CompletionRequest q = {.run.sampling = sampling_defaults()};
    FieldReader reader = {.body = &q.body};
    ApiError error;

    answer->len = 0;
    parse_body(&reader, &q.body, body, n);
    if (reader.status == 0)
        read_all(&reader, &q, backend);
    if (q.bias_bytes.oom)
        field_fail(&reader, 500, NULL, NULL, "out of memory");
    if (reader.status == 0) {
        *r = q;
        return 200;
    }
    error = field_error(&reader);
    api_error_openai(answer, &error);
    completion_request_free(&q);
    return reader.status;
}

void completion_request_free(CompletionRequest *r)
{
    body_free(&r->body);
    json_buf_free(&r->bias_bytes);
    *r = (CompletionRequest){.n_prompts = 0};
}
