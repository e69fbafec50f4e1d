/* common/notify_socket.c: see notify_socket.h.
 *
 * May include: common. */
#include "common/notify_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* An abstract name fills the whole field; a path keeps room for its NUL. */
static ErrCode parse_name(struct sockaddr_un *to, socklen_t *n_to, const char *name, Err *err)
{
    const size_t n = strlen(name);
    const bool abstract = name[0] == '@';
    const size_t most = abstract ? sizeof to->sun_path : sizeof to->sun_path - 1;

    if (name[0] != '/' && !abstract)
        return err_set(err, ERR_USAGE, "%s: expected an absolute path or @ and an abstract name",
                       name);
    if (n < 2 || n > most)
        return err_set(err, ERR_USAGE, "%s: %zu bytes, expected 2 to %zu", name, n, most);
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(to->sun_path, name, n);
    if (abstract)
        to->sun_path[0] = '\0';
    *n_to = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + !abstract);
    return ERR_OK;
}

ErrCode notify_socket_open(NotifySocket *s, const char *name, Err *err)
{
    NotifySocket opened = {.fd = -1};

    if (parse_name(&opened.to, &opened.n_to, name, err) != ERR_OK)
        return err->code;
    opened.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (opened.fd < 0)
        return err_set(err, ERR_IO, "%s: no socket: %s", name, strerror(errno));
    *s = opened;
    return ERR_OK;
}

int notify_socket_send(const NotifySocket *s, const char *text, size_t n)
{
    ssize_t sent;

    do
        sent = sendto(s->fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&s->to,
                      s->n_to);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

void notify_socket_close(NotifySocket *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
}
