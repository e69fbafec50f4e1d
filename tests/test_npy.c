/* tests/test_npy.c: NumPy files, whole and damaged. */
#include "parser_rig.h"

#include <math.h>
#include <sys/stat.h>

#include "formats/npy.h"

static ErrCode parse(Npy *npy, const void *data, size_t n, Err *err)
{
    *err = (Err){ERR_OK, ""};
    memset(npy, 0, sizeof *npy);
    return npy_parse(npy, guarded(data, n), n, "x.npy", err);
}

/* A file of the given version with this header text (a final line feed is added) and data. */
static size_t make(unsigned char *out, int major, const char *header, const void *data,
                   size_t n_data)
{
    const size_t n = strlen(header) + 1;
    const size_t at = major == 1 ? 10 : 12;

    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)major;
    out[7] = 0;
    for (size_t i = 8; i < at; i++)
        out[i] = (unsigned char)(n >> (8 * (i - 8)));
    memcpy(out + at, header, n - 1);
    out[at + n - 1] = '\n';
    if (n_data > 0)
        memcpy(out + at + n, data, n_data);
    return at + n + n_data;
}

static const unsigned char six_floats[24] = {0, 0, 0x80, 0x3f, 0,    0,    0,    0xc0,
                                             0, 0, 0x40, 0x40, 0xcd, 0xcc, 0xcc, 0x3d,
                                             0, 0, 0x80, 0x7f, 0,    0,    0,    0x80};

static void reads_all_versions(void **state)
{
    unsigned char file[1024];
    Npy npy;
    Err err;

    (void)state;
    for (int major = 1; major <= 3; major++) {
        const size_t n =
            make(file, major, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  ",
                 six_floats, 24);

        assert_int_equal(parse(&npy, file, n, &err), ERR_OK);
        assert_int_equal(npy.n, 6);
        assert_int_equal(npy.n_dims, 2);
        assert_int_equal(npy.dims[0], 2);
        assert_int_equal(npy.dims[1], 3);
        assert_true(npy.data[0] == 1.0f && npy.data[1] == -2.0f && npy.data[2] == 3.0f);
        assert_true(npy.data[3] == 0.1f && isinf(npy.data[4]) && npy.data[5] == 0.0f);
        npy_close(&npy);
        assert_null(npy.data);
        npy_close(&npy);
    }
}

static void rounds_double_to_float(void **state)
{
    static const double values[3] = {0.1, -1e300, 1.0000000596046448};
    unsigned char file[1024];
    Npy npy;
    Err err;

    (void)state;
    const size_t n =
        make(file, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", values, 24);
    assert_int_equal(parse(&npy, file, n, &err), ERR_OK);
    assert_true(npy.data[0] == 0.1f && isinf(npy.data[1]) && npy.data[2] == 1.0f);
    npy_close(&npy);
}

static void accepts_other_spellings(void **state)
{
    static const struct {
        const char *header;
        size_t n, n_dims;
    } cases[] = {
        {"{'descr':'<f4','fortran_order':False,'shape':(6,)}", 6, 1},
        {"{\"shape\": (1, 6), \"descr\": \"<f4\", \"fortran_order\": False,}", 6, 2},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ( 2 , 3 , ) , }", 6, 2},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,6)}", 6, 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", 1, 0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", 0, 1},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (7, 0, 5)}", 0, 3},
    };
    unsigned char file[1024];
    Npy npy;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = make(file, 1, cases[i].header, six_floats, 4 * cases[i].n);

        if (parse(&npy, file, n, &err) != ERR_OK)
            fail_msg("%s: %s", cases[i].header, err.msg);
        assert_int_equal(npy.n, cases[i].n);
        assert_int_equal(npy.n_dims, cases[i].n_dims);
        npy_close(&npy);
    }
}

