/* common/json_field.h: members of JSON objects that must be there and of one type, for files that
 * anyone may have written.
 *
 * Errors: ERR_FORMAT, "<what>: <key> is missing, expected a number"; outputs stay untouched.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_JSON_FIELD_H
#define LLORCH_COMMON_JSON_FIELD_H

#include <stddef.h>

#include "common/error.h"
#include "common/json.h"

/* *out lives as long as o. A text of size bytes or more, or with a NUL in it, is refused. */
ErrCode json_field_text(const json_t *o, const char *key, size_t size, const char *what,
                        const char **out, Err *err) ERR_CHECK;

/* Of any kind. */
ErrCode json_field_number(const json_t *o, const char *key, const char *what, double *out,
                          Err *err) ERR_CHECK;

/* A whole number of min to max. */
ErrCode json_field_int(const json_t *o, const char *key, int min, int max, const char *what,
                       int *out, Err *err) ERR_CHECK;

ErrCode json_field_object(const json_t *o, const char *key, const char *what, const json_t **out,
                          Err *err) ERR_CHECK;

/* Of at most max_items. */
ErrCode json_field_array(const json_t *o, const char *key, size_t max_items, const char *what,
                         const json_t **out, Err *err) ERR_CHECK;

#endif
