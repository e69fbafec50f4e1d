/* common/log.c: JSON lines on standard error, each written whole or not at all.
 *
 * May include: nothing. */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"

/* A write of at most PIPE_BUF bytes to a pipe that poll calls writable neither blocks nor is cut in
 * two. */
enum { LOG_LINE_BYTES = PIPE_BUF, LOG_VALUE_BYTES = 1024, LOG_ID_BYTES = 256 };

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

/* The one state that cannot be handed down: every part logs, and a log that had to be passed
 * through each signature would hide what the signatures are about. Written at start only, save for
 * the counter. */
static struct {
    LogLevel level;
    bool json;                    /* since log_init; before, lines are for a person at a terminal */
    bool cut;                     /* the last line was written in part: it still has to end */
    char worker_id[LOG_ID_BYTES]; /* empty: left out */
    unsigned long long dropped;
    unsigned long long reported; /* how many of them a line has told of */
} state = {.level = LOG_INFO};

/* One line in the making. What does not fit is rolled back as a whole field, so the line stays
 * valid JSON. */
typedef struct {
    char text[LOG_LINE_BYTES];
    size_t len;
    bool full;
} Line;

/* Room that stays free until the end: ,"truncated":true}\n */
enum { LOG_END_BYTES = 24 };

static void add_bytes(Line *l, const char *s, size_t n)
{
    if (l->full || n > LOG_LINE_BYTES - LOG_END_BYTES - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static void add_text(Line *l, const char *s)
{
    add_bytes(l, s, strlen(s));
}

static void add_string(Line *l, const char *s)
{
    char shortened[LOG_VALUE_BYTES];
    char unit[TEXT_JSON_UNIT_BYTES];
    size_t n = strlen(s);

    if (n >= sizeof shortened) {
        n = text_escape(shortened, sizeof shortened, s, n);
        s = shortened;
    }
    add_text(l, "\"");
    for (size_t i = 0, used; i < n; i += used)
        add_bytes(l, unit, text_json_unit(unit, s + i, n - i, &used));
    add_text(l, "\"");
}

static void add_key(Line *l, const char *key)
{
    add_text(l, l->len == 0 ? "{" : ",");
    add_string(l, key);
    add_text(l, ":");
}

static void add_string_field(Line *l, const char *key, const char *value)
{
    add_key(l, key);
    add_string(l, value);
}

/* The same, or nothing when it does not fit. */
static void add_whole_field(Line *l, const char *key, const char *value)
{
    const size_t start = l->len;

    add_string_field(l, key, value);
    if (l->full)
        l->len = start;
}

static void add_number(Line *l, double value)
{
    char text[64];

    /* JSON has no NaN and no infinity. */
    (void)snprintf(text, sizeof text, isfinite(value) ? "%.6g" : "null", value);
    add_text(l, text);
}

/* Adds one field of log_line's list; key is "type:name". */
static void add_field(Line *l, const char *key, va_list *args)
{
    const size_t start = l->len;
    char text[32];

    if (key[0] == 's') {
        const char *value = va_arg(*args, const char *);

        if (value != NULL)
            add_string_field(l, key + 2, value);
    } else if (key[0] == 'i') {
        (void)snprintf(text, sizeof text, "%lld", va_arg(*args, long long));
        add_key(l, key + 2);
        add_text(l, text);
    } else if (key[0] == 'f') {
        add_key(l, key + 2);
        add_number(l, va_arg(*args, double));
    } else {
        add_key(l, key + 2);
        add_text(l, va_arg(*args, int) ? "true" : "false");
    }
    if (l->full)
        l->len = start;
}

/* Whether a write now would not wait. A log reader that stopped reading must not stop the service.
 */
static bool can_write(void)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    int r;

    do
        r = poll(&p, 1, 0);
    while (r < 0 && errno == EINTR);
    return r == 1 && (p.revents & POLLOUT) != 0 && (p.revents & (POLLERR | POLLNVAL)) == 0;
}

/* How many bytes went out; -1: none. */
static ssize_t write_now(const char *data, size_t n)
{
    ssize_t done;

    do {
        done = send(STDERR_FILENO, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done < 0 && errno == ENOTSOCK)
            done = write(STDERR_FILENO, data, n);
    } while (done < 0 && errno == EINTR);
    return done;
}

/* A pipe takes a line whole or not at all. A terminal, a socket or a full disk may take a part of
 * it; then the next line begins with the line break that is missing. */
static void write_line(const Line *l)
{
    ssize_t n = -1;

    if (can_write()) {
        if (state.cut)
            state.cut = write_now("\n", 1) != 1;
        if (!state.cut)
            n = write_now(l->text, l->len);
    }
    if (n < 0 || (size_t)n != l->len)
        state.dropped++;
    if (n > 0 && (size_t)n != l->len)
        state.cut = true;
}

/* poll calls a terminal writable that has room for one byte, and a pipe that another process may
 * fill in the next moment; a write then waits, for as long as nobody reads. O_NONBLOCK is a
 * property of the open file, and that is shared with everyone who got the same standard error; one
 * opened anew is ours alone. Where it cannot be opened (no /proc, another user's terminal), poll
 * has to do. */
static void open_stderr_anew(void)
{
    const int flags = fcntl(STDERR_FILENO, F_GETFL);
    struct stat st;

    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(STDERR_FILENO, &st) != 0 ||
        (!S_ISFIFO(st.st_mode) && isatty(STDERR_FILENO) != 1))
        return;
    const int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)dup2(fd, STDERR_FILENO);
    (void)close(fd);
}

