/* compat/field_reader.h: the members of a request, one type and one range at a time. The first that
 * is wrong is remembered with its name, in OpenAI's words; nothing is read any more then.
 *
 * A member that is absent or null leaves its default.
 *
 * May include: common. */
#ifndef LLORCH_COMPAT_FIELD_READER_H
#define LLORCH_COMPAT_FIELD_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/body.h"
#include "compat/api_error.h"

enum { FIELD_MESSAGE_BYTES = 320, FIELD_NAME_BYTES = 72 };

typedef struct {
    const Body *body; /* its root is an object */
    int status;       /* 0: nothing is wrong so far */
    const char *code;
    char message[FIELD_MESSAGE_BYTES];
    char param[FIELD_NAME_BYTES]; /* "": no single field */
} FieldReader;

/* What is wrong, unless something was before. name: NULL for no field, escaped and cut if it came
 * from outside. */
void field_fail(FieldReader *r, int status, const char *name, const char *code, const char *format,
                ...) __attribute__((format(printf, 5, 6)));

ApiError field_error(const FieldReader *r);

/* The member; NULL when it is absent or null, or something is wrong already. */
json_t *field_get(FieldReader *r, const char *name);

/* 400: "Invalid type for 'name': expected WHAT, but got a string instead." */
void field_wrong_type(FieldReader *r, const char *name, const char *what, const json_t *found);

bool field_is_text(const json_t *value);

/* "a string", "an array of integers", ... */
const char *field_type(const json_t *value);

/* An integer beyond 64 bits, which the JSON library cannot hold, or a number as large. */
bool field_is_huge(const json_t *value);

/* Ranges include both ends. */
void field_int(FieldReader *r, const char *name, int64_t min, int64_t max, int64_t *out);
void field_float(FieldReader *r, const char *name, double min, double max, float *out);
void field_bool(FieldReader *r, const char *name, bool *out);
json_t *field_text(FieldReader *r, const char *name);

/* Every member must be one of known, which NULL ends. */
void field_check_known(FieldReader *r, const char *const *known);

#endif
