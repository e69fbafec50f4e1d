/* compat/completion_request.h: the body of POST /v1/completions: from bytes to prompts and settings
 * that can be computed, or to the answer that says what is wrong (docs/openai.md).
 *
 * May include: common, backend, sampling. */
#ifndef LLORCH_COMPAT_COMPLETION_REQUEST_H
#define LLORCH_COMPAT_COMPLETION_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/body.h"
#include "common/json.h"
#include "compat/field_reader.h"
#include "sampling/sampler.h"

enum {
    COMPLETION_MAX_CHOICES = 8, /* n and best_of */
    COMPLETION_MAX_RUNS = 128,  /* prompts times best_of */
    COMPLETION_DEFAULT_TOKENS = 16,
    COMPLETION_CHECKED_BYTES = 4 * BACKEND_MAX_PROMPT_CHARS /* of text, while the request waits */
};

typedef struct {
    Body body; /* owned; what is below points into it */
    int n_prompts;
    int n_checked;       /* the lengths of these are known to fit; of ids always */
    size_t n_text_bytes; /* that had to be counted */
    int n, best_of;      /* best_of >= n: so many are computed for each prompt */
    bool stream, include_usage, echo;
    int logprobs;        /* -1: none, not even those of the tokens */
    BackendRequest run;  /* all but the prompt, with the seed of the first choice */
    JsonBuf bias_bytes;  /* SamplingBias, which run points to */
    int32_t end_of_text; /* the prompt of a request without one */
} CompletionRequest;

/* Parses and checks everything. backend NULL, while it is loading, leaves out what only it knows.
 * Returns 200 with *r filled (free it with completion_request_free), or another status with the
 * body of the answer in *answer and nothing to free. */
int completion_request_parse(CompletionRequest *r, const char *body, size_t n, Backend *backend,
                             JsonBuf *answer);

void completion_request_free(CompletionRequest *r);

/* Prompt i of n_prompts into *run, whose other members stay. */
void completion_request_prompt(const CompletionRequest *r, int i, BackendRequest *run);

/* Counts the tokens of the next prompt whose length is not known yet: a few milliseconds at most.
 * False when none is left, or when it does not fit (*too_long). */
bool completion_request_check(CompletionRequest *r, Backend *backend, bool *too_long);

/* completion_prompts.c: the member "prompt". */
void completion_read_prompts(FieldReader *reader, CompletionRequest *r, Backend *backend);

#endif
