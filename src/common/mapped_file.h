/* common/mapped_file.h: a regular file, mapped read-only.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_MAPPED_FILE_H
#define LLORCH_COMMON_MAPPED_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

typedef struct {
    const unsigned char *data; /* size bytes, PROT_READ; NULL when closed */
    size_t size;
} MappedFile;

/* Opens path (O_RDONLY | O_CLOEXEC | O_NONBLOCK) and maps it whole, asking for large pages. Refuses
 * what is no regular file (never waits for a FIFO), empty files, and files above max_bytes (0: no
 * limit). Messages:
 * "<path>: <problem>". If the file shrinks while mapped, reading it raises SIGBUS:
 * mapped_file_guard makes that one line and exit 1. */
ErrCode mapped_file_open(MappedFile *f, const char *path, size_t max_bytes, Err *err) ERR_CHECK;

/* Whether to try this optional file at all: false only when there is certainly none. A dangling
 * link or what may not be looked at is there, so that opening it says what is wrong, instead of
 * going on as if nobody had put it there. */
bool mapped_file_is_there(const char *path);

/* Unmaps; a zeroed MappedFile is allowed. */
void mapped_file_close(MappedFile *f);

/* Lets go of the memory behind data[0..n), which must lie in a mapped file; reading it again brings
 * it back. The pages at both ends are let go whole. */
void mapped_file_drop(const unsigned char *data, size_t n);

/* Installs the SIGBUS handler (async-signal-safe: one write naming the mapped file in question,
 * _exit(1)). */
void mapped_file_guard(void);

/* For the usual wrong file: names what the first bytes really are (Git LFS pointer, HTML, gzip,
 * zip, pickle, GGUF, safetensors), or NULL when nothing is recognised. */
const char *mapped_file_kind(const unsigned char *data, size_t size);

#endif
