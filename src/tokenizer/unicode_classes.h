/* tokenizer/unicode_classes.h: the four classes of characters that GPT-2's pre-split pattern knows,
 * as a frozen table.
 *
 * Tokenizers of different age disagree about characters assigned in between, so the table is part
 * of the source, with its Unicode version in the file name, and never comes from a library that
 * happens to be installed. Characters that are not assigned in that version are UNICODE_OTHER.
 *
 * May include: nothing. */
#ifndef LLORCH_TOKENIZER_UNICODE_CLASSES_H
#define LLORCH_TOKENIZER_UNICODE_CLASSES_H

#include <stdint.h>

typedef enum {
    UNICODE_OTHER = 0,  /* [^\s\p{L}\p{N}] */
    UNICODE_LETTER = 1, /* \p{L}: general categories Lu, Ll, Lt, Lm, Lo */
    UNICODE_NUMBER = 2, /* \p{N}: Nd, Nl, No */
    UNICODE_SPACE = 3   /* \s: the property White_Space */
} UnicodeClass;

enum { UNICODE_BLOCK = 256 }; /* code points of one block */

extern const char unicode_classes_version[]; /* "15.0.0" */

/* Stage 1 holds the number of each block's contents, stage 2 the different contents: two bits per
 * code point, the lowest bits first, UNICODE_BLOCK / 4 bytes per block. */
extern const unsigned char unicode_classes_stage_1[0x110000 / UNICODE_BLOCK];
extern const unsigned char unicode_classes_stage_2[];

/* The class of a code point, which must be below 0x110000. */
static inline UnicodeClass unicode_class(uint32_t c)
{
    const uint32_t block = unicode_classes_stage_1[c / UNICODE_BLOCK];
    const uint32_t in_block = c % UNICODE_BLOCK;
    const uint32_t byte = unicode_classes_stage_2[block * (UNICODE_BLOCK / 4) + in_block / 4];

    return (UnicodeClass)(byte >> (in_block % 4 * 2) & 3u);
}

#endif
