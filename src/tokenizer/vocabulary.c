/* tokenizer/vocabulary.c: tokens in one array by id, their bytes in one block, a chained hash table
 * over both.
 *
 * May include: common. */
#include "tokenizer/vocabulary.h"

#include <string.h>

#include "common/text.h"

enum { MESSAGE_TOKEN_BYTES = 100 }; /* of a token's text in an error message */

bool vocabulary_plan(size_t *total, int n_tokens, size_t max_bytes)
{
    const size_t n = (size_t)n_tokens;

    return arena_plan(total, n, sizeof(VocabularyToken)) &&
           arena_plan(total, (size_t)1 << hash_bits(n), sizeof(int32_t)) &&
           arena_plan(total, max_bytes, 1);
}

ErrCode vocabulary_init(Vocabulary *v, Arena *a, int n_tokens, size_t max_bytes, HashSeed seed,
                        Err *err)
{
    const size_t n = (size_t)n_tokens;
    const int bits = hash_bits(n);
    const size_t n_buckets = (size_t)1 << bits;

    *v = (Vocabulary){.token = arena_alloc(a, n, sizeof(VocabularyToken)),
                      .bucket = arena_alloc(a, n_buckets, sizeof(int32_t)),
                      .bytes = arena_alloc(a, max_bytes, 1),
                      .max_bytes = max_bytes,
                      .seed = seed,
                      .bits = bits,
                      .n_tokens = n_tokens};
    if (v->token == NULL || v->bucket == NULL || v->bytes == NULL)
        return err_set(err, ERR_MEMORY, "no room for a vocabulary of %d tokens", n_tokens);
    for (size_t i = 0; i < n_buckets; i++)
        v->bucket[i] = -1;
    return ERR_OK;
}

/* The byte that character c stands for in the byte alphabet, or -1. */
static int alphabet_byte(int c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return c;
    if (c < 0x100 || c >= 0x100 + 68)
        return -1;

    const int i = c - 0x100; /* bytes 0-32, then 127-160, then 173 */

    if (i < 33)
        return i;
    return i < 33 + 34 ? i - 33 + 127 : 173;
}

bool vocabulary_spelled(const char *text, size_t n, char *out, size_t *n_out)
{
    size_t written = 0, used;

    for (size_t i = 0; i < n; i += used) {
        const int byte = alphabet_byte(text_utf8_next(text + i, n - i, &used));

        if (byte < 0)
            return false;
        out[written++] = (char)byte;
    }
    *n_out = written;
    return true;
}

static uint32_t bucket_of(const Vocabulary *v, const char *bytes, size_t n)
{
    return hash_bucket(v->seed, hash_bytes(v->seed, bytes, n), v->bits);
}

int vocabulary_find(const Vocabulary *v, const char *bytes, size_t n, bool special)
{
    for (int32_t id = v->bucket[bucket_of(v, bytes, n)]; id >= 0; id = v->token[id].next) {
        const VocabularyToken *t = &v->token[id];

        if (t->n == n && t->special == special && memcmp(v->bytes + t->start, bytes, n) == 0)
            return id;
    }
    return -1;
}

ErrCode vocabulary_add(Vocabulary *v, long long id, const char *text, size_t n, bool special,
                       Err *err)
{
    const int shown = n < MESSAGE_TOKEN_BYTES ? (int)n : MESSAGE_TOKEN_BYTES;

    if (id < 0 || id >= v->n_tokens) {
        return err_set(err, ERR_FORMAT, "token \"%.*s\": id %lld, expected 0 to %d", shown, text,
                       id, v->n_tokens - 1);
    }
    if (n > v->max_bytes - v->n_bytes)
        return err_set(err, ERR_INTERNAL, "token \"%.*s\": texts longer than planned", shown, text);

    VocabularyToken *t = &v->token[id];
    char *bytes = v->bytes + v->n_bytes;
    size_t n_bytes;

    if (t->present) {
        return err_set(err, ERR_FORMAT, "token \"%.*s\": id %lld belongs to another token", shown,
                       text, id);
    }
    if (special || !vocabulary_spelled(text, n, bytes, &n_bytes)) {
        special = true;
        memcpy(bytes, text, n);
        n_bytes = n;
    }
    if (vocabulary_find(v, bytes, n_bytes, special) >= 0)
        return err_set(err, ERR_FORMAT, "token \"%.*s\": appears twice", shown, text);

    int32_t *bucket = &v->bucket[bucket_of(v, bytes, n_bytes)];

    *t = (VocabularyToken){.start = (uint32_t)v->n_bytes,
                           .n = (uint32_t)n_bytes,
                           .next = *bucket,
                           .present = true,
                           .special = special};
    *bucket = (int32_t)id;
    v->n_bytes += n_bytes;
    return ERR_OK;
}

ErrCode vocabulary_finish(Vocabulary *v, Err *err)
{
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;

        v->byte_id[b] = vocabulary_find(v, &byte, 1, false);
        if (v->byte_id[b] < 0)
            return err_set(err, ERR_FORMAT, "byte 0x%02x has no token, expected all 256", b);
    }
    return ERR_OK;
}
