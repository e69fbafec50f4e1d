/* tests/test_json.c: what is JSON by RFC 8259, and what is not; writing
 * JSON.
 *
 * "y" cases must be accepted, "n" cases refused; both were written from the grammar of the RFC,
 * rule by rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/text.h"

typedef struct {
    const char *text;
    size_t n;
} Case;

/* The length is taken from the literal, so that NUL bytes can be part of a case. */
#define C(s)                                                                                       \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }

static const Case valid[] = {
    /* literals and white space */
    C("true"),
    C("false"),
    C("null"),
    C(" \t\r\n1 \t\r\n"),
    C("[]"),
    C("{}"),
    C("[ ]"),
    C("{ }"),
    C("[ 1 , 2 ]"),
    C("{ \"a\" : 1 , \"b\" : 2 }"),
    C("[[],[[]]]"),
    C("[{},{\"a\":[]}]"),
    C("{\"a\":{\"b\":{}}}"),
    C("\"\""),
    C("[null,1,\"1\",{}]"),
    C("[1,null,null,null,2]"),
    /* numbers */
    C("0"),
    C("-0"),
    C("1"),
    C("-1"),
    C("123456789"),
    C("0.5"),
    C("-0.5"),
    C("10.25"),
    C("1e0"),
    C("1E5"),
    C("1e+5"),
    C("1e-5"),
    C("1E+05"),
    C("0e1"),
    C("0E-1"),
    C("-0.0"),
    C("-1.5e-3"),
    C("0.00000000000000000000000000000000000000000000001"),
    C("1e-400"),
    C("1.7976931348623157e308"),
    C("9223372036854775807"),
    C("-9223372036854775808"),
    C("9007199254740993"),
    C("123.456e78"),
    C("[-0,0.0,-1e1]"),
    /* strings */
    C("\"a\""),
    C("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    C("\"\\u0000\""),
    C("\"\\u001f\""),
    C("\"\\u00e9\\u20AC\\uFFFF\""),
    C("\"\\ud83d\\ude00\""),
    C("\"\\uDBFF\\uDFFF\""),
    C("\"\\ud800\\udc00\""),
    C("\"\\\\u0000\""),
    C("\"\\\\a\""),
    C("\"\\u005C\""),
    C("\"\\u0022\""),
    C("\"\x7f\""),
    C("\"\xc3\xa9\""),
    C("\"\xe2\x82\xac\""),
    C("\"\xf0\x9f\x98\x80\""),
    C("\"\xf4\x8f\xbf\xbf\""),
    C("\"\xef\xbf\xbf\""),
    C("\"\xef\xbb\xbf\""),
    C("\"\xe2\x80\xa8\""),
    C("\"\xc2\x80\""),
    C("\"[{]}//\""),
    C("\"/*no comment*/\""),
    C("\"new\\u000Aline\""),
    C("\"a'b\""),
    C("\" \""),
    C("\"\\uD834\\uDd1e\""),
    /* keys */
    C("{\"\":0}"),
    C("{\"a\":1,\"A\":2}"),
    C("{\"a\\nb\":1}"),
    C("{\"\\u00e9\":1,\"e\":2}"),
    C("{\"a\\u0000b\":1}"),
    C("{\"\\u0000\":{\"\\u0000\\u0000\":\"\\u0000\"}}"),
    C("{\"a\":{\"a\":1},\"b\":{\"a\":1}}"),
    C("{\"[\":1,\"{\":2}"),
    /* depth 32, and brackets that do not count */
    C("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
    C("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\",\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]"),
    C("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],["
      "],[],[]]"),
};

static const Case invalid[] = {
    /* nothing, more than one value, anything behind it */
    C(""),
    C(" "),
    C("\n"),
    C("1 2"),
    C("{} {}"),
    C("[]]"),
    C("{}}"),
    C("[1]x"),
    C("true,"),
    C("\"a\"\"b\""),
    C("{}#"),
    C("[]\0"),
    C("\0[]"),
    C("1\0"),
    C("[1\0,2]"),
    C("[true\0]"),
    C("null//x"),
    C("{\"a\":1}\xc3\xa9"),
    C("\xef\xbb\xbf{}"),
    C("\xef\xbb\xbf"),
    C("\xff\xfe[\0]\0"),
    C("\xfe\xff\0[\0]"),
    C("\xef\xbb{}"),
    /* words */
    C("True"),
    C("NULL"),
    C("nul"),
    C("tru"),
    C("fals"),
    C("nan"),
    C("NaN"),
    C("-NaN"),
    C("Infinity"),
    C("-Infinity"),
    C("inf"),
    C("undefined"),
    C("truefalse"),
    C("abc"),
    C("'a'"),
    C("`a`"),
    C("[NaN]"),
    C("[nothing]"),
    C("\xe2\x80\x9c"
      "a\xe2\x80\x9d"),
    C("*"),
    C("@"),
    C("\\u005b]"),
    /* structure */
    C("["),
    C("]"),
    C("{"),
    C("}"),
    C("[1"),
    C("[1,"),
    C("[,1]"),
    C("[1,]"),
    C("[1,,2]"),
    C("[,]"),
    C("[1 2]"),
    C("[1:2]"),
    C("[\"a\":1]"),
    C("{1:2}"),
    C("{a:1}"),
    C("{'a':1}"),
    C("{\"a\"}"),
    C("{\"a\":}"),
    C("{\"a\" 1}"),
    C("{\"a\":1,}"),
    C("{,\"a\":1}"),
    C("{\"a\":1,,\"b\":2}"),
    C("{\"a\":1 \"b\":2}"),
    C("{\"a\",1}"),
    C("{\"a\"::1}"),
    C("{\"a\":1:2}"),
    C("[}"),
    C("{]"),
    C("[{}"),
    C("{\"a\":[}"),
    C("{\"a\":{]}"),
    C("{\"a\":1"),
    C("{\"a\":"),
    C("{\"a"),
    C("{null:1}"),
    C("{[]:1}"),
    C("{{}:1}"),
    C(","),
    C(":"),
    C("[(1)]"),
    C("<a>"),
    C("[\f]"),
    C("[\v1]"),
    C("[\xc2\xa0]"),
    C("[\xe2\x81\xa0]"),
    C("{\"a\":/**/1}"),
    C("/**/1"),
    C("[1/*x*/]"),
    C("[1//x\n]"),
    C("#x\n1"),
    /* numbers */
    C("01"),
    C("-01"),
    C("00"),
    C("+1"),
    C("+0.5"),
    C("1."),
    C(".5"),
    C("-.5"),
    C("-"),
    C("--1"),
    C("1e"),
    C("1e+"),
    C("1e-"),
    C("1E"),
    C("1.e5"),
    C("1.5e"),
    C("1e5.5"),
    C("1e 5"),
    C("1 e5"),
    C("0x10"),
    C("0b1"),
    C("1_000"),
    C("1,000"),
    C("1a"),
    C("-a"),
    C("1.2.3"),
    C("1+2"),
    C("1-"),
    C("0e"),
    C("0e+"),
    C("012.5"),
    C("-012"),
    C("1e1e1"),
    C("\xef\xbc\x91"),
    C("1e400"),
    C("-1e400"),
    C("[1e400]"),
    C("9223372036854775808"),
    C("-9223372036854775809"),
    C("18446744073709551616"),
    C("[- 1]"),
    C("$1"),
    C("1f"),
    C("1L"),
    C("Inf"),
    C("[1.]"),
    C("[.1]"),
    C("2.e3"),
    C("0.e1"),
    /* strings */
    C("\""),
    C("\"a"),
    C("a\""),
    C("\"\\\""),
    C("\"\\"),
    C("\"\\a\""),
    C("\"\\v\""),
    C("\"\\0\""),
    C("\"\\'\""),
    C("\"\\x41\""),
    C("\"\\U0041\""),
    C("\"\\u\""),
    C("\"\\u1\""),
    C("\"\\u12\""),
    C("\"\\u123\""),
    C("\"\\u12g4\""),
    C("\"\\u 123\""),
    C("\"\\u+123\""),
    C("\"\\u-123\""),
    C("\"\\ud800\""),
    C("\"\\udc00\""),
    C("\"\\ud800a\""),
    C("\"\\ud800\\u0041\""),
    C("\"\\ud800\\ud800\""),
    C("\"\\udc00\\ud800\""),
    C("\"\\ud800\\n\""),
    C("\"\\ud83d\\u\""),
    C("\"\\ud83d\xed\xb8\x80\""),
    C("\"\n\""),
    C("\"\t\""),
    C("\"\r\""),
    C("\"\0\""),
    C("\"\x1f\""),
    C("\"\x01\""),
    C("\"a\\\nb\""),
    C("\"\\\xc3\xa9\""),
    /* bytes that are no UTF-8 */
    C("\"\x80\""),
    C("\"\xbf\""),
    C("\"\xff\""),
    C("\"\xfe\""),
    C("\"\xc0\x80\""),
    C("\"\xc1\xbf\""),
    C("\"\xe0\x80\x80\""),
    C("\"\xf0\x80\x80\x80\""),
    C("\"\xed\xa0\x80\""),
    C("\"\xed\xbf\xbf\""),
    C("\"\xf4\x90\x80\x80\""),
    C("\"\xf5\x80\x80\x80\""),
    C("\"\xe2\x82\""),
    C("\"\xc3\""),
    C("\"\xf0\x9f\x98\""),
    C("\"\xe9\""),
    C("\"\xf8\x88\x80\x80\x80\""),
    C("[\xff]"),
    C("\xff"),
    C("{\"\xff\":1}"),
    C("{\"\xed\xa0\x80\":1}"),
    C("\"\xc3(\""),
    C("[\"a\",\n\x80]"),
    /* the same key twice, also when spelled differently */
    C("{\"a\":1,\"a\":1}"),
    C("{\"a\":1,\"\\u0061\":2}"),
    C("{\"\\u00e9\":1,\"\xc3\xa9\":2}"),
    C("{\"\":1,\"\":2}"),
    C("{\"x\":{\"k\":1,\"k\":2}}"),
    C("[{\"a\":1,\"b\":2,\"a\":3}]"),
    C("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"),
    C("{\"a\\u0000\":1,\"a\\u0000\":2}"),
    C("{\"a\\/b\":1,\"a/b\":2}"),
    /* depth 33 */
    C("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
    C("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1"),
    C("{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{"
      "\"\":"
      "{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{"
      "\"\":"
      "{}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}"),
    /* a NUL in a key does not hide what is wrong behind it */
    C("{\"a\\u0000b\":1,}"),
    C("{\"a\\u0000b\":1"),
    C("{\"a\\u0000b\":\"\xff\"}"),
};

/* Parses a copy of exactly n bytes, so that the address sanitizer sees a read behind the end. */
static json_t *parse(const char *text, size_t n, Err *err)
{
    char *copy = malloc(n > 0 ? n : 1);

    assert_non_null(copy);
    memcpy(copy, text, n);
    *err = (Err){ERR_OK, ""};
    json_t *root = json_parse(copy, n, "body", err);
    free(copy);
    return root;
}

static void accepts_every_y_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        Err err;
        json_t *root = parse(valid[i].text, valid[i].n, &err);

        if (root == NULL)
            fail_msg("y case %zu refused: %s: %s", i, valid[i].text, err.msg);
        json_decref(root);
    }
}

