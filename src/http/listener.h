/* http/listener.h: the one listening socket of a server: a TCP address and port, a Unix socket, or
 * one of both kinds that a parent process opened.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_LISTENER_H
#define LLORCH_HTTP_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "http/unix_socket.h"

enum {
    LISTENER_URI_BYTES = 128,  /* an IPv6 address with the name of an interface, and a port */
    LISTENER_NAME_BYTES = 160, /* that, or a path */
    LISTENER_BACKLOG = 512     /* so many connections may wait to be taken in */
};

typedef struct {
    int fd;            /* -1: none */
    int port;          /* 0: a Unix socket */
    UnixSocket socket; /* path "": TCP, or somebody else's to remove */
} HttpListener;

/* See http_server_listen and http_server_listen_unix. l is untouched on failure. */
ErrCode listener_open_tcp(HttpListener *l, const char *host, int port, Err *err) ERR_CHECK;
ErrCode listener_open_unix(HttpListener *l, const char *path, mode_t mode, Err *err) ERR_CHECK;

/* A TCP or Unix stream socket that listens already, as a service manager passes it. On success fd
 * is l's to close; neither it nor, of a Unix socket, its file is removed by that: others may listen
 * on. Error text: "Failed to listen on descriptor <fd>: <problem>" (ERR_IO); fd is then left as it
 * is. */
ErrCode listener_open_inherited(HttpListener *l, int fd, Err *err) ERR_CHECK;

/* Also after a failure; l is then as {.fd = -1}, but for the port. */
void listener_close(HttpListener *l);

/* Whether other machines can reach it: TCP, and the address is not (known to be) a
 * loopback one. */
bool listener_is_public(const HttpListener *l);

/* The address under which it is reached from this machine: http://localhost:<port> when that leads
 * there for sure, else the numeric address; "" for a Unix socket. */
void listener_uri(const HttpListener *l, char out[LISTENER_URI_BYTES]);

/* For people: the uri, or unix:PATH, or unix:@NAME of an abstract Unix socket. */
void listener_name(const HttpListener *l, char out[LISTENER_NAME_BYTES]);

#endif
