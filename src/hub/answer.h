/* hub/answer.h: what the headers of one answer say, line by line as they come. A header that counts
 * and is damaged, or there twice with different values, refuses the answer.
 *
 * May include: common, hub. */
#ifndef LLORCH_HUB_ANSWER_H
#define LLORCH_HUB_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/repo.h"

enum {
    HUB_HEADERS_MAX_BYTES = 64 * 1024, /* of one answer, redirections before it not counted */
    HUB_ETAG_BYTES = 256,
    HUB_URL_BYTES = 8192,
    HUB_CODE_BYTES = 32
};

typedef struct {
    size_t n_bytes; /* of header lines so far */
    int status;     /* 0 before the first line */
    bool has_length, has_linked_size, has_range, has_range_total, has_retry_after;
    uint64_t length;      /* Content-Length */
    uint64_t linked_size; /* X-Linked-Size: of the file that a redirection leads to */
    uint64_t range_start, range_end, range_total; /* Content-Range; the end is its last byte */
    uint64_t retry_after_s;                       /* Retry-After, where it is a number */
    bool encoded;                                 /* Content-Encoding is something */
    bool elsewhere;  /* of who asked: it is not the hub's own answer, but of who it led to */
    bool with_token; /* of who asked: the request had the token */
    char etag[HUB_ETAG_BYTES];        /* as sent; empty: none */
    char linked_etag[HUB_ETAG_BYTES]; /* X-Linked-Etag, as sent */
    char commit[HUB_COMMIT_BYTES];    /* X-Repo-Commit */
    char error_code[HUB_CODE_BYTES];  /* X-Error-Code: letters only */
    char location[HUB_URL_BYTES];     /* Location, printable ASCII only */
} HubAnswer;

/* Before the first line. */
void hub_answer_begin(HubAnswer *a);

/* One line of line[0..n), its end included or not: a status line, which begins a new answer (that
 * of a "100 Continue" before it is forgotten), a header, or an empty line. Headers that do not
 * count are skipped. Errors: ERR_FORMAT, ERR_LIMIT, naming the header. */
ErrCode hub_answer_line(HubAnswer *a, const char *line, size_t n, Err *err) ERR_CHECK;

/* What the hub said on the way, before it led elsewhere, counts for what it does not repeat. */
void hub_answer_inherit(HubAnswer *a, const HubAnswer *before);

/* Whether it leads elsewhere: 301, 302, 303, 307 or 308, with a Location. */
bool hub_answer_redirects(const HubAnswer *a);

/* The ETag and the size of the file itself: the linked ones, where there are such. "": none. */
const char *hub_answer_etag(const HubAnswer *a);
bool hub_answer_size(const HubAnswer *a, uint64_t *size);

#endif