static void refuses_every_n_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        Err err;
        json_t *root = parse(invalid[i].text, invalid[i].n, &err);

        if (root != NULL)
            fail_msg("n case %zu accepted: %s", i, invalid[i].text);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_true(strncmp(err.msg, "body: ", 6) == 0);
        assert_true(text_utf8_valid(err.msg, strlen(err.msg)));
    }
}

static void every_prefix_of_a_document_is_refused(void **state)
{
    static const char text[] =
        "{\"a\\u0000\":[1.5e3,\"\\ud83d\\ude00\xc3\xa9\",{\"b\":null}],\"c\":-12}";
    Err err;

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_null(parse(text, n, &err));
    json_t *root = parse(text, sizeof text - 1, &err);
    assert_non_null(root);
    json_decref(root);
}

static void deep_nesting_is_refused_quickly(void **state)
{
    enum { N = 4000000 };
    char *text = malloc(N);
    Err err;

    (void)state;
    assert_non_null(text);
    memset(text, '[', N);
    assert_null(json_parse(text, N, "body", &err));
    assert_string_equal(err.msg, "body: byte 32: nested deeper than 32 levels");
    for (size_t i = 0; i + 5 <= N; i += 5)
        memcpy(text + i, "{\"\":[", 5);
    assert_null(json_parse(text, N, "body", &err));
    free(text);
}

