/* pull/fetch.h: one request to the hub, and what it leads to: redirections are followed here and
 * not by libcurl, so that the token goes to the hub's own address and nowhere else.
 *
 * May include: common, hub. */
#ifndef LLORCH_PULL_FETCH_H
#define LLORCH_PULL_FETCH_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "hub/answer.h"

enum { FETCH_MAX_REDIRECTS = 8 };

typedef struct {
    CURL *curl;
    const char *endpoint; /* borrowed, as token */
    const char *token;    /* "": none */
    int timeout_s;
    bool (*interrupted)(void); /* asked at least once a second */
} Fetcher;

typedef struct {
    const char *url;
    bool head;            /* HEAD: the answer of the hub itself, not of where the bytes are */
    uint64_t from;        /* the first byte that is wanted; 0: all */
    const char *if_range; /* with from: the ETag of what is there; "": none */
    /* Of a GET that succeeds (200 or 206): its headers, then its bytes. False ends the request;
     * the Err of fetch_run is then theirs to have filled. */
    bool (*begin)(void *ctx, const HubAnswer *a, Err *err);
    bool (*take)(void *ctx, const void *data, size_t n, Err *err);
    void (*tick)(void *ctx); /* many times a second; may be NULL */
    void *ctx;
} FetchRequest;

/* Errors: ERR_IO, ERR_MEMORY. */
ErrCode fetch_open(Fetcher *f, Err *err) ERR_CHECK;
void fetch_close(Fetcher *f); /* a zeroed one is allowed */

/* Runs r; *a is the last answer, whatever its status is, with what the hub said on the way and who
 * gave it to whom (elsewhere, with_token).
 * Errors: ERR_NETWORK, which may be gone the next time; ERR_CANCELLED; all others, those of begin
 * and take included, stay. Messages name the host. */
ErrCode fetch_run(Fetcher *f, const FetchRequest *r, HubAnswer *a, Err *err) ERR_CHECK;

#endif
