/* cli/profile.c: one request, timed part by part, and its memory stage by stage.
 *
 * May include: common, kernels, profile, report, sampling. */
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "cli/profile_measure.h"
#include "cli/sampling_option.h"
#include "cli/type_option.h"
#include "profile/show.h"
#include "report/output.h"
#include "report/terminal.h"

enum { DEFAULT_TOKENS = 64, MAX_PAIRS = 1000, ANY_CPU = -1 };

static const char profile_help[] =
    "usage: llorch-cpud profile [--model PATH] (--prompt TEXT | --prompt-ids 1,2,3) [OPTION]...\n"
    "\n"
    "Runs one request and shows where its time and its memory go: every part of the model in every "
    "layer, and\n"
    "what is around it. End-of-text tokens do not end it.\n"
    "\n"
    "  --model PATH              model directory, .safetensors, .gguf or packed file (default: the "
    "shipped model)\n"
    "  --prompt TEXT             the text; - reads standard input, byte for byte\n"
    "  --prompt-ids LIST         token ids instead of a text, separated by commas\n"
    "  --tokens N                new tokens, 1 to 2048 (default 64); fewer when the context is "
    "full\n"
    "  --temperature X, --top-k N, --top-p X, --min-p X, --repetition-penalty X, --seed N\n"
    "                            how tokens are chosen, as for generate\n"
    "  --isa NAME                instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --type TYPE               hold the weights as f32, f16, bf16, q8_0 or q4_0 (default: as in "
    "the file)\n"
    "  --kv-type TYPE            hold keys and values as f32 or f16 (default f32)\n"
    "  --cpu N                   run on this processor (default: the one it starts on)\n"
    "  --layers                  a table of the parts of each layer as well\n"
    "  --cost PAIRS              also what the profile itself costs: this many pairs of runs with "
    "and without\n"
    "                            it, in turns, 1 to 1000\n"
    "  --json                    one JSON object instead of tables\n"
    "  --html FILE               also a page with charts\n"
    "  --trace FILE              also a trace for viewers of the Chrome trace format\n"
    "  --help                    this text\n"
    "\n"
    "tokenizer: the prompt to tokens, and each token to text. sampling: from logits to a token. "
    "http: the\n"
    "token's event made and written to a TCP connection on 127.0.0.1, whose other end this process "
    "reads\n"
    "when the clock stands; no server is involved. yield: in the hook that looks for Ctrl-C. "
    "other: between\n"
    "parts. The parts of a phase sum to its time. A first run looks at the memory and warms up, a "
    "second one\n"
    "is timed. GB/s and GFLOP/s follow from the model's sizes; the probes are those of bench.\n";

enum {
    OPT_MODEL = 256,
    OPT_PROMPT,
    OPT_PROMPT_IDS,
    OPT_TOKENS,
    OPT_ISA,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_CPU,
    OPT_LAYERS,
    OPT_COST,
    OPT_JSON,
    OPT_HTML,
    OPT_TRACE
};

static const struct option profile_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"prompt-ids", required_argument, NULL, OPT_PROMPT_IDS},
    {"tokens", required_argument, NULL, OPT_TOKENS},
    SAMPLING_OPTION_ROWS,
    {"isa", required_argument, NULL, OPT_ISA},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"layers", no_argument, NULL, OPT_LAYERS},
    {"cost", required_argument, NULL, OPT_COST},
    {"json", no_argument, NULL, OPT_JSON},
    {"html", required_argument, NULL, OPT_HTML},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    ProfileSubject subject;
    const char *prompt, *prompt_ids;
    const char *html, *trace;
    int cpu;
    bool layers, json, help;
    char *stdin_text; /* owned, or NULL */
    int32_t *ids;     /* owned, or NULL */
} ProfileArgs;

/* ---- Arguments ---- */

