/* tokenizer/vocabulary.h: the tokens: id to bytes, bytes to id.
 *
 * Files spell the bytes of a token in printable characters, GPT-2's byte alphabet: bytes 33-126,
 * 161-172 and 174-255 stand for themselves, the other 68 in increasing order for U+0100, U+0101,
 * ... (a blank is U+0120). Here tokens are bytes.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_VOCABULARY_H
#define LLORCH_TOKENIZER_VOCABULARY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "tokenizer/hash.h"

/* As GGUF numbers them (tokenizer.ggml.token_type). All but the normal ones are special: their text
 * is literal, stands for nothing else and is found only as special. */
typedef enum {
    TOKEN_ABSENT = 0, /* while the vocabulary is filled */
    TOKEN_NORMAL = 1,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5
} TokenType;

/* Packed files hold this struct as it is. */
typedef struct {
    uint32_t start; /* offset of the first byte in Vocabulary.bytes */
    uint32_t n;     /* bytes */
    int32_t next;   /* next token of the same hash bucket, a lower id; -1 at the end */
    uint32_t type;  /* TokenType */
} VocabularyToken;

static_assert(sizeof(VocabularyToken) == 16, "four words without padding");

/* The arrays are borrowed, from an arena or from a mapped file. */
typedef struct {
    const VocabularyToken *token; /* [n_tokens] */
    const int32_t *bucket;        /* [2^bits], highest token of each bucket or -1 */
    const char *bytes;            /* [n_bytes] */
    size_t n_bytes;
    HashSeed seed;
    int seed_number; /* of hash_seed_fixed, once the vocabulary is finished */
    int bits;
    int n_tokens;
    int32_t byte_id[256]; /* the token of each single byte */
} Vocabulary;

/* A vocabulary being filled: the same arrays, to be written. */
typedef struct {
    Vocabulary *v;
    VocabularyToken *token;
    int32_t *bucket;
    char *bytes;
    size_t max_bytes;
} VocabularyBuilder;

static inline bool vocabulary_is_special(const VocabularyToken *t)
{
    return t->type != TOKEN_NORMAL;
}

/* Adds to *total what vocabulary_init takes from an arena. False when the sum overflows. */
bool vocabulary_plan(size_t *total, int n_tokens, size_t max_bytes) ERR_CHECK;

/* Makes *v an empty vocabulary for exactly the ids 0..n_tokens-1, whose texts have at most
 * max_bytes together, to be filled through *b. Errors: ERR_MEMORY when the arena is too small. */
ErrCode vocabulary_init(VocabularyBuilder *b, Vocabulary *v, Arena *a, int n_tokens,
                        size_t max_bytes, Err *err) ERR_CHECK;

/* Adds the token text[0..n) (valid UTF-8) as it stands in the file. A normal token is spelled in
 * the byte alphabet; one that holds another character is made a control token. Errors: ERR_FORMAT
 * for an id out of range or used twice, for a text used twice. The message names the token. */
ErrCode vocabulary_add(VocabularyBuilder *b, long long id, const char *text, size_t n,
                       TokenType type, Err *err) ERR_CHECK;

/* To be called when all tokens are added: gives the table its fixed seed and fills byte_id.
 * ERR_FORMAT: a byte has no token. ERR_LIMIT: tokens made to collide under all fixed seeds. */
ErrCode vocabulary_finish(VocabularyBuilder *b, Err *err) ERR_CHECK;

/* Checks a vocabulary of finished arrays from a file, whole, and fills byte_id; nothing is copied.
 * scratch: room for one word per bucket. Errors: ERR_FORMAT (token or bucket, found, expected). */
ErrCode vocabulary_adopt(Vocabulary *v, int32_t *scratch, Err *err) ERR_CHECK;

/* The ordinary, or the special, token with exactly these bytes; -1 when there is none. */
int vocabulary_find(const Vocabulary *v, const char *bytes, size_t n, bool special);

/* Writes the bytes that text[0..n), spelled in the byte alphabet, stands for to out (room for n)
 * and their number to *n_out. False when a character is not in the alphabet. */
bool vocabulary_spelled(const char *text, size_t n, char *out, size_t *n_out) ERR_CHECK;

/* The other way: writes bytes[0..n) in the byte alphabet to out (room for 2 * n) and returns the
 * length. */
size_t vocabulary_spell(const char *bytes, size_t n, char *out);

#endif
