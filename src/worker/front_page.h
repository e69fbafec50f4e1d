/* worker/front_page.h: the answer to GET /, a page for people (docs/ui.md).
 *
 * May include: http. */
#ifndef LLORCH_WORKER_FRONT_PAGE_H
#define LLORCH_WORKER_FRONT_PAGE_H

#include "http/server.h"

/* 200 with the page, or 304 when the client has this very one. */
void front_page_answer(HttpConn *conn, const HttpRequest *request);

#endif
