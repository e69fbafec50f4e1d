/* pull/options.c: see options.h.
 *
 * May include: cli, common, hub. */
#include "pull/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "hub/cache.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"

enum { MAX_RETRIES = 100, MAX_TIMEOUT_S = 3600 };

static const char help_text[] =
    "usage: llorch-cpud pull ORG/NAME[@REVISION] [options]\n"
    "\n"
    "Downloads what a GPT-2 model needs (configuration, tokenizer, safetensors with all shards) "
    "from\n"
    "the Hugging Face hub into the cache that its other programs use, and prints the folder. What "
    "is\n"
    "there already is not fetched again; what was interrupted goes on. --model ORG/NAME finds it.\n"
    "\n"
    "  --revision REV   branch, tag or commit (main); the same as @REVISION\n"
    "  --file NAME      only this .gguf file of the repository; prints its path\n"
    "  --cache-dir DIR  the cache (HF_HUB_CACHE; HF_HOME/hub; ~/.cache/huggingface/hub)\n"
    "  --force          download again what is in the cache\n"
    "  --retries N      attempts after one that failed, 0 to 100 (5); progress counts anew\n"
    "  --quiet          no progress, only errors\n"
    "  --help\n"
    "\n"
    "Environment: HF_HOME, HF_HUB_CACHE, XDG_CACHE_HOME; HF_ENDPOINT (https://huggingface.co);\n"
    "HF_TOKEN, or a file that HF_TOKEN_PATH names (HF_HOME/token), for private and gated models;\n"
    "HF_HUB_OFFLINE=1: the cache only; HF_HUB_DOWNLOAD_TIMEOUT (10): seconds without enough "
    "bytes;\n"
    "https_proxy, http_proxy, no_proxy; CURL_CA_BUNDLE, SSL_CERT_FILE.\n"
    "Exit status: 0 done, 1 failure, 2 bad argument; 130, 143 or 129 after Ctrl-C, SIGTERM or\n"
    "SIGHUP, and the next run goes on where this one stopped.\n";

const char *pull_options_help(void)
{
    return help_text;
}

enum { OPT_REVISION = 256, OPT_FILE, OPT_CACHE_DIR, OPT_FORCE, OPT_RETRIES, OPT_QUIET, OPT_HELP };

static const struct option long_options[] = {
    {"revision", required_argument, NULL, OPT_REVISION},
    {"file", required_argument, NULL, OPT_FILE},
    {"cache-dir", required_argument, NULL, OPT_CACHE_DIR},
    {"force", no_argument, NULL, OPT_FORCE},
    {"retries", required_argument, NULL, OPT_RETRIES},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What the arguments said before anything of it was looked at. */
typedef struct {
    const char *repo, *revision, *cache;
} Given;

static ErrCode set_file(PullOptions *o, const char *name, Err *err)
{
    const size_t n = strlen(name);

    if (!hub_is_file_name(name) || n < 6 || strcmp(name + n - 5, ".gguf") != 0)
        return err_set(err, ERR_USAGE,
                       "--file: \"%s\": expected the name of a .gguf file at the top of the "
                       "repository",
                       name);
    o->file = name;
    return ERR_OK;
}

static ErrCode set_text(const char *option, const char *text, const char **out, Err *err)
{
    if (text[0] == '\0')
        return err_set(err, ERR_USAGE, "%s: must not be empty", option);
    *out = text;
    return ERR_OK;
}

static ErrCode apply(PullOptions *o, Given *g, int option, const char *text, Err *err)
{
    switch (option) {
    case OPT_REVISION:
        return set_text("--revision", text, &g->revision, err);
    case OPT_FILE:
        return set_file(o, text, err);
    case OPT_CACHE_DIR:
        return set_text("--cache-dir", text, &g->cache, err);
    case OPT_RETRIES:
        return cli_parse_i32("--retries", text, 0, MAX_RETRIES, &o->retries, err);
    case OPT_FORCE:
        o->force = true;
        return ERR_OK;
    default:
        o->quiet = true;
        return ERR_OK;
    }
}

/* Options may stand before and behind the repository, as people type them. */
static ErrCode parse_arguments(PullOptions *o, Given *g, int argc, char **argv, Err *err)
{
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        o->help |= option == OPT_HELP || option == 'h';
        if (o->help)
            return ERR_OK;
        if (option == '?' || option == ':')
            return cli_bad_option(argv, option, err);
        if (apply(o, g, option, optarg, err) != ERR_OK)
            return err->code;
    }
    if (optind == argc)
        return err_set(err, ERR_USAGE,
                       "pull: which model? expected ORG/NAME[@REVISION] (see %s pull "
                       "--help)",
                       CLI_PROGRAM);
    g->repo = argv[optind++];
    return cli_no_operands(argc, argv, err);
}

