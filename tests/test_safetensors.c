/* tests/test_safetensors.c: model files and shard indexes, whole and damaged: each way
 * in which a file can be wrong. */
#include "parser_rig.h"

#include <sys/stat.h>
#include <time.h>

#include "formats/safetensors.h"

static ErrCode parse(Safetensors **st, const void *data, size_t n, Err *err)
{
    *err = (Err){ERR_OK, ""};
    *st = NULL;
    return safetensors_parse(st, guarded(data, n), n, "x.safetensors", err);
}

/* Length word, header text, then n_data bytes 1, 2, 3, ... */
static size_t make(unsigned char *out, const char *header, size_t n_data)
{
    const size_t n = strlen(header);

    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        out[8 + n + i] = (unsigned char)(i + 1);
    return 8 + n + n_data;
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
    "\"a\":{\"shape\":[2],\"data_offsets\":[0,8],\"dtype\":\"F32\",\"extra\":1},"
    "\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]},"
    "\"e\":{\"dtype\":\"BF16\",\"shape\":[3,0],\"data_offsets\":[8,8]}}   ";

static void shows_all_tensors_sorted(void **state)
{
    unsigned char file[2048];
    const size_t n = make(file, good, 28);
    Safetensors *st;
    size_t count = 0;
    Err err;

    (void)state;
    assert_int_equal(parse(&st, file, n, &err), ERR_OK);
    const StTensor *t = safetensors_tensors(st, &count);
    assert_int_equal(count, 4);
    assert_string_equal(t[0].name, "a");
    assert_string_equal(t[1].name, "b");
    assert_string_equal(t[2].name, "e");
    assert_string_equal(t[3].name, "s");
    assert_int_equal(t[1].dtype, ST_F16);
    assert_string_equal(t[1].dtype_name, "F16");
    assert_string_equal(t[1].file, "x.safetensors");
    assert_int_equal(t[1].n_dims, 2);
    assert_int_equal(t[1].dims[0], 2);
    assert_int_equal(t[1].dims[1], 3);
    assert_int_equal(t[1].n_bytes, 12);
    assert_int_equal(t[1].data[0], 9);
    assert_int_equal(t[0].dtype, ST_F32);
    assert_int_equal(t[2].dtype, ST_BF16);
    assert_int_equal(t[2].n_bytes, 0);
    assert_int_equal(t[3].dtype, ST_OTHER);
    assert_int_equal(t[3].n_dims, 0);
    assert_int_equal(t[3].n_bytes, 8);
    assert_ptr_equal(safetensors_find(st, "b"), &t[1]);
    assert_null(safetensors_find(st, "c"));
    assert_null(safetensors_find(st, "__metadata__"));
    assert_null(safetensors_find(st, ""));
    assert_int_equal(safetensors_file_bytes(st), n);
    safetensors_drop(&t[1]); /* memory of the caller stays what it is */
    assert_int_equal(t[1].data[0], 9);
    safetensors_close(st);
    safetensors_close(NULL);
}

static void shows_the_metadata(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"b\":\"\",\"a\":\"x\\u0000\\u00e9\",\"long\":\"0123456789\"},"
        "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    unsigned char file[2048];
    Safetensors *st;
    size_t n = 99;
    Err err;

    (void)state;
    assert_int_equal(parse(&st, file, make(file, header, 1), &err), ERR_OK);
    memset(guarded_end() - 2048, 'z', 2048); /* nothing points into the header */
    assert_memory_equal(safetensors_metadata(st, "a", &n), "x\0\xc3\xa9", 5);
    assert_int_equal(n, 4);
    assert_string_equal(safetensors_metadata(st, "b", &n), "");
    assert_int_equal(n, 0);
    assert_string_equal(safetensors_metadata(st, "long", &n), "0123456789");
    assert_int_equal(n, 10);
    n = 99;
    assert_null(safetensors_metadata(st, "c", &n));
    assert_null(safetensors_metadata(st, "t", &n));
    assert_null(safetensors_metadata(st, "", &n));
    assert_int_equal(n, 99);
    safetensors_close(st);

    assert_int_equal(parse(&st, file, make(file, "{}", 0), &err), ERR_OK);
    assert_null(safetensors_metadata(st, "a", &n));
    safetensors_close(st);
    assert_int_equal(parse(&st, file, make(file, "{\"__metadata__\":{}}", 0), &err), ERR_OK);
    assert_null(safetensors_metadata(st, "a", &n));
    safetensors_close(st);
}

static void knows_the_size_of_every_dtype(void **state)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {{"F64", 64}, {"I64", 64},    {"U64", 64},    {"C64", 64},    {"F32", 32},
                 {"I32", 32}, {"U32", 32},    {"F16", 16},    {"BF16", 16},   {"I16", 16},
                 {"U16", 16}, {"I8", 8},      {"U8", 8},      {"BOOL", 8},    {"F8_E4M3", 8},
                 {"F4", 4},   {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}};
    unsigned char file[2048];
    char header[200];
    unsigned bits = 0;
    Safetensors *st;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const unsigned n = known[i].bits; /* bytes of 8 elements */

        assert_true(safetensors_dtype_bits(known[i].name, &bits));
        assert_int_equal(bits, n);
        for (unsigned n_data = n - 1; n_data <= n + 1; n_data++) {
            snprintf(header, sizeof header,
                     "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]}}",
                     known[i].name, n_data);
            const ErrCode code = parse(&st, file, make(file, header, n_data), &err);
            assert_int_equal(code, n_data == n ? ERR_OK : ERR_FORMAT);
            if (code == ERR_OK)
                assert_string_equal(safetensors_find(st, "t")->dtype_name, known[i].name);
            safetensors_close(st);
        }
    }
    assert_false(safetensors_dtype_bits("F31", &bits));
    assert_false(safetensors_dtype_bits("", &bits));
}

