/* report/page.c: see page.h.
 *
 * May include: common. */
#include "report/page.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "common/text.h"
#include "report/page_style.h"

/* Columns that can be aligned right: the style sheet gets a rule for each. */
enum { PAGE_MAX_COLUMNS = 32 };

static void put(JsonBuf *out, const char *text)
{
    json_buf_add(out, text, strlen(text));
}

static void put_text(JsonBuf *out, const char *text)
{
    page_text(out, text, strlen(text));
}

/* Characters that HTML forbids even as references: controls, noncharacters. */
static bool is_forbidden(int c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0) ||
           (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}

void page_text(JsonBuf *out, const char *text, size_t n)
{
    for (size_t i = 0, used; i < n; i += used) {
        const int c = text_utf8_next(text + i, n - i, &used);

        if (c < 0 || is_forbidden(c))
            put(out, "\xef\xbf\xbd");
        else if (c == '&')
            put(out, "&amp;");
        else if (c == '<')
            put(out, "&lt;");
        else if (c == '>')
            put(out, "&gt;");
        else if (c == '"')
            put(out, "&quot;");
        else if (c == '\'')
            put(out, "&#39;");
        else
            json_buf_add(out, text + i, used);
    }
}

static void put_format(JsonBuf *out, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void put_format(JsonBuf *out, const char *format, va_list args)
{
    JsonBuf text = {NULL, 0, 0, 0};

    json_buf_vprintf(&text, format, args);
    if (text.oom)
        out->oom = 1;
    page_text(out, text.data, text.len);
    json_buf_free(&text);
}

/* A cell does not know its column, so the table carries one class for each column that is aligned
 * right. */
static void put_alignment_rules(JsonBuf *out)
{
    for (int i = 1; i <= PAGE_MAX_COLUMNS; i++)
        json_buf_printf(out, "%s.r%d tr>:nth-child(%d)", i > 1 ? "," : "", i, i);
    put(out, "{text-align:right}\n");
}

void page_begin(JsonBuf *out, const char *title, const char *subtitle)
{
    put(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             /* Nothing is fetched, whatever a text of a stranger should manage to be. */
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
             "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>");
    put_text(out, title);
    put(out, "</title>\n<style>\n");
    put(out, page_style);
    put_alignment_rules(out);
    put(out, "</style>\n</head>\n<body>\n<main>\n<h1>");
    put_text(out, title);
    put(out, "</h1>\n");
    if (subtitle != NULL) {
        put(out, "<p class=\"subtitle\">");
        put_text(out, subtitle);
        put(out, "</p>\n");
    }
}

void page_end(JsonBuf *out)
{
    put(out, "</main>\n</body>\n</html>\n");
}

void page_section(JsonBuf *out, const char *heading, const char *note)
{
    put(out, "<h2>");
    put_text(out, heading);
    put(out, "</h2>\n");
    if (note != NULL) {
        put(out, "<p>");
        put_text(out, note);
        put(out, "</p>\n");
    }
}

void page_paragraph(JsonBuf *out, const char *format, ...)
{
    va_list args;

    put(out, "<p>");
    va_start(args, format);
    put_format(out, format, args);
    va_end(args);
    put(out, "</p>\n");
}

void page_table_begin(JsonBuf *out, const char *const *headings, const char *align, int n_columns)
{
    /* A box that scrolls must be reachable with the keyboard. */
    put(out, "<div class=\"scroll\" tabindex=\"0\"><table class=\"table");
    for (int i = 0; i < n_columns && align[i] != '\0'; i++)
        if (align[i] == 'r')
            json_buf_printf(out, " r%d", i + 1);
    put(out, "\">\n<thead><tr>");
    for (int i = 0; i < n_columns; i++) {
        put(out, "<th scope=\"col\">");
        put_text(out, headings[i]);
        put(out, "</th>");
    }
    put(out, "</tr></thead>\n<tbody>\n");
}

void page_row_begin(JsonBuf *out)
{
    put(out, "<tr>");
}

void page_cell(JsonBuf *out, CellMark mark, const char *format, ...)
{
    static const char *const tags[] = {
        [CELL_PLAIN] = "<td>",
        [CELL_GOOD] = "<td class=\"good\">",
        [CELL_BAD] = "<td class=\"bad\">",
        [CELL_WEAK] = "<td class=\"weak\">",
    };
    va_list args;

    put(out, tags[mark]);
    va_start(args, format);
    put_format(out, format, args);
    va_end(args);
    put(out, "</td>");
}

void page_row_end(JsonBuf *out)
{
    put(out, "</tr>\n");
}

void page_table_end(JsonBuf *out)
{
    put(out, "</tbody>\n</table></div>\n");
}

void page_facts_begin(JsonBuf *out)
{
    put(out, "<dl class=\"facts\">\n");
}

void page_fact(JsonBuf *out, const char *name, const char *format, ...)
{
    va_list args;

    put(out, "<dt>");
    put_text(out, name);
    put(out, "</dt><dd>");
    va_start(args, format);
    put_format(out, format, args);
    va_end(args);
    put(out, "</dd>\n");
}

void page_facts_end(JsonBuf *out)
{
    put(out, "</dl>\n");
}

void page_grid_begin(JsonBuf *out)
{
    put(out, "<div class=\"grid\">\n");
}

void page_grid_end(JsonBuf *out)
{
    put(out, "</div>\n");
}
