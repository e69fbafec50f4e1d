/* tests/test_json.c: what is JSON by RFC 8259, and what is not; writing JSON. */
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
#include "common/json_field.h"
#include "common/text.h"
#include "fuzz/json_grammar.h"

enum { MAX_CASE_BYTES = 4096 };

/* One line of tests/data/json_cases.txt. */
typedef struct {
    int line;
    char verdict; /* what the file says of y, n, r and i */
    char text[MAX_CASE_BYTES];
    size_t n;
} Case;

/* The bytes that a line stands for. */
static void read_case(Case *c, const char *line)
{
    c->verdict = line[0];
    c->n = 0;
    if (line[1] == '\0')
        return;
    assert_int_equal(line[1], ' ');
    for (const char *p = line + 2; *p != '\0'; p++) {
        unsigned byte = (unsigned char)*p;

        if (*p == '%') {
            assert_int_equal(sscanf(p + 1, "%2x", &byte), 1);
            p += 2;
        }
        assert_true(c->n < sizeof c->text);
        c->text[c->n++] = (char)byte;
    }
}

/* Calls check for each case; the number of cases of each verdict. */
static void each_case(void (*check)(const Case *c), int count[128])
{
    FILE *f = fopen("tests/data/json_cases.txt", "r");
    static char line[3 * MAX_CASE_BYTES];
    static Case c;

    assert_non_null(f);
    for (c.line = 1; fgets(line, sizeof line, f) != NULL; c.line++) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || line[0] == '\0')
            continue;
        read_case(&c, line);
        count[c.verdict & 127]++;
        check(&c);
    }
    fclose(f);
}

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

static void check_case(const Case *c)
{
    Err err;
    json_t *root = parse(c->text, c->n, &err);

    if ((root != NULL) != (c->verdict == 'y'))
        fail_msg("json_cases.txt:%d: %s", c->line, root != NULL ? "accepted" : err.msg);
    if (root == NULL) {
        assert_int_equal(err.code, ERR_FORMAT);
        assert_true(strncmp(err.msg, "body: ", 6) == 0);
        assert_true(text_utf8_valid(err.msg, strlen(err.msg)));
        assert_null(strpbrk(err.msg, "\n\r\t\x1b"));
    }
    json_decref(root);
}

static void every_case_is_decided_as_the_rfc_says(void **state)
{
    int count[128] = {0};

    (void)state;
    each_case(check_case, count);
    assert_true(count['y'] > 150 && count['n'] > 400 && count['r'] > 50 && count['i'] > 5);
}

/* The grammar that the fuzz target has as a second opinion agrees with every verdict. */
static void check_grammar(const Case *c)
{
    const bool is_open = c->verdict == 'r' || c->verdict == 'i';

    if (!is_open && is_json(c->text, c->n) != (c->verdict == 'y'))
        fail_msg("json_cases.txt:%d: the grammar disagrees", c->line);
}

static void a_second_grammar_agrees(void **state)
{
    int count[128] = {0};

    (void)state;
    each_case(check_grammar, count);
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
    assert_null(json_parse(NULL, 0, "body", &err));
    assert_int_equal(err.code, ERR_FORMAT);
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

/* An empty array takes 130 bytes of memory and three of text. */
static void a_text_of_too_many_values_is_refused_before_it_is_built(void **state)
{
    const size_t n = 3 * JSON_MAX_VALUES + 1;
    char *text = malloc(n);
    Err err = {0};

    (void)state;
    assert_non_null(text);
    text[0] = '[';
    for (size_t i = 1; i < n; i += 3)
        memcpy(text + i, "[],", 3);
    text[n - 1] = ']';
    assert_null(json_parse(text, n, "header", &err));
    assert_int_equal(err.code, ERR_LIMIT);
    assert_non_null(strstr(err.msg, "header: byte "));
    assert_non_null(strstr(err.msg, "more than 2000000 values"));
    free(text);
}

/* Every kind of value in place of each expected one. */
static void fields_of_another_kind_are_named(void **state)
{
    static const struct {
        const char *key, *found;
    } kinds[] = {{"o", "an object"},     {"a", "an array"},      {"s", "a text"},
                 {"i", "a number"},      {"r", "a number"},      {"n", "null"},
                 {"t", "true or false"}, {"f", "true or false"}, {"absent", "missing"}};
    static const char text[] =
        "{\"o\":{},\"a\":[1,2],\"s\":\"x\",\"i\":5,\"r\":0.5,\"n\":null,\"t\":true,\"f\":false}";
    Err err = {0};
    json_t *root = parse(text, sizeof text - 1, &err);

    (void)state;
    assert_non_null(root);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const char *key = kinds[i].key, *s = NULL;
        const json_t *value = NULL;
        double number = -1.0;
        int n = -1;
        char want[100];
        int refused = json_field_text(root, key, 10, "x.json", &s, &err) != ERR_OK;

        refused += json_field_number(root, key, "x.json", &number, &err) != ERR_OK;
        refused += json_field_int(root, key, 0, 9, "x.json", &n, &err) != ERR_OK;
        refused += json_field_object(root, key, "x.json", &value, &err) != ERR_OK;
        refused += json_field_array(root, key, 2, "x.json", &value, &err) != ERR_OK;
        /* A whole number is a number, too. */
        assert_int_equal(refused, key[0] == 'i'                           ? 3
                                  : strchr("oasr", key[0]) && key[1] == 0 ? 4
                                                                          : 5);
        (void)snprintf(want, sizeof want, "x.json: %s is %s, expected an array", key,
                       kinds[i].found);
        if (key[0] != 'a' || key[1] != '\0')
            assert_string_equal(err.msg, want);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    json_decref(root);
}

static void fields_out_of_range_are_refused(void **state)
{
    static const char text[] =
        "{\"s\":\"four\",\"nul\":\"a\\u0000b\",\"i\":4294967301,\"a\":[1,2,3]}";
    const char *s = NULL;
    const json_t *list = NULL;
    int i = -1;
    Err err = {0};
    json_t *root = parse(text, sizeof text - 1, &err);

    (void)state;
    assert_non_null(root);
    assert_int_equal(json_field_text(root, "s", 5, "x", &s, &err), ERR_OK);
    assert_string_equal(s, "four");
    assert_int_equal(json_field_text(root, "s", 4, "x", &s, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x: s has 4 bytes, at most 3 are possible");
    assert_int_equal(json_field_text(root, "nul", 10, "x", &s, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x: nul has a NUL character in it");
    /* 5 when it is cut to 32 bits. */
    assert_int_equal(json_field_int(root, "i", 0, 9, "x", &i, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x: i is 4294967301, expected 0 to 9");
    assert_int_equal(json_field_array(root, "a", 2, "x", &list, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x: a has 3 items, at most 2 are possible");
    assert_null(list);
    assert_int_equal(i, -1);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_on_the_number_of_values_is_kept),
        cmocka_unit_test(a_text_of_too_many_values_is_refused_before_it_is_built),
        cmocka_unit_test(every_case_is_decided_as_the_rfc_says),
        cmocka_unit_test(a_second_grammar_agrees),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
        cmocka_unit_test(deep_nesting_is_refused_quickly),
        cmocka_unit_test(nul_in_a_string_keeps_its_length),
        cmocka_unit_test(nul_in_a_key_does_not_shorten_it),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(messages_say_where),
        cmocka_unit_test(files_carry_their_path),
        cmocka_unit_test(fields_of_another_kind_are_named),
        cmocka_unit_test(fields_out_of_range_are_refused),
        cmocka_unit_test(written_strings_read_back),
        cmocka_unit_test(buffers_grow),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
