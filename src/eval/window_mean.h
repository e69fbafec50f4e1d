/* eval/window_mean.h: the mean of a value over all tokens of a text, and how far chance may have
 * moved it.
 *
 * May include: nothing. */
#ifndef LLORCH_EVAL_WINDOW_MEAN_H
#define LLORCH_EVAL_WINDOW_MEAN_H

#include <stddef.h>

/* Zeroed: empty. */
typedef struct {
    double sum;      /* of all values */
    size_t n;        /* how many */
    double window;   /* of the window that is open */
    size_t n_window; /* how many */
    /* Of the windows that were closed: value and count of each, squared and multiplied. */
    double value_value, value_count, count_count;
    size_t n_windows;
} WindowMean;

void window_mean_add(WindowMean *m, double value);

/* Closes a window; one without values does not count. */
void window_mean_end(WindowMean *m);

double window_mean_value(const WindowMean *m); /* NaN when there is none */

/* Standard error of the mean over the closed windows, taken as independent draws of several tokens
 * each (neighbouring tokens are not independent, so the spread of single ones would promise too
 * much). NaN with fewer than two windows.
 *
 * Source  the ratio estimator of cluster sampling: Cochran, Sampling Techniques, 3rd ed., 2.46 */
double window_mean_error(const WindowMean *m);

#endif
