/* common/text.c: UTF-8, escaping, base64 and number texts.
 *
 * May include: nothing. */
#include "common/text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a first byte demands of the rest: the number of bytes, and the range of the second one
 * (Unicode 15, table 3-7; the narrowed ranges are what keeps overlong forms, surrogates and values
 * above U+10FFFF out). */
typedef struct {
    unsigned len, low, high;
} Utf8Lead;

static Utf8Lead utf8_lead(unsigned char c)
{
    if (c < 0x80)
        return (Utf8Lead){1, 0, 0};
    if (c >= 0xc2 && c <= 0xdf)
        return (Utf8Lead){2, 0x80, 0xbf};
    if (c >= 0xe0 && c <= 0xef)
        return (Utf8Lead){3, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf};
    if (c >= 0xf0 && c <= 0xf4)
        return (Utf8Lead){4, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf};
    return (Utf8Lead){0, 0, 0};
}

int text_utf8_next(const char *s, size_t n, size_t *used)
{
    const unsigned char first = (unsigned char)s[0];
    const Utf8Lead lead = utf8_lead(first);

    *used = 1;
    if (lead.len == 1)
        return first;
    if (lead.len == 0)
        return TEXT_UTF8_INVALID;

    unsigned value = first & (0x7fu >> lead.len);
    for (unsigned i = 1; i < lead.len; i++) {
        if (i == n) {
            *used = n;
            return TEXT_UTF8_INCOMPLETE;
        }
        const unsigned c = (unsigned char)s[i];
        if (c < (i == 1 ? lead.low : 0x80) || c > (i == 1 ? lead.high : 0xbf)) {
            *used = i;
            return TEXT_UTF8_INVALID;
        }
        value = value << 6 | (c & 0x3f);
    }
    *used = lead.len;
    return (int)value;
}

bool text_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0, used; i < n; i += used)
        if (text_utf8_next(s + i, n - i, &used) < 0)
            return false;
    return true;
}

size_t text_utf8_count(const char *s, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t count = n, i = 0;

    /* Eight bytes at a time: of each the bit that is set when it is 10xxxxxx; their sum is in the
     * top byte. */
    for (; i + 8 <= n; i += 8) {
        uint64_t bytes;

        memcpy(&bytes, s + i, sizeof bytes);
        count -= (size_t)(((bytes >> 7 & ~(bytes >> 6) & ones) * ones) >> 56);
    }
    for (; i < n; i++)
        count -= ((unsigned char)s[i] & 0xc0) == 0x80;
    return count;
}

/* The longest unit: three invalid bytes as \xHH each. */
enum { ESCAPE_UNIT_BYTES = 16 };

static const char hex_digits[] = "0123456789abcdef";

static size_t hex_bytes(char *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];

        out[4 * i] = '\\';
        out[4 * i + 1] = 'x';
        out[4 * i + 2] = hex_digits[c >> 4];
        out[4 * i + 3] = hex_digits[c & 15];
    }
    return 4 * n;
}

/* Of those above U+007E. U+0080..U+009F are control characters too: some terminals obey U+009B as
 * an escape sequence. U+2028 and U+2029 end a line for many readers, and what follows them up to
 * U+202E and from U+2066 to U+2069 turns the text behind it around. */
