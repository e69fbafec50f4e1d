/* tests/fuzz/fuzz_http_request.c: bytes as a client sends them, one request after the other.
 *
 * Fed whole, in pieces and byte by byte they must give the same requests, or the same refusal at
 * the same place. What is accepted is read once more by a second reader, which knows nothing but
 * the grammar of RFC 9112: where the two disagree about the end of a request, one could be smuggled
 * behind another. */
#include "fuzz.h"

#include <stdbool.h>
#include <strings.h>

#include "http/request_parser.h"

enum { MAX_REQUESTS = 64, N_LIMITS = 2, BUDGET = 1 << 20 };

/* What became of one request. */
typedef struct {
    RequestResult result;
    int status; /* of a refusal */
    const char *error;
    size_t end; /* offset behind it */
    char method[32], id[REQUEST_ID_BYTES];
    char path[256], type[64], encoding[64];
    bool keep_alive, is_http_10;
    size_t n_body;
    char *body;
} Outcome;

typedef struct {
    int n;
    Outcome all[MAX_REQUESTS];
} Outcomes;

/* --- the second reader --- */

typedef struct {
    const char *at, *end;
    bool good;
} Reader;

/* The line that begins here, without its CR LF. */
static const char *read_line(Reader *r, size_t *n)
{
    const char *line = r->at;
    const char *lf = memchr(line, '\n', (size_t)(r->end - line));

    *n = 0;
    if (lf == NULL || lf == line || lf[-1] != '\r') {
        r->good = false;
        r->at = r->end;
        return line;
    }
    *n = (size_t)(lf - 1 - line);
    r->at = lf + 1;
    for (size_t i = 0; i < *n; i++)
        if ((unsigned char)line[i] < ' ' ? line[i] != '\t' : line[i] == 0x7f)
            r->good = false;
    return line;
}

static bool is_token(const char *s, size_t n)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    for (size_t i = 0; i < n; i++)
        if (s[i] == '\0' || strchr(allowed, s[i]) == NULL)
            return false;
    return n > 0;
}

typedef struct {
    int n_hosts, n_lengths, n_codings;
    size_t length;
} Framing;

