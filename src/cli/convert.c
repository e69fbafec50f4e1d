/* cli/convert.c: see convert.h.
 *
 * May include: common, kernels, model, tokenizer. */
#include "cli/convert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/type_option.h"
#include "common/model_name.h"
#include "common/text.h"
#include "model/gpt2_pack.h"
#include "model/weight_source.h"

enum { OPT_MODEL = 256, OPT_TYPE, OPT_EMBEDDING_TYPE, OPT_OUT };

static const struct option convert_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"type", required_argument, NULL, OPT_TYPE},
    {"embedding-type", required_argument, NULL, OPT_EMBEDDING_TYPE},
    {"out", required_argument, NULL, OPT_OUT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static ErrCode take_option(ConvertArgs *a, int option, const char *value, Err *err)
{
    switch (option) {
    case OPT_MODEL:
        a->model = value;
        return ERR_OK;
    case OPT_TYPE:
        a->has_type = true;
        return type_option_parse(value, &a->type, err);
    case OPT_EMBEDDING_TYPE:
        a->has_table_type = true;
        if (kern_type_parse(value, &a->table_type))
            return ERR_OK;
        return err_set(err, ERR_USAGE,
                       "--embedding-type: %s: expected f32, f16, bf16, q8_0 or q4_0", value);
    default:
        a->out = value;
        return ERR_OK;
    }
}

ErrCode convert_parse(ConvertArgs *a, int argc, char **argv, Err *err)
{
    ErrCode code = ERR_OK;
    int option;

    *a = (ConvertArgs){.help = false};
    opterr = 0;
    while (code == ERR_OK &&
           (option = getopt_long(argc, argv, ":h", convert_options, NULL)) != -1) {
        if (option == 'h') {
            a->help = true;
            return ERR_OK;
        }
        code = option == '?' || option == ':' ? cli_bad_option(argv, option, err)
                                              : take_option(a, option, optarg, err);
    }
    if (code == ERR_OK)
        code = cli_no_operands(argc, argv, err);
    if (code == ERR_OK && (a->out == NULL || a->out[0] == '\0'))
        code = err_set(err, ERR_USAGE, "%s: --out FILE is missing (see %s %s --help)", argv[0],
                       CLI_PROGRAM, argv[0]);
    return code;
}

/* Hard links and symbolic links to a file are that file. */
static bool is_same(int dir_fd, const char *name, const struct stat *file)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, 0) == 0 && st.st_dev == file->st_dev &&
           st.st_ino == file->st_ino;
}

static bool folder_has(const char *dir, const struct stat *file)
{
    DIR *d = opendir(dir);
    bool found = false;

    if (d == NULL) /* loading says why */
        return false;
    for (const struct dirent *e; !found && (e = readdir(d)) != NULL;)
        found = is_same(dirfd(d), e->d_name, file);
    (void)closedir(d);
    return found;
}

/* A folder without a tokenizer gets it from the current directory or from the folder above. */
static bool is_outer_tokenizer(const char *dir, const struct stat *file)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json"};
    char path[CLI_PATH_BYTES + 32];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/../%s", dir, names[i]);
        if (is_same(AT_FDCWD, names[i], file) || is_same(AT_FDCWD, path, file))
            return true;
    }
    return false;
}

/* GGUF and packed files are whole models: nothing beside them is read. */
static bool is_whole_model(const char *path)
{
    WeightSource s = {.path = NULL};
    struct stat st;
    Err err;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
        weight_source_open(&s, path, &err) != ERR_OK)
        return false;
    const bool whole = s.gguf != NULL || gpt2_is_packed(s.st);
    weight_source_close(&s);
    return whole;
}

/* Every file in the folder of other models counts as theirs: which ones are read depends on what
 * they say. */
static bool is_of_model(const char *model, const struct stat *file)
{
    char dir[CLI_PATH_BYTES];

    if (is_same(AT_FDCWD, model, file))
        return true;
    if (is_whole_model(model))
        return false;
    model_dir_of(dir, sizeof dir, model);
    return folder_has(dir, file) || is_outer_tokenizer(dir, file);
}

/* The file may exist; what cannot be replaced by a file, and what the model is read from, are
 * refused. */
static ErrCode check_out(const char *out, const char *model, Err *err)
{
    struct stat st;

    if (stat(out, &st) != 0) /* what is wrong with its folder, the writer says */
        return ERR_OK;
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_USAGE, "--out: %s: is %s, expected the name of a file", out,
                       S_ISDIR(st.st_mode) ? "a directory" : "no regular file");
    if (is_of_model(model, &st))
        return err_set(err, ERR_USAGE, "--out: %s: is a file of the model; choose another name",
                       out);
    return ERR_OK;
}

bool convert_progress(void *ctx, double fraction)
{
    Conversion *c = ctx;

    cli_progress(&c->progress, fraction);
    return !cli_interrupted();
}

static ErrCode load_tokenizer(Conversion *c, Err *err)
{
    const ErrCode code = tokenizer_load(&c->tokenizer, c->model.path, err);

    if (code != ERR_OK)
        return code;
    return gpt2_fit_tokenizer(&c->model, tokenizer_vocab_size(c->tokenizer),
                              tokenizer_end_of_text(c->tokenizer), err);
}

ErrCode convert_load(Conversion *c, const ConvertArgs *a, Err *err)
{
    const Gpt2LoadOptions options = {.convert = a->has_type,
                                     .type = a->type,
                                     .convert_tables = a->has_table_type,
                                     .table_type = a->table_type,
                                     .progress = {convert_progress, c}};
    char path[CLI_PATH_BYTES];
    ErrCode code = cli_model_path(path, sizeof path, a->model, err);

    if (code == ERR_OK)
        code = check_out(a->out, path, err);
    if (code != ERR_OK)
        return code;
    cli_progress_start(&c->progress, "loading the model");
    code = gpt2_load(&c->model, path, &options, err);
    cli_progress_clear(&c->progress);
    return code == ERR_OK ? load_tokenizer(c, err) : code;
}

void convert_free(Conversion *c)
{
    tokenizer_free(c->tokenizer);
    gpt2_free(&c->model);
    *c = (Conversion){.tokenizer = NULL};
}

ErrCode convert_print_summary(const Gpt2 *m, const char *path, Err *err)
{
    char shown[4 * CLI_PATH_BYTES], line[sizeof shown + 256];
    struct stat st;
    ErrCode code;

    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));

    const double bytes = (double)st.st_size, f32_bytes = 4.0 * (double)m->n_params;

    (void)text_escape(shown, sizeof shown, path, strlen(path));
    const int n = snprintf(
        line, sizeof line, "%s: %jd bytes (%.1f MiB), %s, %.1f %% of the weights in f32\n", shown,
        (intmax_t)st.st_size, bytes / 1048576.0, m->types, 100.0 * bytes / f32_bytes);
    code = cli_out(line, (size_t)n, err);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

int convert_status(ErrCode code, const Err *err)
{
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(err);
}
