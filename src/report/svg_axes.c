/* report/svg_axes.c: ranges, ticks at round numbers, and the axes that show them.
 *
 * May include: common. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "report/svg.h"

/* Beyond these, differences and steps of an axis overflow or vanish. */
#define AXIS_HUGE 1e300
#define AXIS_TINY 1e-290

enum { AXIS_TICKS_WANTED = 5, AXIS_NAME_CHARS = 18 };

void axis_range_add(AxisRange *range, double v)
{
    if (!isfinite(v))
        return;
    v = v > AXIS_HUGE ? AXIS_HUGE : v < -AXIS_HUGE ? -AXIS_HUGE : v;
    if (!range->any || v < range->min)
        range->min = v;
    if (!range->any || v > range->max)
        range->max = v;
    range->any = true;
    range->any_zero |= v == 0.0;
    range->any_negative |= v < 0.0;
    if (v > 0.0 && (!range->any_positive || v < range->least_positive))
        range->least_positive = v;
    range->any_positive |= v > 0.0;
}

double axis_nice(double v)
{
    static const double nice[] = {1.0, 2.0, 5.0};
    const double power = pow(10.0, floor(log10(v)));

    /* A hair of tolerance: 0.3 / 3 is not quite 0.1. */
    for (size_t i = 0; i < sizeof nice / sizeof nice[0]; i++)
        if (nice[i] * power >= v * (1.0 - 1e-9))
            return nice[i] * power;
    return 10.0 * power;
}

static AxisScale linear_scale(const AxisRange *range)
{
    double lo = range->any ? range->min : 0.0, hi = range->any ? range->max : 1.0;
    AxisScale s = {.log = false};

    /* From zero unless that would hide what differs. */
    if (lo > 0.0 && hi - lo >= 0.25 * hi)
        lo = 0.0;
    if (hi < 0.0 && hi - lo >= -0.25 * lo)
        hi = 0.0;
    if (hi - lo <= 1e-9 * fmax(fabs(lo), fabs(hi))) {
        lo = fmin(lo, 0.0);
        hi = fmax(hi, 0.0);
    }
    if (hi - lo < AXIS_TINY)
        hi = lo + 1.0;
    s.step = axis_nice((hi - lo) / AXIS_TICKS_WANTED);
    s.lo = floor(lo / s.step + 1e-9) * s.step;
    s.hi = ceil(hi / s.step - 1e-9) * s.step;
    s.n_ticks = (int)fmin(round((s.hi - s.lo) / s.step) + 1, SVG_MAX_TICKS);
    return s;
}

static AxisScale log_scale(const AxisRange *range)
{
    AxisScale s = {.log = true, .foot = range->any_zero || range->any_negative};
    const double least = range->any_positive ? range->least_positive : 1.0;
    const double most = range->any_positive ? range->max : 1.0;

    s.foot_negative = range->any_negative;
    s.lo = floor(log10(least));
    s.hi = ceil(log10(most));
    if (s.hi <= s.lo)
        s.hi = s.lo + 1.0;
    s.step = axis_nice((s.hi - s.lo) / 7.0);
    if (s.step < 1.0)
        s.step = 1.0;
    if (s.foot)
        s.lo -= s.step;
    s.n_ticks = (int)fmin(floor((s.hi - s.lo) / s.step) + 1, SVG_MAX_TICKS);
    return s;
}

AxisScale axis_scale(const AxisRange *range, bool log)
{
    return log ? log_scale(range) : linear_scale(range);
}

double axis_share(const AxisScale *scale, double v)
{
    double place = v;

    if (scale->log)
        place = v > 0.0 ? log10(v) : scale->lo;
    if (place <= scale->lo)
        return 0.0;
    if (place >= scale->hi)
        return 1.0;
    return (place - scale->lo) / (scale->hi - scale->lo);
}

double axis_tick(const AxisScale *scale, int i, char text[SVG_TEXT_BYTES])
{
    const double place = scale->lo + i * scale->step;

    if (!scale->log)
        /* Where the step says zero, 1e-17 is left over from adding. */
        svg_value(text, fabs(place) < 1e-6 * scale->step ? 0.0 : place);
    else if (scale->foot && i == 0)
        (void)snprintf(text, SVG_TEXT_BYTES, "%s", scale->foot_negative ? "≤ 0" : "0");
    else if (place >= -2 && place <= 3)
        svg_value(text, pow(10.0, place));
    else
        (void)snprintf(text, SVG_TEXT_BYTES, "1e%d", (int)place);
    return (place - scale->lo) / (scale->hi - scale->lo);
}

double plot_y(const SvgPlot *plot, double v)
{
    return plot->bottom - axis_share(&plot->y, v) * (plot->bottom - plot->top);
}

