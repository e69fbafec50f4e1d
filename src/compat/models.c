/* compat/models.c: see models.h.
 *
 * May include: common, backend. */
#include "compat/models.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "compat/api_error.h"

/* max_model_len is vLLM's: the context length, for clients that cut their prompts. */
static void write_entry(JsonBuf *out, const BackendInfo *info, int64_t created)
{
    json_buf_printf(out, "{\"id\":");
    json_buf_string(out, info->model_name, strlen(info->model_name));
    json_buf_printf(out,
                    ",\"object\":\"model\",\"created\":%" PRId64
                    ",\"owned_by\":\"llorch-cpud\",\"max_model_len\":%d}",
                    created, info->n_ctx);
}

void models_list(JsonBuf *out, const BackendInfo *info, int64_t created)
{
    json_buf_printf(out, "{\"object\":\"list\",\"data\":[");
    write_entry(out, info, created);
    json_buf_printf(out, "]}");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether the encoded name is that name. */
static bool is_named(const char *encoded, const char *name)
{
    while (*encoded != '\0' && *name != '\0') {
        char c = *encoded++;

        if (c == '%' && hex_digit(encoded[0]) >= 0 && hex_digit(encoded[1]) >= 0) {
            c = (char)(hex_digit(encoded[0]) * 16 + hex_digit(encoded[1]));
            encoded += 2;
        }
        if (c != *name++)
            return false;
    }
    return *encoded == *name; /* both at their end */
}

int models_one(JsonBuf *out, const BackendInfo *info, int64_t created, const char *name)
{
    char shown[128], message[256];
    const ApiError e = {
        .status = 404, .message = message, .param = "model", .code = "model_not_found"};

    if (is_named(name, info->model_name)) {
        write_entry(out, info, created);
        return 200;
    }
    text_escape(shown, sizeof shown, name, strlen(name));
    snprintf(message, sizeof message, "The model '%s' does not exist", shown);
    api_error_openai(out, &e);
    return 404;
}
