/* tests/stub_backend.c: see stub_backend.h. */
#include "stub_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

enum { WORD_BYTES = 256, MAX_SIZE = 1 << 20 };

typedef struct {
    Backend base;
    BackendInfo info;
    char name[WORD_BYTES];
    char text[WORD_BYTES], end[WORD_BYTES], fail[WORD_BYTES];
    char stop[BACKEND_MAX_STOP_CHARS * 4 + 1];
    int n_tokens, size, delay_ms, prompt_ms, deaf_ms;
    int n_prompt, n_cached, n_done;
    int idle_left, n_idle; /* steps of idle() */
    bool prompt_done, running;
    char *big; /* MAX_SIZE times x */
} Stub;

static Stub *stub_of(Backend *b)
{
    return (Stub *)(void *)b;
}

static const Stub *const_stub_of(const Backend *b)
{
    return (const Stub *)(const void *)b;
}

static const BackendInfo *stub_info(const Backend *b)
{
    return &const_stub_of(b)->info;
}

static int stub_count_tokens(Backend *b, BackendText prompt)
{
    int n = 0;

    (void)b;
    for (size_t i = 0; i < prompt.n_bytes; i++)
        n += prompt.text[i] != ' ' && (i == 0 || prompt.text[i - 1] == ' ');
    return n;
}

/* Copies the value of the word "key=value" to out, which keeps what it holds without one. */
static bool word(BackendText prompt, const char *key, char out[WORD_BYTES])
{
    const size_t n_key = strlen(key);

    for (size_t i = 0; i + n_key < prompt.n_bytes; i++) {
        size_t n = 0;

        if ((i > 0 && prompt.text[i - 1] != ' ') || memcmp(prompt.text + i, key, n_key) != 0 ||
            prompt.text[i + n_key] != '=')
            continue;
        i += n_key + 1;
        while (i + n < prompt.n_bytes && prompt.text[i + n] != ' ' && n < WORD_BYTES - 1)
            n++;
        memcpy(out, prompt.text + i, n);
        out[n] = '\0';
        return true;
    }
    return false;
}

static int number(BackendText prompt, const char *key, int otherwise)
{
    char text[WORD_BYTES];

    return word(prompt, key, text) ? atoi(text) : otherwise;
}

static int count_pieces(const char *text)
{
    int n = 1;

    for (; *text != '\0'; text++)
        n += *text == '|';
    return n;
}

static ErrCode stub_start(Backend *b, const BackendRequest *request, Err *err)
{
    Stub *s = stub_of(b);
    const BackendText p = request->prompt;

    s->n_prompt = stub_count_tokens(b, p);
    if (s->n_prompt > s->info.n_ctx)
        return err_set(err, ERR_LIMIT, "prompt has %d tokens", s->n_prompt);
    snprintf(s->text, sizeof s->text, "STUB|RESPONSE");
    s->end[0] = s->fail[0] = '\0';
    word(p, "text", s->text);
    if (number(p, "idle", 0) != 0)
        snprintf(s->text, sizeof s->text, "%d", s->n_idle);
    word(p, "end", s->end);
    word(p, "fail", s->fail);
    s->n_tokens = number(p, "tokens", count_pieces(s->text));
    if (s->n_tokens > request->max_tokens)
        s->n_tokens = request->max_tokens;
    s->size = number(p, "size", 0);
    s->delay_ms = number(p, "delay", 0);
    s->prompt_ms = number(p, "prompt", 0);
    s->deaf_ms = number(p, "deaf", 0);
    s->n_cached = number(p, "cached", 0);
    s->n_done = 0;
    s->prompt_done = false;
    s->stop[0] = '\0';
    if (request->n_stops > 0)
        snprintf(s->stop, sizeof s->stop, "%.*s", (int)request->stops[0].n_bytes,
                 request->stops[0].text);
    if (strcmp(s->fail, "start") == 0)
        return err_set(err, ERR_LIMIT, "the stub was told to refuse");
    s->running = true;
    return ERR_OK;
}

static void sleep_ms(int ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&t, NULL);
}

static bool compute(int ms, const Tap *tap)
{
    const uint64_t end = clock_now_ms() + (uint64_t)ms;

    while (clock_now_ms() < end) {
        sleep_ms(1);
        if (!tap_yield(tap))
            return false;
    }
    return true;
}