static bool is_word(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

static void read_length(Reader *r, Framing *f, const char *s, size_t n)
{
    f->length = 0;
    f->n_lengths++;
    r->good = r->good && n > 0;
    for (size_t i = 0; i < n; i++) {
        r->good = r->good && s[i] >= '0' && s[i] <= '9' && f->length < BUDGET;
        f->length = f->length * 10 + (size_t)(s[i] - '0');
    }
}

/* Header lines up to the empty line; with NULL, trailer fields, which mean nothing. */
static void read_fields(Reader *r, Framing *f)
{
    for (;;) {
        size_t n;
        const char *line = read_line(r, &n);
        const char *colon = memchr(line, ':', n);
        const char *value;
        size_t n_name;

        if (!r->good || n == 0)
            return;
        n_name = colon != NULL ? (size_t)(colon - line) : 0;
        r->good = r->good && is_token(line, n_name);
        if (!r->good)
            return;
        if (f == NULL)
            continue;
        value = colon + 1;
        n -= n_name + 1;
        for (; n > 0 && (*value == ' ' || *value == '\t'); n--)
            value++;
        while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
            n--;
        if (is_word(line, n_name, "host"))
            f->n_hosts++;
        else if (is_word(line, n_name, "content-length"))
            read_length(r, f, value, n);
        else if (is_word(line, n_name, "transfer-encoding")) {
            f->n_codings++;
            r->good = r->good && is_word(value, n, "chunked");
        }
    }
}

/* The request line; whether it says HTTP/1.1. */
static bool read_request_line(Reader *r)
{
    size_t n;
    const char *line, *first, *last;

    if (r->end - r->at >= 2 && memcmp(r->at, "\r\n", 2) == 0)
        r->at += 2;
    line = read_line(r, &n);
    first = memchr(line, ' ', n);
    if (!r->good || n < 12 || first == NULL || memcmp(line + n - 9, " HTTP/1.", 8) != 0) {
        r->good = false;
        return false;
    }
    last = line + n - 9;
    r->good = first < last - 1 && is_token(line, (size_t)(first - line)) &&
              memchr(first + 1, ' ', (size_t)(last - first - 1)) == NULL;
    return line[n - 1] == '1';
}

static size_t read_chunk_size(Reader *r)
{
    static const char digits[] = "0123456789abcdef";
    size_t n, i = 0, size = 0;
    const char *line = read_line(r, &n);

    for (; i < n && r->good && size < BUDGET; i++) {
        const char *digit =
            strchr(digits, line[i] >= 'A' && line[i] <= 'F' ? line[i] + 32 : line[i]);

        if (digit == NULL)
            break;
        size = size * 16 + (size_t)(digit - digits);
    }
    r->good = r->good && i > 0 && (i == n || line[i] == ';');
    return size;
}

static void compare_body(Reader *r, const Outcome *o, size_t *n_seen, size_t n)
{
    r->good = r->good && n <= (size_t)(r->end - r->at) && n <= o->n_body - *n_seen &&
              memcmp(o->body + *n_seen, r->at, n) == 0;
    if (!r->good)
        return;
    r->at += n;
    *n_seen += n;
}

/* Whether [at, end) is one request, whole, with this body. */
static bool second_reader_agrees(const char *at, const char *end, const Outcome *o)
{
    Reader r = {.at = at, .end = end, .good = true};
    Framing f = {.n_hosts = 0};
    const bool is_11 = read_request_line(&r);
    size_t n_seen = 0, n = 0;

    read_fields(&r, &f);
    if (!r.good || f.n_hosts > 1 || (is_11 && f.n_hosts != 1) || f.n_lengths + f.n_codings > 1 ||
        (f.n_codings > 0 && !is_11))
        return false;
    if (f.n_lengths > 0)
        compare_body(&r, o, &n_seen, f.length);
    while (f.n_codings > 0 && r.good && (n = read_chunk_size(&r)) > 0) {
        compare_body(&r, o, &n_seen, n);
        r.good = r.good && r.end - r.at >= 2 && memcmp(r.at, "\r\n", 2) == 0;
        r.at += 2;
    }
    if (f.n_codings > 0 && r.good)
        read_fields(&r, NULL);
    return r.good && r.at == end && n_seen == o->n_body;
}

/* --- the parser --- */

static void copy(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text != NULL ? text : "(none)");
}

static void take(Outcome *o, RequestParser *p, RequestResult result, size_t end)
{
    const ParsedRequest *q = request_parser_request(p);

    *o = (Outcome){.result = result, .end = end};
    if (result == REQUEST_MORE)
        return;
    copy(o->method, sizeof o->method, q->method_name);
    copy(o->id, sizeof o->id, q->correlation_id);
    o->is_http_10 = q->is_http_10;
    if (result == REQUEST_BAD) {
        o->status = request_parser_status(p);
        o->error = request_parser_error(p);
        FUZZ_CHECK(o->status >= 400 && o->status <= 599 && o->error != NULL);
        return;
    }
    FUZZ_CHECK(q->path[0] != '\0' && q->body[q->n_body] == '\0');
    FUZZ_CHECK(q->content_type == NULL || strlen(q->content_type) < 256);
    fuzz_touch(q->path, strlen(q->path));
    copy(o->path, sizeof o->path, q->path);
    copy(o->type, sizeof o->type, q->content_type);
    copy(o->encoding, sizeof o->encoding, q->content_encoding);
    o->keep_alive = q->keep_alive;
    o->n_body = q->n_body;
    o->body = malloc(q->n_body + 1);
    FUZZ_CHECK(o->body != NULL);
    memcpy(o->body, q->body, q->n_body + 1);
}

/* How long the piece is that begins at this offset. */
typedef size_t PieceAt(const uint8_t *data, size_t size, size_t at);

static size_t whole_at(const uint8_t *data, size_t size, size_t at)
{
    (void)data;
    return size - at;
}

static size_t byte_at(const uint8_t *data, size_t size, size_t at)
{
    (void)data, (void)size, (void)at;
    return 1;
}

