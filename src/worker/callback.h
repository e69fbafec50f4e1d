/* worker/callback.h: tells the pool manager that the worker is ready (contract 3.1). It runs on the
 * loop: the pool manager tries the worker's address before it answers.
 *
 * May include: common. */
#ifndef LLORCH_WORKER_CALLBACK_H
#define LLORCH_WORKER_CALLBACK_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef struct Callback Callback;

/* What the payload says. */
typedef struct {
    const char *worker_id;
    const char *uri;
    const char *model_name;
    uint64_t model_bytes; /* resident */
    bool minimal;         /* three fields instead of nine */
} CallbackPayload;

/* ok, or not with a message that begins with "Pool manager callback failed". Called once; may free
 * the callback. */
typedef void (*CallbackDone)(void *ctx, bool ok, const char *message);

/* A URL with this text in it means: do not call (tests start workers without a pool manager). */
bool callback_is_test_mode(const char *url);

/* Parses the URL and resolves its host, which may block: before serving starts. Errors: ERR_USAGE,
 * ERR_NETWORK, ERR_MEMORY. */
ErrCode callback_new(Callback **out, struct event_base *base, const char *url, int retries,
                     CallbackDone done, void *ctx, Err *err) ERR_CHECK;

/* Sends the first attempt. Retries follow after 0.5, 1, 2, 2, ... s on a connection failure, 5xx,
 * 408 and 429. */
void callback_start(Callback *c, const CallbackPayload *payload);

/* Ends attempts and waits; done is not called any more. NULL is allowed. */
void callback_free(Callback *c);

#endif
