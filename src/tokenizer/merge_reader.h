/* tokenizer/merge_reader.h: the merges of a model, one after the other, from merges.txt or from
 * tokenizer.json.
 *
 * May include: common. */
#ifndef LLORCH_TOKENIZER_MERGE_READER_H
#define LLORCH_TOKENIZER_MERGE_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/json.h"

enum { MERGE_READER_MAX_LINE = 64 * 1024 }; /* bytes of one merge */

typedef struct {
    const char *text; /* merges.txt, borrowed; NULL when the merges come from JSON */
    size_t n_text, pos;
    const json_t *array; /* "merges" of tokenizer.json, borrowed: "a b" or ["a", "b"] */
    size_t index;        /* the line, from 1, or the element, from 0, last read */
} MergeReader;

/* One merge, still spelled in the byte alphabet; points into the source. */
typedef struct {
    const char *left, *right;
    size_t n_left, n_right;
} MergeText;

void merge_reader_text(MergeReader *r, const char *text, size_t n);

/* array must be a JSON array. */
void merge_reader_json(MergeReader *r, const json_t *array);

/* An upper bound of the merges to come; never more than the bytes or elements that are there. */
size_t merge_reader_bound(const MergeReader *r);

/* Reads the next merge; *more is false at the end. Empty lines, a first line "#version...", CR
 * before LF and a missing last LF are accepted in text. Errors: ERR_FORMAT, ERR_LIMIT; the message
 * begins with the line or element. */
ErrCode merge_reader_next(MergeReader *r, MergeText *out, bool *more, Err *err) ERR_CHECK;

/* Puts the line or element last read in front of err's message. */
void merge_reader_where(const MergeReader *r, Err *err);

#endif