static void accepts_unusual_but_correct_files(void **state)
{
    static const struct {
        const char *header;
        size_t n_data;
    } cases[] = {
        {"{}", 0},
        {"{}                 ", 0},
        {"{\"__metadata__\":{}}", 0},
        {"{ \"a\" : {\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,3],\"data_offsets\":[0,3]} }", 3},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[1,4]},"
         "\"c\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[4,5]}}",
         5},
        {"{\"\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"\\u00e9\\u0000\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]}}",
         2},
        {"{\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         1},
    };
    unsigned char file[2048];
    Safetensors *st;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (parse(&st, file, make(file, cases[i].header, cases[i].n_data), &err) != ERR_OK)
            fail_msg("%s: %s", cases[i].header, err.msg);
        safetensors_close(st);
    }
}

/* {"a": {"dtype": D, "shape": S, "data_offsets": O}} */
#define ENTRY(d, s, o) "{\"a\":{\"dtype\":" d ",\"shape\":" s ",\"data_offsets\":" o "}}"
#define TWO(o1, o2)                                                                                \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" o1                                 \
    "},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" o2 "}}"

typedef struct {
    const char *header;
    size_t n_data;
    const char *part;
} BadCase;

static const BadCase bad_headers[] = {
    {"", 8, "does not start with '{'"},
    {" {}", 0, "does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {"\xef\xbb\xbf{}", 0, "does not start with '{'"},
    {"{}\n", 0, "does not end with '}'"},
    {"{}\t ", 0, "does not end with '}'"},
    {"{} x", 0, "does not end with '}'"},
    {"{", 0, "does not end with '}'"},
    {"{}}", 0, "header: line 1"},
    {"{} {}", 0, "header: line 1"},
    {"{\"a\":}", 0, "header: line 1"},
    {"{\"a\xff\":{}}", 0, "header: line 1"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     0, "duplicate"},
    {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 0,
     "nested deeper"},
    {"{\"__metadata__\":1}", 0, "__metadata__ is an integer, expected an object"},
    {"{\"__metadata__\":null}", 0, "__metadata__ is null, expected an object"},
    {"{\"__metadata__\":{\"n\":1}}", 0, "__metadata__: n is an integer, expected a string"},
    {"{\"__metadata__\":{\"a\":\"b\",\"n\":{}}}", 0, "__metadata__: n is an object"},
    {"{\"a\":1}", 0, "tensor a: the entry is an integer, expected an object"},
    {"{\"a\":{}}", 0, "tensor a: dtype is missing, expected a string"},
    {ENTRY("1", "[2]", "[0,8]"), 8, "tensor a: dtype is an integer"},
    {ENTRY("\"F33\"", "[2]", "[0,8]"), 8, "tensor a: unknown dtype \"F33\""},
    {ENTRY("\"f32\"", "[2]", "[0,8]"), 8, "unknown dtype"},
    {ENTRY("\"F32\\u0000\"", "[2]", "[0,8]"), 8, "unknown dtype"},
    {ENTRY("\"F32\"", "2", "[0,8]"), 8, "shape is an integer, expected a list"},
    {ENTRY("\"F32\"", "null", "[0,8]"), 8, "shape is null"},
    {ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, "dimension 0 is a fraction"},
    {ENTRY("\"F32\"", "[1,\"2\"]", "[0,8]"), 8, "dimension 1 is a string"},
    {ENTRY("\"F32\"", "[true]", "[0,8]"), 8, "dimension 0 is a boolean"},
    {ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, "dimension 0 is negative"},
    {ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "9 dimensions, expected at most 8"},
    {ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, "product of the shape overflows"},
    {ENTRY("\"F32\"", "[4294967296,2147483648,2]", "[0,0]"), 0, "product of the shape overflows"},
    {ENTRY("\"F32\"", "[4611686018427387904,2]", "[0,0]"), 0, "the size overflows"},
    {ENTRY("\"F32\"", "[4611686018427387906]", "[0,8]"), 8, "the size overflows"},
    {ENTRY("\"F32\"", "[18446744073709551618]", "[0,8]"), 8, "header: line 1"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape is missing"},
    {ENTRY("\"F32\"", "[2]", "8"), 8, "data_offsets is an integer"},
    {ENTRY("\"F32\"", "[2]", "[0]"), 8, "data_offsets is another list"},
    {ENTRY("\"F32\"", "[2]", "[0,8,8]"), 8, "data_offsets is another list"},
    {ENTRY("\"F32\"", "[2]", "[0,8.0]"), 8, "data_offsets is another list"},
    {ENTRY("\"F32\"", "[2]", "[-8,0]"), 8, "data_offsets is another list"},
    {ENTRY("\"F32\"", "[2]", "[\"0\",8]"), 8, "data_offsets is another list"},
    {ENTRY("\"F32\"", "[2]", "[8,0]"), 8, "data_offsets [8, 0] run backwards"},
    {ENTRY("\"F32\"", "[2]", "[0,9]"), 8, "end at 9, but the file has 8 bytes of data"},
    {ENTRY("\"F32\"", "[2]", "[8,16]"), 8, "end at 16"},
    {ENTRY("\"F32\"", "[2]", "[0,9223372036854775807]"), 8, "end at 9223372036854775807"},
    {ENTRY("\"F32\"", "[2]", "[0,4]"), 4, "4 bytes, expected 8 for 2 elements of F32"},
    {ENTRY("\"F32\"", "[2]", "[0,12]"), 12, "12 bytes, expected 8"},
    {ENTRY("\"F16\"", "[]", "[0,0]"), 0, "0 bytes, expected 2"},
    {ENTRY("\"F4\"", "[3]", "[0,1]"), 1, "for 3 elements of F4"},
    {ENTRY("\"F6_E3M2\"", "[1]", "[0,0]"), 0, "for 1 elements of F6_E3M2"},
    {TWO("[0,8]", "[4,12]"), 12, "tensor b: starts at byte 4 of the data, expected 8 (overlap)"},
    {TWO("[0,8]", "[0,8]"), 8, "(overlap)"},
    {TWO("[0,8]", "[12,20]"), 20, "tensor b: starts at byte 12 of the data, expected 8 (hole)"},
    {TWO("[12,20]", "[4,12]"), 20, "tensor b: starts at byte 4 of the data, expected 0 (hole)"},
    {TWO("[0,8]", "[8,16]"), 17, "17 bytes of data, but the tensors end at 16"},
    {"{}", 1, "1 bytes of data, but the tensors end at 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     2, "(overlap)"},
};

static void refuses_each_row_of_the_table(void **state)
{
    unsigned char file[2048];
    Safetensors *st;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        const BadCase *c = &bad_headers[i];

        const size_t n = make(file, c->header, c->n_data);

        assert_refused(c->header, parse(&st, file, n, &err), &err, ERR_FORMAT, c->part);
        assert_true(strncmp(err.msg, "x.safetensors: ", 15) == 0);
        assert_null(st);
    }
}

static void refuses_wrong_length_words(void **state)
{
    static const struct {
        uint64_t length;
        const char *part;
    } cases[] = {
        {0, "does not start with '{'"},
        {3, "header of 3 bytes, but only 2 bytes follow"},
        {100000000, "but only 2 bytes follow"},
        {100000001, "header of 100000001 bytes, expected at most 100000000"},
        {UINT64_MAX, "header of 18446744073709551615 bytes"},
        {UINT64_MAX - 7, "expected at most 100000000"},
        {(uint64_t)1 << 32, "header of 4294967296 bytes"},
        {((uint64_t)1 << 32) + 2, "header of 4294967298 bytes"},
    };
    unsigned char file[64];
    const size_t n = make(file, "{}", 0);
    Safetensors *st;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int b = 0; b < 8; b++)
            file[b] = (unsigned char)(cases[i].length >> (8 * b));
        assert_int_equal(parse(&st, file, n, &err), ERR_FORMAT);
        if (strstr(err.msg, cases[i].part) == NULL)
            fail_msg("length %ju: %s", (uintmax_t)cases[i].length, err.msg);
    }
}

