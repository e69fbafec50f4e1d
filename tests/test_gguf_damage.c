/* tests/test_gguf_damage.c: GGUF files that are wrong in each way that the format allows are
 * refused by name, and no damage leads past their end. */
#include "gguf_rig.h"

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
        const size_t n = make(file, cases[i].recipe);

        assert_refused(cases[i].recipe, parse(&g, file, n, &err), &err, cases[i].code,
                       cases[i].part);
        assert_ptr_equal(strstr(err.msg, "x.gguf: "), err.msg);
        assert_null(g);
    }
}

static size_t touched; /* the sum of what accepted files hold */

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

static ErrCode try_file(const unsigned char *file, size_t n)
{
    Gguf *g;
    Err err;
    const ErrCode code = parse(&g, file, n, &err);

    if (code == ERR_OK)
        touched += touch_all(g);
    else
        assert_int_not_equal(err.msg[0], '\0');
    gguf_close(g);
    return code;
}

static void every_prefix_is_refused(void **state)
{
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good);

    (void)state;
    every_prefix_is_malformed(try_file, file, n);
}

static void single_byte_damage_is_survived(void **state)
{
    unsigned char file[MAX_FILE];
    const size_t n = make(file, good), n_head = n - 100;
    const size_t refused = refused_of_damaged(try_file, file, n, n_head);

    (void)state;
    assert_true(refused > 3000);
    assert_true(N_DAMAGES * n_head - refused > 1000);
    assert_true(touched > 0);
}

/* --- files that somebody writes to while they are read --- */

static unsigned char *changing; /* two pages: a key, and a tensor's entry */

/* The entry is first looked at in the first walk, then the key in the second: then the tensor has a
 * longer name than was measured. */
static void change_between_walks(int sig, siginfo_t *info, void *context)
{
    static unsigned char entry[PAGE];
    const bool first_walk = (unsigned char *)info->si_addr >= changing + PAGE;

    (void)sig;
    (void)context;
    if (mprotect(changing, 2 * PAGE, PROT_READ | PROT_WRITE) != 0)
        _exit(1);
    if (first_walk && mprotect(changing, PAGE, PROT_NONE) != 0)
        _exit(1);
    if (!first_walk)
        memcpy(changing + PAGE, entry, make(entry, "q3000 x3000 w1 q1 w0 q0"));
}

/* The arena's last page ends with the names: what is written behind them is not seen, but what
 * parse says is. */
static void a_name_that_grows_between_two_walks_is_refused(void **state)
{
    struct sigaction fault = {.sa_sigaction = change_between_walks, .sa_flags = SA_SIGINFO}, before;
    Gguf *g = NULL;
    Err err = {ERR_OK, ""};

    (void)state;
    changing = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(changing != MAP_FAILED);
    assert_int_equal(make(changing, "#1,1 @k:8 q4051 x4051 $a w1 q1 w0 q0 p32 n4"), 4096 + 68);
    assert_int_equal(mprotect(changing + PAGE, PAGE, PROT_NONE), 0);
    assert_int_equal(sigaction(SIGSEGV, &fault, &before), 0);

    const ErrCode code = gguf_parse(&g, changing, 2 * PAGE, "x.gguf", &err);

    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_refused("a name that grows", code, &err, ERR_FORMAT, "changed while it was read");
    assert_int_equal(munmap(changing, 2 * PAGE), 0);
}

static void strings_that_grow_end_with_the_file(void **state)
{
    static const char recipe[] = "#0,2 @s:8 $text @a:9 w8 q2 $one $two";
    unsigned char file[PAGE], *bytes;
    const size_t n = make(file, recipe);
    GgufText text = {NULL, 0};
    GgufArray a;
    Gguf *g = NULL;
    Err err = {ERR_OK, ""};

    (void)state;
    (void)guarded(file, n);
    bytes = guarded_end() - n;
    assert_int_equal(gguf_parse(&g, bytes, n, "x.gguf", &err), ERR_OK);
    assert_int_equal(gguf_array(g, "a", GGUF_META_STRING, &a, NULL, &err), ERR_OK);
    put(bytes, n - 11, 4, 8);     /* the length of "two" */
    put(bytes, 24 + 9 + 4, n, 8); /* that of "text" */
    assert_true(gguf_next_string(&a, &text));
    assert_int_equal(text.n, 3);
    assert_false(gguf_next_string(&a, &text));
    assert_refused("a string that grows", gguf_string(g, "s", &text, NULL, &err), &err, ERR_FORMAT,
                   "x.gguf: key s: changed while it was read");
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_each_way_to_be_wrong),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(single_byte_damage_is_survived),
        cmocka_unit_test(a_name_that_grows_between_two_walks_is_refused),
        cmocka_unit_test(strings_that_grow_end_with_the_file),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
