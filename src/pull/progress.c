/* pull/progress.c: see progress.h.
 *
 * May include: cli, common. */
#include "pull/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/clock.h"

enum {
    REDRAW_MS = 100,
    LINE_EVERY_PERCENT = 5,
    LINE_BYTES = 512,
    BAR_COLUMNS = 20,
    BAR_LEAST_COLUMNS = 4,
    DEFAULT_COLUMNS = 80,
    RATE_AFTER_MS = 500 /* before that a rate is a guess */
};

void progress_open(Progress *p, bool quiet)
{
    *p = (Progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

void progress_begin(Progress *p, const char *name, uint64_t have, uint64_t size)
{
    progress_clear(p);
    p->name = name;
    p->have = have;
    p->size = size;
    p->start_ms = clock_now_ms();
    p->drawn_ms = 0;
    p->percent = size > 0 ? (int)(100.0 * (double)have / (double)size) : 0;
}

const char *progress_size(char out[PROGRESS_SIZE_BYTES], uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    double value = (double)bytes / 1000.0;
    size_t i = 0;

    if (bytes < 1000) {
        (void)snprintf(out, PROGRESS_SIZE_BYTES, "%" PRIu64 " bytes", bytes);
        return out;
    }
    for (; value >= 999.95 && i + 1 < sizeof units / sizeof units[0]; i++)
        value /= 1000.0;
    (void)snprintf(out, PROGRESS_SIZE_BYTES, "%.1f %s", value, units[i]);
    return out;
}

/* "  12.3 MB/s  0:28 left"; empty while nobody knows. */
static void rate_text(char *out, size_t size, const Progress *p, uint64_t now, uint64_t done)
{
    const uint64_t ms = now - p->start_ms, came = done > p->have ? done - p->have : 0;
    char rate[PROGRESS_SIZE_BYTES];

    out[0] = '\0';
    if (ms < RATE_AFTER_MS || came == 0)
        return;
    const double per_second = (double)came * 1000.0 / (double)ms;
    const double left = p->size > done ? (double)(p->size - done) / per_second : 0.0;
    const unsigned seconds = left < 359999.0 ? (unsigned)left : 359999;
    progress_size(rate, (uint64_t)per_second);
    if (p->size == 0)
        (void)snprintf(out, size, "  %s/s", rate);
    else if (seconds >= 3600)
        (void)snprintf(out, size, "  %s/s  %u:%02u:%02u left", rate, seconds / 3600,
                       seconds / 60 % 60, seconds % 60);
    else
        (void)snprintf(out, size, "  %s/s  %u:%02u left", rate, seconds / 60, seconds % 60);
}

/* A line that is longer than the terminal is wide would not be drawn over. */
static int columns(void)
{
    struct winsize w;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
        return w.ws_col - 1;
    return DEFAULT_COLUMNS - 1;
}

/* As much of what is known as fits into so many columns; at least how much is there. */
static void figures(char *out, size_t size, const Progress *p, uint64_t now, uint64_t done,
                    size_t room)
{
    char rate[64], have[PROGRESS_SIZE_BYTES], all[PROGRESS_SIZE_BYTES];
    const double percent = p->size > 0 ? 100.0 * (double)done / (double)p->size : 0.0;

    rate_text(rate, sizeof rate, p, now, done);
    progress_size(have, done);
    if (p->size == 0) {
        (void)snprintf(out, size, "%s%s", have, rate);
        return;
    }
    (void)snprintf(out, size, "%3.0f %%  %s of %s%s", percent, have, progress_size(all, p->size),
                   rate);
    if (strlen(out) > room)
        (void)snprintf(out, size, "%3.0f %%%s", percent, rate);
    if (strlen(out) > room)
        (void)snprintf(out, size, "%3.0f %%", percent);
}

/* The bar takes what the rest leaves of the line; on a narrow terminal figures go as well, and last
 * the name. */
static void draw(Progress *p, uint64_t now, uint64_t done)
{
    char known[LINE_BYTES / 2], bar[BAR_COLUMNS + 1];
    const double part = p->size > 0 && done < p->size ? (double)done / (double)p->size : 1.0;
    const size_t width = (size_t)columns(), n_name = strlen(p->name) + 1;

    figures(known, sizeof known, p, now, done, width > n_name ? width - n_name : 0);
    const size_t used = n_name + strlen(known) + 3;
    size_t n_bar = width > used ? width - used : 0;
    if (n_bar > BAR_COLUMNS)
        n_bar = BAR_COLUMNS;
    const size_t full = (size_t)(part * (double)n_bar);
    memset(bar, '.', n_bar);
    memset(bar, '#', full);
    bar[n_bar] = '\0';
    if (p->size > 0 && n_bar >= BAR_LEAST_COLUMNS)
        (void)fprintf(stderr, "\r%s [%s] %s\033[K", p->name, bar, known);
    else if (width + 3 >= used)
        (void)fprintf(stderr, "\r%s %s\033[K", p->name, known);
    else
        (void)fprintf(stderr, "\r%.*s\033[K", (int)width, known);
    p->shown = true;
}

static void print_line(Progress *p, uint64_t now, uint64_t done, int percent)
{
    char rate[64], have[PROGRESS_SIZE_BYTES], all[PROGRESS_SIZE_BYTES];

    rate_text(rate, sizeof rate, p, now, done);
    (void)fprintf(stderr, "%s %d %%  %s of %s%s\n", p->name, percent, progress_size(have, done),
                  progress_size(all, p->size), rate);
    p->percent = percent;
}

void progress_show(Progress *p, uint64_t done)
{
    const uint64_t now = clock_now_ms();

    if (p->quiet)
        return;
    if (p->terminal) {
        if (now - p->drawn_ms >= REDRAW_MS) {
            p->drawn_ms = now;
            draw(p, now, done);
        }
        return;
    }
    const int percent = p->size > 0 ? (int)(100.0 * (double)done / (double)p->size) : 0;
    if (percent < 100 && percent / LINE_EVERY_PERCENT > p->percent / LINE_EVERY_PERCENT)
        print_line(p, now, done, percent);
}

void progress_end(Progress *p, uint64_t size)
{
    char text[PROGRESS_SIZE_BYTES];

    progress_clear(p);
    if (!p->quiet)
        (void)fprintf(stderr, "%s 100 %%  %s\n", p->name, progress_size(text, size));
}

void progress_clear(Progress *p)
{
    if (p->shown)
        (void)fputs("\r\033[K", stderr);
    p->shown = false;
}

void progress_note(Progress *p, const char *format, ...)
{
    char text[2048];
    Err line = {.code = ERR_OK};
    va_list args;

    if (p->quiet)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)err_set(&line, ERR_OK, "%s", text); /* escapes what is no text */
    progress_clear(p);
    (void)fprintf(stderr, CLI_PROGRAM ": %s\n", line.msg);
}
