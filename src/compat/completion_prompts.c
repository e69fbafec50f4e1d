/* compat/completion_prompts.c: one prompt or many, as text or as token ids.
 *
 * May include: common, backend. */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "common/text.h"
#include "compat/completion_request.h"

static const char prompt[] = "prompt";
static const char expected[] = "a string, an array of strings, an array of token ids or an array "
                               "of arrays of token ids";

/* OpenAI's default for a prompt, which some clients send: it is no text either. */
static const BackendText end_of_text = {.text = "<|endoftext|>", .n_bytes = 13};

static bool is_empty(const json_t *v)
{
    const size_t n = field_is_text(v) ? json_string_length(v) : SIZE_MAX;

    return n == 0 ||
           (n == end_of_text.n_bytes && memcmp(json_string_value(v), end_of_text.text, n) == 0);
}

static void check_length(FieldReader *reader, int n_ctx, int n_tokens)
{
    if (n_tokens > n_ctx)
        field_fail(reader, 400, prompt, "context_length_exceeded",
                   "This model's maximum context length is %d tokens. However, your prompt has %d "
                   "tokens. Please reduce the length of the prompt.",
                   n_ctx, n_tokens);
}

/* Whether the text is counted now: no token is shorter than a byte, and what costs more than a long
 * prompt alone is left for later (completion_check_next). */
static bool must_count(CompletionRequest *r, const Backend *backend, size_t n_bytes)
{
    if (backend == NULL || n_bytes <= (size_t)backend->ops->info(backend)->n_ctx)
        return false;
    r->n_text_bytes += n_bytes;
    return r->n_text_bytes <= COMPLETION_CHECKED_BYTES;
}

static void check_text(FieldReader *reader, CompletionRequest *r, const json_t *text,
                       Backend *backend)
{
    const BackendText t = {.text = json_string_value(text), .n_bytes = json_string_length(text)};
    const size_t n_chars = text_utf8_count(t.text, t.n_bytes);

    if (n_chars > BACKEND_MAX_PROMPT_CHARS)
        field_fail(reader, 400, prompt, "string_above_max_length",
                   "Invalid 'prompt': string too long. Expected a string with maximum length %d, "
                   "but got a string with length %zu instead.",
                   (int)BACKEND_MAX_PROMPT_CHARS, n_chars);
    else if (must_count(r, backend, t.n_bytes))
        check_length(reader, backend->ops->info(backend)->n_ctx,
                     backend->ops->count_tokens(backend, t));
    if (r->n_text_bytes <= COMPLETION_CHECKED_BYTES)
        r->n_checked++;
}

static void check_ids(FieldReader *reader, const json_t *list, const Backend *backend)
{
    const BackendInfo *info = backend != NULL ? backend->ops->info(backend) : NULL;
    size_t n;
    const int32_t *ids = body_list(reader->body, list, &n);

    for (size_t i = 0; info != NULL && i < n; i++) {
        if (ids[i] >= 0 && ids[i] < info->vocab_size)
            continue;
        field_fail(reader, 400, prompt, "invalid_value",
                   "Invalid 'prompt': token id %d is outside the vocabulary (0 to %d).",
                   (int)ids[i], info->vocab_size - 1);
        return;
    }
    if (info != NULL)
        check_length(reader, info->n_ctx, n > INT32_MAX ? INT32_MAX : (int)n);
}

/* Element i of the prompt, or, nested, what is in it. */
static void refuse_type(FieldReader *reader, size_t i, const json_t *found, bool nested)
{
    field_fail(reader, 400, prompt, "invalid_type",
               "Invalid type for 'prompt': expected %s, but element %zu %s %s.", expected, i,
               nested ? "holds" : "is", field_type(found));
}

static bool is_id(const json_t *v)
{
    return json_is_integer(v) || field_is_huge(v);
}

/* Of integers only: they would be a BodyList if each were one of 32 bits. */
static void refuse_large_id(FieldReader *reader, const json_t *list, const Backend *backend)
{
    const int last = backend != NULL ? backend->ops->info(backend)->vocab_size - 1 : INT32_MAX;
    size_t i = 0;

    while (json_is_integer(json_array_get(list, i)) &&
           json_integer_value(json_array_get(list, i)) >= 0 &&
           json_integer_value(json_array_get(list, i)) <= last)
        i++;
    field_fail(reader, 400, prompt, "invalid_value",
               "Invalid 'prompt': token id %.17g is outside the vocabulary (0 to %d).",
               json_number_value(json_array_get(list, i)), last);
}

/* The first that is no id; the array's size: there is none. */
static size_t find_other(const json_t *list)
{
    size_t i = 0;

    while (i < json_array_size(list) && is_id(json_array_get(list, i)))
        i++;
    return i;
}

