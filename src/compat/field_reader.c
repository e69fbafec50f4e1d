/* compat/field_reader.c: see field_reader.h.
 *
 * May include: common. */
#include "compat/field_reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

void field_fail(FieldReader *r, int status, const char *name, const char *code, const char *format,
                ...)
{
    va_list args;

    if (r->status != 0)
        return;
    r->status = status;
    r->code = code;
    r->param[0] = '\0';
    if (name != NULL)
        text_escape(r->param, sizeof r->param, name, strlen(name));
    va_start(args, format);
    vsnprintf(r->message, sizeof r->message, format, args);
    va_end(args);
}

ApiError field_error(const FieldReader *r)
{
    return (ApiError){.status = r->status,
                      .message = r->message,
                      .param = r->param[0] != '\0' ? r->param : NULL,
                      .code = r->code};
}

json_t *field_get(FieldReader *r, const char *name)
{
    json_t *value = r->status == 0 ? json_object_get(r->body->root, name) : NULL;

    return json_is_null(value) ? NULL : value;
}

const char *field_type(const json_t *v)
{
    if (body_is_list(v))
        return "an array of integers";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal number";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

void field_wrong_type(FieldReader *r, const char *name, const char *what, const json_t *found)
{
    field_fail(r, 400, name, "invalid_type",
               "Invalid type for '%s': expected %s, but got %s instead.", name, what,
               field_type(found));
}

bool field_is_text(const json_t *value)
{
    return json_is_string(value) && !body_is_list(value);
}

bool field_is_huge(const json_t *v)
{
    return json_is_real(v) && !(fabs(json_real_value(v)) < 0x1p63);
}

/* huge: neither %lld nor an untrue "decimal". */
static void refuse_huge(FieldReader *r, const char *name, int64_t min, int64_t max, double x)
{
    if (x < 0)
        field_fail(r, 400, name, "integer_below_min_value",
                   "Invalid '%s': integer below minimum value. Expected a value >= %" PRId64
                   ", but got %.17g instead.",
                   name, min, x);
    else
        field_fail(r, 400, name, "integer_above_max_value",
                   "Invalid '%s': integer above maximum value. Expected a value <= %" PRId64
                   ", but got %.17g instead.",
                   name, max, x);
}

void field_int(FieldReader *r, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const json_t *v = field_get(r, name);
    const json_int_t i = json_integer_value(v);

    if (v == NULL)
        return;
    if (field_is_huge(v))
        refuse_huge(r, name, min, max, json_real_value(v));
    else if (!json_is_integer(v))
        field_wrong_type(r, name, "an integer", v);
    else if (i < min)
        field_fail(r, 400, name, "integer_below_min_value",
                   "Invalid '%s': integer below minimum value. Expected a value >= %" PRId64
                   ", but got %" PRId64 " instead.",
                   name, min, (int64_t)i);
    else if (i > max)
        field_fail(r, 400, name, "integer_above_max_value",
                   "Invalid '%s': integer above maximum value. Expected a value <= %" PRId64
                   ", but got %" PRId64 " instead.",
                   name, max, (int64_t)i);
    else
        *out = i;
}

void field_float(FieldReader *r, const char *name, double min, double max, float *out)
{
    const json_t *v = field_get(r, name);
    const double x = json_number_value(v);

    if (v == NULL)
        return;
    if (!json_is_number(v))
        field_wrong_type(r, name, "a decimal", v);
    else if (x < min)
        field_fail(r, 400, name, "decimal_below_min_value",
                   "Invalid '%s': decimal below minimum value. Expected a value >= %g, but got "
                   "%.17g instead.",
                   name, min, x);
    else if (!(x <= max))
        field_fail(r, 400, name, "decimal_above_max_value",
                   "Invalid '%s': decimal above maximum value. Expected a value <= %g, but got "
                   "%.17g instead.",
                   name, max, x);
    else
        *out = (float)x;
}

void field_bool(FieldReader *r, const char *name, bool *out)
{
    const json_t *v = field_get(r, name);

    if (v == NULL)
        return;
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else
        field_wrong_type(r, name, "a boolean", v);
}

json_t *field_text(FieldReader *r, const char *name)
{
    json_t *v = field_get(r, name);

    if (v == NULL || field_is_text(v))
        return v;
    field_wrong_type(r, name, "a string", v);
    return NULL;
}

void field_check_known(FieldReader *r, const char *const *known)
{
    char shown[FIELD_NAME_BYTES];
    const char *key;
    json_t *value;

    json_object_foreach(r->body->root, key, value)
    {
        const char *const *k = known;

        while (*k != NULL && strcmp(key, *k) != 0)
            k++;
        if (*k != NULL)
            continue;
        text_escape(shown, sizeof shown, key, strlen(key));
        field_fail(r, 400, key, "unknown_parameter", "Unrecognized request argument supplied: %s",
                   shown);
        return;
    }
}