static void refuses_wrong_headers(void **state)
{
    static const struct {
        const char *header;
        ErrCode code;
        const char *part;
    } cases[] = {
        {"", ERR_FORMAT, "expected '{'"},
        {"{}", ERR_FORMAT, "each once"},
        {"{'descr': '<f4', 'fortran_order': False}", ERR_FORMAT, "each once"},
        {"{'descr': '<f4', 'shape': (6,)}", ERR_FORMAT, "each once"},
        {"{'fortran_order': False, 'shape': (6,)}", ERR_FORMAT, "each once"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", ERR_FORMAT,
         "each once"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}", ERR_FORMAT,
         "each once"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (6,)}", ERR_UNSUPPORTED, "'>f4'"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (6,)}", ERR_UNSUPPORTED, "'<i4'"},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (12,)}", ERR_UNSUPPORTED, "'<f2'"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (6,)}", ERR_UNSUPPORTED, "'|O'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", ERR_FORMAT,
         "a string"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", ERR_UNSUPPORTED,
         "fortran_order is True"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}", ERR_FORMAT, "True or False"},
        {"{'descr': '<f4', 'fortran_order': Falsely, 'shape': (6,)}", ERR_FORMAT, "comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 6}", ERR_FORMAT, "a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6)}", ERR_FORMAT, "needs a comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [6]}", ERR_FORMAT, "a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6L,)}", ERR_FORMAT, "comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}", ERR_FORMAT, "a dimension"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (06,)}", ERR_FORMAT, "a dimension"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0x6,)}", ERR_FORMAT, "comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", ERR_FORMAT, "a dimension"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,,3)}", ERR_FORMAT, "a dimension"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", ERR_FORMAT, "a comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6)}", ERR_FORMAT,
         "8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616,)}", ERR_FORMAT,
         "64 bits"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", ERR_FORMAT,
         "64 bits"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387910,)}", ERR_FORMAT,
         "bytes of data"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", ERR_FORMAT,
         "24 bytes of data for a shape of 5"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}", ERR_FORMAT,
         "24 bytes of data for a shape of 7"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (6,)}", ERR_FORMAT, "a comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)", ERR_FORMAT, "a comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x", ERR_FORMAT,
         "final line feed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n", ERR_FORMAT,
         "final line feed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}}", ERR_FORMAT, "final line feed"},
        {"{'descr': __import__('os').abort(), 'shape': (6,)}", ERR_FORMAT, "a string"},
        {"{'de\\x73cr': '<f4', 'fortran_order': False, 'shape': (6,)}", ERR_FORMAT,
         "without escapes"},
        {"{'descr\": '<f4', 'fortran_order': False, 'shape': (6,)}", ERR_FORMAT, "each once"},
        {"{'a key that is too long': 1}", ERR_FORMAT, "short string"},
    };
    unsigned char file[1024];
    Npy npy;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = make(file, 1, cases[i].header, six_floats, 24);

        assert_refused(cases[i].header, parse(&npy, file, n, &err), &err, cases[i].code,
                       cases[i].part);
        assert_true(strncmp(err.msg, "x.npy: ", 7) == 0);
        assert_null(npy.data);
    }
}

