/* tests/test_gguf.c: GGUF files, whole and damaged in each way that the format allows, and the
 * writer. Files are put together from recipes: see make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "formats/gguf.h"
#include "formats/gguf_write.h"

enum { PAGE = 4096, MAX_FILE = 64 * PAGE };

/* Memory whose last byte is followed by a page that cannot be read. */
static unsigned char *guarded_end(void)
{
    static unsigned char *end;

    if (end == NULL) {
        unsigned char *p =
            mmap(NULL, MAX_FILE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + MAX_FILE, PAGE, PROT_NONE), 0);
        end = p + MAX_FILE;
    }
    return end;
}

static ErrCode parse(Gguf **g, const void *data, size_t n, Err *err)
{
    *err = (Err){ERR_OK, ""};
    *g = NULL;
    if (n > 0)
        memcpy(guarded_end() - n, data, n);
    return gguf_parse(g, guarded_end() - n, n, "x.gguf", err);
}

static size_t put(unsigned char *out, size_t at, uint64_t value, size_t n)
{
    assert_true(at + n <= MAX_FILE);
    for (size_t i = 0; i < n; i++)
        out[at + i] = (unsigned char)(value >> (8 * i));
    return at + n;
}

static size_t put_text(unsigned char *out, size_t at, const char *text, size_t n)
{
    assert_true(at + n <= MAX_FILE);
    memcpy(out + at, text, n);
    return at + n;
}

/* The words of a recipe that stand for one number, or for many equal bytes. */
static size_t put_filling(unsigned char *out, size_t at, char kind, uint64_t v)
{
    switch (kind) {
    case 'b':
        return put(out, at, v, 1);
    case 'h':
        return put(out, at, v, 2);
    case 'w':
        return put(out, at, v, 4);
    case 'q':
        return put(out, at, v, 8);
    case 'p':
        while (at % v != 0)
            at = put(out, at, 0, 1);
        return at;
    case 'x':
    case 'z':
    case 'n':
        for (uint64_t i = 0; i < v; i++)
            at = put(out, at, kind == 'x' ? 'x' : kind == 'z' ? 0 : i + 1, 1);
        return at;
    default:
        fail_msg("recipe: unknown word %c", kind);
        return at;
    }
}

/* The words # @ and !, which have several parts. */
static size_t put_entry(unsigned char *out, size_t at, char kind, const char *word)
{
    const size_t n_name = kind == '#' ? 0 : strcspn(word, ":");
    const char *number = kind == '#' ? word : word + n_name + 1;
    uint64_t v[3];

    for (int i = 0; i < (kind == '#' ? 2 : kind == '@' ? 1 : 3); i++) {
        char *end;

        v[i] = strtoull(number, &end, 0);
        number = end + 1;
    }
    if (kind == '#') {
        at = put_text(out, at, "GGUF\3\0\0\0", 8);
        at = put(out, at, v[0], 8);
        return put(out, at, v[1], 8);
    }
    at = put(out, at, n_name, 8);
    at = put_text(out, at, word, n_name);
    if (kind == '@')
        return put(out, at, v[0], 4);
    at = put(out, at, 1, 4);
    at = put(out, at, v[0], 8);
    at = put(out, at, v[1], 4);
    return put(out, at, v[2], 8);
}

/* A file from words with blanks between them. Returns the size.
 *
 *   'abc      the bytes themselves          $abc      a string with its length
 *   b1 h1 w1 q1  a number of 1, 2, 4, 8 bytes
 *   x3        the byte 'x' three times      n3        the bytes 1, 2, 3
 *   z3        three zero bytes              p32       zeros up to a multiple of 32
 *   #2,1      the start of a file of 2 tensors and 1 key
 *   @key:8    a key and the type of its value
 *   !a:3:0:64 a tensor of one dimension, 3, of type 0 at offset 64 */
static size_t make(unsigned char *out, const char *recipe)
{
    size_t at = 0;

    while (*recipe != '\0') {
        const char kind = *recipe++;
        const size_t len = strcspn(recipe, " ");

        if (kind == '$')
            at = put(out, at, len, 8);
        if (kind == '$' || kind == '\'')
            at = put_text(out, at, recipe, len);
        else if (kind == '#' || kind == '@' || kind == '!')
            at = put_entry(out, at, kind, recipe);
        else
            at = put_filling(out, at, kind, strtoull(recipe, NULL, 0));
        recipe += len;
        recipe += *recipe == ' ';
    }
    return at;
}

