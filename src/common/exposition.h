/* common/exposition.h: writes Prometheus' text format, version 0.0.4, into a JsonBuf. The caller
 * gives each family once, and right after it all its samples. Values are whole numbers or thousand
 * millionths, never negative, so there is no NaN, no exponent and no locale.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_EXPOSITION_H
#define LLORCH_COMMON_EXPOSITION_H

#include <stdint.h>

#include "common/histogram.h"
#include "common/json.h"

/* The Content-Type of such a text. */
#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* The lines HELP and TYPE. type: "counter", "gauge" or "histogram". name and help are constants
 * that need no escaping. */
void exposition_family(JsonBuf *out, const char *name, const char *type, const char *help);

/* A sample of the family. The labels are pairs of a name (a constant) and a value (from anywhere:
 * escaped, invalid UTF-8 becomes U+FFFD), ended by NULL; a pair whose value is NULL is left out. */
void exposition_count(JsonBuf *out, const char *name, uint64_t value, ...)
    __attribute__((sentinel));

/* The same; value is a number of thousand millionths: nanoseconds for a family in seconds. */
void exposition_nano(JsonBuf *out, const char *name, uint64_t value, ...) __attribute__((sentinel));

/* A whole family of type histogram, in seconds and without labels but for le. */
void exposition_histogram(JsonBuf *out, const char *name, const char *help, const Histogram *h);

#endif
