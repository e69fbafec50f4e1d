/* checkpoint/error_chart.c: see error_chart.h.
 *
 * May include: common, report. */
#include "checkpoint/error_chart.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *error_chart_decade(int i)
{
    static const char *const names[COMPARE_DECADES] = {
        "equal", "<1e-11", "1e-11", "1e-10", "1e-9", "1e-8", "1e-7", "1e-6",
        "1e-5",  "1e-4",   "1e-3",  "0.01",  "0.1",  "1",    "10",   ">=100"};

    return names[i];
}

void error_chart_add(ErrorHistogram *h, const Comparison *c)
{
    for (int i = 0; i < COMPARE_DECADES; i++)
        h->counts[i] += c->decades[i];
}

int error_chart_bars(const ErrorHistogram *h, int bars[COMPARE_DECADES])
{
    int first = 1, last = COMPARE_DECADES - 1, n = 0;

    while (last > 0 && h->counts[last] == 0)
        last--;
    while (first < last && h->counts[first] == 0)
        first++;
    if (h->counts[0] > 0)
        bars[n++] = 0;
    for (int i = first; i <= last; i++)
        bars[n++] = i;
    return n;
}

void error_chart_histogram(JsonBuf *out, const char *caption, const ErrorHistogram *h)
{
    const char *names[COMPARE_DECADES];
    uint64_t counts[COMPARE_DECADES];
    int bars[COMPARE_DECADES];
    const int n = error_chart_bars(h, bars);

    for (int i = 0; i < n; i++) {
        names[i] = error_chart_decade(bars[i]);
        counts[i] = h->counts[bars[i]];
    }
    if (n > 0)
        chart_histogram(out, caption, names, counts, n);
}

static void set_whole(ErrorHeat *heat, const CompareView *shape)
{
    const size_t n = shape != NULL ? compare_count(shape) : 0;
    const size_t columns = n > 0 && shape->n_dims > 0 ? shape->dims[shape->n_dims - 1] : 1;

    /* Sizes are labels here; more than an int are not drawn. */
    if (n == 0 || n > INT_MAX)
        return;
    heat->whole_columns = (int)columns;
    heat->whole_rows = (int)(n / columns);
}

/* What a cell of compare_map stands for: "1.2e-9"; 1 is 1e-9 and less, 255 is 1 and more. */
static void cell_text(char out[ERROR_HEAT_LABEL_BYTES], int cell)
{
    const double error = pow(10.0, (cell - 1) * 9.0 / 254.0 - 9.0);
    const int exponent = (int)floor(log10(error) + 1e-9);

    if (cell == 255)
        (void)snprintf(out, ERROR_HEAT_LABEL_BYTES, "1 or more");
    else
        (void)snprintf(out, ERROR_HEAT_LABEL_BYTES, "%.1fe%d", error / pow(10.0, exponent),
                       exponent);
}

static void set_labels(ErrorHeat *heat, int least, int most)
{
    if (most > least)
        cell_text(heat->low, least);
    (void)snprintf(heat->bottom, sizeof heat->bottom, most > least ? "equal, %.16s" : "equal",
                   heat->low);
    if (most == 0)
        (void)snprintf(heat->top, sizeof heat->top, "no error");
    else
        cell_text(heat->top, most);
}

void error_chart_stretch(ErrorHeat *heat, const CompareMap *map, const CompareView *shape)
{
    enum { SPAN = ERROR_HEAT_DECADES * 254 / 9 };
    const int n = map->rows * map->columns;
    int least = 255, most = 0;

    *heat = (ErrorHeat){.rows = map->rows, .columns = map->columns};
    set_whole(heat, shape);
    for (int i = 0; i < n; i++) {
        const int cell = map->cells[i];

        most = cell > most ? cell : most;
        least = cell > 0 && cell < least ? cell : least;
    }
    least = most - least > SPAN ? most - SPAN : least;
    for (int i = 0; i < n; i++) {
        const int above = map->cells[i] - least;

        if (map->cells[i] > 0)
            heat->cells[i] = (uint8_t)(most == least ? 255
                                       : above <= 0  ? 1
                                                     : 1 + above * 254 / (most - least));
    }
    set_labels(heat, least, most);
}

static void halve(ErrorHeat *heat)
{
    const int columns = (heat->columns + 1) / 2, rows = (heat->rows + 1) / 2;
    ErrorHeat small = *heat;

    memset(small.cells, 0, sizeof small.cells);
    for (int i = 0; i < heat->rows * heat->columns; i++) {
        const int row = i / heat->columns / 2, column = i % heat->columns / 2;
        uint8_t *cell = &small.cells[row * columns + column];

        *cell = heat->cells[i] > *cell ? heat->cells[i] : *cell;
    }
    small.rows = rows;
    small.columns = columns;
    *heat = small;
}

void error_chart_shrink(ErrorHeat *heat, int times)
{
    for (int i = 0; i < times; i++)
        halve(heat);
}

ChartHeat error_chart_heat(const ErrorHeat *heat, const char *caption, const char *id)
{
    return (ChartHeat){.caption = caption,
                       .row_label = "other axes",
                       .column_label = "last axis",
                       .label_0 = heat->bottom,
                       .label_255 = heat->top,
                       .id = id,
                       .cells = heat->cells,
                       .rows = heat->rows,
                       .columns = heat->columns,
                       .whole_rows = heat->whole_rows,
                       .whole_columns = heat->whole_columns};
}
