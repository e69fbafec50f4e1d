/* http/server.h: HTTP/1.1 connections on libevent's bufferevents with llhttp as parser. Knows
 * requests and responses, not routes and not jobs: it calls one handler per complete request.
 *
 * Who owns a connection when: on_request hands conn to the handler. It is the handler's until
 * exactly one of these:
 *   1. http_respond returned,
 *   2. http_stream_end returned,
 *   3. on_close was called (it may still be used inside that call).
 * After that the pointer must not be used again: the connection may be gone, or serve its next
 * request.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_SERVER_H
#define LLORCH_HTTP_SERVER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "http/listener.h"

typedef struct HttpServer HttpServer;
typedef struct HttpConn HttpConn; /* one connection; see above for how long it is valid */

/* The limits of contract 5. http_limits_default() fills the documented values. Requests that
 * break one get the status named here and the connection ends. All request bodies together may take
 * 32 times max_body_bytes (503). */
typedef struct {
    size_t max_request_line;  /* 8 KiB without its CR LF: 414 */
    size_t max_header_bytes;  /* 32 KiB, all header lines with their CR LF: 431 */
    int max_headers;          /* 100 lines: 431 */
    size_t max_body_bytes;    /* 2 MiB: 413, before the body is read when Content-Length tells */
    int request_timeout_ms;   /* 10 s from the first byte to the complete request: 408 */
    int idle_timeout_ms;      /* 30 s of keep-alive, or of silence on a new connection: closed */
    size_t max_pending_bytes; /* 64 KiB unread by the client: the stream counts as blocked */
    int write_timeout_ms;     /* 10 s with less than min_taken_bytes of what waits taken: closed */
    size_t min_taken_bytes;   /* 4 KiB */
    int max_connections; /* 1024 or RLIMIT_NOFILE - 32; above, a newcomer takes the place of the
                       one that was idle longest; while all are busy, newcomers wait */
} HttpLimits;

HttpLimits http_limits_default(void);

typedef enum { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS, HTTP_OTHER } HttpMethod;

/* A complete request; everything in it is valid during the handler call only. */
typedef struct {
    HttpMethod method;
    const char *method_name;    /* "GET" */
    const char *path;           /* target up to '?', NUL-terminated, not decoded */
    const char *correlation_id; /* the client's X-Correlation-ID when valid, else a fresh UUIDv4 */
    const char *content_type;   /* NULL: absent; "?": repeated, or too long to be a known one */
    const char *content_encoding; /* likewise */
    const char *if_none_match;    /* likewise */
    const char *body;             /* n_body bytes, NUL-terminated */
    size_t n_body;
} HttpRequest;

typedef struct {
    void *ctx;
    /* Must answer, now or later, with http_respond or http_stream_begin ... http_stream_end on
     * conn. */
    void (*on_request)(void *ctx, HttpConn *conn, const HttpRequest *request);
    /* The peer is gone before its answer was finished: FIN, RST, half-close (all three count as
     * gone), write time-out, or no memory for the answer. Called exactly once for such a
     * connection, never after http_respond or http_stream_end; only from the loop or from
     * http_server_poll_hangups, never from inside another http_ call or on_request. Answering conn
     * here does nothing; other connections may be answered. */
    void (*on_close)(void *ctx, HttpConn *conn);
    /* May be NULL. The body is longer than max_body_bytes: answers with http_respond what comes
     * before 413 (path, method, type), or does nothing. The request has no body; the connection
     * ends in either case. */
    void (*on_too_large)(void *ctx, HttpConn *conn, const HttpRequest *request);
    /* May be NULL. Asked once the head of a request is complete and well-formed, before any of its
     * body is read or its size is looked at: NULL lets it pass; a text (a constant, nothing of the
     * request) refuses it with 401, and the connection ends. authorization: the header's value;
     * NULL: absent; "?": repeated, or longer than 1023 bytes. */
    const char *(*refuse_head)(void *ctx, const char *path, const char *authorization);
    /* May be NULL: on none. Whether answers on this path repeat X-Correlation-ID as X-Request-ID,
     * where OpenAI's clients look for it. */
    bool (*shows_request_id)(const char *path);
    /* Body of answers that the connection layer gives itself (400, 401, 408, 413, 414, 417, 431,
     * 503, 505): writes JSON into out (size bytes) and returns its length. path: the request's, ""
     * as long as it has not come whole; message is a constant of this layer, nothing of the
     * request.
     */
    size_t (*error_body)(void *ctx, const char *path, int status, const char *message, char *out,
                         size_t size);
} HttpHandler;

/* base must outlive the server; limits and handler are copied. Ignores SIGPIPE for the process.
 * NULL: out of memory. */
HttpServer *http_server_new(struct event_base *base, const HttpLimits *limits,
                            const HttpHandler *handler);

/* Binds and listens, once. host: an IPv4 or IPv6 literal (with or without brackets) or "localhost"
 * (127.0.0.1); no name is resolved. port 0: the kernel chooses. Error text: "Failed to bind to
 * <addr>: <os error>" (ERR_IO). */
ErrCode http_server_listen(HttpServer *s, const char *host, int port, Err *err) ERR_CHECK;

