/* tests/fuzz/fuzz_sse.c: any text as name and data of an event, and as a token of an answer, read
 * back by a strict reader (HTML Living Standard, section 9.2.6).
 *
 * Whatever the text, one event is one event, with the text that went in, and the next one follows
 * unharmed. */
#include "fuzz.h"

#include <stdbool.h>

#include "common/text.h"
#include "http/sse.h"
#include "worker/events.h"

typedef struct {
    int n_events;
    char *name, *data; /* of the event under way, then of the last one */
    size_t n_name, n_data;
    bool has_data;
} Reader;

static void set(char **to, size_t *n_to, const char *from, size_t n)
{
    free(*to);
    *to = malloc(n + 1);
    FUZZ_CHECK(*to != NULL);
    memcpy(*to, from, n);
    (*to)[n] = '\0';
    *n_to = n;
}

static void read_field(Reader *r, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    const size_t n_field = colon != NULL ? (size_t)(colon - line) : n;
    const char *value = colon != NULL ? colon + 1 : line + n;
    size_t n_value = (size_t)(line + n - value);

    if (n_value > 0 && *value == ' ') {
        value++;
        n_value--;
    }
    if (n_field == 5 && memcmp(line, "event", 5) == 0) {
        set(&r->name, &r->n_name, value, n_value);
    } else if (n_field == 4 && memcmp(line, "data", 4) == 0) {
        FUZZ_CHECK(!r->has_data); /* one line of data each */
        r->has_data = true;
        set(&r->data, &r->n_data, value, n_value);
    } else {
        FUZZ_CHECK(n_field == 0); /* a comment, and no other field */
    }
}

/* Lines end with CR LF, CR or LF. */
static void read_stream(Reader *r, const char *text, size_t n)
{
    size_t begin = 0;

    for (size_t i = 0; i < n; i++) {
        if (text[i] != '\n' && text[i] != '\r')
            continue;
        if (i > begin) {
            read_field(r, text + begin, i - begin);
        } else if (r->has_data) {
            r->n_events++;
            r->has_data = false;
        }
        begin = i + 1 + (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n');
        i = begin - 1;
    }
    FUZZ_CHECK(begin == n); /* nothing of the next event belongs to this one */
}

static void check_text(const char *got, size_t n_got, const char *want, size_t n_want)
{
    FUZZ_CHECK(n_got == n_want);
    for (size_t i = 0; i < n_want; i++)
        FUZZ_CHECK(got[i] == (strchr("\r\n", want[i]) != NULL ? ' ' : want[i]));
}

static void check_event(const char *text, size_t n)
{
    JsonBuf out = {.data = NULL};
    Reader r = {.n_events = 0};
    char *name = NULL;
    size_t n_name;

    set(&name, &n_name, text, n);
    sse_comment(&out, name);
    sse_event(&out, name, text, n);
    FUZZ_CHECK(!out.oom && memchr(out.data, '\0', out.len) == NULL);
    read_stream(&r, out.data, out.len);
    FUZZ_CHECK(r.n_events == 1);
    check_text(r.name, r.n_name, name, strlen(name));
    check_text(r.data, r.n_data, text, n);
    free(name);
    free(r.name);
    free(r.data);
    json_buf_free(&out);
}

/* Text that is not UTF-8 never comes this far; it must be harmless all the same. */
static void check_token(const char *text, size_t n)
{
    JsonBuf out = {.data = NULL};
    Reader r = {.n_events = 0};
    Err err = {.code = ERR_OK};
    json_t *root;
    const json_t *t;

    events_token(&out, text, n, 7);
    FUZZ_CHECK(!out.oom);
    read_stream(&r, out.data, out.len);
    FUZZ_CHECK(r.n_events == 1 && strcmp(r.name, "token") == 0);
    root = json_parse(r.data, r.n_data, "event", &err);
    t = json_object_get(root, "t");
    FUZZ_CHECK(json_object_size(root) == 3 && json_is_string(t));
    if (text_utf8_valid(text, n))
        FUZZ_CHECK(json_string_length(t) == n && memcmp(json_string_value(t), text, n) == 0);
    json_decref(root);
    free(r.name);
    free(r.data);
    json_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_event((const char *)data, size);
    check_token((const char *)data, size);
    return 0;
}