static void nul_in_a_string_keeps_its_length(void **state)
{
    Err err;
    json_t *root = parse("[\"a\\u0000b\"]", 12, &err);

    (void)state;
    assert_non_null(root);
    assert_int_equal(json_string_length(json_array_get(root, 0)), 3);
    assert_memory_equal(json_string_value(json_array_get(root, 0)), "a\0b", 3);
    json_decref(root);
}

/* A key with NUL must not be taken for the key that ends where the NUL is. */
static void nul_in_a_key_does_not_shorten_it(void **state)
{
    static const char text[] = "{\"seed\\u0000x\":1,\"\\\\u0000\":2,\"v\":\"\\u0000\"}";
    Err err;
    json_t *root = parse(text, sizeof text - 1, &err);

    (void)state;
    assert_non_null(root);
    assert_int_equal(json_object_size(root), 3);
    assert_null(json_object_get(root, "seed"));
    assert_int_equal(json_integer_value(json_object_get(root, "\\u0000")), 2);
    assert_int_equal(json_string_length(json_object_get(root, "v")), 1);
    json_decref(root);
}

static void integers_are_exact(void **state)
{
    Err err;
    json_t *root = parse("[9007199254740993,-9223372036854775808,1.0,1e2]", 47, &err);

    (void)state;
    assert_non_null(root);
    assert_true(json_integer_value(json_array_get(root, 0)) == 9007199254740993);
    assert_true(json_integer_value(json_array_get(root, 1)) == INT64_MIN);
    assert_false(json_is_integer(json_array_get(root, 2)));
    assert_false(json_is_integer(json_array_get(root, 3)));
    json_decref(root);
}

