/* http/api_keys.h: the keys of --api-key-file, and whether a request shows one of them:
 * "Authorization: Bearer KEY" (RFC 6750, 2.1). Which paths need a key is the handler's business.
 *
 * The file: one key a line, so that a new key can be added before the old one is taken out. Blanks
 * around a key, CR before LF and a missing last LF are tolerated; empty lines and lines that begin
 * with # are skipped. A key is 1 to API_KEY_BYTES printable ASCII characters without blanks. No
 * message shows any part of a key.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_API_KEYS_H
#define LLORCH_HTTP_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

enum {
    API_KEY_BYTES = 512,
    API_KEYS_MAX = 32,
    API_KEY_FILE_BYTES = 64 * 1024,
    API_KEY_SHORT = 16 /* bytes; fewer can be guessed: nothing slows down who tries */
};

typedef struct ApiKeys ApiKeys;

/* Reads a regular file, which is not looked at again. Errors: those of mapped_file_open, and those
 * below. */
ErrCode api_keys_load(ApiKeys **out, const char *path, Err *err) ERR_CHECK;

/* The same of data[0..n); name is for messages. Errors: ERR_FORMAT, ERR_LIMIT, ERR_MEMORY. */
ErrCode api_keys_parse(ApiKeys **out, const char *name, const void *data, size_t n,
                       Err *err) ERR_CHECK;

/* Overwrites the keys first. NULL is allowed. */
void api_keys_free(ApiKeys *keys);

int api_keys_count(const ApiKeys *keys);

/* Length of the shortest key. */
size_t api_keys_shortest(const ApiKeys *keys);

/* Whether the value of an Authorization header (NULL: there was none) is one of the keys. The time
 * depends on the number of keys and on what was sent, not on the keys or on which one it is. */
bool api_keys_permit(const ApiKeys *keys, const char *authorization);

/* Whether a[0..n) equals b[0..n). Reads every byte of both, wherever they differ. */
bool api_keys_same(const void *a, const void *b, size_t n);

#endif
