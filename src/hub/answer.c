/* hub/answer.c: see answer.h.
 *
 * May include: common, hub. */
#include "hub/answer.h"

#include <string.h>
#include <strings.h>

/* A piece of a line that does not end with NUL. */
typedef struct {
    const char *s;
    size_t n;
} Span;

void hub_answer_begin(HubAnswer *a)
{
    memset(a, 0, sizeof *a);
}

static Span trim(Span v)
{
    while (v.n > 0 && (v.s[0] == ' ' || v.s[0] == '\t')) {
        v.s++;
        v.n--;
    }
    while (v.n > 0 && strchr(" \t\r\n", v.s[v.n - 1]) != NULL && v.s[v.n - 1] != '\0')
        v.n--;
    return v;
}

static ErrCode bad(const char *name, Span v, Err *err)
{
    const size_t shown = v.n < 100 ? v.n : 100;

    return err_set(err, ERR_FORMAT, "the server's answer has a bad %s: %.*s", name, (int)shown,
                   v.s);
}

/* A number of 1 to 18 digits at the beginning of *v, taken away from it. */
static bool take_number(Span *v, uint64_t *out)
{
    uint64_t value = 0;
    size_t n = 0;

    while (n < v->n && v->s[n] >= '0' && v->s[n] <= '9' && n < 19)
        value = value * 10 + (uint64_t)(v->s[n++] - '0');
    if (n == 0 || n == 19)
        return false;
    v->s += n;
    v->n -= n;
    *out = value;
    return true;
}

static bool take_char(Span *v, char c)
{
    if (v->n == 0 || v->s[0] != c)
        return false;
    v->s++;
    v->n--;
    return true;
}

static ErrCode read_size(bool *has, uint64_t *out, const char *name, Span v, Err *err)
{
    Span rest = v;
    uint64_t value = 0;

    if (!take_number(&rest, &value) || rest.n > 0 || (*has && *out != value))
        return bad(name, v, err);
    *has = true;
    *out = value;
    return ERR_OK;
}

/* A text of printable ASCII characters without blanks, of at most size - 1 bytes. */
static ErrCode read_text(char *out, size_t size, const char *name, Span v, Err *err)
{
    if (v.n == 0 || v.n >= size)
        return v.n == 0 ? ERR_OK
                        : err_set(err, ERR_LIMIT, "the server's answer has a %s of %zu bytes", name,
                                  v.n);
    for (size_t i = 0; i < v.n; i++)
        if (v.s[i] <= ' ' || v.s[i] > '~')
            return bad(name, v, err);
    if (out[0] != '\0' && (strlen(out) != v.n || memcmp(out, v.s, v.n) != 0))
        return bad(name, v, err);
    memcpy(out, v.s, v.n);
    out[v.n] = '\0';
    return ERR_OK;
}

/* An ETag that could not be used for anything counts as absent: not every server is careful with
 * it, and those of a redirection are nobody's concern. */
static ErrCode read_etag(char *out, const char *name, Span v, Err *err)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.s[i] <= ' ' || v.s[i] > '~')
            return ERR_OK;
    return v.n < HUB_ETAG_BYTES ? read_text(out, HUB_ETAG_BYTES, name, v, err) : ERR_OK;
}

static ErrCode read_commit(HubAnswer *a, Span v, Err *err)
{
    char text[HUB_COMMIT_BYTES] = "";

    if (v.n != HUB_COMMIT_BYTES - 1)
        return bad("X-Repo-Commit", v, err);
    memcpy(text, v.s, v.n);
    if (!hub_is_commit(text) || (a->commit[0] != '\0' && strcmp(a->commit, text) != 0))
        return bad("X-Repo-Commit", v, err);
    memcpy(a->commit, text, sizeof text);
    return ERR_OK;
}

/* "bytes 100-199/1234", or with "*" instead of either number of bytes. */
static ErrCode read_range(HubAnswer *a, Span v, Err *err)
{
    Span rest = v;
    HubAnswer made = *a;

    if (a->has_range || rest.n < 6 || strncasecmp(rest.s, "bytes ", 6) != 0)
        return bad("Content-Range", v, err);
    rest = trim((Span){rest.s + 6, rest.n - 6});
    if (!take_char(&rest, '*')) {
        if (!take_number(&rest, &made.range_start) || !take_char(&rest, '-') ||
            !take_number(&rest, &made.range_end) || made.range_end < made.range_start)
            return bad("Content-Range", v, err);
        made.has_range = true;
    }
    if (!take_char(&rest, '/'))
        return bad("Content-Range", v, err);
    if (!take_char(&rest, '*')) {
        if (!take_number(&rest, &made.range_total))
            return bad("Content-Range", v, err);
        made.has_range_total = true;
    }
    if (rest.n > 0 ||
        (made.has_range && made.has_range_total && made.range_end >= made.range_total))
        return bad("Content-Range", v, err);
    *a = made;
    return ERR_OK;
}

