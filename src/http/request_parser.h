/* http/request_parser.h: bytes in, one checked HTTP/1.x request out. llhttp parses, request_head
 * looks at the raw head first, and this adds the rules between headers and the limits of the body.
 * It knows no socket.
 *
 * This header does not show llhttp: its method constants (HTTP_GET) have the names of ours in
 * server.h.
 *
 * May include: nothing. */
#ifndef LLORCH_HTTP_REQUEST_PARSER_H
#define LLORCH_HTTP_REQUEST_PARSER_H

#include <stdbool.h>
#include <stddef.h>

#include "http/request_head.h"

enum { REQUEST_ID_BYTES = 129 }; /* a correlation id of 128 characters */

typedef struct {
    RequestHeadLimits head;
    size_t max_body_bytes;
    size_t *body_budget; /* bytes that all bodies together may still take; shared by the parsers */
    /* HttpHandler's of the same name, with its ctx. May be NULL. */
    const char *(*refuse_head)(void *ctx, const char *path, const char *authorization);
    void *refuse_ctx;
} RequestLimits;

/* Valid from REQUEST_COMPLETE until request_parser_reset. */
typedef struct {
    const char *method_name;
    const char *path; /* target up to '?'; an absolute target without scheme and authority */
    const char *correlation_id;   /* "" when absent, repeated or not 1-128 of [A-Za-z0-9._-] */
    const char *content_type;     /* NULL when absent; "?" when repeated or longer than 255 bytes */
    const char *content_encoding; /* likewise */
    const char *authorization;    /* likewise, with 1023 bytes */
    const char *if_none_match;    /* likewise, with 255 bytes */
    const char *body;             /* NUL-terminated */
    size_t n_body;
    bool keep_alive; /* the client allows another request on this connection */
    bool is_http_10;
} ParsedRequest;

typedef enum { REQUEST_MORE, REQUEST_COMPLETE, REQUEST_BAD } RequestResult;

typedef struct RequestParser RequestParser;

/* limits must outlive the parser. NULL: out of memory. */
RequestParser *request_parser_new(const RequestLimits *limits);
void request_parser_free(RequestParser *p);

/* Makes ready for the next request and gives the body's memory back. */
void request_parser_reset(RequestParser *p);

/* Reads data[0..n), n > 0. *used: bytes that belong to this request; after REQUEST_COMPLETE the
 * rest is the next one, after REQUEST_BAD it must not be interpreted at all. */
RequestResult request_parser_feed(RequestParser *p, const char *data, size_t n, size_t *used);

/* After REQUEST_COMPLETE. After REQUEST_BAD only method_name ("" when unknown), correlation_id and
 * is_http_10 count; with status 413 everything but the body does. */
const ParsedRequest *request_parser_request(const RequestParser *p);

/* The path as far as it is known, also of a request that was refused or is still on its way: ""
 * until the request line has come. */
const char *request_parser_path(RequestParser *p);

/* After REQUEST_BAD: the status that refuses the request, and why (a constant: nothing of the
 * request is in it). */
int request_parser_status(const RequestParser *p);
const char *request_parser_error(const RequestParser *p);

/* True once, when the client waits for "100 Continue" before it sends the body. */
bool request_parser_wants_continue(RequestParser *p);

#endif
