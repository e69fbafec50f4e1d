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

/* Loads the tokenizer of a model. path:
 *  - a .gguf file, known by its first bytes: from its metadata;
 *  - a packed file, which is safetensors with "format": "llorch-packed" in its metadata: the arrays
 *    of tokenizer_parts, checked and used where they lie;
 *  - a directory, or any other file, whose directory is then meant: vocab.json + merges.txt, or
 *    tokenizer.json alone. Searched, in this order: the directory, the current directory, the
 *    parent of the directory; when nothing is found the error lists them.
 * The same vocabulary and merges give the same ids in all forms.
 *
 * Errors  ERR_IO, ERR_FORMAT (file, line, key, token or element, found, expected), ERR_LIMIT,
 *         ERR_MEMORY, ERR_UNSUPPORTED (not byte-level BPE as GPT-2 has it).
 * Memory  *out is owned by the caller: tokenizer_free. It keeps nothing of the files, but of a
 *         packed one the mapping. */
ErrCode tokenizer_load(Tokenizer **out, const char *path, Err *err) ERR_CHECK;
void tokenizer_free(Tokenizer *t);

int tokenizer_vocab_size(const Tokenizer *t);
size_t tokenizer_longest_token(const Tokenizer *t); /* bytes */
const char *tokenizer_kind(const Tokenizer *t);     /* "hf-json" or "gguf-bpe" */

/* Bytes of memory of its own: the pages of a packed file are not counted. */
size_t tokenizer_bytes(const Tokenizer *t);

/* The id that ends a text: GGUF's eos_token_id, else that of <|endoftext|>, or -1 when the
 * vocabulary has none. */
int tokenizer_end_of_text(const Tokenizer *t);

/* The bytes of one token (special ones included), not NUL-terminated, valid as long as t. id must
 * be in 0..n-1. */
const char *tokenizer_token(const Tokenizer *t, int id, size_t *n_bytes);

/* Writes the token as files spell it, in GPT-2's byte alphabet, special ones literally, to out
 * (room for twice the bytes of the token) and returns the length. */
size_t tokenizer_token_spelled(const Tokenizer *t, int id, char *out);

/* As GGUF numbers it in tokenizer.ggml.token_type: 1 normal, 3 control, 4 user defined, 5 unused.
 * All but the normal ones are special: only the end-of-text token can come out of encoding. */
int tokenizer_token_type(const Tokenizer *t, int id);
bool tokenizer_is_special(const Tokenizer *t, int id);

/* The merges by rank, 0..n-1: 0 is preferred to all others. As files spell them: the left token, a
 * blank, the right token. */
int tokenizer_n_merges(const Tokenizer *t);
void tokenizer_merge(const Tokenizer *t, int rank, int *left, int *right);

/* The id of the token with exactly these bytes that is not special; -1 when there is none. */
int tokenizer_find(const Tokenizer *t, const char *bytes, size_t n_bytes);

/* Scratch for texts of at most max_bytes (32 bytes each, touched only by long words); NULL when
 * there is no memory or max_bytes is above INT32_MAX. There are never more tokens than bytes. */
TokenizerScratch *tokenizer_scratch_new(size_t max_bytes);
void tokenizer_scratch_free(TokenizerScratch *s);

/* Writes the ids of text[0..n) to ids (room for n) and returns how many. Any bytes are accepted:
 * invalid UTF-8 belongs to no letter, number or space class. allow_special: the text of the
 * end-of-text token ("<|endoftext|>") becomes its id. O(n log n). n must be at most the scratch's
 * max_bytes. */
size_t tokenizer_encode(const Tokenizer *t, TokenizerScratch *s, const char *text, size_t n,
                        bool allow_special, int32_t *ids);

/* The tokenizer in ready form, for a packed file: raw little-endian arrays, to be written as
 * tensors of one dimension, in this order and from a multiple of 4 bytes on, and a line of text for
 * the metadata of the same file, under TOKENIZER_TEXT_KEY. The same files always give the same
 * parts. */
enum { TOKENIZER_N_PARTS = 5, TOKENIZER_TEXT_BYTES = 256 };

#define TOKENIZER_TEXT_KEY "tokenizer"
#define TOKENIZER_FORMAT_KEY "format"
#define TOKENIZER_PACKED_FORMAT "llorch-packed"

typedef struct {
    const char *name;  /* "tokenizer.tokens" */
    const char *dtype; /* safetensors' name of the element type: "I32" or "U8" */
    size_t n;          /* elements */
    const void *data;  /* borrowed from the tokenizer */
    size_t n_bytes;
} TokenizerPart;

void tokenizer_parts(const Tokenizer *t, TokenizerPart parts[TOKENIZER_N_PARTS],
                     char text[TOKENIZER_TEXT_BYTES]);

#endif
