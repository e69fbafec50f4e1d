/* hub/repo.h: names on the Hugging Face hub, checked before they become paths or addresses:
 * repositories, revisions, files, and what a file's bytes are kept as.
 *
 * May include: common. */
#ifndef LLORCH_HUB_REPO_H
#define LLORCH_HUB_REPO_H

#include <stdbool.h>

#include "common/error.h"

#define HUB_DEFAULT_REVISION "main"

enum {
    HUB_PART_MAX = 96, /* characters of ORG and of NAME, as the hub allows */
    HUB_ID_BYTES = 2 * HUB_PART_MAX + 2,
    HUB_FOLDER_BYTES = HUB_ID_BYTES + 16,
    HUB_REVISION_BYTES = 256,
    HUB_COMMIT_BYTES = 40 + 1,
    HUB_FILE_BYTES = 128,
    HUB_BLOB_BYTES = 128 + 1
};

typedef struct {
    char id[HUB_ID_BYTES];             /* "openai-community/gpt2", or "gpt2" */
    char name[HUB_PART_MAX + 1];       /* "gpt2" */
    char folder[HUB_FOLDER_BYTES];     /* "models--openai-community--gpt2" */
    char revision[HUB_REVISION_BYTES]; /* branch, tag or commit; "main" when none was given */
} HubRepo;

/* "ORG/NAME", "NAME", either with "@REVISION" behind it. Parts begin and end with a letter, a digit
 * or an underscore and hold dots and dashes besides, but not two in a row, as the hub demands.
 * Errors: ERR_USAGE, naming text and what is wrong with it. */
ErrCode hub_repo_parse(HubRepo *out, const char *text, Err *err) ERR_CHECK;

/* Sets another revision. A name of a branch or a tag as git allows it, or a commit: no "..", no
 * part that begins with a dot, so that it can be a path below refs/. Errors: ERR_USAGE. */
ErrCode hub_repo_set_revision(HubRepo *repo, const char *revision, Err *err) ERR_CHECK;

/* 40 lower-case hexadecimal digits. */
bool hub_is_commit(const char *text);

/* The name of a file at the top of a repository: letters, digits, ".", "_", "-", "+"; not hidden.
 */
bool hub_is_file_name(const char *text);

/* The name that the bytes of a file have in the cache, from an ETag header as it was sent: less the
 * quotes and the mark of a weak one. False, out untouched, for what is no harmless file name. */
bool hub_blob_name(char out[HUB_BLOB_BYTES], const char *etag);

/* What the name of a blob says about its bytes: a SHA-256 of 64 digits (large files), the SHA-1
 * that git names a file by (small ones), or nothing. */
typedef enum { HUB_DIGEST_NONE, HUB_DIGEST_GIT_SHA1, HUB_DIGEST_SHA256 } HubDigest;

HubDigest hub_blob_digest(const char *blob);

#endif
