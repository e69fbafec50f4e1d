/* pull/digest.c: see digest.h.
 *
 * May include: common, hub. */
#include "pull/digest.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 * 1024 };

static ErrCode refused(const char *what, Err *err)
{
    return err_set(err, ERR_INTERNAL, "%s: libcrypto computes no checksum", what);
}

static ErrCode begin(EVP_MD_CTX *md, HubDigest kind, uint64_t size, const char *what, Err *err)
{
    char head[32];
    const int n = snprintf(head, sizeof head, "blob %" PRIu64, size);

    if (EVP_DigestInit_ex(md, kind == HUB_DIGEST_SHA256 ? EVP_sha256() : EVP_sha1(), NULL) != 1)
        return refused(what, err);
    /* What git hashes is "blob <size>", a NUL, and the bytes. */
    if (kind == HUB_DIGEST_GIT_SHA1 && EVP_DigestUpdate(md, head, (size_t)n + 1) != 1)
        return refused(what, err);
    return ERR_OK;
}

static ErrCode add_bytes(EVP_MD_CTX *md, int fd, uint64_t size, const char *what,
                         bool (*go_on)(void *ctx, uint64_t done), void *ctx, Err *err)
{
    unsigned char piece[PIECE_BYTES];
    uint64_t done = 0;

    while (done < size) {
        const uint64_t left = size - done;
        const size_t wanted = left < sizeof piece ? (size_t)left : sizeof piece;
        const ssize_t n = pread(fd, piece, wanted, (off_t)done);

        if (!go_on(ctx, done))
            return err_set(err, ERR_CANCELLED, "%s: interrupted", what);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_IO, "%s: %s", what,
                           n < 0 ? strerror(errno) : "it became shorter while it was read");
        if (EVP_DigestUpdate(md, piece, (size_t)n) != 1)
            return refused(what, err);
        done += (uint64_t)n;
    }
    return ERR_OK;
}

static ErrCode end(char out[DIGEST_TEXT_BYTES], EVP_MD_CTX *md, const char *what, Err *err)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_DigestFinal_ex(md, bytes, &n) != 1 || 2 * n >= DIGEST_TEXT_BYTES)
        return refused(what, err);
    for (unsigned i = 0; i < n; i++)
        (void)snprintf(out + 2 * (size_t)i, 3, "%02x", bytes[i]);
    return ERR_OK;
}

ErrCode digest_file(char out[DIGEST_TEXT_BYTES], int fd, HubDigest kind, uint64_t size,
                    const char *what, bool (*go_on)(void *ctx, uint64_t done), void *ctx, Err *err)
{
    out[0] = '\0';
    if (kind == HUB_DIGEST_NONE)
        return ERR_OK;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL)
        return err_set(err, ERR_MEMORY, "%s: no memory for a checksum", what);
    ErrCode code = begin(md, kind, size, what, err);
    if (code == ERR_OK)
        code = add_bytes(md, fd, size, what, go_on, ctx, err);
    if (code == ERR_OK)
        code = end(out, md, what, err);
    EVP_MD_CTX_free(md);
    return code;
}
