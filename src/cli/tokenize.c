/* cli/tokenize.c: `llorch-cpud tokenize`: text to token ids and back, for looking and for comparing
 * with other tools.
 *
 * May include: common, tokenizer. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "common/json.h"
#include "common/text.h"
#include "tokenizer/tokenizer.h"

/* Of standard input, or of one line of it. */
enum { TOKENIZE_MAX_BYTES = 256 * 1024 * 1024 };

static const char help[] =
    "usage: " CLI_PROGRAM " tokenize [--model PATH] [--jsonl] [--decode] [--allow-special]\n"
    "\n"
    "Turns standard input, byte for byte, into one JSON array of token ids.\n"
    "\n"
    "  --model PATH      model directory, .safetensors, .gguf or packed file (default: the\n"
    "                    shipped model)\n"
    "  --jsonl           one {\"text\":...} or {\"text_b64\":...} per line to one array per line\n"
    "  --decode          one array of ids per line to the bytes of the tokens, one after the "
    "other;\n"
    "                    with --jsonl to one {\"text_b64\":...} per line\n"
    "  --allow-special   <|endoftext|> in the text becomes its id\n"
    "  --help            this text\n";

typedef struct {
    const char *model;
    bool jsonl, decode, allow_special, help;
} Options;

/* One text and its tokens, in room that grows from line to line. */
typedef struct {
    const Tokenizer *tokenizer;
    TokenizerScratch *scratch;
    char *bytes;  /* [room], of text_b64 */
    int32_t *ids; /* [room] */
    size_t room;
    bool allow_special;
} Work;

static ErrCode parse_options(int argc, char **argv, Options *o, Err *err)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'}, {"jsonl", no_argument, NULL, 'j'},
        {"decode", no_argument, NULL, 'd'},      {"allow-special", no_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    int got;

    opterr = 0;
    while ((got = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        switch (got) {
        case 'm':
            o->model = optarg;
            break;
        case 'j':
            o->jsonl = true;
            break;
        case 'd':
            o->decode = true;
            break;
        case 's':
            o->allow_special = true;
            break;
        case 'h':
            o->help = true;
            return ERR_OK;
        default:
            return cli_bad_option(argv, got, err);
        }
    }
    if (o->decode && o->allow_special)
        return err_set(err, ERR_USAGE, "tokenize: --allow-special has no meaning with --decode");
    return cli_no_operands(argc, argv, err);
}

/* The tokenizer of a model, which must be there: a name that is not is a mistake, not a reason to
 * search elsewhere. */
static ErrCode load(Tokenizer **out, const char *given, Err *err)
{
    char path[CLI_PATH_BYTES];
    struct stat st;
    const ErrCode code = cli_model_path(path, sizeof path, given, err);

    if (code != ERR_OK)
        return code;
    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    return tokenizer_load(out, path, err);
}

static void work_free(Work *w)
{
    tokenizer_scratch_free(w->scratch);
    free(w->bytes);
    free(w->ids);
    w->scratch = NULL;
    w->bytes = NULL;
    w->ids = NULL;
    w->room = 0;
}

/* Makes room for a text of n bytes; what was there is lost. */
static ErrCode work_reserve(Work *w, size_t n, Err *err)
{
    const size_t doubled = 2 * w->room, room = n > doubled ? n : doubled;

    if (n <= w->room)
        return ERR_OK;
    work_free(w);
    w->scratch = tokenizer_scratch_new(room);
    w->bytes = malloc(room);
    w->ids = malloc(room * sizeof w->ids[0]);
    if (w->scratch == NULL || w->bytes == NULL || w->ids == NULL) {
        work_free(w);
        err_set(err, ERR_MEMORY, "no memory for a text of %zu bytes", n);
        return ERR_MEMORY;
    }
    w->room = room;
    return ERR_OK;
}

static ErrCode print_ids(const int32_t *ids, size_t n, Err *err)
{
    char text[16];
    ErrCode code = cli_out("[", 1, err);

    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        const int length = snprintf(text, sizeof text, "%s%" PRId32, i == 0 ? "" : ",", ids[i]);

        code = cli_out(text, (size_t)length, err);
    }
    return code == ERR_OK ? cli_out("]\n", 2, err) : code;
}

static ErrCode encode(Work *w, const char *text, size_t n, Err *err)
{
    const size_t n_ids =
        tokenizer_encode(w->tokenizer, w->scratch, text, n, w->allow_special, w->ids);

    return print_ids(w->ids, n_ids, err);
}

static ErrCode encode_stdin(Work *w, Err *err)
{
    char *text = NULL;
    size_t n = 0;
    ErrCode code = cli_read_stdin(&text, &n, TOKENIZE_MAX_BYTES, err);

    if (code != ERR_OK)
        return code;
    code = work_reserve(w, n > 0 ? n : 1, err);
    if (code == ERR_OK)
        code = encode(w, text, n, err);
    free(text);
    return code;
}

/* {"text":...} or {"text_b64":...} to an array of ids; other keys are ignored. */
static ErrCode encode_line(Work *w, const json_t *line, Err *err)
{
    const json_t *text = json_object_get(line, "text");
    const json_t *base64 = json_object_get(line, "text_b64");
    const json_t *given = text != NULL ? text : base64;

    if ((text != NULL) == (base64 != NULL) || !json_is_string(given)) {
        return err_set(err, ERR_FORMAT,
                       "expected an object with a string \"text\" or a string \"text_b64\"");
    }

    size_t n = json_string_length(given);
    const ErrCode code = work_reserve(w, n > 0 ? n : 1, err);

    if (code != ERR_OK)
        return code;
    if (text != NULL)
        return encode(w, json_string_value(given), n, err);
    if (!text_base64_decode(w->bytes, &n, json_string_value(given), n))
        return err_set(err, ERR_FORMAT, "\"text_b64\" is not base64");
    return encode(w, w->bytes, n, err);
}

