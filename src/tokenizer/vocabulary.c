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

ErrCode vocabulary_init(VocabularyBuilder *b, Vocabulary *v, Arena *a, int n_tokens,
                        size_t max_bytes, Err *err)
{
    const size_t n = (size_t)n_tokens;
    const int bits = hash_bits(n);
    const size_t n_buckets = (size_t)1 << bits;

    *b = (VocabularyBuilder){.v = v,
                             .token = arena_alloc(a, n, sizeof(VocabularyToken)),
                             .bucket = arena_alloc(a, n_buckets, sizeof(int32_t)),
                             .bytes = arena_alloc(a, max_bytes, 1),
                             .max_bytes = max_bytes};
    if (b->token == NULL || b->bucket == NULL || b->bytes == NULL)
        return err_set(err, ERR_MEMORY, "no room for a vocabulary of %d tokens", n_tokens);
    *v = (Vocabulary){.token = b->token,
                      .bucket = b->bucket,
                      .bytes = b->bytes,
                      .seed = hash_seed(),
                      .bits = bits,
                      .n_tokens = n_tokens};
    for (size_t i = 0; i < n_buckets; i++)
        b->bucket[i] = -1;
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

/* The character that stands for a byte: the inverse of alphabet_byte. */
static int alphabet_char(int byte)
{
    if (alphabet_byte(byte) == byte)
        return byte;
    if (byte < 33)
        return 0x100 + byte;
    return byte < 173 ? 0x100 + 33 + byte - 127 : 0x100 + 67;
}

size_t vocabulary_spell(const char *bytes, size_t n, char *out)
{
    size_t written = 0;

    for (size_t i = 0; i < n; i++) {
        const int c = alphabet_char((unsigned char)bytes[i]); /* below 0x144: two bytes at most */

        if (c >= 0x80)
            out[written++] = (char)(0xc0 | c >> 6);
        out[written++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    return written;
}

static uint32_t bucket_of(const Vocabulary *v, const char *bytes, size_t n)
{
    return hash_bucket(v->seed, hash_bytes(v->seed, bytes, n), v->bits);
}

static uint32_t bucket_of_token(const Vocabulary *v, const VocabularyToken *t)
{
    return bucket_of(v, v->bytes + t->start, t->n);
}

int vocabulary_find(const Vocabulary *v, const char *bytes, size_t n, bool special)
{
    for (int32_t id = v->bucket[bucket_of(v, bytes, n)]; id >= 0; id = v->token[id].next) {
        const VocabularyToken *t = &v->token[id];

        if (t->n == n && vocabulary_is_special(t) == special &&
            memcmp(v->bytes + t->start, bytes, n) == 0)
            return id;
    }
    return -1;
}

ErrCode vocabulary_add(VocabularyBuilder *b, long long id, const char *text, size_t n,
                       TokenType type, Err *err)
{
    const int shown = n < MESSAGE_TOKEN_BYTES ? (int)n : MESSAGE_TOKEN_BYTES;
    Vocabulary *v = b->v;

    if (id < 0 || id >= v->n_tokens) {
        return err_set(err, ERR_FORMAT, "token \"%.*s\": id %lld, expected 0 to %d", shown, text,
                       id, v->n_tokens - 1);
    }
    if (n > b->max_bytes - v->n_bytes)
        return err_set(err, ERR_INTERNAL, "token \"%.*s\": texts longer than planned", shown, text);

    VocabularyToken *t = &b->token[id];
    char *bytes = b->bytes + v->n_bytes;
    size_t n_bytes;

    if (t->type != TOKEN_ABSENT) {
        return err_set(err, ERR_FORMAT, "token \"%.*s\": id %lld belongs to another token", shown,
                       text, id);
    }
    if (type == TOKEN_NORMAL && !vocabulary_spelled(text, n, bytes, &n_bytes))
        type = TOKEN_CONTROL;
    if (type != TOKEN_NORMAL) {
        memcpy(bytes, text, n);
        n_bytes = n;
    }
    if (vocabulary_find(v, bytes, n_bytes, type != TOKEN_NORMAL) >= 0)
        return err_set(err, ERR_FORMAT, "token \"%.*s\": appears twice", shown, text);

    int32_t *bucket = &b->bucket[bucket_of(v, bytes, n_bytes)];

    *t = (VocabularyToken){
        .start = (uint32_t)v->n_bytes, .n = (uint32_t)n_bytes, .next = *bucket, .type = type};
    *bucket = (int32_t)id;
    v->n_bytes += n_bytes;
    return ERR_OK;
}

/* Chains all tokens anew, under the seed that v has now; lower ids come later in a chain. False
 * when one is too long. */
static bool link_tokens(VocabularyBuilder *b)
{
    const Vocabulary *v = b->v;
    const size_t n_buckets = (size_t)1 << v->bits;

    for (size_t i = 0; i < n_buckets; i++)
        b->bucket[i] = -1;
    for (int id = 0; id < v->n_tokens; id++) {
        int32_t *bucket = &b->bucket[bucket_of_token(v, &v->token[id])];

        b->token[id].next = *bucket;
        *bucket = id;
    }
    for (size_t i = 0; i < n_buckets; i++) {
        int length = 0;

        for (int32_t id = v->bucket[i]; id >= 0; id = v->token[id].next)
            if (++length > HASH_MAX_CHAIN)
                return false;
    }
    return true;
}

static ErrCode find_bytes(Vocabulary *v, Err *err)
{
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;

        v->byte_id[b] = vocabulary_find(v, &byte, 1, false);
        if (v->byte_id[b] < 0)
            return err_set(err, ERR_FORMAT, "byte 0x%02x has no token, expected all 256", b);
    }
    return ERR_OK;
}

ErrCode vocabulary_finish(VocabularyBuilder *b, Err *err)
{
    for (int i = 0; i < HASH_N_SEEDS; i++) {
        b->v->seed = hash_seed_fixed(i);
        b->v->seed_number = i;
        if (link_tokens(b))
            return find_bytes(b->v, err);
    }
    return err_set(err, ERR_LIMIT, "the tokens collide under every hash function");
}

/* What one token says of itself; *n_text counts the bytes of all texts. */
static ErrCode check_token(const Vocabulary *v, int id, uint64_t *n_text, Err *err)
{
    const VocabularyToken *t = &v->token[id];
    const uint64_t end = (uint64_t)t->start + t->n;

    if (t->type != TOKEN_NORMAL && t->type != TOKEN_CONTROL && t->type != TOKEN_USER_DEFINED &&
        t->type != TOKEN_UNUSED) {
        return err_set(err, ERR_FORMAT, "token %d: type %u, expected 1, 3, 4 or 5", id,
                       (unsigned)t->type);
    }
    if (end > v->n_bytes) {
        return err_set(err, ERR_FORMAT, "token %d: its text ends at byte %ju, but there are %zu",
                       id, (uintmax_t)end, v->n_bytes);
    }
    /* Texts may not overlap, or a small file could make much work. */
    *n_text += t->n;
    if (*n_text > v->n_bytes) {
        return err_set(err, ERR_FORMAT, "token %d: more text than there are bytes (%zu)", id,
                       v->n_bytes);
    }
    if (vocabulary_is_special(t) && !text_utf8_valid(v->bytes + t->start, t->n))
        return err_set(err, ERR_FORMAT, "token %d: special, but its text is not valid UTF-8", id);
    return ERR_OK;
}

/* Whether a token of the chain that begins at head is the same to a search; *length counts it. */
static bool is_in_chain(const Vocabulary *v, int32_t head, const VocabularyToken *t, int *length)
{
    for (int32_t id = head; id >= 0; id = v->token[id].next, (*length)++) {
        const VocabularyToken *other = &v->token[id];

        if (other->n == t->n && vocabulary_is_special(other) == vocabulary_is_special(t) &&
            memcmp(v->bytes + other->start, v->bytes + t->start, t->n) == 0)
            return true;
    }
    return false;
}

/* Chains one token once more, as link_tokens does, and compares: head holds the first token of each
 * bucket so far. */
static ErrCode check_chain(const Vocabulary *v, int id, int32_t *head, Err *err)
{
    const VocabularyToken *t = &v->token[id];
    int length = 1;

    if (t->next != *head) {
        return err_set(err, ERR_FORMAT, "token %d: followed by %d, expected %d", id, (int)t->next,
                       (int)*head);
    }
    if (is_in_chain(v, *head, t, &length))
        return err_set(err, ERR_FORMAT, "token %d: appears twice", id);
    if (length > HASH_MAX_CHAIN) {
        return err_set(err, ERR_FORMAT, "token %d: more than %d in one bucket", id,
                       (int)HASH_MAX_CHAIN);
    }
    *head = id;
    return ERR_OK;
}

ErrCode vocabulary_adopt(Vocabulary *v, int32_t *scratch, Err *err)
{
    const size_t n_buckets = (size_t)1 << v->bits;
    ErrCode code = ERR_OK;
    uint64_t n_text = 0;

    for (size_t i = 0; i < n_buckets; i++)
        scratch[i] = -1;
    for (int id = 0; id < v->n_tokens && code == ERR_OK; id++) {
        code = check_token(v, id, &n_text, err);
        if (code == ERR_OK)
            code = check_chain(v, id, &scratch[bucket_of_token(v, &v->token[id])], err);
    }
    for (size_t i = 0; i < n_buckets && code == ERR_OK; i++) {
        if (v->bucket[i] != scratch[i])
            code = err_set(err, ERR_FORMAT, "bucket %zu: token %d, expected %d", i,
                           (int)v->bucket[i], (int)scratch[i]);
    }
    return code != ERR_OK ? code : find_bytes(v, err);
}
