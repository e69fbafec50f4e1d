/* compat/choice.h: one choice of a completion while its tokens come: its text, and what OpenAI's
 * "logprobs" say of each token, as JSON that only has to be put together.
 *
 * May include: common, backend. */
#ifndef LLORCH_COMPAT_CHOICE_H
#define LLORCH_COMPAT_CHOICE_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/backend.h"
#include "common/json.h"

typedef struct {
    JsonBuf text; /* UTF-8 */
    /* The elements of the four lists, with commas. */
    JsonBuf tokens, token_logprobs, top_logprobs, text_offset;
    int n_listed;   /* elements in each list */
    size_t n_chars; /* of prompt and text: where the next token begins */
    char held[4];   /* of a character that is not whole yet */
    size_t n_held;
    bool has_generated; /* the tokens are no longer the prompt's */
    int n_generated;
    double logprob;        /* sum over the generated tokens */
    StopReason reason;     /* STOP_NONE: not over yet */
    bool has_been_written; /* in part */
} Choice;

/* Characters that stand before the first token. choice_count_text: in valid UTF-8. */
void choice_count_text(Choice *c, BackendText text);
void choice_count_ids(Choice *c, const Backend *b, const int32_t *ids, size_t n);

/* A token of the prompt or a generated one, or the end of text that the model chose (STEP_END with
 * an id): a token like others, which has no text. with_logprobs: it is listed too. */
void choice_add(Choice *c, const Backend *b, const BackendStep *step, bool with_logprobs);

/* Of one token, on average; what best_of compares. */
double choice_mean_logprob(const Choice *c);

/* Bytes that were added since the last choice_write. */
size_t choice_size(const Choice *c);
bool choice_oom(const Choice *c);

/* {"text":..,"index":..,"logprobs":..,"finish_reason":..} with everything since the last write,
 * which is dropped. */
void choice_write(Choice *c, int index, bool with_logprobs, JsonBuf *out);

/* Gives back all memory; the choice is empty then. */
void choice_free(Choice *c);

#endif
