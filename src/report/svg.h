/* report/svg.h: what the charts of chart.h share: figures, texts and numbers in SVG, axes.
 *
 * Colours and sizes of text are classes of the page's style sheet (page_style.c): s0 to s7 for
 * lines and parts, h1 to h16 for levels of a heat map. A wide chart sets its text at 12 units, on a
 * phone at 16; everything that must not touch is measured at the larger size.
 *
 * May include: common. */
#ifndef LLORCH_REPORT_SVG_H
#define LLORCH_REPORT_SVG_H

#include <stdbool.h>

#include "common/json.h"
#include "report/chart.h"

enum {
    SVG_WIDE = 600,  /* units across a chart */
    SVG_SMALL = 400, /* of one that can stand beside another */
    SVG_COLOURS = 8,
    SVG_TEXT_BYTES = 32,
    SVG_MAX_TICKS = 16
};

#define SVG_CHAR 8.8       /* width of a character in a wide chart on a phone */
#define SVG_SMALL_CHAR 7.2 /* and in a small one */

void svg_put(JsonBuf *out, const char *text);  /* as it is */
void svg_text(JsonBuf *out, const char *text); /* escaped; NULL: nothing */
void svg_number(JsonBuf *out, double v);       /* a coordinate: at most two decimals */

/* A figure with its caption on top; then svg_begin ... svg_end. id and caption may be NULL. */
void svg_figure_begin(JsonBuf *out, const char *id, bool hidden, const char *caption);
void svg_figure_end(JsonBuf *out);
void svg_id(JsonBuf *out, const char *id); /* as an attribute, made fit for one; NULL: nothing */
void svg_begin(JsonBuf *out, int width, double height, const char *label);
void svg_end(JsonBuf *out);

typedef enum { SVG_START, SVG_MIDDLE, SVG_END } SvgAnchor;

void svg_label(JsonBuf *out, double x, double y, SvgAnchor anchor, const char *class_name,
               const char *text);
/* Centred on x, but kept between 0 and width; left out where it would touch the one before, whose
 * end is *edge (at first: 0). */
void svg_tick_label(JsonBuf *out, double x, double y, int width, double *edge, const char *text);

/* A number for people: "0.25", "1e-5", "inf". */
void svg_value(char out[SVG_TEXT_BYTES], double v);

/* What values an axis must show. Infinities and NaN are not counted. */
typedef struct {
    bool any, any_positive, any_zero, any_negative;
    double min, max;
    double least_positive;
} AxisRange;

void axis_range_add(AxisRange *range, double v);

/* lo to hi, a tick each step; on a log axis these are exponents of ten, and foot says that the
 * lowest tick stands for values <= 0. */
typedef struct {
    bool log, foot, foot_negative;
    double lo, hi, step;
    int n_ticks;
} AxisScale;

AxisScale axis_scale(const AxisRange *range, bool log);
/* Where v lies between lo (0) and hi (1); what is outside, infinities included, lies at the edge. v
 * is not NaN. */
double axis_share(const AxisScale *scale, double v);
double axis_tick(const AxisScale *scale, int i, char text[SVG_TEXT_BYTES]); /* its share */

/* The room of the data in a chart. */
typedef struct {
    int width;
    double left, right, top, bottom;
    AxisScale y;
} SvgPlot;

double plot_y(const SvgPlot *plot, double v);
/* Grid lines, numbers and name of the y axis; the line at its foot. */
void plot_y_axis(JsonBuf *out, const SvgPlot *plot, const char *name);
/* Dashed, with its value; nothing when limit is NaN. */
void plot_limit(JsonBuf *out, const SvgPlot *plot, double limit);

/* The middle of place i of n on x: at both ends of the plot, or, for bars, in n equal slots. */
double plot_x(const SvgPlot *plot, int i, int n, bool slots);
/* Numbers from first, or names, as many as there is room for; name of the axis below. */
void plot_x_axis(JsonBuf *out, const SvgPlot *plot, const ChartAxes *axes, bool slots);
/* The least of 1, 2, 5, 10, 20, ... that is >= v; v > 0. */
double axis_nice(double v);

#endif