static void names_the_usual_wrong_files(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", 57, "Git LFS pointer"},
        {"<!doctype html><html>", 21, "HTML"},
        {"PK\x03\x04\x14\0\0\0\0\0\0\0", 12, "zip"},
        {"\x80\x02}q\0X", 6, "pickle"},
        {"GGUF\x03\0\0\0\0\0\0\0", 12, "GGUF"},
        {"\x1f\x8b\x08\0\0\0\0\0\0\0", 10, "gzip"},
        {"\x93NUMPY\x01\0v\0{", 11, ".npy"},
        {"abc", 3, "3 bytes, expected at least 8"},
    };
    Safetensors *st;
    Err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(&st, cases[i].bytes, cases[i].n, &err), ERR_FORMAT);
        if (strstr(err.msg, cases[i].part) == NULL)
            fail_msg("%s: %s", cases[i].part, err.msg);
    }
}

/* Reads every byte that an accepted file claims to have. */
static size_t sum_of_tensors(const Safetensors *st)
{
    size_t n = 0, sum = 0;
    const StTensor *t = safetensors_tensors(st, &n);

    for (size_t i = 0; i < n; i++)
        for (size_t b = 0; b < t[i].n_bytes; b++)
            sum += t[i].data[b];
    return sum;
}

static ErrCode try_file(const unsigned char *file, size_t n)
{
    Safetensors *st;
    Err err;
    const ErrCode code = parse(&st, file, n, &err);

    if (code == ERR_OK)
        assert_int_equal(sum_of_tensors(st), 28 * 29 / 2);
    safetensors_close(st);
    return code;
}

