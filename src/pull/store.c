/* pull/store.c: see store.h.
 *
 * May include: common, hub. */
#include "pull/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/new_file.h"
#include "hub/cache.h"

static ErrCode join(char out[PATH_MAX], const char *folder, const char *tail, Err *err)
{
    const size_t n = strlen(folder), n_tail = strlen(tail);

    if (n + n_tail + 1 >= PATH_MAX)
        return err_set(err, ERR_LIMIT, "%s/%s: %s", folder, tail, strerror(ENAMETOOLONG));
    memmove(out, folder, n);
    out[n] = '/';
    memcpy(out + n + 1, tail, n_tail + 1);
    return ERR_OK;
}

/* path and what is above it. */
static ErrCode make_folders(const char *path, Err *err)
{
    char part[PATH_MAX];
    const size_t n = strlen(path);

    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return err_set(err, ERR_IO, "%s: %s", part, strerror(errno));
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        const int error = mkdir(path, 0777) != 0 ? errno : ENOTDIR;

        return err_set(err, ERR_IO, "%s: %s", path, strerror(error == EEXIST ? ENOTDIR : error));
    }
    return ERR_OK;
}

ErrCode store_open(Store *s, const char *cache, const HubRepo *repo, const char *commit, Err *err)
{
    if (join(s->repo, cache, repo->folder, err) != ERR_OK ||
        join(s->locks, cache, ".locks", err) != ERR_OK ||
        join(s->locks, s->locks, repo->folder, err) != ERR_OK ||
        join(s->blobs, s->repo, "blobs", err) != ERR_OK ||
        hub_cache_snapshot(s->snapshot, cache, repo, commit, err) != ERR_OK ||
        join(s->absent, s->repo, ".no_exist", err) != ERR_OK ||
        join(s->absent, s->absent, commit, err) != ERR_OK)
        return err->code;
    return ERR_OK;
}

ErrCode store_make_folders(const Store *s, Err *err)
{
    if (make_folders(s->snapshot, err) != ERR_OK || make_folders(s->blobs, err) != ERR_OK ||
        make_folders(s->locks, err) != ERR_OK)
        return err->code;
    return ERR_OK;
}

ErrCode store_blob_path(char out[PATH_MAX], char incomplete[PATH_MAX], const Store *s,
                        const char *blob, Err *err)
{
    char name[HUB_BLOB_BYTES + 16];

    if (join(out, s->blobs, blob, err) != ERR_OK)
        return err->code;
    if (incomplete == NULL)
        return ERR_OK;
    (void)snprintf(name, sizeof name, "%s.incomplete", blob);
    return join(incomplete, s->blobs, name, err);
}

/* A failure that may be the file system's nature. */
static ErrCode not_here(const char *path, int error, const char *lacks, Err *err)
{
    if (error != ENOSYS && error != EOPNOTSUPP && error != EPERM && error != ENOLCK)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(error));
    return err_set(err, ERR_IO,
                   "%s: %s; a file system without %s keeps no cache: choose another place with "
                   "--cache-dir or HF_HUB_CACHE",
                   path, strerror(error), lacks);
}

/* Whether fd is still what path names: its last holder may have removed it. */
static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

ErrCode store_try_lock(int *fd, const Store *s, const char *blob, Err *err)
{
    char name[HUB_BLOB_BYTES + 8], path[PATH_MAX];

    *fd = -1;
    (void)snprintf(name, sizeof name, "%s.lock", blob);
    if (join(path, s->locks, name, err) != ERR_OK)
        return err->code;
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (lock < 0)
        return errno == EINTR ? ERR_OK : err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    const int error = flock(lock, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    if (error == 0 && is_same_file(lock, path)) {
        *fd = lock;
        return ERR_OK;
    }
    (void)close(lock);
    if (error == 0 || error == EWOULDBLOCK || error == EINTR)
        return ERR_OK;
    return not_here(path, error, "locks (flock)", err);
}

ErrCode store_link(const Store *s, const char *name, const char *blob, Err *err)
{
    char path[PATH_MAX], made[PATH_MAX], target[HUB_BLOB_BYTES + 16], now[sizeof target];
    char hidden[HUB_FILE_BYTES + 32];

    (void)snprintf(target, sizeof target, "../../blobs/%s", blob);
    (void)snprintf(hidden, sizeof hidden, ".%s.%ld.tmp", name, (long)getpid());
    if (join(path, s->snapshot, name, err) != ERR_OK ||
        join(made, s->snapshot, hidden, err) != ERR_OK)
        return err->code;
    const ssize_t n = readlink(path, now, sizeof now);
    if (n == (ssize_t)strlen(target) && memcmp(now, target, (size_t)n) == 0)
        return ERR_OK;
    if (store_make_folders(s, err) != ERR_OK)
        return err->code;
    (void)unlink(made); /* of a process of the same number that was killed */
    if (symlink(target, made) == 0 && rename(made, path) == 0)
        return ERR_OK;
    const int error = errno;
    (void)unlink(made);
    return not_here(path, error, "symbolic links", err);
}

void store_mark_absent(const Store *s, const char *name)
{
    char path[PATH_MAX];
    Err unread = {.code = ERR_OK};

    if (make_folders(s->absent, &unread) != ERR_OK ||
        join(path, s->absent, name, &unread) != ERR_OK)
        return;
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd >= 0)
        (void)close(fd);
}

/* Brings the names in a folder to the disk. */
static ErrCode sync_folder(const char *folder, Err *err)
{
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int done = -1;

    if (fd >= 0) {
        do
            done = fsync(fd);
        while (done != 0 && errno == EINTR);
    }
    /* File systems that cannot do this for a folder say so. */
    const int error = done != 0 && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return error == 0 ? ERR_OK : err_set(err, ERR_IO, "%s: %s", folder, strerror(error));
}

/* The folder above as well: it has the name of this one. */
static ErrCode sync_two_folders(const char *folder, Err *err)
{
    char above[PATH_MAX];

    if (sync_folder(folder, err) != ERR_OK)
        return err->code;
    (void)snprintf(above, sizeof above, "%.*s", (int)(strrchr(folder, '/') - folder), folder);
    return sync_folder(above, err);
}

ErrCode store_sync_blobs(const Store *s, Err *err)
{
    return sync_folder(s->blobs, err);
}

ErrCode store_sync_snapshot(const Store *s, Err *err)
{
    return sync_two_folders(s->snapshot, err);
}

ErrCode store_write_ref(const Store *s, const HubRepo *repo, const char *commit, Err *err)
{
    char path[PATH_MAX], folder[PATH_MAX];
    NewFile f;

    if (strcmp(repo->revision, commit) == 0)
        return ERR_OK;
    if (join(path, s->repo, "refs", err) != ERR_OK ||
        join(path, path, repo->revision, err) != ERR_OK)
        return err->code;
    memcpy(folder, path, strlen(path) + 1);
    *strrchr(folder, '/') = '\0';
    if (make_folders(folder, err) != ERR_OK || new_file_open(&f, path, err) != ERR_OK)
        return err->code;
    (void)new_file_write(&f, commit, strlen(commit));
    return new_file_commit(&f, err) != ERR_OK ? err->code : sync_two_folders(folder, err);
}

bool store_free_bytes(const Store *s, uint64_t *bytes)
{
    struct statvfs v;

    if (statvfs(s->repo, &v) != 0)
        return false;
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return true;
}
