/* pull/store.h: writing to the cache of hub/cache.h: folders, locks, links, references.
 *
 * May include: common, hub. */
#ifndef LLORCH_PULL_STORE_H
#define LLORCH_PULL_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "hub/repo.h"

/* The paths of one snapshot. */
typedef struct {
    char repo[PATH_MAX];     /* CACHE/models--ORG--NAME */
    char blobs[PATH_MAX];    /* repo/blobs */
    char locks[PATH_MAX];    /* CACHE/.locks/models--ORG--NAME */
    char snapshot[PATH_MAX]; /* repo/snapshots/COMMIT */
    char absent[PATH_MAX];   /* repo/.no_exist/COMMIT */
} Store;

/* The paths of a commit; nothing is made. Errors: ERR_LIMIT. */
ErrCode store_open(Store *s, const char *cache, const HubRepo *repo, const char *commit,
                   Err *err) ERR_CHECK;

/* Makes the folders, as far as they are not there: what is complete needs none of them to be
 * writable. Errors: ERR_IO. */
ErrCode store_make_folders(const Store *s, Err *err) ERR_CHECK;

/* CACHE/.../blobs/BLOB and, to incomplete unless that is NULL, what it is called before. */
ErrCode store_blob_path(char out[PATH_MAX], char incomplete[PATH_MAX], const Store *s,
                        const char *blob, Err *err) ERR_CHECK;

/* Takes the lock of a blob, as huggingface_hub does (flock). *fd is -1 when another process holds
 * it. Closing the descriptor gives it back. Errors: ERR_IO, ERR_LIMIT. */
ErrCode store_try_lock(int *fd, const Store *s, const char *blob, Err *err) ERR_CHECK;

/* Makes snapshot/name lead to a blob, instead of what was there; does nothing where it does. */
ErrCode store_link(const Store *s, const char *name, const char *blob, Err *err) ERR_CHECK;

/* Keeps in mind that the repository has no such file. A failure costs nothing but a question. */
void store_mark_absent(const Store *s, const char *name);

/* Writes refs/REVISION, unless that is the commit itself. */
ErrCode store_write_ref(const Store *s, const HubRepo *repo, const char *commit,
                        Err *err) ERR_CHECK;

/* Brings the names in blobs/, or the links of the snapshot, to the disk. Errors: ERR_IO. */
ErrCode store_sync_blobs(const Store *s, Err *err) ERR_CHECK;
ErrCode store_sync_snapshot(const Store *s, Err *err) ERR_CHECK;

/* Bytes that the user may still write to the file system of the repository's folder. */
bool store_free_bytes(const Store *s, uint64_t *bytes);

#endif
