/* pull/options.h: the arguments and the environment of llorch-cpud pull.
 *
 * May include: common, hub. */
#ifndef LLORCH_PULL_OPTIONS_H
#define LLORCH_PULL_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

#include "common/error.h"
#include "hub/repo.h"

enum {
    PULL_ENDPOINT_BYTES = 1024,
    PULL_TOKEN_BYTES = 1024,
    PULL_DEFAULT_RETRIES = 5,
    PULL_DEFAULT_TIMEOUT_S = 10
};

typedef struct {
    HubRepo repo;
    const char *file; /* --file: only this one, a .gguf; NULL: the model */
    char cache[PATH_MAX];
    char endpoint[PULL_ENDPOINT_BYTES]; /* without a slash at its end */
    char token[PULL_TOKEN_BYTES];       /* "": none. Never part of a message */
    int retries;                        /* attempts without progress, beside the first */
    int timeout_s; /* without enough bytes, after which an attempt has failed */
    bool offline, force, quiet, help;
} PullOptions;

/* Nothing but help is set when that was asked for. Errors: ERR_USAGE; ERR_IO (no place for the
 * cache, a token file that cannot be read), ERR_FORMAT (a token or an address that is none). */
ErrCode pull_options_parse(PullOptions *o, int argc, char **argv, Err *err) ERR_CHECK;

const char *pull_options_help(void);

#endif
