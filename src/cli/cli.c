/* cli/cli.c: what the sub-commands share.
 *
 * May include: common, hub. */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"
#include "hub/cache.h"

int cli_fail(const Err *err)
{
    (void)fprintf(stderr, CLI_PROGRAM ": %s\n", err->msg);
    return err->code == ERR_USAGE ? CLI_EXIT_USAGE : CLI_EXIT_FAILURE;
}

/* --- arguments --- */

ErrCode cli_bad_option(char *const *argv, int got, Err *err)
{
    const char *word = argv[optind - 1];

    if (got == ':')
        return err_set(err, ERR_USAGE, "%s: option %s needs a value (see %s %s --help)", argv[0],
                       word, CLI_PROGRAM, argv[0]);
    if (optopt == 0) /* a long option that does not exist, or the beginning of several */
        return err_set(err, ERR_USAGE, "%s: unknown or ambiguous option %.*s (see %s %s --help)",
                       argv[0], (int)strcspn(word, "="), word, CLI_PROGRAM, argv[0]);
    if (strncmp(word, "--", 2) == 0 && strchr(word, '=') != NULL)
        return err_set(err, ERR_USAGE, "%s: option %.*s takes no value (see %s %s --help)", argv[0],
                       (int)strcspn(word, "="), word, CLI_PROGRAM, argv[0]);
    return err_set(err, ERR_USAGE, "%s: unknown option -%c (see %s %s --help)", argv[0], optopt,
                   CLI_PROGRAM, argv[0]);
}

ErrCode cli_no_operands(int argc, char *const *argv, Err *err)
{
    if (optind >= argc)
        return ERR_OK;
    return err_set(err, ERR_USAGE, "%s: unexpected argument \"%s\" (see %s %s --help)", argv[0],
                   argv[optind], CLI_PROGRAM, argv[0]);
}

const char *cli_isa(const char *given)
{
    const char *env = getenv("LLORCH_ISA");

    if (given != NULL)
        return given;
    return env != NULL && env[0] != '\0' ? env : NULL;
}

/* "--max-tokens" as the contract's "max_tokens". */
enum { FIELD_BYTES = 64 };

static const char *field_name(char out[FIELD_BYTES], const char *option)
{
    size_t n = 0;

    while (*option == '-')
        option++;
    for (; *option != '\0' && n < FIELD_BYTES - 1; option++)
        out[n++] = (char)(*option == '-' ? '_' : *option);
    out[n] = '\0';
    return out;
}

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

static bool is_integer(const char *s)
{
    s += *s == '-';
    return s[0] != '\0' && *skip_digits(s) == '\0';
}

static ErrCode not_a_number(const char *option, const char *text, const char *expected, Err *err)
{
    return err_set(err, ERR_USAGE, "%s: \"%s\" is not %s", option, text, expected);
}

ErrCode cli_parse_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                      Err *err)
{
    char field[FIELD_BYTES];

    if (!is_integer(text))
        return not_a_number(option, text, "an integer", err);
    errno = 0;
    const long long value = strtoll(text, NULL, 10); /* out of range: the nearest end */
    if (value < min)
        return err_set(err, ERR_USAGE, "%s: %s must be at least %lld", option,
                       field_name(field, option), (long long)min);
    if (value > max || errno == ERANGE)
        return err_set(err, ERR_USAGE, "%s: %s must be at most %lld (got %s)", option,
                       field_name(field, option), (long long)max, text);
    *out = value;
    return ERR_OK;
}

ErrCode cli_parse_i32(const char *option, const char *text, int min, int max, int *out, Err *err)
{
    int64_t value = 0;
    const ErrCode code = cli_parse_int(option, text, min, max, &value, err);

    if (code == ERR_OK)
        *out = (int)value;
    return code;
}

ErrCode cli_parse_u64(const char *option, const char *text, uint64_t *out, Err *err)
{
    char field[FIELD_BYTES];

    if (!is_integer(text))
        return not_a_number(option, text, "an integer", err);
    if (text[0] == '-')
        return err_set(err, ERR_USAGE, "%s: %s must be at least 0", option,
                       field_name(field, option));
    errno = 0;
    const unsigned long long value = strtoull(text, NULL, 10);
    if (errno == ERANGE)
        return err_set(err, ERR_USAGE, "%s: %s must be at most %llu (got %s)", option,
                       field_name(field, option), (unsigned long long)UINT64_MAX, text);
    *out = value;
    return ERR_OK;
}

