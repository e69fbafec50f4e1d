/* checkpoint/error_chart.h: a comparison made ready for drawing: names of the decades of its
 * histogram, its error map with the whole scale used.
 *
 * May include: common, report. */
#ifndef LLORCH_CHECKPOINT_ERROR_CHART_H
#define LLORCH_CHECKPOINT_ERROR_CHART_H

#include <stdint.h>

#include "checkpoint/compare.h"
#include "common/json.h"
#include "report/chart.h"

/* Comparison.decades[i] in a few characters: "equal", "<1e-11", "1e-11" (from there up to the next
 * one), ..., ">=100". */
const char *error_chart_decade(int i);

/* A histogram of log10 |a - b|, of one comparison or, added up, of several. */
typedef struct {
    uint64_t counts[COMPARE_DECADES];
} ErrorHistogram;

void error_chart_add(ErrorHistogram *h, const Comparison *c);

/* The decades to draw: "equal" when there is any, then all from the first to the last of the others
 * that hold something. Returns how many. */
int error_chart_bars(const ErrorHistogram *h, int bars[COMPARE_DECADES]);

/* Appends the chart, nothing for an empty one. */
void error_chart_histogram(JsonBuf *out, const char *caption, const ErrorHistogram *h);

enum { ERROR_HEAT_LABEL_BYTES = 32, ERROR_HEAT_DECADES = 3 };

/* A map whose largest error has the strongest shade, and errors ERROR_HEAT_DECADES below it, or the
 * least ones, the faintest. */
typedef struct {
    int rows, columns;             /* 0 when there is no map */
    int whole_rows, whole_columns; /* of the tensors, 0: unknown */
    uint8_t cells[COMPARE_MAP_ROWS * COMPARE_MAP_COLUMNS];
    char low[ERROR_HEAT_LABEL_BYTES];    /* what the faintest shade means: "1.2e-9"; "": there is
                                            no more than one shade */
    char bottom[ERROR_HEAT_LABEL_BYTES]; /* "equal, 1.2e-9": what is left blank, and low */
    char top[ERROR_HEAT_LABEL_BYTES];    /* what the strongest shade means */
} ErrorHeat;

/* shape: of the tensors, with or without data; NULL: unknown. */
void error_chart_stretch(ErrorHeat *heat, const CompareMap *map, const CompareView *shape);

/* Halves both sides (where there are two) times times, each cell the largest of those it
 * replaces. */
void error_chart_shrink(ErrorHeat *heat, int times);

/* The same as chart.h draws it. The chart borrows heat and caption. */
ChartHeat error_chart_heat(const ErrorHeat *heat, const char *caption, const char *id);

#endif
