/* cli/profile_wire.c: see profile_wire.h.
 *
 * May include: common. */
#include "cli/profile_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static ErrCode failed(const char *what, Err *err)
{
    return err_set(err, ERR_NETWORK, "a connection on 127.0.0.1: %s: %s", what, strerror(errno));
}

/* The kernel takes the connection into the listener's queue: nobody has to wait for anybody. */
static ErrCode connect_to(ProfileWire *w, int listener, Err *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    const int on = 1;

    if (bind(listener, (const struct sockaddr *)&at, n) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &n) != 0)
        return failed("listen", err);
    w->in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (w->in < 0 || connect(w->in, (const struct sockaddr *)&at, n) != 0)
        return failed("connect", err);
    w->out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (w->out < 0)
        return failed("accept", err);
    (void)setsockopt(w->out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return ERR_OK;
}

ErrCode profile_wire_open(ProfileWire *w, Err *err)
{
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *w = (ProfileWire){.out = -1, .in = -1};
    if (listener < 0)
        return failed("socket", err);
    const ErrCode code = connect_to(w, listener, err);
    (void)close(listener);
    return code;
}

void profile_wire_close(ProfileWire *w)
{
    if (w->out >= 0)
        (void)close(w->out);
    if (w->in >= 0)
        (void)close(w->in);
    *w = (ProfileWire){.out = -1, .in = -1};
}

ErrCode profile_wire_send(ProfileWire *w, const void *data, size_t n, Err *err)
{
    const char *at = data;

    while (n > 0) {
        const ssize_t done = send(w->out, at, n, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return failed("send", err);
        at += done;
        n -= (size_t)done;
        w->n_unread += (size_t)done;
    }
    return ERR_OK;
}

ErrCode profile_wire_drain(ProfileWire *w, Err *err)
{
    char room[4096];

    while (w->n_unread > 0) {
        const size_t most = w->n_unread < sizeof room ? w->n_unread : sizeof room;
        const ssize_t got = recv(w->in, room, most, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return failed("receive", err);
        w->n_unread -= (size_t)got;
    }
    return ERR_OK;
}
