/* tests/test_gguf.c: what the reader of GGUF files shows of whole ones: tensors, keys, arrays, and
 * the file they are in. */
#include "gguf_rig.h"

#include <time.h>

static void shows_all_tensors_sorted(void **state)
{
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good);
    Gguf *g;
    size_t count = 0;
    Err err;

    (void)state;
    if (parse(&g, file, n, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    const GgufTensor *t = gguf_tensors(g, &count);
    assert_int_equal(count, 3);
    assert_string_equal(t[0].name, "a");
    assert_string_equal(t[1].name, "b");
    assert_string_equal(t[2].name, "c");
    assert_string_equal(t[0].file, "x.gguf");
    assert_int_equal(t[0].type, GGUF_F32);
    assert_string_equal(t[1].type_name, "Q8_0");
    assert_int_equal(t[0].n_dims, 1);
    assert_int_equal(t[0].dims[0], 3);
    assert_int_equal(t[0].dims[1], 1);
    assert_int_equal(t[1].n_dims, 2);
    assert_int_equal(t[1].dims[0], 32);
    assert_int_equal(t[2].n_dims, 4);
    assert_int_equal(t[2].dims[1], 2);
    assert_int_equal(t[2].n_elements, 2);
    assert_int_equal(t[0].n_bytes, 12);
    assert_int_equal(t[1].n_bytes, 34);
    assert_int_equal(t[2].n_bytes, 4);
    assert_int_equal(t[0].offset, 64);
    assert_ptr_equal(t[1].data, guarded_end() - 100);
    assert_ptr_equal(t[0].data, guarded_end() - 36);
    assert_ptr_equal(t[2].data, guarded_end() - 4);
    assert_ptr_equal(gguf_find(g, "b"), &t[1]);
    assert_null(gguf_find(g, "d"));
    assert_null(gguf_find(g, ""));
    assert_int_equal(gguf_file_bytes(g), n);
    assert_int_equal(gguf_check_type(&t[1], &err), ERR_OK);
    gguf_drop(&t[1]); /* memory of the caller stays what it is */
    assert_int_equal(t[1].data[0], 1);
    gguf_close(g);
    gguf_close(NULL);
}

static Gguf *parse_recipe(const char *recipe)
{
    unsigned char file[MAX_FILE];
    Gguf *g;
    Err err;

    if (parse(&g, file, make(file, recipe), &err) != ERR_OK)
        fail_msg("%s: %s", recipe, err.msg);
    return g;
}

static void reads_integers_of_any_type(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
    } fits[] = {{"k.u8", 200}, {"k.i8", -2},           {"k.u16", 65535},    {"k.i16", -32768},
                {"k.i32", -1}, {"k.u32", 4294967295u}, {"k.i64", INT64_MIN}};
    Gguf *g = parse_recipe(good);
    int64_t v = 5;
    bool found = false;
    Err err = {ERR_OK, ""};

    (void)state;
    for (size_t i = 0; i < sizeof fits / sizeof fits[0]; i++) {
        const int64_t value = fits[i].value;

        assert_int_equal(gguf_integer(g, fits[i].key, INT64_MIN, INT64_MAX, &v, NULL, &err),
                         ERR_OK);
        assert_true(v == value);
        assert_int_equal(gguf_integer(g, fits[i].key, value, value, &v, &found, &err), ERR_OK);
        assert_true(found);
        assert_int_equal(gguf_integer(g, fits[i].key, value + 1, INT64_MAX, &v, NULL, &err),
                         ERR_FORMAT);
    }
    v = 5;
    assert_int_equal(gguf_integer(g, "k.u64", INT64_MIN, INT64_MAX, &v, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.u64: 18446744073709551615, expected "
                                 "-9223372036854775808 to 9223372036854775807");
    assert_int_equal(gguf_integer(g, "k.i8", 0, 10, &v, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.i8: -2, expected 0 to 10");
    assert_int_equal(gguf_integer(g, "k.u8", 0, 199, &v, NULL, &err), ERR_FORMAT);
    assert_int_equal(gguf_integer(g, "k.bool", 0, 10, &v, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.bool: type bool, expected an integer");
    assert_int_equal(gguf_integer(g, "a.i32", 0, 10, &v, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key a.i32: type array of I32, expected an integer");
    assert_int_equal(v, 5);
    gguf_close(g);
}

static void tells_absent_from_wrong_type(void **state)
{
    Gguf *g = parse_recipe(good);
    int64_t v = 5;
    float f = 5.0f;
    bool b = true, found = true;
    GgufText text = {"x", 1};
    GgufArray array = {NULL, 5, NULL};
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(gguf_integer(g, "no", 0, 10, &v, &found, &err), ERR_OK);
    assert_true(!found && v == 5);
    found = true;
    assert_int_equal(gguf_f32(g, "k.f3", &f, &found, &err), ERR_OK);
    assert_true(!found && f == 5.0f);
    found = true;
    assert_int_equal(gguf_bool(g, "k.bool2", &b, &found, &err), ERR_OK);
    assert_true(!found && b);
    found = true;
    assert_int_equal(gguf_string(g, "", &text, &found, &err), ERR_OK);
    assert_true(!found && text.n == 1);
    found = true;
    assert_int_equal(gguf_array(g, "no", GGUF_META_I32, &array, &found, &err), ERR_OK);
    assert_true(!found && array.n == 5);

    assert_int_equal(gguf_integer(g, "no", 0, 10, &v, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key no is missing");
    assert_int_equal(gguf_f32(g, "no", &f, NULL, &err), ERR_FORMAT);
    assert_int_equal(gguf_bool(g, "no", &b, NULL, &err), ERR_FORMAT);
    assert_int_equal(gguf_string(g, "no", &text, NULL, &err), ERR_FORMAT);
    assert_int_equal(gguf_array(g, "no", GGUF_META_I32, &array, NULL, &err), ERR_FORMAT);

    assert_int_equal(gguf_f32(g, "k.f64", &f, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.f64: type F64, expected F32");
    assert_int_equal(gguf_bool(g, "k.u8", &b, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.u8: type U8, expected bool");
    assert_int_equal(gguf_string(g, "a.strings", &text, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key a.strings: type array of string, expected string");
    assert_int_equal(gguf_array(g, "a.i32", GGUF_META_U32, &array, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key a.i32: type array of I32, expected array of U32");
    assert_int_equal(gguf_array(g, "k.i32", GGUF_META_I32, &array, &found, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.i32: type I32, expected array of I32");
    assert_true(v == 5 && f == 5.0f && b && text.n == 1 && array.n == 5);
    gguf_close(g);
}

static void reads_values_and_arrays(void **state)
{
    static const char *const strings[] = {"one", "", "three"};
    Gguf *g = parse_recipe(good);
    float f;
    bool b;
    int32_t i32;
    uint32_t u32;
    GgufText text;
    GgufArray a;
    Err err;

    (void)state;
    assert_int_equal(gguf_f32(g, "k.f32", &f, NULL, &err), ERR_OK);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_bool(g, "k.bool", &b, NULL, &err), ERR_OK);
    assert_true(b);
    assert_int_equal(gguf_string(g, "k.string", &text, NULL, &err), ERR_OK);
    assert_int_equal(text.n, 4);
    assert_memory_equal(text.text, "text", 4);

    assert_int_equal(gguf_array(g, "a.strings", GGUF_META_STRING, &a, NULL, &err), ERR_OK);
    assert_int_equal(a.n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(gguf_next_string(&a, &text));
        assert_int_equal(text.n, strlen(strings[i]));
        assert_memory_equal(text.text, strings[i], text.n);
    }
    assert_false(gguf_next_string(&a, &text));
    assert_int_equal(gguf_array(g, "a.i32", GGUF_META_I32, &a, NULL, &err), ERR_OK);
    assert_true(gguf_next_i32(&a, &i32) && i32 == 1);
    assert_true(gguf_next_i32(&a, &i32) && i32 == -2);
    assert_false(gguf_next_i32(&a, &i32));
    assert_int_equal(gguf_array(g, "a.f32", GGUF_META_F32, &a, NULL, &err), ERR_OK);
    assert_true(gguf_next_f32(&a, &f) && f == 1.0f);
    assert_true(gguf_next_f32(&a, &f) && f == -0.5f);
    assert_false(gguf_next_f32(&a, &f));
    assert_int_equal(gguf_array(g, "a.u32", GGUF_META_U32, &a, NULL, &err), ERR_OK);
    assert_true(gguf_next_u32(&a, &u32) && u32 == 7);
    assert_false(gguf_next_u32(&a, &u32));
    gguf_close(g);
}

/* A file is mapped, so somebody may write to it after it was checked. */
static void a_length_that_grew_leads_nowhere(void **state)
{
    static unsigned char copy[MAX_FILE];
    const size_t n = make(copy, good);
    unsigned char *text, *three;
    Err err = {ERR_OK, ""};
    GgufText found = {NULL, 0};
    GgufArray a;
    Gguf *g;

    (void)state;
    assert_int_equal(gguf_parse(&g, copy, n, "x.gguf", &err), ERR_OK);
    text = memmem(copy, n, "text", 4);
    three = memmem(copy, n, "three", 5);
    assert_true(text != NULL && three != NULL);

    memset(three - 8, 0xff, 8);
    assert_int_equal(gguf_array(g, "a.strings", GGUF_META_STRING, &a, NULL, &err), ERR_OK);
    assert_true(gguf_next_string(&a, &found) && gguf_next_string(&a, &found));
    assert_false(gguf_next_string(&a, &found));
    assert_false(gguf_next_string(&a, &found));
    /* The second string now ends where the file does: no place for the length of a third. */
    (void)put(copy, (size_t)(three - copy) - 16, (uint64_t)(copy + n - (three - 8)), 8);
    assert_int_equal(gguf_array(g, "a.strings", GGUF_META_STRING, &a, NULL, &err), ERR_OK);
    assert_true(gguf_next_string(&a, &found) && gguf_next_string(&a, &found));
    assert_false(gguf_next_string(&a, &found));

    (void)put(copy, (size_t)(text - copy) - 8, n, 8);
    assert_int_equal(gguf_string(g, "k.string", &found, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "x.gguf: key k.string: changed while it was read");
    gguf_close(g);
}

static void accepts_unusual_but_correct_files(void **state)
{
    static const char *const recipes[] = {
        "'GGUF w3 q0 q0", "'GGUF w2 q0 q0", "#0,1 @k:0 b0", "#0,1 @k:9 w8 q0", "#0,1 @k:9 w9 q0",
        "#0,1 @k:9 w9 q1 w9 q1 w9 q1 w7 q1 b1", "#0,1 @k:9 w9 q1 w9 q1 w9 q1 w8 q2 $a $b",
        "#0,1 $ w8 $", "#0,2 @k:0 b0 @kk:0 b0", "#0,1 @split.count:2 h1", "#0,1 @split.count:2 h0",
        "#1,0 !a:1:0:0 p32 n4", "#1,0 !:1:0:0 p32 n4", "#1,0 !a:1:0:0 p32 n4 x1000",
        /* more behind the last tensor */
        "#1,0 !a:1:0:64 p32 z64 n4",
        /* a gap in front of the first */
        "#2,0 !a:8:0:0 !b:1:0:64 p32 n68", "#1,1 @general.alignment:4 w1 !a:1:0:3 z3 n4",
        "#2,1 @general.alignment:4 w8 !a:1:0:0 !b:1:0:8 p8 n12",
        "#1,1 @general.alignment:4 w65536 !a:1:0:0 p65536 n4", "#1,0 !a:256:16:0 p32 n66",
        /* IQ2_XXS: known, but not widened */
        "#1,0 !a:3:26:0 p32 n12",
        /* I32 */
        "#1,0 !a:1:28:0 p32 n8",
        /* F64 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        gguf_close(parse_recipe(recipes[i]));
}

static void names_types_it_cannot_widen(void **state)
{
    Gguf *g = parse_recipe("#1,0 !X:256:16:0 p32 n66");
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(gguf_check_type(gguf_find(g, "X"), &err), ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "x.gguf: tensor X: type IQ2_XXS is not supported");
    gguf_close(g);
}

static void opens_files(void **state)
{
    const size_t before = open_descriptors();
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good);
    Gguf *g = NULL;
    Err err;

    (void)state;
    put_file("a.gguf", file, n);
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_OK);
    const GgufTensor *t = gguf_find(g, "b");
    assert_non_null(strstr(t->file, "/a.gguf"));
    assert_true(t->mapped);
    gguf_drop(t);
    assert_int_equal(t->data[33], 34);
    gguf_close(g);
    g = NULL;
    put_file("a.gguf", file, n - 1);
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "/a.gguf: tensor c: 4 bytes at offset 96"));
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), NULL), ERR_FORMAT);
    assert_int_equal(gguf_open(&g, path_of("none.gguf"), &err), ERR_IO);
    assert_int_equal(gguf_open(&g, folder, &err), ERR_IO);
    assert_int_equal(gguf_open(&g, "tests/data/tiny-gpt2/model.safetensors", &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "this is a safetensors model, expected a GGUF model"));
    assert_null(g);
    assert_int_equal(open_descriptors(), before);
}

static unsigned char *append(unsigned char *p, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *p++ = (unsigned char)(value >> (8 * i));
    return p;
}

static unsigned char *append_name(unsigned char *p, int i)
{
    char name[16];

    sprintf(name, "%08d", i);
    p = append(p, 8, 8);
    memcpy(p, name, 8);
    return p + 8;
}

/* Seconds to parse a file of n keys and n tensors in falling order, and to find each of them. */
static double seconds_for(int n)
{
    const size_t size = 24 + (size_t)n * (21 + 40 + 32) + 32;
    unsigned char *file = calloc(size, 1), *p = file;
    char name[16];
    int64_t value;
    Gguf *g;
    Err err;

    assert_non_null(file);
    p += make(p, "'GGUF w3");
    p = append(p, (uint64_t)n, 8);
    p = append(p, (uint64_t)n, 8);
    for (int i = n - 1; i >= 0; i--)
        p = append(append_name(p, i), 0, 5); /* a U8 */
    for (int i = n - 1; i >= 0; i--) {
        p = append(append_name(p, i), 1, 4);
        p = append(p, 1, 8);
        p = append(p, GGUF_I8, 4);
        p = append(p, 32 * (uint64_t)i, 8);
    }
    const clock_t start = clock();
    assert_int_equal(gguf_parse(&g, file, size, "x", &err), ERR_OK);
    for (int i = 0; i < n; i++) {
        sprintf(name, "%08d", i);
        assert_non_null(gguf_find(g, name));
        assert_int_equal(gguf_integer(g, name, 0, 0, &value, NULL, &err), ERR_OK);
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    gguf_close(g);
    free(file);
    return seconds;
}

static void work_grows_no_faster_than_n_log_n(void **state)
{
    (void)state;
    assert_n_log_n(seconds_for);
}

static int remove_files_made(void **state)
{
    static const char *const names[] = {"a.gguf"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_all_tensors_sorted),
        cmocka_unit_test(reads_integers_of_any_type),
        cmocka_unit_test(tells_absent_from_wrong_type),
        cmocka_unit_test(reads_values_and_arrays),
        cmocka_unit_test(a_length_that_grew_leads_nowhere),
        cmocka_unit_test(accepts_unusual_but_correct_files),
        cmocka_unit_test(names_types_it_cannot_widen),
        cmocka_unit_test(opens_files),
        cmocka_unit_test(work_grows_no_faster_than_n_log_n),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_files_made);
}
