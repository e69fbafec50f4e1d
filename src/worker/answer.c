/* worker/answer.c: see answer.h.
 *
 * May include: common, http, compat. */
#include "worker/answer.h"

#include <string.h>
#include <strings.h>

#include "worker/request.h"

static const char content_type_json[] = "application/json";

typedef enum { SHAPE_WORKER, SHAPE_OPENAI, SHAPE_LLAMA } Shape;

bool answer_is_openai(const char *path)
{
    return strcmp(path, "/v1") == 0 || strncmp(path, "/v1/", 4) == 0;
}

static Shape shape_of(const char *path)
{
    if (answer_is_openai(path))
        return SHAPE_OPENAI;
    if (strcmp(path, "/tokenize") == 0 || strcmp(path, "/detokenize") == 0)
        return SHAPE_LLAMA;
    return SHAPE_WORKER;
}

/* 505 is about the request. */
static const char *worker_code(int status)
{
    if (status == 503)
        return "WORKER_UNHEALTHY";
    return status >= 500 && status != 505 ? "INTERNAL" : "INVALID_REQUEST";
}

void answer_error_body(JsonBuf *out, const char *path, const ApiError *e, bool retriable)
{
    switch (shape_of(path)) {
    case SHAPE_OPENAI:
        api_error_openai(out, e);
        break;
    case SHAPE_LLAMA:
        api_error_llama(out, e);
        break;
    default:
        request_error_body(out, worker_code(e->status), e->message, retriable);
    }
}

/* Constants: there is no memory to write one. */
static const char *no_memory(Shape shape)
{
    switch (shape) {
    case SHAPE_OPENAI:
        return "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
               "\"code\":null}}";
    case SHAPE_LLAMA:
        return "{\"error\":{\"code\":500,\"message\":\"out of memory\",\"type\":\"server_error\"}}";
    default:
        return "{\"code\":\"INTERNAL\",\"message\":\"Internal error: out of "
               "memory\",\"retriable\":true}";
    }
}

void answer_json(HttpConn *conn, const char *path, int status, const char *headers, JsonBuf *body)
{
    if (body->oom) {
        const char *text = no_memory(shape_of(path));

        http_respond(conn, 500, content_type_json, NULL, text, strlen(text));
    } else {
        http_respond(conn, status, content_type_json, headers, body->data, body->len);
    }
    json_buf_free(body);
}

void answer_error(HttpConn *conn, const char *path, const ApiError *e, const char *headers,
                  bool retriable)
{
    JsonBuf body = {0};

    answer_error_body(&body, path, e, retriable);
    answer_json(conn, path, e->status, headers, &body);
}

void answer_refusal(HttpConn *conn, const char *path, int status, const char *message)
{
    const ApiError e = {.status = status, .message = message};

    answer_error(conn, path, &e, NULL, false);
}

/* Parameters such as charset may follow. */
static bool is_json_type(const char *type)
{
    const size_t n = sizeof content_type_json - 1;

    if (type == NULL || strncasecmp(type, content_type_json, n) != 0)
        return false;
    type += n;
    type += strspn(type, " \t");
    return *type == '\0' || *type == ';';
}

bool answer_check_content(HttpConn *conn, const HttpRequest *request)
{
    if (request->content_encoding != NULL)
        answer_refusal(conn, request->path, 415, "Content-Encoding is not supported");
    else if (!is_json_type(request->content_type))
        answer_refusal(conn, request->path, 415, "Content-Type must be application/json");
    else
        return true;
    return false;
}
