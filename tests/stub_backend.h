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
 *   end=eos|stop  the end when the tokens run out, instead of MAX_TOKENS (stop: the request's first stop)
 *   fail=start|numeric|memory|internal   after the tokens, or at the start
 *
 * A prompt has as many tokens as words: a word and the blanks before it, blanks at the end belong
 * to the last one. Their ids count up from 1000 in the order in which the stub met them; ids that
 * are no word's are called "<id>", but for 50256, which is special: <|endoftext|>. The tokens of an
 * answer are numbered from 0; their texts are those of the steps, not of token_text. Prompts of ids
 * are taken, and have no words that ask for something (unless a text is given beside them).
 *
 * Scores: a token's logprob is -(1 + id % 8) / 8; the best begin with the token itself when
 * its id is even, and with the one after it, which then has 1/16 more, when it is odd; each further
 * one is the next id, and has 1/16 less. */
#ifndef LLORCH_TESTS_STUB_BACKEND_H
#define LLORCH_TESTS_STUB_BACKEND_H

#include "backend/backend.h"

/* NULL: out of memory. Freed through its ops. */
Backend *stub_backend_new(const char *model_name, int n_ctx);

/* How many steps of a millisecond idle() takes until nothing is left: 1 unless this says more. */
void stub_backend_set_idle(Backend *b, int n_steps);

#endif
