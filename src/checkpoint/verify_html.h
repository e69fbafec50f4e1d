/* checkpoint/verify_html.h: what `verify --html` writes.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_VERIFY_HTML_H
#define LLORCH_CHECKPOINT_VERIFY_HTML_H

#include "checkpoint/verify.h"
#include "common/json.h"

/* Appends one self-contained page: the run, errors by layer, all rows, both sides, histograms of
 * each checkpoint, a map of any tensor's errors, attention of all heads. Attention is drawn of the
 * layers that the capture kept. A large model costs a map of a few kilobytes for each row; its
 * attention maps are reduced so that all together stay below a megabyte. */
void verify_html(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta);

#endif