static size_t some_at(const uint8_t *data, size_t size, size_t at)
{
    const size_t n = 1 + (data[at] * 7u + data[size - 1 - at] + at) % 23;

    return n < size - at ? n : size - at;
}

/* Each piece lies alone on the heap, so that reading beyond it is seen. */
static RequestResult feed_piece(RequestParser *p, const uint8_t *data, size_t n, size_t *used)
{
    char *piece = malloc(n);
    RequestResult result;

    FUZZ_CHECK(piece != NULL);
    memcpy(piece, data, n);
    result = request_parser_feed(p, piece, n, used);
    free(piece);
    FUZZ_CHECK(*used <= n && (result != REQUEST_MORE || *used == n));
    (void)request_parser_wants_continue(p);
    FUZZ_CHECK(!request_parser_wants_continue(p));
    return result;
}

static void parse_all(Outcomes *out, const RequestLimits *limits, const uint8_t *data, size_t size,
                      PieceAt *piece_at)
{
    RequestParser *p = request_parser_new(limits);
    RequestResult result = REQUEST_MORE;
    size_t at = 0;

    FUZZ_CHECK(p != NULL);
    out->n = 0;
    while (at < size && out->n < MAX_REQUESTS) {
        size_t n = piece_at(data, size, at), used;

        result = feed_piece(p, data + at, n, &used);
        at += used;
        if (result == REQUEST_MORE)
            continue;
        take(&out->all[out->n++], p, result, at);
        if (result == REQUEST_BAD)
            break;
        request_parser_reset(p);
    }
    if (out->n < MAX_REQUESTS && result != REQUEST_BAD)
        take(&out->all[out->n++], p, REQUEST_MORE, at);
    request_parser_free(p);
}

static void free_all(Outcomes *o)
{
    for (int i = 0; i < o->n; i++)
        free(o->all[i].body);
}

static void check_same(const Outcomes *a, const Outcomes *b)
{
    FUZZ_CHECK(a->n == b->n);
    for (int i = 0; i < a->n; i++) {
        const Outcome *x = &a->all[i], *y = &b->all[i];

        FUZZ_CHECK(x->result == y->result && x->status == y->status && x->error == y->error);
        FUZZ_CHECK(x->result == REQUEST_BAD || x->end == y->end);
        FUZZ_CHECK(strcmp(x->method, y->method) == 0 && strcmp(x->id, y->id) == 0);
        FUZZ_CHECK(strcmp(x->path, y->path) == 0 && strcmp(x->type, y->type) == 0);
        FUZZ_CHECK(strcmp(x->encoding, y->encoding) == 0 && x->n_body == y->n_body);
        FUZZ_CHECK(x->keep_alive == y->keep_alive && x->is_http_10 == y->is_http_10);
        FUZZ_CHECK(x->n_body == 0 || memcmp(x->body, y->body, x->n_body) == 0);
    }
}

static void check_limits(RequestLimits *limits, const uint8_t *data, size_t size)
{
    static PieceAt *const ways[] = {whole_at, some_at, byte_at};
    static Outcomes first, other;
    size_t budget = BUDGET, begin = 0;

    limits->body_budget = &budget;
    parse_all(&first, limits, data, size, whole_at);
    for (size_t i = 1; i < sizeof ways / sizeof ways[0]; i++) {
        parse_all(&other, limits, data, size, ways[i]);
        check_same(&first, &other);
        free_all(&other);
    }
    for (int i = 0; i < first.n && first.all[i].result == REQUEST_COMPLETE; i++) {
        FUZZ_CHECK(second_reader_agrees((const char *)data + begin,
                                        (const char *)data + first.all[i].end, &first.all[i]));
        begin = first.all[i].end;
    }
    free_all(&first);
    FUZZ_CHECK(budget == BUDGET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RequestLimits limits[N_LIMITS] = {
        {.head = {8192, 32768, 100}, .max_body_bytes = 65536},
        {.head = {32, 96, 5}, .max_body_bytes = 17}}; /* small ones, so that they are met */

    for (int i = 0; i < N_LIMITS; i++)
        check_limits(&limits[i], data, size);
    return 0;
}
