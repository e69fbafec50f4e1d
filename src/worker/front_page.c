/* worker/front_page.c: see front_page.h.
 *
 * May include: http, ui. */
#include "worker/front_page.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ui/page.h"

/* RFC 9110, 13.1.2. Our tag holds no quotes but its own, so it is found in no other one. */
static bool is_known(const char *if_none_match)
{
    return if_none_match != NULL &&
           (strcmp(if_none_match, "*") == 0 || strstr(if_none_match, ui_page.etag) != NULL);
}

/* no-cache: a browser keeps the page but asks each time, so it never runs that of another worker
 * that once had this address. */
void front_page_answer(HttpConn *conn, const HttpRequest *request)
{
    const int status = is_known(request->if_none_match) ? 304 : 200;
    char headers[1024];

    snprintf(headers, sizeof headers,
             "ETag: %s\r\nCache-Control: no-cache\r\nContent-Security-Policy: %s\r\n"
             "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n",
             ui_page.etag, ui_page.policy);
    http_respond_constant(conn, status, status == 200 ? "text/html; charset=utf-8" : NULL, headers,
                          ui_page.html, ui_page.n_bytes);
}
