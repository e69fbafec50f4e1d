/* tests/fuzz/fuzz_service_manager.c: the variables of a service manager (contract 2.2). The lines
 * of the input are their values, in the order of names below; "$$" is this process, and no line, or
 * one that is "-", leaves the variable out.
 *
 * None of them is left in the environment. A socket to listen on was asked for by this process's
 * number and the number 1; a name that is taken gives an address within its room, and a time for
 * signs of life that is neither none nor hours. */
#include "fuzz.h"

#include <unistd.h>

#include "cli/service_environment.h"
#include "common/notify_socket.h"
#include "worker/service_manager.h"

static const char *const names[] = {"LISTEN_FDS",   "LISTEN_PID",    "LISTEN_FDNAMES",
                                    "WATCHDOG_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET"};

enum { N_NAMES = sizeof names / sizeof names[0] };

/* Cuts the text into lines. */
static void set_all(char *text)
{
    char pid[16];

    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    for (int i = 0; i < N_NAMES; i++) {
        char *value = strsep(&text, "\n");

        FUZZ_CHECK(unsetenv(names[i]) == 0);
        if (value != NULL && strcmp(value, "-") != 0)
            FUZZ_CHECK(setenv(names[i], strcmp(value, "$$") == 0 ? pid : value, 1) == 0);
    }
}

static void check_notify(const char *name)
{
    NotifySocket s = {.fd = -7};
    Err err = {.code = ERR_OK};
    const ErrCode code = notify_socket_open(&s, name, &err);

    if (code != ERR_OK) {
        FUZZ_CHECK(code == ERR_USAGE && s.fd == -7);
        fuzz_check_refusal(code, &err);
        return;
    }
    FUZZ_CHECK(name[0] == '/' || name[0] == '@');
    FUZZ_CHECK(s.fd >= 0 && s.to.sun_family == AF_UNIX && s.n_to <= sizeof s.to);
    FUZZ_CHECK(memcmp(s.to.sun_path + 1, name + 1, strlen(name) - 1) == 0);
    notify_socket_close(&s);
}

static void check_watchdog(const char *usec)
{
    uint64_t beat_ms = 0;
    Err err = {.code = ERR_OK};
    const ErrCode code = service_manager_parse_watchdog(&beat_ms, usec, &err);

    if (code != ERR_OK) {
        FUZZ_CHECK(code == ERR_USAGE && beat_ms == 0);
        fuzz_check_refusal(code, &err);
        return;
    }
    FUZZ_CHECK(beat_ms >= 1 && beat_ms <= MANAGER_MAX_BEAT_MS);
    FUZZ_CHECK(strlen(usec) > 9 || beat_ms <= 1 || beat_ms == strtoull(usec, NULL, 10) / 2000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    WorkerManaged got = {.listen_fd = -7};
    Err err = {.code = ERR_OK};
    ErrCode code;

    FUZZ_CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    set_all(text);
    code = service_environment_read(&got, &err);
    for (int i = 0; i < N_NAMES; i++)
        FUZZ_CHECK(getenv(names[i]) == NULL);
    if (code != ERR_OK)
        fuzz_check_refusal(code, &err);
    else
        FUZZ_CHECK(got.listen_fd == 0 || got.listen_fd == SERVICE_FIRST_FD);
    if (got.notify_socket != NULL)
        check_notify(got.notify_socket);
    if (got.watchdog_usec != NULL)
        check_watchdog(got.watchdog_usec);
    free(text);
    return 0;
}
