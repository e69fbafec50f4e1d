/* common/new_file.c: see new_file.h.
 *
 * May include: common. */
#include "common/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A name may be taken by what a process of the same number left behind when it was killed; in a
 * container every run has the same number. */
enum { NAMES_TO_TRY = 100 };

/* /dev/null, a pipe: renaming would put a plain file in its place, and who may write to /dev would
 * lose the device. */
static bool is_special(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

ErrCode new_file_open(NewFile *f, const char *path, Err *err)
{
    const int n = snprintf(f->path, sizeof f->path, "%s", path);

    f->failure = 0;
    if (is_special(path))
        return err_set(err, ERR_IO, "%s: not a regular file, would be replaced by one", path);
    f->fd = -1;
    errno = EEXIST;
    for (int i = 0; i < NAMES_TO_TRY && f->fd < 0 && (errno == EEXIST || errno == EINTR); i++) {
        const int m =
            snprintf(f->temporary, sizeof f->temporary, "%s.%ld.%d.tmp", path, (long)getpid(), i);

        if (n < 0 || m < 0 || (size_t)m >= sizeof f->temporary)
            return err_set(err, ERR_IO, "%s: %s", path, strerror(ENAMETOOLONG));
        f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (f->fd < 0)
        return err_set(err, ERR_IO, "%s: %s", errno == EEXIST ? f->temporary : f->path,
                       strerror(errno));
    return ERR_OK;
}

bool new_file_write(NewFile *f, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0 && f->failure == 0) {
        const ssize_t done = write(f->fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            f->failure = done < 0 ? errno : EIO;
            break;
        }
        p += done;
        n -= (size_t)done;
    }
    return f->failure == 0;
}

/* 0, or the errno of the first failure. */
static int flush_to_disk(int fd)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

ErrCode new_file_commit(NewFile *f, Err *err)
{
    if (f->failure == 0)
        f->failure = flush_to_disk(f->fd);
    /* Linux has closed the descriptor even when a signal came: never a second time, and with the
     * data on the disk nothing is lost. */
    if (close(f->fd) != 0 && errno != EINTR && f->failure == 0)
        f->failure = errno;
    if (f->failure == 0 && rename(f->temporary, f->path) == 0)
        return ERR_OK;
    if (f->failure == 0)
        f->failure = errno;
    (void)unlink(f->temporary);
    return err_set(err, ERR_IO, "%s: %s", f->path, strerror(f->failure));
}

void new_file_discard(NewFile *f)
{
    (void)close(f->fd);
    (void)unlink(f->temporary);
}
