/* compat/api_error.c: see api_error.h.
 *
 * May include: common. */
#include "compat/api_error.h"

#include <string.h>

static void add_text(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    if (text != NULL)
        json_buf_string(out, text, strlen(text));
    else
        json_buf_printf(out, "null");
}

/* For what is refused before anybody looks at the fields. */
static const char *code_of(int status)
{
    switch (status) {
    case 401:
        return "invalid_api_key";
    case 404:
        return "unknown_url";
    case 405:
        return "method_not_supported";
    case 413:
        return "request_too_large";
    case 415:
        return "unsupported_content_type";
    case 503:
        return "service_unavailable";
    default:
        return NULL;
    }
}

void api_error_openai(JsonBuf *out, const ApiError *e)
{
    /* 505 is about the request; 408 is, unless what took too long was the answer. */
    const bool is_server =
        (e->status >= 500 && e->status != 505) || (e->status == 408 && e->code != NULL);

    json_buf_printf(out, "{\"error\":{");
    add_text(out, "message", e->message);
    json_buf_printf(out, ",");
    add_text(out, "type", is_server ? "server_error" : "invalid_request_error");
    json_buf_printf(out, ",");
    add_text(out, "param", e->param);
    json_buf_printf(out, ",");
    add_text(out, "code", e->code != NULL ? e->code : code_of(e->status));
    json_buf_printf(out, "}}");
}

static const char *llama_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 404:
        return "not_found_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 && status != 505 ? "server_error" : "invalid_request_error";
    }
}

void api_error_llama(JsonBuf *out, const ApiError *e)
{
    json_buf_printf(out, "{\"error\":{\"code\":%d,", e->status);
    add_text(out, "message", e->message);
    json_buf_printf(out, ",");
    add_text(out, "type", llama_type(e->status));
    json_buf_printf(out, "}}");
}