static bool is_unprintable(int c)
{
    return c < 0xa0 || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* The escaped form of the character at s; returns its length and stores the bytes read in *used. */
static size_t escape_unit(char out[ESCAPE_UNIT_BYTES], const char *s, size_t n, size_t *used)
{
    const int c = text_utf8_next(s, n, used);

    if (c == '\n' || c == '\r' || c == '\t') {
        out[0] = '\\';
        out[1] = (char)(c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        return 2;
    }
    if (c < 0x20 || (c >= 0x7f && is_unprintable(c)))
        return hex_bytes(out, s, *used);
    memcpy(out, s, *used);
    return *used;
}

static size_t escaped_length(const char *s, size_t n)
{
    char unit[ESCAPE_UNIT_BYTES];
    size_t total = 0;

    for (size_t i = 0, used; i < n; i += used)
        total += escape_unit(unit, s + i, n - i, &used);
    return total;
}

size_t text_escape(char *out, size_t size, const char *s, size_t n)
{
    char unit[ESCAPE_UNIT_BYTES];
    const size_t total = escaped_length(s, n);
    size_t len = 0, seen = 0;

    if (size == 0)
        return 0;
    const bool cut = total > size - 1;
    const bool dots = cut && size > 3;
    const size_t room = size - 1 - (dots ? 3 : 0);
    /* The end tells the problem, the start tells where: each gets half. */
    const size_t head = cut ? room - room / 2 : total;
    const size_t tail = cut && dots ? room / 2 : 0;
    bool in_head = true;

    for (size_t i = 0, used; i < n; i += used) {
        const size_t k = escape_unit(unit, s + i, n - i, &used);

        if (in_head && seen + k > head) {
            in_head = false;
            if (dots) {
                memcpy(out + len, "...", 3);
                len += 3;
            }
        }
        if (in_head || total - seen <= tail) {
            memcpy(out + len, unit, k);
            len += k;
        }
        seen += k;
    }
    out[len] = '\0';
    return len;
}

size_t text_json_unit(char out[TEXT_JSON_UNIT_BYTES], const char *s, size_t n, size_t *used)
{
    static const char short_name[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    const int c = text_utf8_next(s, n, used);

    if (c < 0) {
        static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

        memcpy(out, replacement, sizeof replacement);
        return sizeof replacement - 1;
    }
    for (size_t i = 0; i + 1 < sizeof short_name; i += 2)
        if (c == short_name[i]) {
            out[0] = '\\';
            out[1] = short_name[i + 1];
            return 2;
        }
    if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
        memcpy(out, "\\u00", sizeof "\\u00");
        out[4] = hex_digits[c >> 4];
        out[5] = hex_digits[c & 15];
        return 6;
    }
    memcpy(out, s, *used);
    return *used;
}

/* digits * 10^(point - n_digits) as plain decimal: "0.00012", "1.25", "1200". */
static void plain_decimal(char *out, const char *digits, int n_digits, int point)
{
    if (point <= 0) {
        *out++ = '0';
        *out++ = '.';
        memset(out, '0', (size_t)-point);
        out += -point;
        memcpy(out, digits, (size_t)n_digits);
        out += n_digits;
    } else {
        for (int i = 0; i < n_digits || i < point; i++) {
            if (i == point)
                *out++ = '.';
            *out++ = (char)(i < n_digits ? digits[i] : '0');
        }
    }
    *out = '\0';
}

/* The fewest digits that read back as value > 0, with exponent. */
static void shortest_digits(char *out, size_t size, float value)
{
    /* Below a power of two the floats lie twice as dense, so what reads back as one is not centred
     * on it, and the nearest decimal can miss where another one of the same length hits (2^-96,
     * 2^87, 2^90). 2^-26 up is the centre. */
    const double centre = (double)value * (1.0 + 0x1p-26);
    int exponent;
    const bool power_of_two = frexpf(value, &exponent) == 0.5f;

    /* Nine digits identify every float (FLT_DECIMAL_DIG). */
    for (int precision = 0; precision < 9; precision++) {
        (void)snprintf(out, size, "%.*e", precision, (double)value);
        if (strtof(out, NULL) == value)
            return;
        (void)snprintf(out, size, "%.*e", precision, centre);
        if (power_of_two && strtof(out, NULL) == value)
            return;
    }
}

void text_float(char out[TEXT_FLOAT_BYTES], float value)
{
    char exp_form[32], digits[16];
    int n_digits = 0;

    if (isnan(value)) {
        memcpy(out, "nan", sizeof "nan");
        return;
    }
    if (signbit(value))
        *out++ = '-';
    value = fabsf(value);
    if (isinf(value) || value == 0.0f) {
        memcpy(out, isinf(value) ? "inf" : "0", isinf(value) ? sizeof "inf" : sizeof "0");
        return;
    }
    shortest_digits(exp_form, sizeof exp_form, value);
    const char *e = strchr(exp_form, 'e');
    for (const char *p = exp_form; p < e; p++)
        if (*p != '.')
            digits[n_digits++] = *p;
    while (n_digits > 1 && digits[n_digits - 1] == '0')
        n_digits--;
    plain_decimal(out, digits, n_digits, (int)strtol(e + 1, NULL, 10) + 1);
}

static const char base64_chars[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void text_base64_encode(char *out, const void *data, size_t n)
{
    const unsigned char *p = data;

    for (; n > 0; p += 3, out += 4) {
        const unsigned v =
            (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) | (n > 2 ? (unsigned)p[2] : 0);

        out[0] = base64_chars[v >> 18];
        out[1] = base64_chars[v >> 12 & 63];
        out[2] = (char)(n > 1 ? base64_chars[v >> 6 & 63] : '=');
        out[3] = (char)(n > 2 ? base64_chars[v & 63] : '=');
        n -= n < 3 ? n : 3;
    }
    *out = '\0';
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool text_base64_decode(void *out, size_t *out_n, const char *s, size_t n)
{
    unsigned char *p = out;
    size_t done = 0;

    if (n % 4 != 0)
        return false;
    const size_t pad = n == 0 ? 0 : s[n - 1] != '=' ? 0 : s[n - 2] != '=' ? 1 : 2;
    for (size_t i = 0; i < n; i += 4) {
        const size_t skip = i + 4 == n ? pad : 0;
        unsigned v = 0;

        for (size_t j = 0; j < 4; j++) {
            const int d = j >= 4 - skip ? 0 : base64_value(s[i + j]);

            if (d < 0)
                return false;
            v = v << 6 | (unsigned)d;
        }
        /* The bits below the last byte must be zero, so that each text has exactly one meaning (RFC
         * 4648, 3.5). */
        if ((skip == 1 && (v & 0xff) != 0) || (skip == 2 && (v & 0xffff) != 0))
            return false;
        for (size_t j = 0; j < 3 - skip; j++)
            p[done++] = (unsigned char)(v >> (16 - 8 * j));
    }
    *out_n = done;
    return true;
}
