/* profile/memory.h: what memory a request takes, stage by stage, in a run of its own: looking takes
 * longer than most parts do.
 *
 * A stage ends with a look at the heap (mallinfo2) and at the memory that the system has mapped for
 * this process (/proc/self/statm). What is allocated and freed again between two looks is not seen.
 *
 * May include: common. */
#ifndef LLORCH_PROFILE_MEMORY_H
#define LLORCH_PROFILE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/tap.h"
#include "profile/profile.h"

/* Stages before the request, beside its parts. */
enum {
    MEMORY_LOAD = PROFILE_PARTS, /* the model's weights */
    MEMORY_VOCABULARY,           /* the tokenizer's tables */
    MEMORY_BUFFERS,              /* cache, activations, all other room for a request */
    MEMORY_STAGES
};

/* "load"; else as profile_part_name. */
const char *memory_stage_name(int stage);

typedef struct {
    uint64_t looks;                      /* 0: the stage was not reached */
    uint64_t allocated_bytes;            /* by how much heap and mappings grew, added up */
    uint64_t peak_bytes;                 /* largest live_bytes at a look */
    uint64_t live_bytes, resident_bytes; /* at the last look */
} MemoryStage;

typedef struct {
    const Tap *tap;
    int statm; /* file descriptor, -1: the system does not say */
    uint64_t live_bytes;
    MemoryStage stages[MEMORY_STAGES];
    bool steady;                     /* the first token is out */
    uint64_t steady_allocated_bytes; /* since then, http left out */
    uint64_t peak_resident_bytes;
} Memory;

/* The first look. Memory: memory_close. */
void memory_open(Memory *m);
void memory_close(Memory *m);

/* A stage ends, or goes on. */
void memory_look(Memory *m, int stage);

/* Takes growth since the last look as nobody's. */
void memory_skip(Memory *m);

/* Hooks for gpt2_forward: a look after each part, and the yield of inner (borrowed; may be NULL).
 */
Tap memory_tap(Memory *m, const Tap *inner);

#endif
