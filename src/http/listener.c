/* http/listener.c: see listener.h.
 *
 * May include: common. */
#include "http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef union {
    struct sockaddr any;
    struct sockaddr_storage room;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
} Address;

/* Numbers only: no resolver runs. */
static int parse_address(const char *host, int port, Address *out, socklen_t *len)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found;
    char name[256], service[16];
    const size_t n = strlen(host);
    int result;

    if (strcmp(host, "localhost") == 0)
        snprintf(name, sizeof name, "127.0.0.1");
    else if (n > 2 && host[0] == '[' && host[n - 1] == ']')
        snprintf(name, sizeof name, "%.*s", (int)n - 2, host + 1);
    else
        snprintf(name, sizeof name, "%s", host);
    snprintf(service, sizeof service, "%d", port);
    if (name[0] == '\0')
        return EAI_NONAME;
    result = getaddrinfo(name, service, &hints, &found);
    if (result != 0)
        return result;
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* False when it is not bound to an internet address. */
static bool bound_address(int fd, Address *out, socklen_t *len)
{
    memset(out, 0, sizeof *out);
    *len = sizeof *out;
    return getsockname(fd, &out->any, len) == 0 &&
           (out->any.sa_family == AF_INET || out->any.sa_family == AF_INET6);
}

static int bound_port(int fd)
{
    Address a;
    socklen_t len;

    if (!bound_address(fd, &a, &len))
        return -1;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

/* A listening socket and its port, or -1 with errno. SO_REUSEADDR lets a restart take a port that
 * has connections in TIME_WAIT; two listeners on one port it does not allow on Linux. */
static int listening_socket(const Address *address, socklen_t len, int *port)
{
    const int on = 1;
    const int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, &address->any, len) != 0 || listen(fd, LISTENER_BACKLOG) != 0 ||
        (*port = bound_port(fd)) < 0) {
        const int saved = errno;
        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

ErrCode listener_open_tcp(HttpListener *l, const char *host, int port, Err *err)
{
    const bool bare_v6 = strchr(host, ':') != NULL && host[0] != '[';
    const char *open_bracket = bare_v6 ? "[" : "", *close_bracket = bare_v6 ? "]" : "";
    Address address;
    socklen_t len;
    int fd, bound;
    const int unknown = parse_address(host, port, &address, &len);

    if (unknown != 0)
        return err_set(
            err, ERR_IO,
            "Failed to bind to %s%s%s:%d: not an IP address or localhost (or unix:PATH) (%s)",
            open_bracket, host, close_bracket, port, gai_strerror(unknown));
    fd = listening_socket(&address, len, &bound);
    if (fd < 0)
        return err_set(err, ERR_IO, "Failed to bind to %s%s%s:%d: %s", open_bracket, host,
                       close_bracket, port, strerror(errno));
    *l = (HttpListener){.fd = fd, .port = bound, .socket.lock_fd = -1};
    return ERR_OK;
}

ErrCode listener_open_unix(HttpListener *l, const char *path, mode_t mode, Err *err)
{
    HttpListener opened = {.fd = -1};
    const ErrCode code =
        unix_socket_listen(&opened.socket, path, mode, LISTENER_BACKLOG, &opened.fd, err);

    if (code == ERR_OK)
        *l = opened;
    return code;
}

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* What is wrong with it, or NULL. */
static const char *problem_of(int fd)
{
    const int type = option_of(fd, SO_TYPE);

    if (type < 0)
        return errno == ENOTSOCK ? "it is not a socket" : strerror(errno);
    const int family = option_of(fd, SO_DOMAIN);
    if (type != SOCK_STREAM || (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return "it is neither a TCP nor a Unix stream socket";
    if (option_of(fd, SO_ACCEPTCONN) != 1)
        return "the socket does not listen";
    return NULL;
}

static bool prepare(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

ErrCode listener_open_inherited(HttpListener *l, int fd, Err *err)
{
    const char *problem = problem_of(fd);
    int port = 0;

    if (problem == NULL && option_of(fd, SO_DOMAIN) != AF_UNIX && (port = bound_port(fd)) <= 0)
        problem = "it has no port";
    if (problem == NULL && !prepare(fd))
        problem = strerror(errno);
    if (problem != NULL)
        return err_set(err, ERR_IO, "Failed to listen on descriptor %d: %s", fd, problem);
    *l = (HttpListener){.fd = fd, .port = port, .socket.lock_fd = -1};
    return ERR_OK;
}

void listener_close(HttpListener *l)
{
    unix_socket_remove(&l->socket);
    if (l->fd >= 0)
        (void)close(l->fd);
    l->fd = -1;
}

/* 127.0.0.0/8, ::1, and the former written as IPv6. */
static bool is_loopback(const Address *a)
{
    const uint8_t *bytes = a->v6.sin6_addr.s6_addr;

    if (a->any.sa_family == AF_INET)
        return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr) && bytes[12] == 127);
}

bool listener_is_public(const HttpListener *l)
{
    Address a;
    socklen_t len;

    return l->fd >= 0 && l->port > 0 && !(bound_address(l->fd, &a, &len) && is_loopback(&a));
}

static bool localhost_leads_to(const Address *a)
{
    if (a->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
    return a->v4.sin_addr.s_addr == htonl(INADDR_ANY) ||
           a->v4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

void listener_uri(const HttpListener *l, char out[LISTENER_URI_BYTES])
{
    Address a;
    socklen_t len;
    char host[LISTENER_URI_BYTES - sizeof "http://[%25]:65535"];
    const bool known = l->fd >= 0 && bound_address(l->fd, &a, &len);

    out[0] = '\0';
    if (!known)
        return;
    if (localhost_leads_to(&a) ||
        getnameinfo(&a.any, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0) {
        snprintf(out, LISTENER_URI_BYTES, "http://localhost:%d", l->port);
    } else if (a.any.sa_family == AF_INET) {
        snprintf(out, LISTENER_URI_BYTES, "http://%s:%d", host, l->port);
    } else {
        const size_t n = strcspn(host, "%"); /* the interface of fe80::1%eth0 (RFC 6874) */
        snprintf(out, LISTENER_URI_BYTES, "http://[%.*s%s%s]:%d", (int)n, host,
                 host[n] != '\0' ? "%25" : "", host[n] != '\0' ? host + n + 1 : "", l->port);
    }
}

void listener_name(const HttpListener *l, char out[LISTENER_NAME_BYTES])
{
    Address a;
    socklen_t len = sizeof a;
    const size_t before = offsetof(struct sockaddr_un, sun_path);

    listener_uri(l, out);
    if (out[0] != '\0' || l->fd < 0 || getsockname(l->fd, &a.any, &len) != 0 || len <= before)
        return;
    const bool abstract = a.local.sun_path[0] == '\0';
    const int n = (int)strnlen(a.local.sun_path + abstract, len - before - abstract);
    snprintf(out, LISTENER_NAME_BYTES, "unix:%s%.*s", abstract ? "@" : "", n,
             a.local.sun_path + abstract);
}
