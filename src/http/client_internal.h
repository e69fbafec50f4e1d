/* http/client_internal.h: the address list that url.c makes and client.c walks.
 *
 * May include: nothing. */
#ifndef LLORCH_HTTP_CLIENT_INTERNAL_H
#define LLORCH_HTTP_CLIENT_INTERNAL_H

#include <sys/socket.h>

#include "http/client.h"

enum { ADDRESS_MAX = 8 };

struct HttpAddress {
    int n; /* 1..ADDRESS_MAX once resolved */
    struct {
        struct sockaddr_storage address;
        socklen_t len;
    } items[ADDRESS_MAX];
};

#endif
