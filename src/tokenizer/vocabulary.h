/* tokenizer/vocabulary.h: the tokens: id to bytes, bytes to id.
 *
 * Files spell the bytes of a token in printable characters, GPT-2's byte alphabet: bytes 33-126,
 * 161-172 and 174-255 stand for themselves, the other 68 in increasing order for U+0100, U+0101,
 * ... (a blank is U+0120). Here tokens are bytes.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_VOCABULARY_H
#define LLORCH_TOKENIZER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "tokenizer/hash.h"

typedef struct {
    uint32_t start; /* offset of the first byte in Vocabulary.bytes */
    uint32_t n;     /* bytes */
    int32_t next;   /* next token of the same hash bucket, -1 at the end */
    bool present;
    bool special; /* its text stands for nothing else: found only as special */
} VocabularyToken;

/* All arrays belong to the arena given to vocabulary_init. */
typedef struct {
    VocabularyToken *token; /* [n_tokens] */
    int32_t *bucket;        /* [2^bits], first token of each bucket or -1 */
    char *bytes;            /* [max_bytes] */
    size_t n_bytes, max_bytes;
    HashSeed seed;
    int bits;
    int n_tokens;
    int32_t byte_id[256]; /* the token of each single byte */
} Vocabulary;

/* Adds to *total what vocabulary_init takes from an arena. False when the sum overflows. */
bool vocabulary_plan(size_t *total, int n_tokens, size_t max_bytes) ERR_CHECK;

/* An empty vocabulary for exactly the ids 0..n_tokens-1, whose texts have at most max_bytes
 * together. Errors: ERR_MEMORY when the arena is too small. */
ErrCode vocabulary_init(Vocabulary *v, Arena *a, int n_tokens, size_t max_bytes, HashSeed seed,
                        Err *err) ERR_CHECK;

/* Adds the token text[0..n) (valid UTF-8) as it stands in the file. An ordinary token is spelled in
 * the byte alphabet; special tokens, and what holds another character, keep their literal text and
 * are special. Errors: ERR_FORMAT for an id out of range or used twice, for a text used twice. The
 * message names the token. */
ErrCode vocabulary_add(Vocabulary *v, long long id, const char *text, size_t n, bool special,
                       Err *err) ERR_CHECK;

/* To be called when all tokens are added: fills byte_id. ERR_FORMAT: a byte has no token. */
ErrCode vocabulary_finish(Vocabulary *v, Err *err) ERR_CHECK;

/* The ordinary, or the special, token with exactly these bytes; -1 when there is none. */
int vocabulary_find(const Vocabulary *v, const char *bytes, size_t n, bool special);

/* Writes the bytes that text[0..n), spelled in the byte alphabet, stands for to out (room for n)
 * and their number to *n_out. False when a character is not in the alphabet. */
bool vocabulary_spelled(const char *text, size_t n, char *out, size_t *n_out) ERR_CHECK;

#endif
