/* report/chart_flame.c: nested boxes.
 *
 * May include: common. */
#include <math.h>
#include <string.h>

#include "common/text.h"
#include "report/chart.h"
#include "report/svg.h"

enum { FLAME_MAX_DEPTH = 16, FLAME_ROW = 26 };

/* The last box of each depth, and how much of it is taken by its children. */
typedef struct {
    double x[FLAME_MAX_DEPTH], end[FLAME_MAX_DEPTH], taken[FLAME_MAX_DEPTH];
    int deepest;  /* depth of the last box */
    double units; /* per value */
} Flame;

static double size_of(const ChartBox *box)
{
    return box->value > 0.0 ? fmin(box->value, 1e290) : 0.0;
}

/* The same name has the same colour wherever it is: the one of its first box. */
static int colour_of(const ChartBox *boxes, int i)
{
    int first = 0;

    while (first < i && strcmp(boxes[first].name, boxes[i].name) != 0)
        first++;
    return first % SVG_COLOURS;
}

static void put_box(JsonBuf *out, const Flame *f, const ChartBox *box, int colour, int depth,
                    double all, const char *unit)
{
    const double x = f->x[depth], width = f->end[depth] - x, y = depth * FLAME_ROW;
    char value[SVG_TEXT_BYTES];

    json_buf_printf(out, "<g><title>");
    svg_text(out, box->name);
    svg_value(value, box->value);
    json_buf_printf(out, ": %s ", value);
    svg_text(out, unit);
    if (all > 0.0)
        json_buf_printf(out, ", %.1f %%", 100.0 * size_of(box) / all);
    json_buf_printf(out, "</title><rect class=\"box s%d\" x=\"", colour);
    svg_number(out, x);
    json_buf_printf(out, "\" y=\"%d\" width=\"", (int)y);
    svg_number(out, width);
    json_buf_printf(out, "\" height=\"%d\"/>", FLAME_ROW);
    if ((double)text_utf8_count(box->name, strlen(box->name)) * SVG_CHAR + 8 < width)
        svg_label(out, x + 4, y + 18, SVG_START, NULL, box->name);
    svg_put(out, "</g>\n");
}

/* Gives the next box its place: inside the last one of the depth above, what is too wide cut off
 * there. Returns the depth it has. */
static int place_box(Flame *f, const ChartBox *box)
{
    int depth = box->depth < 0 ? 0 : box->depth;

    depth = depth > f->deepest + 1 ? f->deepest + 1 : depth;
    depth = depth < FLAME_MAX_DEPTH ? depth : FLAME_MAX_DEPTH - 1;
    const double from = depth == 0 ? f->taken[0] : f->taken[depth];
    const double limit = depth == 0 ? SVG_WIDE : f->end[depth - 1];
    f->x[depth] = fmin(from, limit);
    f->end[depth] = fmin(from + size_of(box) * f->units, limit);
    f->taken[depth] = f->end[depth];
    if (depth + 1 < FLAME_MAX_DEPTH)
        f->taken[depth + 1] = f->x[depth];
    f->deepest = depth;
    return depth;
}

void chart_flame(JsonBuf *out, const char *caption, const char *unit, const ChartBox *boxes, int n)
{
    Flame f = {.deepest = -1};
    double all = 0.0;
    int deepest = 0;

    for (int i = 0; i < n; i++) {
        all += boxes[i].depth <= 0 ? size_of(&boxes[i]) : 0.0;
        deepest = boxes[i].depth > deepest ? boxes[i].depth : deepest;
    }
    deepest = deepest < FLAME_MAX_DEPTH ? deepest : FLAME_MAX_DEPTH - 1;
    f.units = all > 0.0 ? SVG_WIDE / all : 0.0;
    svg_figure_begin(out, NULL, false, caption);
    svg_begin(out, SVG_WIDE, (deepest + 1) * FLAME_ROW, caption);
    for (int i = 0; i < n; i++) {
        const int depth = place_box(&f, &boxes[i]);

        if (f.end[depth] - f.x[depth] >= 0.1)
            put_box(out, &f, &boxes[i], colour_of(boxes, i), depth, all, unit);
    }
    svg_end(out);
    svg_figure_end(out);
}