/* The bytes of an array of ids, in a new buffer with room for their base64 behind them. */
static ErrCode decode_ids(const Tokenizer *t, const json_t *line, char **bytes, size_t *n, Err *err)
{
    const size_t n_ids = json_array_size(line);
    size_t total = 0, at = 0, n_token, i;
    json_t *item;

    if (!json_is_array(line))
        return err_set(err, ERR_FORMAT, "expected an array of token ids");
    for (i = 0; i < n_ids; i++) {
        item = json_array_get(line, i);
        const long long id = json_is_integer(item) ? json_integer_value(item) : -1;

        if (!json_is_integer(item))
            return err_set(err, ERR_FORMAT, "element %zu: not an integer", i);
        if (id < 0 || id >= tokenizer_vocab_size(t)) {
            return err_set(err, ERR_FORMAT, "element %zu: unknown id %lld, expected 0 to %d", i, id,
                           tokenizer_vocab_size(t) - 1);
        }
        tokenizer_token(t, (int)id, &n_token);
        total += n_token;
    }
    if (total > TOKENIZE_MAX_BYTES) {
        return err_set(err, ERR_LIMIT, "the text has %zu bytes, at most %d are allowed", total,
                       TOKENIZE_MAX_BYTES);
    }
    *bytes = malloc(total + 1);
    if (*bytes == NULL)
        return err_set(err, ERR_MEMORY, "no memory for %zu bytes", total);
    for (i = 0; i < n_ids; i++) {
        const char *token =
            tokenizer_token(t, (int)json_integer_value(json_array_get(line, i)), &n_token);

        memcpy(*bytes + at, token, n_token);
        at += n_token;
    }
    *n = total;
    return ERR_OK;
}

static ErrCode print_base64(const char *bytes, size_t n, Err *err)
{
    char *text = malloc((n + 2) / 3 * 4 + 1);

    if (text == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the base64 of %zu bytes", n);
    text_base64_encode(text, bytes, n);

    ErrCode code = cli_out("{\"text_b64\":\"", 13, err);

    if (code == ERR_OK)
        code = cli_out(text, (n + 2) / 3 * 4, err);
    free(text);
    return code == ERR_OK ? cli_out("\"}\n", 3, err) : code;
}

static ErrCode decode_line(const Tokenizer *t, const json_t *line, bool jsonl, Err *err)
{
    char *bytes = NULL;
    size_t n = 0;
    ErrCode code = decode_ids(t, line, &bytes, &n, err);

    if (code != ERR_OK)
        return code;
    code = jsonl ? print_base64(bytes, n, err) : cli_out(bytes, n, err);
    free(bytes);
    return code;
}

static ErrCode one_line(Work *w, const Options *o, const char *text, size_t n, size_t number,
                        Err *err)
{
    char where[32];

    (void)snprintf(where, sizeof where, "line %zu", number);
    if (n > TOKENIZE_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s: longer than %d bytes", where, TOKENIZE_MAX_BYTES);

    /* What one array of ids holds is bounded by its bytes, as what is encoded is. */
    json_t *line = json_parse_bounded(text, n, SIZE_MAX, where, err);

    if (line == NULL)
        return err->code;

    const ErrCode code =
        o->decode ? decode_line(w->tokenizer, line, o->jsonl, err) : encode_line(w, line, err);

    json_decref(line);
    if (code != ERR_OK && code != ERR_IO)
        err_prefix(err, "%s", where);
    return code;
}

/* Line by line, each answered at once, so that the other end of a pipe can wait for it. */
static ErrCode each_line(Work *w, const Options *o, Err *err)
{
    char *text = NULL;
    size_t cap = 0, number = 0;
    ssize_t got;
    ErrCode code = ERR_OK;

    while (code == ERR_OK && (got = getline(&text, &cap, stdin)) >= 0) {
        const size_t n = (size_t)got;

        code = one_line(w, o, text, text[n - 1] == '\n' ? n - 1 : n, ++number, err);
        if (code == ERR_OK)
            code = cli_out_flush(err);
    }
    if (code == ERR_OK && !feof(stdin))
        code = err_set(err, ERR_IO, "standard input: line %zu: %s", number + 1, strerror(errno));
    free(text);
    return code;
}

int cli_tokenize(int argc, char **argv)
{
    Options o = {0};
    Err err = {0};
    Tokenizer *tokenizer = NULL;
    ErrCode code = parse_options(argc, argv, &o, &err);

    if (o.help)
        return cli_print(help);
    if (code == ERR_OK)
        code = load(&tokenizer, o.model, &err);
    if (code == ERR_OK) {
        Work work = {.tokenizer = tokenizer, .allow_special = o.allow_special};

        code = o.jsonl || o.decode ? each_line(&work, &o, &err) : encode_stdin(&work, &err);
        work_free(&work);
    }
    tokenizer_free(tokenizer);
    if (code == ERR_OK)
        code = cli_out_flush(&err);
    return code == ERR_OK ? CLI_EXIT_OK : cli_fail(&err);
}
