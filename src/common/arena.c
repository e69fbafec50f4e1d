/* common/arena.c: one anonymous mapping, handed out front to back.
 *
 * May include: nothing. */
#include "common/arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

/* Size of a large page on the machines this is tuned for; elsewhere it is just an alignment. */
enum { ARENA_HUGE_BYTES = 2 * 1024 * 1024 };

bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;

    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* *out = count * elem_bytes rounded up to ARENA_ALIGN. */
static bool padded_size(size_t count, size_t elem_bytes, size_t *out)
{
    size_t n;

    if (!size_mul(count, elem_bytes, &n) || n > SIZE_MAX - (ARENA_ALIGN - 1))
        return false;
    *out = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    return true;
}

bool arena_plan(size_t *total, size_t count, size_t elem_bytes)
{
    size_t n, sum;

    if (!padded_size(count, elem_bytes, &n) || __builtin_add_overflow(*total, n, &sum))
        return false;
    *total = sum;
    return true;
}

/* Maps size bytes that begin at a large-page boundary: the kernel only backs aligned 2 MiB pieces
 * with large pages, and a matrix that starts in the middle of one would pay for small pages at both
 * ends. */
static unsigned char *map_aligned(size_t size)
{
    const size_t slack = size >= ARENA_HUGE_BYTES ? ARENA_HUGE_BYTES : 0;

    if (size > SIZE_MAX - slack) {
        errno = ENOMEM;
        return NULL;
    }
    unsigned char *p =
        mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return p;

    const size_t skip = (size_t)(-(uintptr_t)p) & (ARENA_HUGE_BYTES - 1);
    if (skip != 0)
        (void)munmap(p, skip);
    if (slack != skip)
        (void)munmap(p + skip + size, slack - skip);
    /* Refused where large pages are switched off; then small pages do. */
    (void)madvise(p + skip, size, MADV_HUGEPAGE);
    return p + skip;
}

/* Where the kernel promises more than it has, it keeps no promise: the process would be killed once
 * it writes to what it got. */
static bool machine_has(size_t size_bytes, size_t *total)
{
    struct sysinfo info;

    if (sysinfo(&info) != 0 ||
        !size_mul((size_t)info.totalram + info.totalswap, info.mem_unit, total))
        return true; /* unknown */
    return size_bytes <= *total;
}

ErrCode arena_init(Arena *a, size_t size_bytes, const char *what, Err *err)
{
    enum { PAGE_MASK = 4096 - 1 };
    Arena made = {NULL, 0, 0};
    size_t total = 0;

    if (size_bytes > SIZE_MAX - PAGE_MASK)
        return err_set(err, ERR_MEMORY, "%s: %zu bytes are more than an address can count", what,
                       size_bytes);
    if (!machine_has(size_bytes, &total))
        return err_set(err, ERR_MEMORY, "%s: needs %zu bytes of memory, this machine has %zu", what,
                       size_bytes, total);
    if (size_bytes > 0) {
        /* Whole pages: otherwise the end of the aligned piece could not be given back exactly. */
        made.size_bytes = (size_bytes + PAGE_MASK) & ~(size_t)PAGE_MASK;
        made.base = map_aligned(made.size_bytes);
        if (made.base == NULL)
            return err_set(err, ERR_MEMORY, "%s: cannot allocate %zu bytes: %s", what, size_bytes,
                           strerror(errno));
    }
    *a = made;
    return ERR_OK;
}

void *arena_alloc(Arena *a, size_t count, size_t elem_bytes)
{
    size_t n;

    if (a->base == NULL || !padded_size(count, elem_bytes, &n) || n > a->size_bytes - a->used_bytes)
        return NULL;
    void *p = a->base + a->used_bytes;
    a->used_bytes += n;
    return p;
}

void arena_touch(Arena *a, size_t from, size_t n_bytes)
{
    enum { PAGE_BYTES = 4096 };
    const size_t left = from < a->size_bytes ? a->size_bytes - from : 0;
    const size_t n = n_bytes < left ? n_bytes : left;

    for (size_t i = 0; i < n; i += PAGE_BYTES) {
        volatile unsigned char *p = a->base + from + i;

        *p = *p;
    }
}

void arena_free(Arena *a)
{
    if (a->base != NULL)
        (void)munmap(a->base, a->size_bytes);
    *a = (Arena){NULL, 0, 0};
}
