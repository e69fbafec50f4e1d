/* tests/stub_backend.c: see stub_backend.h. */
#include "stub_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

enum {
    MAX_IDS = 1 << 17,
    WORD_BYTES = 256,
    MAX_SIZE = 1 << 20,
    STORE_BYTES = 1 << 20,
    VOCAB_SIZE = 50257,
    FIRST_WORD = 1000, /* below: tokens of an answer */
    MAX_WORDS = 40000,
    END_OF_TEXT = VOCAB_SIZE - 1,
    NAME_BYTES = 16
};

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

    char *words[MAX_WORDS]; /* of tokens from FIRST_WORD on, each with the blanks before it */
    int n_words;
    char *store; /* [STORE_BYTES] where they are; nothing is allocated once the stub is there */
    size_t n_stored;
    int32_t *ids;              /* [MAX_IDS] of the last tokenize */
    int32_t *prompt;           /* [n_prompt] of the job */
    char (*names)[NAME_BYTES]; /* [VOCAB_SIZE] of ids that are nothing else */
    bool want_scores, score_prompt;
    int n_best, n_given; /* prompt tokens given out */
    BackendScores scores;
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

/* The id of these bytes; the first text that has them decides which. */
static int32_t id_of(Stub *s, const char *bytes, size_t n)
{
    int i = 0;

    while (i < s->n_words && (strlen(s->words[i]) != n || memcmp(s->words[i], bytes, n) != 0))
        i++;
    if (i == s->n_words && i < MAX_WORDS && n < STORE_BYTES - s->n_stored) {
        s->words[s->n_words++] = memcpy(s->store + s->n_stored, bytes, n);
        s->store[s->n_stored + n] = '\0';
        s->n_stored += n + 1;
    }
    return i < s->n_words ? FIRST_WORD + i : 0;
}

/* Words with the blanks before them; blanks at the end belong to the last one. */
static size_t cut_words(Stub *s, BackendText text, bool allow_special, int32_t *ids)
{
    const char *end_of_text = "<|endoftext|>";
    size_t n = 0, at = 0;

    while (at < text.n_bytes && n < MAX_IDS) {
        size_t end = at;

        while (end < text.n_bytes && text.text[end] == ' ')
            end++;
        const size_t word = end;
        while (end < text.n_bytes && text.text[end] != ' ')
            end++;
        if (allow_special && end - word == strlen(end_of_text) &&
            memcmp(text.text + word, end_of_text, end - word) == 0) {
            ids[n++] = END_OF_TEXT;
            at = end;
            continue;
        }
        size_t rest = end;
        while (rest < text.n_bytes && text.text[rest] == ' ')
            rest++;
        if (rest == text.n_bytes)
            end = rest;
        if (word < end || n == 0)
            ids[n++] = id_of(s, text.text + at, end - at);
        at = end;
    }
    return stub_count_tokens(&s->base, text) == 0 ? 0 : n;
}

static const int32_t *stub_tokenize(Backend *b, BackendText text, bool allow_special, size_t *n)
{
    Stub *s = stub_of(b);

    if (text.n_bytes > MAX_IDS)
        return NULL;
    *n = cut_words(s, text, allow_special, s->ids);
    return s->ids;
}