/* The same on a Unix socket, instead: see http/unix_socket.h. */
ErrCode http_server_listen_unix(HttpServer *s, const char *path, mode_t mode, Err *err) ERR_CHECK;

/* The same on a socket that a parent process opened (see listener_open_inherited), but nobody is
 * taken in before http_server_accept: until then connections wait in the kernel. */
ErrCode http_server_listen_inherited(HttpServer *s, int fd, Err *err) ERR_CHECK;

/* Again, or without a listener: no effect. Errors: ERR_MEMORY; the server then listens no more. */
ErrCode http_server_accept(HttpServer *s, Err *err) ERR_CHECK;

int http_server_port(const HttpServer *s); /* 0: a Unix socket */

/* Whether other machines can reach it: neither a loopback address nor a Unix socket. */
bool http_server_is_public(const HttpServer *s);

/* See listener_uri and listener_name. */
void http_server_uri(const HttpServer *s, char out[LISTENER_URI_BYTES]);
void http_server_name(const HttpServer *s, char out[LISTENER_NAME_BYTES]);

/* Stops accepting and removes a Unix socket; open connections live on. Who waits to be taken in is
 * reset, or, where others have the socket as well, is theirs. */
void http_server_stop_accepting(HttpServer *s);

/* The same, but takes in first who waits by now. Later ones are refused, and can turn to another
 * server. Again, or before http_server_accept: like http_server_stop_accepting. */
void http_server_accept_rest(HttpServer *s);

/* Closes everything (on_close is not called). */
void http_server_free(HttpServer *s);

/* Tests: serve an already connected socket (a socketpair's end) as if it had been accepted; the cap
 * on connections is not asked. NULL: out of memory (fd is closed). */
HttpConn *http_server_adopt(HttpServer *s, int fd);

int http_server_connections(const HttpServer *s);

/* Responses begun so far, number i = 0, 1, ... of a list that has always the same statuses; the
 * last one, of status 0, has all others. False: i is behind the end. */
bool http_server_responses(const HttpServer *s, int i, int *status, uint64_t *n);

/* Whether any connection still has bytes to send, or has sent all while its client talks on: closed
 * then, it is reset, which can destroy the answer on its way. Shutdown waits for this. */
bool http_server_has_pending(const HttpServer *s);

/* From now on each whole answer is the last one of its connection (Connection: close), so that no
 * client sends its next request to a server that is about to leave. */
void http_server_end_connections(HttpServer *s);

/* Opaque value the routes hang on a connection (a job); NULL with every new request. */
void http_conn_set_data(HttpConn *c, void *data);
void *http_conn_data(const HttpConn *c);

/* A whole answer. extra_headers: NULL or lines "Name: value\r\n". Content-Length, Date,
 * X-Correlation-ID and Connection are added; HEAD gets no body. Ignored once a stream began. */
void http_respond(HttpConn *c, int status, const char *content_type, const char *extra_headers,
                  const char *body, size_t n_body);

/* The same with a body that outlives the server: it is sent from where it lies, so that many slow
 * clients cost no memory. */
void http_respond_constant(HttpConn *c, int status, const char *content_type,
                           const char *extra_headers, const char *body, size_t n_body);

/* The same for a long answer: body, which is malloc's, is not copied but taken over. */
void http_respond_with(HttpConn *c, int status, const char *content_type, char *body,
                       size_t n_body);

/* Starts a chunked text/event-stream answer: 200, Cache-Control: no-cache, Connection: close.
 * Nothing of the answer leaves before this call, so it can wait for the first token. Further pieces
 * follow with http_stream_write. HTTP/1.0 clients get the bytes without chunks until close; HEAD
 * gets the headers only. */
void http_stream_begin(HttpConn *c);
bool http_stream_begun(const HttpConn *c);

/* Queues bytes (one SSE event); nothing leaves before the loop turns. What is queued between two
 * turns leaves in one write of at most 16 KiB. */
void http_stream_write(HttpConn *c, const char *data, size_t n);

/* More than max_pending_bytes wait unread: the writer should pause. A client that leaves it so is
 * closed. */
bool http_stream_blocked(const HttpConn *c);

/* Ends the stream; the connection closes (Connection: close) once everything is sent. */
void http_stream_end(HttpConn *c);

/* One poll() over the connections with unfinished answers for hang-ups that the loop does not see:
 * behind 16 KiB of unread input, or during a long chunk of compute. Calls on_close. Not from inside
 * on_request or on_close. */
void http_server_poll_hangups(HttpServer *s);

/* Turns the loop without waiting: until a round did nothing, at most max_rounds rounds or max_us
 * microseconds and one callback; what is left comes first the next time. True: a round did nothing,
 * or the loop is broken; false: something may be left. Not from inside a callback of the same loop
 * (libevent refuses to nest). */
bool http_server_pump(HttpServer *s, int max_rounds, int max_us);

/* Waits for something to happen and serves it, for max_us microseconds and one callback at most.
 * False: the loop is broken. */
bool http_server_wait(HttpServer *s, int max_us) ERR_CHECK;

#endif