static void every_prefix_is_refused(void **state)
{
    unsigned char file[2048];

    (void)state;
    every_prefix_is_malformed(try_file, file, make(file, good, 28));
}

static void single_byte_damage_is_survived(void **state)
{
    unsigned char file[2048];
    const size_t n = make(file, good, 28), n_head = n - 28;
    const size_t refused = refused_of_damaged(try_file, file, n, n_head);

    (void)state;
    assert_true(refused > 2000);
    assert_true(N_DAMAGES * n_head - refused > 10);
}

/* Seconds to parse a header of n empty tensors, all at the same place, and to find each of them. */
static double seconds_for(int n)
{
    char *header = malloc((size_t)n * 80);
    unsigned char *file = malloc((size_t)n * 80 + 16);
    size_t len = 1;
    Safetensors *st;
    Err err;

    assert_true(header != NULL && file != NULL);
    header[0] = '{';
    for (int i = 0; i < n; i++)
        len += (size_t)sprintf(header + len,
                               "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                               i == 0 ? "" : ",", i);
    header[len++] = '}';
    header[len] = '\0';
    len = make(file, header, 0);
    const clock_t start = clock();
    assert_int_equal(safetensors_parse(&st, file, len, "x", &err), ERR_OK);
    for (int i = 0; i < n; i++) {
        char name[16];

        sprintf(name, "t%d", i);
        assert_non_null(safetensors_find(st, name));
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    safetensors_close(st);
    free(header);
    free(file);
    return seconds;
}

static void work_grows_no_faster_than_n_log_n(void **state)
{
    (void)state;
    assert_n_log_n(seconds_for);
}

static void put_model(const char *name, const char *header, size_t n_data)
{
    unsigned char file[2048];

    put_file(name, file, make(file, header, n_data));
}

static ErrCode open_named(Safetensors **st, const char *name, Err *err)
{
    *st = NULL;
    *err = (Err){ERR_OK, ""};
    return safetensors_open(st, path_of(name), err);
}

static void opens_the_file_of_a_directory(void **state)
{
    Safetensors *st;
    Err err;

    (void)state;
    assert_int_equal(open_named(&st, "", &err), ERR_IO);
    assert_non_null(
        strstr(err.msg, "has neither model.safetensors nor model.safetensors.index.json"));
    put_file("pytorch_model.bin", "PK", 2);
    assert_int_equal(open_named(&st, "", &err), ERR_IO);
    assert_non_null(strstr(err.msg, "convert it to safetensors"));
    unlink(path_of("pytorch_model.bin"));

    put_model("model.safetensors", good, 28);
    assert_int_equal(open_named(&st, "", &err), ERR_OK);
    const StTensor *t = safetensors_find(st, "b");
    assert_non_null(t);
    assert_non_null(strstr(t->file, "/model.safetensors"));
    safetensors_drop(t);
    assert_int_equal(t->data[0], 9);
    safetensors_close(st);
    unlink(path_of("model.safetensors"));

    assert_int_equal(symlink("gone", path_of("model.safetensors")), 0);
    assert_int_equal(open_named(&st, "", &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/model.safetensors: No such file"));
    unlink(path_of("model.safetensors"));
    assert_int_equal(open_named(&st, "none.safetensors", &err), ERR_IO);
}

static void put_shards(void)
{
    put_model("s1.safetensors", TWO("[0,8]", "[8,16]"), 16);
    put_model("s2.safetensors",
              "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
              "\"c\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[1,3]}}",
              3);
    put_model("broken.safetensors", TWO("[0,8]", "[8,16]"), 15);
}

static void gathers_the_tensors_of_an_index(void **state)
{
    static const char index[] =
        "{\"metadata\":{\"total_size\":18},"
        "\"weight_map\":{\"c\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}}";
    Safetensors *st;
    struct stat s1, s2;
    size_t n = 0;
    Err err;

    (void)state;
    put_shards();
    put_file("model.safetensors.index.json", index, sizeof index - 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_named(&st, i == 0 ? "" : "model.safetensors.index.json", &err),
                         ERR_OK);
        const StTensor *t = safetensors_tensors(st, &n);
        assert_int_equal(n, 2); /* b, and the a of s2, are not in the index */
        assert_string_equal(t[0].name, "a");
        assert_int_equal(t[0].n_bytes, 8);
        assert_non_null(strstr(t[0].file, "/s1.safetensors"));
        assert_string_equal(t[1].name, "c");
        assert_int_equal(t[1].data[0], 2);
        assert_null(safetensors_find(st, "b"));
        assert_null(safetensors_metadata(st, "total_size", &n));
        stat(path_of("s1.safetensors"), &s1);
        stat(path_of("s2.safetensors"), &s2);
        assert_int_equal(safetensors_file_bytes(st), s1.st_size + s2.st_size);
        safetensors_close(st);
    }
}

static void refuses_wrong_indexes(void **state)
{
    static const struct {
        const char *index;
        ErrCode code;
        const char *part;
    } cases[] = {
        {"[]", ERR_FORMAT, "weight_map is missing, expected an object"},
        {"{}", ERR_FORMAT, "weight_map is missing, expected an object"},
        {"{\"weight_map\":[]}", ERR_FORMAT, "weight_map is a list, expected an object"},
        {"{\"weight_map\":{}}", ERR_FORMAT, "weight_map is empty"},
        {"{\"weight_map\":{\"a\":1}}", ERR_FORMAT, "weight_map: a is an integer"},
        {"{\"weight_map\":{\"a\":\"\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\".\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"../s1.safetensors\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"sub/s1.safetensors\"}}", ERR_FORMAT, "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\\u0000x\"}}", ERR_FORMAT,
         "not a plain file name"},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", ERR_IO,
         "/absent.safetensors: No such file"},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"broken.safetensors\"}}", ERR_FORMAT,
         "/broken.safetensors: tensor b: data_offsets end at 16"},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s1.safetensors\"}}", ERR_FORMAT,
         "tensor c is not in s1.safetensors, where the index says it is"},
        {"{\"weight_map\":{\"b\":\"s2.safetensors\"}}", ERR_FORMAT,
         "tensor b is not in s2.safetensors"},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"a\":\"s2.safetensors\"}}", ERR_FORMAT,
         "duplicate"},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\"}", ERR_FORMAT, "line 1"},
    };
    Safetensors *st;
    Err err;

    (void)state;
    put_shards();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file("model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        assert_refused(cases[i].index, open_named(&st, "", &err), &err, cases[i].code,
                       cases[i].part);
        assert_null(st);
    }
}

