/* tokenizer/pre_split.h: cuts text into the pieces inside which tokens are merged. First stage of
 * encoding.
 *
 * May include: nothing. */
#ifndef LLORCH_TOKENIZER_PRE_SPLIT_H
#define LLORCH_TOKENIZER_PRE_SPLIT_H

#include <stddef.h>

/* The length in bytes, 1..n, of the first piece of text[0..n), n > 0: what GPT-2's pattern matches
 * at the start,
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * The text must really end at n: where a run of white space ends depends on what follows it. Bytes
 * that are not valid UTF-8 belong to [^\s\p{L}\p{N}].
 *
 * Numbers  looks at the piece, the character behind it and the run of white space at the start:
 *          calling it for piece after piece is linear in the text.
 * Errors   none.
 * Source   GPT-2's published encoder; classes as in unicode_classes.h. */
size_t pre_split_next(const char *text, size_t n);

/* Version of the class table: "15.0.0". */
const char *pre_split_unicode_version(void);

#endif
