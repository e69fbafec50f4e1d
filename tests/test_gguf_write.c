/* tests/test_gguf_write.c: what the writer of GGUF files writes, and that it leaves nothing behind
 * when it is misused or fails. */
#include "gguf_rig.h"

#include "formats/gguf_write.h"

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
        assert_int_equal(get_bytes("w.gguf", got, sizeof got), n);
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
    assert_int_equal(get_bytes("w.gguf", got, sizeof got), 32); /* 24 and padding */
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
    assert_int_equal(open_descriptors(), before); /* remove_folder sees what else is left */
}

static void a_failed_write_leaves_nothing(void **state)
{
    static const size_t dims[1] = {20000};
    static const unsigned char values[20000];
    GgufWriter w;
    Err err;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path_of("no/such/a.gguf"), 32, &err), ERR_IO);

    put_file("old.gguf", "old", 3);
    const struct rlimit before = fill_disk();
    assert_int_equal(gguf_writer_open(&w, path_of("old.gguf"), 32, &err), ERR_OK);
    gguf_writer_tensor(&w, "a", GGUF_I8, 1, dims);
    gguf_writer_tensor(&w, "b", GGUF_I8, 1, dims);
    const bool first = gguf_writer_data(&w, values, sizeof values);
    const ErrCode code = gguf_writer_finish(&w, &err);
    empty_disk(before);
    assert_false(first);
    assert_int_equal(code, ERR_IO);
    assert_non_null(strstr(err.msg, "/old.gguf: File too large"));
    unsigned char got[MAX_FILE];
    assert_int_equal(get_bytes("old.gguf", got, sizeof got), 3);
}

static int remove_files_made(void **state)
{
    static const char *const names[] = {"w.gguf", "old.gguf"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_expected_bytes),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(writes_files_without_tensors),
        cmocka_unit_test(misuse_is_reported_and_leaves_nothing),
        cmocka_unit_test(a_failed_write_leaves_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_files_made);
}