static void refuses_wrong_beginnings(void **state)
{
    unsigned char file[1024];
    Npy npy;
    Err err;

    (void)state;
    size_t n =
        make(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", six_floats, 24);
    file[6] = 4;
    assert_int_equal(parse(&npy, file, n, &err), ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "x.npy: version 4.0, expected 1.0, 2.0 or 3.0");
    file[6] = 1;
    file[7] = 1;
    assert_int_equal(parse(&npy, file, n, &err), ERR_UNSUPPORTED);
    file[7] = 0;
    file[9] = 1; /* 256 bytes more than the header has */
    assert_int_equal(parse(&npy, file, n, &err), ERR_FORMAT);
    file[6] = 2;
    file[10] = file[11] = 0xff; /* 4 GiB of header */
    assert_int_equal(parse(&npy, file, n, &err), ERR_LIMIT);
    assert_int_equal(parse(&npy, "PK\x03\x04", 4, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "zip"));
    assert_int_equal(parse(&npy, "NUMPY", 5, &err), ERR_FORMAT);
}

static ErrCode try_file(const unsigned char *file, size_t n)
{
    Npy npy;
    Err err;
    const ErrCode code = parse(&npy, file, n, &err);

    if (code == ERR_OK)
        assert_true(npy.n * 4 == 24 || npy.n * 8 == 24);
    npy_close(&npy);
    return code;
}

static void every_prefix_is_refused(void **state)
{
    unsigned char file[1024];

    (void)state;
    for (int major = 1; major <= 2; major++) {
        const size_t n =
            make(file, major, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
                 six_floats, 24);

        every_prefix_is_malformed(try_file, file, n);
    }
}

static void single_byte_damage_is_survived(void **state)
{
    unsigned char file[1024];
    const size_t n = make(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  ",
                          six_floats, 24);

    (void)state;
    assert_true(refused_of_damaged(try_file, file, n, n - 24) > 500);
}

static void what_is_written_reads_back(void **state)
{
    static const size_t shapes[][8] = {{0},   {5}, {3, 4}, {2, 0, 3}, {1, 2, 1, 2, 1, 2, 1, 3},
                                       {5000}};
    static const int n_dims[] = {0, 1, 2, 3, 8, 1};
    float values[5000];
    Err err;

    (void)state;
    for (size_t i = 0; i < 5000; i++)
        values[i] = i % 7 == 3 ? NAN : (float)i * -0.37f;
    for (size_t i = 0; i < sizeof n_dims / sizeof n_dims[0]; i++) {
        unsigned char head[64];
        Npy npy;
        size_t n = 1;

        for (int d = 0; d < n_dims[i]; d++)
            n *= shapes[i][d];
        assert_int_equal(npy_write(path_of("a.npy"), values, n_dims[i], shapes[i], &err), ERR_OK);
        assert_int_equal(npy_open(&npy, path_of("a.npy"), &err), ERR_OK);
        assert_int_equal(npy.n, n);
        assert_int_equal(npy.n_dims, n_dims[i]);
        assert_memory_equal(npy.dims, shapes[i], (size_t)n_dims[i] * sizeof(size_t));
        if (n > 0)
            assert_memory_equal(npy.data, values, n * sizeof(float));
        npy_close(&npy);
        assert_int_equal(get_bytes("a.npy", head, 64), 64);
        assert_int_equal((10 + (size_t)head[8] + 256 * (size_t)head[9]) % 64, 0);
    }
}

static void a_failed_write_leaves_nothing(void **state)
{
    static const size_t dims[1] = {5000};
    static const float values[5000] = {1.0f};
    char temporary[300];
    struct stat st;
    Err err;

    (void)state;
    assert_int_equal(npy_write(path_of("no/such/a.npy"), values, 1, dims, &err), ERR_IO);
    assert_int_equal(npy_write(path_of("a.npy"), values, 9, dims, &err), ERR_INTERNAL);

    assert_int_equal(npy_write(path_of("old.npy"), values, 0, dims, &err), ERR_OK);
    const struct rlimit before = fill_disk();
    assert_int_equal(npy_write(path_of("old.npy"), values, 1, dims, &err), ERR_IO);
    empty_disk(before);
    assert_int_equal(stat(path_of("old.npy"), &st), 0);
    assert_int_equal(st.st_size, 128 + 4); /* the old content */
    snprintf(temporary, sizeof temporary, "%s/old.npy.%ld.0.tmp", folder, (long)getpid());
    assert_int_not_equal(access(temporary, F_OK), 0);
}

static void reads_recorded_references(void **state)
{
    Npy npy;
    Err err;

    (void)state;
    assert_int_equal(npy_open(&npy, "tests/data/tiny-gpt2/reference/checkpoint_01.npy", &err),
                     ERR_OK);
    assert_true(npy.n > 0);
    assert_int_equal(npy.dims[npy.n_dims - 1], 48);
    for (size_t i = 0; i < npy.n; i++)
        assert_true(isfinite(npy.data[i]));
    npy_close(&npy);
    assert_int_equal(npy_open(&npy, "tests/data/tiny-gpt2/model.safetensors", &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "model.safetensors: this is a safetensors model"));
}

static int remove_files_made(void **state)
{
    static const char *const names[] = {"a.npy", "old.npy"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_versions),
        cmocka_unit_test(rounds_double_to_float),
        cmocka_unit_test(accepts_other_spellings),
        cmocka_unit_test(refuses_wrong_headers),
        cmocka_unit_test(refuses_wrong_beginnings),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(single_byte_damage_is_survived),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(a_failed_write_leaves_nothing),
        cmocka_unit_test(reads_recorded_references),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_files_made);
}
