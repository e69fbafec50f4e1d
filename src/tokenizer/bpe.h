/* tokenizer/bpe.h: merges the bytes of one piece to tokens. Second stage of encoding.
 *
 * May include: nothing. */
#ifndef LLORCH_TOKENIZER_BPE_H
#define LLORCH_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "tokenizer/merges.h"

/* One symbol of a long piece: an element of a doubly linked list over a piece's positions. */
typedef struct {
    int32_t id;
    int32_t prev, next; /* positions, -1 at the ends */
    int32_t rank; /* of the merge with the next symbol; MERGE_NONE at the end and where nothing is
                     left */
} BpeSymbol;

/* Room for pieces of at most max_bytes. */
typedef struct {
    BpeSymbol *symbol; /* [max_bytes] */
    uint64_t *heap;    /* [2 * max_bytes] */
    size_t max_bytes;
} BpeScratch;

/* Merges ids[0..n), which hold the token of each byte, in place and returns how many are left:
 * repeatedly, all occurrences of the adjacent pair of lowest rank are merged from left to right,
 * until no pair has a merge.
 *
 * Numbers  O(n log n).
 * Memory   s must have room for n; allocates nothing. */
size_t bpe_merge(const MergeTable *m, BpeScratch *s, int32_t *ids, size_t n);

#endif
