/* pull/fetch.c: see fetch.h.
 *
 * May include: common, hub. */
#include "pull/fetch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub/cache.h"

enum {
    CONNECT_TIMEOUT_S = 10,
    LOW_SPEED_BYTES = 1024,       /* a second, on average over the time-out */
    ERROR_BODY_BYTES = 64 * 1024, /* of an answer that nobody reads */
    HEADER_BYTES = 1200
};

/* One exchange, for the callbacks. */
typedef struct {
    Fetcher *f;
    const FetchRequest *r;
    HubAnswer *a;
    Err *err;
    size_t skipped; /* bytes of a body that nobody wants */
    bool body_began, enough, ours;
} Exchange;

ErrCode fetch_open(Fetcher *f, Err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, ERR_IO, "libcurl cannot be used");
    f->curl = curl_easy_init();
    if (f->curl == NULL) {
        curl_global_cleanup();
        return err_set(err, ERR_MEMORY, "no memory for a connection");
    }
    return ERR_OK;
}

void fetch_close(Fetcher *f)
{
    if (f->curl == NULL)
        return;
    curl_easy_cleanup(f->curl);
    f->curl = NULL;
    curl_global_cleanup();
}

/* --- callbacks --- */

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    Exchange *x = ctx;

    (void)one;
    if (x->body_began) /* a trailer: nothing that comes behind the body is believed */
        return n;
    if (hub_answer_line(x->a, line, n, x->err) == ERR_OK)
        return n;
    x->ours = true;
    return 0;
}

static bool wanted(const Exchange *x)
{
    return !x->r->head && (x->a->status == 200 || x->a->status == 206);
}

static size_t on_body(char *data, size_t one, size_t n, void *ctx)
{
    Exchange *x = ctx;
    const bool first = !x->body_began;

    (void)one;
    x->body_began = true;
    if (!wanted(x)) {
        x->skipped += n;
        x->enough = x->skipped > ERROR_BODY_BYTES;
        return x->enough ? 0 : n;
    }
    if ((!first || x->r->begin(x->r->ctx, x->a, x->err)) && x->r->take(x->r->ctx, data, n, x->err))
        return n;
    x->ours = true;
    return 0;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    Exchange *x = ctx;

    (void)a;
    (void)b;
    (void)c;
    (void)d;
    if (x->r->tick != NULL)
        x->r->tick(x->r->ctx);
    return x->f->interrupted() ? 1 : 0;
}

/* --- addresses --- */

/* One part of an address to out; false when it has none or it is too long. */
static bool url_part(const char *url, CURLUPart part, char *out, size_t size)
{
    CURLU *u = curl_url();
    char *text = NULL;
    bool ok = false;

    if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        ok = strlen(text) < size;
        if (ok)
            memcpy(out, text, strlen(text) + 1);
        curl_free(text);
    }
    curl_url_cleanup(u);
    return ok;
}

static bool same_part(const char *a, const char *b, CURLUPart part)
{
    char x[HUB_URL_BYTES], y[HUB_URL_BYTES];

    return url_part(a, part, x, sizeof x) && url_part(b, part, y, sizeof y) &&
           strcasecmp(x, y) == 0;
}

/* Scheme, host and port. */
static bool same_origin(const char *a, const char *b)
{
    return same_part(a, b, CURLUPART_SCHEME) && same_part(a, b, CURLUPART_HOST) &&
           same_part(a, b, CURLUPART_PORT);
}

static const char *host_of(const char *url, char *out, size_t size)
{
    return url_part(url, CURLUPART_HOST, out, size) ? out : "the server";
}

static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
}

/* Whether the token may be sent to the hub at url: in the clear to this machine only. */
static bool may_see_token(const Fetcher *f, const char *url)
{
    char scheme[16], host[HUB_URL_BYTES];

    if (f->token[0] == '\0' || !url_part(url, CURLUPART_SCHEME, scheme, sizeof scheme) ||
        !url_part(url, CURLUPART_HOST, host, sizeof host))
        return false;
    return strcmp(scheme, "https") == 0 || is_loopback(host);
}

/* Where an answer to url leads to. */
static ErrCode next_url(char out[HUB_URL_BYTES], const char *url, const HubAnswer *a, Err *err)
{
    char host[256], scheme[16], user[8];
    CURLU *u = curl_url();
    char *text = NULL;

    if (u == NULL)
        return err_set(err, ERR_MEMORY, "no memory for an address");
    const bool ok = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                    curl_url_set(u, CURLUPART_URL, a->location, 0) == CURLUE_OK &&
                    curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK &&
                    strlen(text) < HUB_URL_BYTES;
    if (ok)
        memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    curl_url_cleanup(u);
    host_of(url, host, sizeof host);
    if (!ok || !url_part(out, CURLUPART_SCHEME, scheme, sizeof scheme) ||
        (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0) ||
        url_part(out, CURLUPART_USER, user, sizeof user))
        return err_set(err, ERR_FORMAT, "%s leads to an address that is not followed: %s",
                       host_of(url, host, sizeof host), a->location);
    if (strcmp(scheme, "http") == 0 && !same_part(out, url, CURLUPART_SCHEME))
        return err_set(err, ERR_FORMAT,
                       "%s leads from https to http, which is not followed: what came from there "
                       "could be anybody's",
                       host_of(url, host, sizeof host));
    return ERR_OK;
}

/* --- one exchange --- */

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer != NULL)
        *list = longer;
    return longer != NULL;
}

