/* cli/serve_options.c: one table of flags; what does not depend on the model or the network is
 * checked here, before anything is opened.
 *
 * May include: common, http, hub, kernels. */
#include "cli/serve_options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/service_environment.h"
#include "cli/type_option.h"
#include "http/client.h"
#include "hub/cache.h"
#include "kernels/kernels.h"

enum { MAX_INT_OPTION = 1000000000, PORT_UNSET = -1, UNIX_MODE_UNSET = 01000 };

static const char unix_prefix[] = "unix:";

typedef enum {
    OPT_WORKER_ID = 256,
    OPT_MODEL,
    OPT_PORT,
    OPT_CALLBACK_URL,
    OPT_CALLBACK_MINIMAL,
    OPT_CALLBACK_RETRIES,
    OPT_HOST,
    OPT_UNIX_MODE,
    OPT_API_KEY_FILE,
    OPT_URI,
    OPT_MODEL_NAME,
    OPT_MAX_CONTEXT,
    OPT_QUEUE,
    OPT_INFERENCE_TIMEOUT,
    OPT_DEFER_HEADERS,
    OPT_ENABLE_SHUTDOWN,
    OPT_NO_UI,
    OPT_ISA,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_NO_PREFIX_CACHE,
    OPT_CPU,
    OPT_MLOCK,
    OPT_CORE_DUMPS,
    OPT_LOG_LEVEL,
    OPT_HELP,
    OPT_VERSION
} Option;

static const struct option long_options[] = {
    {"worker-id", required_argument, NULL, OPT_WORKER_ID},
    {"model", required_argument, NULL, OPT_MODEL},
    {"port", required_argument, NULL, OPT_PORT},
    {"callback-url", required_argument, NULL, OPT_CALLBACK_URL},
    {"callback-minimal", no_argument, NULL, OPT_CALLBACK_MINIMAL},
    {"callback-retries", required_argument, NULL, OPT_CALLBACK_RETRIES},
    {"host", required_argument, NULL, OPT_HOST},
    {"unix-mode", required_argument, NULL, OPT_UNIX_MODE},
    {"api-key-file", required_argument, NULL, OPT_API_KEY_FILE},
    {"uri", required_argument, NULL, OPT_URI},
    {"model-name", required_argument, NULL, OPT_MODEL_NAME},
    {"max-context", required_argument, NULL, OPT_MAX_CONTEXT},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"inference-timeout-sec", required_argument, NULL, OPT_INFERENCE_TIMEOUT},
    {"defer-headers", no_argument, NULL, OPT_DEFER_HEADERS},
    {"enable-shutdown", no_argument, NULL, OPT_ENABLE_SHUTDOWN},
    {"no-ui", no_argument, NULL, OPT_NO_UI},
    {"isa", required_argument, NULL, OPT_ISA},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"no-prefix-cache", no_argument, NULL, OPT_NO_PREFIX_CACHE},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"mlock", no_argument, NULL, OPT_MLOCK},
    {"core-dumps", no_argument, NULL, OPT_CORE_DUMPS},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static const char help_text[] =
    "usage: llorch-cpud [serve] --model PATH [options]\n"
    "\n"
    "Serves one GPT-2 model over HTTP, one job at a time, on one thread.\n"
    "\n"
    "  --worker-id ID             name of this worker (WORKER_ID; llorch-cpud-0)\n"
    "  --model PATH               model directory, .safetensors, .gguf or packed file, or\n"
    "                             ORG/NAME[@REVISION] that pull has fetched (MODEL_PATH;\n"
    "                             required)\n"
    "  --port N                   0 to 65535, 0 lets the kernel choose (PORT; 3000)\n"
    "  --host ADDR                address to listen on, or unix:PATH for a Unix socket\n"
    "                             (127.0.0.1; with a callback URL 0.0.0.0)\n"
    "  --unix-mode MODE           mode of the Unix socket's file, octal (0600)\n"
    "  --api-key-file FILE        requests but /, /health, /live and /ready must show a key of\n"
    "                             this file (one a line): Authorization: Bearer KEY\n"
    "  --callback-url URL         http address that is told when the worker is ready\n"
    "                             (CALLBACK_URL; none: standalone)\n"
    "  --callback-minimal         send only worker_id, vram_bytes and uri\n"
    "  --callback-retries N       after connection failures, 5xx, 408 and 429 (0)\n"
    "  --uri URL                  own address in the callback (http://localhost:PORT, or the\n"
    "                             address of --host where that does not lead to it)\n"
    "  --model-name NAME          name in answers (base name of the directory, stem of the file)\n"
    "  --max-context N            context limit, 1 up to the model's (the model's)\n"
    "  --queue N                  jobs that may wait beside the running one, 0 to 1024 (16)\n"
    "  --inference-timeout-sec N  limit of one job from its start (300)\n"
    "  --defer-headers            send the response headers with the first token\n"
    "  --enable-shutdown          answer POST /shutdown\n"
    "  --no-ui                    do not serve the page at /\n"
    "  --isa NAME                 scalar or avx2 (LLORCH_ISA; the best of this processor)\n"
    "  --type TYPE                hold the weights as f32, f16, bf16, q8_0 or q4_0 (as in the "
    "file)\n"
    "  --kv-type TYPE             hold keys and values as f32 or f16 (f32)\n"
    "  --no-prefix-cache          compute every prompt whole: reuse nothing of the job before\n"
    "  --cpu N                    run on this processor only (any)\n"
    "  --mlock                    lock the model and all buffers in memory\n"
    "  --core-dumps               leave core files as the system has them (none: they hold "
    "prompts)\n"
    "  --log-level LEVEL          debug, info, warn, error or off (info)\n"
    "  --version, --help\n"
    "\n"
    "A flag wins over its environment variable. Exit status: 0 clean shutdown, 1 failure,\n"
    "2 bad or missing argument.\n";