/* One key of each type, and three tensors; b lies before a. */
static const char good[] =
    "#3,17 "
    "@k.u8:0 b200 @k.i8:1 b0xfe @k.u16:2 h65535 @k.i16:3 h0x8000 "
    "@k.u32:4 w4294967295 @k.i32:5 w0xffffffff @k.f32:6 w0x3fc00000 @k.bool:7 b1 @k.string:8 $text "
    "@k.u64:10 q0xffffffffffffffff @k.i64:11 q0x8000000000000000 @k.f64:12 q0x3ff8000000000000 "
    "@a.strings:9 w8 q3 $one $ $three @a.i32:9 w5 q2 w1 w0xfffffffe "
    "@a.f32:9 w6 q2 w0x3f800000 w0xbf000000 @a.u32:9 w4 q1 w7 "
    "@a.nested:9 w9 q2 w7 q1 b1 w8 q1 $deep "
    "!a:3:0:64 $b w2 q32 q1 w8 q0 $c w4 q1 q2 q1 q1 w1 q96 "
    "p32 n34 z30 n12 z20 n4";

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
    GgufArray array = {NULL, 5};
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

static void refuses_each_way_to_be_wrong(void **state)
{
    static const struct {
        const char *recipe;
        ErrCode code;
        const char *part;
    } cases[] = {
        /* what it is at all */
        {"", ERR_FORMAT, "x.gguf: the file does not start with \"GGUF\""},
        {"'GGU", ERR_FORMAT, "does not start with \"GGUF\""},
        {"'GGUF", ERR_FORMAT, "byte 4: version of 4 bytes, but only 0 bytes follow"},
        {"'ggjt w3 z100", ERR_FORMAT, "does not start with \"GGUF\""},
        {"'PK b3 b4 z100", ERR_FORMAT, "this is a zip archive"},
        {"q20 '{ z100", ERR_FORMAT, "this is a safetensors model, expected a GGUF model"},
        {"'version b32 'https://git-lfs.github.com", ERR_FORMAT, "this is a Git LFS pointer"},
        {"'FUGG w3 q0 q0", ERR_UNSUPPORTED, "x.gguf: big endian, expected little endian"},
        {"'GGUF w0x03000000 q0 q0", ERR_UNSUPPORTED, "big endian, expected little endian"},
        {"'GGUF w0x02000000 q0 q0", ERR_UNSUPPORTED, "big endian, expected little endian"},
        {"'GGUF w0 q0 q0", ERR_UNSUPPORTED, "version 0, expected 2 or 3"},
        {"'GGUF w1 w0 w0 z8", ERR_UNSUPPORTED, "version 1, expected 2 or 3"},
        {"'GGUF w4 q0 q0", ERR_UNSUPPORTED, "version 4, expected 2 or 3"},
        /* counts */
        {"#0xffffffffffffffff,0", ERR_FORMAT,
         "byte 16: number of tensors 18446744073709551615, but only 8 bytes follow"},
        {"#0,0xffffffffffffffff", ERR_FORMAT,
         "byte 24: number of keys 18446744073709551615, but only 0 bytes follow"},
        {"#0x0800000000000001,0 x64", ERR_FORMAT, "number of tensors 576460752303423489"},
        {"#2,0 z31", ERR_FORMAT, "number of tensors 2, but only 39 bytes follow"},
        {"#0,3 z38", ERR_FORMAT, "number of keys 3, but only 38 bytes follow"},
        {"#0,2 @k:0 b1 x1 z16", ERR_FORMAT, "key of 120 bytes, but only 9 bytes follow"},
        {"#1,2 @k:8 $012345678901234567890123456789", ERR_FORMAT,
         "byte 75: key of 8 bytes, but only 0 bytes follow"},
        /* keys and values */
        {"#0,1 q0xffffffffffffffff w0 z20", ERR_FORMAT,
         "key of 18446744073709551615 bytes, but only 24 bytes follow"},
        {"#0,1 q65536 x65536 w0 b0", ERR_LIMIT, "key of 65536 bytes, expected at most 65535"},
        {"#0,1 q3 'a b0 'b w0 b0", ERR_FORMAT, "a NUL byte in the name of a key"},
        {"#0,1 @k:13 z20", ERR_FORMAT, "key k: byte 37: type 13, expected 0 to 12"},
        {"#0,1 @k:0xffffffff z20", ERR_FORMAT, "type 4294967295, expected 0 to 12"},
        {"#0,1 @key:2 b1", ERR_FORMAT, "value of 2 bytes, but only 1 bytes follow"},
        {"#0,1 @k:4 h1", ERR_FORMAT, "value of 4 bytes, but only 2 bytes follow"},
        {"#0,1 @k:12 w1", ERR_FORMAT, "value of 8 bytes, but only 4 bytes follow"},
        {"#0,1 @k:8 q5 'text", ERR_FORMAT,
         "key k: byte 45: string of 5 bytes, but only 4 bytes follow"},
        {"#0,1 @k:8 q0xffffffffffffffff 'text", ERR_FORMAT,
         "string of 18446744073709551615 bytes, but only 4 bytes follow"},
        {"#0,1 @k:7 b2", ERR_FORMAT, "a boolean is 2, expected 0 or 1"},
        {"#0,1 @k:9 w7 q3 b0 b1 b255", ERR_FORMAT, "a boolean is 255"},
        {"#0,2 @k:0 b0 @k:0 b0", ERR_FORMAT, "key k: there twice"},
        {"#0,4 @b:0 b0 @a:8 $x @c:0 b0 @a:0 b0", ERR_FORMAT, "key a: there twice"},
        /* arrays */
        {"#0,1 @k:9 w13 q0", ERR_FORMAT, "type of array elements 13, expected 0 to 12"},
        {"#0,1 @k:9 w0", ERR_FORMAT, "array length of 8 bytes, but only 0 bytes follow"},
        {"#0,1 @k:9 w0 q5 z4", ERR_FORMAT, "array length 5, but only 4 bytes follow"},
        {"#0,1 @k:9 w10 q2 z15", ERR_FORMAT, "array length 2, but only 15 bytes follow"},
        {"#0,1 @k:9 w10 q0x2000000000000001 z15", ERR_FORMAT,
         "array length 2305843009213693953, but only 15 bytes follow"},
        {"#0,1 @k:9 w8 q0xffffffffffffffff z8", ERR_FORMAT,
         "array length 18446744073709551615, but only 8 bytes follow"},
        {"#0,1 @k:9 w8 q2 $abcdefgh z4", ERR_FORMAT, "string of 8 bytes, but only 4 bytes follow"},
        {"#0,1 @k:9 w8 q2 $a q9 z8", ERR_FORMAT, "string of 9 bytes, but only 8 bytes follow"},
        {"#0,1 @k:9 w9 q2 w0 q0", ERR_FORMAT, "array length 2, but only 12 bytes"},
        {"#0,1 @k:9 w9 q2 w0 q0 w0 q1", ERR_FORMAT, "array length 1, but only 0 bytes"},
        {"#0,1 @k:9 w9 q1 w9 q1 w9 q1 w9 q1 w7 q0", ERR_FORMAT, "arrays nested deeper than 4"},
        {"#0,1 @k:9 w9 q1 w9 q1 w9 q1 w9 q1 w9 q1 w9 q1 w9 q1 w9 q1 w9 q1 w7 q0", ERR_FORMAT,
         "key k: byte 85: arrays nested deeper than 4"},
        /* alignment and split files */
        {"#0,1 @general.alignment:4 w0", ERR_FORMAT,
         "key general.alignment: 0, expected a power of two, at most 65536"},
        {"#0,1 @general.alignment:4 w3", ERR_FORMAT, "key general.alignment: 3"},
        {"#0,1 @general.alignment:4 w48", ERR_FORMAT, "key general.alignment: 48"},
        {"#0,1 @general.alignment:4 w131072", ERR_FORMAT, "key general.alignment: 131072"},
        {"#0,1 @general.alignment:4 w0xffffffff", ERR_FORMAT, "key general.alignment: 4294967295"},
        {"#0,1 @general.alignment:10 q32", ERR_FORMAT,
         "key general.alignment: type U64, expected U32"},
        {"#0,1 @general.alignment:8 $32", ERR_FORMAT, "type string, expected U32"},
        {"#1,1 @general.alignment:4 w64 !a:1:0:32 p64 n36", ERR_FORMAT,
         "tensor a: offset 32, expected a multiple of 64"},
        {"#0,2 @split.no:2 h1 @split.count:2 h4", ERR_UNSUPPORTED,
         "part 2 of a model split into 4 files, expected one file"},
        {"#0,1 @split.count:2 h2", ERR_UNSUPPORTED, "part 1 of a model split into 2"},
        {"#0,1 @split.count:8 $2", ERR_FORMAT, "key split.count: type string, expected an integer"},
        {"#0,1 @split.count:5 w0xffffffff", ERR_FORMAT, "key split.count: -1, expected 0 to 65535"},
        /* tensors */
        {"#1,0 q65536 x65536 w1 q1 w0 q0 p32 n4", ERR_LIMIT,
         "tensor of 65536 bytes, expected at most 65535"},
        {"#1,0 q3 'a b0 'b w1 q1 w0 q0 p32 n4", ERR_FORMAT, "a NUL byte in the name of a tensor"},
        {"#1,0 q0xfffffffffffffff8 x40", ERR_FORMAT,
         "tensor of 18446744073709551608 bytes, but only 40 bytes follow"},
        {"#1,0 $a w0 w0 q0 p32 n4 z32", ERR_FORMAT,
         "tensor a: byte 37: 0 dimensions, expected 1 to 4"},
        {"#1,0 $a w5 q1 q1 q1 q1 q1 w0 q0 p32 n4", ERR_FORMAT, "5 dimensions, expected 1 to 4"},
        {"#1,0 $a w0xffffffff q1 w0 q0 p32 n4", ERR_FORMAT, "4294967295 dimensions"},
        {"#1,0 !a:0:0:0 p32 n4", ERR_FORMAT, "tensor a: byte 45: dimension 0 is 0"},
        {"#1,0 $a w2 q4 q0 w0 q0 p32 n4", ERR_FORMAT, "dimension 1 is 0"},
        {"#1,0 $a w2 q0x100000000 q0x100000000 w0 q0 p32 n4", ERR_FORMAT,
         "the product of the dimensions overflows"},
        {"#1,0 !a:0x4000000000000000:0:0 p32 n4", ERR_FORMAT, "the size overflows"},
        {"#1,0 !a:0x3fffffffffffffff:0:0 p32 n4", ERR_FORMAT,
         "tensor a: 18446744073709551612 bytes at offset 0, but the file has 4 bytes of data"},
        {"#1,0 !a:0x3fffffffffffffff:0:32 p32 n36", ERR_FORMAT,
         "18446744073709551612 bytes at offset 32, but the file has 36 bytes of data"},
        {"#1,0 !a:1:43:0 p32 n4", ERR_UNSUPPORTED, "tensor a: byte 49: type 43 is"},
        {"#1,0 !a:1:0xffffffff:0 p32 n4", ERR_UNSUPPORTED, "type 4294967295 is unknown"},
        {"#1,0 !a:32:4:0 p32 n20", ERR_UNSUPPORTED, "type Q4_2 is not supported"},
        {"#1,0 !a:32:31:0 p32 n18", ERR_UNSUPPORTED, "type Q4_0_4_4 is not supported"},
        {"#1,0 !a:33:8:0 p32 n36", ERR_FORMAT,
         "rows of 33 elements, expected a multiple of 32 for Q8_0"},
        {"#1,0 $a w2 q16 q2 w2 q0 p32 n18", ERR_FORMAT,
         "rows of 16 elements, expected a multiple of 32 for Q4_0"},
        {"#1,0 !a:128:12:0 p32 n144", ERR_FORMAT, "expected a multiple of 256"},
        {"#1,0 !a:1:0:8 p32 n12", ERR_FORMAT, "tensor a: offset 8, expected a multiple of 32"},
        {"#1,0 !a:1:0:32 p32 n32", ERR_FORMAT,
         "tensor a: 4 bytes at offset 32, but the file has 32 bytes of data"},
        {"#1,0 !a:2:0:0 p32 n7", ERR_FORMAT,
         "tensor a: 8 bytes at offset 0, but the file has 7 bytes of data"},
        {"#1,0 !a:8:0:0xffffffffffffffe0 p32 n32", ERR_FORMAT,
         "32 bytes at offset 18446744073709551584, but"},
        {"#2,0 !a:9:0:0 !b:1:0:32 p32 n64", ERR_FORMAT,
         "tensor b: offset 32 lies in tensor a, which ends at 36"},
        {"#2,0 !a:1:0:0 !b:1:0:0 p32 n64", ERR_FORMAT, "offset 0 lies in tensor"},
        {"#2,0 !a:1:0:0 !a:1:0:32 p32 n36", ERR_FORMAT, "tensor a: there twice"},
        {"#3,0 !a:1:0:0 !b:1:0:32 !a:1:0:64 p32 n68", ERR_FORMAT, "tensor a: there twice"},
        {"#1,0 !a:1:0:0 z6", ERR_FORMAT, "byte 57: padding of 7 bytes, but only 6 bytes follow"},
    };
    unsigned char file[MAX_FILE];
    Gguf *g;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (parse(&g, file, make(file, cases[i].recipe), &err) == ERR_OK)
            fail_msg("accepted: %s", cases[i].recipe);
        if (err.code != cases[i].code || strstr(err.msg, cases[i].part) == NULL)
            fail_msg("%s: %d %s", cases[i].recipe, (int)err.code, err.msg);
        assert_ptr_equal(strstr(err.msg, "x.gguf: "), err.msg);
        assert_null(g);
    }
}

