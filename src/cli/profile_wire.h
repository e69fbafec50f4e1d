/* cli/profile_wire.h: a connection from this process to itself over TCP on 127.0.0.1, for the cost
 * of sending a token's event.
 *
 * May include: common. */
#ifndef LLORCH_CLI_PROFILE_WIRE_H
#define LLORCH_CLI_PROFILE_WIRE_H

#include <stddef.h>

#include "common/error.h"

typedef struct {
    int out, in;     /* file descriptors of the two ends, -1: none */
    size_t n_unread; /* bytes on their way */
} ProfileWire;

/* Errors: ERR_NETWORK. Memory: profile_wire_close, also after an error. */
ErrCode profile_wire_open(ProfileWire *w, Err *err) ERR_CHECK;
void profile_wire_close(ProfileWire *w);

/* Writes data[0..n), which must be less than a connection holds (some 100 KB), as the server
 * would: at once, unbuffered. Errors: ERR_NETWORK. */
ErrCode profile_wire_send(ProfileWire *w, const void *data, size_t n, Err *err) ERR_CHECK;

/* Reads all that is on its way. Errors: ERR_NETWORK. */
ErrCode profile_wire_drain(ProfileWire *w, Err *err) ERR_CHECK;

#endif
