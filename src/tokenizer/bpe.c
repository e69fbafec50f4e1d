/* tokenizer/bpe.c: merging in two ways with the same result: a plain loop for the short pieces that
 * text is made of, a heap over a linked list for those that somebody made long.
 *
 * May include: nothing. */
#include "tokenizer/bpe.h"

#include <string.h>

/* Up to this many symbols the quadratic loop wins: it touches a few cache lines only. */
enum { BPE_SHORT = 32 };

static int32_t rank_at(const MergeTable *m, const int32_t *ids, size_t n, size_t i)
{
    return i + 1 < n ? merge_table_rank(m, ids[i], ids[i + 1]) : MERGE_NONE;
}

static int32_t lowest(const int32_t *rank, size_t n)
{
    int32_t best = MERGE_NONE;

    for (size_t i = 0; i < n; i++)
        best = rank[i] < best ? rank[i] : best;
    return best;
}

static size_t merge_short(const MergeTable *m, int32_t *ids, size_t n)
{
    int32_t rank[BPE_SHORT];
    int32_t best;

    for (size_t i = 0; i < n; i++)
        rank[i] = rank_at(m, ids, n, i);
    while ((best = lowest(rank, n)) != MERGE_NONE) {
        /* A pair that arises here holds the longer new token, so it cannot be the pair being
         * merged. */
        for (size_t i = 0; i < n; i++) {
            if (rank[i] != best)
                continue;
            n--;
            ids[i] = m->merge[best].result;
            memmove(ids + i + 1, ids + i + 2, (n - i - 1) * sizeof ids[0]);
            memmove(rank + i + 1, rank + i + 2, (n - i - 1) * sizeof rank[0]);
            rank[i] = rank_at(m, ids, n, i);
            if (i > 0)
                rank[i - 1] = rank_at(m, ids, n, i - 1);
        }
    }
    return n;
}

/* A heap entry is rank << 32 | position: the lowest rank first, equal ranks from left to right. An
 * entry is stale when the symbol's rank is another by now. */
static void heap_push(uint64_t *heap, size_t *n, uint64_t entry)
{
    size_t i = (*n)++;

    for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    const uint64_t top = heap[0], moved = heap[--*n];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moved)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
    return top;
}

/* Looks up the rank at position at; true when there is one, with its heap entry. */
static bool update_rank(const MergeTable *m, BpeSymbol *symbol, int32_t at, uint64_t *entry)
{
    BpeSymbol *s = &symbol[at];

    s->rank = s->next >= 0 ? merge_table_rank(m, s->id, symbol[s->next].id) : MERGE_NONE;
    *entry = (uint64_t)(uint32_t)s->rank << 32 | (uint32_t)at;
    return s->rank != MERGE_NONE;
}

/* Merges the symbol at position at with the next one. */
static void merge_symbols(const MergeTable *m, BpeSymbol *symbol, int32_t at)
{
    BpeSymbol *left = &symbol[at], *right = &symbol[left->next];

    left->id = m->merge[left->rank].result;
    left->next = right->next;
    right->rank = MERGE_NONE;
    if (right->next >= 0)
        symbol[right->next].prev = at;
}

/* Merges all occurrences of the pair on top of the heap. The new pairs wait at the far end of the
 * array until all are merged: a strange list of merges can prefer a new pair to the one being
 * merged, and it must not take part in this round. Popping frees one place and merging needs two,
 * so with n - 1 entries at first, 2 * n places suffice. */
static void merge_round(const MergeTable *m, const BpeScratch *s, size_t *n_heap)
{
    uint64_t *heap = s->heap;
    const size_t end = 2 * s->max_bytes;
    const uint64_t best = heap[0] >> 32;
    size_t waiting = end;
    uint64_t entry;

    while (*n_heap > 0 && heap[0] >> 32 == best) {
        const int32_t at = (int32_t)(uint32_t)heap_pop(heap, n_heap);

        if (s->symbol[at].rank != (int32_t)best)
            continue;
        merge_symbols(m, s->symbol, at);
        if (update_rank(m, s->symbol, at, &entry))
            heap[--waiting] = entry;
        if (s->symbol[at].prev >= 0 && update_rank(m, s->symbol, s->symbol[at].prev, &entry))
            heap[--waiting] = entry;
    }
    while (waiting < end)
        heap_push(heap, n_heap, heap[waiting++]);
}

static size_t merge_long(const MergeTable *m, const BpeScratch *s, int32_t *ids, size_t n)
{
    size_t n_heap = 0, n_ids = 0;
    uint64_t entry;

    for (size_t i = 0; i < n; i++) {
        s->symbol[i] = (BpeSymbol){.id = ids[i],
                                   .prev = (int32_t)i - 1,
                                   .next = i + 1 < n ? (int32_t)i + 1 : -1,
                                   .rank = MERGE_NONE};
    }
    for (size_t i = 0; i < n; i++)
        if (update_rank(m, s->symbol, (int32_t)i, &entry))
            heap_push(s->heap, &n_heap, entry);
    while (n_heap > 0)
        merge_round(m, s, &n_heap);
    for (int32_t at = 0; at >= 0; at = s->symbol[at].next)
        ids[n_ids++] = s->symbol[at].id;
    return n_ids;
}

size_t bpe_merge(const MergeTable *m, BpeScratch *s, int32_t *ids, size_t n)
{
    if (n < 2)
        return n;
    return n <= BPE_SHORT ? merge_short(m, ids, n) : merge_long(m, s, ids, n);
}