static void every_prefix_is_refused(void **state)
{
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good);
    Gguf *g;
    Err err;

    (void)state;
    for (size_t k = 0; k < n; k++)
        assert_int_equal(parse(&g, file, k, &err), ERR_FORMAT);
    assert_int_equal(parse(&g, file, n, &err), ERR_OK);
    gguf_close(g);
}

/* The byte as 0, 0xff, one more, one less, and with each bit flipped. */
static unsigned char damage(unsigned char byte, int how)
{
    const int ways[4] = {0, 0xff, byte + 1, byte - 1};

    return (unsigned char)(how < 4 ? ways[how] : byte ^ 1 << (how - 4));
}

/* Reads every byte that an accepted file claims to have. */
static size_t touch_all(const Gguf *g)
{
    static const char *const keys[] = {"a.strings", "a.i32", "a.f32", "a.u32"};
    size_t n = 0, sum = 0;
    const GgufTensor *t = gguf_tensors(g, &n);
    GgufArray a;
    GgufText text;
    int32_t v;
    bool found;

    for (size_t i = 0; i < n; i++)
        for (size_t b = 0; b < t[i].n_bytes; b++)
            sum += t[i].data[b];
    for (size_t k = 0; k < 4; k++) {
        if (gguf_array(g, keys[k], GGUF_META_STRING, &a, &found, NULL) == ERR_OK && found)
            while (gguf_next_string(&a, &text))
                for (size_t b = 0; b < text.n; b++)
                    sum += (unsigned char)text.text[b];
        if (gguf_array(g, keys[k], GGUF_META_I32, &a, &found, NULL) == ERR_OK && found)
            while (gguf_next_i32(&a, &v))
                sum += (size_t)v;
    }
    return sum;
}

