/* checkpoint/error_chart.c: see error_chart.h.
 *
 * May include: common, report. */
#include "checkpoint/error_chart.h"

#include <math.h>
#include <stdio.h>

const char *error_chart_decade(int i)
{
    static const char *const names[COMPARE_DECADES] = {
        "equal", "<1e-11", "1e-11", "1e-10", "1e-9", "1e-8", "1e-7", "1e-6",
        "1e-5",  "1e-4",   "1e-3",  "0.01",  "0.1",  "1",    "10",   ">=100"};

    return names[i];
}

void error_chart_range(const Comparison *c, int *first, int *last)
{
    *first = 0;
    *last = 0;
    for (int i = COMPARE_DECADES - 1; i >= 0; i--)
        if (c->decades[i] > 0)
            *first = i;
    for (int i = 0; i < COMPARE_DECADES; i++)
        if (c->decades[i] > 0)
            *last = i;
}

void error_chart_histogram(JsonBuf *out, const char *caption, const Comparison *c)
{
    const char *names[COMPARE_DECADES];
    uint64_t counts[COMPARE_DECADES];
    int first, last;

    error_chart_range(c, &first, &last);
    for (int i = first; i <= last; i++) {
        names[i - first] = error_chart_decade(i);
        counts[i - first] = c->decades[i];
    }
    chart_histogram(out, caption, names, counts, last - first + 1);
}

void error_chart_stretch(ErrorHeat *heat, const CompareMap *map)
{
    const int n = map->rows * map->columns;
    int most = 0;

    *heat = (ErrorHeat){.rows = map->rows, .columns = map->columns};
    for (int i = 0; i < n; i++)
        most = map->cells[i] > most ? map->cells[i] : most;
    for (int i = 0; i < n; i++)
        if (map->cells[i] > 0)
            heat->cells[i] = (uint8_t)(most > 1 ? 1 + (map->cells[i] - 1) * 254 / (most - 1) : 255);
    /* compare_map: 1 is 1e-9 and less, 255 is 1 and more. */
    if (most == 0)
        snprintf(heat->top, sizeof heat->top, "no error");
    else if (most == 255)
        snprintf(heat->top, sizeof heat->top, "1 or more");
    else
        snprintf(heat->top, sizeof heat->top, "%.1e", pow(10.0, (most - 1) * 9.0 / 254.0 - 9.0));
}

ChartHeat error_chart_heat(const ErrorHeat *heat, const char *caption, const char *id)
{
    return (ChartHeat){.caption = caption,
                       .row_label = "all other axes",
                       .column_label = "last axis",
                       .label_0 = "equal",
                       .label_255 = heat->top,
                       .id = id,
                       .cells = heat->cells,
                       .rows = heat->rows,
                       .columns = heat->columns};
}