/* -?(digits[.digits] | .digits)([eE][+-]?digits)?: what strtod reads, less hexadecimal, nan, inf
 * and blanks. */
static bool is_decimal(const char *s)
{
    s += *s == '-';
    const char *whole = s;
    s = skip_digits(s);
    size_t n_digits = (size_t)(s - whole);
    if (*s == '.') {
        const char *fraction = ++s;

        s = skip_digits(s);
        n_digits += (size_t)(s - fraction);
    }
    if (n_digits == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        const char *exponent = s;
        s = skip_digits(s);
        if (s == exponent)
            return false;
    }
    return *s == '\0';
}

ErrCode cli_parse_float(const char *option, const char *text, float min, float max, float *out,
                        Err *err)
{
    char field[FIELD_BYTES], got[TEXT_FLOAT_BYTES];

    if (!is_decimal(text))
        return not_a_number(option, text, "a decimal number", err);
    /* Through double, like a number of a JSON request, so that both give the same float32. */
    const float value = (float)strtod(text, NULL);
    text_float(got, value);
    if (value < min)
        return err_set(err, ERR_USAGE, "%s: %s must be at least %.1f (got %s)", option,
                       field_name(field, option), (double)min, got);
    if (value > max)
        return err_set(err, ERR_USAGE, "%s: %s must be at most %.1f (got %s)", option,
                       field_name(field, option), (double)max, got);
    *out = value;
    return ERR_OK;
}

ErrCode cli_parse_ids(const char *option, const char *text, int max_id, size_t max_ids,
                      int32_t **ids, size_t *n_ids, Err *err)
{
    size_t n = 1;

    for (const char *s = text; *s != '\0'; s++)
        n += *s == ',';
    if (n > max_ids)
        return err_set(err, ERR_USAGE, "%s: %zu ids, expected at most %zu", option, n, max_ids);
    int32_t *list = calloc(n, sizeof *list);
    if (list == NULL)
        return err_set(err, ERR_MEMORY, "%s: out of memory", option);
    for (size_t i = 0; i < n; i++) {
        const char *end = skip_digits(text);
        /* More digits than an int has could overflow; leading zeros of a sane number never get
         * there. */
        const long value = end > text && end - text <= 10 ? strtol(text, NULL, 10) : -1;

        if (value < 0 || value > max_id || (*end != ',' && *end != '\0')) {
            free(list);
            return err_set(err, ERR_USAGE,
                           "%s: entry %zu (\"%.*s\") is not a token id, expected 0 to %d", option,
                           i, (int)strcspn(text, ","), text, max_id);
        }
        list[i] = (int32_t)value;
        text = end + 1;
    }
    *ids = list;
    *n_ids = n;
    return ERR_OK;
}

