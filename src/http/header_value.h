/* http/header_value.h: what the value of a header must look like to be taken at its word. Values
 * come without the blanks around them.
 *
 * May include: nothing. */
#ifndef LLORCH_HTTP_HEADER_VALUE_H
#define LLORCH_HTTP_HEADER_VALUE_H

#include <stdbool.h>
#include <stddef.h>

/* Decimal digits, at least one. */
bool header_value_is_number(const char *value, size_t n);

/* Host: name[:port] or [v6][:port] in the characters of RFC 3986, or nothing at all (RFC 9112,
 * 3.2). */
bool header_value_is_host(const char *value, size_t n);

/* X-Correlation-ID: 1 to max characters of [A-Za-z0-9._-]. */
bool header_value_is_id(const char *value, size_t n, size_t max);

#endif
