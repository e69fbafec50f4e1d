/* tokenizer/merges.h: the table of merges: which two adjacent tokens become which one, and in which
 * order of preference.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_MERGES_H
#define LLORCH_TOKENIZER_MERGES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "tokenizer/hash.h"
#include "tokenizer/vocabulary.h"

/* Packed files hold this struct as it is. */
typedef struct {
    int32_t left, right; /* ids */
    int32_t result;      /* id of the joined token */
    int32_t next;        /* next merge of the same hash bucket, a lower rank; -1 at the end */
} Merge;

static_assert(sizeof(Merge) == 16, "four words without padding");

/* The arrays are borrowed, from an arena or from a mapped file. */
typedef struct {
    const Merge *merge;    /* [n_merges], by rank: 0 is preferred to all others */
    const int32_t *bucket; /* [2^bits], highest rank of each bucket or -1 */
    HashSeed seed;
    int seed_number; /* of hash_seed_fixed, once the table is finished */
    int bits;
    int n_merges;
} MergeTable;

/* A table being filled: the same arrays, to be written. */
typedef struct {
    MergeTable *m;
    Merge *merge;    /* [max_merges] */
    int32_t *bucket; /* [2^max_bits] */
    int max_merges;
} MergeBuilder;

/* The exponent of the number of buckets. Twice the merges: most pairs that are looked up have none
 * and should meet an empty bucket. */
static inline int merge_table_bits(int n_merges)
{
    return hash_bits(2 * (size_t)n_merges);
}

/* Adds to *total what merge_table_init takes from an arena. False when the sum overflows. */
bool merge_table_plan(size_t *total, int max_merges) ERR_CHECK;

/* Makes *m an empty table for at most max_merges merges, to be filled through *b. Errors:
 * ERR_MEMORY when the arena is too small. */
ErrCode merge_table_init(MergeBuilder *b, MergeTable *m, Arena *a, int max_merges,
                         Err *err) ERR_CHECK;

/* Adds the merge of the next rank. Errors: ERR_FORMAT when the pair has one already, or when there
 * are more than planned; no name in the message. */
ErrCode merge_table_add(MergeBuilder *b, int32_t left, int32_t right, int32_t result,
                        Err *err) ERR_CHECK;

/* To be called when all merges are added: gives the table the size and the fixed seed for just
 * these. Errors: ERR_FORMAT (there are none), ERR_LIMIT (made to collide under all fixed seeds). */
ErrCode merge_table_finish(MergeBuilder *b, Err *err) ERR_CHECK;

/* Checks a table of finished arrays from a file, whole, with the tokens of v. scratch: room for one
 * word per bucket. Errors: ERR_FORMAT (merge or bucket, found, expected). */
ErrCode merge_table_adopt(const MergeTable *m, const Vocabulary *v, int32_t *scratch,
                          Err *err) ERR_CHECK;

enum { MERGE_NONE = INT32_MAX }; /* worse than every rank */

static inline uint64_t merge_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The rank of the pair, or MERGE_NONE. */
static inline int32_t merge_table_rank(const MergeTable *m, int32_t left, int32_t right)
{
    int32_t i = m->bucket[hash_bucket(m->seed, merge_key(left, right), m->bits)];

    while (i >= 0) {
        const Merge *merge = &m->merge[i];

        if (merge->left == left && merge->right == right)
            return i;
        i = merge->next;
    }
    return MERGE_NONE;
}

#endif
