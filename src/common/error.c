/* common/error.c: makes the one line of an error: formatted, escaped, at most ERR_MSG_BYTES.
 *
 * May include: nothing. */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

/* Texts of this length or less are formatted without the heap: every message of our own, with one
 * path in it. */
enum { ERR_FORMAT_BYTES = 4096 };

/* Formats, then escapes into err. A longer text goes through the heap, so that its end (where the
 * problem is named) survives the cut in the middle; without memory the end is lost, which is better
 * than no message. */
static void set_message(Err *err, const char *format, va_list args)
{
    char fixed[ERR_FORMAT_BYTES];
    char *text = fixed;
    va_list again;

    va_copy(again, args);
    int n = vsnprintf(fixed, sizeof fixed, format, args);
    if (n < 0) {
        n = 0;
    } else if ((size_t)n >= sizeof fixed) {
        char *big = malloc((size_t)n + 1);

        if (big == NULL) {
            n = (int)sizeof fixed - 1;
        } else {
            (void)vsnprintf(big, (size_t)n + 1, format, again);
            text = big;
        }
    }
    va_end(again);
    (void)text_escape(err->msg, sizeof err->msg, text, (size_t)n);
    if (text != fixed)
        free(text);
}

ErrCode err_set(Err *err, ErrCode code, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return code;
    va_start(args, format);
    set_message(err, format, args);
    va_end(args);
    err->code = code;
    return code;
}

ErrCode err_prefix(Err *err, const char *format, ...)
{
    Err prefix;
    char joined[2 * ERR_MSG_BYTES + 2];
    va_list args;

    if (err == NULL)
        return ERR_INTERNAL;
    va_start(args, format);
    set_message(&prefix, format, args);
    va_end(args);

    const int n = snprintf(joined, sizeof joined, "%s: %s", prefix.msg, err->msg);
    (void)text_escape(err->msg, sizeof err->msg, joined, n < 0 ? 0 : (size_t)n);
    return err->code;
}
