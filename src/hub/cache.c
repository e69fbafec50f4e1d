/* hub/cache.c: see cache.h.
 *
 * May include: common, formats. */
#include "hub/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/model_name.h"
#include "formats/safetensors.h"

enum { REF_BYTES = 128, COMMAND_BYTES = HUB_ID_BYTES + HUB_REVISION_BYTES + 32 };

/* --- where the cache is --- */

const char *hub_environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool hub_environment_is_true(const char *name)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *value = hub_environment(name);

    for (size_t i = 0; value != NULL && i < sizeof yes / sizeof yes[0]; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return false;
}

/* folder/tail; out may be folder. */
static ErrCode join(char out[PATH_MAX], const char *folder, const char *tail, Err *err)
{
    const size_t n = strlen(folder), n_tail = strlen(tail);

    if (n + 1 + n_tail >= PATH_MAX)
        return err_set(err, ERR_LIMIT, "%s/%s: %s", folder, tail, strerror(ENAMETOOLONG));
    memmove(out, folder, n);
    out[n] = '/';
    memcpy(out + n + 1, tail, n_tail + 1);
    return ERR_OK;
}

ErrCode hub_expand(char out[PATH_MAX], const char *path, Err *err)
{
    const char *home = hub_environment("HOME");

    if (path[0] == '~' && path[1] == '/') {
        if (home == NULL)
            return err_set(err, ERR_IO, "%s: HOME is not set", path);
        return join(out, home, path + 2, err);
    }
    if (strlen(path) >= PATH_MAX)
        return err_set(err, ERR_LIMIT, "%s: %s", path, strerror(ENAMETOOLONG));
    memcpy(out, path, strlen(path) + 1);
    return ERR_OK;
}

ErrCode hub_home(char out[PATH_MAX], Err *err)
{
    const char *given = hub_environment("HF_HOME"), *xdg = hub_environment("XDG_CACHE_HOME");

    if (given != NULL)
        return hub_expand(out, given, err);
    if (xdg == NULL && hub_environment("HOME") == NULL)
        return err_set(err, ERR_IO,
                       "the Hugging Face cache has no place: none of HF_HUB_CACHE, HF_HOME, "
                       "XDG_CACHE_HOME and HOME is set");
    if (hub_expand(out, xdg != NULL ? xdg : "~/.cache", err) != ERR_OK)
        return err->code;
    return join(out, out, "huggingface", err);
}

ErrCode hub_cache_folder(char out[PATH_MAX], const char *given, Err *err)
{
    if (given == NULL)
        given = hub_environment("HF_HUB_CACHE");
    if (given == NULL)
        given = hub_environment("HUGGINGFACE_HUB_CACHE");
    if (given != NULL)
        return hub_expand(out, given, err);
    if (hub_home(out, err) != ERR_OK)
        return err->code;
    return join(out, out, "hub", err);
}

/* --- what is in it --- */

