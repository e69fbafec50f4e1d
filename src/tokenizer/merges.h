/* tokenizer/merges.h: the table of merges: which two adjacent tokens become which one, and in which
 * order of preference.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_MERGES_H
#define LLORCH_TOKENIZER_MERGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "tokenizer/hash.h"

typedef struct {
    int32_t left, right; /* ids */
    int32_t result;      /* id of the joined token */
    int32_t next;        /* next merge of the same hash bucket, -1 at the end */
} Merge;

/* Both arrays belong to the arena given to merge_table_init. */
typedef struct {
    Merge *merge;    /* [max_merges], by rank: 0 is preferred to all others */
    int32_t *bucket; /* [2^bits], first merge of each bucket or -1 */
    HashSeed seed;
    int bits;
    int n_merges, max_merges;
} MergeTable;

/* Adds to *total what merge_table_init takes from an arena. False when the sum overflows. */
bool merge_table_plan(size_t *total, int max_merges) ERR_CHECK;

/* An empty table for at most max_merges merges. Errors: ERR_MEMORY when the arena is too small. */
ErrCode merge_table_init(MergeTable *m, Arena *a, int max_merges, HashSeed seed,
                         Err *err) ERR_CHECK;

/* Adds the merge of the next rank. Errors: ERR_FORMAT when the pair has one already, or when there
 * are more than planned; no name in the message. */
ErrCode merge_table_add(MergeTable *m, int32_t left, int32_t right, int32_t result,
                        Err *err) ERR_CHECK;

enum { MERGE_NONE = INT32_MAX }; /* worse than every rank */

/* The rank of the pair, or MERGE_NONE. */
static inline int32_t merge_table_rank(const MergeTable *m, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    int32_t i = m->bucket[hash_bucket(m->seed, key, m->bits)];

    while (i >= 0) {
        const Merge *merge = &m->merge[i];

        if (merge->left == left && merge->right == right)
            return i;
        i = merge->next;
    }
    return MERGE_NONE;
}

#endif
