/* common/body_short.h: what makes a body long is taken aside before the JSON library sees it. The
 * library spends tens of nanoseconds on each byte, so that a body of two megabytes would hold up
 * the running job and every probe for a tenth of a second.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_BODY_SHORT_H
#define LLORCH_COMMON_BODY_SHORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/json.h"

enum {
    BODY_MAX_NUMBER = 128, /* characters: no value of a request needs more digits */
    /* What may be left of a body: as many values as it may have, each with a key and a mark. */
    BODY_MAX_SHORT = 512 * 1024
};

typedef struct {
    JsonBuf text;  /* the body with a mark in the place of each long string */
    JsonBuf texts; /* the strings, decoded */
    JsonBuf lists; /* the integers of lists that were taken aside */
    size_t n_cut;  /* bytes of the body that text left out */
} ShortBody;

/* What a list of integers became, and where it is in ShortBody's lists. */
typedef struct {
    char mark; /* BODY_LIST_MARK: begins no text of a body, which is UTF-8 */
    size_t at, n;
} BodyListMark;

#define BODY_LIST_MARK '\xff'

/* Fills *s from text[0..n), in one pass. take_lists: lists of 32-bit integers are taken aside too.
 * Strings that are not short are decoded and checked here (RFC 8259, valid UTF-8); long keys become
 * their hash, with the same for the same key; runs of blanks become one. Everything else is copied
 * unseen.
 *
 * Errors  ERR_FORMAT (a string is not valid), ERR_LIMIT (a number of more than BODY_MAX_NUMBER
 * characters, more than BODY_MAX_SHORT bytes left) or ERR_MEMORY; *s must be freed in any case. */
ErrCode body_shorten(ShortBody *s, const char *text, size_t n, bool take_lists, Err *err) ERR_CHECK;

/* Puts the strings back into the tree of s->text, and a string with the bytes of a BodyListMark for
 * each list. False: out of memory. */
bool body_restore(const ShortBody *s, json_t *root);

void body_short_free(ShortBody *s);

#endif
