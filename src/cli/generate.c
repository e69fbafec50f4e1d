/* cli/generate.c: continues a prompt on standard output, token by token, or as one JSON object.
 *
 * May include: common, backend, kernels, sampling. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/cpu_backend.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "cli/sampling_option.h"
#include "cli/type_option.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/text.h"

enum { GENERATE_TOKENS = 100, ANY_CPU = -1 };

static const char generate_help[] =
    "usage: llorch-cpud generate [--model PATH] (--prompt TEXT | --ids 1,2,3) [OPTION]...\n"
    "\n"
    "Continues a text. The new text goes to standard output as it is produced; the prompt is not "
    "repeated.\n"
    "\n"
    "  --model PATH              model directory, .safetensors, .gguf or packed file (default: the "
    "shipped model)\n"
    "  --prompt TEXT             the text; - reads standard input, byte for byte\n"
    "  --ids LIST                token ids instead of a text, separated by commas\n"
    "  --max-tokens N            new tokens, 1 to 2048 (default 100); ends earlier when the "
    "context is full\n"
    "  --temperature X           0 to 2 (default 1); 0 always takes the most likely token\n"
    "  --top-k N                 only the N most likely tokens (default 0: all)\n"
    "  --top-p X                 only the most likely tokens that together reach X (default 1: "
    "all)\n"
    "  --min-p X                 only tokens at least X times as likely as the most likely one "
    "(default 0: all)\n"
    "  --repetition-penalty X    0 to 2; above 1 makes repeated tokens less likely (default 1: "
    "off)\n"
    "  --seed N                  same seed, same text (default 42)\n"
    "  --stop TEXT               end before this text; up to four times, each at most 100 "
    "characters\n"
    "  --max-context N           positions to make room for (default: the model's)\n"
    "  --isa NAME                instruction set: scalar, avx2 (default: the best, or LLORCH_ISA)\n"
    "  --type TYPE               hold the weights as f32, f16, bf16, q8_0 or q4_0 (default: as in "
    "the file)\n"
    "  --kv-type TYPE            hold keys and values as f32 or f16 (default f32)\n"
    "  --cpu N                   run on this processor only (default: any)\n"
    "  --json                    nothing but one JSON object at the end: prompt_ids, ids, text, "
    "stop_reason,\n"
    "                            seed, timings\n"
    "  --help                    this text\n";

enum {
    OPT_MODEL = 256,
    OPT_PROMPT,
    OPT_IDS,
    OPT_MAX_TOKENS,
    OPT_STOP,
    OPT_MAX_CONTEXT,
    OPT_ISA,
    OPT_TYPE,
    OPT_KV_TYPE,
    OPT_CPU,
    OPT_JSON
};

static const struct option generate_options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"ids", required_argument, NULL, OPT_IDS},
    {"max-tokens", required_argument, NULL, OPT_MAX_TOKENS},
    SAMPLING_OPTION_ROWS,
    {"stop", required_argument, NULL, OPT_STOP},
    {"max-context", required_argument, NULL, OPT_MAX_CONTEXT},
    {"isa", required_argument, NULL, OPT_ISA},
    {"type", required_argument, NULL, OPT_TYPE},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

typedef struct {
    const char *model, *prompt, *ids, *isa;
    int max_context; /* 0: the model's */
    bool has_type;   /* type: of the weights in memory; otherwise as in the file */
    KernType type, kv_type;
    int cpu; /* the one to run on; ANY_CPU */
    bool json, help;
    BackendRequest request;
    char *stdin_text;    /* owned, or NULL */
    int32_t *prompt_ids; /* owned, or NULL */
} GenerateArgs;

/* What came out of a job, beside the text on standard output. */
typedef struct {
    JsonBuf ids, text;
    int n_tokens;
    StopReason reason;
    uint64_t load_ns, start_ns, prompt_end_ns, first_ns, end_ns;
} GenerateResult;

/* --- arguments --- */

