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

/* The decades to draw: from *first to *last, all that hold anything. With no element at all both
 * are 0. */
void error_chart_range(const Comparison *c, int *first, int *last);

/* Appends the histogram of log10 |a - b|. */
void error_chart_histogram(JsonBuf *out, const char *caption, const Comparison *c);

enum { ERROR_HEAT_LABEL_BYTES = 16 };

/* A map whose largest error has the strongest shade. */
typedef struct {
    int rows, columns; /* 0 when there is no map */
    uint8_t cells[COMPARE_MAP_ROWS * COMPARE_MAP_COLUMNS];
    char top[ERROR_HEAT_LABEL_BYTES]; /* what the strongest shade means: "1.2e-06" */
} ErrorHeat;

void error_chart_stretch(ErrorHeat *heat, const CompareMap *map);

/* The same as chart.h draws it. The chart borrows heat and caption. */
ChartHeat error_chart_heat(const ErrorHeat *heat, const char *caption, const char *id);

#endif