static void single_byte_damage_is_survived(void **state)
{
    unsigned char file[MAX_FILE], damaged[4096];
    const size_t n = make(file, good);
    size_t refused = 0, accepted = 0, sum = 0;
    Gguf *g;
    Err err;

    (void)state;
    assert_true(n < sizeof damaged);
    for (size_t i = 0; i < n - 100; i++)
        for (int how = 0; how < 12; how++) {
            memcpy(damaged, file, n);
            damaged[i] = damage(file[i], how);
            if (parse(&g, damaged, n, &err) != ERR_OK) {
                assert_int_not_equal(err.msg[0], '\0');
                refused++;
                continue;
            }
            accepted++;
            sum += touch_all(g);
            gguf_close(g);
        }
    assert_true(refused > 3000);
    assert_true(accepted > 1000);
    assert_true(sum > 0);
}

static char dir[] = "/tmp/llorch-gguf-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put_bytes(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(path_of(name), "wb");

    assert_non_null(f);
    assert_true(fwrite(data, 1, n, f) == n);
    assert_int_equal(fclose(f), 0);
}

static size_t get_bytes(const char *name, unsigned char out[MAX_FILE])
{
    FILE *f = fopen(path_of(name), "rb");

    assert_non_null(f);
    const size_t n = fread(out, 1, MAX_FILE, f);
    fclose(f);
    return n;
}

