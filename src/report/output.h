/* report/output.h: a finished text becomes a file, as a whole or not at all.
 *
 * May include: common. */
#ifndef LLORCH_REPORT_OUTPUT_H
#define LLORCH_REPORT_OUTPUT_H

#include "common/error.h"
#include "common/json.h"

/* Writes text to path through a temporary file beside it (common/new_file.h).
 * Errors: ERR_MEMORY (text->oom), ERR_IO ("<path>: <errno text>"); then nothing stays and an older
 * file is what it was. */
ErrCode report_write(const char *path, const JsonBuf *text, Err *err) ERR_CHECK;

#endif
