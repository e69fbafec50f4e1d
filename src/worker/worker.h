/* worker/worker.h: the daemon: one loop, one backend, one job at a time, from bind to exit status.
 *
 * May include: common, http, backend. */
#ifndef LLORCH_WORKER_WORKER_H
#define LLORCH_WORKER_WORKER_H

#include <stdbool.h>

#include "backend/backend.h"
#include "common/error.h"
#include "http/server.h"

enum {
    WORKER_DEFAULT_PORT = 3000,
    WORKER_DEFAULT_UNIX_MODE = 0600,
    WORKER_DEFAULT_QUEUE = 16,
    WORKER_MAX_QUEUE = 1024,
    WORKER_DEFAULT_INFERENCE_TIMEOUT_SEC = 300,
    WORKER_MAX_CALLBACK_RETRIES = 100
};

/* Who starts a worker by hand means this machine; a pool manager, which is told by the callback, is
 * on another one (contract 2.1). */
#define WORKER_DEFAULT_HOST "127.0.0.1"
#define WORKER_POOL_HOST "0.0.0.0"

/* Loads the model. progress must be called every few milliseconds with a fraction in 0..1: it turns
 * the loop, so that /ready and signals are answered meanwhile. When it returns false the load must
 * give up with ERR_CANCELLED. Returns the backend, which the worker frees through its ops, or NULL
 * with err set. */
typedef Backend *(*WorkerLoad)(void *ctx, bool (*progress)(void *progress_ctx, double fraction),
                               void *progress_ctx, Err *err);

/* What a service manager such as systemd hands over in the environment. */
typedef struct {
    const char *notify_socket; /* NOTIFY_SOCKET; NULL: nobody is to be told */
    const char *watchdog_usec; /* WATCHDOG_USEC; NULL: no signs of life are awaited */
    int listen_fd;             /* a listening socket, used instead of host and port; 0: none */
    const char *listen_name;   /* its name, for the log; NULL: none */
} WorkerManaged;

typedef struct {
    const char *worker_id;
    const char *model_name;   /* for /health while the model loads; later the backend says */
    const char *model_path;   /* for the log */
    const char *host;         /* as it was given; with unix_path or listen_fd for the log only */
    int port;                 /* 0: chosen by the kernel */
    const char *unix_path;    /* NULL: TCP. With a callback uri must be set as well */
    unsigned unix_mode;       /* of the socket file */
    const char *api_key_file; /* NULL: no request needs a key */
    const char *uri;          /* base address in the callback; NULL: see http_server_uri, and with a
                                 Unix socket that was inherited a usage error */
    const char *callback_url; /* NULL: standalone */
    bool callback_minimal;
    int callback_retries;
    int queue_limit; /* jobs that may wait beside the running one */
    int inference_timeout_sec;
    bool defer_headers;
    bool enable_shutdown;
    WorkerManaged managed;
    bool no_ui;        /* GET / is not answered */
    int keep_alive_ms; /* silence after which a stream gets a comment */
    HttpLimits limits;
    WorkerLoad load;
    void *load_ctx;
} WorkerOptions;

/* The documented defaults; load, worker_id, model_name and model_path are left NULL. */
WorkerOptions worker_options_default(void);

/* Serves until a signal, POST /shutdown or a failure ends it. Everything borrowed must outlive the
 * call. Returns the exit status: 0 clean, 1 failure, 2 when the load says that an argument was
 * wrong (ERR_USAGE). */
int worker_run(const WorkerOptions *options);

#endif
