/* eval/window_mean.c: see window_mean.h.
 *
 * May include: nothing. */
#include "eval/window_mean.h"

#include <math.h>

void window_mean_add(WindowMean *m, double value)
{
    m->sum += value;
    m->n++;
    m->window += value;
    m->n_window++;
}

void window_mean_end(WindowMean *m)
{
    const double count = (double)m->n_window;

    if (m->n_window == 0)
        return;
    m->value_value += m->window * m->window;
    m->value_count += m->window * count;
    m->count_count += count * count;
    m->n_windows++;
    m->window = 0.0;
    m->n_window = 0;
}

double window_mean_value(const WindowMean *m)
{
    return m->n > 0 ? m->sum / (double)m->n : NAN;
}

double window_mean_error(const WindowMean *m)
{
    const double mean = window_mean_value(m), w = (double)m->n_windows;
    double squares;

    if (m->n_windows < 2)
        return NAN;
    /* The sum of (value - mean * count)^2 over the windows; rounding may leave it below zero. */
    squares = m->value_value - 2.0 * mean * m->value_count + mean * mean * m->count_count;
    return sqrt(fmax(squares, 0.0) * w / (w - 1.0)) / (double)m->n;
}
