/* http/server_internal.h: what server.c (listener, clock, all connections) and connection.c (one
 * connection) share.
 *
 * May include: nothing. */
#ifndef LLORCH_HTTP_SERVER_INTERNAL_H
#define LLORCH_HTTP_SERVER_INTERNAL_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h> /* struct bufferevent: connection.c looks at ev_write */
#include <event2/event.h>

#include "http/listener.h"
#include "http/request_parser.h"
#include "http/server.h"

enum {
    CONN_READ_BYTES = 16 * 1024, /* taken from the socket at once; none while so much waits, also of
                        a client that talks during its own stream */
    CONN_REQUESTS_PER_TURN = 4,  /* pipelined requests served before others get their turn */
    CONN_LINGER_MS = 2000,       /* for a client that still talks after the last answer */
    RESPONSE_STATUSES = 21,      /* those that response.c knows, and one for all others */
    SERVER_BODIES = 32           /* bodies of full size that may be in memory together */
};

typedef enum {
    CONN_IDLE,      /* no byte of the next request yet */
    CONN_READING,   /* a request has begun */
    CONN_HANDLING,  /* the handler owes an answer */
    CONN_FLUSHING,  /* last answer complete: ends when it is sent; input is thrown away unseen */
    CONN_LINGERING, /* sent and shut down for writing; closing with unread input would turn into a
                       RST, which can destroy the answer on its way, so input is thrown away for a
                       while */
    CONN_GONE       /* on_close is running, or about to */
} ConnState;

struct HttpConn {
    HttpServer *server;
    HttpConn *prev, *next;
    struct bufferevent *bev; /* owns the socket */
    RequestParser *parser;
    ConnState state;
    bool stream_begun;
    bool is_chunked;
    bool is_head;
    bool is_tcp;
    bool keep_alive;
    bool peer_eof; /* the client sends nothing more, but its finished answers still go out */
    bool broken;   /* an answer could not be queued: out of memory */
    bool kicked;   /* server_kick was asked for */
    bool show_request_id;
    bool long_answer; /* http_respond_with, until all of it is sent */
    void *data;
    char correlation_id[REQUEST_ID_BYTES];

    uint64_t deadline_ms;       /* idle, request or linger; 0: none */
    uint64_t since_ms;          /* when deadline_ms was set */
    uint64_t stall_deadline_ms; /* 0: nothing waits to be taken, as far as was seen */
    uint64_t stall_taken;       /* n_taken, when stall_deadline_ms was set */
    uint64_t stall_needs;       /* bytes that must be taken until then */
    uint64_t n_queued;          /* bytes ever queued for sending */
    uint64_t n_taken;           /* of them, when the clock last looked */
    size_t n_discarded;
};

struct HttpServer {
    struct event_base *base;
    HttpLimits limits;
    RequestLimits request_limits;
    HttpHandler handler;
    size_t body_budget;

    struct event *accept_event; /* NULL: not listening */
    struct event *sweep_event;  /* looks at all deadlines; pending while there are connections */
    struct event *kick_event;   /* made active by server_kick */
    HttpListener listener;
    int reserve_fd; /* given up for a moment when descriptors run out */
    bool accept_paused;
    bool is_leaving;    /* see http_server_end_connections */
    bool sweep_put_off; /* the last sweep came late and did nothing */
    uint64_t sweep_due_ms;
    uint64_t accept_again_ms; /* after a failed accept; 0: not waiting */

    uint64_t responses[RESPONSE_STATUSES]; /* begun; see response_status */

    HttpConn *conns; /* doubly linked */
    int n_conns;
    uint64_t turn_ns;     /* how long callbacks may run in this turn of the loop; 0: no limit */
    uint64_t turn_end_ns; /* 0: the turn waits for its first */
};

/* connection.c. Takes fd over; NULL: out of memory, fd is closed. */
HttpConn *conn_new(HttpServer *s, int fd);

/* Closes the socket and frees c; tells nobody. */
void conn_free(HttpConn *c);

/* Tells the handler when its answer is unfinished, then frees c. */
void conn_gone(HttpConn *c);

/* The client of an unfinished answer is gone, or (not both_ways) only sends nothing more. */
void conn_hung_up(HttpConn *c, bool both_ways);

/* Nobody waits for an answer on it, but for the rest of an earlier one: idle, in the middle of a
 * request, or answered. */
bool conn_is_spare(const HttpConn *c);

/* All is sent, but the client talked on behind the request of the last answer. */
bool conn_is_talking(const HttpConn *c);

/* Acts on deadlines that have passed. c may be gone afterwards. */
void conn_check_deadlines(HttpConn *c, uint64_t now_ms);

/* server.c. The turn of the loop ends after this callback when its time is up. */
void server_callback_begins(HttpServer *s);

/* A connection was linked in, or is being freed. */
void server_conn_added(HttpServer *s, HttpConn *c);
void server_conn_removed(HttpServer *s, HttpConn *c);

/* Has the loop call conn_kicked(c) soon: for what must not happen inside the handler's call. */
void server_kick(HttpConn *c);
void conn_kicked(HttpConn *c);

/* response.c. Every response of this layer is made there. */
typedef struct {
    int status;
    const char *content_type;  /* NULL: none */
    const char *extra_headers; /* NULL, or lines with CR LF */
    const char *correlation_id;
    bool keep_alive;
    bool is_stream; /* no Content-Length */
    bool is_chunked;
    bool show_request_id;
    size_t n_body;
} ResponseHead;

/* Appends the head. False: out of memory. */
bool response_add_head(struct evbuffer *out, const ResponseHead *head);

/* Which of HttpServer.responses a status is, and which status that one counts; 0: all others. */
int response_index(int status);
int response_status(int index);

/* A random UUID (version 4, RFC 9562). */
void correlation_id_new(char out[REQUEST_ID_BYTES]);

#endif
