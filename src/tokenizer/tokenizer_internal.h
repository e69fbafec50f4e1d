/* tokenizer/tokenizer_internal.h: the Tokenizer and its three origins.
 *
 * May include: common, formats. */
#ifndef LLORCH_TOKENIZER_TOKENIZER_INTERNAL_H
#define LLORCH_TOKENIZER_TOKENIZER_INTERNAL_H

#include <string.h>

#include "common/arena.h"
#include "formats/safetensors.h"
#include "tokenizer/merges.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

#define TOKENIZER_END_OF_TEXT "<|endoftext|>"
#define TOKENIZER_KIND_JSON "hf-json"
#define TOKENIZER_KIND_GGUF "gguf-bpe"

enum { TOKENIZER_MAX_TEXT = 256 * 1024 * 1024 }; /* bytes of all tokens */

struct Tokenizer {
    Arena arena;       /* holds this struct and, unless file is set, everything it points to */
    Safetensors *file; /* the packed file that the arrays lie in, owned; or NULL */
    Vocabulary vocabulary;
    MergeTable merges;
    int end_of_text; /* id, or -1 */
    const char *kind;
};

/* The file forms; errors and memory as tokenizer_load has them. dir is searched as described
 * there. */
ErrCode tokenizer_from_json(Tokenizer **out, const char *dir, Err *err) ERR_CHECK;
ErrCode tokenizer_from_gguf(Tokenizer **out, const char *path, Err *err) ERR_CHECK;

/* From an open packed file, which belongs to *out afterwards; on failure it stays the caller's.
 * path: for messages. */
ErrCode tokenizer_from_packed(Tokenizer **out, Safetensors *file, const char *path,
                              Err *err) ERR_CHECK;

static inline bool tokenizer_is_end_of_text(const char *text, size_t n)
{
    return n == sizeof TOKENIZER_END_OF_TEXT - 1 && memcmp(text, TOKENIZER_END_OF_TEXT, n) == 0;
}

/* The id of <|endoftext|>, or -1. */
static inline int tokenizer_find_end_of_text(const Vocabulary *v)
{
    return vocabulary_find(v, TOKENIZER_END_OF_TEXT, sizeof TOKENIZER_END_OF_TEXT - 1, true);
}

#endif
