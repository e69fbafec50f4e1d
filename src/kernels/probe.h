/* kernels/probe.h: what one core of this machine reads and multiplies at most: the yardsticks that
 * bench holds the model against.
 *
 * May include: nothing. */
#ifndef LLORCH_KERNELS_PROBE_H
#define LLORCH_KERNELS_PROBE_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    PROBE_LINEAR,        /* front to back */
    PROBE_STREAMS,       /* four quarters in turn, a cache line of each */
    PROBE_STREAMS_AHEAD, /* the same, each quarter prefetched 1 KiB ahead */
    PROBE_READ_COUNT
} ProbePattern;

enum { PROBE_UNIT_BYTES = 256 }; /* memory is read in multiples of this; alignment: 64 */

typedef struct {
    const char *name; /* of the instruction set */

    /* Reads n_bytes, less what is over after whole multiples of PROBE_UNIT_BYTES. Returns the
     * exclusive or of all their 64-bit words, so that none can be left out. */
    uint64_t (*read[PROBE_READ_COUNT])(const void *p, size_t n_bytes);

    /* rounds * flop_per_round products and sums, in enough independent chains to keep every
     * multiplier busy. Returns a number that depends on all of them. */
    float (*fma)(size_t rounds);
    size_t flop_per_round;
} Probe;

/* Probe i of this machine, the portable one first; NULL past the last. */
const Probe *probe_available(int i);

/* The widest one. */
const Probe *probe_best(void);

#endif
