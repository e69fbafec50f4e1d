/* eval/windows.h: a text in strided windows through one model or two: every token but the first is
 * predicted exactly once.
 *
 * Window i holds the inputs at i * stride and after, at most `context` of them, in a fresh cache.
 * An input predicts the token after it. The first window scores all of its predictions, each later
 * one only those that no window before it has made: its last `stride` ones. A token is so predicted
 * from at least context - stride + 1 tokens before it (from all there are, at the beginning) and
 * from at most `context`.
 *
 * Source  Hugging Face, "Perplexity of fixed-length models", which counts a window's last token as
 *         part of it: its windows of N tokens are those of context N - 1 here.
 *
 * May include: common, kernels, model. */
#ifndef LLORCH_EVAL_WINDOWS_H
#define LLORCH_EVAL_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"

typedef struct {
    size_t first;     /* index of its first input */
    int n_inputs;     /* 1 .. context */
    int first_scored; /* rows before it were scored by earlier windows */
} Window;

/* Of a text of n_ids >= 2 tokens. context >= 1, stride in 1..context. */
size_t windows_count(size_t n_ids, int context, int stride);
Window windows_at(size_t n_ids, int context, int stride, size_t i);

enum { WINDOWS_MAX_MODELS = 2 };

typedef struct {
    const Gpt2 *models[WINDOWS_MAX_MODELS];
    int n_models; /* 1 or 2, with the same tokens */
    const Kernels *k;
    KernType kv_type;
    const int32_t *ids; /* [n_ids], borrowed */
    size_t n_ids;
    int context, stride;
    int n_vocab; /* logits that count: the tokenizer's tokens; a model may have rows of padding
                    behind them */
    Gpt2Progress progress;
} WindowsPlan;

/* Who is told about the rows. */
typedef struct {
    void *ctx;
    /* ids[target] is to be predicted from these rows of finite logits, one [n_vocab] a model. */
    void (*row)(void *ctx, const float *const logits[], size_t target);
    void (*window_end)(void *ctx);
} WindowsSink;

/* Runs all windows. Errors: ERR_USAGE (context or stride out of range, an id outside the
 * vocabulary), ERR_FORMAT (fewer than two ids), ERR_NUMERIC (a logit that is not finite, with model
 * and token), ERR_MEMORY, ERR_LIMIT, ERR_CANCELLED. */
ErrCode windows_run(const WindowsPlan *p, const WindowsSink *sink, Err *err) ERR_CHECK;

#endif