static bool make_headers(struct curl_slist **list, const Fetcher *f, const FetchRequest *r,
                         const char *url, bool at_home)
{
    char line[HEADER_BYTES];
    bool ok = add_header(list, "Accept-Encoding: identity");

    if (at_home && may_see_token(f, url)) {
        (void)snprintf(line, sizeof line, "Authorization: Bearer %s", f->token);
        ok = ok && add_header(list, line);
    }
    if (r->from > 0) {
        (void)snprintf(line, sizeof line, "Range: bytes=%" PRIu64 "-", r->from);
        ok = ok && add_header(list, line);
    }
    if (r->from > 0 && r->if_range[0] != '\0') {
        (void)snprintf(line, sizeof line, "If-Range: %s", r->if_range);
        ok = ok && add_header(list, line);
    }
    return ok;
}

/* What is asked of this machine in the clear, token included, leaves it through no proxy. */
static bool set_proxy(CURL *c, const char *url)
{
    char scheme[16], host[HUB_URL_BYTES];

    if (!url_part(url, CURLUPART_SCHEME, scheme, sizeof scheme) ||
        !url_part(url, CURLUPART_HOST, host, sizeof host))
        return false;
    return strcmp(scheme, "http") != 0 || !is_loopback(host) ||
           curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK;
}

static bool set_options(Exchange *x, const char *url, struct curl_slist *headers, char *problem)
{
    CURL *c = x->f->curl;

    curl_easy_reset(c); /* connections stay open */
    return curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK && set_proxy(c, url) &&
           curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOBODY, x->r->head ? 1L : 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_USERAGENT, "llorch-cpud/" LLORCH_VERSION) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)LOW_SPEED_BYTES) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)x->f->timeout_s) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_ERRORBUFFER, problem) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERDATA, x) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEDATA, x) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFODATA, x) == CURLE_OK;
}

/* Whom to trust, where the system's own list is not meant: names that curl's and Python's programs
 * look at. */
static bool set_authorities(CURL *c)
{
    const char *file = hub_environment("CURL_CA_BUNDLE");

    if (file == NULL)
        file = hub_environment("SSL_CERT_FILE");
    return file == NULL || curl_easy_setopt(c, CURLOPT_CAINFO, file) == CURLE_OK;
}

/* What may be different the next time: the network, a server that restarts. */
static bool is_passing(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static ErrCode failure(const Exchange *x, CURLcode code, const char *url, const char *problem)
{
    char host[256];
    const char *said = problem[0] != '\0' ? problem : curl_easy_strerror(code);

    if (x->ours)
        return x->err->code;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(x->err, ERR_CANCELLED, "interrupted");
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(x->err, ERR_MEMORY, "no memory for the answer of %s",
                       host_of(url, host, sizeof host));
    return err_set(x->err, is_passing(code) ? ERR_NETWORK : ERR_FORMAT, "%s: %s",
                   host_of(url, host, sizeof host), said);
}

/* at_home: url is the hub's own, and nobody but the hub has chosen it. */
static ErrCode exchange(Fetcher *f, const FetchRequest *r, const char *url, bool at_home,
                        HubAnswer *a, Err *err)
{
    char problem[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    Exchange x = {.f = f, .r = r, .a = a, .err = err};
    CURLcode code = CURLE_OUT_OF_MEMORY;

    hub_answer_begin(a);
    if (make_headers(&headers, f, r, url, at_home) && set_options(&x, url, headers, problem) &&
        set_authorities(f->curl))
        code = curl_easy_perform(f->curl);
    curl_easy_reset(f->curl); /* it must not point at what ends here */
    curl_slist_free_all(headers);
    a->elsewhere = !at_home;
    a->with_token = at_home && may_see_token(f, url);
    if (code == CURLE_OK || x.enough) {
        /* An empty body never came to on_body. */
        if (!x.enough && !x.body_began && wanted(&x) && !r->begin(r->ctx, a, err))
            return err->code;
        return ERR_OK;
    }
    return failure(&x, code, url, problem);
}

ErrCode fetch_run(Fetcher *f, const FetchRequest *r, HubAnswer *a, Err *err)
{
    char url[HUB_URL_BYTES], next[HUB_URL_BYTES], host[256];
    HubAnswer before;
    bool at_home = true;

    if (strlen(r->url) >= sizeof url)
        return err_set(err, ERR_LIMIT, "%s: address too long", r->url);
    memcpy(url, r->url, strlen(r->url) + 1);
    hub_answer_begin(&before);
    for (int i = 0; i <= FETCH_MAX_REDIRECTS; i++) {
        at_home = at_home && same_origin(url, f->endpoint);
        if (exchange(f, r, url, at_home, a, err) != ERR_OK)
            return err->code;
        if (at_home) {
            hub_answer_inherit(a, &before);
            before = *a;
        }
        if (!hub_answer_redirects(a))
            return ERR_OK;
        if (next_url(next, url, a, err) != ERR_OK)
            return err->code;
        /* Whoever keeps the bytes need not be asked what the hub has said. A mirror that has said
         * nothing leads to the hub that knows. */
        if (r->head && !same_origin(next, url) &&
            (a->commit[0] != '\0' || a->linked_etag[0] != '\0'))
            return ERR_OK;
        memcpy(url, next, sizeof url);
    }
    return err_set(err, ERR_FORMAT, "%s: more than %d redirections",
                   host_of(r->url, host, sizeof host), (int)FETCH_MAX_REDIRECTS);
}
