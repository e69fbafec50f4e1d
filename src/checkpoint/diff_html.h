/* checkpoint/diff_html.h: what `diff --html` writes.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_DIFF_HTML_H
#define LLORCH_CHECKPOINT_DIFF_HTML_H

#include "checkpoint/diff.h"
#include "common/json.h"

/* Appends one self-contained page: of two files both sides, all figures, histogram, heat map and
 * worst elements; of two folders a table of all tensors, a heat map of any of them, and the rest
 * of the worst one. */
void diff_html(JsonBuf *out, const Diff *d);

#endif
