/* tests/test_profile_memory.c: the processor's counter, and what is seen of the process's memory.
 */
#include "profile_rig.h"

#include <malloc.h>

#include "common/clock.h"
#include "kernels/ticks.h"
#include "profile/memory.h"

#include "quick.h"

/* ---- Clock ---- */

static void ticks_go_with_the_clock(void **state)
{
    TickClock c;
    uint64_t last = 0;

    (void)state;
    ticks_begin(&c);
    assert_true(ticks_now_ns(&c) <= clock_now_ns());
    ticks_calibrate(&c);
    for (int i = 0; i < 100000; i++) {
        const uint64_t now = ticks_now_ns(&c);

        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < 20; i++) {
        const uint64_t before = clock_now_ns(), now = ticks_now_ns(&c), after = clock_now_ns();

        /* A thousandth of the time since the beginning, for the rate. */
        const uint64_t slack = (after - c.ns) / 1000 + 2000;
        assert_true(now + slack >= before && now <= after + slack);
    }
}

/* ---- Memory ---- */

static void memory_is_seen(void **state)
{
    enum { MB = 1 << 20 };
    Memory m;
    Arena arena;
    Err err = {0};

    (void)state;
    if (in_valgrind()) {
        print_message("# valgrind's own memory moves\n");
        skip();
    }
    memory_open(&m);
    memory_look(&m, MEMORY_LOAD); /* whatever the first look needs */
    const uint64_t before = m.live_bytes;
    if (m.stages[MEMORY_LOAD].resident_bytes == 0) {
        print_message("/proc/self/statm cannot be read here\n");
        memory_close(&m);
        return;
    }
    assert_int_equal(arena_init(&arena, 32 * MB, "test", &err), ERR_OK);
    memory_look(&m, MEMORY_BUFFERS);
    assert_true(m.live_bytes >= before + 32 * MB && m.live_bytes < before + 64 * MB);
    assert_true(m.stages[MEMORY_BUFFERS].allocated_bytes >= 32 * MB);
    arena_free(&arena);
    memory_look(&m, TAP_PART_QKV);
    assert_true(m.live_bytes < before + 32 * MB);
    assert_int_equal(m.stages[TAP_PART_QKV].allocated_bytes, 0);
    assert_true(m.peak_resident_bytes >= m.stages[MEMORY_BUFFERS].resident_bytes);
    if (mallinfo2().uordblks > 0) { /* the sanitizers have an allocator of their own */
        void *p = malloc(3000);

        assert_non_null(p);
        m.steady = true;
        memory_look(&m, PROFILE_SAMPLING);
        assert_in_range(m.stages[PROFILE_SAMPLING].allocated_bytes, 3000, 3100);
        assert_in_range(m.steady_allocated_bytes, 3000, 3100);
        free(p);
    }
    memory_close(&m);
}

/* The model's own work allocates nothing, part by part. */
static void a_pass_allocates_nothing(void **state)
{
    Gpt2 m;
    Gpt2Run run;
    Memory memory;
    int32_t ids[CONTEXT];
    Err err = {0};

    (void)state;
    make(&m, "2,2,64,40,300", KERN_F16);
    make_run(&run, &m, KERN_F32);
    make_ids(ids, CONTEXT, &m);
    memory_open(&memory);
    const Tap tap = memory_tap(&memory, NULL);
    assert_int_equal(gpt2_prefill(&run, ids, 22, 10, &tap, &err), ERR_OK);
    memory.steady = true;
    memory_skip(&memory);
    for (int i = 22; i < CONTEXT; i++)
        assert_int_equal(gpt2_forward(&run, ids + i, 1, true, &tap, &err), ERR_OK);
    assert_int_equal(memory.stages[TAP_PART_PROJ].looks, 2 * (3 + CONTEXT - 22));
    if (mallinfo2().uordblks > 0)
        assert_int_equal(memory.steady_allocated_bytes, 0);
    memory_close(&memory);
    gpt2_run_free(&run);
    gpt2_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_go_with_the_clock),
        cmocka_unit_test(memory_is_seen),
        cmocka_unit_test(a_pass_allocates_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
