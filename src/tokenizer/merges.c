/* tokenizer/merges.c: building the table of merges.
 *
 * May include: common. */
#include "tokenizer/merges.h"

bool merge_table_plan(size_t *total, int max_merges)
{
    const size_t n = (size_t)max_merges;

    /* Twice the buckets: most pairs that are looked up have no merge and should meet an empty
     * bucket. */
    return arena_plan(total, n, sizeof(Merge)) &&
           arena_plan(total, (size_t)1 << hash_bits(2 * n), sizeof(int32_t));
}

ErrCode merge_table_init(MergeTable *m, Arena *a, int max_merges, HashSeed seed, Err *err)
{
    const size_t n = (size_t)max_merges;
    const int bits = hash_bits(2 * n);
    const size_t n_buckets = (size_t)1 << bits;

    *m = (MergeTable){.merge = arena_alloc(a, n, sizeof(Merge)),
                      .bucket = arena_alloc(a, n_buckets, sizeof(int32_t)),
                      .seed = seed,
                      .bits = bits,
                      .max_merges = max_merges};
    if (m->merge == NULL || m->bucket == NULL)
        return err_set(err, ERR_MEMORY, "no room for %d merges", max_merges);
    for (size_t i = 0; i < n_buckets; i++)
        m->bucket[i] = -1;
    return ERR_OK;
}

ErrCode merge_table_add(MergeTable *m, int32_t left, int32_t right, int32_t result, Err *err)
{
    if (merge_table_rank(m, left, right) != MERGE_NONE)
        return err_set(err, ERR_FORMAT, "this merge appears twice");
    if (m->n_merges == m->max_merges) {
        return err_set(err, ERR_FORMAT, "more merges than the vocabulary can have (%d)",
                       m->max_merges);
    }

    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    int32_t *bucket = &m->bucket[hash_bucket(m->seed, key, m->bits)];

    m->merge[m->n_merges] =
        (Merge){.left = left, .right = right, .result = result, .next = *bucket};
    *bucket = m->n_merges++;
    return ERR_OK;
}
