/* http/unix_socket.h: a listening Unix socket at a path, with the mode it was asked to have.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_UNIX_SOCKET_H
#define LLORCH_HTTP_UNIX_SOCKET_H

#include <sys/stat.h>
#include <sys/un.h>

#include "common/error.h"

typedef struct {
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path]; /* NUL-terminated; "": none */
    int lock_fd;                                             /* holds <path>.lock */
    dev_t device;                                            /* the socket file that is ours */
    ino_t inode;
} UnixSocket;

/* Binds and listens; *fd is the caller's to close, before or after unix_socket_remove. From its
 * first moment the file has exactly this mode (umask aside; 07777 bits above 0777 are not allowed),
 * and nobody connects before that was checked.
 *
 * A socket file that nobody listens on (its process was killed) is replaced; one that somebody
 * listens on and whatever is no socket is left alone and refused. <path>.lock is held meanwhile and
 * until unix_socket_remove, so two processes that start at the same moment cannot take each other's
 * socket for dead. It is removed in the end; one that a killed process left behind is taken over.
 *
 * Error text: "Failed to bind to unix:<path>: <problem>" (ERR_IO). */
ErrCode unix_socket_listen(UnixSocket *u, const char *path, mode_t mode, int backlog, int *fd,
                           Err *err) ERR_CHECK;

/* Removes both files, the socket only while it is still the one that was made. */
void unix_socket_remove(UnixSocket *u);

#endif
