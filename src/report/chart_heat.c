/* report/chart_heat.c: heat maps, one or a choice of them.
 *
 * May include: common. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/svg.h"

enum { HEAT_LEVELS = 16, HEAT_LEFT = 52, HEAT_RIGHT = 10, HEAT_TOP = 24, HEAT_FOOT = 42 };

/* Where a map lies and how large its cells are. */
typedef struct {
    int width;
    double cell_width, cell_height;
    double length, height; /* of all */
} HeatRoom;

/* Cells are square where that fits; a map of few rows or of many is stretched to be readable. */
static HeatRoom room_of(const ChartHeat *heat)
{
    const int columns = heat->columns > 0 ? heat->columns : 1,
              rows = heat->rows > 0 ? heat->rows : 1;
    HeatRoom room = {.width = columns > rows + rows / 2 ? SVG_WIDE : SVG_SMALL};

    room.cell_width = fmin((double)(room.width - HEAT_LEFT - HEAT_RIGHT) / columns, 32.0);
    room.cell_height = fmin(room.cell_width, 0.9 * room.width / rows);
    room.cell_height = fmax(room.cell_height, fmin(16.0, 120.0 / rows));
    room.length = room.cell_width * columns;
    room.height = room.cell_height * rows;
    return room;
}

/* 0 is no colour; 1 to 255 share the levels 1 to 16 equally. */
static int level_of(uint8_t cell)
{
    return (cell * HEAT_LEVELS + 254) / 255;
}

/* The cells of one level as strokes one cell high: neighbours in a row share one. */
static void put_level(JsonBuf *out, const ChartHeat *heat, int level)
{
    bool any = false;

    for (int r = 0; r < heat->rows; r++) {
        const uint8_t *row = heat->cells + (size_t)r * (size_t)heat->columns;

        for (int c = 0, end; c < heat->columns; c = end) {
            for (end = c + 1; end < heat->columns && level_of(row[end]) == level_of(row[c]);)
                end++;
            if (level_of(row[c]) != level)
                continue;
            if (!any)
                json_buf_printf(out, "<path class=\"h%d\" d=\"", level);
            any = true;
            json_buf_printf(out, "M%d %dh%d", c, r, end - c);
        }
    }
    if (any)
        svg_put(out, "\"/>\n");
}

static void put_hex(JsonBuf *out, const ChartHeat *heat)
{
    static const char digits[] = "0123456789abcdef";
    const size_t n = (size_t)heat->rows * (size_t)heat->columns;

    for (size_t i = 0; i < n; i++) {
        const char pair[2] = {digits[heat->cells[i] >> 4], digits[heat->cells[i] & 15]};

        json_buf_add(out, pair, 2);
    }
}

/* Numbers of columns below the map, of rows beside it: 0, then round steps. */
static void put_ticks(JsonBuf *out, const HeatRoom *room, int n, double length, bool of_rows)
{
    const double apart = of_rows ? 26.0 : 60.0; /* as near as two numbers may stand */
    const double step = fmax(axis_nice(n * apart / fmax(length, 1.0)), 1.0);
    double edge = 0.0;
    char text[SVG_TEXT_BYTES];

    for (int k = 0; k * step < n; k++) {
        const double at = length * (k * step + 0.5) / n;

        (void)snprintf(text, sizeof text, "%.0f", k * step);
        if (of_rows)
            svg_label(out, HEAT_LEFT - 6, HEAT_TOP + at + 4.5, SVG_END, NULL, text);
        else
            svg_tick_label(out, HEAT_LEFT + at, HEAT_TOP + room->height + 17, room->width, &edge,
                           text);
    }
}

static void put_cells(JsonBuf *out, const ChartHeat *heat, const HeatRoom *room, bool drawn)
{
    /* Moved down by half a cell, so that row r is the stroke at y = r. */
    svg_put(out, "<g class=\"cells\" transform=\"translate(");
    json_buf_printf(out, "%d %.4f) scale(%.5f %.5f)\"", HEAT_LEFT, HEAT_TOP + room->cell_height / 2,
                    room->cell_width, room->cell_height);
    if (!drawn) {
        json_buf_printf(out, " data-columns=\"%d\" data-hex=\"", heat->columns);
        put_hex(out, heat);
        svg_put(out, "\"");
    }
    svg_put(out, ">\n");
    for (int level = 1; drawn && level <= HEAT_LEVELS; level++)
        put_level(out, heat, level);
    svg_put(out, "</g>\n");
}

