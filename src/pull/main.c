/* pull/main.c: llorch-cpud-pull, which llorch-cpud pull becomes. A program of its own: the only one
 * that is linked with libcurl and libcrypto.
 *
 * May include: cli, common, pull. */
#include <string.h>

#include "cli/cli.h"
#include "cli/process.h"
#include "common/mapped_file.h"
#include "pull/options.h"
#include "pull/repository.h"

static int run(const PullOptions *o)
{
    char path[PATH_MAX];
    Err err = {.code = ERR_OK};

    if (repository_pull(path, o, &err) != ERR_OK) {
        const bool stopped = err.code == ERR_CANCELLED && cli_interrupted();

        if (stopped)
            (void)err_set(&err, ERR_CANCELLED,
                          "pull: interrupted; what came is kept, and the same command goes on");
        const int status = cli_fail(&err);

        return stopped ? cli_interrupt_status() : status;
    }
    if (cli_out(path, strlen(path), &err) != ERR_OK || cli_out("\n", 1, &err) != ERR_OK ||
        cli_out_flush(&err) != ERR_OK)
        return cli_fail(&err);
    return CLI_EXIT_OK;
}

int main(int argc, char **argv)
{
    char name[] = "pull";
    PullOptions options;
    Err err = {.code = ERR_OK};

    if (process_prepare(&err) != ERR_OK)
        return cli_fail(&err);
    mapped_file_guard();
    /* Messages name the command that people typed. */
    if (argc > 0)
        argv[0] = name;
    if (pull_options_parse(&options, argc, argv, &err) != ERR_OK)
        return cli_fail(&err);
    if (options.help)
        return cli_print(pull_options_help());
    cli_catch_interrupt();
    return run(&options);
}
