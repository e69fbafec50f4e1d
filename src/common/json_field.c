/* common/json_field.c: see json_field.h.
 *
 * May include: common. */
#include "common/json_field.h"

#include <string.h>

static const char *kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

/* The error for a member that is not there, or of another type than expected. */
static ErrCode wrong(const json_t *value, const char *key, const char *what, const char *expected,
                     Err *err)
{
    return err_set(err, ERR_FORMAT, "%s: %s is %s, expected %s", what, key,
                   value != NULL ? kind(value) : "missing", expected);
}

ErrCode json_field_text(const json_t *o, const char *key, size_t size, const char *what,
                        const char **out, Err *err)
{
    const json_t *value = json_object_get(o, key);

    if (!json_is_string(value))
        return wrong(value, key, what, "a text", err);
    if (json_string_length(value) >= size)
        return err_set(err, ERR_FORMAT, "%s: %s has %zu bytes, at most %zu are possible", what, key,
                       json_string_length(value), size - 1);
    if (strlen(json_string_value(value)) != json_string_length(value))
        return err_set(err, ERR_FORMAT, "%s: %s has a NUL character in it", what, key);
    *out = json_string_value(value);
    return ERR_OK;
}

ErrCode json_field_number(const json_t *o, const char *key, const char *what, double *out, Err *err)
{
    const json_t *value = json_object_get(o, key);

    if (!json_is_number(value))
        return wrong(value, key, what, "a number", err);
    *out = json_number_value(value);
    return ERR_OK;
}

ErrCode json_field_int(const json_t *o, const char *key, int min, int max, const char *what,
                       int *out, Err *err)
{
    const json_t *value = json_object_get(o, key);

    if (!json_is_integer(value))
        return wrong(value, key, what, "a whole number", err);
    if (json_integer_value(value) < min || json_integer_value(value) > max)
        return err_set(err, ERR_FORMAT, "%s: %s is %" JSON_INTEGER_FORMAT ", expected %d to %d",
                       what, key, json_integer_value(value), min, max);
    *out = (int)json_integer_value(value);
    return ERR_OK;
}

ErrCode json_field_object(const json_t *o, const char *key, const char *what, const json_t **out,
                          Err *err)
{
    const json_t *value = json_object_get(o, key);

    if (!json_is_object(value))
        return wrong(value, key, what, "an object", err);
    *out = value;
    return ERR_OK;
}

ErrCode json_field_array(const json_t *o, const char *key, size_t max_items, const char *what,
                         const json_t **out, Err *err)
{
    const json_t *value = json_object_get(o, key);

    if (!json_is_array(value))
        return wrong(value, key, what, "an array", err);
    if (json_array_size(value) > max_items)
        return err_set(err, ERR_FORMAT, "%s: %s has %zu items, at most %zu are possible", what, key,
                       json_array_size(value), max_items);
    *out = value;
    return ERR_OK;
}