static size_t open_descriptors(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += dup2(fd, fd) == fd;
    return n;
}

static void opens_files(void **state)
{
    const size_t before = open_descriptors();
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good);
    Gguf *g = NULL;
    Err err;

    (void)state;
    put_bytes("a.gguf", file, n);
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_OK);
    const GgufTensor *t = gguf_find(g, "b");
    assert_non_null(strstr(t->file, "/a.gguf"));
    assert_true(t->mapped);
    gguf_drop(t);
    assert_int_equal(t->data[33], 34);
    gguf_close(g);
    g = NULL;
    put_bytes("a.gguf", file, n - 1);
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "/a.gguf: tensor c: 4 bytes at offset 96"));
    assert_int_equal(gguf_open(&g, path_of("a.gguf"), NULL), ERR_FORMAT);
    assert_int_equal(gguf_open(&g, path_of("none.gguf"), &err), ERR_IO);
    assert_int_equal(gguf_open(&g, dir, &err), ERR_IO);
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

/* Eight times the keys and tensors: about ten times the work, 64 times if anything were quadratic.
 */
static void work_grows_no_faster_than_n_log_n(void **state)
{
    const double small = seconds_for(7500), large = seconds_for(60000);

    (void)state;
    if (large > 25 * small + 0.1)
        fail_msg("%g s for 7,500 tensors, %g s for 60,000", small, large);
}

/* ---- The writer ---- */

