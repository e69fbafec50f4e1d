/* tests/test_safetensors_write.c: what the writer of safetensors files writes, and that it leaves
 * nothing behind when it fails. */
#include "parser_rig.h"

#include "formats/safetensors.h"
#include "formats/safetensors_write.h"

static const StNewText texts[] = {{"format", "llorch", 6}, {"quote\"", "a\0\xc3\xa9\n", 5}};
static const StNewTensor tensors[] = {
    {"z", "U8", 1, {5}}, {"a", "F32", 2, {2, 3}}, {"s", "I64", 0, {0}}, {"e", "F16", 2, {3, 0}}};
enum { N_DATA = 5 + 24 + 8 };

static void writes_the_expected_bytes(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"llorch\",\"quote\\\"\":\"a\\u0000\xc3\xa9\\n\"},"
        "\"z\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[5,29]},"
        "\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[29,37]},"
        "\"e\":{\"dtype\":\"F16\",\"shape\":[3,0],\"data_offsets\":[37,37]}}";
    unsigned char data[N_DATA], got[1024];
    const size_t n = sizeof header - 1, start = (8 + n + 63) / 64 * 64;
    StWriter w;
    Err err;

    (void)state;
    for (size_t i = 0; i < N_DATA; i++)
        data[i] = (unsigned char)(i + 1);
    for (size_t step = 1; step <= N_DATA; step++) {
        assert_int_equal(
            safetensors_writer_open(&w, path_of("a.safetensors"), texts, 2, tensors, 4, &err),
            ERR_OK);
        for (size_t i = 0; i < N_DATA; i += step)
            assert_true(
                safetensors_writer_data(&w, data + i, i + step < N_DATA ? step : N_DATA - i));
        assert_int_equal(safetensors_writer_finish(&w, &err), ERR_OK);

        assert_int_equal(get_bytes("a.safetensors", got, sizeof got), start + N_DATA);
        assert_int_equal(got[0] + 256 * got[1], start - 8);
        assert_memory_equal(got + 8, header, n);
        for (size_t i = 8 + n; i < start; i++)
            assert_int_equal(got[i], ' ');
        assert_memory_equal(got + start, data, N_DATA);
    }
}

static void what_is_written_reads_back(void **state)
{
    static const unsigned char data[N_DATA] = {1, 2, 3};
    Safetensors *st = NULL;
    size_t n = 0;
    StWriter w;
    Err err;

    (void)state;
    assert_int_equal(
        safetensors_writer_open(&w, path_of("a.safetensors"), texts, 2, tensors, 4, &err), ERR_OK);
    assert_true(safetensors_writer_data(&w, data, sizeof data));
    assert_int_equal(safetensors_writer_finish(&w, &err), ERR_OK);
    assert_int_equal(safetensors_open(&st, path_of("a.safetensors"), &err), ERR_OK);
    (void)safetensors_tensors(st, &n);
    assert_int_equal(n, 4);
    const StTensor *z = safetensors_find(st, "z");
    assert_int_equal((uintptr_t)z->data % ST_DATA_ALIGN, 0); /* the mapping starts at a page */
    assert_int_equal(z->data[2], 3);
    assert_int_equal(safetensors_find(st, "a")->dims[1], 3);
    assert_memory_equal(safetensors_metadata(st, "quote\"", &n), "a\0\xc3\xa9\n", 6);
    assert_int_equal(n, 5);
    safetensors_close(st);

    /* Nothing at all is a file, too. */
    assert_int_equal(safetensors_writer_open(&w, path_of("a.safetensors"), NULL, 0, NULL, 0, &err),
                     ERR_OK);
    assert_int_equal(safetensors_writer_finish(&w, &err), ERR_OK);
    assert_int_equal(safetensors_open(&st, path_of("a.safetensors"), &err), ERR_OK);
    (void)safetensors_tensors(st, &n);
    assert_int_equal(n, 0);
    safetensors_close(st);
}

/* Every length of the header ends at a multiple of 64. */
static void data_is_aligned(void **state)
{
    static const StNewTensor one = {"t", "U8", 1, {1}};
    char text[65];
    unsigned char got[1024];
    StWriter w;
    Err err;

    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t n = 0; n <= 64; n++) {
        const StNewText t = {"k", text, n};

        assert_int_equal(
            safetensors_writer_open(&w, path_of("a.safetensors"), &t, 1, &one, 1, &err), ERR_OK);
        assert_true(safetensors_writer_data(&w, "!", 1));
        assert_int_equal(safetensors_writer_finish(&w, &err), ERR_OK);
        const size_t size = get_bytes("a.safetensors", got, sizeof got);
        assert_int_equal(size % ST_DATA_ALIGN, 1);
        assert_int_equal(got[size - 1], '!');
    }
}

