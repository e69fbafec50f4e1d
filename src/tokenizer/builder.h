/* tokenizer/builder.h: what all loaders of spelled tokens share: one arena for a Tokenizer, its
 * vocabulary and its merges.
 *
 * May include: common, formats. */
#ifndef LLORCH_TOKENIZER_BUILDER_H
#define LLORCH_TOKENIZER_BUILDER_H

#include "tokenizer/merge_reader.h"
#include "tokenizer/tokenizer_internal.h"

typedef struct {
    Arena arena;  /* holds the tokenizer and everything it points to */
    Tokenizer *t; /* in the arena */
    VocabularyBuilder vocabulary;
    MergeBuilder merges;
} TokenizerBuilder;

/* Makes room for n_tokens tokens with text_bytes bytes together, as spelled in the file, and at
 * most merge_bound merges (> 0); the vocabulary is then filled with vocabulary_add and
 * vocabulary_finish. On failure nothing stays allocated. Errors: ERR_FORMAT (no tokens), ERR_LIMIT,
 * ERR_MEMORY. */
ErrCode builder_init(TokenizerBuilder *b, size_t n_tokens, size_t text_bytes, size_t merge_bound,
                     Err *err) ERR_CHECK;

/* Reads all merges; the vocabulary must be finished. Errors: those of merge_reader_next; ERR_FORMAT
 * for a piece or a joined token that the vocabulary lacks, a merge that appears twice, none at all.
 * The message begins with the line or element. */
ErrCode builder_add_merges(TokenizerBuilder *b, MergeReader *r, Err *err) ERR_CHECK;

/* Frees everything that builder_init allocated. */
void builder_cancel(TokenizerBuilder *b);

/* Hands the finished tokenizer over. kind: static text. */
Tokenizer *builder_finish(TokenizerBuilder *b, const char *kind, int end_of_text);

#endif