/* Piece number i of text, which starts over behind its last one. */
static void take_piece(const Stub *s, BackendStep *out)
{
    const char *at = s->text;

    for (int i = s->n_done % count_pieces(s->text); i > 0; i--)
        at = strchr(at, '|') + 1;
    out->text = at;
    out->n_text = strcspn(at, "|");
}

static ErrCode end_of_tokens(Stub *s, BackendStep *out, Err *err)
{
    s->running = false;
    if (strcmp(s->fail, "numeric") == 0)
        return err_set(err, ERR_NUMERIC, "logits are not finite");
    if (strcmp(s->fail, "memory") == 0)
        return err_set(err, ERR_MEMORY, "no room");
    if (strcmp(s->fail, "internal") == 0)
        return err_set(err, ERR_INTERNAL, "the stub was told to fail");
    *out = (BackendStep){.kind = STEP_END, .reason = STOP_MAX_TOKENS};
    if (strcmp(s->end, "eos") == 0)
        out->reason = STOP_EOS;
    if (strcmp(s->end, "stop") == 0) {
        out->reason = STOP_SEQUENCE;
        out->matched = s->stop;
        out->n_matched = strlen(s->stop);
    }
    return ERR_OK;
}

static ErrCode stub_step(Backend *b, const Tap *tap, BackendStep *out, Err *err)
{
    Stub *s = stub_of(b);

    if (!s->running)
        return err_set(err, ERR_INTERNAL, "stub: no job");
    if (!s->prompt_done) {
        if (!compute(s->prompt_ms, tap))
            return err_set(err, ERR_CANCELLED, "stopped in the prompt");
        s->prompt_done = true;
        *out = (BackendStep){.kind = STEP_PROMPT, .n_prompt_done = s->n_prompt};
        return ERR_OK;
    }
    if (s->n_done >= s->n_tokens)
        return end_of_tokens(s, out, err);
    sleep_ms(s->deaf_ms);
    if (!compute(s->delay_ms, tap) || !tap_yield(tap))
        return err_set(err, ERR_CANCELLED, "stopped in a token");
    *out = (BackendStep){.kind = STEP_TOKEN, .id = s->n_done, .n_prompt_done = s->n_prompt};
    if (s->size > 0 && s->size <= MAX_SIZE) {
        out->text = s->big;
        out->n_text = (size_t)s->size;
    } else {
        take_piece(s, out);
    }
    s->n_done++;
    return ERR_OK;
}

static void stub_cancel(Backend *b)
{
    stub_of(b)->running = false;
}

static int stub_n_prompt_tokens(const Backend *b)
{
    return const_stub_of(b)->n_prompt;
}

static int stub_n_cached_tokens(const Backend *b)
{
    return const_stub_of(b)->n_cached;
}

static bool stub_idle(Backend *b)
{
    Stub *s = stub_of(b);

    sleep_ms(1);
    s->n_idle++;
    return --s->idle_left > 0;
}

static void stub_free(Backend *b)
{
    free(stub_of(b)->big);
    free(stub_of(b));
}

Backend *stub_backend_new(const char *model_name, int n_ctx)
{
    static const BackendOps ops = {.info = stub_info,
                                   .count_tokens = stub_count_tokens,
                                   .start = stub_start,
                                   .step = stub_step,
                                   .cancel = stub_cancel,
                                   .n_prompt_tokens = stub_n_prompt_tokens,
                                   .n_cached_tokens = stub_n_cached_tokens,
                                   .idle = stub_idle,
                                   .free = stub_free};
    Stub *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->big = malloc(MAX_SIZE);
    if (s->big == NULL) {
        free(s);
        return NULL;
    }
    memset(s->big, 'x', MAX_SIZE);
    s->base.ops = &ops;
    snprintf(s->name, sizeof s->name, "%s", model_name);
    s->info = (BackendInfo){.model_name = s->name,
                            .tokenizer_kind = "hf-json",
                            .quant_kind = "F32",
                            .isa = "none",
                            .vocab_size = 50257,
                            .n_ctx = n_ctx,
                            .model_bytes = 1000,
                            .memory_bytes = 1500};
    return &s->base;
}

void stub_backend_set_idle(Backend *b, int n_steps)
{
    stub_of(b)->idle_left = n_steps;
}
