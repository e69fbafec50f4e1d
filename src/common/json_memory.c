/* common/json_memory.c: see json_memory.h.
 *
 * May include: nothing. */
#include "common/json_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE_BYTES = 64, /* input handed over at once, so at most this follows a failure */
    RESERVE_BASE_BYTES = 32 * 1024, /* what that many one-byte values take, several times over */
    /* The token's buffer doubles until the token fits: less than 4 of its lengths while the old
     * one is copied; its value is one more, a key that is stored yet another. */
    RESERVE_TOKENS = 8,
    ALIGN_BYTES = 16
};

/* Global because jansson's functions for memory are, and they get no context. In use only while
 * json_memory_load runs. */
static struct {
    json_malloc_t allocate; /* what jansson had before */
    json_free_t release;
    char *reserve;
    size_t size, used;
    bool failed; /* memory ran out in this parse */
} guard;

static void *guarded_allocate(size_t size)
{
    void *p = guard.failed ? NULL : guard.allocate(size);

    if (p != NULL)
        return p;
    guard.failed = true;
    if (size > guard.size - guard.used)
        return NULL;
    p = guard.reserve + guard.used;
    size = (size + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
    guard.used = size < guard.size - guard.used ? guard.used + size : guard.size;
    return p;
}

static void guarded_release(void *p)
{
    const uintptr_t at = (uintptr_t)p, begin = (uintptr_t)guard.reserve;

    if (at < begin || at - begin >= guard.size)
        guard.release(p);
}

typedef struct {
    const char *text;
    size_t n;
} Input;

static size_t next_piece(void *buffer, size_t size, void *ctx)
{
    Input *in = ctx;
    size_t n = in->n < PIECE_BYTES ? in->n : PIECE_BYTES;

    if (guard.failed || in->n == 0)
        return 0;
    if (n > size)
        n = size;
    memcpy(buffer, in->text, n);
    in->text += n;
    in->n -= n;
    return n;
}

json_t *json_memory_load(const char *text, size_t n, size_t longest, size_t flags,
                         json_error_t *error, bool *out_of_memory)
{
    Input in = {text, n};
    json_t *root;

    *out_of_memory = true;
    if (longest > (SIZE_MAX - RESERVE_BASE_BYTES) / RESERVE_TOKENS)
        return NULL;
    guard.size = RESERVE_BASE_BYTES + RESERVE_TOKENS * longest;
    guard.used = 0;
    guard.failed = false;
    guard.reserve = malloc(guard.size); /* nobody touches it while there is memory */
    if (guard.reserve == NULL)
        return NULL;
    json_get_alloc_funcs(&guard.allocate, &guard.release);
    json_set_alloc_funcs(guarded_allocate, guarded_release);
    root = json_load_callback(next_piece, &in, flags, error);
    if (guard.failed && root != NULL) {
        json_decref(root);
        root = NULL;
    }
    json_set_alloc_funcs(guard.allocate, guard.release);
    free(guard.reserve);
    guard.reserve = NULL;
    guard.size = 0;
    *out_of_memory = guard.failed;
    return root;
}
