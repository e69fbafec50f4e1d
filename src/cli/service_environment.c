/* cli/service_environment.c: see service_environment.h.
 *
 * May include: common, worker. */
#include "cli/service_environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DIGITS = 9 };

/* The value without the variable: taken away it stays where it was, in the block that the process
 * was started with. NULL: absent or empty. */
static const char *take(const char *name)
{
    const char *value = getenv(name);

    (void)unsetenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* Decimal digits, no sign, no blank. */
static bool parse_number(const char *text, int *out)
{
    const size_t n = strlen(text);

    if (n == 0 || n > MAX_DIGITS || strspn(text, "0123456789") != n)
        return false;
    *out = (int)strtol(text, NULL, 10);
    return true;
}

static bool is_own_pid(const char *text)
{
    int pid;

    return parse_number(text, &pid) && pid == (int)getpid();
}

/* Without LISTEN_PID the sockets were never meant for this process. */
static ErrCode read_listen(WorkerManaged *out, const char *pid, const char *fds, const char *names,
                           Err *err)
{
    int number;

    if (pid == NULL || fds == NULL)
        return ERR_OK;
    if (!parse_number(pid, &number))
        return err_set(err, ERR_USAGE, "LISTEN_PID: %s: expected the number of a process", pid);
    if (number != (int)getpid())
        return ERR_OK;
    if (!parse_number(fds, &number))
        return err_set(err, ERR_USAGE, "LISTEN_FDS: %s: expected the number of sockets", fds);
    if (number > 1)
        return err_set(err, ERR_USAGE,
                       "LISTEN_FDS: %d sockets were passed (%s), expected 1: a worker listens in "
                       "one place, give its .socket unit one ListenStream=",
                       number, names != NULL ? names : "without names");
    if (number == 1) {
        out->listen_fd = SERVICE_FIRST_FD;
        out->listen_name = names;
    }
    return ERR_OK;
}

ErrCode service_environment_read(WorkerManaged *out, Err *err)
{
    const char *watchdog_pid = take("WATCHDOG_PID"), *watchdog_usec = take("WATCHDOG_USEC");
    const char *listen_pid = take("LISTEN_PID"), *listen_fds = take("LISTEN_FDS");
    const char *listen_names = take("LISTEN_FDNAMES");

    *out = (WorkerManaged){.notify_socket = take("NOTIFY_SOCKET")};
    if (watchdog_pid == NULL || is_own_pid(watchdog_pid))
        out->watchdog_usec = watchdog_usec;
    return read_listen(out, listen_pid, listen_fds, listen_names, err);
}