/* An array inside the prompt that is no list of ids. */
static void refuse_array(FieldReader *reader, size_t i, const json_t *array, const Backend *backend)
{
    const size_t other = find_other(array);

    if (json_array_size(array) == 0)
        field_fail(reader, 400, prompt, "empty_array",
                   "Invalid 'prompt': element %zu is an empty array. Expected an array with "
                   "minimum length 1.",
                   i);
    else if (other < json_array_size(array))
        refuse_type(reader, i, json_array_get(array, other), true);
    else
        refuse_large_id(reader, array, backend);
}

/* A prompt that begins with an id and is no list of ids. */
static void refuse_ids(FieldReader *reader, const json_t *list, const Backend *backend)
{
    const size_t other = find_other(list);

    if (other < json_array_size(list))
        refuse_type(reader, other, json_array_get(list, other), false);
    else
        refuse_large_id(reader, list, backend);
}

/* A list with something else in it than integers, or with integers that are no 32-bit ones. */
static void read_list(FieldReader *reader, CompletionRequest *r, const json_t *list,
                      Backend *backend)
{
    const size_t n = json_array_size(list);
    const bool texts = field_is_text(json_array_get(list, 0));
    const json_t *element;
    size_t i;

    if (n == 0)
        field_fail(reader, 400, prompt, "empty_array",
                   "Invalid 'prompt': empty array. Expected an array with minimum length 1.");
    else if (is_id(json_array_get(list, 0)))
        refuse_ids(reader, list, backend);
    else if (n > COMPLETION_MAX_RUNS)
        field_fail(reader, 400, prompt, "array_above_max_length",
                   "Invalid 'prompt': array too long. Expected an array with maximum length %d, "
                   "but got an array with length %zu instead.",
                   (int)COMPLETION_MAX_RUNS, n);
    json_array_foreach(list, i, element)
    {
        if (reader->status != 0)
            return;
        if (texts && field_is_text(element))
            check_text(reader, r, element, backend);
        else if (!texts && body_is_list(element))
            check_ids(reader, element, backend);
        else if (json_is_array(element) && !texts)
            refuse_array(reader, i, element, backend);
        else
            refuse_type(reader, i, element, false);
    }
    r->n_prompts = (int)n;
}

/* A text begins where the model was taught that texts do, which needs the token. */
static void find_end_of_text(FieldReader *reader, CompletionRequest *r, Backend *backend)
{
    const int32_t *ids;
    bool special = false;
    size_t n = 0, n_name;

    r->end_of_text = -1;
    if (backend == NULL)
        return;
    ids = backend->ops->tokenize(backend, end_of_text, true, &n);
    if (ids != NULL && n == 1 &&
        backend->ops->token_text(backend, ids[0], &n_name, &special) != NULL && special)
        r->end_of_text = ids[0];
    else
        field_fail(reader, 400, prompt, "missing_required_parameter",
                   "Missing required parameter: 'prompt'. This model has no end-of-text token that "
                   "could stand for an empty one.");
}

static bool needs_end_of_text(const json_t *v)
{
    const json_t *element;
    size_t i;

    if (v == NULL || is_empty(v))
        return true;
    json_array_foreach(v, i, element)
    {
        if (is_empty(element))
            return true;
    }
    return false;
}

void completion_read_prompts(FieldReader *reader, CompletionRequest *r, Backend *backend)
{
    const json_t *v = field_get(reader, prompt);

    if (reader->status != 0)
        return;
    r->n_prompts = 1;
    if (body_is_list(v))
        check_ids(reader, v, backend);
    else if (json_is_array(v))
        read_list(reader, r, v, backend);
    else if (field_is_text(v))
        check_text(reader, r, v, backend);
    else if (v != NULL)
        field_wrong_type(reader, prompt, expected, v);
    if (reader->status == 0 && needs_end_of_text(v))
        find_end_of_text(reader, r, backend);
}

void completion_request_prompt(const CompletionRequest *r, int i, BackendRequest *run)
{
    const json_t *v = json_object_get(r->body.root, prompt);
    const json_t *one = json_is_array(v) ? json_array_get(v, (size_t)i) : v;

    run->prompt = (BackendText){.text = ""};
    run->prompt_ids = NULL;
    run->n_prompt_ids = 0;
    if (body_is_list(one)) {
        run->prompt_ids = body_list(&r->body, one, &run->n_prompt_ids);
    } else if (field_is_text(one) && !is_empty(one)) {
        run->prompt =
            (BackendText){.text = json_string_value(one), .n_bytes = json_string_length(one)};
    } else {
        run->prompt_ids = &r->end_of_text;
        run->n_prompt_ids = 1;
    }
}

bool completion_request_check(CompletionRequest *r, Backend *backend, bool *too_long)
{
    BackendRequest run;
    int n;

    *too_long = false;
    if (r->n_checked >= r->n_prompts)
        return false;
    completion_request_prompt(r, r->n_checked++, &run);
    if (run.prompt_ids == NULL) {
        n = backend->ops->count_tokens(backend, run.prompt);
        *too_long = n < 0 || n > backend->ops->info(backend)->n_ctx;
    }
    return !*too_long;
}