static ErrCode set_repo(PullOptions *o, const Given *g, Err *err)
{
    if (hub_repo_parse(&o->repo, g->repo, err) != ERR_OK)
        return err_prefix(err, "pull");
    if (g->revision == NULL)
        return ERR_OK;
    if (strchr(g->repo, '@') != NULL)
        return err_set(err, ERR_USAGE, "--revision: %s names one already", g->repo);
    return hub_repo_set_revision(&o->repo, g->revision, err);
}

/* Whether the rest of the address is one: a host, maybe a port and a path, nothing else. */
static bool is_plain_address(const char *s)
{
    const size_t n = strlen(s);

    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~' || strchr("@?#\\\"<>", s[i]) != NULL)
            return false;
    return n > 0 && s[0] != '/' && s[0] != ':';
}

static ErrCode set_endpoint(PullOptions *o, Err *err)
{
    const char *given = hub_environment("HF_ENDPOINT");
    const char *text = given != NULL ? given : DEFAULT_ENDPOINT;
    size_t n = strlen(text);
    const size_t n_scheme = strncmp(text, "https://", 8) == 0  ? 8
                            : strncmp(text, "http://", 7) == 0 ? 7
                                                               : 0;

    while (n > n_scheme && text[n - 1] == '/')
        n--;
    if (n_scheme == 0 || n >= sizeof o->endpoint || !is_plain_address(text + n_scheme))
        return err_set(
            err, ERR_FORMAT,
            "HF_ENDPOINT: %s: expected https:// or http://, a host, and maybe a port and a "
            "path",
            text);
    memcpy(o->endpoint, text, n);
    o->endpoint[n] = '\0';
    return ERR_OK;
}

/* Takes the token at the beginning of text, blanks around it left out. What is wrong with one is
 * told without showing it. */
static ErrCode take_token(PullOptions *o, const char *text, const char *where, Err *err)
{
    static const char blanks[] = " \t\r\n";
    const char *begin = text + strspn(text, blanks);
    const size_t n = strcspn(begin, blanks);

    for (size_t i = 0; i < n; i++)
        if (begin[i] < ' ' || begin[i] > '~')
            return err_set(err, ERR_FORMAT, "%s: holds characters that no token has", where);
    if (n >= sizeof o->token || begin[n + strspn(begin + n, blanks)] != '\0')
        return err_set(err, ERR_FORMAT, "%s: expected one token of at most %d characters", where,
                       (int)sizeof o->token - 1);
    memcpy(o->token, begin, n);
    o->token[n] = '\0';
    return ERR_OK;
}

static ErrCode read_token_file(PullOptions *o, const char *path, bool must_be_there, Err *err)
{
    char text[PULL_TOKEN_BYTES + 16];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 && !must_be_there && (errno == ENOENT || errno == ENOTDIR))
        return ERR_OK;
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    const int error = errno;
    if (fd >= 0)
        (void)close(fd);
    if (n < 0)
        return err_set(err, ERR_IO, "%s: the token cannot be read: %s", path, strerror(error));
    text[n] = '\0';
    return take_token(o, text, path, err);
}

static ErrCode set_token(PullOptions *o, Err *err)
{
    const char *token = hub_environment("HF_TOKEN"), *given = hub_environment("HF_TOKEN_PATH");
    char path[PATH_MAX];
    Err unread = {.code = ERR_OK};

    if (token != NULL)
        return take_token(o, token, "HF_TOKEN", err);
    if (given != NULL)
        return hub_expand(path, given, err) != ERR_OK ? err->code
                                                      : read_token_file(o, path, true, err);
    if (hub_home(path, &unread) != ERR_OK || strlen(path) + sizeof "/token" > sizeof path)
        return ERR_OK;
    (void)strcat(path, "/token");
    return read_token_file(o, path, false, err);
}

static ErrCode set_timeout(PullOptions *o, Err *err)
{
    const char *text = hub_environment("HF_HUB_DOWNLOAD_TIMEOUT");

    if (text == NULL)
        return ERR_OK;
    return cli_parse_i32("HF_HUB_DOWNLOAD_TIMEOUT", text, 1, MAX_TIMEOUT_S, &o->timeout_s, err);
}

ErrCode pull_options_parse(PullOptions *o, int argc, char **argv, Err *err)
{
    Given g = {NULL, NULL, NULL};

    memset(o, 0, sizeof *o);
    o->retries = PULL_DEFAULT_RETRIES;
    o->timeout_s = PULL_DEFAULT_TIMEOUT_S;
    if (parse_arguments(o, &g, argc, argv, err) != ERR_OK || o->help)
        return err->code;
    o->offline = hub_environment_is_true("HF_HUB_OFFLINE");
    if (set_repo(o, &g, err) != ERR_OK || hub_cache_folder(o->cache, g.cache, err) != ERR_OK ||
        set_timeout(o, err) != ERR_OK)
        return err->code;
    if (!o->offline && (set_endpoint(o, err) != ERR_OK || set_token(o, err) != ERR_OK))
        return err->code;
    return ERR_OK;
}