/* A word for our own messages: what is none is left out, like one that is not known. */
static void read_code(HubAnswer *a, Span v)
{
    if (v.n >= sizeof a->error_code)
        return;
    for (size_t i = 0; i < v.n; i++)
        if (!((v.s[i] | 0x20) >= 'a' && (v.s[i] | 0x20) <= 'z'))
            return;
    memcpy(a->error_code, v.s, v.n);
    a->error_code[v.n] = '\0';
}

/* Seconds; a date, or what is no number, counts as absent. */
static void read_retry_after(HubAnswer *a, Span v)
{
    Span rest = v;
    uint64_t value = 0;

    if (take_number(&rest, &value) && rest.n == 0) {
        a->has_retry_after = true;
        a->retry_after_s = value;
    }
}

static bool is_name(Span name, const char *wanted)
{
    return name.n == strlen(wanted) && strncasecmp(name.s, wanted, name.n) == 0;
}

static ErrCode read_header(HubAnswer *a, Span name, Span v, Err *err)
{
    if (is_name(name, "Content-Length"))
        return read_size(&a->has_length, &a->length, "Content-Length", v, err);
    if (is_name(name, "X-Linked-Size"))
        return read_size(&a->has_linked_size, &a->linked_size, "X-Linked-Size", v, err);
    if (is_name(name, "ETag"))
        return read_etag(a->etag, "ETag", v, err);
    if (is_name(name, "X-Linked-Etag"))
        return read_etag(a->linked_etag, "X-Linked-Etag", v, err);
    if (is_name(name, "Location"))
        return read_text(a->location, sizeof a->location, "Location", v, err);
    if (is_name(name, "X-Repo-Commit"))
        return read_commit(a, v, err);
    if (is_name(name, "Content-Range"))
        return read_range(a, v, err);
    if (is_name(name, "Content-Encoding") && v.n > 0 && !is_name(v, "identity"))
        a->encoded = true;
    if (is_name(name, "X-Error-Code"))
        read_code(a, v);
    if (is_name(name, "Retry-After"))
        read_retry_after(a, v);
    return ERR_OK;
}

/* "HTTP/1.1 200 OK", "HTTP/2 200". */
static ErrCode read_status(HubAnswer *a, Span line, Err *err)
{
    const char *blank = memchr(line.s, ' ', line.n);
    Span rest = {blank, blank != NULL ? line.n - (size_t)(blank - line.s) : 0};
    const size_t n_bytes = a->n_bytes;
    uint64_t status = 0;

    rest = trim(rest);
    if (!take_number(&rest, &status) || status < 100 || status > 999 ||
        (rest.n > 0 && rest.s[0] != ' '))
        return bad("first line", line, err);
    hub_answer_begin(a);
    a->n_bytes = n_bytes;
    a->status = (int)status;
    return ERR_OK;
}

ErrCode hub_answer_line(HubAnswer *a, const char *line, size_t n, Err *err)
{
    const Span all = trim((Span){line, n});
    const char *colon = memchr(all.s, ':', all.n);

    a->n_bytes += n;
    if (n > HUB_HEADERS_MAX_BYTES || a->n_bytes > HUB_HEADERS_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "the server's answer has more than %d bytes of headers",
                       (int)HUB_HEADERS_MAX_BYTES);
    if (all.n >= 5 && strncmp(all.s, "HTTP/", 5) == 0)
        return read_status(a, all, err);
    if (colon == NULL)
        return ERR_OK;
    const Span name = {all.s, (size_t)(colon - all.s)};
    return read_header(a, name, trim((Span){colon + 1, all.n - name.n - 1}), err);
}

void hub_answer_inherit(HubAnswer *a, const HubAnswer *before)
{
    if (a->linked_etag[0] == '\0')
        memcpy(a->linked_etag, before->linked_etag, sizeof a->linked_etag);
    if (a->commit[0] == '\0')
        memcpy(a->commit, before->commit, sizeof a->commit);
    if (!a->has_linked_size) {
        a->has_linked_size = before->has_linked_size;
        a->linked_size = before->linked_size;
    }
}

bool hub_answer_redirects(const HubAnswer *a)
{
    const bool moved = a->status == 301 || a->status == 302 || a->status == 303 ||
                       a->status == 307 || a->status == 308;

    return moved && a->location[0] != '\0';
}

const char *hub_answer_etag(const HubAnswer *a)
{
    return a->linked_etag[0] != '\0' ? a->linked_etag : a->etag;
}

bool hub_answer_size(const HubAnswer *a, uint64_t *size)
{
    if (a->has_linked_size)
        *size = a->linked_size;
    else if (a->has_length && !hub_answer_redirects(a))
        *size = a->length;
    else
        return false;
    return true;
}
