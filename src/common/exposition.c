/* common/exposition.c: see exposition.h.
 *
 * May include: nothing. */
#include "common/exposition.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

enum { NUMBER_BYTES = 32 };

#define NANO UINT64_C(1000000000)

void exposition_family(JsonBuf *out, const char *name, const char *type, const char *help)
{
    json_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void count_text(char text[NUMBER_BYTES], uint64_t value)
{
    snprintf(text, NUMBER_BYTES, "%" PRIu64, value);
}

/* As few digits as say it exactly: "0.25", "3". */
static void nano_text(char text[NUMBER_BYTES], uint64_t value)
{
    size_t n =
        (size_t)snprintf(text, NUMBER_BYTES, "%" PRIu64 ".%09" PRIu64, value / NANO, value % NANO);

    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    text[n] = '\0';
}

/* The format knows three escapes; all other characters stand for themselves, also control
 * characters. */
static void add_label_value(JsonBuf *out, const char *value)
{
    const size_t n = strlen(value);

    json_buf_add(out, "\"", 1);
    for (size_t i = 0, used; i < n; i += used) {
        if (text_utf8_next(value + i, n - i, &used) < 0)
            json_buf_add(out, "\xef\xbf\xbd", 3);
        else if (value[i] == '\n')
            json_buf_add(out, "\\n", 2);
        else if (value[i] == '"' || value[i] == '\\')
            json_buf_printf(out, "\\%c", value[i]);
        else
            json_buf_add(out, value + i, used);
    }
    json_buf_add(out, "\"", 1);
}

static void add_sample(JsonBuf *out, const char *name, const char *number, va_list labels)
{
    const char *key;
    char before = '{';

    json_buf_add(out, name, strlen(name));
    while ((key = va_arg(labels, const char *)) != NULL) {
        const char *value = va_arg(labels, const char *);

        if (value == NULL)
            continue;
        json_buf_printf(out, "%c%s=", before, key);
        add_label_value(out, value);
        before = ',';
    }
    json_buf_printf(out, "%s %s\n", before == ',' ? "}" : "", number);
}

void exposition_count(JsonBuf *out, const char *name, uint64_t value, ...)
{
    char number[NUMBER_BYTES];
    va_list labels;

    count_text(number, value);
    va_start(labels, value);
    add_sample(out, name, number, labels);
    va_end(labels);
}

void exposition_nano(JsonBuf *out, const char *name, uint64_t value, ...)
{
    char number[NUMBER_BYTES];
    va_list labels;

    nano_text(number, value);
    va_start(labels, value);
    add_sample(out, name, number, labels);
    va_end(labels);
}

/* Buckets are cumulative here, and the last one is the count. */
void exposition_histogram(JsonBuf *out, const char *name, const char *help, const Histogram *h)
{
    char bound[NUMBER_BYTES];
    uint64_t n = 0;

    exposition_family(out, name, "histogram", help);
    for (int i = 0; i <= h->n_bounds; i++) {
        n += h->counts[i];
        if (i < h->n_bounds)
            nano_text(bound, h->bounds_ns[i]);
        else
            snprintf(bound, sizeof bound, "+Inf");
        json_buf_printf(out, "%s_bucket{le=\"%s\"} %" PRIu64 "\n", name, bound, n);
    }
    nano_text(bound, h->sum_ns);
    json_buf_printf(out, "%s_sum %s\n%s_count %" PRIu64 "\n", name, bound, name, n);
}
