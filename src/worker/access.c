/* worker/access.c: see access.h.
 *
 * May include: common, http. */
#include "worker/access.h"

#include <sys/stat.h>

#include "common/log.h"
#include "http/api_keys.h"
#include "http/server.h"

/* A warning, not a refusal: secrets are mounted into containers with mode 0444. */
static void warn_of_weak_keys(const Worker *w)
{
    const char *path = w->options->api_key_file;
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        log_line(LOG_WARN, "Other users may read or write the file of API keys", "s:file", path,
                 NULL);
    if (api_keys_shortest(w->keys) < API_KEY_SHORT)
        log_line(LOG_WARN, "An API key is so short that it can be guessed", "s:file", path,
                 "i:expected_bytes", (long long)API_KEY_SHORT, NULL);
}

ErrCode access_load_keys(Worker *w, Err *err)
{
    const char *path = w->options->api_key_file;

    if (path == NULL)
        return ERR_OK;
    if (api_keys_load(&w->keys, path, err) != ERR_OK)
        return err_prefix(err, "--api-key-file");
    warn_of_weak_keys(w);
    log_line(LOG_INFO, "API keys read", "s:file", path, "i:keys",
             (long long)api_keys_count(w->keys), NULL);
    return ERR_OK;
}

static ErrCode open_listener(Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;

    if (o->managed.listen_fd > 0)
        return http_server_listen_inherited(w->server, o->managed.listen_fd, err);
    if (o->unix_path != NULL)
        return http_server_listen_unix(w->server, o->unix_path, (mode_t)o->unix_mode, err);
    return http_server_listen(w->server, o->host, o->port, err);
}

/* What only the socket says: its address. */
static ErrCode check_inherited(const Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;
    char name[LISTENER_NAME_BYTES];

    http_server_name(w->server, name);
    if (w->port == 0 && o->callback_url != NULL && o->uri == NULL)
        return err_set(err, ERR_USAGE,
                       "%s: no address for the callback follows from the socket, add --uri", name);
    log_line(LOG_INFO, "Listening on a socket of the service manager", "s:address", name, "s:name",
             o->managed.listen_name, NULL);
    return ERR_OK;
}

ErrCode access_listen(Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;

    if (open_listener(w, err) != ERR_OK)
        return err->code;
    w->port = http_server_port(w->server);
    if (o->managed.listen_fd > 0 && check_inherited(w, err) != ERR_OK)
        return err->code;
    if (http_server_is_public(w->server) && w->keys == NULL)
        log_line(LOG_WARN,
                 "Listening on a public address without an API key: everybody who reaches it can "
                 "use this worker (see --api-key-file and --host)",
                 "s:host", o->host, "i:port", (long long)w->port, NULL);
    return ERR_OK;
}

const char *access_listen_hint(const Worker *w)
{
    return w->options->managed.listen_fd > 0
               ? "expected one listening stream socket from the service manager; see ListenStream= "
                 "and Accept=no in the .socket unit"
               : "another process may listen there; see --port and --host";
}

const char *access_refusal(const Worker *w, const char *authorization)
{
    if (w->keys == NULL || api_keys_permit(w->keys, authorization))
        return NULL;
    return authorization == NULL ? "an API key is needed (Authorization: Bearer KEY)"
                                 : "the API key is not valid";
}
