/* main.c: checks the ground the program stands on, then hands over to a sub-command. */
#include <string.h>

#include "cli/cli.h"
#include "cli/process.h"
#include "common/mapped_file.h"
#include "kernels/kernels.h"

enum { SUGGEST_MAX_BYTES = 32, SUGGEST_MAX_EDITS = 2 };

static const CliCommand *find_command(const char *name)
{
    for (const CliCommand *c = cli_commands(); c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions and exchanges that make one word the other (Levenshtein). */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[SUGGEST_MAX_BYTES + 1];
    const size_t n = strlen(b);

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t above = row[j + 1];

            row[j + 1] = min_of(min_of(above, row[j]) + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[n];
}

/* The command that was probably meant: it begins like that, or few letters differ. NULL: no idea.
 */
static const char *suggest(const char *name)
{
    const size_t n = strlen(name);
    const char *best = NULL;
    size_t best_edits = SUGGEST_MAX_EDITS + 1;

    if (n > SUGGEST_MAX_BYTES)
        return NULL;
    for (const CliCommand *c = cli_commands(); c->name != NULL; c++) {
        const size_t edits =
            n >= 3 && strncmp(c->name, name, n) == 0 ? 0 : edit_distance(name, c->name);

        if (edits < best_edits && edits < n) {
            best = c->name;
            best_edits = edits;
        }
    }
    return best;
}

static int unknown_command(const char *name)
{
    const char *meant = suggest(name);
    Err err = {0};

    if (meant != NULL)
        (void)err_set(&err, ERR_USAGE, "unknown command \"%s\"; did you mean %s? (see %s --help)",
                      name, meant, CLI_PROGRAM);
    else
        (void)err_set(&err, ERR_USAGE, "unknown command \"%s\" (see %s --help)", name, CLI_PROGRAM);
    return cli_fail(&err);
}

int main(int argc, char **argv)
{
    char serve[] = "serve";
    Err err = {0};

    if (process_prepare(&err) != ERR_OK)
        return cli_fail(&err);
    mapped_file_guard();
    if (kernels_check_float_mode(&err) != ERR_OK)
        return cli_fail(&err);
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0))
        return cli_version();
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return cli_help();
    if (argc > 1 && argv[1][0] != '-') {
        const CliCommand *command = find_command(argv[1]);

        return command != NULL ? command->run(argc - 1, argv + 1) : unknown_command(argv[1]);
    }
    /* Flags alone, or nothing: the pool manager calls it so. serve takes its name from argv[0]. */
    if (argc > 0)
        argv[0] = serve;
    return cli_serve(argc, argv);
}
