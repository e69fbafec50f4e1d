/* report/svg.c: figures, texts and numbers of charts.
 *
 * May include: common. */
#include "report/svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "report/page.h"

void svg_put(JsonBuf *out, const char *text)
{
    json_buf_add(out, text, strlen(text));
}

void svg_text(JsonBuf *out, const char *text)
{
    if (text != NULL)
        page_text(out, text, strlen(text));
}

/* Cuts "0"s after a decimal point, and the point. */
static void trim_zeros(char *text)
{
    size_t n = strlen(text);

    if (strchr(text, '.') == NULL)
        return;
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    text[n] = '\0';
}

void svg_number(JsonBuf *out, double v)
{
    char text[SVG_TEXT_BYTES];

    if (fabs(v) < 0.005) /* not "-0" */
        v = 0.0;
    (void)snprintf(text, sizeof text, "%.2f", v);
    trim_zeros(text);
    svg_put(out, text);
}

void svg_value(char out[SVG_TEXT_BYTES], double v)
{
    const bool small = fabs(v) < 0.001 && v != 0.0;
    char *e;

    if (v == 0.0)
        v = 0.0; /* not "-0" */
    (void)snprintf(out, SVG_TEXT_BYTES, small ? "%.5e" : "%.6g", v);
    e = strchr(out, 'e');
    if (e == NULL)
        return;
    /* "1.50000e-05", "1e+06": without what nobody reads. */
    const long exponent = strtol(e + 1, NULL, 10);
    *e = '\0';
    trim_zeros(out);
    const size_t n = strlen(out);
    (void)snprintf(out + n, SVG_TEXT_BYTES - n, "e%ld", exponent);
}

/* In an id, only what cannot end it. */
static void put_id(JsonBuf *out, const char *id)
{
    for (; *id != '\0'; id++) {
        const bool plain = (*id >= 'a' && *id <= 'z') || (*id >= 'A' && *id <= 'Z') ||
                           (*id >= '0' && *id <= '9') || *id == '_';

        json_buf_add(out, plain ? id : "-", 1);
    }
}

void svg_id(JsonBuf *out, const char *id)
{
    if (id == NULL || id[0] == '\0')
        return;
    svg_put(out, " id=\"");
    put_id(out, id);
    svg_put(out, "\"");
}

void svg_figure_begin(JsonBuf *out, const char *id, bool hidden, const char *caption)
{
    svg_put(out, hidden ? "<figure hidden" : "<figure");
    svg_id(out, id);
    svg_put(out, ">");
    if (caption != NULL) {
        svg_put(out, "<figcaption>");
        svg_text(out, caption);
        svg_put(out, "</figcaption>\n");
    }
}

void svg_figure_end(JsonBuf *out)
{
    svg_put(out, "</figure>\n");
}

void svg_begin(JsonBuf *out, int width, double height, const char *label)
{
    json_buf_printf(out, "<svg class=\"plot %s\" viewBox=\"0 0 %d ",
                    width > SVG_SMALL ? "wide" : "small", width);
    svg_number(out, height);
    svg_put(out, "\" role=\"img\" aria-label=\"");
    svg_text(out, label);
    svg_put(out, "\">\n");
}

void svg_end(JsonBuf *out)
{
    svg_put(out, "</svg>\n");
}

void svg_label(JsonBuf *out, double x, double y, SvgAnchor anchor, const char *class_name,
               const char *text)
{
    svg_put(out, "<text x=\"");
    svg_number(out, x);
    svg_put(out, "\" y=\"");
    svg_number(out, y);
    svg_put(out, "\"");
    if (anchor != SVG_START)
        json_buf_printf(out, " text-anchor=\"%s\"", anchor == SVG_MIDDLE ? "middle" : "end");
    if (class_name != NULL)
        json_buf_printf(out, " class=\"%s\"", class_name);
    svg_put(out, ">");
    svg_text(out, text);
    svg_put(out, "</text>\n");
}

void svg_tick_label(JsonBuf *out, double x, double y, int width, double *edge, const char *text)
{
    const double each = width > SVG_SMALL ? SVG_CHAR : SVG_SMALL_CHAR;
    const double half = (double)text_utf8_count(text, strlen(text)) * each / 2;
    const double from = fmax(0.0, fmin(x - half, width - 2 * half));

    if (from < *edge)
        return;
    *edge = from + 2 * half + each / 2;
    if (x - half < 0)
        svg_label(out, 0, y, SVG_START, NULL, text);
    else if (x + half > width)
        svg_label(out, width, y, SVG_END, NULL, text);
    else
        svg_label(out, x, y, SVG_MIDDLE, NULL, text);
}
