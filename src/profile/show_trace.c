/* profile/show_trace.c: the Chrome trace format, one event a line.
 *
 * May include: common. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/new_file.h"
#include "profile/show.h"

/* One process with one thread: viewers want numbers, ours would say nothing. */
enum { FLUSH_BYTES = 1 << 16 };

typedef struct {
    NewFile *file;
    JsonBuf text;
    const Profile *p;
    bool failed;
    bool any; /* an event is out: the next one needs a comma */
} Trace;

static void flush(Trace *t, size_t when)
{
    if (t->text.len < when || t->text.oom)
        return;
    if (t->text.len > 0 && !new_file_write(t->file, t->text.data, t->text.len))
        t->failed = true;
    t->text.len = 0;
}

static void begin_line(Trace *t)
{
    flush(t, FLUSH_BYTES);
    json_buf_printf(&t->text, t->any ? ",\n" : "\n");
    t->any = true;
}

static void add_name(Trace *t, const char *what, const char *name)
{
    begin_line(t);
    json_buf_printf(&t->text,
                    "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":1,\"tid\":1,\"args\":{\"name\":", what);
    json_buf_string(&t->text, name, strlen(name));
    json_buf_printf(&t->text, "}}");
}

/* Microseconds with all digits that were measured. */
static void add_us(JsonBuf *out, const char *key, uint64_t ns)
{
    json_buf_printf(out, "\"%s\":%" PRIu64 ".%03u", key, ns / 1000, (unsigned)(ns % 1000));
}

/* Leaves the object open for args. */
static void begin_event(Trace *t, const char *name, const char *kind, uint64_t start_ns,
                        uint64_t end_ns)
{
    begin_line(t);
    json_buf_printf(&t->text, "{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",", name, kind);
    add_us(&t->text, "ts", start_ns - t->p->begin_ns);
    json_buf_printf(&t->text, ",");
    add_us(&t->text, "dur", end_ns - start_ns);
    json_buf_printf(&t->text, ",\"pid\":1,\"tid\":1");
}

static void add_part(Trace *t, const ProfileEvent *e)
{
    begin_event(t, profile_part_name(e->part), e->pass >= 0 ? "part" : "stage", e->start_ns,
                e->end_ns);
    json_buf_printf(&t->text, ",\"args\":{\"token\":%d", (int)e->token);
    if (e->layer >= 0)
        json_buf_printf(&t->text, ",\"layer\":%d", (int)e->layer);
    json_buf_printf(&t->text, "}}");
}

/* The events of one layer in one pass, from i on; returns the one behind them. */
static size_t add_block(Trace *t, size_t i)
{
    const ProfileEvent *first = &t->p->events[i];
    size_t end = i;
    char name[32];

    while (end < t->p->n_events && t->p->events[end].pass == first->pass &&
           t->p->events[end].layer == first->layer)
        end++;
    (void)snprintf(name, sizeof name, "block %d", (int)first->layer);
    begin_event(t, name, "block", first->start_ns, t->p->events[end - 1].end_ns);
    json_buf_printf(&t->text, ",\"args\":{\"layer\":%d,\"token\":%d}}", (int)first->layer,
                    (int)first->token);
    while (i < end)
        add_part(t, &t->p->events[i++]);
    return end;
}

static size_t add_pass(Trace *t, size_t i)
{
    const int index = t->p->events[i].pass;
    const ProfilePass *pass = &t->p->passes[index];

    begin_event(t, pass->phase == PROFILE_PROMPT ? "prompt pass" : "decode pass", "pass",
                pass->start_ns, pass->end_ns);
    json_buf_printf(&t->text, ",\"args\":{\"position\":%d,\"tokens\":%d,\"token\":%d}}",
                    pass->start_pos, pass->n_tokens, (int)t->p->events[i].token);
    while (i < t->p->n_events && t->p->events[i].pass == index)
        if (t->p->events[i].layer >= 0)
            i = add_block(t, i);
        else
            add_part(t, &t->p->events[i++]);
    return i;
}

static void add_all(Trace *t, const ProfileReport *r)
{
    const Profile *p = t->p;

    json_buf_printf(&t->text, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"model\":");
    json_buf_string(&t->text, r->model, strlen(r->model));
    json_buf_printf(&t->text, ",\"types\":\"%s\",\"isa\":\"%s\",\"version\":\"%s\"},", r->types,
                    r->isa, r->version);
    json_buf_printf(&t->text, "\"traceEvents\":[");
    add_name(t, "process_name", "llorch-cpud");
    add_name(t, "thread_name", r->model);
    begin_event(t, "request", "request", p->begin_ns, p->end_ns);
    json_buf_printf(&t->text, ",\"args\":{\"prompt_tokens\":%d,\"tokens\":%d}}",
                    p->options.n_prompt, p->n_tokens);
    for (size_t i = 0; i < p->n_events;)
        if (p->events[i].pass >= 0)
            i = add_pass(t, i);
        else
            add_part(t, &p->events[i++]);
    json_buf_printf(&t->text, "\n]}\n");
    flush(t, 0);
}

ErrCode profile_write_trace(const char *path, const ProfileReport *r, Err *err)
{
    NewFile file;
    Trace t = {.file = &file, .p = r->profile};
    ErrCode code = new_file_open(&file, path, err);

    if (code != ERR_OK)
        return code;
    add_all(&t, r);
    if (t.text.oom) {
        new_file_discard(&file);
        code = err_set(err, ERR_MEMORY, "%s: out of memory", path);
    } else {
        code = new_file_commit(&file, err);
    }
    json_buf_free(&t.text);
    return code;
}
