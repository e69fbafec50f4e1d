/* eval/perplexity.h: how well a model predicts a text.
 *
 * May include: common, eval, kernels, model, tokenizer. */
#ifndef LLORCH_EVAL_PERPLEXITY_H
#define LLORCH_EVAL_PERPLEXITY_H

#include "eval/window_mean.h"
#include "eval/windows.h"
#include "tokenizer/tokenizer.h"

/* Mean negative log-likelihood in nats of every token but the first (windows.h), summed in double.
 * Its exponential is the perplexity. plan->n_models is 1. Errors: those of windows_run. */
ErrCode perplexity_run(WindowMean *nll, const WindowsPlan *plan, Err *err) ERR_CHECK;

/* Bytes of ids[1 .. n_ids): of the tokens that are predicted. */
size_t perplexity_bytes(const Tokenizer *t, const int32_t *ids, size_t n_ids);

/* The same likelihood, spread over the bytes of the text: comparable between models of different
 * vocabularies. */
double perplexity_bits_per_byte(const WindowMean *nll, size_t n_bytes);

#endif