/* What good says, through the writer; a nested array is not among its calls. */
static void write_good_keys(GgufWriter *w)
{
    static const int32_t i32s[] = {1, -2};
    static const float f32s[] = {1.0f, -0.5f};

    gguf_writer_integer(w, "k.u8", GGUF_META_U8, 200);
    gguf_writer_integer(w, "k.i8", GGUF_META_I8, (uint64_t)-2);
    gguf_writer_integer(w, "k.u16", GGUF_META_U16, 65535);
    gguf_writer_integer(w, "k.i16", GGUF_META_I16, (uint64_t)-32768);
    gguf_writer_integer(w, "k.u32", GGUF_META_U32, 4294967295u);
    gguf_writer_integer(w, "k.i32", GGUF_META_I32, (uint64_t)-1);
    gguf_writer_f32(w, "k.f32", 1.5f);
    gguf_writer_bool(w, "k.bool", true);
    gguf_writer_string(w, "k.string", "text", 4);
    gguf_writer_integer(w, "k.u64", GGUF_META_U64, UINT64_MAX);
    gguf_writer_integer(w, "k.i64", GGUF_META_I64, (uint64_t)INT64_MIN);
    gguf_writer_f64(w, "k.f64", 1.5);
    gguf_writer_strings(w, "a.strings", 3);
    gguf_writer_add(w, "one", 3);
    gguf_writer_add(w, "", 0);
    gguf_writer_add(w, "three", 5);
    gguf_writer_i32s(w, "a.i32", i32s, 2);
    gguf_writer_f32s(w, "a.f32", f32s, 2);
}

static const char written[] =
    "#3,15 "
    "@k.u8:0 b200 @k.i8:1 b0xfe @k.u16:2 h65535 @k.i16:3 h0x8000 "
    "@k.u32:4 w4294967295 @k.i32:5 w0xffffffff @k.f32:6 w0x3fc00000 @k.bool:7 b1 @k.string:8 $text "
    "@k.u64:10 q0xffffffffffffffff @k.i64:11 q0x8000000000000000 @k.f64:12 q0x3ff8000000000000 "
    "@a.strings:9 w8 q3 $one $ $three @a.i32:9 w5 q2 w1 w0xfffffffe "
    "@a.f32:9 w6 q2 w0x3f800000 w0xbf000000 "
    "$b w2 q32 q1 w8 q0 !a:3:0:64 $c w4 q1 q2 q1 q1 w1 q96 "
    "p32 n34 z30 n12 z20 n4 z28";

static void write_good_tensors(GgufWriter *w)
{
    static const size_t b[] = {32, 1}, a[] = {3}, c[] = {1, 2, 1, 1};

    gguf_writer_tensor(w, "b", GGUF_Q8_0, 2, b);
    gguf_writer_tensor(w, "a", GGUF_F32, 1, a);
    gguf_writer_tensor(w, "c", GGUF_F16, 4, c);
}

/* The data of the three tensors in pieces of at most step bytes, cut anywhere. */
static void write_good_data(GgufWriter *w, size_t step)
{
    unsigned char data[50];

    for (size_t i = 0; i < 50; i++)
        data[i] = (unsigned char)(i < 34 ? i + 1 : i < 46 ? i - 33 : i - 45);
    for (size_t i = 0; i < 50; i += step)
        assert_true(gguf_writer_data(w, data + i, i + step < 50 ? step : 50 - i));
}

static void writes_the_expected_bytes(void **state)
{
    unsigned char expected[MAX_FILE], got[MAX_FILE];
    const size_t n = make(expected, written);
    GgufWriter w;
    Err err;

    (void)state;
    for (size_t step = 1; step <= 50; step++) {
        assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), 32, &err), ERR_OK);
        write_good_keys(&w);
        write_good_tensors(&w);
        write_good_data(&w, step);
        if (gguf_writer_finish(&w, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(get_bytes("w.gguf", got), n);
        assert_memory_equal(got, expected, n);
    }
}