static void put_scale(JsonBuf *out, const ChartHeat *heat)
{
    svg_put(out, "<p class=\"scale\"><span>");
    svg_text(out, heat->label_0);
    svg_put(out,
            "</span> <svg viewBox=\"-1 -.6 18 1.2\" preserveAspectRatio=\"none\" class=\"cells\""
            " aria-hidden=\"true\">");
    for (int level = 1; level <= HEAT_LEVELS; level++)
        json_buf_printf(out, "<path class=\"h%d\" d=\"M%d 0h1\"/>", level, level);
    svg_put(out, "<path class=\"ends\" d=\"M0-.5h17v1h-17z\"/></svg> <span>");
    svg_text(out, heat->label_255);
    svg_put(out, "</span></p>\n");
}

/* drawn: the cells as paths; else as text, for the script of a choice. */
static void put_map(JsonBuf *out, const ChartHeat *heat, bool drawn)
{
    const HeatRoom room = room_of(heat);
    const int rows = heat->whole_rows > 0 ? heat->whole_rows : heat->rows;
    const int columns = heat->whole_columns > 0 ? heat->whole_columns : heat->columns;

    svg_begin(out, room.width, HEAT_TOP + room.height + HEAT_FOOT, heat->caption);
    if (heat->row_label != NULL)
        svg_label(out, 0, 14, SVG_START, "name", heat->row_label);
    put_ticks(out, &room, rows, room.height, true);
    put_ticks(out, &room, columns, room.length, false);
    if (heat->column_label != NULL)
        svg_label(out, HEAT_LEFT + room.length / 2, HEAT_TOP + room.height + 36, SVG_MIDDLE, "name",
                  heat->column_label);
    put_cells(out, heat, &room, drawn);
    svg_put(out, "<path class=\"frame\" d=\"");
    json_buf_printf(out, "M%d %dh%.2fv%.2fh%.2fz\"/>\n", HEAT_LEFT, HEAT_TOP, room.length,
                    room.height, -room.length);
    svg_end(out);
    put_scale(out, heat);
}

void chart_heat(JsonBuf *out, const ChartHeat *heat)
{
    svg_figure_begin(out, heat->id, false, heat->caption);
    put_map(out, heat, true);
    svg_figure_end(out);
}

/* The list itself is made by the script: who has no scripts sees no list that does nothing. All
 * text it shows comes from the figures' captions, as text. */
static const char choice_script[] =
    "<script>(function(){\n"
    "var d=document,r=d.currentScript.parentNode,f=r.querySelectorAll('figure'),"
    "l=d.createElement('label'),s=d.createElement('select'),i,o;\n"
    "function level(t,i){return(parseInt(t.substr(2*i,2),16)*16+254)/255|0}\n"
    "function draw(g){var t=g.getAttribute('data-hex'),w=+g.getAttribute('data-columns'),p=[],"
    "i,j,v,e;\n"
    "if(!t)return;\n"
    "for(i=0;i<t.length/2;i=j){v=level(t,i);for(j=i+1;j%w&&level(t,j)==v;)j++;"
    "if(v)p[v]=(p[v]||'')+'M'+i%w+' '+(i/w|0)+'h'+(j-i)}\n"
    "for(v in p){e=d.createElementNS(g.namespaceURI,'path');e.setAttribute('class','h'+v);"
    "e.setAttribute('d',p[v]);g.appendChild(e)}\n"
    "g.removeAttribute('data-hex')}\n"
    "for(i=0;i<f.length;i++){o=d.createElement('option');"
    "o.textContent=f[i].querySelector('figcaption').textContent;s.appendChild(o)}\n"
    "s.onchange=function(){for(i=0;i<f.length;i++)f[i].hidden=i!=s.selectedIndex;"
    "draw(f[s.selectedIndex].querySelector('g.cells'))};\n"
    "l.textContent=r.getAttribute('data-label');l.appendChild(s);r.insertBefore(l,r.firstChild)\n"
    "})()</script>\n";

void chart_choice_begin(JsonBuf *out, const char *id, const char *label, const ChartHeat *first)
{
    svg_put(out, "<div class=\"choice\"");
    svg_id(out, id);
    svg_put(out, " data-label=\"");
    svg_text(out, label);
    svg_put(out, "\">\n");
    chart_heat(out, first);
}

void chart_choice_add(JsonBuf *out, const ChartHeat *heat)
{
    svg_figure_begin(out, heat->id, true, heat->caption);
    put_map(out, heat, false);
    svg_figure_end(out);
}

void chart_choice_end(JsonBuf *out)
{
    svg_put(out, choice_script);
    svg_put(out, "</div>\n");
}