static void horizontal(JsonBuf *out, const SvgPlot *plot, double y, const char *class_name)
{
    json_buf_printf(out, "<line%s%s%s x1=\"", class_name ? " class=\"" : "",
                    class_name ? class_name : "", class_name ? "\"" : "");
    svg_number(out, plot->left);
    svg_put(out, "\" x2=\"");
    svg_number(out, plot->right);
    svg_put(out, "\" y1=\"");
    svg_number(out, y);
    svg_put(out, "\" y2=\"");
    svg_number(out, y);
    svg_put(out, "\"/>\n");
}

void plot_y_axis(JsonBuf *out, const SvgPlot *plot, const char *name)
{
    char text[SVG_TEXT_BYTES];

    for (int i = 0; i < plot->y.n_ticks; i++) {
        const double share = axis_tick(&plot->y, i, text);
        const double y = plot->bottom - share * (plot->bottom - plot->top);

        horizontal(out, plot, y, i == 0 ? "axis" : NULL);
        svg_label(out, plot->left - 6, y + 4.5, SVG_END, NULL, text);
    }
    if (name != NULL)
        svg_label(out, 0, 13, SVG_START, "name", name);
}

void plot_limit(JsonBuf *out, const SvgPlot *plot, double limit)
{
    char value[SVG_TEXT_BYTES], text[SVG_TEXT_BYTES + 8];

    if (isnan(limit))
        return;
    const double y = plot_y(plot, limit);
    svg_value(value, limit);
    (void)snprintf(text, sizeof text, "limit %s", value);
    horizontal(out, plot, y, "limit");
    svg_label(out, plot->right, y - 5, SVG_END, "limit-text", text);
}

double plot_x(const SvgPlot *plot, int i, int n, bool slots)
{
    const double room = plot->right - plot->left;

    if (slots)
        return plot->left + room * (i + 0.5) / n;
    return n > 1 ? plot->left + room * i / (n - 1) : plot->left + room / 2;
}

/* At most AXIS_NAME_CHARS characters; valid UTF-8 is not needed. */
static void shorten(char out[4 * AXIS_NAME_CHARS + 8], const char *name)
{
    const size_t n = strlen(name);
    size_t i = 0, used;

    for (int k = 0; i < n && k < AXIS_NAME_CHARS; k++, i += used)
        (void)text_utf8_next(name + i, n - i, &used);
    (void)snprintf(out, 4 * AXIS_NAME_CHARS + 8, "%.*s%s", (int)i, name, i < n ? "…" : "");
}

static void name_of(char out[4 * AXIS_NAME_CHARS + 8], const ChartAxes *axes, int i)
{
    if (axes->x_names != NULL)
        shorten(out, axes->x_names[i]);
    else
        svg_value(out, axes->first_x + i);
}

/* How many places one name needs. */
static int places_per_name(const SvgPlot *plot, const ChartAxes *axes)
{
    char name[4 * AXIS_NAME_CHARS + 8];
    size_t longest = 1;

    for (int i = 0; i < axes->n; i++) {
        /* Numbers grow to the end; looking at all of them would cost more than drawing. */
        if (axes->x_names == NULL && i > 0 && i < axes->n - 1)
            continue;
        name_of(name, axes, i);
        const size_t len = text_utf8_count(name, strlen(name));
        longest = len > longest ? len : longest;
    }
    const double each = plot->width > SVG_SMALL ? SVG_CHAR : SVG_SMALL_CHAR;
    const double room = (plot->right - plot->left) / (each * (double)(longest + 1));
    return (int)ceil(axes->n / fmax(room, 1.0));
}

void plot_x_axis(JsonBuf *out, const SvgPlot *plot, const ChartAxes *axes, bool slots)
{
    char name[4 * AXIS_NAME_CHARS + 8];
    double edge = 0.0;
    int step = axes->n > 0 ? places_per_name(plot, axes) : 1, start = 0;

    if (axes->x_names == NULL && axes->n > 0) {
        step = (int)axis_nice(fmax(step, axes->n / 8.0));
        step = step < 1 ? 1 : step;
        /* Numbers start where they are round: 0, 5, 10 even when the first one is 1. */
        if (fabs(axes->first_x) < 1e9 && step > 1)
            start = (int)(fmod(step - fmod(axes->first_x, step), step));
    }
    for (int i = start; i < axes->n; i += step) {
        name_of(name, axes, i);
        svg_tick_label(out, plot_x(plot, i, axes->n, slots), plot->bottom + 20, plot->width, &edge,
                       name);
    }
    if (axes->x_label != NULL)
        svg_label(out, (plot->left + plot->right) / 2, plot->bottom + 41, SVG_MIDDLE, "name",
                  axes->x_label);
}
