/* pull/download.c: see download.h.
 *
 * May include: cli, common, hub, pull. */
#include "pull/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/clock.h"
#include "pull/digest.h"
#include "pull/retry.h"

enum { LOCK_POLL_MS = 100, LOCK_SAID_AFTER_MS = 1000, GGUF_HEAD_BYTES = 96 };

/* A download under way. */
typedef struct {
    const Download *d;
    const RemoteFile *f;
    const char *url;
    char blob[PATH_MAX], incomplete[PATH_MAX];
    int fd, lock;  /* of the incomplete file; the lock's file keeps the ETag of what is in it */
    uint64_t have; /* bytes in it */
    uint64_t best; /* the most there have been: whatever is below was there before */
    bool went_on;  /* some of them are of an earlier run */
    char validator[HUB_ETAG_BYTES];
} Transfer;

/* --- what is on the disk --- */

/* Whether a blob is there, of the size that the hub says. */
static bool blob_is_there(const char *path, const RemoteFile *f)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (!f->has_size || (uint64_t)st.st_size == f->size);
}

uint64_t download_left(const Download *d, const RemoteFile *f)
{
    char blob[PATH_MAX], incomplete[PATH_MAX];
    struct stat st;

    if (!f->has_size || store_blob_path(blob, incomplete, d->store, f->blob, NULL) != ERR_OK)
        return 0;
    if (!d->o->force && blob_is_there(blob, f))
        return 0;
    if (d->o->force || stat(incomplete, &st) != 0 || (uint64_t)st.st_size > f->size)
        return f->size;
    return f->size - (uint64_t)st.st_size;
}

/* The bytes that may come. */
static uint64_t limit_of(const RemoteFile *f)
{
    return f->has_size ? f->size : DOWNLOAD_UNSIZED_MAX_BYTES;
}

/* Waits for whoever downloads the same blob at the moment. */
static ErrCode take_lock(Transfer *t, Err *err)
{
    const uint64_t start_ms = clock_now_ms();
    const struct timespec nap = {0, LOCK_POLL_MS * 1000000L};
    bool said = false;

    for (;;) {
        const ErrCode code = store_try_lock(&t->lock, t->d->store, t->f->blob, err);

        if (code != ERR_OK || t->lock >= 0)
            return code;
        if (cli_interrupted())
            return err_set(err, ERR_CANCELLED, "interrupted");
        if (!said && clock_now_ms() - start_ms >= LOCK_SAID_AFTER_MS) {
            progress_note(t->d->progress, "%s: waiting for another process that downloads it",
                          t->f->name);
            said = true;
        }
        (void)nanosleep(&nap, NULL);
    }
}

static ErrCode io_error(const Transfer *t, int error, Err *err)
{
    char have[PROGRESS_SIZE_BYTES];
    const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;

    if (full)
        return err_set(err, ERR_IO,
                       "%s: %s; the %s that came are kept, and the same command goes on "
                       "from there",
                       t->incomplete, strerror(error), progress_size(have, t->have));
    return err_set(err, ERR_IO, "%s: %s", t->incomplete, strerror(error));
}

static ErrCode shorten(Transfer *t, uint64_t size, Err *err)
{
    if (ftruncate(t->fd, (off_t)size) != 0)
        return io_error(t, errno, err);
    t->have = size;
    return ERR_OK;
}

/* An ETag that may be sent back: a strong one, quoted. */
static bool is_strong(const char *etag)
{
    const size_t n = strlen(etag);

    return n >= 2 && etag[0] == '"' && strchr(etag + 1, '"') == etag + n - 1;
}

/* What the last process that held the lock wrote there about the bytes it got. Anything else is no
 * reason not to go on: the checksum decides in the end. */
