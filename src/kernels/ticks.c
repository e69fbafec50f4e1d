/* kernels/ticks.c: see ticks.h.
 *
 * May include: common. */
#include "kernels/ticks.h"

#include <stdbool.h>

#include "common/clock.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* No fence: a few instructions more or less before the reading do not matter. */
static uint64_t read_counter(void)
{
    return __builtin_ia32_rdtsc();
}

/* CPUID 8000_0007h, EDX bit 8: the counter's rate does not depend on power states. */
static bool has_counter(void)
{
    unsigned a, b, c, d = 0;

    return __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
}
#else
static uint64_t read_counter(void)
{
    return 0;
}

static bool has_counter(void)
{
    return false;
}
#endif

enum { TRIES = 8, BASE_NS = 5 * 1000 * 1000 };

/* Both clocks at one moment: of some tries the one with the least time between. */
static void read_both(uint64_t *ticks, uint64_t *ns)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = clock_now_ns(), now = read_counter(), after = clock_now_ns();

        if (after - before < least) {
            least = after - before;
            *ticks = now;
            *ns = before + least / 2;
        }
    }
}

void ticks_begin(TickClock *c)
{
    c->rate = 0;
    read_both(&c->ticks, &c->ns);
}

void ticks_calibrate(TickClock *c)
{
    uint64_t ticks = 0, ns = 0;

    if (!has_counter())
        return;
    while (clock_now_ns() - c->ns < BASE_NS)
        ;
    read_both(&ticks, &ns);
    if (ticks > c->ticks)
        c->rate = (uint64_t)(((unsigned __int128)(ns - c->ns) << 32) /
                             (unsigned __int128)(ticks - c->ticks));
}

uint64_t ticks_now_ns(const TickClock *c)
{
    if (c->rate == 0)
        return clock_now_ns();
    return c->ns + (uint64_t)(((unsigned __int128)(read_counter() - c->ticks) * c->rate) >> 32);
}
