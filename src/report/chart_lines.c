/* report/chart_lines.c: lines over a common axis.
 *
 * May include: common. */
#include <math.h>

#include "report/chart.h"
#include "report/svg.h"

enum {
    LINES_HEIGHT = 340,
    LINES_WITH_MARKS = 64, /* values up to which each gets a mark with its number */
    LINES_MARKS = 4,
    LINES_DASHES = 4
};

/* Drawn around the point at which they begin. Line, colour, dashes and mark differ together, so
 * that no one of them is needed. */
static const char *const marks[LINES_MARKS] = {
    "m-3.2 0a3.2 3.2 0 106.4 0a3.2 3.2 0 10-6.4 0z",
    "m-2.9-2.9h5.8v5.8h-5.8z",
    "m0-4l4 4-4 4-4-4z",
    "m0-3.8l3.7 6.4h-7.4z",
};

static AxisRange range_of(const ChartAxes *axes, const ChartLine *lines, int n_lines)
{
    AxisRange range = {.any = false};

    for (int k = 0; k < n_lines; k++)
        for (int i = 0; i < axes->n; i++) {
            axis_range_add(&range, lines[k].y[i]);
            /* Drawn at the foot, which then must say so. */
            range.any_negative |= axes->log_y && isinf(lines[k].y[i]) && lines[k].y[i] < 0;
        }
    axis_range_add(&range, axes->limit);
    return range;
}

static void put_point(JsonBuf *out, char command, double x, double y)
{
    json_buf_add(out, &command, 1);
    svg_number(out, x);
    json_buf_add(out, " ", 1);
    svg_number(out, y);
}

/* A value that is not a number interrupts the line. */
static void put_line(JsonBuf *out, const SvgPlot *plot, const ChartAxes *axes,
                     const ChartLine *line, int k)
{
    bool drawing = false;

    json_buf_printf(out, "<path class=\"line s%d dash%d\" d=\"", k % SVG_COLOURS, k % LINES_DASHES);
    for (int i = 0; i < axes->n; i++) {
        if (!isnan(line->y[i]))
            put_point(out, drawing ? 'L' : 'M', plot_x(plot, i, axes->n, false),
                      plot_y(plot, line->y[i]));
        drawing = !isnan(line->y[i]);
    }
    svg_put(out, "\"><title>");
    svg_text(out, line->name);
    svg_put(out, "</title></path>\n");
}

static void put_mark(JsonBuf *out, const SvgPlot *plot, const ChartAxes *axes,
                     const ChartLine *line, int k, int i)
{
    char value[SVG_TEXT_BYTES], place[SVG_TEXT_BYTES];

    svg_put(out, "<path d=\"");
    put_point(out, 'M', plot_x(plot, i, axes->n, false), plot_y(plot, line->y[i]));
    svg_put(out, marks[k % LINES_MARKS]);
    svg_put(out, "\"><title>");
    svg_text(out, line->name);
    svg_put(out, ", ");
    svg_value(place, axes->first_x + i);
    svg_text(out, axes->x_names != NULL ? axes->x_names[i] : place);
    svg_value(value, line->y[i]);
    json_buf_printf(out, ": %s</title></path>\n", value);
}

/* Where there are many values, marks stand only where no line would: at a value between two that
 * are missing. */
static bool has_mark(const ChartAxes *axes, const ChartLine *line, int i)
{
    if (isnan(line->y[i]))
        return false;
    return axes->n <= LINES_WITH_MARKS ||
           ((i == 0 || isnan(line->y[i - 1])) && (i + 1 == axes->n || isnan(line->y[i + 1])));
}

static void put_legend(JsonBuf *out, const ChartLine *lines, int n_lines, bool with_marks)
{
    svg_put(out, "<ul class=\"legend\">");
    for (int k = 0; k < n_lines; k++) {
        json_buf_printf(out,
                        "<li><svg viewBox=\"0 0 26 10\" class=\"s%d\" aria-hidden=\"true\">"
                        "<path class=\"line dash%d\" d=\"M0 5h26\"/>",
                        k % SVG_COLOURS, k % LINES_DASHES);
        if (with_marks)
            json_buf_printf(out, "<path class=\"mark\" d=\"M13 5%s\"/>", marks[k % LINES_MARKS]);
        svg_put(out, "</svg>");
        svg_text(out, lines[k].name);
        svg_put(out, "</li>");
    }
    svg_put(out, "</ul>\n");
}

void chart_lines(JsonBuf *out, const ChartAxes *axes, const ChartLine *lines, int n_lines)
{
    const AxisRange range = range_of(axes, lines, n_lines);
    const SvgPlot plot = {.width = SVG_WIDE,
                          .left = 66,
                          .right = SVG_WIDE - 14,
                          .top = 30,
                          .bottom = LINES_HEIGHT - 50,
                          .y = axis_scale(&range, axes->log_y)};

    svg_figure_begin(out, NULL, false, axes->caption);
    if (n_lines > 1)
        put_legend(out, lines, n_lines, axes->n <= LINES_WITH_MARKS);
    svg_begin(out, SVG_WIDE, LINES_HEIGHT, axes->caption);
    plot_y_axis(out, &plot, axes->y_label);
    plot_x_axis(out, &plot, axes, false);
    plot_limit(out, &plot, axes->limit);
    for (int k = 0; k < n_lines; k++) {
        put_line(out, &plot, axes, &lines[k], k);
        json_buf_printf(out, "<g class=\"mark s%d\">\n", k % SVG_COLOURS);
        for (int i = 0; i < axes->n; i++)
            if (has_mark(axes, &lines[k], i))
                put_mark(out, &plot, axes, &lines[k], k, i);
        svg_put(out, "</g>\n");
    }
    svg_end(out);
    svg_figure_end(out);
}
