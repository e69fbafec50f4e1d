/* http/header_value.c: see header_value.h.
 *
 * May include: nothing. */
#include "http/header_value.h"

#include <string.h>

#define DIGITS "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* How many of the first bytes are among these; NUL never is. */
static size_t span(const char *value, size_t n, const char *allowed)
{
    size_t i = 0;

    while (i < n && value[i] != '\0' && strchr(allowed, value[i]) != NULL)
        i++;
    return i;
}

bool header_value_is_number(const char *value, size_t n)
{
    return n > 0 && span(value, n, DIGITS) == n;
}

bool header_value_is_host(const char *value, size_t n)
{
    size_t used;

    if (n > 0 && value[0] == '[') {
        used = 1 + span(value + 1, n - 1, DIGITS "abcdefABCDEF:.");
        if (used == n || value[used++] != ']')
            return false;
    } else {
        used = span(value, n, LETTERS DIGITS "-._~%!$&'()*+,;=");
    }
    if (used < n && value[used] == ':') {
        used++;
        used += span(value + used, n - used, DIGITS);
    }
    return used == n;
}

bool header_value_is_id(const char *value, size_t n, size_t max)
{
    return n > 0 && n <= max && span(value, n, LETTERS DIGITS "._-") == n;
}
