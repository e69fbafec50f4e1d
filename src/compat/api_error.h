/* compat/api_error.h: what is said when a request fails, in the words of the API it came through.
 * This folder speaks the APIs that others have defined, OpenAI's completions and models and
 * llama.cpp's tokenize: requests and answers as JSON, no sockets and no jobs.
 *
 * May include: common. */
#ifndef LLORCH_COMPAT_API_ERROR_H
#define LLORCH_COMPAT_API_ERROR_H

#include <stdbool.h>

#include "common/json.h"

typedef struct {
    int status;          /* of HTTP; 0: no error */
    const char *message; /* valid UTF-8 */
    const char *param;   /* the field that is wrong; NULL: no single one */
    const char *code;    /* NULL: what the status says, or null */
} ApiError;

/* {"error":{"message":..,"type":..,"param":..,"code":..}}: OpenAI. */
void api_error_openai(JsonBuf *out, const ApiError *e);

/* {"error":{"code":400,"message":..,"type":..}}: llama.cpp's server. */
void api_error_llama(JsonBuf *out, const ApiError *e);

#endif