static void read_validator(Transfer *t)
{
    const ssize_t n = pread(t->lock, t->validator, sizeof t->validator - 1, 0);

    t->validator[n > 0 ? n : 0] = '\0';
    for (const char *c = t->validator; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            t->validator[0] = '\0';
    if (!is_strong(t->validator))
        t->validator[0] = '\0';
}

static void keep_validator(Transfer *t, const char *etag)
{
    (void)snprintf(t->validator, sizeof t->validator, "%s", is_strong(etag) ? etag : "");
    if (ftruncate(t->lock, 0) == 0 &&
        pwrite(t->lock, t->validator, strlen(t->validator), 0) != (ssize_t)strlen(t->validator))
        (void)!ftruncate(t->lock, 0);
}

static ErrCode open_incomplete(Transfer *t, Err *err)
{
    struct stat st;

    t->fd = open(t->incomplete, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (t->fd < 0 || fstat(t->fd, &st) != 0)
        return io_error(t, errno, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "%s: is no regular file", t->incomplete);
    t->have = (uint64_t)st.st_size;
    if (t->have > 0 && (t->d->o->force || t->have > limit_of(t->f)) && shorten(t, 0, err) != ERR_OK)
        return err->code;
    t->best = t->have;
    t->went_on = t->have > 0;
    if (t->went_on)
        read_validator(t);
    return ERR_OK;
}

/* --- what comes --- */

/* llama.cpp and all others begin with the architecture: what is another model is refused as soon as
 * that can be seen. */
static bool is_other_gguf(const Transfer *t, char *arch, size_t size)
{
    static const char key[] = "general.architecture";
    unsigned char head[GGUF_HEAD_BYTES];
    const size_t at = 4 + 4 + 8 + 8, at_type = at + 8 + sizeof key - 1, at_text = at_type + 4 + 8;
    const size_t n_name = strlen(t->f->name);

    if (n_name < 5 || strcmp(t->f->name + n_name - 5, ".gguf") != 0 ||
        pread(t->fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head, "GGUF", 4) != 0 || head[at] != sizeof key - 1 ||
        memcmp(head + at + 8, key, sizeof key - 1) != 0 || head[at_type] != 8)
        return false;
    const size_t n = head[at_type + 4];
    if (n == 0 || n >= size || at_text + n > sizeof head)
        return false;
    memcpy(arch, head + at_text, n);
    arch[n] = '\0';
    return strcmp(arch, "gpt2") != 0;
}

/* Its bytes are worth nothing then, to a later run neither. */
static bool refuse_other_gguf(Transfer *t, Err *err)
{
    Err unread = {.code = ERR_OK};
    char arch[32];

    if (t->have < GGUF_HEAD_BYTES || !is_other_gguf(t, arch, sizeof arch))
        return false;
    (void)err_set(err, ERR_UNSUPPORTED, "%s: its architecture is \"%s\", expected \"gpt2\"",
                  t->f->name, arch);
    (void)!shorten(t, 0, &unread);
    return true;
}

static bool on_begin(void *ctx, const HubAnswer *a, Err *err)
{
    Transfer *t = ctx;
    const RemoteFile *f = t->f;

    if (a->encoded) {
        (void)err_set(err, ERR_FORMAT, "%s: the server sends it compressed, which nobody asked for",
                      f->name);
        return false;
    }
    if (a->status == 206 && (!a->has_range || a->range_start != t->have ||
                             (a->has_range_total && f->has_size && a->range_total != f->size))) {
        /* The next attempt asks for all of it. */
        if (shorten(t, 0, err) == ERR_OK)
            (void)err_set(err, ERR_NETWORK, "%s: the server sends another part than was asked for",
                          f->name);
        return false;
    }
    if (a->status == 200 && t->have > 0 && shorten(t, 0, err) != ERR_OK)
        return false;
    if (a->status == 200 && f->has_size && a->has_length && a->length != f->size) {
        (void)err_set(err, ERR_FORMAT,
                      "%s: the server has %" PRIu64 " bytes, the hub said %" PRIu64, f->name,
                      a->length, f->size);
        return false;
    }
    keep_validator(t, a->etag);
    if (t->have == 0)
        t->went_on = false;
    return !refuse_other_gguf(t, err); /* what an earlier run left */
}

static bool on_bytes(void *ctx, const void *data, size_t n, Err *err)
{
    Transfer *t = ctx;
    const RemoteFile *f = t->f;
    const uint64_t limit = limit_of(f);
    const bool was_short = t->have < GGUF_HEAD_BYTES;
    const char *bytes = data;

    if (n > limit - t->have) {
        (void)err_set(err, ERR_FORMAT, "%s: more than %" PRIu64 " bytes came, %s", f->name, limit,
                      f->has_size ? "which is what the hub said" : "and the hub told no size");
        return false;
    }
    while (n > 0) {
        const ssize_t done = pwrite(t->fd, bytes, n, (off_t)t->have);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            (void)io_error(t, done < 0 ? errno : EIO, err);
            return false;
        }
        t->have += (uint64_t)done;
        bytes += done;
        n -= (size_t)done;
    }
    return !was_short || !refuse_other_gguf(t, err);
}

static void on_tick(void *ctx)
{
    const Transfer *t = ctx;

    progress_show(t->d->progress, t->have);
}

/* One request; ERR_OK once all bytes are there. */
static ErrCode attempt(Transfer *t, HubAnswer *a, Err *err)
{
    const FetchRequest r = {.url = t->url,
                            .from = t->have,
                            .if_range = t->validator,
                            .begin = on_begin,
                            .take = on_bytes,
                            .tick = on_tick,
                            .ctx = t};

    hub_answer_begin(a);
    if (fetch_run(t->d->fetcher, &r, a, err) != ERR_OK)
        return err->code;
    if (a->status == 416) {
        if (shorten(t, 0, err) != ERR_OK)
            return err->code;
        return err_set(err, ERR_NETWORK, "%s: the server does not have the part that is missing",
                       t->f->name);
    }
    if (a->status != 200 && a->status != 206)
        return retry_status(t->d->o, t->f->name, a, err);
    if (t->f->has_size && t->have < t->f->size)
        return err_set(err, ERR_NETWORK,
                       "%s: the answer ended after %" PRIu64 " of %" PRIu64 " bytes", t->f->name,
                       t->have, t->f->size);
    return ERR_OK;
}

/* All bytes, over as many attempts as bring some. */
static ErrCode transfer(Transfer *t, Err *err)
{
    Retry retry = {.o = t->d->o, .progress = t->d->progress};
    HubAnswer a;

    while (!t->f->has_size || t->have < t->f->size) {
        progress_begin(t->d->progress, t->f->name, t->have, t->f->has_size ? t->f->size : 0);
        if (attempt(t, &a, err) == ERR_OK)
            break;
        if (t->have > t->best)
            retry.failed = 0;
        if (t->have > t->best)
            t->best = t->have;
        if (!retry_wait(&retry, &a, err))
            return err->code;
    }
    return ERR_OK;
}

/* --- what has come --- */

static bool checking(void *ctx, uint64_t done)
{
    (void)ctx;
    (void)done;
    return !cli_interrupted();
}

/* *ok: the bytes are those that the hub names the file by. */
static ErrCode check_digest(Transfer *t, bool *ok, char digest[DIGEST_TEXT_BYTES], Err *err)
{
    const HubDigest kind = hub_blob_digest(t->f->blob);

    if (digest_file(digest, t->fd, kind, t->have, t->incomplete, checking, NULL, err) != ERR_OK)
        return err->code;
    *ok = kind == HUB_DIGEST_NONE || strcmp(digest, t->f->blob) == 0;
    if (kind == HUB_DIGEST_NONE)
        progress_note(t->d->progress,
                      "%s: the hub has no checksum for it; only its size is checked", t->f->name);
    return ERR_OK;
}

/* Downloads and checks; bytes of an earlier run that turn out to be wrong are no reason to fail. */
static ErrCode transfer_checked(Transfer *t, Err *err)
{
    char digest[DIGEST_TEXT_BYTES];
    bool ok = false;

    for (;;) {
        if (transfer(t, err) != ERR_OK || check_digest(t, &ok, digest, err) != ERR_OK)
            return err->code;
        if (ok)
            return ERR_OK;
        const bool again = t->went_on;
        if (shorten(t, 0, err) != ERR_OK)
            return err->code;
        t->best = 0;
        t->went_on = false;
        if (!again)
            return err_set(
                err, ERR_FORMAT,
                "%s: what came has the checksum %s, the hub said %s; nothing of it is kept",
                t->f->name, digest, t->f->blob);
        progress_note(t->d->progress, "%s: what was there before does not fit; from the beginning",
                      t->f->name);
    }
}

static ErrCode give_name(Transfer *t, Err *err)
{
    int done;

    do
        done = fsync(t->fd);
    while (done != 0 && errno == EINTR);
    if (done != 0 || rename(t->incomplete, t->blob) != 0)
        return io_error(t, errno, err);
    if (ftruncate(t->lock, 0) != 0) /* nothing is incomplete any more */
        return io_error(t, errno, err);
    return store_sync_blobs(t->d->store, err);
}

static ErrCode download_locked(Transfer *t, Err *err)
{
    ErrCode code = ERR_OK;

    /* Whoever had the lock before may have got it. */
    if (!t->d->o->force && blob_is_there(t->blob, t->f))
        return ERR_OK;
    code = open_incomplete(t, err);
    if (code == ERR_OK)
        code = transfer_checked(t, err);
    if (code == ERR_OK)
        code = give_name(t, err);
    progress_clear(t->d->progress);
    if (code == ERR_OK)
        progress_end(t->d->progress, t->have);
    /* An empty file says nothing to the next run. */
    if (code != ERR_OK && t->fd >= 0 && t->have == 0)
        (void)unlink(t->incomplete);
    if (t->fd >= 0)
        (void)close(t->fd);
    return code;
}

ErrCode download_file(const Download *d, const RemoteFile *f, const char *url, Err *err)
{
    Transfer t = {.d = d, .f = f, .url = url, .fd = -1, .lock = -1};

    if (store_blob_path(t.blob, t.incomplete, d->store, f->blob, err) != ERR_OK)
        return err->code;
    /* What is complete needs no lock: in a cache that only others may write to there is none. */
    if (!d->o->force && blob_is_there(t.blob, f))
        return ERR_OK;
    if (store_make_folders(d->store, err) != ERR_OK || take_lock(&t, err) != ERR_OK)
        return err->code;
    progress_begin(d->progress, f->name, 0, f->has_size ? f->size : 0);
    const ErrCode code = download_locked(&t, err);
    (void)close(t.lock);
    return code;
}
