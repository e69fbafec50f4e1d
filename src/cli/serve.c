/* cli/serve.c: the daemon as a command: arguments, process set-up, the CPU backend, exit status.
 *
 * May include: common, backend, worker. */
#include "backend/cpu_backend.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "cli/serve_options.h"
#include "common/log.h"
#include "worker/worker.h"

static Backend *load_cpu(void *ctx, bool (*progress)(void *, double), void *progress_ctx, Err *err)
{
    const ServeOptions *o = ctx;
    char path[CLI_PATH_BYTES];
    const CpuBackendOptions options = {.model_path = path,
                                       .model_name = o->worker.model_name,
                                       .max_context = o->max_context,
                                       .isa = o->isa,
                                       .has_type = o->has_type,
                                       .type = o->type,
                                       .kv_type = o->kv_type,
                                       .no_prefix_cache = o->no_prefix_cache,
                                       .progress = progress,
                                       .progress_ctx = progress_ctx};
    Backend *backend = NULL;

    /* Here, and not with the other arguments: so that a model that is not there is told of in the
     * log, whatever its name looks like. */
    if (cli_model_path(path, sizeof path, o->worker.model_path, err) != ERR_OK ||
        cpu_backend_load(&backend, &options, err) != ERR_OK)
        return NULL;
    if (o->mlock && process_lock_memory(err) != ERR_OK) {
        backend->ops->free(backend);
        return NULL;
    }
    return backend;
}

int cli_serve(int argc, char **argv)
{
    ServeOptions o;
    Err err = {.code = ERR_OK};

    if (serve_options_parse(&o, argc, argv, &err) != ERR_OK)
        return cli_fail(&err);
    if (o.help)
        return cli_print(serve_options_help());
    if (o.version)
        return cli_version();
    if (o.cpu != SERVE_ANY_CPU && process_pin(o.cpu, &err) != ERR_OK)
        return cli_fail(&err);
    process_leave_on_signals();
    if (!o.core_dumps)
        process_forbid_core_dumps();
    process_return_memory();
    log_init(o.log_level, o.worker.worker_id);
    o.worker.load = load_cpu;
    o.worker.load_ctx = &o;
    return worker_run(&o.worker);
}
