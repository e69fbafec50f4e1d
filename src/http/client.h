/* http/client.h: one outgoing HTTP/1.1 POST on the same loop: the ready callback. No thread, no
 * blocking, no TLS.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_CLIENT_H
#define LLORCH_HTTP_CLIENT_H

#include <event2/event.h>
#include <stddef.h>

#include "common/error.h"

enum { HTTP_URL_HOST_BYTES = 256, HTTP_URL_TARGET_BYTES = 2048 };

typedef struct {
    char host[HTTP_URL_HOST_BYTES];          /* without brackets */
    int port;                                /* 80 when absent */
    char target[HTTP_URL_TARGET_BYTES];      /* path and query, "/" when absent */
    char authority[HTTP_URL_HOST_BYTES + 8]; /* as written: for the Host header */
} HttpUrl;

/* http://host[:port][/path][?query]; anything else (https, user names, fragments, bytes that are
 * not printable ASCII) is ERR_USAGE with a message that says why. */
ErrCode http_url_parse(HttpUrl *u, const char *url, Err *err) ERR_CHECK;

typedef struct HttpPost HttpPost;

/* status: that of a complete response head, whatever then became of the body; 0 when none came.
 * message: one line, what happened ("status 500", "127.0.0.1:9200: Connection refused"), valid
 * during the call. The post is freed after this returns; a new one may be started in here. */
typedef void (*HttpPostDone)(void *ctx, int status, const char *message);

/* Resolves host names once, blocking, before serving starts: keep the result for all attempts.
 * Numeric addresses and "localhost" need no resolver. Errors: ERR_NETWORK, ERR_MEMORY. */
typedef struct HttpAddress HttpAddress;
ErrCode http_address_resolve(HttpAddress **out, const HttpUrl *u, Err *err) ERR_CHECK;
void http_address_free(HttpAddress *a);

/* Posts body (application/json, copied). a must stay until done. done is called exactly once,
 * from the loop, within timeout_ms; the answer is capped at 64 KiB and redirects are not followed.
 * The addresses are tried in turn until one connects, each with its share of the time. NULL: out of
 * memory. */
HttpPost *http_post_start(struct event_base *base, const HttpUrl *u, const HttpAddress *a,
                          const char *body, size_t n_body, int timeout_ms, HttpPostDone done,
                          void *ctx);
void http_post_abort(HttpPost *p); /* done is not called */

#endif