static ErrCode add_stop(BackendRequest *r, const char *text, Err *err)
{
    const size_t n = strlen(text);

    if (r->n_stops == BACKEND_MAX_STOPS)
        return err_set(err, ERR_USAGE, "--stop: stop must have at most %d sequences",
                       BACKEND_MAX_STOPS);
    if (n == 0)
        return err_set(err, ERR_USAGE, "--stop: stop sequence %d must not be empty", r->n_stops);
    if (!text_utf8_valid(text, n))
        return err_set(err, ERR_USAGE, "--stop: stop sequence %d is not valid UTF-8", r->n_stops);
    if (text_utf8_count(text, n) > BACKEND_MAX_STOP_CHARS)
        return err_set(err, ERR_USAGE,
                       "--stop: stop sequence %d must be at most %d characters (got %zu)",
                       r->n_stops, BACKEND_MAX_STOP_CHARS, text_utf8_count(text, n));
    r->stops[r->n_stops++] = (BackendText){text, n};
    return ERR_OK;
}

static ErrCode take_option(GenerateArgs *a, int option, const char *value, Err *err)
{
    switch (option) {
    case OPT_MODEL:
        a->model = value;
        return ERR_OK;
    case OPT_PROMPT:
        a->prompt = value;
        return ERR_OK;
    case OPT_IDS:
        a->ids = value;
        return ERR_OK;
    case OPT_ISA:
        a->isa = value;
        return ERR_OK;
    case OPT_JSON:
        a->json = true;
        return ERR_OK;
    case OPT_STOP:
        return add_stop(&a->request, value, err);
    case OPT_MAX_TOKENS:
        return cli_parse_i32("--max-tokens", value, 1, BACKEND_MAX_NEW_TOKENS,
                             &a->request.max_tokens, err);
    case OPT_MAX_CONTEXT:
        return cli_parse_i32("--max-context", value, 1, INT32_MAX, &a->max_context, err);
    case OPT_TYPE:
        a->has_type = true;
        return type_option_parse(value, &a->type, err);
    case OPT_KV_TYPE:
        return type_option_parse_kv(value, &a->kv_type, err);
    case OPT_CPU:
        return cli_parse_i32("--cpu", value, 0, INT32_MAX, &a->cpu, err);
    default:
        return sampling_option_take(&a->request.sampling, option, value, err);
    }
}

static ErrCode parse_args(GenerateArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a =
        (GenerateArgs){.kv_type = KERN_F32,
                       .cpu = ANY_CPU,
                       .request = {.max_tokens = GENERATE_TOKENS, .sampling = sampling_defaults()}};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", generate_options, NULL)) != -1) {
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
    if ((a->prompt == NULL) == (a->ids == NULL))
        return err_set(err, ERR_USAGE, "%s: give either --prompt or --ids (see %s %s --help)",
                       argv[0], CLI_PROGRAM, argv[0]);
    a->isa = cli_isa(a->isa);
    return ERR_OK;
}

/* Characters of any bytes: what is no character counts as one. */
static size_t count_chars(const char *s, size_t n)
{
    size_t count = 0;

    for (size_t i = 0, used; i < n; i += used, count++)
        (void)text_utf8_next(s + i, n - i, &used);
    return count;
}

static ErrCode take_prompt(GenerateArgs *a, Err *err)
{
    BackendRequest *r = &a->request;
    ErrCode code = ERR_OK;

    if (a->prompt == NULL) {
        code = cli_parse_ids("--ids", a->ids, INT32_MAX, 4 * (size_t)BACKEND_MAX_PROMPT_CHARS,
                             &a->prompt_ids, &r->n_prompt_ids, err);
        r->prompt_ids = a->prompt_ids;
        return code;
    }
    r->prompt = (BackendText){a->prompt, strlen(a->prompt)};
    if (strcmp(a->prompt, "-") == 0) {
        size_t n = 0;

        code = cli_read_stdin(&a->stdin_text, &n, 4 * (size_t)BACKEND_MAX_PROMPT_CHARS, err);
        if (code == ERR_LIMIT)
            return err_set(err, ERR_USAGE, "--prompt: prompt must be at most %d characters",
                           BACKEND_MAX_PROMPT_CHARS);
        if (code != ERR_OK)
            return code;
        r->prompt = (BackendText){a->stdin_text, n};
    }
    if (r->prompt.n_bytes == 0)
        return err_set(err, ERR_USAGE, "--prompt: prompt must not be empty");
    const size_t n = count_chars(r->prompt.text, r->prompt.n_bytes);
    if (n > BACKEND_MAX_PROMPT_CHARS)
        return err_set(err, ERR_USAGE, "--prompt: prompt must be at most %d characters (got %zu)",
                       BACKEND_MAX_PROMPT_CHARS, n);
    return ERR_OK;
}

