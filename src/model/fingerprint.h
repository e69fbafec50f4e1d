/* model/fingerprint.h: a number for a model: its weights, as they are in memory, and its
 * configuration.
 *
 * The same weights in the same types have the same one, whatever kind of file they came from: a
 * packed file holds what would be in memory. Weights in another type have another one, as they give
 * other logits. Fast enough to be taken of every model that is loaded; not against forgery.
 *
 * May include: common, model. */
#ifndef LLORCH_MODEL_FINGERPRINT_H
#define LLORCH_MODEL_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "model/gpt2.h"
#include "model/weights.h"

enum { FINGERPRINT_BYTES = 17 }; /* 16 hex digits and a NUL */

/* so_far: of the weights before it, in the order of weights_each; 0 before the first. */
uint64_t fingerprint_add(uint64_t so_far, const WeightSlot *slot);

/* Reads all weights, for models that do not bring m->weights_hash along. */
void fingerprint_weights(Gpt2 *m);

/* Of m->weights_hash and the configuration; "" when there is no weights_hash. Errors: ERR_MEMORY.
 */
ErrCode fingerprint_text(const Gpt2 *m, char text[FINGERPRINT_BYTES], Err *err) ERR_CHECK;

/* m->weights_hash as 16 hex digits, which a packed file brings along. */
void fingerprint_write(const Gpt2 *m, char text[FINGERPRINT_BYTES]);
bool fingerprint_read(Gpt2 *m, const char *text, size_t n);

#endif
