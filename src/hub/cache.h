/* hub/cache.h: the folder that Hugging Face's programs share, and finding a model in it:
 *
 *   models--ORG--NAME/refs/REVISION              the commit that a branch or a tag stands for
 *                     snapshots/COMMIT/FILE      a link to ../../blobs/ETAG
 *                     blobs/ETAG                 the bytes; ETAG.incomplete while they come
 *                     .no_exist/COMMIT/FILE      empty: the repository has no such file
 *   .locks/models--ORG--NAME/ETAG.lock           held (flock) by who downloads the blob
 *
 * Nothing here changes anything or asks a network.
 *
 * May include: common. */
#ifndef LLORCH_HUB_CACHE_H
#define LLORCH_HUB_CACHE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "hub/repo.h"

/* A variable of the environment; NULL when it is absent or empty. */
const char *hub_environment(const char *name);

/* Whether a variable says 1, on, yes or true, in any case: what Hugging Face's programs take for
 * set. */
bool hub_environment_is_true(const char *name);

/* What HF_HOME says, else huggingface in XDG_CACHE_HOME or ~/.cache. Errors: ERR_IO (no HOME),
 * ERR_LIMIT. */
ErrCode hub_home(char out[PATH_MAX], Err *err) ERR_CHECK;

/* The value of a variable that names a path, "~/" at its beginning replaced by HOME. Errors as
 * above. */
ErrCode hub_expand(char out[PATH_MAX], const char *path, Err *err) ERR_CHECK;

/* The cache: given, unless that is NULL; else HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, or hub in
 * hub_home. Errors: those of hub_home. */
ErrCode hub_cache_folder(char out[PATH_MAX], const char *given, Err *err) ERR_CHECK;

/* The commit of repo->revision: itself when it is one, else what the cache's refs/ says. Errors:
 * ERR_IO (none is there), ERR_FORMAT (what is there is no commit). */
ErrCode hub_cache_commit(char out[HUB_COMMIT_BYTES], const char *cache, const HubRepo *repo,
                         Err *err) ERR_CHECK;

/* cache/FOLDER/snapshots/COMMIT. Errors: ERR_LIMIT, a path that is too long. */
ErrCode hub_cache_snapshot(char out[PATH_MAX], const char *cache, const HubRepo *repo,
                           const char *commit, Err *err) ERR_CHECK;

/* The model of repo in the cache: its snapshot when that has all a GPT-2 needs (configuration,
 * weights with all shards, tokenizer unless the hub has none), else the only .gguf file in it.
 * Errors: ERR_IO, saying what is missing and which command gets it. */
ErrCode hub_cache_find(char out[PATH_MAX], const char *cache, const HubRepo *repo,
                       Err *err) ERR_CHECK;

/* What --model says, as a path: itself when there is such a file or folder or it cannot be a
 * repository's name, else what hub_cache_find finds in the cache that the environment names. A name
 * without an ORG that the cache does not have stays as it is as well.
 * Errors: ERR_LIMIT, those of hub_cache_find and hub_cache_folder. */
ErrCode hub_model_path(char out[PATH_MAX], const char *given, Err *err) ERR_CHECK;

/* What a model is called that --model named so: as model_name_of says, or NAME of ORG/NAME. */
void hub_model_name(char *out, size_t size, const char *given);

#endif
