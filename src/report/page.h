/* report/page.h: one self-contained HTML page: its head with styles for screen, phone and print,
 * sections, tables. Everything that shows results as a page builds it with this and chart.h.
 *
 * Pages hold no link to anything outside and work without scripts; a script only adds choices. All
 * functions append to a JsonBuf (common/json.h: a growing text with a sticky oom flag, checked once
 * at the end). Texts are UTF-8 of any origin and are escaped here.
 *
 * May include: common. */
#ifndef LLORCH_REPORT_PAGE_H
#define LLORCH_REPORT_PAGE_H

#include <stddef.h>

#include "common/json.h"

/* Opens the page. title also is its first heading; subtitle (may be NULL) the line below it. */
void page_begin(JsonBuf *out, const char *title, const char *subtitle);
void page_end(JsonBuf *out);

/* Text with &, <, >, quotes escaped, for elements and attributes; invalid UTF-8 and control
 * characters (but tab and line feed) become U+FFFD. */
void page_text(JsonBuf *out, const char *text, size_t n);

/* A second-level heading and a paragraph (note may be NULL). */
void page_section(JsonBuf *out, const char *heading, const char *note);

/* Plain text in a paragraph, printf style; escaped after formatting. */
void page_paragraph(JsonBuf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How a cell is marked: by colour and, for those who see none, by its text. */
typedef enum { CELL_PLAIN, CELL_GOOD, CELL_BAD, CELL_WEAK } CellMark;

/* A table that scrolls sideways by itself on a phone. align: one character a column, 'l' or 'r'. */
void page_table_begin(JsonBuf *out, const char *const *headings, const char *align, int n_columns);
void page_row_begin(JsonBuf *out);
void page_cell(JsonBuf *out, CellMark mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void page_row_end(JsonBuf *out);
void page_table_end(JsonBuf *out);

/* Facts as pairs ("model", "shakespeare"), for the top of a page. */
void page_facts_begin(JsonBuf *out);
void page_fact(JsonBuf *out, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void page_facts_end(JsonBuf *out);

/* Around figures: small ones (histograms, square maps) stand side by side where there is room. */
void page_grid_begin(JsonBuf *out);
void page_grid_end(JsonBuf *out);

#endif
