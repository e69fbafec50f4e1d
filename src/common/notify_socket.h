/* common/notify_socket.h: datagrams to the socket of a service manager, as sd_notify(3) describes
 * them (NOTIFY_SOCKET of systemd and those who do it the same way).
 *
 * May include: common. */
#ifndef LLORCH_COMMON_NOTIFY_SOCKET_H
#define LLORCH_COMMON_NOTIFY_SOCKET_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/error.h"

typedef struct {
    int fd; /* -1: none */
    struct sockaddr_un to;
    socklen_t n_to;
} NotifySocket;

/* name: an absolute path, or "@" and an abstract name; nobody need listen there yet. s is untouched
 * on failure. Errors: ERR_USAGE (the name), ERR_IO (no socket). */
ErrCode notify_socket_open(NotifySocket *s, const char *name, Err *err) ERR_CHECK;

/* One datagram of n bytes, now or not at all: 0, or the errno of why it did not go (EAGAIN: the
 * reader has too many unread). Never waits. The path is looked up anew each time, so a manager that
 * came back is found. */
int notify_socket_send(const NotifySocket *s, const char *text, size_t n);

/* s may be closed already. */
void notify_socket_close(NotifySocket *s);

#endif
