/* compat/tokenize.h: POST /tokenize and /detokenize as llama.cpp's server has them.
 *
 * May include: common, backend. */
#ifndef LLORCH_COMPAT_TOKENIZE_H
#define LLORCH_COMPAT_TOKENIZE_H

#include "backend/backend.h"
#include "common/json.h"

enum { TOKENIZE_MAX_PIECES = 32768, DETOKENIZE_MAX_IDS = 32768 };

/* From the body of the request to that of the answer, *answer, which is emptied first. Returns the
 * status. Members that neither knows are ignored, as there. */
int tokenize_answer(const char *body, size_t n, Backend *backend, JsonBuf *answer);
int detokenize_answer(const char *body, size_t n, Backend *backend, JsonBuf *answer);

#endif
