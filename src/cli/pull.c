/* cli/pull.c: hands over to llorch-cpud-pull, the program that downloads. It is one of its own, so
 * that nothing of what speaks TLS and HTTP with strangers is ever part of the worker.
 *
 * May include: common. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define PULL_PROGRAM CLI_PROGRAM "-pull"

/* Beside the binary, where it was built; below libexec/, where it was installed. */
static ErrCode find_program(char out[PATH_MAX], Err *err)
{
    char folder[CLI_PATH_BYTES], beside[PATH_MAX], installed[PATH_MAX];

    if (!cli_binary_folder(folder, sizeof folder) ||
        strlen(folder) + sizeof "/" PULL_PROGRAM > sizeof beside ||
        !cli_join_parent(installed, sizeof installed, folder,
                         "libexec/" CLI_PROGRAM "/" PULL_PROGRAM))
        return err_set(err, ERR_IO, "pull: the path of this program is unknown or too long");
    (void)stpcpy(stpcpy(beside, folder), "/" PULL_PROGRAM);
    if (access(beside, X_OK) != 0 && access(installed, X_OK) != 0)
        return err_set(
            err, ERR_IO,
            "pull: the program that downloads is neither at %s nor at %s; make builds it "
            "where libcurl and libcrypto can be compiled with (libcurl4-openssl-dev, "
            "libssl-dev)",
            beside, installed);
    (void)strcpy(out, access(beside, X_OK) == 0 ? beside : installed);
    return ERR_OK;
}

int cli_pull(int argc, char **argv)
{
    char path[PATH_MAX];
    Err err = {.code = ERR_OK};

    (void)argc;
    if (find_program(path, &err) != ERR_OK)
        return cli_fail(&err);
    (void)execv(path, argv);
    (void)err_set(&err, ERR_IO, "%s: %s", path, strerror(errno));
    return cli_fail(&err);
}
