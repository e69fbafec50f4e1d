/* cli/version.c: --version and --help of the program.
 *
 * May include: common, kernels, tokenizer. */
#include "cli/cli.h"

#include <string.h>

#include "common/json.h"
#include "kernels/kernels.h"
#include "tokenizer/pre_split.h"

#ifdef __clang__
#define VERSION_COMPILER "clang " __clang_version__
#else
#define VERSION_COMPILER "gcc " __VERSION__
#endif

const char *cli_compiler(void)
{
    return VERSION_COMPILER;
}

const char *cli_build_flags(void)
{
#ifdef LLORCH_FLAGS
    return LLORCH_FLAGS;
#else
    return "unknown";
#endif
}

static int print_buf(JsonBuf *b)
{
    Err err = {0};

    if (b->oom) {
        (void)err_set(&err, ERR_MEMORY, "out of memory");
        json_buf_free(b);
        return cli_fail(&err);
    }
    const int status = cli_print(b->data);
    json_buf_free(b);
    return status;
}

static const char *optimisation(void)
{
#ifdef __OPTIMIZE__
    return "optimised";
#else
    return "not optimised";
#endif
}

int cli_version(void)
{
    JsonBuf b = {0};
    Err err = {0};
    const Kernels *chosen;

    if (kernels_select(&chosen, cli_isa(NULL), &err) != ERR_OK)
        return cli_fail(&err);
    json_buf_printf(&b, "%s %s\n", CLI_PROGRAM, LLORCH_VERSION);
    json_buf_printf(&b, "build             %s, %s\n", cli_compiler(), optimisation());
    json_buf_printf(&b, "instruction sets ");
    for (int i = 0; kernels_available(i) != NULL; i++)
        json_buf_printf(&b, " %s", kernels_available(i)->name);
    json_buf_printf(&b, "; chosen: %s\n", chosen->name);
    json_buf_printf(&b, "Unicode           %s\n", pre_split_unicode_version());
    return print_buf(&b);
}

int cli_help(void)
{
    JsonBuf b = {0};

    json_buf_printf(
        &b,
        "usage: %s [serve] --worker-id ID --model PATH --port N --callback-url URL ...\n"
        "       %s COMMAND [OPTION]...\n"
        "       %s --version | --help\n"
        "\n"
        "Runs GPT-2 models on one processor core: one process, one thread, one job at a time.\n"
        "\n"
        "commands (each explains itself with --help):\n",
        CLI_PROGRAM, CLI_PROGRAM, CLI_PROGRAM);
    for (const CliCommand *c = cli_commands(); c->name != NULL; c++)
        json_buf_printf(&b, "  %-10s %s\n", c->name, c->help);
    json_buf_printf(
        &b, "\n"
            "exit status: 0 done, 1 failure, 2 wrong arguments, 128 + N ended by signal N\n"
            "environment: LLORCH_ISA names the instruction set (see --version); serve also\n"
            "reads WORKER_ID, MODEL_PATH, PORT and CALLBACK_URL\n");
    return print_buf(&b);
}
