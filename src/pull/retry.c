/* pull/retry.c: see retry.h.
 *
 * May include: cli, common, hub, pull. */
#include "pull/retry.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { NAP_MS = 50 };

static bool is_passing(int status)
{
    return status == 408 || status == 429 || status >= 500;
}

static ErrCode no_access(const PullOptions *o, const HubAnswer *a, Err *err)
{
    const char *id = o->repo.id;

    if (a->elsewhere)
        return err_set(err, ERR_IO,
                       "%s: the host that %s leads to refuses access (status %d), and no token is "
                       "sent there; if HF_ENDPOINT is a mirror, name the hub itself",
                       id, o->endpoint, a->status);
    if (o->token[0] != '\0' && !a->with_token)
        return err_set(err, ERR_IO,
                       "%s: %s refuses access (status %d), and the token is not sent there without "
                       "TLS; set HF_ENDPOINT to an https:// address",
                       id, o->endpoint, a->status);
    if (strcmp(a->error_code, "GatedRepo") == 0)
        return err_set(err, ERR_IO, "%s: access has to be asked for at %s/%s (status %d); then %s",
                       id, o->endpoint, id, a->status,
                       o->token[0] != '\0' ? "use a token of that account" : "set HF_TOKEN");
    if (o->token[0] == '\0')
        return err_set(err, ERR_IO,
                       "%s: there is no such repository at %s that everybody may read (status %d); "
                       "check the name, or set HF_TOKEN for a private one",
                       id, o->endpoint, a->status);
    return err_set(
        err, ERR_IO,
        "%s: %s refuses this token (status %d); check HF_TOKEN, and that its account may "
        "read the repository",
        id, o->endpoint, a->status);
}

static ErrCode not_found(const PullOptions *o, const char *file, const HubAnswer *a, Err *err)
{
    if (strcmp(a->error_code, "RepoNotFound") == 0)
        return err_set(err, ERR_IO, "%s: %s has no such repository (status 404)", o->repo.id,
                       o->endpoint);
    if (strcmp(a->error_code, "RevisionNotFound") == 0)
        return err_set(err, ERR_IO, "%s: has no revision \"%s\" (status 404)", o->repo.id,
                       o->repo.revision);
    if (strcmp(a->error_code, "EntryNotFound") == 0)
        return err_set(err, ERR_IO, "%s: revision %s has no %s (status 404)", o->repo.id,
                       o->repo.revision, file);
    return err_set(
        err, ERR_IO,
        "%s: %s has no such repository, no revision \"%s\" of it, or no %s in it (status "
        "404)",
        o->repo.id, o->endpoint, o->repo.revision, file);
}

static ErrCode too_many(const PullOptions *o, const HubAnswer *a, Err *err)
{
    const char *more = o->token[0] == '\0' ? "; with HF_TOKEN set it allows more" : "";

    if (a->has_retry_after)
        return err_set(err, ERR_NETWORK,
                       "%s: too many requests from this address (status 429); it asks to come back "
                       "in %" PRIu64 " s%s",
                       o->endpoint, a->retry_after_s, more);
    return err_set(err, ERR_NETWORK,
                   "%s: too many requests from this address (status 429); try again later%s",
                   o->endpoint, more);
}

ErrCode retry_status(const PullOptions *o, const char *file, const HubAnswer *a, Err *err)
{
    if (a->status == 401 || a->status == 403)
        return no_access(o, a, err);
    if (a->status == 404 && (!a->elsewhere || a->error_code[0] != '\0'))
        return not_found(o, file, a, err);
    if (a->status == 429)
        return too_many(o, a, err);
    return err_set(err, is_passing(a->status) ? ERR_NETWORK : ERR_IO,
                   "%s: the server answers for %s with status %d", o->repo.id, file, a->status);
}

/* False: Ctrl-C. */
static bool sleep_ms(uint64_t ms)
{
    for (uint64_t slept = 0; slept < ms; slept += NAP_MS) {
        const struct timespec nap = {0, NAP_MS * 1000000L};

        if (cli_interrupted())
            return false;
        (void)nanosleep(&nap, NULL);
    }
    return !cli_interrupted();
}

bool retry_wait(Retry *r, const HubAnswer *a, Err *err)
{
    const bool asked = a != NULL && is_passing(a->status) && a->has_retry_after;
    uint64_t ms = RETRY_LONGEST_MS;

    if (err->code != ERR_NETWORK || r->failed >= r->o->retries ||
        (asked && a->retry_after_s > RETRY_AFTER_MAX_S))
        return false;
    if (r->failed < 5) /* 0.25, 0.5, 1, 2, 4 s, then 8 */
        ms = (uint64_t)RETRY_FIRST_MS << r->failed;
    if (asked && a->retry_after_s * 1000 > ms)
        ms = a->retry_after_s * 1000;
    r->failed++;
    progress_note(r->progress, "%s; attempt %d of %d in %.1f s", err->msg, r->failed + 1,
                  r->o->retries + 1, (double)ms / 1000.0);
    if (sleep_ms(ms)) {
        *err = (Err){.code = ERR_OK};
        return true;
    }
    (void)err_set(err, ERR_CANCELLED, "interrupted");
    return false;
}
