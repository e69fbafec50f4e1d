/* common/json_memory.h: jansson's parser, made safe for the moment when memory runs out.
 *
 * jansson 2.14 does not look whether the buffer of the token it reads could grow: bytes are lost,
 * the closing quote among them, and it copies beyond the buffer's end, stops in an assertion or
 * accepts a text that was never sent. So it never sees a failure: the first allocation that fails
 * and the few that follow it come from a reserve, while its input ends within a few bytes.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_JSON_MEMORY_H
#define LLORCH_COMMON_JSON_MEMORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* json_loadb for text whose longest token has longest bytes. NULL with *out_of_memory set when
 * memory ran out, which *error does not tell; NULL with *error filled when the text is not JSON;
 * else a new reference. Nothing of the parse stays behind with NULL. Not from two threads. */
json_t *json_memory_load(const char *text, size_t n, size_t longest, size_t flags,
                         json_error_t *error, bool *out_of_memory);

#endif
