/* report/chart.h: charts as inline SVG that scale with the page: lines, histograms, heat maps,
 * stacked bars, flames.
 *
 * Each function appends one <figure> with its SVG and caption, for a page of page.h, whose style
 * sheet has the colours. Texts are UTF-8 of any origin. Values that are NaN are left out;
 * infinities are drawn at the edge. Charts can be read without colour (labels, order, titles on
 * hover) and in print.
 *
 * May include: common. */
#ifndef LLORCH_REPORT_CHART_H
#define LLORCH_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"

typedef struct {
    const char *name;
    const double *y; /* [n], at x = first_x, first_x + 1, ... */
} ChartLine;

typedef struct {
    const char *caption; /* above the figure */
    const char *x_label, *y_label;
    const char *const *x_names; /* [n] names of the places on x, or NULL: numbers */
    double first_x;
    int n;        /* values of each line */
    bool log_y;   /* log10 axis; values <= 0 stand at its foot */
    double limit; /* a dashed line at this height (a tolerance); NaN: none */
} ChartAxes;

void chart_lines(JsonBuf *out, const ChartAxes *axes, const ChartLine *lines, int n_lines);

/* Bars for counts; names: [n], below each bar (some are left out where they would touch). */
void chart_histogram(JsonBuf *out, const char *caption, const char *const *names,
                     const uint64_t *counts, int n);

/* Cells of 0 to 255, row-major, 0 drawn as empty; row 0 on top. label_0 and label_255 say what the
 * ends of the scale mean ("equal", "1e-2"). id: an HTML id for links to the figure, or NULL. */
typedef struct {
    const char *caption, *row_label, *column_label, *label_0, *label_255, *id;
    const uint8_t *cells; /* [rows, columns] */
    int rows, columns;
    int whole_rows, whole_columns; /* what the axes count where the cells are a reduced view; 0: as
                                      many as there are cells */
    const char *const *panels;     /* [n_panels] names of small maps side by side, without numbers
                                      on their axes; cells: [n_panels, rows, columns] ... */
    int n_panels;                  /* ... or 0: one map */
} ChartHeat;

void chart_heat(JsonBuf *out, const ChartHeat *heat);

/* A list to choose from which of several heat maps is shown: the first one is drawn for readers
 * without scripts and for print, the others are kept as hexadecimal text and drawn by a short
 * script. begin, then one add a map, then end. Captions are needed: they are the names in the list.
 * id: of the whole, or NULL; label stands above the list. */
void chart_choice_begin(JsonBuf *out, const char *id, const char *label, const ChartHeat *first);
void chart_choice_add(JsonBuf *out, const ChartHeat *heat);
void chart_choice_end(JsonBuf *out);

/* One bar a column, made of n_parts parts from the bottom up. values: [n_bars, n_parts]; what is
 * not above zero is left out. axes->n and log_y do not count here. */
void chart_stacked(JsonBuf *out, const ChartAxes *axes, const char *const *part_names,
                   const double *values, int n_bars, int n_parts);

/* Nested boxes, as wide as their share of the whole: depth 0 on top. Parents come before their
 * children; a child lies inside the last box of the depth above. */
typedef struct {
    const char *name;
    int depth;
    double value; /* a parent's is at least the sum of its children's */
} ChartBox;

void chart_flame(JsonBuf *out, const char *caption, const char *unit, const ChartBox *boxes, int n);

#endif
