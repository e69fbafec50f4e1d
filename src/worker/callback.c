/* worker/callback.c: attempts, waits between them, and the verdict.
 *
 * May include: common, http. */
#include "worker/callback.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/arena.h"
#include "common/json.h"
#include "common/log.h"
#include "http/client.h"

enum { ATTEMPT_TIMEOUT_MS = 5000, FIRST_DELAY_MS = 500, LAST_DELAY_MS = 2000 };

struct Callback {
    Arena arena; /* holds this struct */
    struct event_base *base;
    struct event *timer;
    HttpUrl url;
    HttpAddress *address;
    HttpPost *post; /* NULL while none is under way */
    JsonBuf body;
    int n_failed, retries;
    CallbackDone done;
    void *ctx;
};

static const char failed[] = "Pool manager callback failed";

bool callback_is_test_mode(const char *url)
{
    return strstr(url, "localhost:9999") != NULL;
}

static void attempt(Callback *c);

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    attempt(ctx);
}

static void add_string(JsonBuf *b, const char *key, const char *text)
{
    json_buf_printf(b, "%s\"%s\":", b->len == 0 ? "{" : ",", key);
    json_buf_string(b, text, strlen(text));
}

static void write_payload(JsonBuf *b, const CallbackPayload *p)
{
    add_string(b, "worker_id", p->worker_id);
    json_buf_printf(b, ",\"vram_bytes\":%" PRIu64, p->model_bytes);
    add_string(b, "uri", p->uri);
    if (!p->minimal) {
        add_string(b, "model_ref", p->model_name);
        json_buf_printf(b,
                        ",\"memory_bytes\":%" PRIu64 ",\"memory_architecture\":\"cpu\","
                        "\"worker_type\":\"cpu\",\"capabilities\":[\"text-gen\"],"
                        "\"protocol\":\"sse\"",
                        p->model_bytes);
    }
    json_buf_printf(b, "}");
}

/* The struct comes from an arena of its own: allocation has its place in common/. */
static Callback *new_struct(Err *err)
{
    Arena arena = {.base = NULL};
    size_t total = 0;
    Callback *c;

    if (!arena_plan(&total, 1, sizeof *c) || arena_init(&arena, total, "callback", err) != ERR_OK)
        return NULL;
    c = arena_alloc(&arena, 1, sizeof *c);
    if (c == NULL) {
        arena_free(&arena);
        err_set(err, ERR_MEMORY, "callback: out of memory");
        return NULL;
    }
    c->arena = arena;
    return c;
}

ErrCode callback_new(Callback **out, struct event_base *base, const char *url, int retries,
                     CallbackDone done, void *ctx, Err *err)
{
    Callback *c = new_struct(err);
    ErrCode code;

    if (c == NULL)
        return ERR_MEMORY;
    c->base = base;
    c->retries = retries;
    c->done = done;
    c->ctx = ctx;
    code = http_url_parse(&c->url, url, err);
    if (code == ERR_OK && http_address_resolve(&c->address, &c->url, err) != ERR_OK)
        code = err_prefix(err, "%s", failed);
    if (code == ERR_OK && (c->timer = evtimer_new(base, on_timer, c)) == NULL)
        code = err_set(err, ERR_MEMORY, "callback: out of memory");
    if (code == ERR_OK)
        *out = c;
    else
        callback_free(c);
    return code;
}

static void finish_failed(Callback *c, int status, const char *message)
{
    char text[ERR_MSG_BYTES];

    if (status > 0)
        snprintf(text, sizeof text, "%s: %s answered status %d", failed, c->url.authority, status);
    else
        snprintf(text, sizeof text, "%s: %s", failed, message); /* which names the peer */
    c->done(c->ctx, false, text);
}

static bool worth_a_retry(int status)
{
    return status == 0 || status >= 500 || status == 408 || status == 429;
}

static void on_answer(void *ctx, int status, const char *message)
{
    Callback *c = ctx;
    int delay_ms = FIRST_DELAY_MS;

    c->post = NULL;
    if (status >= 200 && status <= 299) {
        c->done(c->ctx, true, "");
        return;
    }
    if (c->n_failed >= c->retries || !worth_a_retry(status)) {
        finish_failed(c, status, message);
        return;
    }
    for (int i = 0; i < c->n_failed && delay_ms < LAST_DELAY_MS; i++)
        delay_ms *= 2;
    c->n_failed++;
    log_line(LOG_WARN, "Pool manager callback attempt failed, trying again", "i:status",
             (long long)status, "s:reason", status == 0 ? message : NULL, "i:retry",
             (long long)c->n_failed, "i:delay_ms", (long long)delay_ms, NULL);
    const struct timeval delay = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};
    event_add(c->timer, &delay);
}

static void attempt(Callback *c)
{
    if (!c->body.oom)
        c->post = http_post_start(c->base, &c->url, c->address, c->body.data, c->body.len,
                                  ATTEMPT_TIMEOUT_MS, on_answer, c);
    if (c->post == NULL)
        finish_failed(c, 0, "out of memory");
}

void callback_start(Callback *c, const CallbackPayload *payload)
{
    write_payload(&c->body, payload);
    attempt(c);
}

void callback_free(Callback *c)
{
    Arena arena;

    if (c == NULL)
        return;
    if (c->post != NULL)
        http_post_abort(c->post);
    if (c->timer != NULL)
        event_free(c->timer);
    if (c->address != NULL)
        http_address_free(c->address);
    json_buf_free(&c->body);
    arena = c->arena;
    arena_free(&arena);
}
