/* http/request_head.h: looks at the raw bytes of a request's head before llhttp gets them. It is
 * stricter than the parser and never more lenient: it refuses what llhttp lets pass (two blanks in
 * the request line, no version, folded lines, an empty header name, any number of line breaks in
 * front) and counts lines and bytes against the limits, so that a limit is exact wherever the
 * network cuts the stream. Names and values are llhttp's business.
 *
 * May include: nothing. */
#ifndef LLORCH_HTTP_REQUEST_HEAD_H
#define LLORCH_HTTP_REQUEST_HEAD_H

#include <stddef.h>

typedef struct {
    size_t max_request_line; /* without its CR LF */
    size_t max_header_bytes; /* all header lines with their CR LF, trailer fields included */
    int max_headers;         /* lines, trailer fields included */
} RequestHeadLimits;

typedef enum {
    HEAD_START,    /* one empty line is allowed in front (RFC 9112, 2.2) */
    HEAD_START_LF, /* the CR of that line was seen */
    HEAD_METHOD,   /* from here on: inside the request line */
    HEAD_TARGET,
    HEAD_VERSION,
    HEAD_REQUEST_LF,
    HEAD_LINE_START, /* from here on: header lines */
    HEAD_LINE,
    HEAD_LINE_LF,
    HEAD_END_LF,
    HEAD_DONE
} RequestHeadState;

typedef struct {
    const RequestHeadLimits *limits;
    RequestHeadState state;
    size_t n_line; /* bytes of the request line */
    size_t n_word; /* bytes of the current part of the request line */
    size_t n_header_bytes;
    int n_headers;
    char version[8];   /* "HTTP/1.1", no NUL */
    int status;        /* 0, or the status that refuses this request */
    const char *error; /* what is wrong; a constant */
} RequestHead;

/* limits must outlive h. */
void request_head_init(RequestHead *h, const RequestHeadLimits *limits);

/* Reads header lines again after the last chunk: trailer fields, under what is left of the limits.
 */
void request_head_begin_trailer(RequestHead *h);

/* Looks at data[0..n) up to the end of the head. Returns the number of good bytes: all of them, or
 * those up to the end of the head (state HEAD_DONE), or those before the offending byte (status
 * set). */
size_t request_head_scan(RequestHead *h, const char *data, size_t n);

#endif