static const char *stub_token_text(const Backend *b, int id, size_t *n, bool *special)
{
    const Stub *s = const_stub_of(b);
    const char *text = "<|endoftext|>";

    if (id < 0 || id >= VOCAB_SIZE)
        return NULL;
    if (special != NULL)
        *special = id == END_OF_TEXT;
    if (id >= FIRST_WORD && id < FIRST_WORD + s->n_words)
        text = s->words[id - FIRST_WORD];
    else if (id != END_OF_TEXT)
        text = s->names[id];
    *n = strlen(text);
    return text;
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

static ErrCode take_prompt(Stub *s, const BackendRequest *r, Err *err)
{
    size_t n = r->n_prompt_ids;

    for (size_t i = 0; r->prompt_ids != NULL && i < n; i++)
        if (r->prompt_ids[i] < 0 || r->prompt_ids[i] >= VOCAB_SIZE)
            return err_set(err, ERR_USAGE, "prompt id %d", (int)r->prompt_ids[i]);
    if (r->prompt_ids == NULL)
        n = cut_words(s, r->prompt, false, s->prompt);
    else if (n <= MAX_IDS)
        memcpy(s->prompt, r->prompt_ids, n * sizeof *s->prompt);
    if (n > (size_t)s->info.n_ctx)
        return err_set(err, ERR_LIMIT, "prompt has %zu tokens", n);
    s->n_prompt = (int)n;
    return ERR_OK;
}

static ErrCode stub_start(Backend *b, const BackendRequest *request, Err *err)
{
    Stub *s = stub_of(b);
    const BackendText p = request->prompt;
    const ErrCode code = take_prompt(s, request, err);

    if (code != ERR_OK)
        return code;
    s->want_scores = request->want_scores;
    s->score_prompt = request->score_prompt;
    s->n_best = request->n_best;
    s->n_given = 0;
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
    const uint64_t end = clock_now_ns() + (uint64_t)ms * 1000000u;

    while (clock_now_ns() < end) {
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

/* 1 + id mod 8 eighths of a nat; the best are the token itself and those after it, or, for an odd
 * id, those after it only. */
static void take_scores(Stub *s, BackendStep *out)
{
    if (!s->want_scores)
        return;
    s->scores = (BackendScores){.logprob = -(1 + out->id % 8) / 8.0, .n_best = s->n_best};
    for (int i = 0; i < s->n_best; i++)
        s->scores.best[i] = (BackendScore){(out->id + out->id % 2 + i) % VOCAB_SIZE,
                                           -(1 + out->id % 8) / 8.0 - (i - out->id % 2) / 16.0};
    out->scores = &s->scores;
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
    *out = (BackendStep){.kind = STEP_END, .id = -1, .text = "", .reason = STOP_MAX_TOKENS};
    if (strcmp(s->end, "eos") == 0) {
        out->reason = STOP_EOS;
        out->id = END_OF_TEXT;
        take_scores(s, out);
    }
    if (strcmp(s->end, "stop") == 0) {
        out->reason = STOP_SEQUENCE;
        out->matched = s->stop;
        out->n_matched = strlen(s->stop);
    }
    return ERR_OK;
}

static void give_prompt_token(Stub *s, BackendStep *out)
{
    *out = (BackendStep){
        .kind = STEP_PROMPT_TOKEN, .id = s->prompt[s->n_given], .n_prompt_done = s->n_prompt};
    out->text = stub_token_text(&s->base, out->id, &out->n_text, NULL);
    if (s->n_given++ > 0)
        take_scores(s, out);
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
    if (s->score_prompt && s->n_given < s->n_prompt) {
        give_prompt_token(s, out);
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
    take_scores(s, out);
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
    Stub *s = stub_of(b);

    free(s->store);
    free(s->names);
    free(s->prompt);
    free(s->ids);
    free(s->big);
    free(s);
}

Backend *stub_backend_new(const char *model_name, int n_ctx)
{
    static const BackendOps ops = {.info = stub_info,
                                   .count_tokens = stub_count_tokens,
                                   .tokenize = stub_tokenize,
                                   .token_text = stub_token_text,
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
    s->base.ops = &ops;
    s->big = malloc(MAX_SIZE);
    s->ids = malloc(MAX_IDS * sizeof *s->ids);
    s->prompt = malloc(MAX_IDS * sizeof *s->prompt);
    s->names = malloc(VOCAB_SIZE * sizeof *s->names);
    s->store = malloc(STORE_BYTES);
    if (s->store == NULL || s->big == NULL || s->ids == NULL || s->prompt == NULL ||
        s->names == NULL) {
        stub_free(&s->base);
        return NULL;
    }
    memset(s->big, 'x', MAX_SIZE);
    for (int i = 0; i < VOCAB_SIZE; i++)
        snprintf(s->names[i], sizeof s->names[i], "<%d>", i);
    snprintf(s->name, sizeof s->name, "%s", model_name);
    s->info = (BackendInfo){.model_name = s->name,
                            .tokenizer_kind = "hf-json",
                            .quant_kind = "F32",
                            .isa = "none",
                            .vocab_size = VOCAB_SIZE,
                            .n_ctx = n_ctx,
                            .model_bytes = 1000,
                            .memory_bytes = 1500,
                            .fingerprint = "0123456789abcdef"};
    return &s->base;
}

void stub_backend_set_idle(Backend *b, int n_steps)
{
    stub_of(b)->idle_left = n_steps;
}