static void refuses_too_many_shards(void **state)
{
    static char index[100000] = "{\"weight_map\":{";
    size_t len = strlen(index);
    Safetensors *st;
    Err err;

    (void)state;
    for (int i = 0; i <= ST_MAX_SHARDS; i++)
        len += (size_t)sprintf(index + len, "%s\"t%d\":\"f%d\"", i == 0 ? "" : ",", i, i);
    len += (size_t)sprintf(index + len, "}}");
    put_file("model.safetensors.index.json", index, len);
    assert_int_equal(open_named(&st, "", &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "1001 shards, expected at most 1000"));
}

static void failures_leave_no_descriptor(void **state)
{
    static const char index[] =
        "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"broken.safetensors\"}}";
    const size_t before = open_descriptors();
    Safetensors *st;
    Err err;

    (void)state;
    put_shards();
    put_file("model.safetensors.index.json", index, sizeof index - 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(open_named(&st, "", &err), ERR_FORMAT);
    assert_int_equal(open_descriptors(), before);
}

static void reads_a_real_model(void **state)
{
    Safetensors *st = NULL;
    Err err;

    (void)state;
    assert_int_equal(safetensors_open(&st, "tests/data/tiny-gpt2", &err), ERR_OK);
    const StTensor *t = safetensors_find(st, "wte.weight");
    if (t == NULL)
        t = safetensors_find(st, "transformer.wte.weight");
    assert_non_null(t);
    assert_int_equal(t->dims[0], 512);
    assert_int_equal(t->dims[1], 48);
    safetensors_close(st);
    assert_int_equal(safetensors_open(&st, "tests/data/tiny-gpt2/config.json", &err), ERR_FORMAT);
}

static int remove_files_made(void **state)
{
    static const char *const names[] = {"s1.safetensors", "s2.safetensors", "broken.safetensors",
                                        "model.safetensors.index.json"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_all_tensors_sorted),
        cmocka_unit_test(shows_the_metadata),
        cmocka_unit_test(knows_the_size_of_every_dtype),
        cmocka_unit_test(accepts_unusual_but_correct_files),
        cmocka_unit_test(refuses_each_row_of_the_table),
        cmocka_unit_test(refuses_wrong_length_words),
        cmocka_unit_test(names_the_usual_wrong_files),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(single_byte_damage_is_survived),
        cmocka_unit_test(work_grows_no_faster_than_n_log_n),
        cmocka_unit_test(opens_the_file_of_a_directory),
        cmocka_unit_test(gathers_the_tensors_of_an_index),
        cmocka_unit_test(refuses_wrong_indexes),
        cmocka_unit_test(refuses_too_many_shards),
        cmocka_unit_test(failures_leave_no_descriptor),
        cmocka_unit_test(reads_a_real_model),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_files_made);
}