const char *serve_options_help(void)
{
    return help_text;
}

static ErrCode parse_text(const char *option, const char *text, const char **out, Err *err)
{
    if (*text == '\0')
        return err_set(err, ERR_USAGE, "%s: must not be empty", option);
    *out = text;
    return ERR_OK;
}

static ErrCode parse_callback(const char *option, const char *text, const char **out, Err *err)
{
    HttpUrl url;

    if (http_url_parse(&url, text, err) != ERR_OK)
        return err_prefix(err, "%s", option);
    *out = text;
    return ERR_OK;
}

/* The pool may reach the worker through a proxy, so https is fine here: nothing connects to it. */
static ErrCode parse_uri(const char *text, const char **out, Err *err)
{
    const bool scheme = strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
    const size_t n = strlen(text);

    if (!scheme || n > HTTP_URL_TARGET_BYTES)
        return err_set(err, ERR_USAGE, "--uri: %s: expected http:// or https:// and an address",
                       text);
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return err_set(err, ERR_USAGE, "--uri: %s: byte %zu is not allowed in an address", text,
                           i);
    *out = text;
    return ERR_OK;
}

/* What follows unix: is a path as it stands. An abstract address ("@name") would have no mode. */
static ErrCode parse_host(const char *text, WorkerOptions *w, Err *err)
{
    const bool is_unix = strncmp(text, unix_prefix, sizeof unix_prefix - 1) == 0;
    const char *path = text + sizeof unix_prefix - 1;

    if (is_unix && (*path == '\0' || *path == '@'))
        return err_set(err, ERR_USAGE, "--host: %s: expected a path after unix:", text);
    w->unix_path = is_unix ? path : NULL;
    return parse_text("--host", text, &w->host, err);
}

/* As chmod takes it: octal digits. */
static ErrCode parse_unix_mode(const char *text, unsigned *out, Err *err)
{
    const size_t n = strlen(text);

    if (n < 3 || n > 4 || strspn(text, "01234567") != n || (n == 4 && text[0] != '0'))
        return err_set(err, ERR_USAGE, "--unix-mode: %s: expected octal digits, 0000 to 0777",
                       text);
    *out = (unsigned)strtoul(text, NULL, 8);
    return ERR_OK;
}

