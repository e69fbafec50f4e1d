/* profile/memory.c: see memory.h.
 *
 * May include: common. */
#include "profile/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

const char *memory_stage_name(int stage)
{
    switch (stage) {
    case MEMORY_LOAD:
        return "load";
    case MEMORY_VOCABULARY:
        return "load tokenizer";
    case MEMORY_BUFFERS:
        return "buffers";
    default:
        return profile_part_name(stage);
    }
}

/* Fields of /proc/self/statm, in pages; not through stdio, which would allocate. */
enum { STATM_RESIDENT = 1, STATM_DATA = 5, STATM_FIELDS = 7, STATM_BYTES = 256 };

static bool read_statm(const Memory *m, uint64_t fields[STATM_FIELDS])
{
    char text[STATM_BYTES];
    const ssize_t n = m->statm >= 0 ? pread(m->statm, text, sizeof text - 1, 0) : -1;
    char *at = text;

    if (n <= 0)
        return false;
    text[n] = '\0';
    for (int i = 0; i < STATM_FIELDS; i++)
        fields[i] = strtoull(at, &at, 10);
    return true;
}

/* Bytes that malloc has given out and not got back, and what is mapped beside its heap: data of the
 * program, arenas, the stack. */
static uint64_t look(const Memory *m, uint64_t *resident)
{
    const struct mallinfo2 heap = mallinfo2();
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t used = heap.uordblks + heap.hblkhd, taken = heap.arena + heap.hblkhd;
    uint64_t fields[STATM_FIELDS], mapped = 0;

    *resident = 0;
    if (read_statm(m, fields)) {
        *resident = fields[STATM_RESIDENT] * page;
        mapped = fields[STATM_DATA] * page;
    }
    return used + (mapped > taken ? mapped - taken : 0);
}

void memory_open(Memory *m)
{
    uint64_t resident;

    *m = (Memory){.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)};
    m->live_bytes = look(m, &resident);
}

void memory_close(Memory *m)
{
    if (m->statm >= 0)
        (void)close(m->statm);
    m->statm = -1;
}

/* The system updates its own figure now and then only. */
static void find_peak(Memory *m, uint64_t resident)
{
    struct rusage usage;
    uint64_t peak = 0;

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        peak = (uint64_t)usage.ru_maxrss * 1024;
    if (resident > peak)
        peak = resident;
    if (peak > m->peak_resident_bytes)
        m->peak_resident_bytes = peak;
}

void memory_look(Memory *m, int stage)
{
    MemoryStage *s = &m->stages[stage];
    const uint64_t before = m->live_bytes;

    m->live_bytes = look(m, &s->resident_bytes);
    s->looks++;
    s->live_bytes = m->live_bytes;
    if (m->live_bytes > s->peak_bytes)
        s->peak_bytes = m->live_bytes;
    if (m->live_bytes > before) {
        s->allocated_bytes += m->live_bytes - before;
        if (m->steady && stage != PROFILE_HTTP)
            m->steady_allocated_bytes += m->live_bytes - before;
    }
    find_peak(m, s->resident_bytes);
}

void memory_skip(Memory *m)
{
    uint64_t resident;

    m->live_bytes = look(m, &resident);
}

static void mark(void *ctx, TapPart part, int layer)
{
    (void)layer;
    memory_look(ctx, (int)part);
}

static bool pass_yield(void *ctx)
{
    return tap_yield(((const Memory *)ctx)->tap);
}

Tap memory_tap(Memory *m, const Tap *inner)
{
    m->tap = inner;
    return (Tap){.ctx = m, .mark = mark, .yield = pass_yield};
}
