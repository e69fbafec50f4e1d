/* pull/download.h: one file of a repository to its blob: goes on where an earlier attempt stopped,
 * checks size and checksum, and gives the blob its name only then.
 *
 * May include: common, hub, pull. */
#ifndef LLORCH_PULL_DOWNLOAD_H
#define LLORCH_PULL_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "hub/repo.h"
#include "pull/fetch.h"
#include "pull/options.h"
#include "pull/progress.h"
#include "pull/store.h"

/* A file without a size may have this many bytes. */
enum { DOWNLOAD_UNSIZED_MAX_BYTES = 64 * 1024 * 1024 };

typedef struct {
    char name[HUB_FILE_BYTES];
    char blob[HUB_BLOB_BYTES];
    bool has_size;
    uint64_t size;
} RemoteFile;

typedef struct {
    Fetcher *fetcher;
    const PullOptions *o;
    Progress *progress;
    const Store *store;
} Download;

/* Bytes of f that are still to come: none when the blob is there. */
uint64_t download_left(const Download *d, const RemoteFile *f);

/* Gets f from url. A blob of the right size that is there already is taken as it is, unless
 * --force. What came of an attempt that failed stays, for the next one, unless it is wrong.
 * Errors: those of fetch_run and retry_status; ERR_IO (the disk), ERR_FORMAT (size or checksum). */
ErrCode download_file(const Download *d, const RemoteFile *f, const char *url, Err *err) ERR_CHECK;

#endif
