/* cli/diff.c: compares two .npy files or two folders of them.
 *
 * May include: common, checkpoint, report. */
#include <getopt.h>
#include <stdlib.h>

#include "checkpoint/diff.h"
#include "checkpoint/diff_html.h"
#include "checkpoint/diff_report.h"
#include "cli/cli.h"
#include "common/json.h"
#include "report/output.h"
#include "report/terminal.h"

static const char diff_help[] =
    "usage: llorch-cpud diff [options] A B\n"
    "\n"
    "Compares two .npy files, or two folders as capture --out writes them: all .npy files of "
    "both,\n"
    "matched by name.\n"
    "\n"
    "  --tolerance X    |a - b| <= X * max(1, |b|) for every element (default: the tolerance of\n"
    "                   the checkpoint that the file is named for, else 0: equal values)\n"
    "  --bits           demand equal bits instead, and show the first that differ\n"
    "  --worst K        list the K worst elements of a tensor, 0 to 1000 (default: 10)\n"
    "  --json           print one JSON object instead of a report\n"
    "  --html FILE      also write the report as a page with charts\n"
    "  --help           this text\n"
    "\n"
    "Exit status: 0 when all agree, 1 when something differs or cannot be compared, 2 for wrong\n"
    "usage.\n";

enum { OPT_TOLERANCE = 256, OPT_BITS, OPT_WORST, OPT_JSON, OPT_HTML, DEFAULT_WORST = 10 };

static const struct option diff_options[] = {{"tolerance", required_argument, NULL, OPT_TOLERANCE},
                                             {"bits", no_argument, NULL, OPT_BITS},
                                             {"worst", required_argument, NULL, OPT_WORST},
                                             {"json", no_argument, NULL, OPT_JSON},
                                             {"html", required_argument, NULL, OPT_HTML},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

typedef struct {
    const char *a, *b, *html;
    DiffOptions options;
    bool json, help;
} DiffArgs;

static ErrCode parse_tolerance(DiffArgs *a, Err *err)
{
    float checked;
    const ErrCode code = cli_parse_float("--tolerance", optarg, 0.0f, 1e30f, &checked, err);

    if (code != ERR_OK)
        return code;
    /* As a double: 1e-5f is a little less than 1e-5. */
    a->options.tolerance = strtod(optarg, NULL);
    a->options.has_tolerance = true;
    return ERR_OK;
}

static ErrCode parse_worst(DiffArgs *a, Err *err)
{
    int64_t n = 0;
    const ErrCode code = cli_parse_int("--worst", optarg, 0, DIFF_MAX_WORST, &n, err);

    a->options.n_worst = (int)n;
    return code;
}

static ErrCode parse_operands(DiffArgs *a, int argc, char **argv, Err *err)
{
    if (a->options.bits && a->options.has_tolerance)
        return err_set(err, ERR_USAGE, "%s: --bits and --tolerance exclude each other", argv[0]);
    if (argc - optind != 2)
        return err_set(err, ERR_USAGE, "%s: expected two files or two folders (see %s %s --help)",
                       argv[0], CLI_PROGRAM, argv[0]);
    a->a = argv[optind];
    a->b = argv[optind + 1];
    return ERR_OK;
}

static ErrCode parse_args(DiffArgs *a, int argc, char **argv, Err *err)
{
    ErrCode code = ERR_OK;
    int option;

    *a = (DiffArgs){.options = {.n_worst = DEFAULT_WORST}};
    opterr = 0;
    while (code == ERR_OK && (option = getopt_long(argc, argv, ":h", diff_options, NULL)) != -1) {
        switch (option) {
        case OPT_TOLERANCE:
            code = parse_tolerance(a, err);
            break;
        case OPT_BITS:
            a->options.bits = true;
            break;
        case OPT_WORST:
            code = parse_worst(a, err);
            break;
        case OPT_JSON:
            a->json = true;
            break;
        case OPT_HTML:
            a->html = optarg;
            break;
        case 'h':
            a->help = true;
            return ERR_OK;
        default:
            return cli_bad_option(argv, option, err);
        }
    }
    return code == ERR_OK ? parse_operands(a, argc, argv, err) : code;
}

static ErrCode write_page(const Diff *d, const char *path, Err *err)
{
    JsonBuf page = {0};
    ErrCode code;

    diff_html(&page, d);
    code = report_write(path, &page, err);
    json_buf_free(&page);
    return code;
}

static ErrCode print_report(const Diff *d, bool json, Err *err)
{
    JsonBuf out = {0};
    ErrCode code;

    if (json)
        diff_json(&out, d);
    else
        diff_print(&out, d, term_wants_colour(), term_width());
    if (out.oom)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else
        code = cli_out(out.data, out.len, err);
    if (code == ERR_OK)
        code = cli_out_flush(err);
    json_buf_free(&out);
    return code;
}

/* The page first: one that cannot be written is the only thing said then. */
static int show(const DiffArgs *args, const Diff *d)
{
    Err err = {0};

    if (args->html != NULL && write_page(d, args->html, &err) != ERR_OK)
        return cli_fail(&err);
    if (print_report(d, args->json, &err) != ERR_OK)
        return cli_fail(&err);
    if (diff_agrees(d, &err))
        return CLI_EXIT_OK;
    return err.code != ERR_OK ? cli_fail(&err) : CLI_EXIT_FAILURE;
}

int cli_diff(int argc, char **argv)
{
    DiffArgs args;
    Diff d = {.n_rows = 0};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);
    int status;

    if (code == ERR_OK && args.help)
        return cli_print(diff_help);
    if (code == ERR_OK)
        code = diff_run(&d, args.a, args.b, &args.options, &err);
    status = code == ERR_OK ? show(&args, &d) : cli_fail(&err);
    diff_free(&d);
    return status;
}
