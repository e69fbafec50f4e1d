/* worker/access.h: who may use the worker (contract 2.1): where it listens, the API keys, and what
 * the log says about both.
 *
 * May include: common, http. */
#ifndef LLORCH_WORKER_ACCESS_H
#define LLORCH_WORKER_ACCESS_H

#include "common/error.h"
#include "worker/worker_internal.h"

/* Reads the key file, if there is one, into w->keys. Errors: those of api_keys_load, with the
 * option's name. */
ErrCode access_load_keys(Worker *w, Err *err) ERR_CHECK;

/* Opens the listener that the options ask for, and warns when everybody who reaches it may use it.
 */
ErrCode access_listen(Worker *w, Err *err) ERR_CHECK;

/* What a failure of access_listen may come from, for the log; a constant. */
const char *access_listen_hint(const Worker *w);

/* NULL: a request with this Authorization header (NULL: none) may use what needs a key; else why
 * not, a constant. */
const char *access_refusal(const Worker *w, const char *authorization);

#endif
