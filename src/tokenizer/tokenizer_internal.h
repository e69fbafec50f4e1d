/* tokenizer/tokenizer_internal.h: what tokenizer_load.c builds and tokenizer.c uses.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_TOKENIZER_INTERNAL_H
#define LLORCH_TOKENIZER_TOKENIZER_INTERNAL_H

#include "common/arena.h"
#include "tokenizer/merges.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

#define TOKENIZER_END_OF_TEXT "<|endoftext|>"

struct Tokenizer {
    Arena arena; /* holds this struct and everything it points to */
    Vocabulary vocabulary;
    MergeTable merges;
    int end_of_text; /* id, or -1 */
    const char *kind;
};

#endif
