/* cli/serve_options.h: the worker's arguments: flag over environment over default (worker contract,
 * 2 and 11a).
 *
 * May include: common, kernels, worker. */
#ifndef LLORCH_CLI_SERVE_OPTIONS_H
#define LLORCH_CLI_SERVE_OPTIONS_H

#include <stdbool.h>

#include "common/error.h"
#include "common/log.h"
#include "kernels/matrix.h"
#include "worker/worker.h"

enum { SERVE_NAME_BYTES = 256, SERVE_ANY_CPU = -1 };

/* In the log, when the service manager passed the socket. */
#define SERVE_INHERITED_HOST "fd:3"

typedef struct {
    WorkerOptions worker; /* load and load_ctx are the caller's to set */
    LogLevel log_level;
    const char *isa; /* NULL: the best of this processor */
    int max_context; /* 0: the model's */
    bool has_type;   /* type: of the weights in memory; otherwise as in the file */
    KernType type, kv_type;
    bool no_prefix_cache;
    int cpu; /* the one to run on; SERVE_ANY_CPU */
    bool mlock;
    bool core_dumps;    /* as the system has them; otherwise none, since they would hold prompts */
    bool help, version; /* asked for: everything else was not looked at */
    char name[SERVE_NAME_BYTES]; /* of the model, when no --model-name gave one */
} ServeOptions;

/* Borrows from argv and the environment. Errors: ERR_USAGE, one line that names the flag or
 * variable. */
ErrCode serve_options_parse(ServeOptions *o, int argc, char **argv, Err *err) ERR_CHECK;

/* The text of --help. */
const char *serve_options_help(void);

#endif
