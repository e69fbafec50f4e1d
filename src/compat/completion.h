/* compat/completion.h: a completion from its request to its answer: prompt after prompt, and for
 * each one choice after the other, each of which is one run of the backend.
 *
 * May include: common, backend. */
#ifndef LLORCH_COMPAT_COMPLETION_H
#define LLORCH_COMPAT_COMPLETION_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/json.h"
#include "compat/choice.h"
#include "compat/completion_request.h"

enum {
    COMPLETION_ID_BYTES = 5 + 128 + 1, /* "cmpl-" and a correlation id */
    /* An answer in one piece is kept until it is whole. */
    COMPLETION_MAX_ANSWER = 64 * 1024 * 1024,
    COMPLETION_CHUNK_BYTES = 4096 /* of a prompt that is echoed go into a chunk */
};

typedef struct {
    CompletionRequest request; /* owned */
    char id[COMPLETION_ID_BYTES];
    int64_t created;
    int prompt, choice;                  /* of the run */
    Choice now;                          /* of the run */
    Choice kept[COMPLETION_MAX_CHOICES]; /* of this prompt, until the best are known */
    JsonBuf answer;                      /* in one piece, as far as it is known */
    int n_written;                       /* choices in it */
    int64_t prompt_tokens, cached_tokens, completion_tokens;
} Completion;

/* Begins with the first run; the request is taken. correlation_id: of at most 128 bytes. */
void completion_begin(Completion *c, const CompletionRequest *request, const char *correlation_id);

/* The run that comes next, or is computed, into *run. */
void completion_run(const Completion *c, BackendRequest *run);

/* One of the backend's tokens. */
void completion_add(Completion *c, const Backend *b, const BackendStep *step);

/* The run is over: end is its STEP_END. */
void completion_end_run(Completion *c, const Backend *b, const BackendStep *end);

/* Goes on to the next run; false: there is none. */
bool completion_next(Completion *c);

/* A stream: whether what was added since the last chunk should go out, and the JSON of the chunk.
 */
bool completion_has_chunk(const Completion *c, const BackendStep *step);
void completion_chunk(Completion *c, const Backend *b, JsonBuf *out);
void completion_usage_chunk(const Completion *c, const Backend *b, JsonBuf *out);

/* The answer in one piece is whole in c->answer, once the last run is over. */
void completion_finish(Completion *c);

/* What cannot go on: no memory, or the answer has become too large. */
bool completion_oom(const Completion *c);
bool completion_too_large(const Completion *c);

void completion_free(Completion *c);

#endif
