/* http/request_parser.c: see request_parser.h. RFC 9110 and 9112; limits: contract 5.
 *
 * May include: nothing. */
#include "http/request_parser.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/header_value.h"

enum {
    FIELD_BYTES = 32,           /* longer names are none that we know */
    VALUE_BYTES = 256,          /* longer values match nothing that we compare with */
    AUTHORIZATION_BYTES = 1024, /* the scheme, blanks and the longest key */
    BODY_FIRST_BYTES = 4096,
    BODY_FREE_BYTES = 64 * 1024,
    CHUNK_EXTENSION_BYTES = 4096 /* they are ignored, but not without end */
};

typedef enum { PHASE_HEAD, PHASE_BODY, PHASE_TRAILER, PHASE_DONE } Phase;

struct RequestParser {
    llhttp_t http;
    const RequestLimits *limits;
    RequestHead head;
    Phase phase;
    bool head_complete; /* llhttp agrees that the head ended */
    ParsedRequest request;

    char *target; /* max_request_line + 1 bytes, allocated with the first request line */
    size_t n_target;
    char *body;
    size_t body_cap;
    size_t n_extensions;

    char field[FIELD_BYTES]; /* the header line being read; lengths may exceed what is kept */
    size_t n_field;
    char value[AUTHORIZATION_BYTES];
    size_t n_value;

    char correlation_id[REQUEST_ID_BYTES];
    char content_type[VALUE_BYTES];
    char content_encoding[VALUE_BYTES];
    char authorization[AUTHORIZATION_BYTES];
    char if_none_match[VALUE_BYTES];
    int n_ids, n_hosts, n_lengths, n_codings;
    bool is_chunked; /* the coding is exactly "chunked" */
    bool length_is_number;
    bool host_is_valid; /* of the last one */
    bool expects_continue, expects_other;
    bool wants_continue;

    int status; /* 0, or the status that refuses */
    const char *error;
};

/* Fails the running llhttp_execute. The first reason stays. */
static int refuse(RequestParser *p, int status, const char *error)
{
    if (p->status == 0) {
        p->status = status;
        p->error = error;
    }
    return HPE_USER;
}

/* Appends to a fixed buffer what fits; *n counts everything. */
static void keep(char *buffer, size_t size, size_t *n, const char *at, size_t n_at)
{
    if (*n < size) {
        const size_t room = size - *n;
        memcpy(buffer + *n, at, n_at < room ? n_at : room);
    }
    *n += n_at;
}

static int on_url(llhttp_t *http, const char *at, size_t n)
{
    RequestParser *p = http->data;

    if (p->target == NULL)
        p->target = malloc(p->limits->head.max_request_line + 1);
    if (p->target == NULL)
        return refuse(p, 503, "out of memory");
    /* The request line was measured before llhttp saw it, so this always fits. */
    keep(p->target, p->limits->head.max_request_line, &p->n_target, at, n);
    return 0;
}

static int on_header_field(llhttp_t *http, const char *at, size_t n)
{
    RequestParser *p = http->data;

    keep(p->field, sizeof p->field, &p->n_field, at, n);
    return 0;
}

static int on_header_value(llhttp_t *http, const char *at, size_t n)
{
    RequestParser *p = http->data;

    keep(p->value, sizeof p->value, &p->n_value, at, n);
    return 0;
}

static bool field_is(const RequestParser *p, const char *name)
{
    return p->n_field == strlen(name) && strncasecmp(p->field, name, p->n_field) == 0;
}

static bool value_is(const RequestParser *p, const char *text)
{
    return p->n_value == strlen(text) && strncasecmp(p->value, text, p->n_value) == 0;
}

/* Whether all of the value is in p->value. */
static bool is_kept(const RequestParser *p)
{
    return p->n_value <= sizeof p->value;
}

/* Keeps the value for the routes. What cannot be taken at its word becomes "?", which matches
 * nothing. */
static void keep_value(const RequestParser *p, char *out, size_t size, const char **pointer)
{
    if (*pointer != NULL || p->n_value >= size) {
        memcpy(out, "?", 2);
    } else {
        memcpy(out, p->value, p->n_value);
        out[p->n_value] = '\0';
    }
    *pointer = out;
}