/* --- the job --- */

static bool go_on(void *ctx)
{
    (void)ctx;
    return !cli_interrupted();
}

static bool load_progress(void *ctx, double fraction)
{
    cli_progress(ctx, fraction);
    return !cli_interrupted();
}

static ErrCode take_token(GenerateResult *r, const BackendStep *step, bool stream, Err *err)
{
    if (r->first_ns == 0)
        r->first_ns = clock_now_ns();
    if (step->id >= 0) {
        json_buf_printf(&r->ids, r->n_tokens > 0 ? ",%d" : "%d", step->id);
        r->n_tokens++;
    }
    if (!stream) {
        json_buf_add(&r->text, step->text, step->n_text);
        return ERR_OK;
    }
    if (step->n_text == 0)
        return ERR_OK;
    const ErrCode code = cli_out(step->text, step->n_text, err);
    return code != ERR_OK ? code : cli_out_flush(err);
}

static ErrCode run_job(Backend *b, const GenerateArgs *a, GenerateResult *r, Err *err)
{
    const Tap tap = {.yield = go_on};
    CliProgress progress;
    BackendStep step = {.kind = STEP_PROMPT};
    ErrCode code;

    r->start_ns = clock_now_ns();
    cli_progress_start(&progress, "reading the prompt");
    /* A request that does not fit the model is a wrong argument, as it would be a 400 on the wire.
     */
    if ((code = b->ops->start(b, &a->request, err)) != ERR_OK)
        return code == ERR_LIMIT ? err_set(err, ERR_USAGE, "%s", err->msg) : code;
    while (step.kind != STEP_END) {
        code = b->ops->step(b, &tap, &step, err);
        if (code == ERR_OK && cli_interrupted())
            code = err_set(err, ERR_CANCELLED, "interrupted");
        if (code == ERR_OK && step.kind == STEP_PROMPT) {
            cli_progress(&progress, (double)step.n_prompt_done / b->ops->n_prompt_tokens(b));
            r->prompt_end_ns = clock_now_ns();
        } else {
            cli_progress_clear(&progress);
        }
        if (code == ERR_OK && step.kind == STEP_TOKEN)
            code = take_token(r, &step, !a->json, err);
        if (code != ERR_OK)
            return code;
    }
    r->reason = step.reason;
    r->end_ns = clock_now_ns();
    return ERR_OK;
}

