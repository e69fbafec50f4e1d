/* cli/info.c: what a model is and what it needs, as a table or JSON.
 *
 * May include: common, kernels, model, tokenizer. */
#include <getopt.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "cli/cli.h"
#include "common/json.h"
#include "common/text.h"
#include "kernels/kernels.h"
#include "model/fingerprint.h"
#include "model/gpt2.h"
#include "tokenizer/pre_split.h"
#include "tokenizer/tokenizer.h"

static const char info_help[] =
    "usage: llorch-cpud info [--model PATH] [--context N] [--json]\n"
    "\n"
    "Describes a model: architecture, parameters, types, memory needed, tokenizer.\n"
    "\n"
    "  --model PATH     model directory, .safetensors, .gguf or packed file (default: the\n"
    "                   shipped model)\n"
    "  --context N      count memory for N positions (default: the model's)\n"
    "  --json           one JSON object instead of a table; sizes in bytes\n"
    "  --help           this text\n";

enum { OPT_MODEL = 256, OPT_CONTEXT, OPT_JSON };

static const struct option info_options[] = {{"model", required_argument, NULL, OPT_MODEL},
                                             {"context", required_argument, NULL, OPT_CONTEXT},
                                             {"json", no_argument, NULL, OPT_JSON},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

typedef struct {
    const char *model;
    int context; /* 0: the model's */
    bool json, help;
} InfoArgs;

typedef struct {
    Gpt2 model;
    Tokenizer *tokenizer;
    int context;
    size_t weights_bytes, cache_bytes, work_bytes, tokenizer_bytes;
    char fingerprint[FINGERPRINT_BYTES];
} Info;

static ErrCode parse_args(InfoArgs *a, int argc, char **argv, Err *err)
{
    int option;

    *a = (InfoArgs){.json = false};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", info_options, NULL)) != -1) {
        int64_t n = 0;

        switch (option) {
        case OPT_MODEL:
            a->model = optarg;
            break;
        case OPT_CONTEXT:
            if (cli_parse_int("--context", optarg, 1, INT32_MAX, &n, err) != ERR_OK)
                return ERR_USAGE;
            a->context = (int)n;
            break;
        case OPT_JSON:
            a->json = true;
            break;
        case 'h':
            a->help = true;
            return ERR_OK;
        default:
            return cli_bad_option(argv, option, err);
        }
    }
    return cli_no_operands(argc, argv, err);
}

/* What a worker with this context would hold, from the same code that makes it: pages never written
 * cost nothing. */
static ErrCode measure(Info *info, int context, Err *err)
{
    const Kernels *k;
    Gpt2Run run = {0};
    ErrCode code = kernels_select(&k, cli_isa(NULL), err);

    if (code != ERR_OK)
        return code;
    info->context = context > 0 ? context : info->model.config.n_ctx;
    code = gpt2_run_init(&run, &info->model, k, info->context, CPU_BACKEND_CHUNK, KERN_F32, err);
    if (code != ERR_OK)
        return code;
    info->weights_bytes = info->model.weight_bytes;
    info->cache_bytes = kv_cache_bytes(&run.cache);
    info->work_bytes = run.arena.size_bytes - info->cache_bytes;
    info->tokenizer_bytes = tokenizer_bytes(info->tokenizer);
    gpt2_run_free(&run);
    return ERR_OK;
}

static bool load_progress(void *ctx, double fraction)
{
    cli_progress(ctx, fraction);
    return true;
}

static ErrCode load(Info *info, const InfoArgs *a, Err *err)
{
    char path[CLI_PATH_BYTES];
    CliProgress progress;
    const Gpt2LoadOptions options = {.progress = {load_progress, &progress}};
    ErrCode code = cli_model_path(path, sizeof path, a->model, err);

    if (code != ERR_OK)
        return code;
    cli_progress_start(&progress, "loading the model");
    code = gpt2_load(&info->model, path, &options, err);
    cli_progress_clear(&progress);
    if (code == ERR_OK)
        code = tokenizer_load(&info->tokenizer, info->model.path, err);
    if (code != ERR_OK)
        return code;
    config_name_eos(&info->model.config, tokenizer_end_of_text(info->tokenizer));
    if (!info->model.has_weights_hash)
        fingerprint_weights(&info->model);
    code = fingerprint_text(&info->model, info->fingerprint, err);
    return code == ERR_OK ? measure(info, a->context, err) : code;
}

static size_t total_bytes(const Info *info)
{
    return info->weights_bytes + info->cache_bytes + info->work_bytes + info->tokenizer_bytes;
}

static void add_string(JsonBuf *out, const char *key, const char *value)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, value, strlen(value));
}

