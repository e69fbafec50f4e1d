/* cli/service_environment.h: the variables in which a service manager hands over its sockets
 * (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).
 *
 * May include: common, worker. */
#ifndef LLORCH_CLI_SERVICE_ENVIRONMENT_H
#define LLORCH_CLI_SERVICE_ENVIRONMENT_H

#include "common/error.h"
#include "worker/worker.h"

enum { SERVICE_FIRST_FD = 3 };

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out
 * of the environment, so that no other process gets them. What is meant for another process (by
 * WATCHDOG_PID, LISTEN_PID) does not count. Errors: ERR_USAGE, one line, when it is not clear where
 * to listen: damaged numbers, more than one socket. The texts in out are the environment's. */
ErrCode service_environment_read(WorkerManaged *out, Err *err) ERR_CHECK;

#endif
