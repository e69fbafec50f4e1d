/* common/new_file.h: writing a file that is there as a whole or not at all: a temporary name, then
 * a rename.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_NEW_FILE_H
#define LLORCH_COMMON_NEW_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

typedef struct {
    int fd;
    int failure; /* errno of the first write that failed, else 0 */
    char path[PATH_MAX];
    char temporary[PATH_MAX];
} NewFile;

/* Creates the temporary file beside path, which must not be a device or a pipe. Errors: ERR_IO,
 * "<path>: <errno text>"; names the temporary file when that is in the way. */
ErrCode new_file_open(NewFile *f, const char *path, Err *err) ERR_CHECK;

/* Appends data[0..n); false after a failure, which new_file_commit reports. */
bool new_file_write(NewFile *f, const void *data, size_t n);

/* Flushes to the disk and renames. On any failure, earlier ones included, nothing stays and path is
 * what it was before. f is closed in any case. */
ErrCode new_file_commit(NewFile *f, Err *err) ERR_CHECK;

/* Instead of new_file_commit: closes f and removes the temporary file. */
void new_file_discard(NewFile *f);

#endif
