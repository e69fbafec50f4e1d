/* checkpoint/greedy.h: the generation loop of checkpoint 12, without a worker around it: prompt,
 * argmax, one token a pass.
 *
 * May include: common, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_GREEDY_H
#define LLORCH_CHECKPOINT_GREEDY_H

#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* Prompts are at most 32,768 characters of up to four bytes. */
enum { GREEDY_MAX_TEXT_BYTES = 4 * 32768 };

/* Continues prompt[0..n_prompt) by exactly n ids at temperature 0 from a fresh run; an end-of-text
 * id counts like any other, as in the recorded texts.
 *
 * Memory  ids: room for n. Everything else is freed again.
 * Errors  ERR_USAGE (no prompt, an id outside the vocabulary, n < 1), ERR_LIMIT (n_prompt + n - 1
 * positions exceed the model's context), ERR_NUMERIC, ERR_MEMORY. */
ErrCode greedy_continue(const Gpt2 *m, const Kernels *k, const int32_t *prompt, int n_prompt,
                        int32_t *ids, int n, Err *err) ERR_CHECK;

/* Appends the text of ids to out (whole characters, invalid bytes become U+FFFD), as a streaming
 * client would see it. Errors: ERR_USAGE for an id the tokenizer does not have, ERR_MEMORY. */
ErrCode greedy_text(const Tokenizer *t, const int32_t *ids, int n, JsonBuf *out,
                    Err *err) ERR_CHECK;

/* The ids of text[0..n_bytes). *ids: [*n_ids], in room, which the caller frees with arena_free
 * (also after an error). Errors: ERR_LIMIT (longer than any prompt), ERR_MEMORY. */
ErrCode greedy_encode(const Tokenizer *t, const char *text, size_t n_bytes, Arena *room,
                      const int32_t **ids, int *n_ids, Err *err) ERR_CHECK;

#endif
