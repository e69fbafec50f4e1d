/* tests/fault_memory.h: allocations that fail on purpose, and a count of what is still held, so
 * that a leak is seen without a leak sanitizer too.
 *
 * A program that includes this is linked with --wrap for malloc and its family, mmap and munmap
 * (Makefile: TEST_LDFLAGS_<name>): calls of our own objects end here. fault_memory_hook sends those
 * of libevent and jansson through the same counters. */
#ifndef TESTS_FAULT_MEMORY_H
#define TESTS_FAULT_MEMORY_H

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);

static struct {
    long n;     /* allocations since fault_memory_arm */
    long first; /* number of the first one that fails; -1: none */
    long count; /* so many fail in a row */
    long n_failed;
    long n_calls; /* allocations and releases seen */
    long live_blocks;
    long live_mapped; /* bytes */
} fault_memory = {.first = -1};

static inline void fault_memory_arm(long first, long count)
{
    fault_memory.n = 0;
    fault_memory.n_failed = 0;
    fault_memory.first = first;
    fault_memory.count = count;
}

static inline void fault_memory_disarm(void)
{
    fault_memory.first = -1;
}

/* A place for a debugger's breakpoint: the backtrace shows whose allocation it is. */
static __attribute__((noinline)) void fault_memory_failed(void)
{
    fault_memory.n_failed++;
}

static inline bool fault_memory_denied(void)
{
    const long n = fault_memory.n++;

    fault_memory.n_calls++;
    if (fault_memory.first < 0 || n < fault_memory.first ||
        n - fault_memory.first >= fault_memory.count)
        return false;
    fault_memory_failed();
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    void *p = fault_memory_denied() ? NULL : __real_malloc(size);

    fault_memory.live_blocks += p != NULL;
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    void *p = fault_memory_denied() ? NULL : __real_calloc(n, size);

    fault_memory.live_blocks += p != NULL;
    return p;
}

void *__wrap_realloc(void *p, size_t size)
{
    void *q = fault_memory_denied() ? NULL : __real_realloc(p, size);

    fault_memory.live_blocks += p == NULL && q != NULL;
    return q;
}

void __wrap_free(void *p)
{
    fault_memory.n_calls++;
    fault_memory.live_blocks -= p != NULL;
    __real_free(p);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    void *p = fault_memory_denied() ? MAP_FAILED : __real_mmap(at, size, prot, flags, fd, offset);

    fault_memory.live_mapped += p != MAP_FAILED ? (long)size : 0;
    return p;
}

int __wrap_munmap(void *at, size_t size)
{
    fault_memory.n_calls++;
    fault_memory.live_mapped -= (long)size;
    return __real_munmap(at, size);
}

/* Before the first use of either library. */
static inline void fault_memory_hook(void)
{
    event_set_mem_functions(__wrap_malloc, __wrap_realloc, __wrap_free);
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
}

#endif
