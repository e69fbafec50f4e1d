/* checkpoint/quantity.h: the numbers that recorded values of published models speak of, computed
 * from a model: one function for each kind of value in expect.h. They take any GPT-2, so that a
 * test can compute the same by other means.
 *
 * May include: common, model, kernels, tokenizer. */
#ifndef LLORCH_CHECKPOINT_QUANTITY_H
#define LLORCH_CHECKPOINT_QUANTITY_H

#include <stdint.h>

#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* Rows of wte alone, without positions. out: [n, dim]. */
void quantity_token_rows(const Gpt2 *m, const int32_t *ids, int n, float *out);

/* Block 0's ln_1 over bare token rows. out: [n, dim]. Errors: ERR_MEMORY. */
ErrCode quantity_layer_norm(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                            Err *err) ERR_CHECK;

/* Block 0's mlp.c_fc over bare token rows: no LayerNorm, no activation. out: [n, ffn_dim]. Errors:
 * ERR_MEMORY. */
ErrCode quantity_c_fc(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                      Err *err) ERR_CHECK;

/* Block 0's attention with mask and c_proj over bare token rows: no LayerNorm, no positions. n <=
 * GPT2_MAX_CHUNK. out: [n, dim]. Errors: ERR_MEMORY, ERR_USAGE. */
ErrCode quantity_attention(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, float *out,
                           Err *err) ERR_CHECK;

/* All rows of one stage of a whole pass over ids: a stage outside the blocks, or block 0's; no row
 * stage. out: [n, cols]. Errors: those of gpt2_prefill. */
ErrCode quantity_stage(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n, TapStage stage,
                       float *out, Err *err) ERR_CHECK;

/* Mean negative log-likelihood in nats of the next id, over n_rows rows of row_len ids that each
 * start at position 0: inputs are ids[0 .. n_rows * row_len), targets the same shifted by one, so
 * ids holds one more. In double. Errors: those of perplexity_run. */
ErrCode quantity_nll(const Gpt2 *m, const Kernels *k, const int32_t *ids, int n_rows, int row_len,
                     double *nll, Err *err) ERR_CHECK;

/* The first n ids of expect_text.h, with end-of-text in front and after every blank line; each
 * speech is encoded by itself. Errors: ERR_UNSUPPORTED (no end-of-text token), ERR_FORMAT (the text
 * gives fewer), ERR_MEMORY. */
ErrCode quantity_text_ids(const Tokenizer *t, int32_t *ids, int n, Err *err) ERR_CHECK;

/* Largest |bias| among the query third of block 0's c_attn. */
float quantity_query_bias(const Gpt2 *m);

/* How wrong a cache is that starts at row 1: max over |row 0| and |row 0 - row 1| of k: [2, dim].
 */
float quantity_cache_shift(const float *k, int dim);

/* Largest |(x - mean) / sqrt(var + eps) * weight| of block 0's ln_1, before the bias is added; x:
 * [n, dim]. Errors: ERR_MEMORY. */
ErrCode quantity_norm_gain(const Gpt2 *m, const Kernels *k, const float *x, int n, float *gain,
                           Err *err) ERR_CHECK;

/* Mean in double. */
double quantity_mean(const float *x, size_t n);

#endif
