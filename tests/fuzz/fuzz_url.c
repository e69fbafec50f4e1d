/* tests/fuzz/fuzz_url.c: the URL of the callback and the address of --host.
 *
 * An accepted URL is nothing but its parts: put together again they give the same text and, parsed
 * once more, the same parts, and none of them can break a line of the request that carries them.
 * An address is bound, or refused in one line; no name is ever looked up. */
#include "fuzz.h"

#include "http/client.h"
#include "http/server.h"

static void check_parts(const HttpUrl *u, const char *text)
{
    char again[sizeof u->authority + sizeof u->target + 16];
    const char *after = strchr(text + 7, '/'), *query = strchr(text + 7, '?');
    const char *target = u->target;
    HttpUrl v;

    FUZZ_CHECK(u->host[0] != '\0' && u->port >= 1 && u->port <= 65535 && u->target[0] == '/');
    FUZZ_CHECK(strstr(u->authority, u->host) != NULL);
    for (const char *c = u->authority; *c != '\0'; c++)
        FUZZ_CHECK(*c > ' ' && *c < 0x7f && strchr("/?#@\\", *c) == NULL);
    for (const char *c = u->target; *c != '\0'; c++)
        FUZZ_CHECK(*c > ' ' && *c < 0x7f && *c != '#');
    (void)snprintf(again, sizeof again, "http://%s%s", u->authority, u->target);
    FUZZ_CHECK(http_url_parse(&v, again, NULL) == ERR_OK);
    FUZZ_CHECK(strcmp(u->host, v.host) == 0 && u->port == v.port);
    FUZZ_CHECK(strcmp(u->authority, v.authority) == 0 && strcmp(u->target, v.target) == 0);
    if (after == NULL || (query != NULL && query < after))
        target++; /* this slash was put there */
    (void)snprintf(again, sizeof again, "%s%s", u->authority, target);
    FUZZ_CHECK(strcmp(again, text + 7) == 0);
}

static void parse(const char *text)
{
    HttpUrl u, untouched;
    Err err = {.code = ERR_OK};
    ErrCode code;

    memset(&u, 'x', sizeof u);
    memset(&untouched, 'x', sizeof untouched);
    code = http_url_parse(&u, text, &err);
    if (code == ERR_OK) {
        check_parts(&u, text);
        return;
    }
    FUZZ_CHECK(code == ERR_USAGE && memcmp(&u, &untouched, sizeof u) == 0);
    fuzz_check_refusal(code, &err);
}

static void bind_to(const char *text)
{
    static struct event_base *base;
    const HttpLimits limits = http_limits_default();
    const HttpHandler handler = {.ctx = NULL};
    Err err = {.code = ERR_OK};
    HttpServer *server;
    ErrCode code;

    if (base == NULL)
        base = event_base_new();
    server = http_server_new(base, &limits, &handler);
    FUZZ_CHECK(server != NULL);
    code = http_server_listen(server, text, 0, &err);
    if (code == ERR_OK) {
        FUZZ_CHECK(http_server_port(server) > 0);
    } else {
        FUZZ_CHECK(code == ERR_IO && strstr(err.msg, "Failed to bind to ") == err.msg);
        fuzz_check_refusal(code, &err);
    }
    http_server_free(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    FUZZ_CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    parse(text);
    if (memchr(data, '/', size) == NULL)
        bind_to(text);
    free(text);
    return 0;
}
