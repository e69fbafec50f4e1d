/* report/chart_bars.c: histograms of counts, stacked bars.
 *
 * May include: common. */
#include <math.h>
#include <stdio.h>

#include "report/chart.h"
#include "report/svg.h"

enum { HISTOGRAM_HEIGHT = 220, STACKED_HEIGHT = 340, COUNT_BYTES = 32, BAR_MOST = 60 };

/* "M x y h w v h ... z" from the foot up; nothing for a height that is too small to see. */
static void put_bar(JsonBuf *out, double x, double width, double top, double bottom)
{
    json_buf_add(out, "M", 1);
    svg_number(out, x);
    json_buf_add(out, " ", 1);
    svg_number(out, bottom);
    json_buf_add(out, "V", 1);
    svg_number(out, top);
    json_buf_add(out, "h", 1);
    svg_number(out, width);
    json_buf_add(out, "V", 1);
    svg_number(out, bottom);
    json_buf_add(out, "z", 1);
}

static int count_text(char out[COUNT_BYTES], uint64_t count)
{
    return snprintf(out, COUNT_BYTES, "%llu", (unsigned long long)count);
}

static void put_count_bar(JsonBuf *out, const SvgPlot *plot, const ChartAxes *axes, int i,
                          uint64_t count, bool with_number)
{
    const double pitch = (plot->right - plot->left) / axes->n, width = pitch * 0.8;
    const double middle = plot_x(plot, i, axes->n, true);
    char text[COUNT_BYTES];

    if (count == 0)
        return;
    /* One in a million is still there. */
    const double top = fmin(plot_y(plot, (double)count), plot->bottom - 1.5);
    svg_put(out, "<path class=\"part s0\" d=\"");
    put_bar(out, middle - width / 2, width, top, plot->bottom);
    svg_put(out, "\"><title>");
    svg_text(out, axes->x_names[i]);
    (void)count_text(text, count);
    json_buf_printf(out, ": %s</title></path>\n", text);
    if (with_number)
        svg_label(out, middle, top - 4, SVG_MIDDLE, "name", text);
}

void chart_histogram(JsonBuf *out, const char *caption, const char *const *names,
                     const uint64_t *counts, int n)
{
    const ChartAxes axes = {.caption = caption, .x_names = names, .n = n};
    AxisRange range = {.any = false};
    SvgPlot plot = {.width = SVG_SMALL,
                    .left = 58,
                    .right = SVG_SMALL - 8,
                    .top = 22,
                    .bottom = HISTOGRAM_HEIGHT - 24};

    char text[COUNT_BYTES];
    int longest = 0;

    axis_range_add(&range, 0.0);
    for (int i = 0; i < n; i++) {
        const int len = count_text(text, counts[i]);

        axis_range_add(&range, (double)counts[i]);
        longest = len > longest ? len : longest;
    }
    plot.y = axis_scale(&range, false);
    /* On all bars or on none: a few numbers would look as if they meant something. */
    const bool with_numbers = longest * SVG_SMALL_CHAR * n < plot.right - plot.left;
    svg_figure_begin(out, NULL, false, caption);
    svg_begin(out, SVG_SMALL, HISTOGRAM_HEIGHT, caption);
    plot_y_axis(out, &plot, NULL);
    plot_x_axis(out, &plot, &axes, true);
    for (int i = 0; i < n; i++)
        put_count_bar(out, &plot, &axes, i, counts[i], with_numbers);
    svg_end(out);
    svg_figure_end(out);
}

/* What a part of a bar counts for: nothing when it is not a number or below zero. */
static double part_of(const double *values, int n_parts, int bar, int part)
{
    const double v = values[(size_t)bar * (size_t)n_parts + (size_t)part];

    return v > 0.0 ? fmin(v, 1e300) : 0.0;
}

static double sum_below(const double *values, int n_parts, int bar, int part)
{
    double sum = 0.0;

    for (int k = 0; k < part; k++)
        sum += part_of(values, n_parts, bar, k);
    return sum;
}

static double sum_of_part(const double *values, int n_bars, int n_parts, int part)
{
    double sum = 0.0;

    for (int i = 0; i < n_bars; i++)
        sum += part_of(values, n_parts, i, part);
    return sum;
}

static void put_part_name(JsonBuf *out, const char *name, double sum, double all)
{
    svg_text(out, name);
    if (all > 0.0)
        json_buf_printf(out, " %.1f %%", 100.0 * sum / all);
}

static void put_parts_legend(JsonBuf *out, const char *const *part_names, const double *values,
                             int n_bars, int n_parts, double all)
{
    svg_put(out, "<ul class=\"legend\">");
    for (int k = 0; k < n_parts; k++) {
        json_buf_printf(out,
                        "<li><svg viewBox=\"0 0 26 10\" class=\"s%d\" aria-hidden=\"true\">"
                        "<path class=\"part tint%d\" d=\"M0 0h26v10h-26z\"/></svg>",
                        k % SVG_COLOURS, k / SVG_COLOURS % 3);
        put_part_name(out, part_names[k], sum_of_part(values, n_bars, n_parts, k), all);
        svg_put(out, "</li>");
    }
    svg_put(out, "</ul>\n");
}

static void put_part(JsonBuf *out, const SvgPlot *plot, const double *values, int n_bars,
                     int n_parts, int k)
{
    const double pitch = (plot->right - plot->left) / n_bars;
    const double width = fmin(pitch * (pitch > 4 ? 0.85 : 1.0), BAR_MOST);

    for (int i = 0; i < n_bars; i++) {
        const double below = sum_below(values, n_parts, i, k);
        const double v = part_of(values, n_parts, i, k);
        const double bottom = plot_y(plot, below), top = plot_y(plot, below + v);

        if (bottom - top >= 0.02)
            put_bar(out, plot_x(plot, i, n_bars, true) - width / 2, width, top, bottom);
    }
}

void chart_stacked(JsonBuf *out, const ChartAxes *axes, const char *const *part_names,
                   const double *values, int n_bars, int n_parts)
{
    SvgPlot plot = {.width = SVG_WIDE,
                    .left = 66,
                    .right = SVG_WIDE - 14,
                    .top = 30,
                    .bottom = STACKED_HEIGHT - 50};
    ChartAxes x = *axes;
    AxisRange range = {.any = false};
    double all = 0.0;

    x.n = n_bars;
    axis_range_add(&range, 0.0);
    axis_range_add(&range, axes->limit);
    for (int i = 0; i < n_bars; i++) {
        axis_range_add(&range, sum_below(values, n_parts, i, n_parts));
        all += sum_below(values, n_parts, i, n_parts);
    }
    plot.y = axis_scale(&range, false);
    svg_figure_begin(out, NULL, false, axes->caption);
    put_parts_legend(out, part_names, values, n_bars, n_parts, all);
    svg_begin(out, SVG_WIDE, STACKED_HEIGHT, axes->caption);
    plot_y_axis(out, &plot, axes->y_label);
    plot_x_axis(out, &plot, &x, true);
    for (int k = 0; k < n_parts; k++) {
        json_buf_printf(out, "<path class=\"part s%d tint%d\" d=\"", k % SVG_COLOURS,
                        k / SVG_COLOURS % 3);
        put_part(out, &plot, values, n_bars, n_parts, k);
        svg_put(out, "\"><title>");
        put_part_name(out, part_names[k], sum_of_part(values, n_bars, n_parts, k), all);
        svg_put(out, "</title></path>\n");
    }
    plot_limit(out, &plot, axes->limit);
    svg_end(out);
    svg_figure_end(out);
}
