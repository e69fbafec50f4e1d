/* http/request_head.c: see request_head.h. RFC 9112, sections 2.2, 3 and 5.
 *
 * May include: nothing. */
#include "http/request_head.h"

#include <stdbool.h>
#include <string.h>

void request_head_init(RequestHead *h, const RequestHeadLimits *limits)
{
    memset(h, 0, sizeof *h);
    h->limits = limits;
}

void request_head_begin_trailer(RequestHead *h)
{
    h->state = HEAD_LINE_START;
}

static void refuse(RequestHead *h, int status, const char *error)
{
    h->status = status;
    h->error = error;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* As soon as its 8 bytes are there, so that the answer does not depend on llhttp, which sees them
 * next. */
static void check_version(RequestHead *h)
{
    const char *v = h->version;

    if (memcmp(v, "HTTP/", 5) != 0 || !is_digit(v[5]) || v[6] != '.' || !is_digit(v[7]))
        refuse(h, 400, "the request line does not end with an HTTP version");
    else if (v[5] != '1' || (v[7] != '0' && v[7] != '1'))
        refuse(h, 505, "the version is neither HTTP/1.0 nor HTTP/1.1");
}

static void version_byte(RequestHead *h, char c)
{
    if (h->n_word >= sizeof h->version) {
        refuse(h, 400, "the request line does not end with an HTTP version");
        return;
    }
    h->version[h->n_word++] = c;
    if (h->n_word == sizeof h->version)
        check_version(h);
}

/* A blank ends the method or the target; two in a row, or a third one, end the request. */
static void end_word(RequestHead *h)
{
    if (h->n_word == 0 || h->state == HEAD_VERSION)
        refuse(h, 400, "the request line is not three words with single blanks between them");
    h->state = h->state == HEAD_METHOD ? HEAD_TARGET : HEAD_VERSION;
    h->n_word = 0;
}

static void request_line_byte(RequestHead *h, char c)
{
    const unsigned char byte = (unsigned char)c;

    if (c == '\r') {
        if (h->state != HEAD_VERSION || h->n_word != sizeof h->version)
            refuse(h, 400, "the request line does not end with an HTTP version");
        h->state = HEAD_REQUEST_LF;
        return;
    }
    if (byte < 0x20 || byte > 0x7e) {
        refuse(h, 400, "the request line holds a byte that is not printable ASCII");
        return;
    }
    if (++h->n_line > h->limits->max_request_line) {
        refuse(h, 414, "the request line is too long");
        return;
    }
    if (c == ' ') {
        end_word(h);
        return;
    }
    if (h->state == HEAD_VERSION)
        version_byte(h, c);
    else
        h->n_word++;
}

static void count_header_byte(RequestHead *h)
{
    if (++h->n_header_bytes > h->limits->max_header_bytes)
        refuse(h, 431, "the header lines are too long");
}

static void header_byte(RequestHead *h, char c)
{
    const unsigned char byte = (unsigned char)c;

    if (c == '\r')
        h->state = HEAD_LINE_LF;
    else if ((byte < 0x20 && c != '\t') || byte == 0x7f)
        refuse(h, 400, "a header line holds a control character");
    else
        h->state = HEAD_LINE;
    if (h->status == 0)
        count_header_byte(h);
}

static void line_start_byte(RequestHead *h, char c)
{
    if (c == '\r') {
        h->state = HEAD_END_LF;
        return;
    }
    if (c == ' ' || c == '\t') {
        refuse(h, 400, "a folded header line or a header name that begins with a blank");
        return;
    }
    if (c == ':') {
        refuse(h, 400, "a header line without a name");
        return;
    }
    if (++h->n_headers > h->limits->max_headers) {
        refuse(h, 431, "too many header lines");
        return;
    }
    header_byte(h, c);
}

static void line_feed(RequestHead *h, char c, RequestHeadState next)
{
    if (c == '\n')
        h->state = next;
    else
        refuse(h, 400, "a CR that no LF follows");
}

static void scan_byte(RequestHead *h, char c)
{
    switch (h->state) {
    case HEAD_START:
        h->state = c == '\r' ? HEAD_START_LF : HEAD_METHOD;
        if (c != '\r')
            request_line_byte(h, c);
        break;
    case HEAD_START_LF:
        line_feed(h, c, HEAD_METHOD);
        break;
    case HEAD_METHOD:
    case HEAD_TARGET:
    case HEAD_VERSION:
        request_line_byte(h, c);
        break;
    case HEAD_REQUEST_LF:
        line_feed(h, c, HEAD_LINE_START);
        break;
    case HEAD_LINE_START:
        line_start_byte(h, c);
        break;
    case HEAD_LINE:
        header_byte(h, c);
        break;
    case HEAD_LINE_LF:
        line_feed(h, c, HEAD_LINE_START);
        if (h->status == 0)
            count_header_byte(h);
        break;
    case HEAD_END_LF:
        line_feed(h, c, HEAD_DONE);
        break;
    case HEAD_DONE:
        break;
    }
}

size_t request_head_scan(RequestHead *h, const char *data, size_t n)
{
    size_t i = 0;

    while (i < n && h->state != HEAD_DONE && h->status == 0) {
        scan_byte(h, data[i]);
        if (h->status == 0)
            i++;
    }
    return i;
}
