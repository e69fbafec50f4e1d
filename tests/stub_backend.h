/* tests/stub_backend.h: a backend without a model, for tests of the worker: it answers STUB,
 * RESPONSE, or what words of the prompt ask for.
 *
 *   tokens=N      number of tokens (2, or as many as text has pieces); never more than max_tokens
 *   text=a|b|c    their texts, in turns (STUB|RESPONSE)
 *   size=N        every token is N times the letter x
 *   delay=MS      computing time per token, with a yield every millisecond
 *   prompt=MS     the same before the first token
 *   deaf=MS       computing time per token without any yield
 *   cached=N      so many prompt tokens are said to have been reused
 *   idle=1        the tokens' text is the number of idle steps so far
 *   end=eos|stop  the end when the tokens run out, instead of MAX_TOKENS (stop: the request's first
 * stop) fail=start|numeric|memory|internal   after the tokens, or at the start
 *
 * A prompt has as many tokens as words. */
#ifndef LLORCH_TESTS_STUB_BACKEND_H
#define LLORCH_TESTS_STUB_BACKEND_H

#include "backend/backend.h"

/* NULL: out of memory. Freed through its ops. */
Backend *stub_backend_new(const char *model_name, int n_ctx);

/* How many steps of a millisecond idle() takes until nothing is left: 1 unless this says more. */
void stub_backend_set_idle(Backend *b, int n_steps);

#endif