static void keep_correlation_id(RequestParser *p)
{
    p->correlation_id[0] = '\0';
    if (++p->n_ids > 1 || !header_value_is_id(p->value, p->n_value, REQUEST_ID_BYTES - 1))
        return;
    memcpy(p->correlation_id, p->value, p->n_value);
    p->correlation_id[p->n_value] = '\0';
}

static void trim_value(RequestParser *p)
{
    while (p->n_value > 0 && is_kept(p) &&
           (p->value[p->n_value - 1] == ' ' || p->value[p->n_value - 1] == '\t'))
        p->n_value--;
}

static void take_header(RequestParser *p)
{
    if (field_is(p, "host")) {
        p->n_hosts++;
        p->host_is_valid = is_kept(p) && header_value_is_host(p->value, p->n_value);
    } else if (field_is(p, "content-length")) {
        p->n_lengths++;
        p->length_is_number = is_kept(p) && header_value_is_number(p->value, p->n_value);
    } else if (field_is(p, "transfer-encoding")) {
        p->n_codings++;
        p->is_chunked = value_is(p, "chunked");
    } else if (field_is(p, "expect")) {
        if (value_is(p, "100-continue"))
            p->expects_continue = true;
        else
            p->expects_other = true;
    } else if (field_is(p, "x-correlation-id")) {
        keep_correlation_id(p);
    } else if (field_is(p, "content-type")) {
        keep_value(p, p->content_type, sizeof p->content_type, &p->request.content_type);
    } else if (field_is(p, "content-encoding")) {
        keep_value(p, p->content_encoding, sizeof p->content_encoding,
                   &p->request.content_encoding);
    } else if (field_is(p, "authorization")) {
        keep_value(p, p->authorization, sizeof p->authorization, &p->request.authorization);
    } else if (field_is(p, "if-none-match")) {
        keep_value(p, p->if_none_match, sizeof p->if_none_match, &p->request.if_none_match);
    }
}

static int on_header_value_complete(llhttp_t *http)
{
    RequestParser *p = http->data;

    trim_value(p);
    if (p->phase ==
        PHASE_HEAD) /* trailer fields are dropped: nothing may be changed after the fact */
        take_header(p);
    p->n_field = 0;
    p->n_value = 0;
    return 0;
}

/* Exactly one of: no body, one valid Content-Length, one "Transfer-Encoding: chunked". */
static int check_framing(RequestParser *p)
{
    if (p->n_codings + p->n_lengths > 1)
        return refuse(p, 400, "more than one Content-Length or Transfer-Encoding");
    if (p->n_codings == 1 && (!p->is_chunked || p->request.is_http_10))
        return refuse(p, 400, "only Transfer-Encoding: chunked, in HTTP/1.1, is accepted");
    if (p->n_lengths == 1 && !p->length_is_number)
        return refuse(p, 400, "Content-Length is not a number");
    return 0;
}

/* Who may not send a request learns nothing from it, not even which sizes and paths there are. */
static int check_permission(RequestParser *p)
{
    const RequestLimits *limits = p->limits;
    const char *refusal =
        limits->refuse_head != NULL
            ? limits->refuse_head(limits->refuse_ctx, p->request.path, p->request.authorization)
            : NULL;

    return refusal != NULL ? refuse(p, 401, refusal) : 0;
}

static int check_target(RequestParser *p)
{
    static const char scheme[] = "http://";
    const bool is_options = strcmp(p->request.method_name, "OPTIONS") == 0;
    const bool is_connect = strcmp(p->request.method_name, "CONNECT") == 0;
    char *path = p->target;

    if (path == NULL)
        return refuse(p, 400, "the request line has no target");
    path[p->n_target] = '\0';
    if (strchr(path, '#') != NULL)
        return refuse(p, 400, "the target holds a fragment");
    if (strncasecmp(path, scheme, sizeof scheme - 1) == 0) {
        path += sizeof scheme - 1;
        if (strchr("/?", *path) != NULL) /* or the end */
            return refuse(p, 400, "the target names no host");
        path += strcspn(path, "/?");
    } else if (*path != '/' && !is_connect && !(is_options && strcmp(path, "*") == 0)) {
        return refuse(p, 400, "the target does not begin with /");
    }
    path[strcspn(path, "?")] = '\0';
    p->request.path = *path == '\0' ? "/" : path;
    return 0;
}

