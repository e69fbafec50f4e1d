/* backend/stop_matcher.h: stop strings over the text of a job, across token borders, never leaked.
 *
 * Text goes in as it is decoded; what comes out may be sent. What could be the beginning of a stop
 * string is held until it is clear that it is none. The string whose end comes first wins, then the
 * order of the list (worker contract 6.5).
 *
 * May include: common, backend. */
#ifndef LLORCH_BACKEND_STOP_MATCHER_H
#define LLORCH_BACKEND_STOP_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/error.h"

enum { STOP_MAX_BYTES = 4 * BACKEND_MAX_STOP_CHARS };

/* One stop string and how much of it the text ends with. */
typedef struct {
    char text[STOP_MAX_BYTES];
    uint16_t border[STOP_MAX_BYTES]; /* [i]: longest proper prefix that text[0..i] also ends with */
    size_t n_bytes;
    size_t n_matched; /* text[0..n_matched) is the end of what was pushed */
} StopString;

typedef struct {
    StopString stops[BACKEND_MAX_STOPS];
    int n_stops;
    int matched;               /* index of the string that was found, -1 */
    char held[STOP_MAX_BYTES]; /* pushed and not given out yet */
    size_t n_held;
} StopMatcher;

/* Copies the strings; nothing held, nothing matched.
 * Errors: ERR_LIMIT when there are more than BACKEND_MAX_STOPS, one is empty or longer than
 * BACKEND_MAX_STOP_CHARS; ERR_FORMAT when one is not valid UTF-8. */
ErrCode stop_matcher_init(StopMatcher *m, const BackendText *stops, int n_stops,
                          Err *err) ERR_CHECK;

/* Takes text[0..n), whole characters, and writes to out (room for STOP_MAX_BYTES + n) what may be
 * sent now; returns its length. Sets matched when a stop string is complete: out then ends before
 * it, the rest of the text is dropped, and further pushes give nothing. Numbers O(n). */
size_t stop_matcher_push(StopMatcher *m, const char *text, size_t n, char *out);

/* The text is over: writes what was held (room for STOP_MAX_BYTES); nothing after a match. */
size_t stop_matcher_flush(StopMatcher *m, char *out);

#endif