static void what_is_written_reads_back(void **state)
{
    static const size_t dims[] = {5, 3};
    static const float values[15] = {1.0f, -2.0f};
    static const char any[] = "a\0\xff\n";
    GgufWriter w;
    GgufText text;
    GgufArray a;
    Gguf *g;
    int64_t alignment;
    Err err;

    (void)state;
    for (size_t align = 1; align <= GGUF_MAX_ALIGNMENT; align *= 2) {
        assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), align, &err), ERR_OK);
        gguf_writer_strings(&w, "s", 2);
        gguf_writer_add(&w, any, 4);
        gguf_writer_add(&w, "x", 1);
        gguf_writer_string(&w, "any", any, 4);
        gguf_writer_tensor(&w, "one", GGUF_F32, 2, dims);
        gguf_writer_tensor(&w, "two", GGUF_F32, 2, dims);
        assert_true(gguf_writer_data(&w, values, sizeof values));
        assert_true(gguf_writer_data(&w, values, sizeof values));
        assert_int_equal(gguf_writer_finish(&w, &err), ERR_OK);

        if (gguf_open(&g, path_of("w.gguf"), &err) != ERR_OK)
            fail_msg("alignment %zu: %s", align, err.msg);
        assert_memory_equal(gguf_find(g, "one")->data, values, sizeof values);
        assert_memory_equal(gguf_find(g, "two")->data, values, sizeof values);
        assert_int_equal(gguf_find(g, "two")->dims[1], 3);
        assert_int_equal(gguf_find(g, "two")->offset % align, 0);
        alignment = 32;
        bool found;
        assert_int_equal(gguf_integer(g, "general.alignment", 0, 1 << 20, &alignment, &found, &err),
                         ERR_OK);
        assert_int_equal(alignment, align);
        assert_int_equal(found, align != 32);
        assert_int_equal(gguf_string(g, "any", &text, NULL, &err), ERR_OK);
        assert_int_equal(text.n, 4);
        assert_memory_equal(text.text, any, 4);
        assert_int_equal(gguf_array(g, "s", GGUF_META_STRING, &a, NULL, &err), ERR_OK);
        assert_true(gguf_next_string(&a, &text) && gguf_next_string(&a, &text));
        assert_memory_equal(text.text, "x", 1);
        gguf_close(g);
    }
    assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), 24, &err), ERR_USAGE);
    assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), 0, &err), ERR_USAGE);
    assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), 131072, &err), ERR_USAGE);
}

static void writes_files_without_tensors(void **state)
{
    unsigned char got[MAX_FILE];
    GgufWriter w;
    Gguf *g;
    Err err;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path_of("w.gguf"), 32, &err), ERR_OK);
    assert_int_equal(gguf_writer_finish(&w, &err), ERR_OK);
    assert_int_equal(get_bytes("w.gguf", got), 32); /* 24 and padding */
    assert_int_equal(gguf_open(&g, path_of("w.gguf"), &err), ERR_OK);
    gguf_close(g);
}

/* Each way to call the writer wrongly, and the message of gguf_writer_finish. */
static void misuse(GgufWriter *w, int how)
{
    static const size_t three[] = {3}, none[] = {4, 0};
    static const size_t huge[] = {(size_t)1 << 40, (size_t)1 << 40};
    static const size_t most[] = {((size_t)1 << 62) - 1};
    static char long_name[GGUF_MAX_NAME_BYTES + 2];

    memset(long_name, 'x', sizeof long_name - 1);
    switch (how) {
    case 0:
        gguf_writer_integer(w, "k", GGUF_META_U8, 256);
        break;
    case 1:
        gguf_writer_integer(w, "k", GGUF_META_I8, 128);
        break;
    case 2:
        gguf_writer_integer(w, "k", GGUF_META_I16, (uint64_t)-32769);
        break;
    case 3:
        gguf_writer_integer(w, "k", GGUF_META_U32, (uint64_t)-1);
        break;
    case 4:
        gguf_writer_integer(w, "k", GGUF_META_F32, 1);
        break;
    case 5:
        gguf_writer_strings(w, "k", 2);
        gguf_writer_add(w, "x", 1);
        gguf_writer_bool(w, "l", true);
        break;
    case 6:
        gguf_writer_strings(w, "k", 2);
        break;
    case 7:
        gguf_writer_add(w, "x", 1);
        break;
    case 8:
        gguf_writer_bool(w, long_name, true);
        break;
    case 9:
        gguf_writer_tensor(w, "t", 43, 1, three);
        break;
    case 10:
        gguf_writer_tensor(w, "t", GGUF_F32, 5, three);
        break;
    case 11:
        gguf_writer_tensor(w, "t", GGUF_Q4_0, 1, three);
        break;
    case 12:
        gguf_writer_tensor(w, "t", GGUF_F32, 2, none);
        break;
    case 13:
        gguf_writer_tensor(w, "t", GGUF_I8, 2, huge);
        break;
    case 14:
        gguf_writer_tensor(w, "t", GGUF_I64, 1, most);
        break;
    case 15:
        gguf_writer_tensor(w, long_name, GGUF_F32, 1, three);
        break;
    case 16:
        gguf_writer_tensor(w, "t", GGUF_F32, 1, three);
        break;
    case 17:
        gguf_writer_tensor(w, "t", GGUF_F32, 1, three);
        assert_false(gguf_writer_data(w, "1234567890123", 13));
        assert_false(gguf_writer_data(w, "1", 1));
        break;
    case 18:
        gguf_writer_tensor(w, "t", GGUF_F32, 1, three);
        assert_true(gguf_writer_data(w, "1234567890", 10));
        gguf_writer_bool(w, "late", true);
        break;
    default:
        assert_false(gguf_writer_data(w, "1", 1));
        gguf_writer_tensor(w, "late", GGUF_F32, 1, three);
    }
}

