/* tests/fuzz/fuzz_text.c: any bytes on their way to a log, a terminal, or a message: one line of
 * printable UTF-8 that fits. The first two bytes choose the room and where the input is cut in two.
 */
#include "fuzz.h"

#include <math.h>

#include "common/text.h"

enum { MAX_ROOM = 600 };

/* One line: valid UTF-8 without control characters, C1 included, nor, where it is
 * escaped for a terminal, what ends or turns a line in Unicode. */
static void check_line(const char *line, size_t n, bool escaped)
{
    for (size_t i = 0, used; i < n; i += used) {
        const int c = text_utf8_next(line + i, n - i, &used);

        FUZZ_CHECK(c >= 0x20 && (c < 0x7f || c >= 0xa0));
        FUZZ_CHECK(!escaped || (c != 0x2028 && c != 0x2029 && c != 0x202e));
    }
}

static void check_escape(const char *text, size_t n, size_t room)
{
    /* Exactly as large as it must be. */
    char *out = malloc(room > 0 ? room : 1);

    FUZZ_CHECK(out != NULL);

    const size_t len = text_escape(out, room, text, n);

    FUZZ_CHECK(room == 0 ? len == 0 : len < room && out[len] == '\0');
    check_line(out, len, true);
    free(out);
}

static void check_messages(const char *text, size_t n, size_t cut)
{
    char *copy = malloc(n + 1);
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, text, n);
    copy[n] = '\0';
    FUZZ_CHECK(err_set(&err, ERR_FORMAT, "%s", copy) == ERR_FORMAT);
    check_line(err.msg, strlen(err.msg), true);
    FUZZ_CHECK(err_set(&err, ERR_IO, "%.*s: %s", (int)cut, copy, copy + cut) == ERR_IO);
    check_line(err.msg, strlen(err.msg), true);
    for (int i = 0; i < 3; i++) {
        FUZZ_CHECK(err_prefix(&err, "%.*s", (int)cut, copy) == ERR_IO);
        FUZZ_CHECK(strnlen(err.msg, sizeof err.msg) < sizeof err.msg);
        check_line(err.msg, strlen(err.msg), true);
    }
    free(copy);
}

/* Characters one by one cover the bytes, and the whole is valid when each of them is. */
static void check_utf8(const char *text, size_t n)
{
    char unit[TEXT_JSON_UNIT_BYTES];
    size_t n_chars = 0, used;
    bool valid = true;

    for (size_t i = 0; i < n; i += used, n_chars++) {
        const int c = text_utf8_next(text + i, n - i, &used);

        FUZZ_CHECK(used >= 1 && used <= 4 && used <= n - i && c < 0x110000);
        FUZZ_CHECK(c != TEXT_UTF8_INCOMPLETE || i + used == n);
        valid = valid && c >= 0;

        const size_t k = text_json_unit(unit, text + i, n - i, &used);

        FUZZ_CHECK(k >= 1 && k <= sizeof unit && text_utf8_valid(unit, k));
        check_line(unit, k, false);
    }
    FUZZ_CHECK(text_utf8_valid(text, n) == valid);
    FUZZ_CHECK(!valid || text_utf8_count(text, n) == n_chars);
}

static void check_base64(const char *text, size_t n)
{
    const size_t n_encoded = (n + 2) / 3 * 4;
    char *encoded = malloc(n_encoded + 1);
    unsigned char *decoded = malloc(n_encoded / 4 * 3 + 1);
    size_t got;

    FUZZ_CHECK(encoded != NULL && decoded != NULL);
    text_base64_encode(encoded, text, n);
    FUZZ_CHECK(strlen(encoded) == n_encoded);
    FUZZ_CHECK(text_base64_decode(decoded, &got, encoded, n_encoded));
    FUZZ_CHECK(got == n && memcmp(decoded, text, n) == 0);
    /* The other way: a text has one spelling. */
    if (text_base64_decode(decoded, &got, text, n)) {
        FUZZ_CHECK(got <= n / 4 * 3);
        text_base64_encode(encoded, decoded, got);
        FUZZ_CHECK(strlen(encoded) == n && memcmp(encoded, text, n) == 0);
    }
    free(encoded);
    free(decoded);
}

static void check_float(const char *text, size_t n)
{
    char out[TEXT_FLOAT_BYTES];
    float value;

    if (n < sizeof value)
        return;
    memcpy(&value, text, sizeof value);
    text_float(out, value);
    FUZZ_CHECK(strnlen(out, sizeof out) < sizeof out && strchr(out, 'e') == NULL);

    const float back = strtof(out, NULL);

    FUZZ_CHECK(isnan(value) ? isnan(back) : back == value && !signbit(back) == !signbit(value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;

    const char *text = (const char *)data + 2;
    const size_t n = size - 2, room = data[0] % 3 == 0 ? data[0] * 2u : data[0] % 40;
    const size_t cut = n > 0 ? data[1] % (n + 1) : 0;

    check_escape(text, n, room < MAX_ROOM ? room : MAX_ROOM);
    check_messages(text, n, cut);
    check_utf8(text, n);
    check_base64(text, n);
    check_float(text, n);
    return 0;
}
