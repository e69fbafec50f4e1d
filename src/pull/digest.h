/* pull/digest.h: the checksum that the hub names a file by, of the bytes that lie on the disk.
 *
 * May include: common, hub. */
#ifndef LLORCH_PULL_DIGEST_H
#define LLORCH_PULL_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "hub/repo.h"

enum { DIGEST_TEXT_BYTES = 64 + 1 };

/* The digest of the first size bytes behind fd, in lower-case hexadecimal; "" for HUB_DIGEST_NONE.
 * what names the file in messages; go_on hears how much is done and may end it.
 * Errors: ERR_IO (fewer bytes are there), ERR_CANCELLED, ERR_MEMORY, ERR_INTERNAL. */
ErrCode digest_file(char out[DIGEST_TEXT_BYTES], int fd, HubDigest kind, uint64_t size,
                    const char *what, bool (*go_on)(void *ctx, uint64_t done), void *ctx,
                    Err *err) ERR_CHECK;

#endif