static ErrCode take_option(ProfileArgs *a, int option, const char *value, Err *err)
{
    ProfileSubject *s = &a->subject;

    switch (option) {
    case OPT_MODEL:
        s->model = value;
        return ERR_OK;
    case OPT_PROMPT:
        a->prompt = value;
        return ERR_OK;
    case OPT_PROMPT_IDS:
        a->prompt_ids = value;
        return ERR_OK;
    case OPT_TOKENS:
        return cli_parse_i32("--tokens", value, 1, BACKEND_MAX_NEW_TOKENS, &s->n_tokens, err);
    case OPT_ISA:
        s->isa = value;
        return ERR_OK;
    case OPT_TYPE:
        s->has_type = true;
        return type_option_parse(value, &s->type, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(value, &s->kv_type, err);
    case OPT_CPU:
        return cli_parse_i32("--cpu", value, 0, INT32_MAX, &a->cpu, err);
    case OPT_LAYERS:
        a->layers = true;
        return ERR_OK;
    case OPT_COST:
        return cli_parse_i32("--cost", value, 1, MAX_PAIRS, &s->n_pairs, err);
    case OPT_JSON:
        a->json = true;
        return ERR_OK;
    case OPT_HTML:
        a->html = value;
        return ERR_OK;
    case OPT_TRACE:
        a->trace = value;
        s->events = true;
        return ERR_OK;
    default:
        return sampling_option_take(&s->sampling, option, value, err);
    }
}

static ErrCode parse_args(ProfileArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (ProfileArgs){.cpu = ANY_CPU,
                       .subject = {.kv_type = KERN_F32,
                                   .n_tokens = DEFAULT_TOKENS,
                                   .sampling = sampling_defaults()}};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", profile_options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return cli_bad_option(argv, option, err);
        if (option == 'h') {
            a->help = true;
            return ERR_OK;
        }
        const ErrCode code = take_option(a, option, optarg, err);
        if (code != ERR_OK)
            return code;
    }
    const ErrCode code = cli_no_operands(argc, argv, err);
    if (code != ERR_OK)
        return code;
    if ((a->prompt == NULL) == (a->prompt_ids == NULL))
        return err_set(err, ERR_USAGE,
                       "%s: give either --prompt or --prompt-ids (see %s %s --help)", argv[0],
                       CLI_PROGRAM, argv[0]);
    a->subject.isa = cli_isa(a->subject.isa);
    return ERR_OK;
}

static ErrCode take_prompt(ProfileArgs *a, Err *err)
{
    enum { MAX_BYTES = 4 * BACKEND_MAX_PROMPT_CHARS };
    ProfileSubject *s = &a->subject;
    ErrCode code = ERR_OK;

    if (a->prompt == NULL) {
        code = cli_parse_ids("--prompt-ids", a->prompt_ids, INT32_MAX, MAX_BYTES, &a->ids,
                             &s->n_prompt_ids, err);
        s->prompt_ids = a->ids;
        return code;
    }
    s->prompt = a->prompt;
    s->n_prompt_bytes = strlen(a->prompt);
    if (strcmp(a->prompt, "-") == 0) {
        code = cli_read_stdin(&a->stdin_text, &s->n_prompt_bytes, MAX_BYTES, err);
        s->prompt = a->stdin_text;
    }
    if (code == ERR_LIMIT || (code == ERR_OK && s->n_prompt_bytes > MAX_BYTES))
        return err_set(err, ERR_USAGE, "--prompt: prompt must be at most %d bytes", (int)MAX_BYTES);
    if (code == ERR_OK && s->n_prompt_bytes == 0)
        return err_set(err, ERR_USAGE, "--prompt: prompt must not be empty");
    return code;
}

/* ---- Result ---- */

static ErrCode write_page(const char *path, const ProfileReport *r, Err *err)
{
    JsonBuf out = {0};
    ErrCode code = profile_show_html(&out, r, err);

    if (code == ERR_OK)
        code = report_write(path, &out, err);
    json_buf_free(&out);
    return code;
}

/* Files first: what is printed says that all is done. */
static ErrCode show(const ProfileArgs *a, const ProfileReport *r, Err *err)
{
    JsonBuf out = {0};
    ErrCode code = ERR_OK;

    if (a->html != NULL)
        code = write_page(a->html, r, err);
    if (code == ERR_OK && a->trace != NULL)
        code = profile_write_trace(a->trace, r, err);
    if (code != ERR_OK)
        return code;
    if (a->json)
        profile_show_json(&out, r);
    else
        profile_show_table(&out, r, a->layers, term_wants_colour());
    if (out.oom)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else
        code = cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code == ERR_OK ? cli_out_flush(err) : code;
}

static ErrCode profile(const ProfileArgs *a, int cpu, Err *err)
{
    char cpu_name[PROCESS_CPU_NAME_BYTES];
    ProfileMeasured *m = calloc(1, sizeof *m);
    ErrCode code;

    if (m == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    process_cpu_name(cpu_name);
    m->report = (ProfileReport){
        .version = LLORCH_VERSION, .compiler = cli_compiler(), .cpu_name = cpu_name, .cpu = cpu};
    code = profile_measure(m, &a->subject, err);
    if (code == ERR_OK)
        code = show(a, &m->report, err);
    profile_measured_free(m);
    free(m);
    return code;
}

int cli_profile(int argc, char **argv)
{
    ProfileArgs args;
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(profile_help);
    const int cpu = args.cpu != ANY_CPU ? args.cpu : sched_getcpu();
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code = take_prompt(&args, &err);
    }
    if (code == ERR_OK)
        code = process_pin(cpu, &err);
    if (code == ERR_OK)
        code = profile(&args, cpu, &err);
    free(args.stdin_text);
    free(args.ids);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
