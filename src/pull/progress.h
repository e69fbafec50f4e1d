/* pull/progress.h: what a person sees of a download, on standard error: a bar that is drawn over at
 * most ten times a second on a terminal, else a line for every 5 %; and notes.
 *
 * May include: common. */
#ifndef LLORCH_PULL_PROGRESS_H
#define LLORCH_PULL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum { PROGRESS_SIZE_BYTES = 24 };

typedef struct {
    bool quiet, terminal;
    const char *name; /* of the file; borrowed */
    uint64_t have;    /* what was there before */
    uint64_t size;    /* 0: unknown */
    uint64_t start_ms, drawn_ms;
    int percent; /* of the last line */
    bool shown;  /* a bar stands on the terminal */
} Progress;

void progress_open(Progress *p, bool quiet);

/* A file begins, of which have bytes are there. */
void progress_begin(Progress *p, const char *name, uint64_t have, uint64_t size);

/* done bytes are there now. */
void progress_show(Progress *p, uint64_t done);

/* Its last line: all is there. */
void progress_end(Progress *p, uint64_t size);

/* Removes the bar, before anything else is written. */
void progress_clear(Progress *p);

/* A line of its own, control characters in it escaped; nothing when quiet. */
void progress_note(Progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "548.1 MB", in thousands as other programs of the hub count. */
const char *progress_size(char out[PROGRESS_SIZE_BYTES], uint64_t bytes);

#endif
