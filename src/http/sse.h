/* http/sse.h: the text of Server-Sent Events (HTML Living Standard, section 9.2.5; contract 6.1).
 * It only formats; http_stream_write sends.
 *
 * May include: common. */
#ifndef LLORCH_HTTP_SSE_H
#define LLORCH_HTTP_SSE_H

#include <stddef.h>

#include "common/json.h"

/* Both append to out, which may be reused (out->len = 0) from event to event; a failed allocation
 * shows in out->oom. A CR, LF or NUL in name, json or text becomes a blank: no argument can end its
 * line, so none can forge an event. JSON stays what it was, since a raw line break in it can only
 * stand between tokens. */

/* "event: <name>\ndata: <json>\n\n" */
void sse_event(JsonBuf *out, const char *name, const char *json, size_t n_json);

/* ": <text>\n\n", which clients ignore: a sign of life. */
void sse_comment(JsonBuf *out, const char *text);

#endif
