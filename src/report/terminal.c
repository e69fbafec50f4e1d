/* report/terminal.c: see terminal.h.
 *
 * May include: common. */
#include "report/terminal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/text.h"

enum { TERM_DEFAULT_WIDTH = 100, TERM_MAX_WIDTH = 10000, TERM_HEAT_ROWS = 32, TERM_SHADES = 5 };

static void put(JsonBuf *out, const char *text)
{
    json_buf_add(out, text, strlen(text));
}

static void put_times(JsonBuf *out, const char *text, int n)
{
    for (int i = 0; i < n; i++)
        put(out, text);
}

bool term_wants_colour(void)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");

    return isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0 &&
           (no_colour == NULL || no_colour[0] == '\0');
}

int term_width(void)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    char *end;

    if (columns != NULL && columns[0] >= '0' && columns[0] <= '9') {
        const long n = strtol(columns, &end, 10);

        if (*end == '\0' && n > 0 && n <= TERM_MAX_WIDTH)
            return (int)n;
    }
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return TERM_DEFAULT_WIDTH;
}

void term_text(JsonBuf *out, bool colour, TermStyle style, const char *text)
{
    static const char *const codes[] = {
        [TERM_GOOD] = "\x1b[32m",
        [TERM_BAD] = "\x1b[1;31m",
        [TERM_WEAK] = "\x1b[2m",
        [TERM_HEAD] = "\x1b[1m",
    };
    const bool styled = colour && style != TERM_PLAIN;

    if (styled)
        put(out, codes[style]);
    put(out, text);
    if (styled)
        put(out, "\x1b[0m");
}

/* Columns that a character takes. Not wcwidth(3), which knows only what the locale knows. */
static int char_width(int c)
{
    static const struct {
        int first, last, width;
    } ranges[] = {
        {0x300, 0x36f, 0},     {0x200b, 0x200f, 0},   {0x20d0, 0x20ff, 0},   {0xfe00, 0xfe0f, 0},
        {0x1100, 0x115f, 2},   {0x2e80, 0xa4cf, 2},   {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},
        {0xfe30, 0xfe6f, 2},   {0xff00, 0xff60, 2},   {0xffe0, 0xffe6, 2},   {0x1f300, 0x1f64f, 2},
        {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1faff, 2}, {0x20000, 0x3fffd, 2},
    };

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].width;
    return 1;
}

/* text has been escaped: valid UTF-8 without control characters. */
static int text_width(const char *text)
{
    const size_t n = strlen(text);
    int width = 0;

    for (size_t i = 0, used; i < n; i += used)
        width += char_width(text_utf8_next(text + i, n - i, &used));
    return width;
}

static void add_cell(TermTable *t, TermStyle style, const char *text, size_t n)
{
    char cell[TERM_CELL_BYTES];
    const char code = (char)style;
    const size_t len = text_escape(cell, sizeof cell, text, n);

    json_buf_add(&t->cells, cell, len + 1);
    json_buf_add(&t->styles, &code, 1);
    t->n_cells++;
}

void term_table_begin(TermTable *t, const char *const *headings, const char *align, bool colour)
{
    const size_t n = strlen(align);

    assert(n > 0 && n <= TERM_MAX_COLUMNS);
    *t = (TermTable){.n_columns = (int)n, .align = align, .colour = colour};
    for (size_t i = 0; i < n; i++)
        add_cell(t, TERM_HEAD, headings[i], strlen(headings[i]));
}

void term_table_cell(TermTable *t, TermStyle style, const char *format, ...)
{
    JsonBuf text = {NULL, 0, 0, 0};
    va_list args;

    va_start(args, format);
    json_buf_vprintf(&text, format, args);
    va_end(args);
    if (text.oom)
        t->cells.oom = 1;
    add_cell(t, style, text.len > 0 ? text.data : "", text.len);
    json_buf_free(&text);
}

static const char *next_cell(const char *cell)
{
    return cell + strlen(cell) + 1;
}

static void measure(const TermTable *t, int widths[TERM_MAX_COLUMNS])
{
    const char *cell = t->cells.data;

    memset(widths, 0, sizeof(int) * TERM_MAX_COLUMNS);
    for (size_t i = 0; i < t->n_cells; i++, cell = next_cell(cell)) {
        const size_t column = i % (size_t)t->n_columns;
        const int width = text_width(cell);

        widths[column] = width > widths[column] ? width : widths[column];
    }
}

