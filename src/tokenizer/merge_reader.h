/* tokenizer/merge_reader.h: the merges of a model, one after the other, from merges.txt, from
 * tokenizer.json or from the metadata of a GGUF file.
 *
 * May include: common, formats. */
#ifndef LLORCH_TOKENIZER_MERGE_READER_H
#define LLORCH_TOKENIZER_MERGE_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/json.h"
#include "formats/gguf.h"

enum { MERGE_READER_MAX_LINE = 64 * 1024 }; /* bytes of one merge */

/* One of the three is set; all are borrowed. */
typedef struct {
    const char *text; /* merges.txt, or NULL */
    size_t n_text, pos;
    const json_t *array; /* "merges" of tokenizer.json, or NULL: "a b" or ["a", "b"] */
    GgufArray strings;   /* what is left of GGUF's merges: "a b" */
    const char *name;    /* of the array, for messages */
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

/* strings must be an array of strings; name: its key. */
void merge_reader_gguf(MergeReader *r, GgufArray strings, const char *name);

/* An upper bound of the merges to come; never more than the bytes or elements that are there. */
size_t merge_reader_bound(const MergeReader *r);

/* Reads the next merge; *more is false at the end. Empty lines, a first line "#version...", CR
 * before LF and a missing last LF are accepted in text. Errors: ERR_FORMAT, ERR_LIMIT; the message
 * begins with the line or element. */
ErrCode merge_reader_next(MergeReader *r, MergeText *out, bool *more, Err *err) ERR_CHECK;

/* Puts the line or element last read in front of err's message. */
void merge_reader_where(const MergeReader *r, Err *err);

#endif
