/* ui/page.h: the page at GET / as one constant. src/ui/make_page writes its definition at build
 * time, from page.html, page.css and the scripts beside it.
 *
 * May include: nothing. */
#ifndef LLORCH_UI_PAGE_H
#define LLORCH_UI_PAGE_H

#include <stddef.h>

typedef struct {
    const char *html; /* n_bytes of UTF-8 */
    size_t n_bytes;
    const char *etag;   /* of these bytes, with its quotes */
    const char *policy; /* the Content-Security-Policy: hashes of the page's own style and script */
} UiPage;

extern const UiPage ui_page;

#endif
