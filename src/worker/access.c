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

ErrCode access_listen(Worker *w, Err *err)
{
    const WorkerOptions *o = w->options;
    const ErrCode code =
        o->unix_path != NULL
            ? http_server_listen_unix(w->server, o->unix_path, (mode_t)o->unix_mode, err)
            : http_server_listen(w->server, o->host, o->port, err);

    if (code != ERR_OK)
        return code;
    w->port = http_server_port(w->server);
    if (http_server_is_public(w->server) && w->keys == NULL)
        log_line(LOG_WARN,
                 "Listening on a public address without an API key: everybody who reaches it can "
                 "use this worker (see --api-key-file and --host)",
                 "s:host", o->host, "i:port", (long long)w->port, NULL);
    return ERR_OK;
}

const char *access_refusal(const Worker *w, const char *authorization)
{
    if (w->keys == NULL || api_keys_permit(w->keys, authorization))
        return NULL;
    return authorization == NULL ? "an API key is needed (Authorization: Bearer KEY)"
                                 : "the API key is not valid";
}
