/* report/page_style.h: the style sheet that pages carry.
 *
 * May include: nothing. */
#ifndef LLORCH_REPORT_PAGE_STYLE_H
#define LLORCH_REPORT_PAGE_STYLE_H

extern const char page_style[];

#endif
