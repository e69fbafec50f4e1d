/* http/response.c: the head of a response, and correlation ids. See server_internal.h.
 *
 * May include: common. */
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "common/clock.h"
#include "http/server_internal.h"

/* Constants only: a reason phrase never carries anything from a request. */
static const char *reason_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } known[] = {{200, "OK"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {417, "Expectation Failed"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {499, "Client Closed Request"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"},
                 {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].status == status)
            return known[i].phrase;
    return status < 400 ? "OK" : "Error";
}

/* IMF-fixdate (RFC 9110, 5.6.7). The program never calls setlocale, so the names are English. */
static void format_date(char *out, size_t size)
{
    const time_t now = time(NULL);
    struct tm utc;

    if (gmtime_r(&now, &utc) == NULL || strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &utc) == 0)
        snprintf(out, size, "Thu, 01 Jan 1970 00:00:00 GMT");
}

bool response_add_head(struct evbuffer *out, const ResponseHead *head)
{
    const bool has_length = !head->is_stream && head->status != 204 && head->status != 304;
    char date[64], length[64] = "";

    format_date(date, sizeof date);
    if (has_length)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", head->n_body);
    return evbuffer_add_printf(out,
                               "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s%s%s%s%sX-Correlation-ID: "
                               "%s\r\n%s%s%sConnection: %s\r\n\r\n",
                               head->status, reason_phrase(head->status), date,
                               head->content_type != NULL ? "Content-Type: " : "",
                               head->content_type != NULL ? head->content_type : "",
                               head->content_type != NULL ? "\r\n" : "", length,
                               head->is_chunked ? "Transfer-Encoding: chunked\r\n" : "",
                               head->extra_headers != NULL ? head->extra_headers : "",
                               head->correlation_id, head->show_request_id ? "X-Request-ID: " : "",
                               head->show_request_id ? head->correlation_id : "",
                               head->show_request_id ? "\r\n" : "",
                               head->keep_alive ? "keep-alive" : "close") >= 0;
}

/* For the case that the kernel refuses: ids that are at least different. SplitMix64 of the clock.
 */
static void weak_random(unsigned char *out, size_t n)
{
    uint64_t state = clock_now_ns();

    for (size_t i = 0; i < n; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        out[i] = (unsigned char)(z >> 56);
    }
}

void correlation_id_new(char out[REQUEST_ID_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char r[16];
    size_t n = 0;

    if (getrandom(r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
        weak_random(r, sizeof r);
    r[6] = (unsigned char)((r[6] & 0x0f) | 0x40); /* version 4 */
    r[8] = (unsigned char)((r[8] & 0x3f) | 0x80); /* variant */
    for (size_t i = 0; i < sizeof r; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[n++] = '-';
        out[n++] = hex[r[i] >> 4];
        out[n++] = hex[r[i] & 15];
    }
    out[n] = '\0';
}