static void misuse_is_reported_and_leaves_nothing(void **state)
{
    static const char *const parts[] = {
        "key k: 256 does not fit 1 bytes",
        "key k: 128 does not fit 1 bytes",
        "key k: 18446744073709518847 does not fit 2 bytes",
        "key k: 18446744073709551615 does not fit 4 bytes",
        "key k: type 6 is no integer type",
        "key l: 1 strings are missing in the array before it",
        "2 strings are missing in the last array",
        "more strings than the array was said to have",
        "key of 65536 bytes, expected at most 65535",
        "tensor t: type 43 with 1 dimensions cannot be written",
        "tensor t: type 0 with 5 dimensions cannot be written",
        "rows of 3 elements, expected a multiple of 32 for Q4_0",
        "tensor t: dimension 1 is 0",
        "overflows",
        "tensor t: the size overflows",
        "tensor name of 65536 bytes, expected at most 65535",
        "data of 1 of 1 tensors is missing",
        "1 bytes of data more than the tensors have",
        "key late comes after the first data",
        "1 bytes of data more than the tensors have",
    };
    const size_t before = open_descriptors();
    GgufWriter w;
    Err err;

    (void)state;
    for (int i = 0; i < (int)(sizeof parts / sizeof parts[0]); i++) {
        assert_int_equal(gguf_writer_open(&w, path_of("misuse.gguf"), 32, &err), ERR_OK);
        misuse(&w, i);
        assert_int_equal(gguf_writer_finish(&w, &err), ERR_INTERNAL);
        if (strstr(err.msg, parts[i]) == NULL || strstr(err.msg, "/misuse.gguf: ") == NULL)
            fail_msg("%d: %s", i, err.msg);
        assert_int_not_equal(access(path_of("misuse.gguf"), F_OK), 0);
    }
    assert_int_equal(gguf_writer_open(&w, path_of("misuse.gguf"), 32, &err), ERR_OK);
    gguf_writer_bool(&w, "k", true);
    gguf_writer_discard(&w);
    assert_int_not_equal(access(path_of("misuse.gguf"), F_OK), 0);
    assert_int_equal(open_descriptors(), before); /* remove_dir sees what else is left */
}

static void a_failed_write_leaves_nothing(void **state)
{
    static const size_t dims[1] = {20000};
    static const unsigned char values[20000];
    const struct rlimit small = {8192, RLIM_INFINITY};
    struct rlimit before;
    GgufWriter w;
    Err err;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path_of("no/such/a.gguf"), 32, &err), ERR_IO);

    /* A file size limit is a full disk that a test can have. */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    put_bytes("old.gguf", "old", 3);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(gguf_writer_open(&w, path_of("old.gguf"), 32, &err), ERR_OK);
    gguf_writer_tensor(&w, "a", GGUF_I8, 1, dims);
    gguf_writer_tensor(&w, "b", GGUF_I8, 1, dims);
    const bool first = gguf_writer_data(&w, values, sizeof values);
    const ErrCode code = gguf_writer_finish(&w, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(first);
    assert_int_equal(code, ERR_IO);
    assert_non_null(strstr(err.msg, "/old.gguf: File too large"));
    unsigned char got[MAX_FILE];
    assert_int_equal(get_bytes("old.gguf", got), 3);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)unlink(path_of("a.gguf"));
    (void)unlink(path_of("w.gguf"));
    (void)unlink(path_of("old.gguf"));
    return rmdir(dir); /* fails when a temporary file was left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_all_tensors_sorted),
        cmocka_unit_test(reads_integers_of_any_type),
        cmocka_unit_test(tells_absent_from_wrong_type),
        cmocka_unit_test(reads_values_and_arrays),
        cmocka_unit_test(accepts_unusual_but_correct_files),
        cmocka_unit_test(names_types_it_cannot_widen),
        cmocka_unit_test(refuses_each_way_to_be_wrong),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(single_byte_damage_is_survived),
        cmocka_unit_test(opens_files),
        cmocka_unit_test(work_grows_no_faster_than_n_log_n),
        cmocka_unit_test(writes_the_expected_bytes),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(writes_files_without_tensors),
        cmocka_unit_test(misuse_is_reported_and_leaves_nothing),
        cmocka_unit_test(a_failed_write_leaves_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
