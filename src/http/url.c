/* http/url.c: the http:// addresses of client.h, taken apart, and the one place where a host name
 * is resolved.
 *
 * May include: nothing. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http/client_internal.h"

static ErrCode refuse(Err *err, const char *url, const char *problem)
{
    return err_set(err, ERR_USAGE, "URL \"%s\": %s", url, problem);
}

static bool all_in(const char *s, size_t n, const char *allowed)
{
    return n > 0 && strspn(s, allowed) >= n;
}

static bool is_printable(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s <= 0x20 || *s > 0x7e)
            return false;
    return true;
}

/* Port digits s[0..n): 1..65535, or 0 for anything else. */
static int parse_port(const char *s, size_t n)
{
    int port = 0;

    if (n > 5 || !all_in(s, n, "0123456789"))
        return 0;
    for (size_t i = 0; i < n; i++)
        port = port * 10 + (s[i] - '0');
    return port <= 65535 ? port : 0;
}

/* authority[0..n): host[:port] or [v6][:port]. Returns the problem, or NULL. */
static const char *parse_authority(HttpUrl *u, const char *authority, size_t n)
{
    static const char name[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";
    const bool is_v6 = n > 0 && authority[0] == '[';
    const char *host = authority + (is_v6 ? 1 : 0);
    size_t n_host = strcspn(host, is_v6 ? "]" : ":/?");
    size_t used = n_host + (is_v6 ? 2 : 0);

    if (n >= sizeof u->authority)
        return "the host is too long";
    if (memchr(authority, '@', n) != NULL)
        return "user names are not supported";
    if (used > n || !all_in(host, n_host, is_v6 ? "0123456789abcdefABCDEF:." : name))
        return "the host is missing or not a name, an IPv4 address or an IPv6 address in brackets";
    if (n_host >= sizeof u->host)
        return "the host is too long";
    u->port = 80;
    if (used < n) {
        u->port = authority[used] == ':' ? parse_port(authority + used + 1, n - used - 1) : 0;
        if (u->port == 0)
            return "the port is not a number from 1 to 65535";
    }
    memcpy(u->host, host, n_host);
    if (is_v6 && inet_pton(AF_INET6, u->host, &(struct in6_addr){0}) != 1)
        return "the host in brackets is not an IPv6 address";
    memcpy(u->authority, authority, n);
    return NULL;
}

ErrCode http_url_parse(HttpUrl *u, const char *url, Err *err)
{
    static const char scheme[] = "http://";
    HttpUrl parsed = {0};
    const char *authority, *rest, *problem;

    if (strncasecmp(url, "https:", 6) == 0)
        return refuse(err, url, "https is not supported, only http");
    if (strncasecmp(url, scheme, sizeof scheme - 1) != 0)
        return refuse(err, url, "does not begin with http://");
    if (!is_printable(url))
        return refuse(err, url, "holds a blank, a control character or a byte that is not ASCII");
    if (strchr(url, '#') != NULL)
        return refuse(err, url, "fragments (#) are not supported");
    authority = url + sizeof scheme - 1;
    rest = authority + strcspn(authority, "/?");
    problem = parse_authority(&parsed, authority, (size_t)(rest - authority));
    if (problem != NULL)
        return refuse(err, url, problem);
    if (strlen(rest) + 2 > sizeof parsed.target)
        return refuse(err, url, "the path is too long");
    snprintf(parsed.target, sizeof parsed.target, "%s%s", *rest == '/' ? "" : "/", rest);
    *u = parsed;
    return ERR_OK;
}

static void add_addresses(HttpAddress *a, const struct addrinfo *list)
{
    for (; list != NULL && a->n < ADDRESS_MAX; list = list->ai_next) {
        if (list->ai_addrlen > sizeof a->items[0].address)
            continue;
        memcpy(&a->items[a->n].address, list->ai_addr, list->ai_addrlen);
        a->items[a->n++].len = list->ai_addrlen;
    }
}

static int look_up(HttpAddress *a, const char *host, int port, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found;
    char service[16];
    int result;

    snprintf(service, sizeof service, "%d", port);
    result = getaddrinfo(host, service, &hints, &found);
    if (result != 0)
        return result;
    add_addresses(a, found);
    freeaddrinfo(found);
    return 0;
}

ErrCode http_address_resolve(HttpAddress **out, const HttpUrl *u, Err *err)
{
    HttpAddress *a = calloc(1, sizeof *a);
    int result;

    if (a == NULL)
        return err_set(err, ERR_MEMORY, "%s: out of memory", u->authority);
    if (strcasecmp(u->host, "localhost") == 0) {
        result = look_up(a, "127.0.0.1", u->port, AI_NUMERICHOST);
        (void)look_up(a, "::1", u->port, AI_NUMERICHOST);
    } else {
        result = look_up(a, u->host, u->port, AI_NUMERICHOST);
        if (result != 0)
            result = look_up(a, u->host, u->port, AI_ADDRCONFIG);
    }
    if (a->n == 0) {
        free(a);
        return err_set(err, ERR_NETWORK, "%s: cannot resolve the host: %s", u->authority,
                       result != 0 ? gai_strerror(result) : "no address");
    }
    *out = a;
    return ERR_OK;
}

void http_address_free(HttpAddress *a)
{
    free(a);
}