static void add_json(JsonBuf *out, const Info *info)
{
    const Gpt2 *m = &info->model;
    const Gpt2Config *c = &m->config;
    char eps[TEXT_FLOAT_BYTES];

    text_float(eps, c->eps);
    json_buf_printf(out, "{");
    add_string(out, "model", m->name);
    json_buf_printf(out, ",");
    add_string(out, "path", m->path);
    json_buf_printf(out,
                    ",\"architecture\":{\"type\":\"gpt2\",\"layers\":%d,\"heads\":%d,"
                    "\"head_dim\":%d,\"dim\":%d,\"ffn_dim\":%d,\"context\":%d,\"vocab_size\":%d,"
                    "\"activation\":\"%s\",\"layer_norm_epsilon\":%s,",
                    c->n_layers, c->n_heads, c->head_dim, c->dim, c->ffn_dim, c->n_ctx,
                    c->vocab_size, c->activation_name, eps);
    json_buf_printf(out, "\"scale_attention\":%s,\"scale_attention_by_layer\":%s,\"tied_head\":%s,",
                    c->scale_attn ? "true" : "false", c->scale_attn_by_layer ? "true" : "false",
                    c->tied_head ? "true" : "false");
    json_buf_printf(out, "\"eos_ids\":[");
    for (int i = 0; i < c->n_eos; i++)
        json_buf_printf(out, i > 0 ? ",%d" : "%d", c->eos_ids[i]);
    json_buf_printf(out, "]},\"parameters\":%zu,", m->n_params);
    add_string(out, "file_types", m->file_types);
    json_buf_printf(out, ",");
    add_string(out, "types", m->types);
    json_buf_printf(out, ",");
    add_string(out, "weights_hash", info->fingerprint);
    json_buf_printf(out,
                    ",\"memory\":{\"context\":%d,\"weights_bytes\":%zu,\"kv_cache_bytes\":%zu,"
                    "\"work_bytes\":%zu,\"tokenizer_bytes\":%zu,\"total_bytes\":%zu},",
                    info->context, info->weights_bytes, info->cache_bytes, info->work_bytes,
                    info->tokenizer_bytes, total_bytes(info));
    json_buf_printf(out, "\"tokenizer\":{");
    add_string(out, "kind", tokenizer_kind(info->tokenizer));
    json_buf_printf(out, ",\"vocab_size\":%d,", tokenizer_vocab_size(info->tokenizer));
    if (tokenizer_end_of_text(info->tokenizer) >= 0)
        json_buf_printf(out, "\"end_of_text\":%d,", tokenizer_end_of_text(info->tokenizer));
    json_buf_printf(out, "\"unicode\":\"%s\"}}\n", pre_split_unicode_version());
}

/* Names come from outside: nothing in them may steer the terminal. */
static void add_text(JsonBuf *out, const char *name, const char *text)
{
    char shown[4 * CLI_PATH_BYTES];

    (void)text_escape(shown, sizeof shown, text, strlen(text));
    json_buf_printf(out, "%-18s %s\n", name, shown);
}

/* 4060160 as "4060160 (3.9 MiB)". */
static void add_size(JsonBuf *out, const char *name, size_t bytes)
{
    json_buf_printf(out, "%-18s %zu bytes (%.1f MiB)\n", name, bytes, (double)bytes / 1048576.0);
}

static void add_table(JsonBuf *out, const Info *info)
{
    const Gpt2 *m = &info->model;
    const Gpt2Config *c = &m->config;
    char eps[TEXT_FLOAT_BYTES];

    text_float(eps, c->eps);
    add_text(out, "model", m->name);
    add_text(out, "path", m->path);
    json_buf_printf(
        out, "architecture       gpt2: %d layers, %d heads of %d, width %d, feed-forward %d\n",
        c->n_layers, c->n_heads, c->head_dim, c->dim, c->ffn_dim);
    json_buf_printf(out, "context            %d positions\n", c->n_ctx);
    json_buf_printf(out, "vocabulary         %d rows, %s head\n", c->vocab_size,
                    c->tied_head ? "tied" : "own");
    json_buf_printf(out, "activation         %s\n", c->activation_name);
    json_buf_printf(out, "layer norm epsilon %s\n", eps);
    json_buf_printf(out, "attention scale    %s%s\n", c->scale_attn ? "1 / sqrt(head_dim)" : "1",
                    c->scale_attn_by_layer ? " / (layer + 1)" : "");
    json_buf_printf(out, "parameters         %zu\n", m->n_params);
    json_buf_printf(out, "types              %s in the file, %s in memory\n", m->file_types,
                    m->types);
    json_buf_printf(out, "weights hash       %s\n", info->fingerprint);
    json_buf_printf(out, "tokenizer          %s, %d tokens, Unicode %s\n",
                    tokenizer_kind(info->tokenizer), tokenizer_vocab_size(info->tokenizer),
                    pre_split_unicode_version());
    json_buf_printf(out, "memory             for %d positions:\n", info->context);
    add_size(out, "  weights", info->weights_bytes);
    add_size(out, "  KV cache", info->cache_bytes);
    add_size(out, "  work space", info->work_bytes);
    add_size(out, "  tokenizer", info->tokenizer_bytes);
    add_size(out, "  total", total_bytes(info));
}

int cli_info(int argc, char **argv)
{
    InfoArgs args;
    Info info = {.tokenizer = NULL};
    JsonBuf out = {0};
    Err err = {0};
    ErrCode code = parse_args(&args, argc, argv, &err);

    if (code == ERR_OK && args.help)
        return cli_print(info_help);
    if (code == ERR_OK)
        code = load(&info, &args, &err);
    if (code == ERR_OK) {
        if (args.json)
            add_json(&out, &info);
        else
            add_table(&out, &info);
        if (out.oom)
            code = err_set(&err, ERR_MEMORY, "out of memory");
    }
    const int status = code == ERR_OK ? cli_print(out.data) : cli_fail(&err);
    json_buf_free(&out);
    tokenizer_free(info.tokenizer);
    gpt2_free(&info.model);
    return status;
}
