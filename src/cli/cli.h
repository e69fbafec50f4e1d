/* cli/cli.h: the sub-commands and what they share: the error line, strict numbers, standard input
 * and output, the shipped model.
 *
 * May include: common. */
#ifndef LLORCH_CLI_CLI_H
#define LLORCH_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

#define CLI_PROGRAM "llorch-cpud"

enum { CLI_PATH_BYTES = 4096, CLI_EXIT_OK = 0, CLI_EXIT_FAILURE = 1, CLI_EXIT_USAGE = 2 };

/* One sub-command. run gets its own name as argv[0] and returns the exit status. */
typedef struct {
    const char *name;
    const char *help; /* one line */
    int (*run)(int argc, char **argv);
} CliCommand;

/* The table, ended by a NULL name; the first one is what flags alone mean. */
const CliCommand *cli_commands(void);

int cli_serve(int argc, char **argv);
int cli_generate(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_capture(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_diff(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_quantize(int argc, char **argv);
int cli_pack(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_profile(int argc, char **argv);
int cli_pull(int argc, char **argv);
int cli_version(void); /* prints it; for main's --version */
int cli_help(void);    /* the list of sub-commands; for main's --help */

/* "gcc 12.2.0": what this program was built with; static text. */
const char *cli_compiler(void);

/* "-O2 -ffp-contract=off": the flags that decide how fast it is and how it computes; static text.
 */
const char *cli_build_flags(void);

/* Prints "llorch-cpud: <msg>" to standard error; returns 2 for ERR_USAGE, else 1. */
int cli_fail(const Err *err);

/* After getopt_long returned '?' or ':' with opterr = 0 and an option string that begins with "+:"
 * or ":": names the option and what is wrong with it, and the command whose --help explains it.
 * Returns ERR_USAGE. */
ErrCode cli_bad_option(char *const *argv, int got, Err *err) ERR_CHECK;

/* ERR_USAGE when getopt_long left arguments over. */
ErrCode cli_no_operands(int argc, char *const *argv, Err *err) ERR_CHECK;

/* The folder of the running binary, without its last slash; false when it is unknown or too long.
 */
bool cli_binary_folder(char *out, size_t size);

/* base less its last part, and with tail: the path of messages has no "..". */
bool cli_join_parent(char *out, size_t size, const char *base, const char *tail);

/* The model directory or file to load. given: what --model said, a path or a repository of the hub
 * (hub_model_path); NULL for the shipped model, looked for at <folder of the
 * binary>/../models/shakespeare, then <folder of the
 * binary>/../share/llorch-cpud/models/shakespeare. Errors: ERR_IO naming both places, ERR_LIMIT for
 * a path that is too long, ERR_USAGE for an empty one, those of hub_model_path. */
ErrCode cli_model_path(char *out, size_t size, const char *given, Err *err) ERR_CHECK;

/* What --isa said, else the environment's LLORCH_ISA, else NULL: the best of this machine. */
const char *cli_isa(const char *given);

/* Numbers as the whole of text, decimal, no blanks, no plus. Messages use the worker contract's
 * words:
 * "--top-p: top_p must be at most 1.0 (got 3)". Errors: ERR_USAGE. */
ErrCode cli_parse_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                      Err *err) ERR_CHECK;
ErrCode cli_parse_i32(const char *option, const char *text, int min, int max, int *out,
                      Err *err) ERR_CHECK;
ErrCode cli_parse_u64(const char *option, const char *text, uint64_t *out, Err *err) ERR_CHECK;
/* A decimal number, rounded to float32 before the range test as the worker contract says. */
ErrCode cli_parse_float(const char *option, const char *text, float min, float max, float *out,
                        Err *err) ERR_CHECK;

/* "1,2,3" to ids in 0..max_id; at most max_ids of them, at least one. *ids is the caller's to free.
 * Errors: ERR_USAGE, ERR_MEMORY. */
ErrCode cli_parse_ids(const char *option, const char *text, int max_id, size_t max_ids,
                      int32_t **ids, size_t *n_ids, Err *err) ERR_CHECK;

/* All of standard input, byte for byte, at most max_bytes. *data (never NULL on success, a NUL
 * after the last byte that does not count) is the caller's to free. Errors: ERR_IO, ERR_LIMIT,
 * ERR_MEMORY. */
ErrCode cli_read_stdin(char **data, size_t *n, size_t max_bytes, Err *err) ERR_CHECK;

/* Writes to standard output; ERR_IO ("standard output: <errno text>") once it is closed, full or
 * gone. cli_out passes bytes to stdio, cli_out_flush hands them to the system; call it per token
 * and once before the command returns. */
ErrCode cli_out(const void *data, size_t n, Err *err) ERR_CHECK;
ErrCode cli_out_flush(Err *err) ERR_CHECK;

/* Prints text and flushes; for help texts and tables. Returns the exit status: 0, or 1 after the
 * error line. */
int cli_print(const char *text);

/* From now on Ctrl-C, SIGTERM and the loss of the terminal set a flag instead of ending the
 * process, so that no temporary file stays; a second one ends it at once. What the parent had
 * ignored (nohup, a background job of a script) stays ignored. */
void cli_catch_interrupt(void);
bool cli_interrupted(void);

/* The exit status afterwards, as shells count it: 128 and the signal, so 130 for Ctrl-C. */
int cli_interrupt_status(void);

/* A line such as "loading shakespeare  42 %" on standard error, redrawn at most ten times a second;
 * only on a terminal, only after a second. */
typedef struct {
    const char *what;
    uint64_t start_ms, drawn_ms; /* start_ms: 0 until cli_progress_start */
    bool terminal, shown;
} CliProgress;

void cli_progress_start(CliProgress *p, const char *what);
void cli_progress(CliProgress *p, double fraction);
void cli_progress_clear(
    CliProgress *p); /* removes the line; before anything else is printed there */

#endif