static int on_headers_complete(llhttp_t *http)
{
    RequestParser *p = http->data;

    p->head_complete = true;
    p->request.keep_alive = llhttp_should_keep_alive(http) != 0;
    p->request.is_http_10 = http->http_minor == 0;
    p->request.method_name = llhttp_method_name((llhttp_method_t)http->method);
    p->request.correlation_id = p->correlation_id;
    if (check_target(p) != 0)
        return HPE_USER;
    if (p->n_hosts > 1 || (p->n_hosts == 0 && !p->request.is_http_10))
        return refuse(p, 400, "HTTP/1.1 needs exactly one Host");
    if (p->n_hosts == 1 && !p->host_is_valid)
        return refuse(p, 400, "the Host is not a name or an address with or without a port");
    if (check_framing(p) != 0)
        return HPE_USER;
    if (p->expects_other)
        return refuse(p, 417, "the only expectation that can be met is 100-continue");
    if (check_permission(p) != 0)
        return HPE_USER;
    if (p->n_lengths == 1 && http->content_length > p->limits->max_body_bytes)
        return refuse(p, 413, "the body is too large");
    p->wants_continue = p->expects_continue && !p->request.is_http_10 &&
                        (p->n_codings == 1 || http->content_length > 0);
    /* No other protocol is spoken after this request, whatever Upgrade or CONNECT ask for. */
    http->upgrade = 0;
    return 0;
}

/* What a body of this size takes of the common budget. Small ones take nothing: a few clients that
 * hold back the end of large bodies must not keep everybody else from sending a job. */
static size_t budget_share(size_t cap)
{
    return cap > BODY_FREE_BYTES ? cap - BODY_FREE_BYTES : 0;
}

/* Grows by doubling, from the bytes that really arrived: a Content-Length alone allocates nothing.
 */
static bool reserve_body(RequestParser *p, size_t n)
{
    size_t cap = p->body_cap == 0 ? BODY_FIRST_BYTES : p->body_cap;
    char *body;

    if (n + 1 <= p->body_cap)
        return true;
    while (cap < n + 1)
        cap *= 2;
    if (cap > p->limits->max_body_bytes + 1)
        cap = p->limits->max_body_bytes + 1;
    if (budget_share(cap) - budget_share(p->body_cap) > *p->limits->body_budget)
        return false;
    body = realloc(p->body, cap);
    if (body == NULL)
        return false;
    *p->limits->body_budget -= budget_share(cap) - budget_share(p->body_cap);
    p->body = body;
    p->body_cap = cap;
    return true;
}

static int on_body(llhttp_t *http, const char *at, size_t n)
{
    RequestParser *p = http->data;

    p->wants_continue = false;
    if (n > p->limits->max_body_bytes - p->request.n_body)
        return refuse(p, 413, "the body is too large");
    if (!reserve_body(p, p->request.n_body + n))
        return refuse(p, 503, "no memory for more request bodies");
    memcpy(p->body + p->request.n_body, at, n);
    p->request.n_body += n;
    return 0;
}

static int on_chunk_header(llhttp_t *http)
{
    RequestParser *p = http->data;

    p->wants_continue = false;
    if (http->content_length > p->limits->max_body_bytes - p->request.n_body)
        return refuse(p, 413, "the body is too large");
    if (http->content_length > 0)
        return 0;
    /* The last chunk: what follows are header lines again, and they are scanned first. */
    p->phase = PHASE_TRAILER;
    request_head_begin_trailer(&p->head);
    return HPE_PAUSED;
}

static int on_chunk_extension(llhttp_t *http, const char *at, size_t n)
{
    RequestParser *p = http->data;

    (void)at;
    p->n_extensions += n;
    if (p->n_extensions > CHUNK_EXTENSION_BYTES)
        return refuse(p, 400, "the chunk extensions are too long");
    return 0;
}