static const char *reason_name(StopReason reason)
{
    return reason == STOP_EOS ? "EOS" : reason == STOP_SEQUENCE ? "STOP_SEQUENCE" : "MAX_TOKENS";
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

static double per_second(double count, double ms)
{
    return ms > 0.0 ? 1000.0 * count / ms : 0.0;
}

static void add_timings(JsonBuf *out, const GenerateResult *r, size_t n_prompt)
{
    const double prompt_ms = ms_between(r->start_ns, r->prompt_end_ns);
    const double decode_ms = ms_between(r->prompt_end_ns, r->end_ns);
    const uint64_t first_ns = r->first_ns != 0 ? r->first_ns : r->end_ns;

    json_buf_printf(out, "\"load_ms\":%.3f,\"prompt_ms\":%.3f,\"decode_ms\":%.3f,",
                    (double)r->load_ns / 1e6, prompt_ms, decode_ms);
    json_buf_printf(out, "\"time_to_first_token_ms\":%.3f,", ms_between(r->start_ns, first_ns));
    json_buf_printf(out, "\"prompt_tokens_per_sec\":%.2f,\"tokens_per_sec\":%.2f",
                    per_second((double)n_prompt, prompt_ms), per_second(r->n_tokens, decode_ms));
}

static ErrCode print_json(const Backend *b, const GenerateArgs *a, const GenerateResult *r,
                          Err *err)
{
    JsonBuf out = {0};
    size_t n_prompt;
    const int32_t *prompt = cpu_backend_prompt_ids(b, &n_prompt);
    ErrCode code;

    json_buf_printf(&out, "{\"prompt_ids\":[");
    for (size_t i = 0; i < n_prompt; i++)
        json_buf_printf(&out, i > 0 ? ",%d" : "%d", (int)prompt[i]);
    json_buf_printf(&out, "],\"ids\":[");
    json_buf_add(&out, r->ids.data, r->ids.len);
    json_buf_printf(&out, "],\"text\":");
    json_buf_string(&out, r->text.data, r->text.len);
    json_buf_printf(&out, ",\"stop_reason\":\"%s\",\"seed\":%" PRIu64 ",\"timings\":{",
                    reason_name(r->reason), a->request.sampling.seed);
    add_timings(&out, r, n_prompt);
    json_buf_printf(&out, "}}\n");
    if (out.oom || r->ids.oom || r->text.oom)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else
        code = cli_out(out.data, out.len, err);
    json_buf_free(&out);
    return code;
}

/* The only job's prompt, which has no more tokens than bytes, and what it may generate. Large pages
 * for a whole context would take longer than a short prompt. */
static int enough_context(const BackendRequest *r)
{
    const size_t n_prompt = r->prompt_ids != NULL ? r->n_prompt_ids : r->prompt.n_bytes;

    return (int)(n_prompt + (size_t)r->max_tokens); /* both are limited: take_prompt */
}

static ErrCode load_backend(Backend **b, const GenerateArgs *a, GenerateResult *r, Err *err)
{
    char path[CLI_PATH_BYTES];
    CliProgress progress;
    ErrCode code = cli_model_path(path, sizeof path, a->model, err);

    if (code != ERR_OK)
        return code;
    const CpuBackendOptions options = {.model_path = path,
                                       .max_context = a->max_context,
                                       .enough_context = enough_context(&a->request),
                                       .isa = a->isa,
                                       .has_type = a->has_type,
                                       .type = a->type,
                                       .kv_type = a->kv_type,
                                       .progress = load_progress,
                                       .progress_ctx = &progress};
    const uint64_t start_ns = clock_now_ns();
    cli_progress_start(&progress, "loading the model");
    code = cpu_backend_load(b, &options, err);
    cli_progress_clear(&progress);
    r->load_ns = clock_now_ns() - start_ns;
    return code;
}

static ErrCode generate(const GenerateArgs *a, Err *err)
{
    GenerateResult r = {0};
    Backend *b = NULL;
    ErrCode code = load_backend(&b, a, &r, err);

    if (code == ERR_OK)
        code = run_job(b, a, &r, err);
    if (code == ERR_OK && a->json)
        code = print_json(b, a, &r, err);
    /* The shell's prompt belongs on its own line; a file gets the text and nothing else. */
    if (!a->json && r.n_tokens > 0 && (code == ERR_OK || code == ERR_CANCELLED) &&
        isatty(STDOUT_FILENO) == 1 && cli_out("\n", 1, err) != ERR_OK)
        code = err->code;
    if (code == ERR_OK)
        code = cli_out_flush(err);
    json_buf_free(&r.ids);
    json_buf_free(&r.text);
    if (b != NULL)
        b->ops->free(b);
    return code;
}

int cli_generate(int argc, char **argv)
{
    GenerateArgs args;
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(generate_help);
    if (code == ERR_OK && args.cpu != ANY_CPU)
        code = process_pin(args.cpu, &err);
    if (code == ERR_OK) {
        cli_catch_interrupt();
        code = take_prompt(&args, &err);
    }
    if (code == ERR_OK)
        code = generate(&args, &err);
    free(args.stdin_text);
    free(args.prompt_ids);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