/* --- the shipped model --- */

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool cli_binary_folder(char *out, size_t size)
{
    const ssize_t n = readlink("/proc/self/exe", out, size - 1);

    if (n <= 0 || (size_t)n >= size - 1)
        return false;
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

bool cli_join_parent(char *out, size_t size, const char *base, const char *tail)
{
    const char *slash = strrchr(base, '/');
    const int keep = slash != NULL ? (int)(slash - base) : 0;
    const int n = snprintf(out, size, "%.*s/%s", keep, base, tail);

    return n >= 0 && (size_t)n < size;
}

ErrCode cli_model_path(char *out, size_t size, const char *given, Err *err)
{
    char folder[CLI_PATH_BYTES], near[CLI_PATH_BYTES], installed[CLI_PATH_BYTES];
    char path[PATH_MAX];

    if (given != NULL) {
        if (given[0] == '\0')
            return err_set(err, ERR_USAGE, "--model: the path is empty");
        if (strlen(given) >= sizeof path)
            return err_set(err, ERR_LIMIT, "--model: path of %zu bytes, expected at most %zu",
                           strlen(given), size - 1);
        if (hub_model_path(path, given, err) != ERR_OK)
            return err->code;
        (void)snprintf(out, size, "%s", path);
        return ERR_OK;
    }
    if (!cli_binary_folder(folder, sizeof folder) ||
        !cli_join_parent(near, sizeof near, folder, "models/shakespeare") ||
        !cli_join_parent(installed, sizeof installed, folder,
                         "share/" CLI_PROGRAM "/models/shakespeare"))
        return err_set(err, ERR_IO,
                       "the shipped model cannot be found, because the path of this program is "
                       "unknown or too long; name a model with --model");
    const char *found = is_directory(near) ? near : is_directory(installed) ? installed : NULL;
    if (found == NULL)
        return err_set(err, ERR_IO,
                       "the shipped model is neither at %s nor at %s; name a model with --model",
                       near, installed);
    const int n = snprintf(out, size, "%s", found);
    if (n < 0 || (size_t)n >= size)
        return err_set(err, ERR_LIMIT, "%s: path too long", found);
    return ERR_OK;
}

/* --- standard input and output --- */

ErrCode cli_read_stdin(char **data, size_t *n, size_t max_bytes, Err *err)
{
    size_t cap = 65536, len = 0;
    char *buffer = malloc(cap + 1);

    while (buffer != NULL) {
        const ssize_t got = read(STDIN_FILENO, buffer + len, cap - len);

        const int error = errno;

        if (cli_interrupted()) {
            free(buffer);
            return err_set(err, ERR_CANCELLED, "standard input: interrupted");
        }
        if (got < 0 && error == EINTR)
            continue;
        if (got < 0) {
            free(buffer);
            return err_set(err, ERR_IO, "standard input: %s", strerror(error));
        }
        if (got == 0) {
            buffer[len] = '\0';
            *data = buffer;
            *n = len;
            return ERR_OK;
        }
        len += (size_t)got;
        if (len > max_bytes) {
            free(buffer);
            return err_set(err, ERR_LIMIT, "standard input: more than %zu bytes", max_bytes);
        }
        if (len == cap) {
            char *bigger = cap <= SIZE_MAX / 4 ? realloc(buffer, 2 * cap + 1) : NULL;

            if (bigger == NULL)
                break;
            buffer = bigger;
            cap *= 2;
        }
    }
    free(buffer);
    return err_set(err, ERR_MEMORY, "standard input: out of memory");
}

static ErrCode out_failed(Err *err)
{
    return err_set(err, ERR_IO, "standard output: %s", strerror(errno));
}

ErrCode cli_out(const void *data, size_t n, Err *err)
{
    if (fwrite(data, 1, n, stdout) != n)
        return out_failed(err);
    return ERR_OK;
}

ErrCode cli_out_flush(Err *err)
{
    if (fflush(stdout) != 0)
        return out_failed(err);
    return ERR_OK;
}

int cli_print(const char *text)
{
    Err err = {0};

    if (cli_out(text, strlen(text), &err) != ERR_OK || cli_out_flush(&err) != ERR_OK)
        return cli_fail(&err);
    return CLI_EXIT_OK;
}

/* --- Ctrl-C --- */

static const int interrupts[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t interrupted; /* the signal */

/* One shot: the next signal has its usual effect, whichever of the three it is. What was ignored
 * stays so. */
static void on_interrupt(int number)
{
    struct sigaction now;

    interrupted = number;
    for (size_t i = 0; i < sizeof interrupts / sizeof interrupts[0]; i++)
        if (sigaction(interrupts[i], NULL, &now) == 0 && now.sa_handler == on_interrupt)
            (void)signal(interrupts[i], SIG_DFL);
}

void cli_catch_interrupt(void)
{
    /* No SA_RESTART: a read that waits for a person ends. */
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct sigaction before;

    for (size_t i = 0; i < sizeof interrupts / sizeof interrupts[0]; i++)
        if (sigaction(interrupts[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            (void)sigaction(interrupts[i], &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

int cli_interrupt_status(void)
{
    return 128 + (int)interrupted;
}

/* --- progress --- */

enum { PROGRESS_AFTER_MS = 1000, PROGRESS_EVERY_MS = 100 };

void cli_progress_start(CliProgress *p, const char *what)
{
    *p = (CliProgress){
        .what = what, .start_ms = clock_now_ms(), .terminal = isatty(STDERR_FILENO) == 1};
}

void cli_progress(CliProgress *p, double fraction)
{
    const uint64_t now = clock_now_ms();

    if (!p->terminal || now - p->start_ms < PROGRESS_AFTER_MS ||
        now - p->drawn_ms < PROGRESS_EVERY_MS)
        return;
    p->drawn_ms = now;
    p->shown = true;
    (void)fprintf(stderr, "\r%s %3.0f %%", p->what, 100.0 * fraction);
}

void cli_progress_clear(CliProgress *p)
{
    if (p->shown)
        (void)fputs("\r\033[K", stderr);
    p->shown = false;
}