static int on_message_complete(llhttp_t *http)
{
    RequestParser *p = http->data;

    p->phase = PHASE_DONE;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_message_complete = on_message_complete,
};

RequestParser *request_parser_new(const RequestLimits *limits)
{
    RequestParser *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->limits = limits;
    request_parser_reset(p);
    return p;
}

void request_parser_reset(RequestParser *p)
{
    const RequestLimits *limits = p->limits;

    *limits->body_budget += budget_share(p->body_cap);
    free(p->body);
    free(p->target);
    memset(p, 0, sizeof *p);
    p->limits = limits;
    request_head_init(&p->head, &limits->head);
    llhttp_init(&p->http, HTTP_REQUEST, &settings);
    p->http.data = p;
    p->request.method_name = "";
    p->request.correlation_id = p->correlation_id;
}

void request_parser_free(RequestParser *p)
{
    if (p == NULL)
        return;
    *p->limits->body_budget += budget_share(p->body_cap);
    free(p->body);
    free(p->target);
    explicit_bzero(p, sizeof *p); /* it may hold a key */
    free(p);
}

/* Gives data[0..n) to llhttp and says how far it came. */
static size_t execute(RequestParser *p, const char *data, size_t n)
{
    const llhttp_errno_t result = llhttp_execute(&p->http, data, n);

    if (result == HPE_OK)
        return n;
    if (result == HPE_PAUSED && (p->phase == PHASE_TRAILER || p->phase == PHASE_DONE)) {
        const size_t used = (size_t)(llhttp_get_error_pos(&p->http) - data);
        llhttp_resume(&p->http);
        return used;
    }
    refuse(p, 400, "the request is not valid HTTP/1.1");
    return 0;
}

/* The scanner and llhttp must see the end of the head, or of the trailer, at the same byte. */
static void check_agreement(RequestParser *p, Phase before, size_t used, size_t n)
{
    const bool ended = p->head.state == HEAD_DONE;
    const bool agrees =
        before == PHASE_HEAD ? p->head_complete == ended : (p->phase == PHASE_DONE) == ended;

    if (used != n || !agrees)
        refuse(p, 400, "the request is not valid HTTP/1.1");
}

static size_t feed_lines(RequestParser *p, const char *data, size_t n)
{
    const Phase before = p->phase;
    const size_t good = request_head_scan(&p->head, data, n);

    if (good > 0) {
        const size_t used = execute(p, data, good);
        if (p->status == 0)
            check_agreement(p, before, used, good);
    }
    if (p->head.status != 0)
        refuse(p, p->head.status, p->head.error);
    if (p->status == 0 && p->phase == PHASE_HEAD && p->head.state == HEAD_DONE)
        p->phase = PHASE_BODY;
    return good;
}

RequestResult request_parser_feed(RequestParser *p, const char *data, size_t n, size_t *used)
{
    *used = 0;
    while (*used < n && p->phase != PHASE_DONE && p->status == 0) {
        if (p->phase == PHASE_BODY)
            *used += execute(p, data + *used, n - *used);
        else
            *used += feed_lines(p, data + *used, n - *used);
    }
    if (p->status != 0)
        return REQUEST_BAD;
    if (p->phase != PHASE_DONE)
        return REQUEST_MORE;
    if (p->body != NULL)
        p->body[p->request.n_body] = '\0';
    p->request.body = p->body != NULL ? p->body : "";
    return REQUEST_COMPLETE;
}

const ParsedRequest *request_parser_request(const RequestParser *p)
{
    return &p->request;
}

const char *request_parser_path(RequestParser *p)
{
    if (p->request.path != NULL)
        return p->request.path;
    if (p->target == NULL || p->head.state <= HEAD_VERSION)
        return "";
    /* What is wrong with it, or with the lines behind it, does not matter for its beginning. */
    p->target[p->n_target] = '\0';
    p->target[strcspn(p->target, "?")] = '\0';
    return p->target;
}

int request_parser_status(const RequestParser *p)
{
    return p->status;
}

const char *request_parser_error(const RequestParser *p)
{
    return p->error;
}

bool request_parser_wants_continue(RequestParser *p)
{
    const bool wants = p->wants_continue;

    p->wants_continue = false;
    return wants;
}