static ErrCode parse_log_level(const char *text, LogLevel *out, Err *err)
{
    const int level = log_level_parse(text);

    if (level < 0)
        return err_set(err, ERR_USAGE, "--log-level: %s: expected debug, info, warn, error or off",
                       text);
    *out = (LogLevel)level;
    return ERR_OK;
}

static ErrCode apply(ServeOptions *o, int option, const char *text, Err *err)
{
    WorkerOptions *w = &o->worker;

    switch (option) {
    case OPT_WORKER_ID:
        return parse_text("--worker-id", text, &w->worker_id, err);
    case OPT_MODEL:
        return parse_text("--model", text, &w->model_path, err);
    case OPT_PORT:
        return cli_parse_i32("--port", text, 0, 65535, &w->port, err);
    case OPT_CALLBACK_URL:
        return parse_callback("--callback-url", text, &w->callback_url, err);
    case OPT_CALLBACK_MINIMAL:
        w->callback_minimal = true;
        return ERR_OK;
    case OPT_CALLBACK_RETRIES:
        return cli_parse_i32("--callback-retries", text, 0, WORKER_MAX_CALLBACK_RETRIES,
                             &w->callback_retries, err);
    case OPT_HOST:
        return parse_host(text, w, err);
    case OPT_UNIX_MODE:
        return parse_unix_mode(text, &w->unix_mode, err);
    case OPT_API_KEY_FILE:
        return parse_text("--api-key-file", text, &w->api_key_file, err);
    case OPT_URI:
        return parse_uri(text, &w->uri, err);
    case OPT_MODEL_NAME:
        return parse_text("--model-name", text, &w->model_name, err);
    case OPT_MAX_CONTEXT:
        return cli_parse_i32("--max-context", text, 1, MAX_INT_OPTION, &o->max_context, err);
    case OPT_QUEUE:
        return cli_parse_i32("--queue", text, 0, WORKER_MAX_QUEUE, &w->queue_limit, err);
    case OPT_INFERENCE_TIMEOUT:
        return cli_parse_i32("--inference-timeout-sec", text, 1, MAX_INT_OPTION,
                             &w->inference_timeout_sec, err);
    case OPT_DEFER_HEADERS:
        w->defer_headers = true;
        return ERR_OK;
    case OPT_ENABLE_SHUTDOWN:
        w->enable_shutdown = true;
        return ERR_OK;
    case OPT_NO_UI:
        w->no_ui = true;
        return ERR_OK;
    case OPT_ISA:
        return parse_text("--isa", text, &o->isa, err);
    case OPT_TYPE:
        o->has_type = true;
        return type_option_parse(text, &o->type, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(text, &o->kv_type, err);
    case OPT_NO_PREFIX_CACHE:
        o->no_prefix_cache = true;
        return ERR_OK;
    case OPT_CPU:
        return cli_parse_i32("--cpu", text, 0, MAX_INT_OPTION, &o->cpu, err);
    case OPT_MLOCK:
        o->mlock = true;
        return ERR_OK;
    case OPT_CORE_DUMPS:
        o->core_dumps = true;
        return ERR_OK;
    default:
        return parse_log_level(text, &o->log_level, err);
    }
}

/* An empty variable counts as absent: shells and unit files set them so. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* Only what no flag has set: a broken variable must not stop a complete command line. */
static ErrCode fill_from_environment(ServeOptions *o, Err *err)
{
    WorkerOptions *w = &o->worker;
    const char *id = environment("WORKER_ID"), *port = environment("PORT");
    const char *url = environment("CALLBACK_URL");
    const Kernels *k;

    if (w->worker_id == NULL)
        w->worker_id = id != NULL ? id : "llorch-cpud-0";
    if (w->model_path == NULL)
        w->model_path = environment("MODEL_PATH");
    if (o->isa == NULL)
        o->isa = environment("LLORCH_ISA");
    if (kernels_select(&k, o->isa, err) != ERR_OK)
        return err->code;
    if (w->port == PORT_UNSET) {
        w->port = WORKER_DEFAULT_PORT;
        if (port != NULL && cli_parse_i32("PORT", port, 0, 65535, &w->port, err) != ERR_OK)
            return err->code;
    }
    if (w->callback_url == NULL && url != NULL)
        return parse_callback("CALLBACK_URL", url, &w->callback_url, err);
    return ERR_OK;
}

/* Where to listen, when everything else is known. */
static ErrCode complete_listener(WorkerOptions *w, Err *err)
{
    if (w->unix_path == NULL && w->unix_mode != UNIX_MODE_UNSET)
        return err_set(err, ERR_USAGE, "--unix-mode: needs --host unix:PATH");
    if (w->unix_path != NULL && w->callback_url != NULL && w->uri == NULL)
        return err_set(err, ERR_USAGE,
                       "--host: %s: no address for the callback follows from it, add --uri",
                       w->host);
    if (w->unix_mode == UNIX_MODE_UNSET)
        w->unix_mode = WORKER_DEFAULT_UNIX_MODE;
    if (w->host == NULL)
        w->host = w->callback_url != NULL ? WORKER_POOL_HOST : WORKER_DEFAULT_HOST;
    return ERR_OK;
}

/* Where two say where to listen, one of them would be ignored in silence. */
static ErrCode complete_inherited(WorkerOptions *w, Err *err)
{
    const char *flag = w->host != NULL ? "--host" : w->port != PORT_UNSET ? "--port" : NULL;

    if (flag != NULL)
        return err_set(err, ERR_USAGE,
                       "%s: the service manager passed a listening socket (LISTEN_FDS): take away "
                       "either the flag or the .socket unit",
                       flag);
    w->host = SERVE_INHERITED_HOST;
    w->port = 0; /* PORT is not looked at */
    return ERR_OK;
}

static ErrCode complete(ServeOptions *o, Err *err)
{
    if (service_environment_read(&o->worker.managed, err) != ERR_OK)
        return err->code;
    if (o->worker.managed.listen_fd > 0 && complete_inherited(&o->worker, err) != ERR_OK)
        return err->code;
    if (o->worker.unix_path != NULL) {
        if (o->worker.port != PORT_UNSET)
            return err_set(err, ERR_USAGE, "--port: a Unix socket (--host %s) has none",
                           o->worker.host);
        o->worker.port = 0; /* and PORT, which may be there for other programs, is not looked at */
    }
    if (fill_from_environment(o, err) != ERR_OK)
        return err->code;
    if (complete_listener(&o->worker, err) != ERR_OK)
        return err->code;
    if (o->worker.model_path == NULL)
        return err_set(err, ERR_USAGE, "--model: missing (or set MODEL_PATH)");
    if (o->worker.model_name == NULL) {
        hub_model_name(o->name, sizeof o->name, o->worker.model_path);
        o->worker.model_name = o->name;
    }
    return ERR_OK;
}

ErrCode serve_options_parse(ServeOptions *o, int argc, char **argv, Err *err)
{
    int option;

    *o = (ServeOptions){.worker = worker_options_default(),
                        .log_level = LOG_INFO,
                        .kv_type = KERN_F32,
                        .cpu = SERVE_ANY_CPU};
    o->worker.port = PORT_UNSET;
    o->worker.host = NULL;
    o->worker.unix_mode = UNIX_MODE_UNSET;
    opterr = 0;
    optind = 0; /* 0, not 1: GNU getopt starts over, also for its own state */
    while ((option = getopt_long(argc, argv, "+:h", long_options, NULL)) != -1) {
        o->help |= option == OPT_HELP || option == 'h';
        o->version |= option == OPT_VERSION;
        if (o->help || o->version)
            return ERR_OK;
        if (option == '?' || option == ':')
            return cli_bad_option(argv, option, err);
        if (apply(o, option, optarg, err) != ERR_OK)
            return err->code;
    }
    if (cli_no_operands(argc, argv, err) != ERR_OK)
        return err->code;
    return complete(o, err);
}
