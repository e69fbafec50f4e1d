/* tests/stub_worker.c: the worker with the stub backend, for tests whose timing must not depend on
 * a model. It takes llorch-cpud's flags, and from the environment:
 *
 *   STUB_LOAD_MS            how long loading takes
 *   STUB_LOAD_FAIL          loading fails in the end with this text
 *   STUB_KEEP_ALIVE_MS      silence before a comment
 *   STUB_REQUEST_TIMEOUT_MS for a request to arrive
 *   STUB_WRITE_TIMEOUT_MS   for clients that do not read
 *   STUB_N_CTX              context length (1024)
 *   STUB_IDLE_STEPS         milliseconds of work while nothing runs (1) */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/process.h"
#include "cli/serve_options.h"
#include "common/clock.h"
#include "common/log.h"
#include "stub_backend.h"

static int environment_int(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? atoi(text) : otherwise;
}

static Backend *load(void *ctx, bool (*progress)(void *, double), void *progress_ctx, Err *err)
{
    const ServeOptions *o = ctx;
    const uint64_t begin = clock_now_ms();
    const uint64_t limit = (uint64_t)environment_int("STUB_LOAD_MS", 0);
    const char *problem = getenv("STUB_LOAD_FAIL");
    Backend *b;

    for (uint64_t done = 0; done < limit; done = clock_now_ms() - begin) {
        const struct timespec t = {.tv_nsec = 1000000};

        nanosleep(&t, NULL);
        if (!progress(progress_ctx, (double)done / (double)limit)) {
            err_set(err, ERR_CANCELLED, "stopped");
            return NULL;
        }
    }
    if (problem != NULL) {
        err_set(err, ERR_FORMAT, "%s", problem);
        return NULL;
    }
    b = stub_backend_new(o->worker.model_name,
                         o->max_context > 0 ? o->max_context : environment_int("STUB_N_CTX", 1024));
    if (b == NULL)
        err_set(err, ERR_MEMORY, "out of memory");
    else
        stub_backend_set_idle(b, environment_int("STUB_IDLE_STEPS", 1));
    return b;
}

int main(int argc, char **argv)
{
    ServeOptions o;
    Err err = {.code = ERR_OK};

    if (process_prepare(&err) != ERR_OK || serve_options_parse(&o, argc, argv, &err) != ERR_OK) {
        fprintf(stderr, "stub_worker: %s\n", err.msg);
        return 2;
    }
    if (o.help) {
        fputs(serve_options_help(), stdout);
        return 0;
    }
    process_leave_on_signals();
    process_return_memory();
    log_init(o.log_level, o.worker.worker_id);
    o.worker.load = load;
    o.worker.load_ctx = &o;
    o.worker.keep_alive_ms = environment_int("STUB_KEEP_ALIVE_MS", o.worker.keep_alive_ms);
    o.worker.limits.request_timeout_ms =
        environment_int("STUB_REQUEST_TIMEOUT_MS", o.worker.limits.request_timeout_ms);
    o.worker.limits.write_timeout_ms =
        environment_int("STUB_WRITE_TIMEOUT_MS", o.worker.limits.write_timeout_ms);
    return worker_run(&o.worker);
}
