/* tests/stop_rig.h: what stop strings do to a text: the definition, read off the whole text. */
#ifndef LLORCH_TESTS_STOP_RIG_H
#define LLORCH_TESTS_STOP_RIG_H

#include <stddef.h>
#include <string.h>

#include "backend/backend.h"

/* What may be sent of a text, and which string ended it. */
typedef struct {
    size_t n_out;
    int matched;
} Cut;

static inline Cut naive_cut(const char *text, size_t n, const BackendText *stops, int n_stops)
{
    for (size_t end = 1; end <= n; end++)
        for (int i = 0; i < n_stops; i++)
            if (stops[i].n_bytes <= end &&
                memcmp(text + end - stops[i].n_bytes, stops[i].text, stops[i].n_bytes) == 0)
                return (Cut){end - stops[i].n_bytes, i};
    return (Cut){n, -1};
}

/* How many bytes at the end of text could be the beginning of a stop string. */
static inline size_t naive_held(const char *text, size_t n, const BackendText *stops, int n_stops)
{
    for (size_t len = n; len > 0; len--)
        for (int i = 0; i < n_stops; i++)
            if (len < stops[i].n_bytes && memcmp(text + n - len, stops[i].text, len) == 0)
                return len;
    return 0;
}

#endif