static void refuses_what_no_header_can_say(void **state)
{
    static const struct {
        StNewText text;
        StNewTensor tensor;
        const char *part;
    } cases[] = {
        {{"k", "v", 1}, {"t", "F31", 1, {1}}, "tensor t: type F31 with 1 dimensions"},
        {{"k", "v", 1}, {"t", "F32", ST_MAX_DIMS + 1, {1}}, "with 9 dimensions"},
        {{"k", "v", 1}, {"t", "F32", -1, {1}}, "with -1 dimensions"},
        {{"k", "v", 1}, {"t", "F4", 1, {3}}, "tensor t: the size is no number of bytes"},
        {{"k", "v", 1}, {"t", "U8", 2, {SIZE_MAX, 2}}, "the size is no number of bytes"},
        {{"k", "v", 1}, {"t\xff", "U8", 1, {1}}, "\"t\\xff\" is not valid UTF-8"},
        {{"k\xff", "v", 1}, {"t", "U8", 1, {1}}, "\"k\\xff\" is not valid UTF-8"},
        {{"k", "v\xff", 2}, {"t", "U8", 1, {1}}, "__metadata__: k is not valid UTF-8"},
    };
    StWriter w;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(safetensors_writer_open(&w, path_of("b.safetensors"), &cases[i].text, 1,
                                                 &cases[i].tensor, 1, &err),
                         ERR_INTERNAL);
        if (strstr(err.msg, cases[i].part) == NULL)
            fail_msg("%zu: %s", i, err.msg);
        assert_int_not_equal(access(path_of("b.safetensors"), F_OK), 0);
    }
    char *huge = malloc(ST_MAX_HEADER_BYTES);
    assert_non_null(huge);
    memset(huge, 'x', ST_MAX_HEADER_BYTES);
    const StNewText text = {"k", huge, ST_MAX_HEADER_BYTES};
    assert_int_equal(safetensors_writer_open(&w, path_of("b.safetensors"), &text, 1, NULL, 0, &err),
                     ERR_LIMIT);
    free(huge);
    assert_int_equal(
        safetensors_writer_open(&w, path_of("no/b.safetensors"), NULL, 0, NULL, 0, &err), ERR_IO);
}

static void wrong_amounts_of_data_leave_nothing(void **state)
{
    static const unsigned char data[N_DATA + 1];
    StWriter w;
    Err err;

    (void)state;
    for (size_t n = 0; n <= N_DATA + 1; n++) {
        if (n == N_DATA)
            continue;
        assert_int_equal(
            safetensors_writer_open(&w, path_of("b.safetensors"), texts, 2, tensors, 4, &err),
            ERR_OK);
        assert_int_equal(safetensors_writer_data(&w, data, n), n < N_DATA);
        assert_int_equal(safetensors_writer_finish(&w, &err), ERR_INTERNAL);
        assert_non_null(strstr(err.msg, n < N_DATA ? "/b.safetensors: less data than the tensors"
                                                   : "/b.safetensors: more data than the tensors"));
        assert_int_not_equal(access(path_of("b.safetensors"), F_OK), 0);
    }
    assert_int_equal(
        safetensors_writer_open(&w, path_of("b.safetensors"), texts, 2, tensors, 4, &err), ERR_OK);
    safetensors_writer_discard(&w);
    assert_int_not_equal(access(path_of("b.safetensors"), F_OK), 0);
}

static void a_failed_write_leaves_nothing(void **state)
{
    static const StNewTensor big = {"t", "U8", 1, {20000}};
    static const unsigned char data[20000];
    StWriter w;
    Err err;

    (void)state;
    const struct rlimit before = fill_disk();
    const ErrCode opened =
        safetensors_writer_open(&w, path_of("b.safetensors"), NULL, 0, &big, 1, &err);
    const bool written = safetensors_writer_data(&w, data, 15000);
    const ErrCode code = safetensors_writer_finish(&w, &err);
    empty_disk(before);
    assert_int_equal(opened, ERR_OK);
    assert_false(written);
    assert_int_equal(code, ERR_IO);
    assert_non_null(strstr(err.msg, "/b.safetensors: File too large"));
    assert_int_not_equal(access(path_of("b.safetensors"), F_OK), 0);
}

static int remove_files_made(void **state)
{
    static const char *const names[] = {"a.safetensors"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_expected_bytes),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(data_is_aligned),
        cmocka_unit_test(refuses_what_no_header_can_say),
        cmocka_unit_test(wrong_amounts_of_data_leave_nothing),
        cmocka_unit_test(a_failed_write_leaves_nothing),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_files_made);
}
