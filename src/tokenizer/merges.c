/* tokenizer/merges.c: building the table of merges, and checking one that was built before.
 *
 * May include: common. */
#include "tokenizer/merges.h"

#include <string.h>

bool merge_table_plan(size_t *total, int max_merges)
{
    return arena_plan(total, (size_t)max_merges, sizeof(Merge)) &&
           arena_plan(total, (size_t)1 << merge_table_bits(max_merges), sizeof(int32_t));
}

static void clear_buckets(MergeBuilder *b)
{
    const size_t n_buckets = (size_t)1 << b->m->bits;

    for (size_t i = 0; i < n_buckets; i++)
        b->bucket[i] = -1;
}

ErrCode merge_table_init(MergeBuilder *b, MergeTable *m, Arena *a, int max_merges, Err *err)
{
    const int bits = merge_table_bits(max_merges);

    *b = (MergeBuilder){.m = m,
                        .merge = arena_alloc(a, (size_t)max_merges, sizeof(Merge)),
                        .bucket = arena_alloc(a, (size_t)1 << bits, sizeof(int32_t)),
                        .max_merges = max_merges};
    if (b->merge == NULL || b->bucket == NULL)
        return err_set(err, ERR_MEMORY, "no room for %d merges", max_merges);
    *m = (MergeTable){.merge = b->merge, .bucket = b->bucket, .seed = hash_seed(), .bits = bits};
    clear_buckets(b);
    return ERR_OK;
}

static uint32_t bucket_of(const MergeTable *m, const Merge *merge)
{
    return hash_bucket(m->seed, merge_key(merge->left, merge->right), m->bits);
}

/* Puts the merge of this rank, whose ids are set, in front of its chain. */
static void link_merge(MergeBuilder *b, int rank)
{
    int32_t *bucket = &b->bucket[bucket_of(b->m, &b->merge[rank])];

    b->merge[rank].next = *bucket;
    *bucket = rank;
}

ErrCode merge_table_add(MergeBuilder *b, int32_t left, int32_t right, int32_t result, Err *err)
{
    MergeTable *m = b->m;

    if (merge_table_rank(m, left, right) != MERGE_NONE)
        return err_set(err, ERR_FORMAT, "this merge appears twice");
    if (m->n_merges == b->max_merges) {
        return err_set(err, ERR_FORMAT, "more merges than the vocabulary can have (%d)",
                       b->max_merges);
    }
    b->merge[m->n_merges] = (Merge){.left = left, .right = right, .result = result};
    link_merge(b, m->n_merges++);
    return ERR_OK;
}

static bool chains_are_short(const MergeTable *m)
{
    const size_t n_buckets = (size_t)1 << m->bits;

    for (size_t i = 0; i < n_buckets; i++) {
        int length = 0;

        for (int32_t rank = m->bucket[i]; rank >= 0; rank = m->merge[rank].next)
            if (++length > HASH_MAX_CHAIN)
                return false;
    }
    return true;
}

ErrCode merge_table_finish(MergeBuilder *b, Err *err)
{
    MergeTable *m = b->m;

    if (m->n_merges == 0)
        return err_set(err, ERR_FORMAT, "no merges");
    m->bits = merge_table_bits(m->n_merges);
    for (int i = 0; i < HASH_N_SEEDS; i++) {
        m->seed = hash_seed_fixed(i);
        m->seed_number = i;
        clear_buckets(b);
        for (int rank = 0; rank < m->n_merges; rank++)
            link_merge(b, rank);
        if (chains_are_short(m))
            return ERR_OK;
    }
    return err_set(err, ERR_LIMIT, "the merges collide under every hash function");
}

/* That a merge makes the token of the joined bytes, so that decoding gives the text back. No two
 * tokens and no two merges are the same, so all these comparisons read little more than all
 * texts. */
static bool joins(const Vocabulary *v, const Merge *merge)
{
    const VocabularyToken *left = &v->token[merge->left], *right = &v->token[merge->right];
    const VocabularyToken *result = &v->token[merge->result];
    const char *joined = v->bytes + result->start;

    return (uint64_t)left->n + right->n == result->n && !vocabulary_is_special(left) &&
           !vocabulary_is_special(right) && !vocabulary_is_special(result) &&
           memcmp(joined, v->bytes + left->start, left->n) == 0 &&
           memcmp(joined + left->n, v->bytes + right->start, right->n) == 0;
}

static ErrCode check_merge(const Vocabulary *v, const Merge *merge, int rank, Err *err)
{
    const int32_t ids[] = {merge->left, merge->right, merge->result};

    for (int i = 0; i < 3; i++) {
        if (ids[i] < 0 || ids[i] >= v->n_tokens) {
            return err_set(err, ERR_FORMAT, "merge %d: token %d, expected 0 to %d", rank,
                           (int)ids[i], v->n_tokens - 1);
        }
    }
    if (!joins(v, merge)) {
        return err_set(err, ERR_FORMAT, "merge %d: token %d is not %d and %d joined", rank,
                       (int)merge->result, (int)merge->left, (int)merge->right);
    }
    return ERR_OK;
}

/* As in vocabulary.c: chains the merges once more and compares. */
static ErrCode check_chain(const MergeTable *m, int rank, int32_t *head, Err *err)
{
    const Merge *merge = &m->merge[rank];
    int32_t *first = &head[bucket_of(m, merge)];
    int length = 1;

    if (merge->next != *first) {
        return err_set(err, ERR_FORMAT, "merge %d: followed by %d, expected %d", rank,
                       (int)merge->next, (int)*first);
    }
    for (int32_t i = *first; i >= 0; i = m->merge[i].next, length++)
        if (m->merge[i].left == merge->left && m->merge[i].right == merge->right)
            return err_set(err, ERR_FORMAT, "merge %d: appears twice", rank);
    if (length > HASH_MAX_CHAIN) {
        return err_set(err, ERR_FORMAT, "merge %d: more than %d in one bucket", rank,
                       (int)HASH_MAX_CHAIN);
    }
    *first = rank;
    return ERR_OK;
}

ErrCode merge_table_adopt(const MergeTable *m, const Vocabulary *v, int32_t *scratch, Err *err)
{
    const size_t n_buckets = (size_t)1 << m->bits;
    ErrCode code = ERR_OK;

    for (size_t i = 0; i < n_buckets; i++)
        scratch[i] = -1;
    for (int rank = 0; rank < m->n_merges && code == ERR_OK; rank++) {
        code = check_merge(v, &m->merge[rank], rank, err);
        if (code == ERR_OK)
            code = check_chain(m, rank, scratch, err);
    }
    for (size_t i = 0; i < n_buckets && code == ERR_OK; i++) {
        if (m->bucket[i] != scratch[i])
            code = err_set(err, ERR_FORMAT, "bucket %zu: merge %d, expected %d", i,
                           (int)m->bucket[i], (int)scratch[i]);
    }
    return code;
}