/* Two blanks between columns, none at the end of a line. */
static void print_rows(const TermTable *t, const int *widths, JsonBuf *out)
{
    const char *cell = t->cells.data;
    int owed = 0; /* blanks that the next text on this line needs in front of it */

    for (size_t i = 0; i < t->n_cells; i++, cell = next_cell(cell)) {
        const int column = (int)(i % (size_t)t->n_columns);
        const int pad = widths[column] - text_width(cell);
        const bool right = t->align[column] == 'r';

        if (cell[0] != '\0') {
            put_times(out, " ", owed + (right ? pad : 0));
            term_text(out, t->colour, (TermStyle)t->styles.data[i], cell);
            owed = right ? 0 : pad;
        } else {
            owed += widths[column];
        }
        owed += 2;
        if (column + 1 == t->n_columns || i + 1 == t->n_cells) {
            put(out, "\n");
            owed = 0;
        }
    }
}

void term_table_print(TermTable *t, JsonBuf *out)
{
    int widths[TERM_MAX_COLUMNS];

    if (t->cells.oom || t->styles.oom) {
        out->oom = 1;
    } else {
        measure(t, widths);
        print_rows(t, widths, out);
    }
    term_table_free(t);
}

void term_table_free(TermTable *t)
{
    json_buf_free(&t->cells);
    json_buf_free(&t->styles);
    t->n_cells = 0;
}

static const char *const shades[TERM_SHADES] = {" ", "░", "▒", "▓", "█"};

/* 0 is empty; 1 to 255 share the other four. */
static int shade_of(int value)
{
    return value == 0 ? 0 : 1 + (value - 1) * (TERM_SHADES - 1) / 255;
}

/* The largest of cells [from_row, to_row) x [from, to). */
static int largest(const uint8_t *cells, int columns, int from_row, int to_row, int from, int to)
{
    int found = 0;

    for (int r = from_row; r < to_row; r++)
        for (int c = from; c < to; c++) {
            const int v = cells[(size_t)r * (size_t)columns + (size_t)c];

            found = v > found ? v : found;
        }
    return found;
}

/* n times the same shade. */
static void put_shade(JsonBuf *out, bool colour, int shade, int n)
{
    static const char *const codes[TERM_SHADES] = {NULL, "\x1b[2m", NULL, "\x1b[33m", "\x1b[31m"};
    const char *code = colour ? codes[shade] : NULL;

    if (n == 0)
        return;
    if (code != NULL)
        put(out, code);
    put_times(out, shades[shade], n);
    if (code != NULL)
        put(out, "\x1b[0m");
}

static void put_label(JsonBuf *out, const char *label)
{
    char text[TERM_CELL_BYTES];

    (void)text_escape(text, sizeof text, label, strlen(label));
    put(out, text);
}

static void put_scale(JsonBuf *out, bool colour, const char *label_0, const char *label_255)
{
    put(out, "blank: ");
    put_label(out, label_0);
    put(out, "   ");
    for (int i = 1; i < TERM_SHADES; i++)
        put_shade(out, colour, i, 1);
    put(out, " up to ");
    put_label(out, label_255);
    put(out, "\n");
}

/* Place i of n shares of the cells starts here. */
static int share(int cells, int i, int n)
{
    return (int)((long long)cells * i / n);
}

static void put_heat_row(JsonBuf *out, bool colour, const uint8_t *cells, int columns, int from_row,
                         int to_row, int width)
{
    int shade = 0, n = 0; /* cells of the same shade that wait to be written */

    put(out, "│");
    for (int c = 0; c < width; c++) {
        const int next = shade_of(largest(cells, columns, from_row, to_row,
                                          share(columns, c, width), share(columns, c + 1, width)));

        if (next != shade) {
            put_shade(out, colour, shade, n);
            shade = next;
            n = 0;
        }
        n++;
    }
    put_shade(out, colour, shade, n);
    put(out, "│\n");
}

void term_heat(JsonBuf *out, bool colour, const uint8_t *cells, int rows, int columns, int width,
               const char *label_0, const char *label_255)
{
    const int room = width > 3 ? width - 2 : 1; /* without the frame */
    const int w = columns < room ? columns : room;
    const int h = rows < TERM_HEAT_ROWS ? rows : TERM_HEAT_ROWS;

    put(out, "┌");
    put_times(out, "─", w);
    put(out, "┐\n");
    for (int r = 0; r < h; r++)
        put_heat_row(out, colour, cells, columns, share(rows, r, h), share(rows, r + 1, h), w);
    put(out, "└");
    put_times(out, "─", w);
    put(out, "┘\n");
    put_scale(out, colour, label_0, label_255);
}
