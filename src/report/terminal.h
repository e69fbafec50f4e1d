/* report/terminal.h: results on a terminal: aligned tables, colour where it helps, heat maps of
 * Unicode blocks.
 *
 * May include: common. */
#ifndef LLORCH_REPORT_TERMINAL_H
#define LLORCH_REPORT_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"

typedef enum { TERM_PLAIN, TERM_GOOD, TERM_BAD, TERM_WEAK, TERM_HEAD } TermStyle;

/* Whether standard output wants colour: a terminal, TERM is not "dumb", NO_COLOR (no-color.org) is
 * unset or empty. */
bool term_wants_colour(void);
/* Columns of the terminal: COLUMNS, else what the terminal says, else 100. */
int term_width(void);

/* Appends text in a style; without colour just the text. */
void term_text(JsonBuf *out, bool colour, TermStyle style, const char *text);

enum { TERM_MAX_COLUMNS = 24, TERM_CELL_BYTES = 96 };

/* A table whose columns become as wide as their widest cell. Cells are kept until term_table_print.
 */
typedef struct {
    int n_columns;
    const char *align; /* one character a column: 'l' or 'r' */
    bool colour;
    JsonBuf cells;  /* the texts, each ended by NUL */
    JsonBuf styles; /* one byte a cell */
    size_t n_cells;
} TermTable;

/* headings: [strlen(align)]. Memory: term_table_print or term_table_free. */
void term_table_begin(TermTable *t, const char *const *headings, const char *align, bool colour);
/* The next cell, row by row; longer ones than TERM_CELL_BYTES - 1 are cut with "...". Control
 * characters are escaped. */
void term_table_cell(TermTable *t, TermStyle style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void term_table_print(TermTable *t, JsonBuf *out); /* appends the table and frees t */
void term_table_free(TermTable *t);

/* Cells of 0 to 255 as one of five shades a cell (space, light, medium, dark, full), at most width
 * columns: larger maps are reduced by taking the largest of neighbouring cells. A frame and the
 * scale's meaning around it. */
void term_heat(JsonBuf *out, bool colour, const uint8_t *cells, int rows, int columns, int width,
               const char *label_0, const char *label_255);

#endif