void log_init(LogLevel level, const char *worker_id)
{
    state.level = level;
    state.json = true;
    state.worker_id[0] = '\0';
    if (worker_id != NULL)
        (void)text_escape(state.worker_id, sizeof state.worker_id, worker_id, strlen(worker_id));
    open_stderr_anew();
}

int log_level_parse(const char *name)
{
    for (int i = LOG_DEBUG; i <= LOG_OFF; i++)
        if (strcmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

/* The value of one field of log_line's list as a person reads it; NULL when it is left out. */
static const char *plain_value(char text[LOG_VALUE_BYTES], const char *key, va_list *args)
{
    if (key[0] == 's') {
        const char *string = va_arg(*args, const char *);

        if (string == NULL)
            return NULL;
        (void)text_escape(text, LOG_VALUE_BYTES, string, strlen(string));
    } else if (key[0] == 'i') {
        (void)snprintf(text, LOG_VALUE_BYTES, "%lld", va_arg(*args, long long));
    } else if (key[0] == 'f') {
        (void)snprintf(text, LOG_VALUE_BYTES, "%.6g", va_arg(*args, double));
    } else {
        (void)snprintf(text, LOG_VALUE_BYTES, "%s", va_arg(*args, int) ? "true" : "false");
    }
    return text;
}

/* "llorch-cpud: warn: message (file x, id 600)": what a sub-command has to say besides its result.
 * As many fields as fit. */
static void plain_line(LogLevel level, const char *message, va_list *args)
{
    char text[LOG_VALUE_BYTES];
    Line l = {.len = 0};
    const char *separator = " (", *key;

    add_text(&l, "llorch-cpud: ");
    add_text(&l, level_names[level]);
    add_text(&l, ": ");
    (void)text_escape(text, sizeof text, message, strlen(message));
    add_text(&l, text);
    while (!l.full && (key = va_arg(*args, const char *)) != NULL) {
        const size_t start = l.len;
        const char *value = plain_value(text, key, args);

        if (value == NULL)
            continue;
        add_text(&l, separator);
        add_text(&l, key + 2);
        add_text(&l, " ");
        add_text(&l, value);
        if (l.full)
            l.len = start;
        else
            separator = ", ";
    }
    const char *end = separator[0] == ',' ? ")\n" : "\n";
    memcpy(l.text + l.len, end, strlen(end));
    l.len += strlen(end);
    write_line(&l);
}

static void begin_line(Line *l, LogLevel level, const char *message)
{
    char now[CLOCK_ISO_BYTES];

    clock_iso_utc(now);
    add_string_field(l, "level", level_names[level]);
    add_string_field(l, "time", now);
    /* At most 1023 bytes before escaping, so this part may not fit only when all of it is control
     * characters. */
    add_whole_field(l, "message", message);
    if (state.worker_id[0] != '\0' && !l->full)
        add_whole_field(l, "worker_id", state.worker_id);
}

static void end_line(Line *l)
{
    const char *end = l->full ? ",\"truncated\":true}\n" : "}\n";

    memcpy(l->text + l->len, end, strlen(end));
    l->len += strlen(end);
    write_line(l);
}

/* A reader that comes back learns first that something is missing, and how much by now. */
static void report_dropped(void)
{
    if (state.dropped == state.reported || state.level > LOG_WARN || !can_write())
        return;
    state.reported = state.dropped;
    log_line(LOG_WARN, "Log lines were lost", "i:log_lines_lost", (long long)state.dropped, NULL);
}

void log_line(LogLevel level, const char *message, ...)
{
    Line l = {.len = 0};
    va_list args;

    if (level < state.level || level >= LOG_OFF)
        return;
    if (!state.json) {
        va_start(args, message);
        plain_line(level, message, &args);
        va_end(args);
        return;
    }
    report_dropped();
    begin_line(&l, level, message);
    va_start(args, message);
    for (const char *key; !l.full && (key = va_arg(args, const char *)) != NULL;)
        add_field(&l, key, &args);
    va_end(args);
    end_line(&l);
}

void log_last_words(const char *message)
{
    Line l = {.len = 0};

    if (state.json) {
        begin_line(&l, LOG_ERROR, message);
        end_line(&l);
        return;
    }
    add_text(&l, "llorch-cpud: ");
    add_text(&l, message);
    add_text(&l, "\n");
    write_line(&l);
}

unsigned long long log_dropped(void)
{
    return state.dropped;
}