/* A regular file that is no link chain to nowhere. */
static bool is_file(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat st;

    return join(path, folder, name, NULL) == ERR_OK && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The command that gets what is missing. */
static const char *command(char out[COMMAND_BYTES], const HubRepo *repo)
{
    const bool plain = strcmp(repo->revision, HUB_DEFAULT_REVISION) == 0;

    (void)snprintf(out, COMMAND_BYTES, "llorch-cpud pull %s%s%s", repo->id, plain ? "" : "@",
                   plain ? "" : repo->revision);
    return out;
}

/* At most size - 1 bytes of a small file, less blanks at its end; false with errno. */
static bool read_small(const char *path, char *out, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n;

    if (fd < 0)
        return false;
    do
        n = read(fd, out, size - 1);
    while (n < 0 && errno == EINTR);
    const int error = errno;
    (void)close(fd);
    errno = error;
    if (n < 0)
        return false;
    while (n > 0 && strchr(" \t\r\n", out[n - 1]) != NULL)
        n--;
    out[n] = '\0';
    return true;
}

ErrCode hub_cache_commit(char out[HUB_COMMIT_BYTES], const char *cache, const HubRepo *repo,
                         Err *err)
{
    char path[PATH_MAX], text[REF_BYTES], how[COMMAND_BYTES];
    const char *commit = repo->revision;

    if (!hub_is_commit(commit)) {
        if (join(path, cache, repo->folder, err) != ERR_OK ||
            join(path, path, "refs", err) != ERR_OK ||
            join(path, path, repo->revision, err) != ERR_OK)
            return err->code;
        if (!read_small(path, text, sizeof text)) {
            if (errno != ENOENT && errno != ENOTDIR)
                return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
            return err_set(err, ERR_IO,
                           "%s: No such file or directory, nor is revision %s in the Hugging Face "
                           "cache %s; to download it: %s",
                           repo->id, repo->revision, cache, command(how, repo));
        }
        if (!hub_is_commit(text))
            return err_set(err, ERR_FORMAT,
                           "%s: holds \"%s\", expected a commit of 40 digits; remove the file and "
                           "run: %s",
                           path, text, command(how, repo));
        commit = text;
    }
    memcpy(out, commit, HUB_COMMIT_BYTES);
    return ERR_OK;
}

ErrCode hub_cache_snapshot(char out[PATH_MAX], const char *cache, const HubRepo *repo,
                           const char *commit, Err *err)
{
    if (join(out, cache, repo->folder, err) != ERR_OK || join(out, out, "snapshots", err) != ERR_OK)
        return err->code;
    return join(out, out, commit, err);
}

/* --- whether it is all of a model --- */

typedef struct {
    const char *folder;
    char *out; /* the first shard that is missing */
    size_t size;
    bool missing;
} Shards;

static bool look_for_shard(void *ctx, const char *name)
{
    Shards *s = ctx;

    if (is_file(s->folder, name))
        return true;
    (void)snprintf(s->out, s->size, "%s", name);
    s->missing = true;
    return false;
}

/* Whether weights are missing, and which. A damaged index is the loader's to complain about. */
static bool lacks_weights(const char *folder, char *out, size_t size)
{
    char index[PATH_MAX];
    Shards s = {folder, out, size, false};
    Err unread = {.code = ERR_OK};

    if (is_file(folder, "model.safetensors"))
        return false;
    if (!is_file(folder, "model.safetensors.index.json") ||
        join(index, folder, "model.safetensors.index.json", NULL) != ERR_OK) {
        (void)snprintf(out, size, "model.safetensors");
        return true;
    }
    if (safetensors_each_shard(index, look_for_shard, &s, &unread) != ERR_OK)
        return false;
    return s.missing;
}

/* Whether a tokenizer could be got but is not there: models without one are models all the same. */
static bool lacks_tokenizer(const char *folder, const char *absent)
{
    const bool split = is_file(folder, "vocab.json") && is_file(folder, "merges.txt");

    return !split && !is_file(folder, "tokenizer.json") &&
           !(is_file(absent, "tokenizer.json") &&
             (is_file(absent, "vocab.json") || is_file(absent, "merges.txt")));
}

/* Whether something is missing of the model in folder; its name to out. absent: the folder of names
 * that the hub does not have. */
static bool lacks_something(const char *folder, const char *absent, char *out, size_t size)
{
    if (!is_file(folder, "config.json")) {
        (void)snprintf(out, size, "config.json");
        return true;
    }
    if (lacks_tokenizer(folder, absent)) {
        (void)snprintf(out, size, "tokenizer.json (or vocab.json and merges.txt)");
        return true;
    }
    return lacks_weights(folder, out, size);
}

static bool is_gguf_name(const char *name)
{
    const size_t n = strlen(name);

    return n > 5 && name[0] != '.' && strcasecmp(name + n - 5, ".gguf") == 0;
}

/* Counts the .gguf files in folder; the path of the last one to out. */
static int find_gguf(char out[PATH_MAX], const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;

    if (dir == NULL)
        return 0;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        if (is_gguf_name(e->d_name) && is_file(folder, e->d_name) &&
            join(out, folder, e->d_name, NULL) == ERR_OK)
            n++;
    (void)closedir(dir);
    return n;
}

ErrCode hub_cache_find(char out[PATH_MAX], const char *cache, const HubRepo *repo, Err *err)
{
    char commit[HUB_COMMIT_BYTES], folder[PATH_MAX], absent[PATH_MAX], gguf[PATH_MAX];
    char missing[HUB_FILE_BYTES + 1], how[COMMAND_BYTES];

    if (hub_cache_commit(commit, cache, repo, err) != ERR_OK ||
        hub_cache_snapshot(folder, cache, repo, commit, err) != ERR_OK ||
        join(absent, cache, repo->folder, err) != ERR_OK ||
        join(absent, absent, ".no_exist", err) != ERR_OK ||
        join(absent, absent, commit, err) != ERR_OK)
        return err->code;
    if (!is_folder(folder))
        return err_set(err, ERR_IO,
                       "%s: commit %s is not in the Hugging Face cache %s; to download it: %s",
                       repo->id, commit, cache, command(how, repo));
    if (!lacks_something(folder, absent, missing, sizeof missing)) {
        memcpy(out, folder, strlen(folder) + 1);
        return ERR_OK;
    }
    /* Somebody may have fetched nothing but one .gguf file, or several. */
    const int n_gguf = is_file(folder, "model.safetensors") ? 0 : find_gguf(gguf, folder);
    if (n_gguf == 1) {
        memcpy(out, gguf, strlen(gguf) + 1);
        return ERR_OK;
    }
    if (n_gguf > 1)
        return err_set(err, ERR_IO,
                       "%s: there are %d .gguf files in %s; name one of them by its path", repo->id,
                       n_gguf, folder);
    return err_set(err, ERR_IO, "%s: %s is missing in %s; to download it: %s", repo->id, missing,
                   folder, command(how, repo));
}

/* --- what --model says --- */

static bool is_path(const char *text)
{
    struct stat st;

    return lstat(text, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* Whether text can only be meant as a repository. */
static bool names_repo(HubRepo *repo, const char *text)
{
    Err unread = {.code = ERR_OK};

    return !is_path(text) && hub_repo_parse(repo, text, &unread) == ERR_OK;
}

ErrCode hub_model_path(char out[PATH_MAX], const char *given, Err *err)
{
    char cache[PATH_MAX], folder[PATH_MAX];
    HubRepo repo;
    const bool named = names_repo(&repo, given);

    const bool has_org = strchr(given, '/') != NULL;

    if (named && hub_cache_folder(cache, NULL, err) != ERR_OK) {
        if (has_org)
            return err_prefix(err, "%s: No such file or directory", given);
        *err = (Err){.code = ERR_OK};
    } else if (named && (has_org ||
                         (join(folder, cache, repo.folder, NULL) == ERR_OK && is_folder(folder)))) {
        return hub_cache_find(out, cache, &repo, err);
    }
    if (strlen(given) >= PATH_MAX)
        return err_set(err, ERR_LIMIT, "%s: path of %zu bytes, expected at most %d", given,
                       strlen(given), PATH_MAX - 1);
    memcpy(out, given, strlen(given) + 1);
    return ERR_OK;
}

void hub_model_name(char *out, size_t size, const char *given)
{
    HubRepo repo;

    if (names_repo(&repo, given))
        (void)snprintf(out, size, "%s", repo.name);
    else
        model_name_of(out, size, given);
}
