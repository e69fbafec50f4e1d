/* tests/fuzz/fuzz_files.h: files for targets whose code opens paths: a folder, made once, of links
 * to files in memory, so that no input costs a write to a disk. */
#ifndef LLORCH_TESTS_FUZZ_FILES_H
#define LLORCH_TESTS_FUZZ_FILES_H

#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

enum { FUZZ_PATH_BYTES = 128 };

typedef struct {
    const char *name;
    int fd;
} FuzzFile;

static char fuzz_folder[] = "/tmp/llorch-fuzz-XXXXXX";

static inline void fuzz_path(char out[FUZZ_PATH_BYTES], const char *name)
{
    (void)snprintf(out, FUZZ_PATH_BYTES, "%s/%s", fuzz_folder, name);
}

/* Makes the folder and each of the files, which are still empty. */
static inline void fuzz_make_files(FuzzFile *files, size_t n)
{
    char path[FUZZ_PATH_BYTES], target[64];

    FUZZ_CHECK(mkdtemp(fuzz_folder) != NULL);
    for (size_t i = 0; i < n; i++) {
        files[i].fd = memfd_create(files[i].name, MFD_CLOEXEC);
        FUZZ_CHECK(files[i].fd >= 0);
        fuzz_path(path, files[i].name);
        (void)snprintf(target, sizeof target, "/proc/self/fd/%d", files[i].fd);
        FUZZ_CHECK(symlink(target, path) == 0);
    }
}

static inline void fuzz_remove_files(const FuzzFile *files, size_t n)
{
    char path[FUZZ_PATH_BYTES];

    for (size_t i = 0; i < n; i++) {
        fuzz_path(path, files[i].name);
        (void)unlink(path);
    }
    (void)rmdir(fuzz_folder);
}

static inline void fuzz_fill(const FuzzFile *file, const uint8_t *data, size_t n)
{
    FUZZ_CHECK(ftruncate(file->fd, 0) == 0);
    FUZZ_CHECK(n == 0 || pwrite(file->fd, data, n, 0) == (ssize_t)n);
}

#endif