static void messages_say_where(void **state)
{
    Err err;

    (void)state;
    assert_null(parse("{\"a\":1,\n\"b\":\x01}", 14, &err));
    assert_true(strncmp(err.msg, "body: line 2, column ", 21) == 0);
    assert_null(parse("{\"k\":1,\"k\":2}", 13, &err));
    assert_non_null(strstr(err.msg, "duplicate object key"));
    assert_null(parse("\xef\xbb\xbf{}", 5, &err));
    assert_string_equal(err.msg, "body: starts with a byte order mark, expected JSON");
}

static void files_carry_their_path(void **state)
{
    char path[] = "/tmp/llorch-json-XXXXXX";
    const int fd = mkstemp(path);
    Err err;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\":1}", 7), 7);
    json_t *root = json_parse_file(path, 7, &err);
    assert_non_null(root);
    json_decref(root);
    assert_null(json_parse_file(path, 6, &err));
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(pwrite(fd, "version https://git-lfs.github.com/spec/v1", 42, 0), 42);
    close(fd);
    assert_null(json_parse_file(path, 0, &err));
    assert_true(strncmp(err.msg, path, strlen(path)) == 0);
    assert_non_null(strstr(err.msg, "Git LFS"));
    unlink(path);
    assert_null(json_parse_file(path, 0, &err));
    assert_int_equal(err.code, ERR_IO);
}

static void written_strings_read_back(void **state)
{
    char text[512];
    JsonBuf b = {NULL, 0, 0, 0};
    Err err;

    (void)state;
    /* Every ASCII byte, and characters of two, three and four bytes. */
    for (int i = 0; i < 128; i++)
        text[i] = (char)i;
    memcpy(text + 128, "\xc2\x80\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80", 11);
    json_buf_string(&b, text, 139);
    assert_int_equal(b.oom, 0);
    assert_int_equal(strlen(b.data), b.len);
    json_t *root = json_parse(b.data, b.len, "text", &err);
    assert_non_null(root);
    assert_int_equal(json_string_length(root), 139);
    assert_memory_equal(json_string_value(root), text, 139);
    json_decref(root);
    json_buf_free(&b);
    assert_null(b.data);
    json_buf_string(&b,
                    "a\xff"
                    "b\xe2\x82",
                    5);
    assert_string_equal(b.data, "\"a\xef\xbf\xbd"
                                "b\xef\xbf\xbd\"");
    json_buf_free(&b);
}

static void buffers_grow(void **state)
{
    JsonBuf b = {NULL, 0, 0, 0};
    char big[1000];

    (void)state;
    memset(big, 'x', sizeof big);
    json_buf_add(&b, "", 0);
    assert_string_equal(b.data, "");
    for (int i = 0; i < 100; i++) {
        json_buf_add(&b, big, sizeof big);
        json_buf_printf(&b, "%d-%.*s", i, 300, big);
    }
    assert_int_equal(b.oom, 0);
    assert_int_equal(b.len, 100 * (1000 + 300) + 10 * 2 + 90 * 3);
    assert_int_equal(strlen(b.data), b.len);
    assert_memory_equal(b.data + 1000, "0-xxx", 5);
    json_buf_free(&b);
}

static void a_bound_on_the_number_of_values_is_kept(void **state)
{
    static const char text[] =
        "{\"a,[{\":[1,2,\"[,,,\"],\"b\":{}}"; /* 7 by the rule, brackets in strings aside */
    Err err = {0};
    json_t *root;

    (void)state;
    root = json_parse_bounded(text, strlen(text), 7, "body", &err);
    assert_non_null(root);
    json_decref(root);
    assert_null(json_parse_bounded(text, strlen(text), 6, "body", &err));
    assert_int_equal(err.code, ERR_LIMIT);
    assert_non_null(strstr(err.msg, "more than 6 values"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_on_the_number_of_values_is_kept),
        cmocka_unit_test(accepts_every_y_case),
        cmocka_unit_test(refuses_every_n_case),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
        cmocka_unit_test(deep_nesting_is_refused_quickly),
        cmocka_unit_test(nul_in_a_string_keeps_its_length),
        cmocka_unit_test(nul_in_a_key_does_not_shorten_it),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(messages_say_where),
        cmocka_unit_test(files_carry_their_path),
        cmocka_unit_test(written_strings_read_back),
        cmocka_unit_test(buffers_grow),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
