/* tokenizer/tokenizer.h: GPT-2's byte-level BPE: text to token ids and back.
 *
 * A prompt is cut into pieces (pre_split.h), each piece is merged to tokens (bpe.h), and on the way
 * out tokens become bytes, which utf8_stream.h turns into whole characters.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_TOKENIZER_H
#define LLORCH_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct Tokenizer Tokenizer;

/* Room that encoding needs, allocated once for the longest text (the compute path allocates
 * nothing). */
typedef struct TokenizerScratch TokenizerScratch;

enum { TOKENIZER_MAX_VOCAB = 1000000 };

/* Loads vocab.json + merges.txt, or tokenizer.json alone. Searched, in this order: model_dir, the
 * current directory, the parent of model_dir; when nothing is found the error lists them.
 *
 * Errors  ERR_IO, ERR_FORMAT (file, line or token, found, expected), ERR_LIMIT, ERR_MEMORY,
 *         ERR_UNSUPPORTED (not byte-level BPE as GPT-2 has it).
 * Memory  *out is owned by the caller: tokenizer_free. It keeps nothing of the files. */
ErrCode tokenizer_load(Tokenizer **out, const char *model_dir, Err *err) ERR_CHECK;
void tokenizer_free(Tokenizer *t);

int tokenizer_vocab_size(const Tokenizer *t);
const char *tokenizer_kind(const Tokenizer *t); /* "hf-json" or "gguf-bpe" */
size_t tokenizer_bytes(const Tokenizer *t);     /* resident bytes */

/* The id of <|endoftext|>, or -1 when the vocabulary has none. */
int tokenizer_end_of_text(const Tokenizer *t);

/* The bytes of one token (special ones included), not NUL-terminated, valid as long as t. id must
 * be in 0..n-1. */
const char *tokenizer_token(const Tokenizer *t, int id, size_t *n_bytes);

/* The id of the token with exactly these bytes that is not special; -1 when there is none. */
int tokenizer_find(const Tokenizer *t, const char *bytes, size_t n_bytes);

/* Scratch for texts of at most max_bytes (32 bytes each, touched only by long words); NULL when
 * there is no memory or max_bytes is above INT32_MAX. There are never more tokens than bytes. */
TokenizerScratch *tokenizer_scratch_new(size_t max_bytes);
void tokenizer_scratch_free(TokenizerScratch *s);

/* Writes the ids of text[0..n) to ids (room for n) and returns how many. Any bytes are accepted:
 * invalid UTF-8 belongs to no letter, number or space class. allow_special: "<|endoftext|>" in the
 * text becomes its id. O(n log n). n must be at most the scratch's max_bytes. */
size_t tokenizer_encode(const Tokenizer *t, TokenizerScratch *s, const char *text, size_t n,
                        bool allow_special, int32_t *ids);

#endif
